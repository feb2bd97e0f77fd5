"""Several series that an id column tells apart: which of them can be learned from, and their training parts."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

import numpy as np

from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.tasks.forecast.rows.reading import listed_ids
from thalweg.tasks.forecast.rows.series import Series, check_length, check_variation, split_end

SHOWN: Final = 3  # reasons in a message


@final
@dataclasses.dataclass(frozen=True)
class Panel:
    """The series of an id column.

    Args:
        ids: their names, in the order in which they begin in the training data.
        columns: the columns of numbers; each series has one of each.
    """

    ids: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """What each pair of a series and a column is called, in the order of their numbers."""
        if len(self.columns) == 1:
            return list(self.ids)
        return [f"{one}: {column}" for one in self.ids for column in self.columns]

    def numbers(self, id_: str) -> list[int]:
        """Return the numbers of the columns of a series."""
        first = self.ids.index(id_) * len(self.columns)
        return list(range(first, first + len(self.columns)))

    @property
    def told(self) -> str:
        """How many series there are, for a message."""
        several = f" of {len(self.columns)} columns" if len(self.columns) > 1 else ""
        return f"{len(self.ids):,} series{several}"


def singles(series: Series, panel: Panel) -> list[Series]:
    """Return each column of one of the series as a series of its own."""
    if len(panel.columns) == 1:
        return [dataclasses.replace(series, columns=(series.id,))]
    return [
        dataclasses.replace(
            series,
            columns=(f"{series.id}: {column}",),
            values=series.values[:, [place]],
            observed=None if series.observed is None else series.observed[:, [place]],
        )
        for place, column in enumerate(panel.columns)
    ]


MORE_ROWS: Final = "Give more rows of it"  # what helps where a run is trained already


def usable(
    source: AbstractSource, found: Sequence[Series], check: Callable[[Series], None]
) -> tuple[list[Series], list[str]]:
    """Return the series that pass a check, and a sentence about the others.

    These are an InputError unless the source leaves bad rows out.
    """
    kept, reasons = [], {}
    for series in found:
        try:
            check(series)
            kept.append(series)
        except InputError as error:
            reasons[series.id] = str(error)
    if not reasons:
        return kept, []
    told = " ".join([*list(reasons.values())[:SHOWN], *(["..."] if len(reasons) > SHOWN else [])])
    if not source.skips_bad_rows:
        raise InputError(
            f"{len(reasons):,} of {len(found):,} series can't be used ({listed_ids(list(reasons))}). {told} "
            "--skip-bad-rows leaves such series out."
        )
    if not kept:
        raise InputError(f"{source.name}: none of {len(found):,} series can be used. {told}")
    return kept, [f"{len(reasons):,} of {len(found):,} series left out ({listed_ids(list(reasons))}): {told}"]


def check_training(lags: int, share: float) -> Callable[[Series], None]:
    """Return a check that a series is long enough, and changes in its training part."""

    def check(series: Series) -> None:
        check_variation(series.part(0, split_end(series, lags, share)), "training part")

    return check


def check_known(ids: Sequence[str], rows: int) -> Callable[[Series], None]:
    """Return a check that a series was in the training data, and has so many rows and a few more."""

    def check(series: Series) -> None:
        if series.id not in ids:
            raise InputError(f"{series.name}: there was no such series in training ({listed_ids(list(ids))}).")
        check_length(series, rows, MORE_ROWS)

    return check


def aligned(parts: Sequence[Series]) -> Series:
    """Return training parts side by side, their ends in one row; NaN stands before a series that begins later."""
    num_rows = max(map(len, parts))
    values = np.full((num_rows, len(parts)), np.nan)
    observed = np.zeros((num_rows, len(parts)), dtype=bool)
    for place, part in enumerate(parts):
        values[num_rows - len(part) :, place] = part.values[:, 0]
        observed[num_rows - len(part) :, place] = True if part.observed is None else part.observed[:, 0]
    longest = max(parts, key=len)
    columns = tuple(part.columns[0] for part in parts)
    return dataclasses.replace(longest, columns=columns, values=values, observed=observed, notes=())


def shared_notes(found: Sequence[Series], shown: int = SHOWN) -> list[str]:
    """Return the sentences about series, the first few of them."""
    notes: Mapping[str, None] = dict.fromkeys(note for series in found for note in series.notes)
    more = [f"... and {len(notes) - shown:,} more such sentences about other series."] if len(notes) > shown else []
    return [*list(notes)[:shown], *more]
