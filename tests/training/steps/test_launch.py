"""Processes that a launcher has started: what their environment says, and that they come together and speak once."""

import math
import os
import re
import socket
import subprocess
import sys

import misfortune
import pytest
from safetensors.torch import load_file

from thalweg.errors import InputError
from thalweg.training.folder.run import Run
from thalweg.training.steps import launch
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
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, None),  # a shell in a job of eight
        ({**SLURM, "SLURM_STEP_ID": "4294967290"}, None),
        ({**SLURM, "SLURM_NODELIST": "a", "SLURM_STEP_NUM_TASKS": "6"}, Launch(5, 6, 1, "a", 29500)),
        ({"WORLD_SIZE": "1"}, None),
        ({"WORLD_SIZE": "", "RANK": ""}, None),
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
        ({"MASTER_PORT": "99999"}, "MASTER_PORT must lie between 1 and 65535; got 99999"),
        ({"MASTER_ADDR": ""}, "RANK or WORLD_SIZE is set and MASTER_ADDR is not; start the processes with torchrun"),
    ],
)
def test_half_of_an_environment_is_refused(changed, message):
    with pytest.raises(InputError, match=message):
        launch_of({**TORCHRUN, **changed})


def meet(monkeypatch, seconds, **changed):
    for name, value in {**TORCHRUN, **changed}.items():
        monkeypatch.setenv(name, value)
    said = []
    with pytest.raises(InputError) as caught, joined(seconds=seconds, say=said.append):
        pass
    return str(caught.value), said


def test_a_process_that_nobody_answers_says_so_and_names_what_it_waits_for(monkeypatch):
    monkeypatch.setattr(launch, "_SILENT", 0.5)
    told, said = meet(monkeypatch, 1.0, MASTER_PORT="1")
    assert re.fullmatch(r"Process 1 of 2 does not reach the others at localhost:1 \(.*--master-port.*", told)
    assert len(said) == 1
    assert re.fullmatch(r"Waiting for process 0 at localhost:1: .* \(at most 1 s, --rank-timeout\)\.", said[0])


def test_a_port_that_is_taken_is_a_sentence(monkeypatch):
    with socket.create_server(("localhost", 0)) as other:
        port = str(other.getsockname()[1])
        taken, _ = meet(monkeypatch, 9.0, RANK="0", MASTER_PORT=port)
        silent, _ = meet(monkeypatch, 1.0, RANK="1", MASTER_PORT=port)
    assert f"Process 0 of 2 does not reach the others at localhost:{port}" in taken
    assert "address already in use" in taken
    assert "(nothing of ours answers there); set another MASTER_PORT" in silent


def test_those_that_do_not_come_are_named(monkeypatch):
    with socket.create_server(("localhost", 0)) as free:
        port = str(free.getsockname()[1])
    told, _ = meet(monkeypatch, 1.0, RANK="0", WORLD_SIZE="3", MASTER_PORT=port)
    assert told.startswith(f"Processes 1, 2 of 3 did not come to localhost:{port} in time")


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e30, math.nan])
def test_a_limit_that_is_none_is_refused(seconds):
    with (
        pytest.raises(InputError, match="--rank-timeout must lie between 1s and 1,000,000,000s"),
        joined(seconds=seconds),
    ):
        pass


@pytest.fixture
def reviews(tmp_path):
    rows = [f"{('fine', 'awful')[k % 2]} text {k},{'ab'[k % 2]}" for k in range(60)]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.slow
def test_under_torchrun_a_killed_process_is_started_again_and_all_end_with_the_same_bits(reviews):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    done = subprocess.run([*command, misfortune.__file__], cwd=reviews, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "RankError: Process 1 of 2 has ended, so this one cannot go on.\n" in done.stderr
    assert "The newest checkpoint is of step 4, and the same command goes on from there.\n" in done.stderr
    runs = [Run(reviews / "runs" / name) for name in ("whole", "asked", "killed")]
    assert sorted(path.name for path in (reviews / "runs").iterdir()) == sorted(run.folder.name for run in runs)
    resumed = [[entry["step"] for entry in run.history if entry["event"] == "resumed"] for run in runs]
    assert resumed == [[], [5], [4]]
    whole, *others = (load_file(run.folder / "model.safetensors") for run in runs)
    for other in others:
        assert all(other[name].equal(whole[name]) for name in whole)


def by_hand(folder, *arguments):
    """Start two processes as a user does who has no launcher."""
    with socket.create_server(("localhost", 0)) as free:
        meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, misfortune.__file__, "train", *arguments], cwd=folder, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | meeting | {"RANK": rank},
        )
        for rank in "01"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_process_that_hangs_is_named_by_the_first_one(reviews):
    given = ("--model", "mlp", "--width", "4", "--optimizer", "adamw", "--rank-timeout", "2s")
    first, second = by_hand(reviews, "reviews.csv", *given)
    try:
        told = first.communicate()[1]
    finally:
        second.kill()
        second.communicate()
    assert first.returncode == 1
    assert told.count("Task classify") == 1
    assert told.endswith(
        "error: Process 1 of 2 does not answer, so this one cannot go on. The newest checkpoint is of step 4, and the "
        "same command goes on from there.\n"
    )


@pytest.mark.slow
def test_a_mistake_is_told_once(reviews):
    processes = by_hand(reviews, "nothing.csv")
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert len(re.findall("error: .*nothing.csv", said[0])) == 1
    assert said[1] == ""
