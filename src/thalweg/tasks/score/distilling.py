"""What a teacher that gives numbers teaches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import override

from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.standardize import Standardizer
from thalweg.errors import counted
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.reading.taught import GIVEN, AbstractPupil, Lessons

if TYPE_CHECKING:
    from torch import nn

    from thalweg.heads.base import AbstractHead


class NumberPupil(AbstractPupil):
    """A task whose answers are single numbers, the "score" of each."""

    role: ClassVar[str] = "number"
    scaling: Standardizer

    @abstractmethod
    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Return the answers, as the task gives them."""

    @property
    @override
    def taught_labels(self) -> None:
        return None

    @override
    def stand_in(self, row: int) -> float:
        return float(row % 7) + 0.5

    @override
    def lessons(self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any]) -> Lessons:
        found = self.predict(model, head, inputs, AnswerOptions())
        given = np.array([answer["score"] for answer in found], dtype=np.float64)
        return Lessons(given[:, None], given)

    @override
    def answers_as_values(self, given: np.ndarray) -> list[Any]:
        return given.tolist()

    @override
    def mixed(self, lessons: Lessons, values: Sequence[Any], weight: float) -> np.ndarray:
        own = lessons.given if weight == 1.0 else np.array(values, dtype=np.float64)
        return weight * lessons.targets + (1.0 - weight) * own[:, None]

    @override
    def beside(self, examples: Examples, metrics: Mapping[str, float], *, is_teachers: bool) -> str:
        true = self.scaling.inverse(np.asarray(examples.columns["targets"]).astype(np.float64))[:, 0]
        error = float(np.abs(true - np.asarray(examples.columns[GIVEN])).mean())
        return number_comparison(error, metrics["mae"], len(examples), is_teachers=is_teachers)


def number_comparison(teachers: float, own: float, count: int, *, is_teachers: bool) -> str:
    """Return the mean absolute errors of teacher and pupil in a sentence without its period."""
    examples = counted(count, "validation example")
    if is_teachers:
        return f"This model is off the teacher's number by {own:.4g} in the mean of {examples} without a number"
    return f"The mean absolute error on {examples} is {teachers:.4g} for the teacher and {own:.4g} for this model"
