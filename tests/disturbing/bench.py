"""Where commands are disturbed: a folder that is laid anew each time, and what an undisturbed command leaves."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from disturbing.machine import Disk
from disturbing.operations import Fault, Operation, read_log
from disturbing.outcomes import differences, outcome
from disturbing.trainings import Disturbed, write_data
from disturbing.warm import Ended, Warm

NEW = ".new.thalweg-tmp"  # the end of the name of a file that is to take the place of another


@final
@dataclass(frozen=True)
class Reference:
    """What an undisturbed command does.

    Args:
        operations: under `runs`, in order.
        seconds: that it takes.
        before: what `runs` holds before it.
        after: what it holds after it.
    """

    operations: tuple[Operation, ...]
    seconds: float
    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def num_bytes(self) -> int:
        """Bytes that it writes."""
        return sum(len(one.data) for one in self.operations)


@final
@dataclass(frozen=True)
class Result:
    """What came of a sequence: `problem` is empty where all was well."""

    part: str
    case: str
    seed: int
    kind: str
    problem: str = ""

    @property
    def again(self) -> str:
        """The arguments that repeat it."""
        return f"{self.part} --case {self.case} --seed {self.seed}"


@final
class Bench:
    """The folder in which commands are disturbed; every sequence begins with the same files at the same place.

    Args:
        work: a folder of its own.
        hash_seeds: of the processes that run commands; a sequence changes between two of them.
    """

    def __init__(self, work: Path, hash_seeds: tuple[int, int] = (1, 2)) -> None:
        self._hash_seeds = hash_seeds
        self.here, self._ready, self._work = work / "here", work / "ready", work
        self._warm: dict[int, Warm] = {}  # by their seed
        self._repeated: dict[str, dict[str, Any]] = {}
        self._references: dict[str, Reference] = {}

    def close(self) -> None:
        """End the processes that run commands."""
        for warm in self._warm.values():
            warm.end()

    def _at(self, hash_seed: int) -> Warm:
        if hash_seed not in self._warm:
            self._warm[hash_seed] = Warm(hash_seed)
        return self._warm[hash_seed]

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self.here / "runs"

    @property
    def log(self) -> Path:
        """The file operations of the last commands."""
        return self.here / "log"

    def kept(self, case: Disturbed) -> Path:
        """Return where the files that a case begins with are kept."""
        return self._ready / case.name.replace(" ", "-")

    def lay(self, case: Disturbed) -> None:
        """Lay the files that a case begins with."""
        kept = self.kept(case)
        shutil.rmtree(self.here, ignore_errors=True)
        if kept.is_dir():
            shutil.copytree(kept, self.here)
            return
        self.here.mkdir(parents=True)
        write_data(self.here)
        for command in case.before:
            ended = self.run(command)
            assert ended.code == 0, (command, ended)
        shutil.copytree(self.here, kept)

    def run(
        self,
        command: str,
        fault: Fault | None = None,
        *,
        signals: Sequence[tuple[float, int]] = (),
        other: bool = False,
        stdin: Path | None = None,
    ) -> Ended:
        """Run a command to its end; `other` is a process in which sets have other orders."""
        log = None if fault is None else self.log
        return self._at(self._hash_seeds[other]).run(command.split(" "), self.here, fault, log, stdin, signals=signals)

    def start(self, command: str) -> Any:
        """Start a command."""
        return self._at(self._hash_seeds[0]).start(command.split(" "), self.here)

    def done(self) -> list[Operation]:
        """Return what commands have done since this was asked last."""
        found = list(read_log(self.log))
        self.log.unlink(missing_ok=True)
        return found

    def reference(self, case: Disturbed) -> Reference:
        """Return what a case does when it is not disturbed."""
        if case.name not in self._references:
            self.lay(case)
            before, disk = outcome(self.runs), Disk(self.runs)
            ended = self.run(case.command, Fault())
            assert ended.code == 0, (case.command, ended)
            operations = self.done()
            disk.follow(operations)
            assert not disk.differs(), f"operations that are not seen: {disk.differs()}"
            self._references[case.name] = Reference(tuple(operations), ended.seconds, before, outcome(self.runs))
        return self._references[case.name]

    def repeated(self, case: Disturbed, times: int) -> dict[str, Any]:
        """Return what a case leaves whose command is given so often, one after the other."""
        if times == 1:
            return self.reference(case).after
        name = f"{case.name} {times}"
        if name not in self._repeated:
            here = self._work / "aside"
            self.here.rename(here)
            self.lay(case)
            for _ in range(times):
                self.run(case.command, Fault())
            self._repeated[name] = outcome(self.runs)
            shutil.rmtree(self.here)
            here.rename(self.here)
        return self._repeated[name]

    def differences(self, case: Disturbed) -> list[str]:
        """Return how `runs` differs from what the undisturbed command leaves."""
        found = differences(outcome(self.runs), self.reference(case).after)
        return [one for one in found if not one.startswith(case.leaves)]

    def unmended(self, case: Disturbed) -> list[str]:
        """Return how `runs` differs (see `differences`) once `thalweg verify` has cleared away what was left over.

        A change that was made and has not come to all of its files is as good as done, too.
        """
        found = self.differences(case)
        left = {one.removesuffix(" is left over") for one in found if one.endswith(" is left over")}
        made = {f"{place.parent}/{place.name[1:].removesuffix(NEW)} is missing" for place in map(Path, left)}
        if found and {one for one in found if not one.endswith(" is left over")} <= made:
            self.run(f"verify runs/{case.target}", Fault())
            found = self.differences(case)
        return found

    def keep(self, name: str) -> Path:
        """Keep the folder as it is, to be looked at; return where."""
        kept = self._work / "kept" / name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.here, kept, symlinks=True)
        return kept


def generator_of(part: str, case: Disturbed, seed: int) -> random.Random:
    """Return the numbers that a sequence is drawn from."""
    return random.Random(f"{part} {case.name} {seed}")
