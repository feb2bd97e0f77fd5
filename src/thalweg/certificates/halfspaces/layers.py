"""Whether a linear layer gives every example's own class the highest score, proved either way."""

import dataclasses
import itertools
import math
import time
from fractions import Fraction
from typing import Any, final

import numpy as np
from scipy import sparse

from thalweg.certificates.checker.conflicts import blocks, multipliers
from thalweg.certificates.checker.halfspaces import MAX_NUMBERS, right
from thalweg.certificates.halfspaces.hyperplane import Matrix, Scaled, exact_products, scaled, solve_program
from thalweg.certificates.halfspaces.separable import MARGIN, PRICE, like_integers, separate
from thalweg.certificates.halfspaces.simplex import widest
from thalweg.errors import InputError

MAX_ENTRIES = 40_000_000  # of the linear program
SMALL = 400  # rows of a program in integers
EXACT_SECONDS = 5.0


@final
@dataclasses.dataclass(frozen=True)
class Rows:
    """Demands on scores that no layer meets together: at point `points[i]`, class `own[i]` above class `rival[i]`."""

    points: np.ndarray
    own: np.ndarray
    rival: np.ndarray


def layer_separable(x: Matrix, labels: np.ndarray, *, seconds: float = math.inf) -> tuple[bool, np.ndarray, np.ndarray]:
    r"""Say whether a linear layer with a bias gives every example's own class strictly the highest score.

    Either answer is proved about the numbers as they are: the layer's scores are compared without rounding, or a few
    demands are proved to contradict one another. Under softmax or several hinges with hard targets, all weights
    positive, no smoothing and no penalty, the loss of such a layer has the infimum 0, which no weights attain.

    Args:
        x: finite numbers, `[n, d]`, dense or sparse.
        labels: class ids from 0 on, `[n]`.
        seconds: how long it may take.

    Returns:
        Whether it is, and weights `[K, d]` and biases `[K]` that do it (zeros where there are none).

    Raises:
        InputError: for NaN, or where neither is proved (within the time).

    Example:
        >>> layer_separable(np.array([[-1.0], [0.0], [1.0]]), np.array([0, 1, 2]))[0]
        True

    Not for ties: a class that shares the highest score is not above the others.
    """
    labels, data = np.asarray(labels), scaled(x)
    num, dimension = data.moved.shape
    if labels.shape != (num,) or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        raise InputError(f"Expected {num} class ids from 0 on; got {labels.dtype} of the shape {labels.shape}.")
    num_classes = int(labels.max(initial=0)) + 1
    found = separating_layer(data, labels.astype(int), num_classes, time.perf_counter() + seconds)
    if isinstance(found, Rows):
        return False, np.zeros((num_classes, dimension)), np.zeros(num_classes)
    return True, *found


def separating_layer(
    data: Scaled, labels: np.ndarray, num_classes: int, end: float
) -> tuple[np.ndarray, np.ndarray] | Rows:
    """Return the weights and biases of a layer that is right on all rows, or demands that none meets together."""
    classes = np.unique(labels)
    weights, bias = np.zeros((num_classes, data.moved.shape[1])), np.zeros(num_classes)
    if len(classes) < 2:
        bias[classes] = 1.0
        return weights, bias
    if len(classes) == 2:
        part = separate(data, np.where(labels == classes[1], 1.0, -1.0), end)
        if not part.separable:
            own = labels[part.points]
            return Rows(part.points, own, classes.sum() - own)
        bias[:] = -_reach(data, part.weight, part.bias)  # of classes that no example has
        weights[classes[1]], bias[classes] = part.weight, (0.0, part.bias)
        return weights, bias
    scores, multiplier, demands = _program(data, labels, classes, end)
    weights[classes] = data.weights(scores[:, :-1])
    bias[:] = -2.0 * _reach(data, np.abs(weights).max(0), float(np.abs(scores[:, -1]).max()))
    bias[classes] = _biases(data, weights[classes], scores[:, -1])
    if proved_layer(data, labels, weights, bias):
        return weights, bias
    named = np.flatnonzero(multiplier > 1e-9 * multiplier.max(initial=0.0))
    return _demands(data, labels, demands, named, end)


