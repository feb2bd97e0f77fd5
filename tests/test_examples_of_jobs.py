"""The examples that start a training elsewhere: parsed, and their commands by our own parser."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from thalweg.cli.main import app, train
from thalweg.cli.options import to_options

EXAMPLES = Path(__file__).parents[1] / "examples"
DOCKERFILE, SLURM, KUBERNETES = (EXAMPLES / name for name in ("Dockerfile", "slurm.sh", "pytorchjob.yaml"))
INSTRUCTION = re.compile(r"(FROM|ARG|ENV|RUN|COPY|USER|WORKDIR|STOPSIGNAL|ENTRYPOINT|CMD) \S.*")


def commands():
    """The words after `thalweg` of every command in the examples, comments included."""
    text = SLURM.read_text().replace("\\\n#", " ")
    found = [shlex.split(line) for line in re.findall(r"thalweg (train .*)", text)]
    (container,) = worker()["spec"]["containers"]
    found.append(container["command"][3:])
    assert container["command"][:3] == ["torchrun", "-m", "thalweg"]
    return found


def worker():
    return yaml.safe_load(KUBERNETES.read_text())["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]


def test_every_command_is_one_of_ours():
    found = commands()
    assert len(found) == 3
    for words in found:
        called, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        assert called is train
        given = bound.arguments
        options = to_options((given["source"],), *(given.get(name) for name in ("run", "data", "model", "training")))
        expected = {"source": "news.jsonl", "model": "transformer", "batch_size": 256}
        assert dict(options) == {**expected, "checkpoint_every": 600.0, "keep": 3}


def test_the_job_of_slurm_is_a_script_that_ends_in_time():
    subprocess.run(["bash", "-n", SLURM], check=True)
    lines = SLURM.read_text().splitlines()
    given = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    last = max(k for k, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[:last])  # SLURM reads no further than the first command
    assert re.fullmatch(r"TERM@\d+", given["signal"])
    assert "requeue" in given
    assert given["open-mode"] == "append"
    assert {"nodes", "ntasks-per-node", "gpus-per-node", "time"} <= given.keys()


@pytest.mark.parametrize(("code", "queued"), [(143, True), (0, False), (1, False)])
def test_the_job_is_queued_again_where_it_was_asked_to_end(tmp_path, code, queued):
    for name, does in (("srun", f"exit {code}"), ("scontrol", 'echo "$@" > queued')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", SLURM], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == code
    assert (tmp_path / "queued").exists() == queued
    assert not queued or (tmp_path / "queued").read_text() == "requeue 7\n"


def test_the_job_of_kubernetes_has_what_the_operator_asks_for():
    job = yaml.safe_load(KUBERNETES.read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    spec = job["spec"]
    assert spec["pytorchReplicaSpecs"].keys() == {"Worker"}  # with an elastic policy there is no master
    assert spec["pytorchReplicaSpecs"]["Worker"]["replicas"] == spec["elasticPolicy"]["maxReplicas"]
    pod = worker()["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "pytorch"  # which the operator looks for
    assert str(container["resources"]["limits"]["nvidia.com/gpu"]) == spec["nprocPerNode"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_container_is_pinned_and_without_privileges():
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(INSTRUCTION.fullmatch(line) for line in lines)
    assert re.fullmatch(r"FROM python:3\.11\.\d+-slim-bookworm", lines[0])
    kinds = [line.split()[0] for line in lines]
    assert "USER thalweg" in lines
    assert kinds.index("USER") > max(k for k, kind in enumerate(kinds) if kind in ("RUN", "COPY"))
    assert 'ENTRYPOINT ["thalweg"]' in lines
    assert "ARG TORCH=cpu" in lines
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((EXAMPLES.parent / name).exists() for name in copied)
    assert not re.search("password|token|secret|key", text.partition("\n")[2].replace("secrets", ""), re.IGNORECASE)
    installs = [part for line in lines if line.startswith("RUN") for part in line.split("&&") if "pip install" in part]
    assert all("-c /src/constraints.txt" in part for part in installs)
