"""What another run's answers teach: soft targets to train on, beside the labels that validation is measured by."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from typing_extensions import override

from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.files.base import AbstractSource, Chunk
from thalweg.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from thalweg.batch import Batch
    from thalweg.heads.base import AbstractHead

TARGETS, GIVEN = "taught_targets", "taught_given"  # columns of examples


@final
@dataclasses.dataclass(frozen=True)
class Lessons:
    """What a teacher says of rows.

    Args:
        targets: to train on: probabilities float32 `[rows, labels]`, or numbers float64 `[rows, 1]`.
        given: its answers: ids int64 `[rows]`, which labels bool `[rows, labels]`, or numbers float64 `[rows]`.
    """

    targets: np.ndarray
    given: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: np.ndarray) -> Lessons:
        """Return those of the rows that are True."""
        return Lessons(self.targets[rows], self.given[rows])

    def columns(self) -> dict[str, Ragged | np.ndarray]:
        """Return them as columns of examples."""
        return {TARGETS: self.targets, GIVEN: self.given}


class AbstractPupil(ABC):
    """A task that can learn from the answers of a finished run of the same task, and whose runs can teach."""

    role: ClassVar[str]
    """Of the column that holds what is to be answered."""

    @property
    @abstractmethod
    def taught_labels(self) -> tuple[str, ...] | None:
        """The labels that answers are among; None where they are numbers."""

    @abstractmethod
    def stand_in(self, row: int) -> Any:
        """Return a value for a row without an answer, of the kind that answers have; its content means nothing."""

    @abstractmethod
    def lessons(self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any]) -> Lessons:
        """Return what a run's networks say of texts (for pairs tuples of two)."""

    @abstractmethod
    def answers_as_values(self, given: np.ndarray) -> list[Any]:
        """Return answers as values of a column, as `thalweg.data.columns.reading` gives them."""

    @abstractmethod
    def mixed(self, lessons: Lessons, values: Sequence[Any], weight: float) -> np.ndarray:
        """Return `weight` times the teacher's targets plus the rest of the values' own; None has the teacher's alone.

        Raises:
            KeyError: for a label that the teacher does not know.
        """

    @abstractmethod
    def beside(self, examples: Examples, metrics: Mapping[str, float], *, is_teachers: bool) -> str:
        """Return in a sentence, without its period, how right teacher and pupil are on examples.

        `is_teachers` says that what they are measured by are the teacher's own answers.
        """


@final
class Taught(AbstractSource):
    """A source with the lessons of each row; rows without an answer have the teacher's.

    Args:
        source: as the task reads it.
        column: that of the answers.
        lessons: of its rows, in their order.
        values: the teacher's answers, as values of the column.
        labels: those that the teacher knows; None: answers are numbers.
        replaces: whether all answers are the teacher's.
    """

    def __init__(
        self,
        source: AbstractSource,
        column: str,
        lessons: Lessons,
        values: Sequence[Any],
        labels: tuple[str, ...] | None,
        *,
        replaces: bool,
    ) -> None:
        self.source, self.column, self.lessons, self.labels, self.replaces = source, column, lessons, labels, replaces
        self.name, self.kind, self.columns, self.notes = source.name, source.kind, source.columns, source.notes
        self._values = values

    @override
    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        start, place = 0, self.columns.index(self.column)
        for chunk in self.source.chunks(size):
            own = self._values[start : start + len(chunk)]
            start += len(chunk)
            if len(own) < len(chunk):
                break
            given = chunk.values[place]
            answers = [
                mine if self.replaces or value is None else value for value, mine in zip(given, own, strict=True)
            ]
            yield Chunk(chunk.columns, chunk.lines, (*chunk.values[:place], answers, *chunk.values[place + 1 :]))
        if start != len(self._values):
            raise InputError(f"{self.name} has other rows than the teacher was asked about; train again.")


@final
class Unlabeled(AbstractSource):
    """A source with one more column, of stand-ins for the answers that it lacks."""

    def __init__(self, source: AbstractSource, column: str, pupil: AbstractPupil) -> None:
        self.source, self._pupil = source, pupil
        self.name, self.kind, self.notes, self.left_out = source.name, source.kind, source.notes, source.left_out
        self.columns = (*source.columns, column)

    @override
    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        start = 0
        for chunk in self.source.chunks(size):
            self._bad = self.source._bad
            values = [self._pupil.stand_in(row) for row in range(start, start + len(chunk))]
            start += len(chunk)
            yield Chunk(self.columns, chunk.lines, (*chunk.values, values))
        self._bad = self.source._bad


def lessons_of(source: AbstractSource) -> Lessons | None:
    """Return the lessons of a source's rows; None where there is no teacher."""
    return source.lessons if isinstance(source, Taught) else None


def labels_known(source: AbstractSource) -> tuple[str, ...] | None:
    """Return the labels that the teacher of a source knows; None where there is no teacher."""
    return source.labels if isinstance(source, Taught) else None


def taught_batch(batch: Batch, examples: Examples, indices: np.ndarray) -> Batch:
    """Return a batch with the teacher's targets, where the examples have some."""
    import torch

    if TARGETS not in examples.columns:
        return batch
    targets = np.asarray(examples.columns[TARGETS])[indices].astype(np.float32)
    return dataclasses.replace(batch, targets=torch.from_numpy(targets))


def taken(lessons: Lessons | None, rows: np.ndarray) -> Lessons | None:
    """Return the lessons of the rows that are True; None where there are none at all."""
    return None if lessons is None else lessons.take(rows)
