"""What a user gives to be forecast from: a window of numbers, whose series, and how many steps."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from thalweg.errors import InputError
from thalweg.tasks.forecast.panel import Panel
from thalweg.tasks.forecast.rows.reading import listed_ids
from thalweg.tasks.reading.numeric import numbers_in


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """One input.

    Args:
        window: the last rows of it, `[lags, columns]`.
        steps: how many to forecast.
        id: whose window it is; None where there is one series.
        times: what the rows are called; none: not known.
    """

    window: np.ndarray
    steps: int
    id: str | None
    times: Sequence[Any]


def asked_window(value: Any, most_steps: int, columns: Sequence[str], lags: int, panel: Panel | None = None) -> Asked:
    """Return what an input asks for; an InputError tells what is wrong with it, in half a sentence."""
    steps, name, times = 1, None, ()
    if isinstance(value, Mapping):
        name, times, steps = value.get("id"), value.get("times") or (), value.get("steps", 1)
        value = value.get("values")
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= most_steps:
            raise InputError(f"steps must be a whole number from 1 to {most_steps}; got {steps!r}")
    if panel is not None:
        if name is None and len(panel.ids) == 1:
            name = panel.ids[0]
        if name is None:
            raise InputError(
                f"this run forecasts {len(panel.ids):,} series ({listed_ids(panel.ids)}), so numbers "
                'alone do not say which; give a file with --file, or in Python {"id": ..., "values": [...]}'
            )
        if name not in panel.ids:
            raise InputError(f"there is no series {name!r} in this run ({listed_ids(panel.ids)})")
    rows = numbers_in(value) if isinstance(value, str) else value
    num_columns = len(columns)
    try:
        window: np.ndarray = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # the last one: of integers above float64
        window = np.empty((0, 0))
    if num_columns == 1 and window.ndim == 2 and 1 in window.shape:
        window = window.reshape(-1)  # one series, as a row or as a column
    if window.ndim == 1 and num_columns == 1:
        window = window[:, None]
    of = "" if name is None else f"series {name!r}: "
    form = "numbers" if num_columns == 1 else f"rows of {num_columns} numbers ({', '.join(columns)})"
    if window.ndim != 2 or window.shape[1] != num_columns or not np.isfinite(window).all():
        raise InputError(f"{of}expected {form}, oldest first; got {str(value)[:60]!r}")
    if len(window) < lags:
        raise InputError(f"{of}expected at least {lags} {form} (lags); got {len(window)}")
    if not isinstance(times, Sequence):
        raise InputError(f"{of}expected a list as times; got {str(times)[:60]!r}")
    if len(times) not in (0, len(window)):
        raise InputError(f"{of}expected as many times as rows, {len(window):,}; got {len(times):,}")
    return Asked(window[-lags:], steps, name, times)
