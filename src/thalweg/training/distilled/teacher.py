"""The run that a new one learns from: what it says of the new data, and the file that keeps it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, final

import numpy as np
import torch

from thalweg.data.columns.facts import as_text, shortened
from thalweg.data.containers.opening import is_sample
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError, counted
from thalweg.tasks.answering import answering
from thalweg.tasks.base import AbstractTask
from thalweg.tasks.questions import AnswerOptions
from thalweg.tasks.reading.taught import AbstractPupil, Lessons, Taught, Unlabeled
from thalweg.training.folder import tensor_files
from thalweg.training.integrity.run_files import TEACHER, AbstractFolder

BATCH_SIZE: Final = 256  # texts of like length that the teacher reads at once
NUM_TIMED: Final = 15  # answers, one text at a time
TEXTS: Final = ("text", "other")  # roles
PARTS: Final = ("train", "valid")
MILLISECONDS, REMARK = "milliseconds", "remark"

Say = Callable[[str], None]


@final
@dataclasses.dataclass(frozen=True)
class Lesson:
    """What the teacher says of the data of a run.

    Args:
        train: training data, with what it says of each row.
        valid: validation data; None where these are split off.
        milliseconds: how long the teacher takes for one answer.
        inputs: some texts (for pairs tuples of two) that this was measured on.
        remark: a sentence on data that the teacher was trained on; "" where it was on none of these.
    """

    train: Taught
    valid: Taught | None
    milliseconds: float
    inputs: list[Any]
    remark: str = ""

    @property
    def is_judge(self) -> bool:
        """Whether the validation examples have no answers but the teacher's."""
        return (self.valid or self.train).replaces

    def files(self) -> dict[str, bytes]:
        """Return what a run keeps of it, by the names of the files."""
        tensors = {MILLISECONDS: torch.tensor(self.milliseconds, dtype=torch.float64)}
        tensors[REMARK] = torch.tensor(list(self.remark.encode()), dtype=torch.uint8)
        for part, taught in zip(PARTS, (self.train, self.valid), strict=True):
            if taught is not None:
                tensors[f"{part}.targets"] = torch.from_numpy(taught.lessons.targets)
                tensors[f"{part}.given"] = torch.from_numpy(taught.lessons.given)
        return {TEACHER: tensor_files.tensor_bytes(tensors)}


