"""Commands of thalweg in children of a process that has imported everything, so that each starts within milliseconds.

`python -m disturbing.warm` reads one JSON object a line: what to start, and what to wait for.
"""

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from disturbing.operations import Fault, Operations

import thalweg
from thalweg.cli.main import run
from thalweg.training.steps.device import one_thread_after_fork

TESTS = Path(__file__).parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST = 120.0  # seconds that no command of these takes
LATER = ("torch._dynamo",)  # what PyTorch and others import when it is first needed


@final
@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (minus a signal's number, or None: never), what it wrote, its seconds."""

    code: int | None
    out: str
    error: str
    seconds: float

    @property
    def was_killed(self) -> bool:
        """Whether it was killed."""
        return self.code == -signal.SIGKILL

    @property
    def has_traceback(self) -> bool:
        """Whether it ended in a traceback."""
        return "Traceback (most recent call last)" in self.error + self.out


@final
class Started:
    """A command that is running."""

    def __init__(self, warm: "Warm", pid: int, begun: float, out: Path, error: Path) -> None:
        self.pid = pid
        self._warm, self._begun, self._out, self._error = warm, begun, out, error

    def wait(self, signals: Sequence[tuple[float, int]] = (), longest: float = LONGEST) -> Ended:
        """Wait for the end; `signals` are sent so many seconds after the start."""
        asked = {"pid": self.pid, "signals": list(signals), "longest": longest}
        code = self._warm.ask(asked)["code"]
        read = [path.read_bytes().decode("utf-8", "replace") for path in (self._out, self._error)]
        return Ended(code, read[0], read[1], time.monotonic() - self._begun)


@final
class Warm:
    """The process whose children run commands.

    Args:
        hash_seed: of its sets and dictionaries, which must not matter to anything that is written.
    """

    def __init__(self, hash_seed: int = 1) -> None:
        paths = [str(TESTS), str(TESTS.parent / "src"), os.environ.get("PYTHONPATH", "")]
        variables = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"}
        variables |= {"OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "disturbing.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        self._num_started = 0

    def ask(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(wanted), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the process that runs commands has ended"
        return json.loads(answer)

    def start(
        self,
        arguments: Sequence[str],
        folder: Path,
        fault: Any = None,
        log: Path | None = None,
        stdin: Path | None = None,
    ) -> Started:
        """Start a command in a folder; with a log, its file operations under `runs` are taken hold of."""
        self._num_started += 1
        written = [folder / f"{self._num_started}.{kind}" for kind in ("out", "err")]
        for path in written:
            path.write_bytes(b"")
        begun = time.monotonic()
        answer = self.ask(
            {
                "arguments": list(arguments),
                "folder": str(folder),
                "fault": None if fault is None else asdict(fault),
                "log": None if log is None else str(log),
                "stdin": os.devnull if stdin is None else str(stdin),
                "out": str(written[0]),
                "error": str(written[1]),
            }
        )
        return Started(self, answer["pid"], begun, written[0], written[1])

    def run(self, *given: Any, signals: Sequence[tuple[float, int]] = (), **named: Any) -> Ended:
        """Start a command (see `start`) and wait for its end."""
        return self.start(*given, **named).wait(signals)

    def end(self) -> None:
        """End the process."""
        self._process.communicate("")


def serve() -> None:
    """Import everything, then fork a child for each command."""
    _import_all()
    for line in sys.stdin:
        wanted = json.loads(line)
        if "pid" in wanted:
            answer = {"code": _wait(**wanted)}
        else:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child runs the command
            answer = {"pid": os.fork()}
            if answer["pid"] == 0:
                _run(wanted)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            _begun[answer["pid"]] = time.monotonic()
        print(json.dumps(answer), flush=True)
    os._exit(0)  # without taking down all that was imported


_begun: dict[int, float] = {}


def _import_all() -> None:
    for module in pkgutil.walk_packages(thalweg.__path__, "thalweg."):
        if not module.name.startswith(("thalweg.frameworks", "thalweg.__main__")):
            importlib.import_module(module.name)
    for name in LATER:
        importlib.import_module(name)


def _wait(pid: int, signals: list[tuple[float, int]], longest: float) -> int | None:
    begun, left = _begun.pop(pid), sorted(signals)
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        since = time.monotonic() - begun
        while left and since >= left[0][0]:
            os.kill(pid, left.pop(0)[1])
        if since > longest:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.0005 if left else 0.002)


def _run(wanted: dict[str, Any]) -> None:
    """Be the command; this does not return."""
    code: Any = 1
    try:
        os.setsid()
        os.chdir(wanted["folder"])
        for number, name in enumerate(("stdin", "out", "error")):
            file = os.open(wanted[name], os.O_RDWR | os.O_CREAT | (os.O_TRUNC if number else 0))
            os.dup2(file, number)
            os.close(file)
        fault = Fault(**(wanted["fault"] or {}))
        one_thread_after_fork()  # which would undo the next line if it came later
        torch.set_num_threads(fault.threads)
        if wanted["log"] is not None:
            Operations(Path("runs"), fault, Path(wanted["log"])).install()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        run(wanted["arguments"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


if __name__ == "__main__":
    serve()
