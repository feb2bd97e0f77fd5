"""What a user gives to be forecast from: a window of numbers, and how many steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.errors import InputError
from thalweg.tasks.reading.numeric import numbers_in


def asked_window(value: Any, most_steps: int, columns: Sequence[str], lags: int) -> tuple[np.ndarray, int]:
    """Return the last `lags` rows of an input, `[lags, columns]`, and how many steps it asks for.

    An InputError tells what is wrong with it, in half a sentence.
    """
    steps = 1
    if isinstance(value, Mapping):
        steps = value.get("steps", 1)
        value = value.get("values")
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= most_steps:
            raise InputError(f"steps must be a whole number from 1 to {most_steps}; got {steps!r}")
    rows = numbers_in(value) if isinstance(value, str) else value
    num_columns = len(columns)
    try:
        window: np.ndarray = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        window = np.empty((0, 0))
    if num_columns == 1 and window.ndim == 2 and 1 in window.shape:
        window = window.reshape(-1)  # one series, as a row or as a column
    if window.ndim == 1 and num_columns == 1:
        window = window[:, None]
    form = "numbers" if num_columns == 1 else f"rows of {num_columns} numbers ({', '.join(columns)})"
    if window.ndim != 2 or window.shape[1] != num_columns or not np.isfinite(window).all():
        raise InputError(f"expected {form}, oldest first; got {str(value)[:60]!r}")
    if len(window) < lags:
        raise InputError(f"expected at least {lags} {form} (lags); got {len(window)}")
    return window[-lags:], steps
