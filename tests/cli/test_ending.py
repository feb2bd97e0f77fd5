"""How a command ends: a sentence and a code for what can go wrong, a traceback for a mistake of thalweg's own."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from thalweg.cli.ending import code_of, code_of_run
from thalweg.cli.main import app, run
from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.session import stopping
from thalweg.training.steps.signals import Signals


def failure(number, name=None):
    return OSError(number, os.strerror(number), name)


ENDINGS = {
    "a mistake of the user's": (InputError("Expected a file."), 2, "error: Expected a file."),
    "full": (failure(errno.ENOSPC), 1, "No space left on device; make room there"),
    "full, by name": (failure(errno.ENOSPC, "a.html"), 1, "a.html: No space left on device; make room"),
    "full, by a library": (SafetensorError("I/O error: full (os error 28)"), 1, "No space left on device; make room"),
    "quota": (failure(errno.EDQUOT, "a.html"), 1, "make room there"),
    "too large": (failure(errno.EFBIG), 1, "ulimit -f"),
    "read-only": (failure(errno.EROFS, "a"), 2, "a: Read-only file system; choose another"),
    "not allowed": (failure(errno.EACCES, "a"), 2, "a: Permission denied; allow it, or choose another"),
    "too long a name": (failure(errno.ENAMETOOLONG, "a" * 999), 2, f"{'a' * 80}...: File name too long; check"),
    "a file for a folder": (failure(errno.EEXIST, "a"), 2, "a: File exists; it is no folder"),
    "a loop of links": (failure(errno.ELOOP, "a"), 2, "check where the link leads"),
    "a name of escapes": (failure(errno.ENOENT, "\x1b[2J\udcff"), 2, r"␛[2J\xff: No such file"),
    "a name of bytes": (failure(errno.ENOENT, b"\xff"), 2, r"\xff: No such file"),
    "the number of a file": (failure(errno.EIO, 3), 1, "error: Input/output error; check the disk."),
    "too many files": (failure(errno.EMFILE, "a"), 1, "ulimit -n"),
    "no memory": (MemoryError(), 1, "There is not enough memory. Take a smaller"),
    "no memory of the system's": (failure(errno.ENOMEM), 1, "There is not enough memory. Take a smaller"),
    "no memory of torch's": (torch.OutOfMemoryError("Tried to allocate 2.00 GiB"), 1, "for 2.00 GiB more"),
    "no memory for a library": (ImportError("failed to map segment from shared object"), 1, "not enough memory"),
    "no thread": (RuntimeError("can't start new thread"), 1, "There is not enough memory"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "Stopped by SIGINT."),
    "a signal": (KeyboardInterrupt(signal.SIGTERM), 143, "Stopped by SIGTERM."),
    "no reader": (failure(errno.EPIPE, "standard output"), 141, ""),
    "no reader of a file": (failure(errno.EPIPE, "pipe"), 1, "pipe: Broken pipe; check"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS)
def test_what_stops_a_command_is_told_in_a_line(capsys, case):
    error, code, told = ENDINGS[case]

    def command(console):
        raise error

    assert code_of(command, app) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.count("\n") == bool(told)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_tells_a_signal_as_its_own_failure_is_not_believed(capsys, number):
    def command(console):
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            raise InputError("model.safetensors is damaged.") from None

    assert code_of(command, app) == 128 + number
    assert capsys.readouterr().err == f"error: Stopped by {number.name}.\n"


@pytest.mark.parametrize("error", [ValueError("a bug"), AssertionError(), OSError("of a library"), KeyError("x")])
def test_a_mistake_of_our_own_is_a_traceback(error):
    def command(console):
        raise error

    with pytest.raises(type(error)) as caught:
        code_of(command, app)
    assert caught.value is error


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_closes_what_is_open(capsys, name):
    closed = []

    def command(console):
        try:
            signal.raise_signal(getattr(signal, name))
        finally:
            closed.append(name)

    assert code_of(command, app) == 128 + getattr(signal, name)
    assert closed == [name]
    assert capsys.readouterr().err == f"error: Stopped by {name}.\n"


def test_a_signal_reaches_the_end_through_the_parser(capsys, monkeypatch):
    look = "thalweg.cli.inspection.inspect_and_show"
    monkeypatch.setattr(look, lambda *arguments, **options: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        run(["data", "x.csv"])
    assert ended.value.code == 143
    assert capsys.readouterr().err == "error: Stopped by SIGTERM.\n"


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert code_of(lambda console: signal.raise_signal(signal.SIGHUP), app) == 0
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
        assert signals.received is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_the_first_signal_to_a_training_is_a_request(name):
    with Signals() as signals:
        signal.raise_signal(getattr(signal, name))
        assert signals.received == getattr(signal, name)


def test_a_signal_that_a_launcher_passes_on_once_more_is_no_second_one(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Signals() as signals:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert signals.received == signal.SIGTERM
        now[0] += 2.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_another_process_has_received_counts_as_the_first_one():
    with Signals() as signals:
        signals.take(0)
        assert signals.received is None
        signals.take(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM


ALONE = [["predict", "runs/x"], ["check", "c.json"], ["train", "x.csv", "--online"], ["data", "x"]]


def test_half_of_an_environment_is_nothing_to_a_command_for_one_process(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as ended:
        run(["predict", "nowhere", "a text"])
    assert ended.value.code == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("given", ALONE)
def test_a_command_for_one_process_says_so_once_where_several_were_started(monkeypatch, capsys, given):
    said = []
    for rank in "01":
        for name, value in {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            run(given)
        assert ended.value.code == 2
        said.append(capsys.readouterr().err)
    name = "train --online" if "--online" in given else given[0]
    expected = f"error: thalweg {name} works in one process, and 2 were started; leave out torchrun or srun.\n"
    assert said == [expected, ""]
    with pytest.raises(SystemExit) as ended:
        run([given[0], "--help"])
    assert ended.value.code == 0


FAILED = {
    *("RUNNING", "INTERRUPTED", "NOT_FINITE", "LOSS_NOT_FINITE", "GRADIENT_NOT_FINITE", "BROKE_DOWN", "BROKEN_OFF"),
    *("OUT_OF_ITERATIONS", "OUT_OF_EVALUATIONS", "UNBOUNDED"),
}


@pytest.mark.parametrize("status", Status)
def test_every_status_has_its_code(status):
    assert code_of_run(status) == (status.name in FAILED)


def test_the_documentation_has_the_code_of_every_status_that_a_run_ends_with():
    page = Path(__file__).parents[2].joinpath("docs", "runs.md").read_text(encoding="utf-8")
    table = page.partition("| `status` |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [line.split("|") for line in table]
    told = {name: code.strip() for _, names, _, code, _ in cells for name in re.findall("`([A-Z_]+)`", names)}
    assert told.pop("INTERRUPTED") == "128 and the number of the signal"
    assert told == {name: str(code_of_run(Status[name])) for name in told}
    ends = {option.ends for option in OPTIONS.values() if option.ends} | stopping.NOTHING_TO_DESCEND
    assert told.keys() == {status.name for status in ends} | {"PROVED", "NOT_FINITE"}


@pytest.mark.parametrize("how", ["--json", "--quiet"])
def test_a_run_that_has_failed_says_so_beside_its_json(tmp_path, capsys, how):
    rows = "".join(f"a good day {k},yes\na bad one {k},no\n" for k in range(20))
    (tmp_path / "a.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    wild = ["--model", "mlp", "--optimizer", "sgd", "--lr", "1e30", "--clip", "0", "--steps", "3"]
    with pytest.raises(SystemExit) as ended:
        run(["train", str(tmp_path / "a.csv"), *wild, how, "--out", str(tmp_path / "runs")])
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert err.splitlines()[-1].startswith("error: No evaluation produced a finite score, so no weights were saved.")
    assert ('"status": "NOT_FINITE"' in out) == (how == "--json")


def shell(command):
    command = command.replace("thalweg", f"{sys.executable} -m thalweg")
    return subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("thalweg train --help | head -1", 141, ""),
        ("PYTHONIOENCODING=ascii thalweg --help >/dev/full", 1, "standard output: No space left on device; make room"),
        ("thalweg --version >&-", 1, "standard output: closed; give a file, a pipe or /dev/null."),
        ("thalweg --version <&- >/dev/full 2>&-", 1, ""),
        ("thalweg trian 2>/dev/full", 2, ""),
    ],
)  # fmt: skip
def test_streams_that_take_nothing(command, code, told):
    done = shell(command)
    assert (done.returncode, done.stderr == "") == (code, not told)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
