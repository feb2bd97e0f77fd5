"""Files of runs that are damaged, and then every command: it names the file, or answers as before."""

import json
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from disturbing.bench import Bench, Result
from disturbing.machine import contents
from disturbing.operations import AFTER, Fault
from disturbing.outcomes import differences, outcome, untimed
from disturbing.trainings import TRAININGS, Disturbed
from disturbing.warm import Ended

NAMED, HARMLESS, UNNAMED, SILENT, TRACEBACK, HUNG = "named", "harmless", "unnamed", "silent", "traceback", "hung"
KINDS: Final = ("flip", "flip", "truncate", "zero", "delete", "append")


@final
@dataclass(frozen=True)
class State:
    """A run, finished or interrupted, whose files are damaged.

    Args:
        case: what trained it, in `TRAININGS`.
        more: commands that ran on it.
        asked: the commands that are given then.
        interrupted: whether the training was killed in its middle.
    """

    name: str
    case: str
    asked: tuple[str, ...]
    more: tuple[str, ...] = ()
    interrupted: bool = False


def _finished(case: str, data: str, question: str, *more: str) -> State:
    asked = [
        f"predict runs/x {question} --json",
        f"predict runs/x {question} --json",
        f"evaluate runs/x {data} --json",
        "diagnose runs/x --json",
        "verify runs/x",
        "train --resume runs/x --quiet" + (" --epochs 5" if "--epochs" in TRAININGS[case].command else ""),
        f"train {data} --start-from runs/x --fast --name z --quiet",
    ]
    if more:
        asked += [
            "certify runs/x --seconds 60 --json",
            "check runs/x/certificate.json",
            "check runs/x/certificate.json",
        ]
        asked += ["check runs/x/certificate.json --run runs/x"]
    return State(case, case, tuple(asked), more)


def _interrupted(case: str, question: str) -> State:
    asked = (
        TRAININGS[case].command.replace(" --quiet", ""),
        "train --resume runs/x",
        f"predict runs/x {question} --json",
        "verify runs/x",
    )
    return State(f"{case}, interrupted", case, asked, interrupted=True)


_CERTIFIED = ("certify runs/x --seconds 60 --quiet", "diagnose runs/x --quiet")

STATES: Final = {
    state.name: state
    for state in (
        _finished("bag", "new.csv", "river-fine awful", *_CERTIFIED),
        _finished("selected", "new.csv", "river-fine awful", *_CERTIFIED),
        _finished("dropout", "new.csv", "river-fine"),
        _finished("tag", "tags.conll", "river-stone"),
        _finished("crf", "tags.conll", "river-stone"),
        _finished("score", "pairs.jsonl", "river\tstone"),
        _finished("forecast", "series.csv", "1,2;2,3;3,4;4,5;5,6"),
        _finished("forecast-ar", "series.csv", "1,2;2,3;3,4;4,5;5,6"),
        _finished("language", "prose.txt", "river --length 5"),
        _finished("continuous", "prose.txt", "river --length 5"),
        _finished("translate", "lines.jsonl", "river"),
        _interrupted("bag", "river"),
        _interrupted("selected", "river"),
        _interrupted("tag", "river"),
        _interrupted("score", "river\tstone"),
        _interrupted("forecast", "1,2;2,3;3,4;4,5;5,6"),
        _interrupted("language", "river"),
        _interrupted("translate", "river"),
        State("online", "online", ("predict runs/s river --json", TRAININGS["online"].command, "verify runs/s"), ()),
    )
}


@final
@dataclass(frozen=True)
class Answer:
    """What a command said and left."""

    code: int | None
    said: Any
    left: dict[str, Any]


