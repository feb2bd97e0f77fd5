"""What is asked of a comparison, as one value. Imports no torch."""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

from thalweg.comparison.entrants import Entrant
from thalweg.errors import InputError, shown
from thalweg.training.recipe.ranges import LENGTH, MOST
from thalweg.training.recipe.recipe import Options

DEFAULT_SECONDS = 180.0  # for everything, where neither a budget nor steps are given
MOST_TRIALS: Final = 10_000
MOST_SEEDS: Final = 1_000
TUNING_SEED = 1_000_003  # added to the seed: no tuned setting has seen the starts that decide


@final
@dataclass(frozen=True, kw_only=True)
class Question:
    """Data, entrants, and one budget for all of them.

    Args:
        sources: files and built-in sets.
        options: options of training that are the same for all entrants.
        entrants: what is compared.
        seconds: of training for each run, > 0; None: `steps` are given, or all runs together take three minutes.
        steps: for each run, >= 1; None: the seconds decide.
        trials: settings tried of each entrant before its final runs, >= 0; 0: its own defaults.
        num_seeds: final runs of each entrant, >= 1.
        target: score to be reached; None: what every run of the first entrant reaches.
        scored_on: whose loss counts: the validation examples', or that of the examples trained on.
        storage: URL of an Optuna storage, or a journal file; "" is a file in the comparison's folder.
        out: folder that holds runs.
        name: of the comparison; "": that of the data.
        overwrite: start over.
    """

    sources: tuple[str, ...]
    options: Options
    entrants: tuple[Entrant, ...]
    seconds: float | None = None
    steps: int | None = None
    trials: int = 8
    num_seeds: int = 3
    target: float | None = None
    scored_on: Literal["valid", "train"] = "valid"
    storage: str = ""
    out: Path = Path("runs")
    name: str = ""
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("There is nothing to compare on: give a file, or a built-in set such as docstrings.")
        for source in self.sources:
            if source.endswith(".toml"):
                raise InputError(
                    f"{source} is a recipe, which leaves nothing open to compare; give its data, and options for all."
                )
        if len(set(self.sources)) < len(self.sources):
            raise InputError("The same data are given twice; name each file once.")
        for name, least, most, value in (
            ("--trials", 0, MOST_TRIALS, self.trials), ("--seeds", 1, MOST_SEEDS, self.num_seeds),
            ("--steps", 1, MOST, self.steps),
        ):  # fmt: skip
            if value is not None and not least <= value <= most:
                raise InputError(f"{name} must lie between {least} and {most:,}; got {shown(value)}.")
        if self.seconds is not None and not (self.seconds and LENGTH.holds(self.seconds)):
            raise InputError(
                f"--budget must be above zero, such as 60s, and at most {MOST:,} seconds; got {shown(self.seconds)}."
            )
        if self.target is not None and not math.isfinite(self.target):
            raise InputError(f"--target must be a finite number; got {self.target}.")
        if self.seconds is not None and self.steps is not None:
            raise InputError("Give --budget (seconds of each run) or --steps (of each run), not both.")

    @property
    def seed(self) -> int:
        """Seed of the first final run; the others follow."""
        return self.options.get("seed", 0)

    @property
    def tuning_seed(self) -> int:
        """Seed of all trials."""
        return (self.seed + TUNING_SEED) % 2**63

    @property
    def seeds(self) -> list[int]:
        """Seeds of the final runs."""
        return [(self.seed + number) % 2**63 for number in range(self.num_seeds)]

    def digest(self, checksums: dict[str, str]) -> str:
        """Return what tells this question from others: everything that a run's figures depend on.

        More trials, more seeds or another target ask the same question further, so they are left out.
        """
        asked: dict[str, Any] = {
            "sources": [checksums.get(source) or source for source in self.sources],
            "options": dict(self.options),
            "entrants": [[entrant.name, entrant.option, dict(entrant.fixed)] for entrant in self.entrants],
            "seconds": self.seconds,
            "steps": self.steps,
            "scored_on": self.scored_on,
        }
        others = {name: checksum for name, checksum in checksums.items() if name not in self.sources}
        if others:  # validation data, word vectors: the same name may hold something else by now
            asked["files"] = others
        text = json.dumps(asked, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def with_(self, **changes: Any) -> "Question":
        """Return the question with something changed."""
        return dataclasses.replace(self, **changes)
