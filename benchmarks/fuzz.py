"""What commands make of the files of a stranger's run: changed at random, and the manifests made to fit.

OMP_NUM_THREADS=1 python benchmarks/fuzz.py [KIND ...] [--count 5000] [--seed 0] [--specimens DIR] [--out fuzz.json]

A kind is a file of a run, such as `recipe.toml`. For each change one command is asked that reads it first, and another
one now and then (half of the time where that has answered). It may answer or refuse in a sentence (exit code 2, or
1 for what is wrong with a certificate or a whole folder), in 10 s of CPU time and 1 GB of memory; anything else is
printed, with the arguments that repeat it.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import torch
from disturbing.mutations import SPECIMENS, ask, change, commands, copied, make, reseal, write_data
from table import Row, write_json

from thalweg.cli import main as command_line
from thalweg.status import Status

HERE: Final = Path(__file__).parent
KINDS: Final = (
    *("recipe.toml", "manifest.json", "data.json", "labels.json", "score.json", "forecast.json", "language.json"),
    *("tokenizer.json", "splitter.json", "features.json", "features.safetensors", "pairs.safetensors"),
    *("model.safetensors", "held-out.safetensors", "selection.json", "metrics.json", "history.jsonl"),
    *("checkpoints/*/manifest.json", "checkpoints/*/state.json", "checkpoints/*/state.safetensors"),
    *("certificate.json", "certificate.npz", "diagnosis.json"),
    *("step-*/manifest.json", "step-*/state.json", "step-*/state.safetensors", "question.json", "study.log"),
)
ANSWERED, REFUSED, FAILED, TRACEBACK, SLOW, MEMORY = "answered", "refused", "exit 1", "traceback", "slow", "memory"
TRAINS: Final = "trains on"
BAD: Final = (FAILED, TRACEBACK, SLOW, MEMORY)
READERS: Final = {  # the command that reads a kind of file; the others are read by the first of a specimen's commands
    "checkpoints/*": "resume",
    "step-*": "again",
    "certificate.json": "check",
    "certificate.npz": "check",
    "diagnosis.json": "apply",
    "metrics.json": "report",
    "history.jsonl": "report",
    "selection.json": "resume",
    "held-out.safetensors": "report",
}
SAYING: Final = frozenset(("check", "verify"))  # their exit code 1 is an answer
SECONDS: Final = 10.0  # of CPU time
WAITING: Final = 60.0  # seconds of a clock, for a command that waits for what never comes
BYTES: Final = 2**30


class Slow(BaseException):
    """A command has used its time."""


class Parsed:
    """The command line, each of its arguments read once: reading them takes longer than refusing a file does."""

    def __init__(self, app: Any) -> None:
        self._app, self._known = app, {}

    def __call__(self, given: list[str], **how: Any) -> Any:
        """Run a command."""
        if (key := tuple(given)) not in self._known:
            self._known[key] = self._app.parse_args(given, **how)
        command, bound, _ = self._known[key]
        return command(*bound.args, **bound.kwargs)


def main() -> None:
    """Change files, ask commands, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"all where none is given: {' '.join(KINDS)}")
    parser.add_argument("--count", type=int, default=5000, help="changes of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--specimens", type=Path, help="folder with the runs; where it is not there, it is made")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "fuzz.json")
    given = parser.parse_args()
    os.fsync = os.fstat  # type: ignore[assignment]
    command_line.app = Parsed(command_line.app)
    command_line.misplaced = lambda given, app: ""  # noqa: ARG005
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, _slow)
    signal.signal(signal.SIGALRM, _slow)
    data = given.specimens or Path(tempfile.mkdtemp(prefix="thalweg-fuzz-"), "specimens")
    if not data.is_dir():
        data.mkdir()
        write_data(data)
    for name in SPECIMENS:
        if not (data / "runs" / name).is_dir():
            make(name, data)
    kinds = given.kinds or KINDS
    for name in dict.fromkeys(name for kind in kinds for name in _having(data, kind)):  # loaded once, no file's memory
        _asked(data, name, None, 0)
    page = os.sysconf("SC_PAGE_SIZE")
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * page
    resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, taken + BYTES))
    rows = []
    for kind in kinds:
        rows.append(fuzzed(kind, data, range(given.seed, given.seed + given.count)))
        print(rows[-1].line(), rows[-1].details, flush=True)
    write_json(given.out, rows)


def fuzzed(kind: str, data: Path, seeds: range) -> Row:
    """Return how many commands ended how behind changes of one kind of file."""
    having = _having(data, kind)
    tally: Counter[str] = Counter()
    known: set[str] = set()
    for seed in seeds:
        for command, how, said in _asked(data, having[seed % len(having)], kind, seed):
            tally[how] += 1
            if how in BAD and said not in known:
                known.add(said)
                print(f"{kind} --count 1 --seed {seed}: {having[seed % len(having)]}, {command}: {how}: {said}")
    wrong = sum(tally[how] for how in BAD)
    return Row("fuzz", kind, wrong, f"of {len(seeds):,} changes", "0", wrong == 0, dict(tally))


def _having(data: Path, kind: str) -> list[str]:
    return [name for name in SPECIMENS if any((data / "runs" / name).glob(kind))]


def _asked(data: Path, name: str, kind: str | None, seed: int) -> list[tuple[str, str, str]]:
    """Ask commands about a specimen, one file of it changed; return for each how it ended and what was wrong."""
    generator = random.Random(f"{kind} {seed}")
    top = Path("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir(), f"thalweg-fuzz-{os.getpid()}")
    try:
        run = copied(data / "runs" / name, top / name)
        if kind is not None:
            path = max(run.glob(kind))
            path.write_bytes(change(generator, path.name, path.read_bytes()))
            reseal(run)
        asked = commands(name, run, data)
        first = READERS.get(str(kind).rpartition("/")[0] or str(kind), next(iter(asked)))
        first = first if first in asked else next(iter(asked))
        rest = [command for command in asked if command != first]
        ended = [(first, *_ended(first, asked[first]))]
        if kind is not None:
            is_more = generator.random() < (0.5 if ended[0][1] == ANSWERED else 0.1)
            rest = [generator.choice(rest)] if rest and is_more else []
        return ended + [(command, *_ended(command, asked[command])) for command in rest]
    finally:
        shutil.rmtree(top)


def _ended(command: str, asked: tuple[Any, ...]) -> tuple[str, str]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        code, said = ask(*asked)
    except Slow as error:
        if any(Path(one.filename).name == "fit.py" for one in traceback.extract_tb(error.__traceback__)):
            return TRAINS, ""  # for as many steps as the recipe says
        return SLOW, _where(error)
    except MemoryError as error:
        return MEMORY, _where(error)
    except Exception as error:
        return TRACEBACK, f"{type(error).__name__}: {str(error)[:150]!r} at {_where(error)}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    if "not enough memory" in said:
        return MEMORY, said[-300:]
    if code in (0, 2) or command in SAYING or Status.NOT_FINITE.value in said:  # how a training may end
        return (ANSWERED if code != 2 else REFUSED), ""
    return FAILED, " ".join(said.split())[-300:]


def _where(error: BaseException) -> str:
    """Return the innermost place of this library in a traceback."""
    own = [one for one in traceback.extract_tb(error.__traceback__) if "thalweg" in Path(one.filename).parts]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].line}" if own else ""


def _slow(*_: object) -> None:
    raise Slow


if __name__ == "__main__":
    main()