@final
class Damages:
    """The states, laid again and again, and what each command answers where nothing is damaged."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._answers: dict[tuple[str, str], Answer] = {}

    def damaged(self, state: State, seed: int) -> Result:
        """Damage one file, give one command, and return what came of it."""
        generator = random.Random(f"damage {state.name} {seed}")
        self._lay(state)
        paths = [path for path in sorted(self._bench.runs.rglob("*")) if path.is_file()]
        path = generator.choice(paths)
        kind = generator.choice(KINDS)
        damage(path, kind, generator)
        asked = generator.choice(state.asked)
        place = str(path.relative_to(self._bench.runs))
        after = path.read_bytes() if path.exists() else None
        ended = self._bench.run(asked, Fault())
        verdict, problem = self._judge(state, asked, place, after, ended)
        said = f"{kind} of {place}, then thalweg {asked}: {verdict}: {problem}"
        return Result("damage", state.name, seed, verdict, said if verdict not in {NAMED, HARMLESS} else "")

    def _lay(self, state: State) -> None:
        bench, case = self._bench, TRAININGS[state.case]
        ready = Disturbed(f"damaged {state.name}", "")
        kept = bench.kept(ready)
        if not kept.is_dir():
            reference = bench.reference(case)
            bench.lay(case)
            if state.interrupted:
                places = [
                    at for at, one in enumerate(reference.operations)
                    if one.name == "rename" and "checkpoints/step" in one.paths[-1]
                ]  # fmt: skip
                ended = bench.run(case.command, Fault(places[len(places) // 2], AFTER))
                assert ended.was_killed, ended
            else:
                for command in (case.command, *state.more):
                    ended = bench.run(command)
                    assert ended.code == 0, (command, ended)
            bench.log.unlink(missing_ok=True)
            shutil.copytree(bench.here, kept)
        bench.lay(ready)

    def _undamaged(self, state: State, asked: str) -> Answer:
        if (state.name, asked) not in self._answers:
            self._lay(state)
            ended = self._bench.run(asked, Fault())
            self._answers[state.name, asked] = Answer(ended.code, _said(ended.out), outcome(self._bench.runs))
        return self._answers[state.name, asked]

    def _judge(self, state: State, asked: str, place: str, damaged: bytes | None, ended: Ended) -> tuple[str, str]:
        """Return what came of a command behind the damage of a file, and how it differs from what had to come."""
        if ended.code is None:
            return HUNG, ""
        if ended.has_traceback:
            return TRACEBACK, ended.error.strip().splitlines()[-1]
        # A file is named by its own name, a checkpoint's also by that of the checkpoint.
        names = {Path(place).name, *(part for part in Path(place).parts if part.startswith("step-"))}
        is_named = any(name in ended.error + ended.out for name in names)
        if ended.code in {1, 2} and is_named:
            return NAMED, ""
        expected = self._undamaged(state, asked)
        found = differences(outcome(self._bench.runs), expected.left)
        if ended.code or not (state.interrupted and asked.startswith("train")):
            # What only reads leaves a damaged file as it is.
            still = contents(self._bench.runs).get(place) == damaged
            found = [one for one in found if not (still and one.startswith(place))]
        found = [one for one in found if not one.startswith(f"{place} ") or not place.endswith(".html")]
        # A training's words have times in them; what it has said is in its files.
        said = not asked.startswith("train") and _said(ended.out) != expected.said
        if ended.code == expected.code and not said and not found and not asked.startswith("verify"):
            return HARMLESS, ""
        if is_named and ended.code == expected.code:
            return NAMED, ""
        if asked.startswith("verify") and any(part.startswith(".") for part in Path(place).parts):
            return HARMLESS, ""  # what a process left that was killed is cleared away
        how = f"exit code {ended.code} instead of {expected.code}; " if ended.code != expected.code else ""
        how += "another answer; " if said else ""
        how += f"{'; '.join(found[:3])} {' '.join(ended.error.split())[-300:]}"
        return (UNNAMED if ended.code in {1, 2} and "error:" in ended.error else SILENT), how


def damage(path: Path, kind: str, generator: random.Random) -> None:
    """Damage a file."""
    data = bytearray(path.read_bytes())
    if kind == "delete" or not data:
        path.unlink()
        return
    at = generator.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << generator.randrange(8)
    elif kind == "truncate":
        del data[at:]
    elif kind == "zero":
        end = min(len(data), at + generator.choice([1, 16, 4096]))
        data[at:end] = bytes(end - at)
        if data == path.read_bytes():  # which were zeros
            data[at] = 1
    else:
        data += generator.randbytes(generator.choice([1, 100]))
    path.write_bytes(data)


def _said(text: str) -> Any:
    """Return what a command has printed in a form that compares: JSON without its times."""
    try:
        return [untimed(json.loads(line)) for line in text.splitlines()]
    except ValueError:
        try:
            return untimed(json.loads(text))
        except ValueError:
            return re.sub(r"\d[\d.]* ?s\b", "", text)
