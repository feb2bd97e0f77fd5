"""Which linear forecasts are tried on a series."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np

from thalweg.tasks.forecast.autoregression.form import JOINT, OWN, SHARED, Form

ORDERS: Final = (1, 2, 3, 4, 6, 9, 12, 18, 24)
MOST_LAGS: Final = 40
MAX_OWN: Final = 2e7  # numbers in the features of `OWN`


def naive_forms(season: int, *, shared: bool = False) -> list[Form]:
    """Return the naive forecasts: the last value, and with a season the value a season ago."""
    seasonal = [Form(difference=0, seasonal=1, season=season)] if season > 1 else []
    found = [Form(season=season), *seasonal]
    return [dataclasses.replace(form, equations=SHARED) for form in found] if shared else found


def candidates(
    values: np.ndarray, season: int, lags: int = 0, *, logs: bool = True, shared: bool = False
) -> Iterator[Form]:
    """Yield the forms that are tried besides the naive ones.

    They have every combination of no or one difference, no or one seasonal difference, and the logarithm where all
    values are positive, with the lags of `lag_sets`.

    Args:
        values: of the training part, `[rows, columns]`, NaN before series that begin later.
        season: in rows; 1: none.
        lags: how many past values to read; 0: several numbers are tried.
        logs: whether logarithms may be tried.
        shared: whether all series have one equation.
    """
    num_rows, columns = values.shape
    num_rows = num_rows if not shared else int(np.isfinite(values).sum(0).min())
    seasonal = (0, 1) if season > 1 and 3 * season < num_rows else (0,)
    scales = (False, True) if logs and not bool((values <= 0.0).any()) else (False,)
    for log, difference, over_season in itertools.product(scales, (0, 1), seasonal):
        drift = difference + over_season < 2  # else it would be a curve
        base = Form(log, difference, over_season, season, (), drift, SHARED if shared else JOINT)
        if difference + over_season == 1 and not lags:
            yield base
        for chosen in lag_sets(season, num_rows // 4, lags):
            form = dataclasses.replace(base, lags=chosen)
            yield from [form] if shared else _equations(form, num_rows, columns)


def _equations(form: Form, num_rows: int, columns: int) -> Iterator[Form]:
    if columns == 1:
        yield form
        return
    size = columns * len(form.lags)
    if num_rows * columns * size <= MAX_OWN:
        yield dataclasses.replace(form, equations=OWN)
    yield dataclasses.replace(form, equations=SHARED)
    if size <= max(columns, num_rows // 3):
        yield dataclasses.replace(form, equations=JOINT)


def lag_sets(season: int, most: int, lags: int = 0) -> list[tuple[int, ...]]:
    """Return the sets of lags that are tried, none above `most`: 1 to p, and with a season those around it, too.

    Example:
        >>> lag_sets(1, 5)
        [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]
        >>> lag_sets(4, 6)[-1]
        (1, 2, 3, 4, 5)
        >>> lag_sets(4, 100, lags=2)
        [(1, 2)]
    """
    if lags:
        return [tuple(range(1, lags + 1))]
    runs = [tuple(range(1, order + 1)) for order in ORDERS if order <= max(1, most)]
    found = dict.fromkeys(runs)
    for multiples in ((1,), (1, 2)):
        around = {multiple * season + off for multiple in multiples for off in (-1, 0, 1)}
        if season > 1 and max(around) <= most:
            whole = [tuple(range(1, season + 2))] if season < MOST_LAGS - 4 else []
            found |= dict.fromkeys(tuple(sorted({*run, *around})) for run in (*runs, *whole))
    return list(found)
