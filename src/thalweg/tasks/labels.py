"""A column of labels: one of a row or several, as ids."""

import dataclasses
from typing import final

import numpy as np

from thalweg.data.ragged import Ragged, RaggedBuilder
from thalweg.data.rows import AbstractSource
from thalweg.errors import InputError
from thalweg.tasks.texts import as_text


@final
@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of all rows.

    Args:
        names: the labels in alphabetical order; ids are places in it.
        ids: int32 `[rows]`, or `Ragged` where a row may have several.
        present: False for rows that have no label (single-label data only); their id means nothing.
        notes: sentences about what was noticed.
    """

    names: tuple[str, ...]
    ids: np.ndarray | Ragged
    present: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> "Labels":
        """Return the labels of the rows that are True."""
        ids = self.ids.take(np.flatnonzero(rows)) if isinstance(self.ids, Ragged) else self.ids[rows]
        return dataclasses.replace(self, ids=ids, present=self.present[rows])

    def first_ids(self) -> np.ndarray:
        """Return one label a row, for the cut (the first of several; one past the last for none)."""
        if isinstance(self.ids, np.ndarray):
            return self.ids
        first = np.full(len(self.ids), len(self.names), dtype=np.int64)
        some = self.ids.lengths > 0
        first[some] = self.ids.values[self.ids.offsets[:-1][some]]
        return first


@final
@dataclasses.dataclass(frozen=True)
class LabelReader:
    """Reads a label column.

    Args:
        multilabel: a row may have any number of labels.
        separator: stands between them in a field; None where the field is a list.
        known: the labels there may be (validation data); None collects them.
    """

    multilabel: bool = False
    separator: str | None = None
    known: tuple[str, ...] | None = None

    def read(self, source: AbstractSource, column: str) -> Labels:
        """Read the labels of all rows.

        Raises:
            InputError: for a label that is not known; its line is named.
        """
        seen: dict[str, int] = {name: i for i, name in enumerate(self.known or ())}
        single: list[np.ndarray] = []
        several = RaggedBuilder(np.int32)
        num_missing = 0
        for chunk in source.chunks():
            ids = []
            for line, value in zip(chunk.lines, chunk.column(column), strict=True):
                names = self._names(value)
                for name in names:
                    if name not in seen:
                        if self.known is not None:
                            raise InputError(self._unseen(source, line, column, name))
                        seen[name] = len(seen)
                ids.append([seen[name] for name in names])
            if self.multilabel:
                several.extend([sorted(set(row)) for row in ids])
            else:
                num_missing += sum(not row for row in ids)
                single.append(np.array([row[0] if row else -1 for row in ids], dtype=np.int32))
        return self._sorted(seen, single, several, num_missing, source.name)

    def _names(self, value: object) -> list[str]:
        if self.multilabel:
            parts = value if isinstance(value, list) else as_text(value).split(self.separator)
            return [name for name in (as_text(part).strip() for part in parts) if name]
        if isinstance(value, bool):
            return [str(value).lower()]
        name = as_text(value).strip()
        return [name] if name else []

    def _unseen(self, source: AbstractSource, line: int, column: str, name: str) -> str:
        known = self.known or ()
        listed = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        return (
            f"{source.name}, line {line}: label {name!r} in column '{column}' is not among the labels of the training "
            f"data ({listed}); correct it, or add examples of it to the training data."
        )

    def _sorted(
        self, seen: dict[str, int], single: list[np.ndarray], several: RaggedBuilder, num_missing: int, name: str
    ) -> Labels:
        """Give the labels their ids in alphabetical order, whatever order they came in."""
        order = tuple(self.known) if self.known is not None else tuple(sorted(seen, key=_natural))
        new_id = np.zeros(len(seen) + 1, dtype=np.int32)
        for place, label in enumerate(order):
            new_id[seen[label]] = place
        notes = ()
        if num_missing:
            notes = (f"{name}: {num_missing:,} rows have no label and were left out.",)
        if self.multilabel:
            ragged = several.finish()
            ids = Ragged(new_id[ragged.values], ragged.offsets)
            return Labels(order, ids, np.ones(len(ids), dtype=bool), notes)
        old = np.concatenate(single) if single else np.zeros(0, dtype=np.int32)
        return Labels(order, new_id[old], old >= 0, notes)


def _natural(label: str) -> tuple[int, float, str]:
    """Sort numbers by size and before words, so that ten stars come after nine."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
