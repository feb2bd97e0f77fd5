"""The positive part of a matrix, the nearest moments, an ellipsoid around rows, and how far apart they are."""

from typing import Any, final

import numpy as np
from scipy.linalg import eigh


def positive_part(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positive eigenvalues of a symmetric matrix and their vectors; few of them take half the time."""
    try:
        values, vectors = eigh(matrix, subset_by_value=(0.0, np.inf), driver="evr", check_finite=False)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
    kept = values > 0.0
    return values[kept], vectors[:, kept]


def distances(rows: np.ndarray) -> np.ndarray:
    """Return the distance of each row from the one that is farthest from it, and a little more, `[n]`."""
    return np.array([np.sqrt(((rows - row) ** 2).sum(1).max(initial=0.0)) for row in rows]) * (1.0 + 1e-12)


def hull(rows: np.ndarray) -> np.ndarray:
    """Return H with |row . u| <= |H'u| for every row: the axes of a small ellipsoid around them, `[r, r]`."""
    rank = rows.shape[1]
    weight = np.full(len(rows), 1.0 / len(rows))
    floor = 1e-12 * float((rows**2).sum(1).max(initial=0.0)) * np.eye(rank) + 1e-300 * np.eye(rank)
    spread = np.ones(len(rows))
    lower = np.eye(rank)
    for _ in range(100):
        lower = np.linalg.cholesky((rows.T * weight) @ rows + floor)
        spread = (np.linalg.solve(lower, rows.T) ** 2).sum(0)
        weight = weight * spread
        weight /= max(weight.sum(), 1e-300)
    return lower * np.sqrt(max(float(spread.max(initial=0.0)), 1e-300)) * (1.0 + 1e-9)


@final
class Columns:
    """The moments of (h, a, u) with t and s that are nearest to targets, as a function of the residual."""

    def __init__(self, relaxation: Any, target: np.ndarray, sign: float, beta: float) -> None:
        self.relaxation, self.sign = relaxation, sign
        self.slope = sign * relaxation.unit / (2.0 * beta)
        core = slice(0, relaxation.u.stop)
        self.target = [target[core, part] for part in (relaxation.t, relaxation.s)]
        self.length = [np.sqrt((part[relaxation.u] ** 2).sum(0)) for part in self.target]
        self.kept: list[np.ndarray] = []

    def outputs(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the moments predict, `[n, K]`, and how fast that rises with the residual (or faster)."""
        this, leak = self.relaxation, self.relaxation.problem.leak
        self.kept, total, rate = [], 0.0, 0.0
        for target, length, gain in zip(self.target, self.length, (1.0, -leak), strict=True):
            moved = target.copy()
            moved[this.a] += gain * self.slope * v.T
            if this.single:
                first = moved[0]
                top = np.where(length <= first, first, np.maximum(0.5 * (first + length), 0.0))
                speed = np.where(length <= first, 1.0, np.where(length <= -first, 0.0, 0.5))
                shrink = [(this.u, length)]
            else:
                other, first, speed = np.sqrt((moved[this.a] ** 2).sum(0)), moved[0], np.ones(moved.shape[1])
                low, high = np.minimum(other, length), np.maximum(other, length)
                top = np.where(first >= high, first, 0.5 * (first + high))
                top = np.maximum(np.where(top >= low, top, (first + high + low) / 3.0), 0.0)
                shrink = [(this.u, length), (this.a, other)]
            moved[0] = top
            for part, size in shrink:
                moved[part] *= np.where(size <= top, 1.0, top / np.maximum(size, 1e-300))
            self.kept.append(moved)
            total = total + gain * self.sign * this.unit[:, None] * moved[this.a].T
            rate = rate + (gain**2 * np.abs(self.slope) * this.unit * speed)[:, None] * np.ones_like(v)
        return np.asarray(total), np.asarray(rate)
