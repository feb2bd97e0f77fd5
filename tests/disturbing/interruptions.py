"""Sequences of a command that is killed, or whose machine crashes, and is given again until it ends."""

import json
import random
from dataclasses import dataclass
from typing import final

from disturbing.bench import Bench, Reference, Result, generator_of
from disturbing.machine import SURVIVAL, Disk
from disturbing.operations import AFTER, BEFORE, MIDDLE, Fault
from disturbing.outcomes import differences, outcome
from disturbing.trainings import Disturbed
from disturbing.warm import Ended

MOST_KILLS = 3


@final
@dataclass(frozen=True)
class Kill:
    """When a process is killed: at a file operation, or so many seconds after its start."""

    fault: Fault
    after: float | None = None

    def words(self, reference: Reference) -> str:
        """Say when."""
        if self.after is not None:
            return f"after {self.after:.3f} s"
        at = self.fault.at or 0
        known = reference.operations[at] if at < len(reference.operations) else None
        what = "" if known is None else f" (undisturbed: {known.name} {' '.join(known.paths)})"
        return f"{self.fault.moment} operation {at}{what}"


def kills(generator: random.Random, reference: Reference, *, timed: bool) -> list[Kill]:
    """Draw when a command is killed, and how often."""
    drawn = []
    for _ in range(generator.choice([1, 1, 2, MOST_KILLS])):
        if timed and generator.random() < 0.2:
            drawn.append(Kill(Fault(), generator.uniform(0.0, reference.seconds)))
        else:
            at = generator.randrange(len(reference.operations))
            drawn.append(Kill(Fault(at, generator.choice([BEFORE, MIDDLE, AFTER]))))
    return drawn


def killed(bench: Bench, case: Disturbed, seed: int) -> Result:
    """Kill a command up to three times, give it again until it ends, and compare what it leaves."""
    return _sequence("kill", bench, case, seed)


def crashed(bench: Bench, case: Disturbed, seed: int) -> Result:
    """Let the machine crash in place of the process."""
    return _sequence("crash", bench, case, seed)


def _sequence(part: str, bench: Bench, case: Disturbed, seed: int) -> Result:
    reference, generator = bench.reference(case), generator_of(part, case, seed)
    bench.lay(case)
    disk = Disk(bench.runs) if part == "crash" else None
    said = []
    for kill in kills(generator, reference, timed=disk is None):
        signals = [] if kill.after is None else [(kill.after, 9)]
        ended = bench.run(case.command, kill.fault, signals=signals, other=generator.random() < 0.5)
        said.append(f"killed {kill.words(reference)}" if ended.was_killed else "ended")
        if disk is not None:
            disk.follow(bench.done())
            unseen = disk.differs()
            assert not unseen, f"{part} {case.name} {seed}: operations that are not seen: {unseen}"
            survival = generator.choice(SURVIVAL)
            disk.crash(generator, survival)
            said[-1] += f", of what was not synchronized survived: {survival}"
        problem = _problem(bench, case, reference, ended)
        if problem:
            return Result(part, case.name, seed, part, f"{'; '.join(said)}: {problem}")
        found = bench.unmended(case)
        if not found:
            return Result(part, case.name, seed, part)
        if not ended.was_killed:
            return Result(part, case.name, seed, part, f"{'; '.join(said)}: {'; '.join(found[:4])}")
        said[-1] += f" ({len(found)} differences: {found[0]})"
    ended = bench.run(case.command, Fault())
    problem = _problem(bench, case, reference, ended) or "; ".join(bench.unmended(case)[:4])
    return Result(part, case.name, seed, part, f"{'; '.join(said)}: {problem}" if problem else "")


def timed(bench: Bench, case: Disturbed, seed: int) -> Result:
    """Kill a run with a time limit, whose steps are planned; it ends as its own recipe does in one piece."""
    generator = generator_of("timed", case, seed)
    bench.lay(case)
    after = [generator.uniform(0.1, 1.5) for _ in range(generator.choice([1, 2, MOST_KILLS]))]
    ended = [bench.run(case.command, signals=[(one, 9)]) for one in after]
    if ended[-1].was_killed:
        ended.append(bench.run(case.command))
    problem = "; ".join(filter(None, (_wrong(one) for one in ended)))
    if not problem and json.loads((bench.runs / "x" / "metrics.json").read_text())["status"] != "COMPLETED":
        return Result("timed", case.name, seed, "ended by its time")
    if not problem:
        problem = _wrong(bench.run("train runs/x/recipe.toml --time 0 --name y --quiet"))
    if not problem:
        found = outcome(bench.runs)
        problem = "; ".join(
            f"{name} differs"
            for name in ("model.safetensors", "history.jsonl")
            if found[f"x/{name}"] != found[f"y/{name}"]
        )
    said = ", ".join(f"{one:.2f} s" for one in after)
    return Result("timed", case.name, seed, "timed", f"killed after {said}: {problem}" if problem else "")


def _problem(bench: Bench, case: Disturbed, reference: Reference, ended: Ended) -> str:
    """Return what is wrong behind one of the commands of a sequence, in words."""
    problem = _wrong(ended)
    if not problem and case.replaces and not _holds(bench, reference, case.replaces):
        return f"the finished run {case.replaces} is lost"
    return problem


def _wrong(ended: Ended) -> str:
    """Return what is wrong with a command that had to end well or be killed."""
    if ended.code is None:
        return "it did not end"
    if ended.has_traceback:
        return f"a traceback: {ended.error.strip().splitlines()[-1]}"
    if not ended.was_killed and ended.code != 0:
        return f"exit code {ended.code}: {' '.join(ended.error.split())[-300:]}"
    return ""


def _holds(bench: Bench, reference: Reference, name: str) -> bool:
    """Whether the run before, or the finished new one, is anywhere under `runs` as a whole."""
    found = outcome(bench.runs)
    for known in (reference.before, reference.after):
        own = _of(known, name)
        for folder in {place.split("/")[0] for place in found}:
            if not differences({k: v for k, v in _of(found, folder).items() if k in own}, own):
                return True
    return False


def _of(found: dict[str, object], folder: str) -> dict[str, object]:
    return {place.partition("/")[2]: value for place, value in found.items() if place.split("/")[0] == folder}