@final
@dataclasses.dataclass(frozen=True)
class Teacher:
    """A finished run that is asked about new data; or, for a run that goes on, what that keeps of its answers.

    Args:
        run: the teacher; None where all its answers are in `kept`.
        task: the teacher's task, or that of the run which has learned from it.
        columns: which columns that run reads.
        kept: the folder of the run that goes on.
    """

    run: Any  # a `thalweg.training.folder.run.Run`
    task: AbstractTask
    columns: Mapping[str, Any]
    kept: AbstractFolder | None = None

    @property
    def pupil(self) -> AbstractPupil:
        """The task, which is one that can teach."""
        assert isinstance(self.task, AbstractPupil)
        return self.task

    def labeled(self, source: AbstractSource, named: str = "") -> AbstractSource:
        """Return a source with a column of stand-ins where it has no column of answers; `named` is the user's."""
        column = named or self._column
        missing = not set(column.split(",")) <= set(source.columns) and column not in source.columns
        if not missing or (self.run is not None and named not in ("", self._column)):
            return source
        return Unlabeled(source, column, self.pupil)

    @property
    def _column(self) -> str:
        found: str = self.columns[self.pupil.role]
        return found

    def teach(
        self,
        train: AbstractSource,
        valid: AbstractSource | None,
        columns: Mapping[str, Any],
        weight: float,
        device: torch.device | str = "cpu",
        places: Mapping[str, str | None] = MappingProxyType({}),
        say: Say = lambda sentence: None,  # noqa: ARG005
    ) -> Lesson:
        """Return what the teacher says of data, as the new run's task reads them.

        Args:
            train: training data.
            valid: validation data, if they are not split off.
            columns: role -> column.
            weight: of its answers beside those of the data, in [0, 1].
            device: on which it computes.
            places: the files of the data with their checksums, and names of built-in sets.
            say: takes sentences about what is done.

        Raises:
            InputError: if the data have other columns or answers than the teacher knows.
        """
        several = bool(self.columns.get("multilabel"))
        if ("other" in columns) != ("other" in self.columns) or bool(columns.get("multilabel")) != several:
            raise InputError(
                f"{self._name} was trained on {_form(self.columns)}, and the new data are {_form(columns)}; name the "
                "columns (--text-column, --other-column, --label-column)."
            )
        kept = None if self.kept is None else self._kept_lessons(self.kept)
        found: list[Taught] = []
        inputs: list[Any] = []
        for part, source in zip(PARTS, (train, valid), strict=True):
            if source is not None:
                rows = _Rows.read(source, columns, self.pupil.role)
                replaces = _is_unlabeled(source)
                if replaces:
                    say(f"{source.name} has no column {rows.column!r}: the teacher's answers stand for it.")
                inputs = inputs or rows.inputs[:NUM_TIMED]
                lessons = self._ask(rows, replaces, weight, device, say) if kept is None else _part(kept, part)
                values = self.pupil.answers_as_values(lessons.given)
                labels = self.pupil.taught_labels
                found.append(Taught(source, rows.column, lessons, values, labels, replaces=replaces))
        milliseconds = self._milliseconds(inputs) if kept is None else float(kept[MILLISECONDS])
        remark = self._remark(places) if kept is None else bytes(kept[REMARK].tolist()).decode()
        return Lesson(found[0], found[1] if len(found) > 1 else None, milliseconds, inputs, remark)

    def _remark(self, places: Mapping[str, str | None]) -> str:
        """Return a sentence where the teacher was trained on, or chosen by, some of these files; "" where not."""
        assert self.run is not None
        own = self.run.recipe.data
        seen = set(self.run.data["files"].values()) & set(places.values())
        if not seen and not (own.source and is_sample(own.source) and own.source in places):
            return ""
        name = self.task.selects_by[0]
        figure = self.run.metrics.get(name)
        own_figure = "" if figure is None else f"; on texts held out from it, its {name} was {figure:.4g}"
        return f"The teacher was trained with these data, so its figure is not about new texts{own_figure}."

    def _ask(self, rows: _Rows, replaces: bool, weight: float, device: torch.device | str, say: Say) -> Lessons:
        assert self.run is not None
        model, head = self.run.model.to(device), self.run.head.to(device)
        say(f"Asking {self.run.folder} about {counted(len(rows.inputs), 'example')} of {rows.name}.")
        order = sorted(range(len(rows.inputs)), key=lambda row: _length(rows.inputs[row]))
        parts = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
        answers = [self.pupil.lessons(model, head, [rows.inputs[row] for row in part]) for part in parts]
        if not answers:
            raise InputError(f"{rows.name} has no rows to ask {self.run.folder} about.")
        back = np.argsort(np.array(order), kind="stable")
        targets, given = (
            np.concatenate([getattr(one, name) for one in answers])[back] for name in ("targets", "given")
        )
        lessons = Lessons(targets, given)
        values = [None] * len(rows.inputs) if replaces else rows.values
        self._check(rows, values)
        if replaces:
            return lessons
        return Lessons(self.pupil.mixed(lessons, values, weight), given)

    def _check(self, rows: _Rows, values: Sequence[Any]) -> None:
        """Raise an InputError for a label that the teacher does not know."""
        labels = self.pupil.taught_labels
        known = frozenset(labels or ())
        for line, value in zip(rows.lines, values, strict=True):
            for name in () if value is None or labels is None else value if isinstance(value, list) else [value]:
                if name not in known:
                    raise InputError(
                        f"{rows.name}, line {line}: {self._name} does not know the label {name!r} in column "
                        f"{rows.column!r} (it knows {shortened(list(labels or ()), 8)}); correct it, leave the row "
                        "out, or train the teacher on data that have it."
                    )

    @property
    def _name(self) -> str:
        return str((self.run if self.kept is None else self.kept).folder)

    def _milliseconds(self, inputs: Sequence[Any]) -> float:
        assert self.run is not None
        return milliseconds(self.task, self.run.model, self.run.head, inputs)

    def _kept_lessons(self, run: AbstractFolder) -> dict[str, torch.Tensor]:
        return tensor_files.load_tensors(run.ledger.path(TEACHER))


def kept_teacher(run: AbstractFolder, task: AbstractTask) -> Teacher:
    """Return what a run of this task keeps of the one that it has learned from."""
    return Teacher(None, task, run.data["columns"], run)


def milliseconds(task: AbstractTask, model: torch.nn.Module, head: Any, inputs: Sequence[Any]) -> float:
    """Return how long a network takes for one answer, the median over some inputs, each by itself."""
    taken = []
    with answering(model, head):
        for one in [*inputs[:1], *inputs]:  # the first answer is slower than the others
            begin = time.perf_counter()
            task.predict(model, head, [one], AnswerOptions())
            taken.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(taken[1:]))


@final
@dataclasses.dataclass(frozen=True)
class _Rows:
    name: str
    column: str  # of the answers
    inputs: list[Any]
    values: list[Any]
    lines: list[int]

    @classmethod
    def read(cls, source: AbstractSource, columns: Mapping[str, Any], role: str) -> _Rows:
        rows = cls(source.name, columns[role], [], [], [])
        texts = [columns[name] for name in TEXTS if name in columns]
        for chunk in source.chunks():
            given = [[as_text(value) for value in chunk.column(name)] for name in texts]
            rows.inputs.extend(given[0] if len(given) == 1 else zip(*given, strict=True))
            rows.values.extend(chunk.column(rows.column))
            rows.lines.extend(chunk.lines)
        return rows


def _is_unlabeled(source: AbstractSource) -> bool:
    return isinstance(getattr(source, "source", None), Unlabeled)


def _part(kept: Mapping[str, torch.Tensor], part: str) -> Lessons:
    try:
        return Lessons(kept[f"{part}.targets"].numpy(), kept[f"{part}.given"].numpy())
    except KeyError:
        raise InputError(f"{TEACHER} has nothing about the {part} data; train again.") from None


def _length(one: Any) -> int:
    return len(one) if isinstance(one, str) else sum(map(len, one))


def _form(columns: Mapping[str, Any]) -> str:
    what = "pairs of texts" if "other" in columns else "single texts"
    return f"{what} with {'several labels' if columns.get('multilabel') else 'one answer'} each"
