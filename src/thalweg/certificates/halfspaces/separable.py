"""Whether a hyperplane, or a linear layer, is right on all examples; and how many errors none can avoid."""

import dataclasses
from typing import Any, final

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from thalweg.errors import InputError

TOLERANCE = 1e-9
Matrix = np.ndarray | sparse.sparray | sparse.spmatrix


@final
@dataclasses.dataclass(frozen=True)
class Separation:
    r"""A hyperplane that is right on all examples, or the few examples that prove there is none.

    Args:
        separable: which of the two it is.
        weight: w, `[d]`; zeros where there is no such hyperplane.
        bias: b.
        margin: the smallest $s_i (w^\top x_i + b)$ with $\|w\|_\infty \le 1$; 0 where there is none.
        points: indices of examples whose two hulls have a point in common, at most d + 2; empty where separable.
        multiplier: $\lambda > 0$ of these, summing to 1, with $\sum \lambda_i s_i (x_i, 1) = 0$.
        residual: the largest entry of that sum.
    """

    separable: bool
    weight: np.ndarray
    bias: float
    margin: float
    points: np.ndarray
    multiplier: np.ndarray
    residual: float


def separability(x: Matrix, sign: np.ndarray) -> Separation:
    r"""Say whether a hyperplane separates two kinds of examples, by a linear program, with a proof either way.

    The program maximizes the margin t with $s_i (w^\top x_i + b) \ge t$, $\|w\|_\infty \le 1$, $t \le 1$. If $t > 0$
    its solution is the hyperplane. Else its dual names at most d + 2 examples, a point in the hulls of both kinds
    (Farkas, Gordan; Kirchberger), which anyone can check.

    Args:
        x: finite numbers, `[n, d]`, dense or sparse.
        sign: -1 or 1, `[n]`.

    Raises:
        InputError: for NaN, or signs that are others.

    Example:
        >>> corners = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
        >>> exclusive_or = separability(corners, np.array([-1, -1, 1, 1]))
        >>> exclusive_or.separable, exclusive_or.points.tolist(), exclusive_or.multiplier.tolist()
        (False, [0, 1, 2, 3], [0.25, 0.25, 0.25, 0.25])

    Source: Gordan (1873); Farkas (1902); Kirchberger (1903).

    Not for a soft margin: one wrong label makes data inseparable; see `disjoint_conflicts` for how many must be wrong.
    """
    rows, sign = _checked(x, sign)
    num, dimension = rows.shape
    nothing = np.zeros(0, int), np.zeros(0)
    if len(np.unique(sign)) < 2:  # one kind only: any constant of its sign
        bias = float(sign[0]) if num else 1.0
        return Separation(True, np.zeros(dimension), bias, 1.0, *nothing, 0.0)
    scale = _scale(rows)
    signed = rows.multiply(sign[:, None]).tocsr() if sparse.issparse(rows) else rows * sign[:, None]
    columns: list[Any] = [-signed / scale, -sign[:, None], np.ones((num, 1))]
    left = sparse.hstack(columns, format="csr") if sparse.issparse(rows) else np.concatenate(columns, 1)
    bounds = [(-1.0, 1.0)] * dimension + [(None, None), (None, 1.0)]
    solved = linprog(
        np.r_[np.zeros(dimension + 1), -1.0], A_ub=left, b_ub=np.zeros(num), bounds=bounds, method="highs-ds"
    )
    if solved.x is None:
        raise InputError(f"The linear program of the separating hyperplane ended with: {solved.message}")
    weight, bias = solved.x[:dimension] / scale, float(solved.x[dimension])
    margin = float((sign * (rows @ weight + bias)).min())
    if margin > TOLERANCE:
        size = float(np.abs(weight).max(initial=0.0))
        share = 1.0 / max(size, 1e-300) if size > 0.0 else 1.0
        return Separation(True, share * weight, share * bias, share * margin, *nothing, 0.0)
    multiplier = np.maximum(-solved.ineqlin.marginals, 0.0)
    points = np.flatnonzero(multiplier > 1e-12 * multiplier.max(initial=0.0))
    multiplier, residual = _polished(rows, sign, points, multiplier[points])
    points, multiplier = points[multiplier > 0.0], multiplier[multiplier > 0.0]
    if residual > 1e-7 * max(1.0, scale):
        raise InputError(
            f"These examples are neither separated by more than {TOLERANCE:g} nor proved inseparable (the hulls come "
            f"within {residual:.2g} of each other); scale the features."
        )
    return Separation(False, np.zeros(dimension), 0.0, 0.0, points, multiplier, residual)


