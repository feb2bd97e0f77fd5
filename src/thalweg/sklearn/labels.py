"""What a classifier is given as y, as the labels of a run, and the way back: one label a text, or several."""

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import column_or_1d

from thalweg.data.columns.facts import is_missing
from thalweg.data.columns.label_values import label_of
from thalweg.errors import InputError, shown

NO_LABEL: Final = "(none)"  # the label of rows without one, where no row has several
_SAFE: Final = re.compile(r"[^\W\d_](?:[\w.:+/ -]{0,62}[\w+])?")  # read as one label whatever the other labels are
_SEVERAL: Final = (list, tuple, set, frozenset)


@final
@dataclass(frozen=True)
class Targets:
    """The classes of y, and y as a column of labels.

    Args:
        classes: the different labels, in their order, `[classes]`; of an indicator matrix its columns' numbers.
        names: what the run calls them, in the same order.
        form: "single" (one label an example), "matrix" (an indicator matrix), or "lists" (a list of labels for each
            example).
        labels: for each example the places of its labels in `classes`.
    """

    classes: np.ndarray
    names: tuple[str, ...]
    form: str
    labels: list[list[int]]

    @classmethod
    def of(cls, y: Any) -> "Targets":
        """Read y, which must not be empty.

        Raises:
            InputError: for numbers that are no classes, missing labels, and what is no list of labels at all.
        """
        if y is None:
            raise InputError("This classifier requires y to be passed, but the target y is None.")
        if hasattr(y, "to_numpy"):
            y = y.to_numpy()
        if _are_lists(y):
            return cls._of_lists(list(y))
        if isinstance(y, np.ndarray) and y.ndim == 1 and y.dtype.kind in "Of":
            _require_labels(y.tolist())
        elif isinstance(y, list | tuple):
            _require_labels(y)
        kind = _kind(y)
        if kind == "multilabel-indicator":
            to_array = getattr(y, "toarray", None)  # of sparse matrices
            matrix = np.asarray(y if to_array is None else to_array()) != 0
            names = tuple(map(str, range(matrix.shape[1])))
            return cls(np.arange(len(names)), names, "matrix", [np.flatnonzero(row).tolist() for row in matrix])
        if kind not in ("binary", "multiclass"):
            raise InputError(
                f"Unknown label type: {kind}. Expected a label for each text, an indicator matrix, or a list of labels "
                "for each text; numbers are predicted by a Regressor."
            )
        values = column_or_1d(y, warn=True)
        _require_labels(values.tolist())
        classes, codes = _unique(values)
        return cls(classes, _names(classes.tolist()), "single", [[code] for code in codes.tolist()])

    @classmethod
    def _of_lists(cls, rows: list[Any]) -> "Targets":
        lists = [sorted(set(row), key=_order) if isinstance(row, Set) else list(row) for row in rows]
        flat = [label for row in lists for label in row]
        if not flat:
            raise InputError("Expected a list of labels for each text; all lists are empty.")
        _require_labels(flat)
        values = np.empty(len(flat), dtype=object)
        values[:] = flat
        classes, codes = _unique(np.array(flat) if len(set(map(type, flat))) == 1 else values)
        rest = iter(codes.tolist())
        places = [list(dict.fromkeys(next(rest) for _ in row)) for row in lists]
        return cls(classes, _names(classes.tolist()), "lists", places)

    def column(self) -> tuple[list[Any], np.ndarray]:
        """Return the labels as a run reads them, and the order in which the examples are given to it.

        Where an example has several labels, one such comes first, so that the run sees at once what the column holds.
        """
        order = np.arange(len(self.labels))
        if self.form == "single":
            return [self.names[row[0]] for row in self.labels], order
        longest = max(range(len(self.labels)), key=lambda place: len(self.labels[place]))
        if len(self.labels[longest]) <= 1:  # they exclude one another, as far as these examples tell
            return [self.names[row[0]] if row else NO_LABEL for row in self.labels], order
        order = np.concatenate([order[longest:], order[:longest]])
        return [[self.names[code] for code in self.labels[place]] for place in order.tolist()], order

    def matrix(self) -> np.ndarray:
        """Return the labels as an indicator matrix, int64 `[examples, classes]`."""
        found = np.zeros((len(self.labels), len(self.classes)), dtype=np.int64)
        for row, places in enumerate(self.labels):
            found[row, places] = 1
        return found


def _kind(y: Any) -> str:
    try:
        return type_of_target(y, raise_unknown=True)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Unknown label type: expected a label for each text as y, got {shown(y)} ({error})."
        ) from None


def _are_lists(y: Any) -> bool:
    """Whether y is a list of labels for each example, and no indicator matrix."""
    if not isinstance(y, Iterable) or isinstance(y, str | bytes) or getattr(y, "ndim", 1) != 1:
        return False
    rows = list(y)
    if not rows or not all(isinstance(row, _SEVERAL) for row in rows):
        return False
    is_matrix = len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    return not (is_matrix and all(value in (0, 1) for row in rows for value in row))


def _require_labels(values: Iterable[Any]) -> None:
    for value in values:
        if value is None or (isinstance(value, float) and value != value):
            raise InputError(f"Expected a label for each text, got {shown(value)} among them; leave these texts out.")


def _unique(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        return np.unique(values, return_inverse=True)
    except TypeError:
        kinds = ", ".join(sorted({type(value).__name__ for value in values.tolist()}))
        raise InputError(f"Expected labels of one type, got {kinds}; give all as texts: list(map(str, y)).") from None


def _order(value: Any) -> tuple[str, str]:
    return type(value).__name__, str(value)


def _names(classes: Sequence[Any]) -> tuple[str, ...]:
    """Return what a run calls classes: the same as everybody where it reads that as one label, otherwise numbers."""
    names = [label_of(one) if isinstance(one, bool | int) else one for one in classes]
    is_safe = all(isinstance(one, bool | int) for one in classes) or all(
        isinstance(one, str) and _SAFE.fullmatch(one) and not is_missing(one) for one in classes
    )
    return tuple(map(str, names if is_safe else range(len(classes))))
