"""What a tracker is told of a run, and what it does with it."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self, final

Plain = str | int | float | bool


@final
@dataclasses.dataclass(frozen=True)
class About:
    """A run as a tracker knows it.

    Args:
        folder: the run's folder, which is there.
        options: those of its recipe, by name.
        step: the step from which it goes on; 0: it begins.
        known: what the tracker itself returned as `identity` when the run began; "": it begins, or nothing is known.
    """

    folder: Path
    options: Mapping[str, Plain]
    step: int = 0
    known: str = ""

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.name


class AbstractTracker(ABC):
    """Takes the figures of one run; any error that it raises ends the tracking, and not the training."""

    package: ClassVar[str]
    """What must be installed."""

    @classmethod
    @abstractmethod
    def open(cls, about: About) -> Self:
        """Begin a run, or go on with one that is known."""

    @property
    def identity(self) -> str:
        """What the run is known by when it goes on; "" where its folder is enough."""
        return ""

    @abstractmethod
    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take figures by name, such as "train/loss", after a step; steps never fall but after `go_back`."""

    @abstractmethod
    def go_back(self, step: int) -> None:
        """Training has gone back to a step: figures of later ones come again."""

    @abstractmethod
    def close(self, step: int, figures: Mapping[str, float], status: str) -> None:
        """Take the final figures and end.

        Args:
            step: the last one.
            figures: by name, such as "final/accuracy"; none where the run has none.
            status: "finished", "interrupted" (it may go on) or "failed".
        """