def disjoint_conflicts(x: Matrix, sign: np.ndarray, *, at_most: int | None = None) -> list[Separation]:
    """Return sets of examples without a common member of which no hyperplane is right on all: each costs an error.

    Their number is a proved lower bound on the errors of every hyperplane. They are found one after the other (up to
    `at_most`), each among what the ones before left over, so that there may be more.

    Source: Amaldi, Pfetsch and Trotter, "On the maximum feasible subsystem problem, IISs and IIS-hypergraphs" (2003).
    """
    rows, sign = _checked(x, sign)
    left, found = np.arange(len(sign)), []
    while at_most is None or len(found) < at_most:
        part = separability(rows[left], sign[left])
        if part.separable:
            break
        found.append(dataclasses.replace(part, points=left[part.points]))
        left = np.setdiff1d(left, found[-1].points)
    return found


def layer_separable(x: Matrix, labels: np.ndarray) -> tuple[bool, np.ndarray, np.ndarray]:
    r"""Say whether a linear layer with a bias gives every example's own class the highest score.

    With softmax or several hinges and no penalty, the loss of such a layer has the infimum 0 (or its label smoothing's
    floor), which no weights attain: larger ones are always better.

    Args:
        x: finite numbers, `[n, d]`.
        labels: class ids from 0 on, `[n]`.

    Returns:
        Whether it is, and weights `[K, d]` and biases `[K]` that do it (zeros where there are none).

    Example:
        >>> layer_separable(np.array([[-1.0], [0.0], [1.0]]), np.array([0, 1, 2]))[0]
        True
    """
    labels = np.asarray(labels)
    num_classes = int(labels.max(initial=0)) + 1
    rows, _ = _checked(x, np.ones(len(labels)))
    num, dimension = rows.shape
    design: Any = sparse.hstack([sparse.csr_matrix(rows), np.ones((num, 1))], format="csr")
    scale = _scale(rows)
    width = dimension + 1
    blocks = []
    for other in range(num_classes):
        others = np.flatnonzero(labels != other)
        if not len(others):
            continue
        part = (design[others] / scale).tocoo()
        mine = labels[others][part.row]
        shape = (len(others), num_classes * width)
        ahead = sparse.coo_matrix((part.data, (part.row, mine * width + part.col)), shape)
        behind = sparse.coo_matrix((part.data, (part.row, other * width + part.col)), shape)
        blocks.append(sparse.hstack([behind - ahead, np.ones((len(others), 1))]))
    if not blocks:
        return True, np.zeros((num_classes, dimension)), np.zeros(num_classes)
    left: Any = sparse.vstack(blocks, format="csr")
    solved = linprog(
        np.r_[np.zeros(num_classes * width), -1.0],
        A_ub=left,
        b_ub=np.zeros(left.shape[0]),
        bounds=[(-1.0, 1.0)] * (num_classes * width) + [(None, 1.0)],
        method="highs",
    )
    if solved.x is None:
        raise InputError(f"The linear program of the separating layer ended with: {solved.message}")
    weights = solved.x[:-1].reshape(num_classes, width) / scale
    scores = np.asarray(design @ weights.T)
    own = scores[np.arange(num), labels].copy()
    scores[np.arange(num), labels] = -np.inf
    if num_classes > 1 and float((own - scores.max(1)).min()) > TOLERANCE / scale:
        return True, weights[:, :dimension], weights[:, dimension]
    return num_classes == 1, np.zeros((num_classes, dimension)), np.zeros(num_classes)


def _checked(x: Any, sign: np.ndarray) -> tuple[Any, np.ndarray]:
    values = x.data if sparse.issparse(x) else np.asarray(x, dtype=float)
    if not np.isfinite(values).all():
        raise InputError("The features hold NaN or infinity; correct the data.")
    sign = np.asarray(sign, dtype=float)
    if not np.isin(sign, (-1.0, 1.0)).all() or len(sign) != x.shape[0]:
        raise InputError(f"Expected {x.shape[0]} signs -1 or 1, one per example; got {len(sign)}.")
    return (x.tocsr() if sparse.issparse(x) else np.asarray(x, dtype=float)), sign


def _scale(x: Any) -> float:
    largest = float(np.abs(x.data if sparse.issparse(x) else x).max(initial=0.0))
    return largest if largest > 0.0 else 1.0


def _polished(x: Any, sign: np.ndarray, points: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, float]:
    """Multipliers that sum to 1 and make the signed points' sum as small as float64 can."""
    rows = x[points]
    rows = rows.toarray() if sparse.issparse(rows) else rows
    signed = np.column_stack([rows, np.ones(len(points))]) * sign[points][:, None]
    system, right = np.vstack([signed.T, np.ones(len(points))]), np.zeros(signed.shape[1] + 1)
    right[-1] = 1.0
    best = start / start.sum()
    for _ in range(2):
        better = best + np.linalg.lstsq(system, right - system @ best, rcond=None)[0]
        if better.min() <= 0.0:
            break
        best = better / better.sum()
    return best, float(np.abs(best @ signed).max())
