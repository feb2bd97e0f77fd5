"""Numbers from columns of values, refused with file and line where they are none; and text that holds numbers."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.data.columns.facts import is_missing, number_of
from thalweg.errors import InputError


def read_numbers(values: Sequence[Any], lines: Sequence[int], column: str, name: str) -> np.ndarray:
    """Return a column's values as float64 `[len(values)]`.

    Args:
        values: numbers, or texts that spell numbers.
        lines: the line of the file for each value.
        column: the column's name, for messages.
        name: the file's name, for messages.

    Raises:
        InputError: at the first value that is missing, no number, NaN or infinite; with file, line and column.

    Example:
        >>> read_numbers(["1.5", 2], [2, 3], "price", "prices.csv").tolist()
        [1.5, 2.0]
    """
    numbers = np.empty(len(values))
    for place, value in enumerate(values):
        number = number_of(value)
        if number is None:
            where = f"{name}, line {lines[place]}: expected a number in column {column!r}, got"
            if is_missing(value):
                raise InputError(f"{where} nothing ({value!r}); fill it in, or leave the row out.")
            raise InputError(f"{where} {_shown(value)}; correct it, or leave the row out.")
        numbers[place] = number
    return numbers


def numbers_in(text: str) -> list[list[float]]:
    """Return the numbers of a text, row by row: rows are lines or separated by `;`, numbers by spaces or commas.

    Raises:
        InputError: if something between them is no number.

    Example:
        >>> numbers_in("1 2 3.5"), numbers_in("1,2; 3,4")
        ([[1.0, 2.0, 3.5]], [[1.0, 2.0], [3.0, 4.0]])
    """
    rows: list[list[float]] = []
    for row in re.split(r"[;\n]", text):
        numbers: list[float] = []
        for part in row.replace(",", " ").split():
            number = number_of(part)
            if number is None:
                raise InputError(f"Expected numbers separated by spaces or commas, got {_shown(part)} among them.")
            numbers.append(number)
        if numbers:
            rows.append(numbers)
    return rows


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
