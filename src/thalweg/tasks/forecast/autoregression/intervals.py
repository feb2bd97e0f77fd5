"""Intervals of forecasts by split conformal prediction: how far off they were on rows that were not fitted."""

import math
from typing import Final

import numpy as np

LEVEL: Final = 0.95


def radii(errors: np.ndarray, level: float = LEVEL) -> np.ndarray:
    r"""Return how far the truth may be from a forecast, of each step and series, `[steps, columns]`.

    The $\lceil (n + 1) \cdot \text{level} \rceil$-th smallest of the n absolute errors; NaN where that is more than n
    (95 % takes 19 errors). A new error that is exchangeable with these lies within it with at least that probability.

    Args:
        errors: `[steps, origins, columns]`, NaN where one is not known.
        level: in (0, 1).

    Example:
        >>> radii(np.arange(19.0).reshape(1, 19, 1)).tolist(), radii(np.zeros((1, 18, 1))).tolist()
        ([[18.0]], [[nan]])

    Source: Papadopoulos, Proedrou, Vovk and Gammerman (2002), Inductive Confidence Machines for Regression.
    """
    found = np.full((errors.shape[0], errors.shape[2]), np.nan)
    for step in range(errors.shape[0]):
        for column in range(errors.shape[2]):
            sizes = np.abs(errors[step, :, column])
            sizes = np.sort(sizes[np.isfinite(sizes)])
            # A little less, so that 0.95 * 20 is 19 in floating point, too.
            rank = math.ceil((len(sizes) + 1) * level - 1e-9)
            if rank <= len(sizes):
                found[step, column] = sizes[rank - 1]
    return found
