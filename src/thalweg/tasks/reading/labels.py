"""A column of labels: one of a row or several, as ids."""

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, final

import numpy as np

from thalweg.data.arrays.ragged import Ragged, RaggedBuilder
from thalweg.data.arrays.stratified import stratified_rows
from thalweg.data.columns.facts import shortened
from thalweg.data.columns.label_values import label_of, labels_of
from thalweg.data.files.base import NUM_LINES, AbstractSource, Chunk
from thalweg.errors import InputError, counted
from thalweg.tasks.reading.taught import Lessons, lessons_of

MAX_FIELDS: Final = 2**16  # different fields whose labels are remembered, so that memory stays bounded


@final
@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of all rows."""

    names: tuple[str, ...]  # in alphabetical order; ids are places in it
    ids: np.ndarray | Ragged  # int32 [rows], or `Ragged` where a row may have several
    present: np.ndarray  # False for rows that have no label (single-label data only); their id means nothing
    lines: np.ndarray  # on which each row starts, int64
    notes: tuple[str, ...] = ()  # sentences about what was noticed
    lessons: Lessons | None = None  # what a teacher says of the rows; None: there is none

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> np.ndarray:
        """Return how many rows have each label, int64 `[labels]`."""
        return counts_of(self.ids, len(self.names))

    def after(self, names: Sequence[str]) -> "Labels":
        """Return the same labels with ids that count these names first, whether they are there or not."""
        order = tuple(dict.fromkeys([*names, *self.names]))
        table = np.array([order.index(name) for name in self.names], dtype=np.int32)
        ids = Ragged(table[self.ids.values], self.ids.offsets) if isinstance(self.ids, Ragged) else table[self.ids]
        return dataclasses.replace(self, names=order, ids=ids)

    def take(self, rows: np.ndarray) -> "Labels":
        """Return the labels of the rows that are True."""
        ids = self.ids.take(np.flatnonzero(rows)) if isinstance(self.ids, Ragged) else self.ids[rows]
        lessons = None if self.lessons is None else self.lessons.take(rows)
        return dataclasses.replace(self, ids=ids, present=self.present[rows], lines=self.lines[rows], lessons=lessons)


def counts_of(ids: np.ndarray | Ragged, num_labels: int) -> np.ndarray:
    """Return how many rows have each label, int64 `[num_labels]`; `ids` are as in `Labels`."""
    flat = ids.values[int(ids.offsets[0]) : int(ids.offsets[-1])] if isinstance(ids, Ragged) else ids
    return np.bincount(flat, minlength=num_labels)


@final
@dataclasses.dataclass(frozen=True)
class LabelReader:
    """Reads a label column."""

    multilabel: bool = False  # a row may have any number of labels
    separator: str | None = None  # stands between them in a field; None where the field is a list
    known: tuple[str, ...] | None = None  # the labels there may be (validation data); None collects them

    def read(self, source: AbstractSource, column: str, chunks: Iterable[Chunk] | None = None) -> Labels:
        """Read the labels of all rows; an InputError names the line of a label that is not known.

        `chunks` are the source's where they are read for something else as well.
        """
        fields = _Fields(self)
        single: list[np.ndarray] = []
        several = RaggedBuilder(np.int32)
        lines = [np.zeros(0, dtype=np.int64)]
        for chunk in source.chunks() if chunks is None else chunks:
            values = chunk.column(column)
            try:
                rows = fields.many(values)
            except _UnseenError as error:
                name = error.args[0]
                line = next(n for n, value in zip(chunk.lines, values, strict=True) if name in self.names(value))
                raise unseen("label", name, f"in column '{column}'", self.known, source.name, line) from None
            lines.append(np.asarray(chunk.lines, dtype=np.int64))
            if self.multilabel:
                lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
                several.extend_flat(np.array(list(chain.from_iterable(rows)), dtype=np.int32), lengths)
            else:
                single.append(np.array([row[0] if row else -1 for row in rows], dtype=np.int32))
        found = self._sorted(fields.seen, single, several, np.concatenate(lines), source.name)
        return dataclasses.replace(found, lessons=lessons_of(source))

    def names(self, value: object) -> list[str]:
        """Return the labels in a field."""
        if self.multilabel:
            return labels_of(value, self.separator)
        name = label_of(value)
        return [name] if name else []

    def _sorted(
        self, seen: dict[str, int], single: list[np.ndarray], several: RaggedBuilder, lines: np.ndarray, name: str
    ) -> Labels:
        """Give the labels their ids in alphabetical order, whatever order they came in."""
        order = tuple(self.known) if self.known is not None else tuple(sorted(seen, key=_natural))
        new_id = np.zeros(len(seen) + 1, dtype=np.int32)
        for place, label in enumerate(order):
            new_id[seen[label]] = place
        if self.multilabel:
            ragged = several.finish()
            ids = Ragged(new_id[ragged.values], ragged.offsets)
            return Labels(order, ids, np.ones(len(ids), dtype=bool), lines)
        old = np.concatenate(single) if single else np.zeros(0, dtype=np.int32)
        present = old >= 0
        num_missing = len(present) - int(present.sum())
        verb = "has no label and was" if num_missing == 1 else "have no label and were"
        where = ", ".join(map(str, lines[~present][:NUM_LINES])) + (" ..." if num_missing > NUM_LINES else "")
        said = f"{name}: {counted(num_missing, 'row')} {verb} left out (line{'s' * (num_missing > 1)} {where})."
        notes = (said,) if num_missing else ()
        return Labels(order, new_id[old], present, lines, notes)


@final
class _Fields(dict[str, tuple[int, ...]]):
    """The ids of the labels in a field: worked out once for each text that a field may hold, and then looked up."""

    def __init__(self, reader: LabelReader) -> None:
        self._reader = reader
        self.seen = {name: i for i, name in enumerate(reader.known or ())}

    def many(self, values: list[Any]) -> list[tuple[int, ...]]:
        if set(map(type, values)) == {str}:
            return list(map(self.__getitem__, values))
        return [self[value] if type(value) is str else self._ids(value) for value in values]

    def __missing__(self, value: str) -> tuple[int, ...]:
        ids = self._ids(value)
        if len(self) < MAX_FIELDS:
            self[value] = ids
        return ids

    def _ids(self, value: object) -> tuple[int, ...]:
        names = self._reader.names(value)
        for name in names:
            if name not in self.seen:
                if self._reader.known is not None:
                    raise _UnseenError(name)
                self.seen[name] = len(self.seen)
        return tuple(sorted({self.seen[name] for name in names}))


@final
class _UnseenError(Exception):
    """A label that is not known: its name."""


def unseen(kind: str, name: str, where: str, known: Sequence[str] | None, source: str, line: int) -> InputError:
    """Return the refusal of a label or tag that the training data lack."""
    return InputError(
        f"{source}, line {line}: {kind} {name!r} {where} is not among the {kind}s of the training data "
        f"({shortened(known or (), 8)}); correct it, or add examples of it to the training data."
    )


def split_texts(keys: np.ndarray, labels: Labels, share: float, name: str) -> np.ndarray:
    """Return True for the rows held out for validation: this fraction of the texts, of which `keys` holds a key each.

    The same text is always on one side, every label has its share in validation as nearly as possible, and stays in the
    training part. Rows without a label are in neither. A share of 0 holds nothing out.
    """
    valid = np.zeros(len(keys), dtype=bool)
    present = labels.present
    if share:
        valid[present] = stratified_rows(keys[present], share, labels.take(present).ids, name)
    return valid


def _natural(label: str) -> tuple[int, float, str]:
    """Sort numbers by size and before words, so that ten stars come after nine."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
