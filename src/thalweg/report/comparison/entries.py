"""What `compare.json` says, read with care: what is missing, endless or no number becomes None."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from thalweg.errors import counted
from thalweg.report.text import clip, format_value, number
from thalweg.report.theme import COLORWAY, DASHES

LONGEST_NAME = 40  # characters of an entrant's name in a sentence
# What is counted until the target is reached -> the unit of one, as it stands behind a number.
AXES = {"seconds": "s", "steps": "steps", "evaluations": "evaluations"}


def values(record: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list under a key; an empty one where there is none."""
    found = record.get(key)
    return list(found) if isinstance(found, list | tuple) else []


def entries(record: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the records under a key; none where there is no such list."""
    return [entry for entry in values(record, key) if isinstance(entry, Mapping)]


def mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the record under a key; an empty one where there is none."""
    found = record.get(key)
    return found if isinstance(found, Mapping) else {}


def text(record: Mapping[str, Any], key: str, default: str = "") -> str:
    """Return the text under a key; a default where there is none."""
    found = record.get(key)
    return default if found is None or found == "" else str(found)


def flag(record: Mapping[str, Any], key: str) -> bool:
    """Whether the value under a key is true."""
    return record.get(key) is True


@final
@dataclass(frozen=True)
class Look:
    """How an entrant is written and drawn, the same in all figures of the page."""

    label: str
    color: str
    dash: str

    @property
    def short(self) -> str:
        """Its name in a sentence."""
        return clip(self.label, LONGEST_NAME)


def looks(comparison: Mapping[str, Any]) -> dict[str, Look]:
    """Return the look of each entrant by its name, in the order of their first appearance.

    Where several names have one label, each is called by its name.
    """
    labels: dict[str, str] = {}
    for data in entries(comparison, "data"):
        for entrant in entries(data, "entrants"):
            labels.setdefault(text(entrant, "name"), text(entrant, "label", text(entrant, "name")))
    for row in entries(comparison, "rows"):
        labels.setdefault(text(row, "name"), text(row, "name"))
    known = list(labels.values())
    size = len(COLORWAY)
    return {
        name: Look(label if known.count(label) == 1 else name, COLORWAY[i % size], DASHES[i // size % len(DASHES)])
        for i, (name, label) in enumerate(labels.items())
    }


@final
@dataclass(frozen=True)
class Score:
    """What entrants are compared by on a data set."""

    key: str  # of it in trials and seeds: "loss" or "metric"
    curve: str  # of it in curves
    name: str  # in words
    is_higher_better: bool

    @property
    def better(self) -> str:
        """Which end is the good one, in a sentence."""
        return "Higher is better." if self.is_higher_better else "Lower is better."

    def loss_of(self, record: Mapping[str, Any]) -> float | None:
        """Return the score of a trial or a seed, turned so that lower is better; None where it diverged."""
        value = None if flag(record, "diverged") else number(record.get(self.key))
        return None if value is None else -value if self.is_higher_better else value

    def turned(self, loss: float) -> float:
        """Return a loss as the score that it stands for."""
        return -loss if self.is_higher_better else loss


def score_of(data: Mapping[str, Any]) -> Score:
    """Return what entrants are compared by: the loss, or the metric where losses are of several kinds."""
    which = "training" if data.get("scored_on") == "train" else "validation"
    by = data.get("scored_by") or ("metric" if data.get("vary") == "head" else "loss")
    if by == "loss":
        return Score("loss", "valid_loss", f"{which} loss", is_higher_better=False)
    name = text(data, "metric", "metric").replace("_", " ")
    return Score("metric", "metric", f"{which} {name}", is_higher_better=data.get("better") == "higher")


def budget_of(data: Mapping[str, Any]) -> str:
    """Return how long each run lasted, such as "60 s" or "400 steps"; "" where it is not said."""
    budget = mapping(data, "budget")
    seconds, steps = number(budget.get("seconds")), number(budget.get("steps"))
    if steps is not None:
        return counted(int(steps), "step")
    return "" if seconds is None else amount(seconds, "s")


def amount(value: float | None, unit: str) -> str:
    """Return a number of three digits with its unit."""
    if value is None:
        return "–"
    shown = format_value(int(value) if float(value).is_integer() else float(f"{value:.3g}"))
    return f"{shown} {unit}".strip()


def memory(size: float | None) -> str:
    """Return a number of bytes as people write it."""
    if size is None:
        return "–"
    unit, scale = ("GB", 1e9) if size >= 1e9 else ("MB", 1e6) if size >= 1e6 else ("kB", 1e3)
    return amount(size / scale, unit)


def horizon(data: Mapping[str, Any], entrant: Mapping[str, Any], axis: str) -> float:
    """Return how long the runs of an entrant lasted: the budget, or the longest of them; 0 where nothing is known."""
    given = number(mapping(data, "budget").get(axis))
    lengths = [number(seed.get(axis)) or 0.0 for seed in entries(entrant, "seeds")]
    return given if given is not None else max(lengths, default=0.0)


def median_time(entrant: Mapping[str, Any], axis: str) -> float | None:
    """Return the median of an entrant's times to the target, "never" being the largest; None where it is that."""
    times = [number(seed.get(f"{axis}_to_target")) for seed in entries(entrant, "seeds")]
    if not times:
        return None
    return number(statistics.median(float("inf") if time is None else time for time in times))


def num_diverged(records: Sequence[Mapping[str, Any]]) -> int:
    """Return how many runs diverged."""
    return sum(flag(record, "diverged") for record in records)
