"""Weights & Biases."""

import importlib
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self, final

from typing_extensions import override

from thalweg.training.trackers.base import About, AbstractTracker

PROJECT: Final = "thalweg"  # unless WANDB_PROJECT names another
_CODES: Final = {"finished": 0, "interrupted": 130, "failed": 1}


@final
class Wandb(AbstractTracker):
    """A run of a project, on the server that wandb is set up for (`WANDB_MODE=offline` for none)."""

    package: ClassVar[str] = "wandb"

    def __init__(self, run: Any) -> None:
        self._run = run
        self._last = int(getattr(run, "step", 0) or 0)  # a run that goes on keeps its figures of the steps before

    @classmethod
    @override
    def open(cls, about: About) -> Self:
        wandb: Any = importlib.import_module("wandb")
        where = {"project": os.environ.get("WANDB_PROJECT", PROJECT), "name": about.name, "dir": str(about.folder)}
        again = {"id": about.known, "resume": "allow"} if about.known else {}
        return cls(wandb.init(**where, **again, config=dict(about.options)))

    @property
    @override
    def identity(self) -> str:
        return str(self._run.id)

    @override
    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if step >= self._last:
            self._last = step
            self._run.log(dict(figures), step=step)

    @override
    def go_back(self, step: int) -> None:
        """Do nothing: what it has is never changed, and steps that come again are left out."""

    @override
    def close(self, step: int, figures: Mapping[str, float], status: str) -> None:
        self._run.summary.update(dict(figures))
        self._run.finish(exit_code=_CODES[status])
