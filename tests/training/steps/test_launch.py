"""Processes that a launcher has started: what their environment says, and that they come together and speak once."""

import os
import re
import subprocess
import sys

import pytest

from thalweg.errors import InputError
from thalweg.training.steps.launch import Launch, joined, launch_of

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29400"}
SLURM = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}, None),
        ({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, None),  # in the job's script, before any srun
        ({**SLURM, "SLURM_NTASKS": "1"}, None),
        (TORCHRUN, Launch(1, 2, 1, "localhost", 29400)),
        ({**SLURM, "SLURM_NODELIST": "gpu[07-09,11],login"}, Launch(5, 8, 1, "gpu07", 29500)),
        ({**SLURM, "SLURM_NODELIST": "a,b"}, Launch(5, 8, 1, "a", 29500)),
        ({**SLURM, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234"}, Launch(5, 8, 1, "10.0.0.1", 1234)),
        ({**TORCHRUN, **SLURM}, Launch(1, 2, 1, "localhost", 29400)),  # torchrun inside of a job
    ],
)
def test_the_environment_says_who_is_who(environment, expected):
    assert launch_of(environment) == expected


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"RANK": "2"}, r"RANK must lie in \[0, WORLD_SIZE\); got 2 of 2"),
        ({"RANK": ""}, "RANK must be a whole number; got ''"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number; got 'two'"),
        ({"MASTER_PORT": "-1"}, "MASTER_PORT must be a whole number; got '-1'"),
        ({"MASTER_ADDR": ""}, "WORLD_SIZE is set and MASTER_ADDR is not; start the processes with torchrun"),
    ],
)
def test_half_of_an_environment_is_refused(changed, message):
    with pytest.raises(InputError, match=message):
        launch_of({**TORCHRUN, **changed})


def test_a_process_that_nobody_answers_says_so(monkeypatch):
    for name, value in {**TORCHRUN, "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    message = r"Process 1 of 2 does not reach the others at localhost:1 .*--master-port"
    with pytest.raises(InputError, match=message), joined(seconds=1.0):
        pass


def torchrun(*arguments, folder):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "thalweg"]
    return subprocess.run(
        [*command, "train", *arguments], cwd=folder, capture_output=True, text=True, timeout=300, env=dict(os.environ)
    )


@pytest.mark.slow
def test_torchrun_trains_and_the_first_process_speaks_for_all(tmp_path):
    rows = [f"{('fine', 'awful')[k % 2]} text {k},{'ab'[k % 2]}" for k in range(60)]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    given = ("reviews.csv", "--model", "mlp", "--width", "4", "--steps", "3", "--optimizer", "adamw")
    done = torchrun(*given, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The run completed all of its steps.") == 1
    assert done.stderr.count("Task classify") == 1
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["reviews"]
    failed = torchrun("nothing.csv", folder=tmp_path)
    assert len(re.findall("error: .*nothing.csv", failed.stderr)) == 1
    assert failed.stderr.count("exitcode  : 2") >= 1
    assert "Process 1" not in failed.stderr
