"""The positive part of a symmetric matrix, and an ellipsoid around rows."""

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
