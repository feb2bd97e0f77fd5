"""Tables of numbers in time order: reading them, cutting off their end, checking that there is something to learn."""

import dataclasses
import math
from collections.abc import Sequence
from typing import final

import numpy as np

from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.tasks.reading.numeric import read_numbers
from thalweg.tasks.reading.text_column import check_columns

MIN_TARGETS = 2  # in each part: with a single one there is no variance to compare an error with


@final
@dataclasses.dataclass(frozen=True)
class Series:
    """A table of numbers in time order."""

    name: str  # where it comes from, for messages
    columns: tuple[str, ...]  # names of the series
    values: np.ndarray  # float64 [rows, columns]
    labels: list[str]  # what each row is called: its time, or its number

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int | None = None) -> "Series":
        """Return the rows from `start` to `stop` (not included)."""
        return Series(self.name, self.columns, self.values[start:stop], self.labels[start:stop])


def read_series(
    source: AbstractSource, columns: Sequence[str], time: str | None = None, *, first_row: int = 1
) -> Series:
    """Read numeric columns; a missing one, or a value that is not a finite number, is an InputError.

    The column `time` names the rows; without it they are numbered from `first_row`.
    """
    check_columns(source, columns)
    time = time if time in source.columns else None
    parts: list[np.ndarray] = []
    labels: list[str] = []
    for chunk in source.chunks():
        part = [read_numbers(chunk.column(name), chunk.lines, name, source.name) for name in columns]
        parts.append(np.stack(part, 1))
        if time is not None:
            labels += [str(label) for label in chunk.column(time)]
    values = np.concatenate(parts) if parts else np.empty((0, len(columns)))
    if time is None:
        labels = [str(row) for row in range(first_row, first_row + len(values))]
    return Series(source.name, tuple(columns), values, labels)


def split_end(series: Series, lags: int, share: float) -> tuple[Series, Series]:
    """Hold out the end of a series, this fraction of its rows; too few rows are an InputError.

    The second part begins `lags` rows earlier, so that its first forecasts have a past.
    """

    def num_held_out(num_rows: int) -> int:
        return max(MIN_TARGETS, round(share * num_rows))

    num_rows = len(series)
    if num_rows - num_held_out(num_rows) < lags + MIN_TARGETS:
        needed = next(n for n in range(num_rows, 10**9) if n - num_held_out(n) >= lags + MIN_TARGETS)
        raise InputError(
            f"{series.name}: {lags} lags and a validation part of {share:.0%} need at least {needed:,} rows; "
            f"got {num_rows:,}. Give fewer --lags."
        )
    start = num_rows - num_held_out(num_rows)
    return series.part(0, start), series.part(start - lags)


def check_length(series: Series, lags: int) -> None:
    """Raise an InputError unless the series has rows enough for `lags`."""
    if len(series) < lags + MIN_TARGETS:
        raise InputError(
            f"{series.name}: {lags} lags need at least {lags + MIN_TARGETS:,} rows; got {len(series):,}. "
            "Give fewer --lags."
        )


def check_variation(series: Series, part: str) -> None:
    """Raise an InputError if a column has one value only, so that there is nothing to forecast and no NMSE."""
    for column, values in zip(series.columns, series.values.T, strict=True):
        if math.isclose(values.min(), values.max(), rel_tol=1e-12, abs_tol=0.0):
            raise InputError(
                f"{series.name}: column {column!r} is {values[0]:g} in all {len(series):,} rows of the {part}, so its "
                "error cannot be compared with its variance; leave the column out, or choose another --valid-share."
            )
