"""Tables of numbers in time order: filling in, cutting off their end, checking that there is something to learn."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Final, final

import numpy as np

from thalweg.errors import InputError, counted
from thalweg.tasks.forecast.rows.calendar import Step
from thalweg.tasks.forecast.rows.timeline import Timeline

MIN_TARGETS = 2  # in each part: with a single one there is no variance to compare an error with
MAX_MISSING: Final = 0.2  # of a column's values
MOST_COMPARED: Final = 50  # columns that are compared with each other
MOST_LATER: Final = 12  # rows
MOST_TOLD: Final = 3


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
    id: str = ""  # which of the series of a file it is; "" where a file holds one
    timeline: Timeline | None = None  # when the rows were; None: they are only numbered
    notation: str = ""  # how the moments are written

    def __len__(self) -> int:
        return len(self.values)

    @property
    def step(self) -> Step | None:
        """How far apart the rows are; None where it is not known."""
        return None if self.timeline is None else self.timeline.step

    @property
    def frequency(self) -> str:
        """How far apart the rows are, in words ("month"); empty where it is not known."""
        return "" if self.step is None else self.step.name

    def part(self, start: int, stop: int | None = None) -> "Series":
        """Return the rows from `start` to `stop` (not included)."""
        observed = None if self.observed is None else self.observed[start:stop]
        values, labels = self.values[start:stop], self.labels[start:stop]
        return dataclasses.replace(self, values=values, labels=labels, observed=observed, notes=())

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


def check_missing(series: Series, lines: Sequence[int]) -> None:
    """Raise an InputError that names a column of which more than a fifth is missing; `lines` are those of the file."""
    observed = np.isfinite(series.values)
    for column, known in zip(series.columns, observed.T, strict=True):
        if len(known) and known.mean() < 1.0 - MAX_MISSING:
            raise InputError(
                f"{series.name}: {np.count_nonzero(~known):,} of {len(known):,} values of column {column!r} are empty "
                f"(the first on line {lines[int(np.argmin(known))]}), too many to fill in; leave the column out, or "
                "fill it in."
            )


def filled(series: Series, lines: Sequence[int]) -> Series:
    """Return a series whose missing values (NaN) lie on straight lines between their neighbors.

    Rows before the first complete one and after the last complete one are left out. What was filled in is not
    `observed`. An InputError tells of a series without a complete row; `lines` are those of the file, 0 for a row that
    is not in it.
    """
    observed = np.isfinite(series.values)
    complete = np.flatnonzero(observed.all(1))
    if not len(complete):
        raise InputError(f"{series.name}: no row has a number in every column; leave a column out.")
    kept = slice(int(complete[0]), int(complete[-1]) + 1)
    rows, values, observed = np.arange(len(series))[kept], series.values[kept].copy(), observed[kept]
    for column, known in enumerate(observed.T):
        values[:, column] = np.interp(rows, rows[known], values[known, column])
    in_file = np.array(lines) > 0
    missing = np.flatnonzero(in_file & ~np.isfinite(series.values).all(1))
    notes = []
    if len(missing):
        number = int(np.count_nonzero(~np.isfinite(series.values[in_file])))
        notes.append(
            f"{series.name}: {counted(number, 'value')} missing (the first on line {lines[int(missing[0])]}). Gaps are "
            "filled on a straight line for what a forecast reads, and count neither as a truth nor as the last value "
            "before one."
        )
    outside = len(series) - len(rows)
    if outside:
        notes.append(f"{counted(outside, 'incomplete row')} at the beginning or end left out.")
    return dataclasses.replace(
        series, values=values, labels=series.labels[kept], observed=observed, notes=(*series.notes, *notes)
    )


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
            f"{series.name}: {counted(lags, 'lag')} and a validation part of {share:.0%} need at least {needed:,} "
            f"rows; got {num_rows:,}. Give {'fewer --lags' if lags > 1 else 'more rows'}."
        )
    return num_rows - num_held_out(num_rows)


def check_length(series: Series, lags: int, remedy: str = "") -> None:
    """Raise an InputError, which ends with a remedy, unless there are rows enough.

    Args:
        series: what is to be forecast.
        lags: rows that a forecast reads; with a remedy, those that are context only.
        remedy: "": fewer lags, or more rows where there is one.
    """
    if len(series) < lags + MIN_TARGETS:
        rows = counted(lags, "lag") if not remedy else f"{counted(lags, 'row')} of context"
        remedy = remedy or f"Give {'fewer --lags' if lags > 1 else 'more rows'}"
        raise InputError(
            f"{series.name}: {rows} need at least {lags + MIN_TARGETS:,} rows; got {len(series):,}. {remedy}."
        )


def check_variation(series: Series, part: str, remedy: str = "choose another --valid-share") -> None:
    """Raise an InputError, which ends with a remedy, if a column has one value only: there is no NMSE."""
    for column, values in zip(series.columns, series.values.T, strict=True):
        if math.isclose(values.min(), values.max(), rel_tol=1e-12, abs_tol=0.0):
            raise InputError(
                f"{series.name}: column {column!r} is {values[0]:g} in all {len(series):,} rows of the {part}, so its "
                f"error cannot be compared with its variance; leave the column out, or {remedy}."
            )


def told_copies(series: Series) -> list[str]:
    """Return a sentence for columns that hold what others do, in the same row or some rows later."""
    found, names, truth = [], series.columns, series.truth
    for one, other in itertools.permutations(range(min(len(names), MOST_COMPARED)), 2):
        for later in range(min(MOST_LATER, len(truth) // 2) + 1):
            first, second = truth[: len(truth) - later, one], truth[later:, other]
            if (
                first[0] != second[0]
                or (not later and one > other)
                or not np.array_equal(first, second, equal_nan=True)
            ):
                continue
            if later:
                found.append(
                    f"{names[one]!r} holds in each row what {names[other]!r} holds {counted(later, 'row')} later, so "
                    f"what comes next in {names[other]!r} is known beforehand; name the columns to keep with "
                    "--label-column."
                )
            else:
                found.append(f"{names[other]!r} holds the same numbers as {names[one]!r}.")
            break
    return found[:MOST_TOLD]
