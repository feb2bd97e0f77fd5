"""Numbers from columns of values, refused with file and line where they are none; and text that holds numbers."""

import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np

from thalweg.data.columns.facts import is_missing
from thalweg.data.columns.notation import number_of
from thalweg.data.columns.problems import StandIns
from thalweg.errors import InputError

LARGEST: Final = 1e100  # its square is a number, too, and so is the sum of many; so is the square of 1 / LARGEST
FARTHEST: Final = 1e18  # deviations from the mean: the square, and a sum of some, are numbers in float32
# Commas without a space on either side, beside numbers that are separated by spaces: "52,58 53,10".
_IN_DOUBT = re.compile(r"\d,\d+[ \t]+[-+]?\d")


class Scaling(Protocol):
    """A shift and a scale of numbers, as `thalweg.data.arrays.standardize.Standardizer`."""

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Return the scaled values."""
        ...


def read_numbers(
    values: Sequence[Any], lines: Sequence[int], column: str, name: str, *, missing: bool = False
) -> np.ndarray:
    """Return numbers, and texts that spell numbers, as float64 `[len(values)]`.

    An InputError names file, line and column of the first value that is missing, not a number, NaN or infinite. Where
    `missing` ones are allowed, they are NaN.
    """
    if set(map(type, values)) == {float}:  # as `thalweg.data.columns.reading` gives them
        numbers = np.array(values)
        if np.isfinite(numbers).all():
            return numbers
    numbers = np.empty(len(values))
    for place, value in enumerate(values):
        number = number_of(value)
        if number is None and missing and is_missing(value):
            number = np.nan
        if number is None:
            where = f"{name}, line {lines[place]}: expected a number in column {column!r}, got"
            if is_missing(value):
                raise InputError(f"{where} an empty value ({value!r}); fill it in, or leave the row out.")
            raise InputError(f"{where} {_shown(value)}; correct it, or leave the row out.")
        numbers[place] = number
    return numbers


def require_size(numbers: np.ndarray, name: str) -> None:
    """Raise an InputError that names the file where the largest number is too large, or too small, for its square."""
    largest = float(np.nanmax(np.abs(numbers), initial=0.0))
    if largest > LARGEST:
        raise InputError(
            f"{name}: expected numbers of a size that fits, up to {LARGEST:g}; got {largest:g}. Divide them by a "
            "common factor, or leave such rows out."
        )
    if 0.0 < largest < 1.0 / LARGEST:
        raise InputError(
            f"{name}: expected numbers of a size that fits, the largest at least {1.0 / LARGEST:g}; got {largest:g}. "
            "Multiply them by a common factor."
        )


def scaled_by(scaling: Scaling, numbers: np.ndarray, where: str) -> np.ndarray:
    """Return scaled numbers as float32; an InputError names one too far from those that the scaling is of."""
    with np.errstate(over="ignore"):
        scaled = scaling.forward(numbers).astype(np.float32)
    if not (np.abs(scaled) <= FARTHEST).all():
        raise InputError(
            f"{where}: expected numbers of a size that fits the training data, got {np.abs(numbers).max():g}."
        )
    return scaled


def stand_ins(columns: Sequence[str], numbers: np.ndarray) -> list[str]:
    """Return a sentence about each column in which numbers may stand for missing ones; `numbers` is [rows, columns]."""
    sentences = []
    for column, values in zip(columns, numbers.T, strict=True):
        found = StandIns(column)
        for number in values.tolist():
            found.add(number)
        sentences += [found.sentence] if found.sentence else []
    return sentences


def numbers_in(text: str) -> list[list[float]]:
    """Return the numbers of a text, row by row: rows are lines or separated by `;`, numbers by spaces or commas.

    An InputError quotes what is not a number.
    """
    rows: list[list[float]] = []
    if _IN_DOUBT.search(text):
        raise InputError(
            f"Expected numbers with decimal points, separated by spaces, got {_shown(text)}: a comma may stand "
            "before decimals or between numbers."
        )
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
