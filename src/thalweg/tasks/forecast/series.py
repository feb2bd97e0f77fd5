"""Tables of numbers in time order: reading them, cutting off their end, checking that there is something to learn."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Final, final

import numpy as np

from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError, counted
from thalweg.tasks.forecast.season import times
from thalweg.tasks.reading.numeric import read_numbers
from thalweg.tasks.reading.text_column import check_columns

MIN_TARGETS = 2  # in each part: with a single one there is no variance to compare an error with
LARGEST: Final = 1e100  # its square is a number, too, and so is the sum of many; so is the square of 1 / LARGEST
MAX_MISSING: Final = 0.2  # of a column's values
MAX_BACK: Final = 0.3  # of the steps in time: more go back where rows are in no order
GAP: Final = 1.9  # usual distances between two rows, above which one is missing; months and years differ by less


@final
@dataclasses.dataclass(frozen=True)
class Series:
    """A table of numbers in time order."""

    name: str  # where it comes from, for messages
    columns: tuple[str, ...]  # names of the series
    values: np.ndarray  # float64 [rows, columns], all finite
    labels: list[str]  # what each row is called: its time, or its number
    observed: np.ndarray | None = None  # bool [rows, columns]: False where a value was filled in; None: nowhere
    notes: tuple[str, ...] = ()  # sentences about what was filled in, and about gaps in time

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int | None = None) -> "Series":
        """Return the rows from `start` to `stop` (not included)."""
        observed = None if self.observed is None else self.observed[start:stop]
        return Series(self.name, self.columns, self.values[start:stop], self.labels[start:stop], observed)

    @property
    def truth(self) -> np.ndarray:
        """The values, NaN where one was filled in."""
        return self.values if self.observed is None else np.where(self.observed, self.values, np.nan)

    @property
    def counts(self) -> np.ndarray:
        """Whether each row and the row before it are complete, so that forecasting it is a fair question, `[rows]`."""
        if self.observed is None:
            return np.ones(len(self), dtype=bool)
        complete = np.all(self.observed, axis=1)
        return complete & np.concatenate([[True], complete[:-1]])


def read_series(
    source: AbstractSource, columns: Sequence[str], time: str | None = None, *, first_row: int = 1
) -> Series:
    """Read numeric columns; a missing one, or a value that is not a finite number, is an InputError.

    Missing values are filled in on a straight line between their neighbors, if they are few (see `filled`). The column
    `time` names the rows; without it they are numbered from `first_row`.
    """
    check_columns(source, columns)
    time = time if time in source.columns else None
    parts: list[np.ndarray] = []
    labels: list[str] = []
    lines: list[int] = []
    for chunk in source.chunks():
        part = [read_numbers(chunk.column(name), chunk.lines, name, source.name, missing=True) for name in columns]
        parts.append(np.stack(part, 1))
        lines += list(chunk.lines)
        if time is not None:
            labels += [str(label) for label in chunk.column(time)]
    values = np.concatenate(parts) if parts else np.empty((0, len(columns)))
    if time is None:
        labels = [str(row) for row in range(first_row, first_row + len(values))]
    largest = float(np.nanmax(np.abs(values), initial=0.0))
    if largest > LARGEST:
        raise InputError(
            f"{source.name}: expected numbers of a size that fits, up to {LARGEST:g}; got {largest:g}. Divide them by "
            "a common factor."
        )
    if 0.0 < largest < 1.0 / LARGEST:
        raise InputError(
            f"{source.name}: expected numbers of a size that fits, the largest at least {1.0 / LARGEST:g}; got "
            f"{largest:g}. Multiply them by a common factor."
        )
    series = Series(source.name, tuple(columns), values, labels)
    series = series if np.isfinite(values).all() else filled(series, lines)
    return series if time is None else dataclasses.replace(series, notes=(*series.notes, *gaps(series, time)))


def filled(series: Series, lines: Sequence[int]) -> Series:
    """Return a series whose missing values (NaN) lie on straight lines between their neighbors.

    Rows before the first complete one and after the last complete one are left out. What was filled in is not
    `observed`. An InputError names a column with more missing values than a fifth; `lines` are those of the file.
    """
    observed = np.isfinite(series.values)
    for column, known in zip(series.columns, observed.T, strict=True):
        if known.mean() < 1.0 - MAX_MISSING:
            raise InputError(
                f"{series.name}: {np.count_nonzero(~known):,} of {len(known):,} values of column {column!r} are empty "
                f"(the first on line {lines[int(np.argmin(known))]}), too many to fill in; leave the column out, or "
                "fill it in."
            )
    complete = np.flatnonzero(observed.all(1))
    if not len(complete):
        raise InputError(f"{series.name}: no row has a number in every column; leave a column out.")
    kept = slice(int(complete[0]), int(complete[-1]) + 1)
    rows, values, observed = np.arange(len(series))[kept], series.values[kept].copy(), observed[kept]
    for column, known in enumerate(observed.T):
        values[:, column] = np.interp(rows, rows[known], values[known, column])
    number, first = (
        int(np.count_nonzero(~np.isfinite(series.values))),
        int(np.argmin(np.isfinite(series.values).all(1))),
    )
    notes = [
        f"{series.name}: {counted(number, 'value')} missing (the first on line {lines[first]}). Gaps are filled on a "
        "straight line for what a forecast reads, and count neither as a truth nor as the last value before one."
    ]
    outside = len(series) - len(rows)
    if outside:
        notes.append(f"{counted(outside, 'incomplete row')} at the beginning or end left out.")
    return Series(series.name, series.columns, values, series.labels[kept], observed, tuple(notes))


def gaps(series: Series, time: str) -> list[str]:
    """Return a sentence where the rows are not evenly spaced in time; times in no order are an InputError."""
    places = times(series.labels)
    if places is None or len(places) < 3:
        return []
    steps = np.diff(places)
    if bool((steps < 0.0).all()):
        raise InputError(
            f"{series.name}: the column {time!r} runs backwards, from {series.labels[0]} to {series.labels[-1]}; a "
            "forecast reads the oldest row first, so turn the rows around."
        )
    back = np.flatnonzero(steps < 0.0)
    if len(back) > MAX_BACK * len(steps):
        first = int(back[0])
        raise InputError(
            f"{series.name}: the rows are not in the order of {time!r}: {len(back):,} of {len(steps):,} steps go back, "
            f"the first from {series.labels[first]} to {series.labels[first + 1]}; sort them, oldest first."
        )
    usual = float(np.median(steps))
    odd = np.flatnonzero((steps > GAP * usual) | (steps <= 0.0))
    if not len(odd):
        return []
    first = int(odd[0])
    backwards = f", {len(back):,} of them back in time" if len(back) else ""
    return [
        f"The rows are not evenly spaced in {time!r}: {counted(len(odd), 'irregular step')}{backwards}, the first from "
        f"{series.labels[first]} to {series.labels[first + 1]}; they are read as if they were."
    ]


def split_end(series: Series, lags: int, share: float) -> int:
    """Return where the end of a series begins that is held out, this fraction of its rows.

    Too few rows are an InputError.
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
    return num_rows - num_held_out(num_rows)


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
