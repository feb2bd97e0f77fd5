"""What an estimator is given as X, as columns of texts; anything else is refused in a sentence."""

from collections.abc import Iterable, Mapping, Set, Sized
from typing import Any, Final

import numpy as np

from thalweg.data.columns.facts import kind_of
from thalweg.errors import InputError, shown

WHAT: Final = "a list, an array or a series of texts"
WHAT_PAIRS: Final = f"{WHAT}, or of pairs of texts (an array of the shape [examples, 2])"


def columns_of(X: Any, *, pairs: bool = False) -> list[list[str]]:
    """Return the texts of X as one column, or as two where it holds pairs.

    Args:
        X: a list, a tuple, an array of numpy, a series or a data frame of pandas or polars, with a text, or a sequence
            of one text, for each example; at least one example.
        pairs: whether an example may be two texts.

    Raises:
        InputError: for anything else; it names the first example that holds no text.

    Example:
        >>> columns_of(["fine", "bad"]), columns_of([("a", "b"), ("c", "d")], pairs=True)
        ([['fine', 'bad']], [['a', 'c'], ['b', 'd']])
    """
    what = WHAT_PAIRS if pairs else WHAT
    if isinstance(X, str | bytes) or not isinstance(X, Iterable) or not (isinstance(X, Sized) or hasattr(X, "shape")):
        raise InputError(f"Expected {what}, got {kind_of(X)}; a single text is given as a list, too: [text].")
    if isinstance(X, Set | Mapping):
        raise InputError(f"Expected {what}, got {kind_of(X)}, which has no order; give a list.")
    data: Any = X
    rows = data.to_numpy() if hasattr(data, "to_numpy") else data
    if getattr(rows, "shape", None) == ():
        raise InputError(f"Expected {what}, got an array without a dimension; give [text].")
    if hasattr(rows, "toarray") or getattr(rows, "ndim", 1) > 2:
        raise InputError(f"Expected {what}, got {kind_of(X)} of the shape {list(rows.shape)}.")
    rows = list(rows)
    if not rows:
        raise InputError(f"Expected {what}, got none: there must be at least one.")
    width = _width(rows[0])
    if width not in ((1, 2) if pairs else (1,)):
        raise InputError(f"Expected {what}; example 1 has {width} values.")
    columns: list[list[str]] = [[] for _ in range(width)]
    for place, row in enumerate(rows, start=1):
        values = row if isinstance(row, list | tuple | np.ndarray) else (row,)
        if len(values) != width:
            raise InputError(f"Expected {what}; example {place} has {len(values)} values, and the first one {width}.")
        for column, value in zip(columns, values, strict=True):
            if not isinstance(value, str):
                raise InputError(
                    f"Expected {what}; example {place} holds {shown(value)}. Put a text in its place "
                    '("" where there is none), or leave the example out.'
                )
            column.append(str(value))
    return columns


def _width(row: Any) -> int:
    return len(row) if isinstance(row, list | tuple | np.ndarray) else 1