def _program(
    data: Scaled, labels: np.ndarray, classes: np.ndarray, end: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores `[K, d + 1]` for moved rows, a multiplier for each demand, and the demands: row and rival."""
    num, width = data.moved.shape[0], data.moved.shape[1] + 1
    design: Any = sparse.hstack([sparse.csr_matrix(data.moved), np.ones((num, 1))], format="csr")
    if design.nnz * len(classes) * 2 > MAX_ENTRIES:
        raise InputError(
            f"{design.nnz * len(classes) * 2:,} entries are too many for the linear program of a separating layer."
        )
    place = np.searchsorted(classes, labels)
    parts, demands = [], []
    for other, rival in enumerate(classes):
        rows = np.flatnonzero(labels != rival)
        part = design[rows].tocoo()
        shape = (len(rows), len(classes) * width)
        ahead = sparse.coo_matrix((part.data, (part.row, place[rows][part.row] * width + part.col)), shape)
        behind = sparse.coo_matrix((part.data, (part.row, other * width + part.col)), shape)
        parts.append(sparse.hstack([behind - ahead, np.ones((len(rows), 1))]))
        demands.append(np.stack([rows, np.full(len(rows), rival)], 1))
    left: Any = sparse.vstack(parts, format="csr")
    size = len(classes) * width
    bounds = [(-1.0, 1.0) if k % width < width - 1 else (None, None) for k in range(size)]
    bounds[width - 1] = (0.0, 0.0)  # only differences of biases count
    solved = solve_program(
        np.r_[np.zeros(size), -1.0], left, [*bounds, (None, 1.0)], end - time.perf_counter(), method="highs"
    )
    multiplier = np.maximum(-solved.ineqlin.marginals, 0.0)
    return solved.x[:-1].reshape(len(classes), width), multiplier, np.concatenate(demands)


def _biases(data: Scaled, weights: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Return biases for rows as they were given, for biases of the moved ones."""
    if not data.shift.any():
        return moved
    return np.array(
        [float(Fraction(b) - exact_products(data.shift[None], w)[0]) for w, b in zip(weights, moved, strict=True)]
    )


def _reach(data: Scaled, weight: np.ndarray, bias: float) -> float:
    """Return a score that none is as far from 0 as."""
    return 1.0 + abs(bias) + 2.0 * float((abs(data.rows) @ np.abs(weight)).max(initial=0.0))


def proved_layer(data: Scaled, labels: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> bool:
    """Return whether the layer is proved to be right on all rows."""
    if data.rows.shape[0] * weights.size > MAX_NUMBERS or not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        return False
    try:
        return bool(right(data.dense(np.arange(len(labels))), labels, weights, bias))
    except ValueError:  # too many rows are too close
        return False


def _demands(data: Scaled, labels: np.ndarray, demands: np.ndarray, named: np.ndarray, end: float) -> Rows:
    """Return demands that contradict one another, or raise an InputError."""
    rows = Rows(demands[named, 0], labels[demands[named, 0]], demands[named, 1])
    if _proved(data, rows):
        return rows
    if len(demands) <= SMALL:
        points, (own, rival) = demands[:, 0], (labels[demands[:, 0]], demands[:, 1])
        integers = blocks(np.array(like_integers(data.dense(points))[0], dtype=object), own, rival)
        found = widest(integers.tolist(), min(EXACT_SECONDS, end - time.perf_counter()))
        if found is not None and not found[0]:
            rows = Rows(points[found[1]], own[found[1]], rival[found[1]])
            if _proved(data, rows):
                return rows
    raise InputError(
        f"No layer was proved to be right on all of these {len(labels):,} examples, and none was proved to be wrong on "
        "one: the widest margin is too close to 0 for float64."
    )


def _proved(data: Scaled, rows: Rows) -> bool:
    return (
        len(rows.points) >= 2
        and multipliers(data.dense(rows.points), rows.own, rows.rival, margin=MARGIN, limit=PRICE)[0] is not None
    )


def pairs_of_classes(labels: np.ndarray, answers: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of classes, the ones first that are confused most."""
    classes = np.unique(labels).tolist()
    wrong = np.flatnonzero(labels != answers)
    counts: dict[tuple[int, int], int] = dict.fromkeys(itertools.combinations(classes, 2), 0)
    for one, two in zip(labels[wrong].tolist(), answers[wrong].tolist(), strict=True):
        pair = (min(one, two), max(one, two))
        if pair in counts:
            counts[pair] += 1
    return sorted(counts, key=lambda pair: -counts[pair])
