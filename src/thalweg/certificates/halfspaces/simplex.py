"""The linear program of the widest margin in integers, for the few rows on which float64 cannot decide."""

import time
from collections.abc import Sequence

import numpy as np


def widest(rows: Sequence[Sequence[int]], seconds: float) -> tuple[bool, np.ndarray] | None:
    """Return whether some y has row . y > 0 for all rows, and y (rounded); or else the indices of a minimal conflict.

    It maximizes t with row . y >= t and |y_k| <= 1 without rounding. A minimal conflict is a set of rows whose sum with
    multipliers > 0, unique up to scale, is zero. None: it did not end within the given time.

    Source: Dantzig (1947); Edmonds, "Systems of distinct representatives and linear algebra" (1967), for pivots in
    integers; Bland (1977), for its end.
    """
    # The dual starts feasible: l, p, q >= 0, sum_i l_i row_i + p - q = 0, sum l = 1, minimize sum (p + q). All entries
    # are integers over one denominator, the last pivot. Columns: l | p | q | right side; the last row: reduced costs.
    number, width = len(rows), len(rows[0])
    table = np.zeros((width + 2, number + 2 * width + 1), dtype=object)
    table[:width, :number] = np.array(rows, dtype=object).T
    table[:width, number : number + width] = np.eye(width, dtype=int)
    table[:width, number + width : -1] = -np.eye(width, dtype=int)
    table[width, :number] = table[width, -1] = 1
    basis = [number + k for k in range(width)] + [0]
    for k in range(width):
        table[k] = table[k] - table[k, 0] * table[width]
        if table[k, -1] < 0:
            table[k], basis[k] = -table[k], number + width + k
    table[width + 1, number:-1] = 1
    table[width + 1] = table[width + 1] - table[:width].sum(0)
    denominator, stalled, end = 1, 0, time.perf_counter() + seconds
    while True:
        costs = table[width + 1, :-1]
        negative = np.flatnonzero(costs < 0)
        if not len(negative):
            break
        # The steepest column, but the first one after a while without progress, so that no basis comes back.
        entering = int(negative[0] if stalled > width else negative[int(np.argmin(costs[negative]))])
        if time.perf_counter() > end:
            return None
        leaving = _leaving(table, basis, entering)
        stalled = stalled + 1 if table[leaving, -1] == 0 else 0
        pivot, main = table[leaving, entering], table[leaving].copy()
        table = (table * pivot - np.outer(table[:, entering], main)) // denominator
        table[leaving], basis[leaving], denominator = main, entering, pivot
    if table[width + 1, -1] == 0:
        return False, np.array(sorted(i for k, i in enumerate(basis) if i < number and table[k, -1] > 0))
    return True, np.array([int(k - denominator) / int(denominator) for k in table[width + 1, number : number + width]])


def _leaving(table: np.ndarray, basis: list[int], entering: int) -> int:
    """Return the row of the smallest ratio; of equal ones that of the first variable."""
    places = [i for i in range(len(basis)) if table[i, entering] > 0]
    best = places[0]
    for i in places[1:]:
        one, two = table[i, -1] * table[best, entering], table[best, -1] * table[i, entering]
        if one < two or (one == two and basis[i] < basis[best]):
            best = i
    return best
