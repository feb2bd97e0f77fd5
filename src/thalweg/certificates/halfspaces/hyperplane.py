"""One hyperplane: columns in one scale, the linear program of the widest margin, a bias that is proved right."""

import dataclasses
import time
from fractions import Fraction
from typing import Any, final

import numpy as np
from scipy import sparse
from scipy.optimize import OptimizeResult, linprog

from thalweg.certificates.checker.cells import UNIT, integers
from thalweg.certificates.exact import exactly
from thalweg.errors import InputError

Matrix = np.ndarray | sparse.sparray | sparse.spmatrix
MAX_EXACT = 1_000_000  # numbers of the rows whose position is computed without rounding
ATTEMPTS = 8
LARGEST = Fraction(np.finfo(float).max)


@final
@dataclasses.dataclass(frozen=True)
class Scaled:
    """Rows of numbers and the same rows with each column moved by one of its values and scaled by a power of two.

    A hyperplane with a bias can follow both. The moved and scaled entries lie in [-1, 1]; each is within 2^-53 of its
    size of the true one.
    """

    rows: Any  # [n, d], dense or CSR
    moved: Any  # [n, d]
    shift: np.ndarray  # [d]
    exponent: np.ndarray  # [d]
    constant: np.ndarray  # whether a column is one number throughout, bool [d]

    def among(self, which: np.ndarray) -> "Scaled":
        """Return a part of the rows, in the same scale."""
        return Scaled(self.rows[which], self.moved[which], self.shift, self.exponent, self.constant)

    def dense(self, which: np.ndarray) -> np.ndarray:
        """Return some of the rows as they were given."""
        part = self.rows[which]
        return part.toarray() if sparse.issparse(part) else part

    def weights(self, moved: np.ndarray) -> np.ndarray:
        """Return weights for the rows as they were given, for weights of the moved ones; 0 for constant columns."""
        with np.errstate(over="ignore"):
            return np.where(self.constant, 0.0, np.ldexp(moved, -self.exponent))


def scaled(x: Matrix) -> Scaled:
    """Bring the columns of finite numbers to one scale, or raise an InputError."""
    rows: Any = sparse.csr_matrix(x) if sparse.issparse(x) else exactly(x, "features")
    if sparse.issparse(rows):
        rows = sparse.csr_matrix((exactly(rows.data, "features"), rows.indices, rows.indptr), rows.shape)
    if rows.ndim != 2:
        raise InputError(f"The features must be a matrix [examples, columns]; got the shape {list(rows.shape)}.")
    values = rows.data if sparse.issparse(rows) else rows
    if not np.isfinite(values).all():
        raise InputError("The features hold NaN or infinity; correct the data.")
    if sparse.issparse(rows):  # most of their entries are zero, which is where they stay
        size = np.asarray(abs(rows).max(0).todense()).ravel() if len(rows.data) else np.zeros(rows.shape[1])
        exponent = np.frexp(size)[1]
        moved = sparse.csr_matrix((np.ldexp(rows.data, -exponent[rows.indices]), rows.indices, rows.indptr), rows.shape)
        return Scaled(rows, moved, np.zeros(rows.shape[1]), exponent, size == 0.0)
    middle = len(rows) // 2
    shift = np.partition(rows, middle, axis=0)[middle] if rows.size else np.zeros(rows.shape[1])
    with np.errstate(over="ignore"):
        moved = rows - shift
    far = ~np.isfinite(moved).all(0)
    shift = np.where(far, 0.0, shift)
    moved = np.where(far, rows, moved)
    size = np.abs(moved).max(0, initial=0.0)
    exponent = np.frexp(size)[1]
    return Scaled(rows, np.ldexp(moved, -exponent), shift, exponent, size == 0.0)


def widest_margin(data: Scaled, sign: np.ndarray, seconds: float) -> tuple[np.ndarray, float, np.ndarray]:
    """Return weights for the moved rows, their margin and a multiplier for each row, all only as good as HiGHS's."""
    num, dimension = data.moved.shape
    signed = data.moved.multiply(sign[:, None]) if sparse.issparse(data.moved) else data.moved * sign[:, None]
    columns: list[Any] = [-signed, -sign[:, None], np.ones((num, 1))]
    left = sparse.hstack(columns, format="csr") if sparse.issparse(signed) else np.concatenate(columns, 1)
    solved = solve_program(
        np.r_[np.zeros(dimension + 1), -1.0], left, [(-1.0, 1.0)] * dimension + [(None, None), (None, 1.0)], seconds
    )
    return solved.x[:dimension], float(solved.x[-1]), np.maximum(-solved.ineqlin.marginals, 0.0)


def solve_program(
    cost: np.ndarray, left: Any, bounds: list, seconds: float, method: str = "highs-ds"
) -> OptimizeResult:
    """Minimize under left @ x <= 0; an InputError where that does not end within the time."""
    if seconds <= 0.0:
        raise InputError("The time for the linear program was over before it began; allow more.")
    start = time.perf_counter()
    solved = linprog(
        cost, A_ub=left, b_ub=np.zeros(left.shape[0]), bounds=bounds, method=method, options={"time_limit": seconds}
    )
    if solved.x is None or solved.status not in (0, 4):
        late = solved.status == 1 or time.perf_counter() - start >= seconds
        raise InputError(
            f"The linear program did not end within {seconds:.3g} s; allow more."
            if late
            else f"The linear program ended with: {solved.message}"
        )
    return solved


def proved_hyperplane(data: Scaled, sign: np.ndarray, moved: np.ndarray) -> tuple[np.ndarray, float, float] | None:
    """Return weights, bias and margin of a hyperplane with the given direction that is right on all rows, or None.

    The rows are those that were given: the ones that may be nearest to it are placed without rounding, and the others
    are proved to be farther. Weights are at most 1.
    """
    largest = float(np.abs(data.weights(moved)).max(initial=0.0))
    if not (0.0 < largest < np.inf):
        return None
    weight = data.weights(moved) / largest
    for attempt in range(ATTEMPTS):  # other multiples have other biases to choose from
        tried = weight * (1.0 - 0.07 * attempt)
        found = _bias(data, sign, tried)
        if isinstance(found, tuple):
            return tried, *found
        if found is False:
            return None
    return None


def _bias(data: Scaled, sign: np.ndarray, weight: np.ndarray) -> tuple[float, float] | bool:
    """Return a bias between the two kinds of rows and the margin; True: none is a float64; False: none is there."""
    with np.errstate(over="ignore", invalid="ignore"):
        by = np.ldexp(weight, data.exponent)  # for the moved rows, which leave small numbers to add
        value, size = data.moved @ by, abs(data.moved) @ np.abs(by)
        error = 2.0 * (len(weight) + 4) * UNIT * size + 2.0**-1000
    above, below = np.flatnonzero(sign > 0), np.flatnonzero(sign < 0)
    if np.isfinite(error).all():
        high, low = float((value - error)[above].min()), float((value + error)[below].max())
        if low < high:
            center = Fraction(-0.5 * (low + high))  # of the moved rows
            exact = center - (exact_products(data.shift[None], weight)[0] if data.shift.any() else 0)
            bias = _rounded(exact)
            margin = min(Fraction(high) + center, -Fraction(low) - center) - abs(Fraction(bias) - exact)
            if margin > 0:
                return bias, float(margin)
        above = above[(value - error)[above] <= (value + error)[above].min()]
        below = below[(value + error)[below] >= (value - error)[below].max()]
    if (len(above) + len(below)) * len(weight) > MAX_EXACT:
        return False
    ends = {-1: max(exact_products(data.dense(below), weight)), 1: min(exact_products(data.dense(above), weight))}
    if ends[-1] >= ends[1]:
        return False
    bias = _rounded(-(ends[-1] + ends[1]) / 2)
    margin = min(ends[1] + Fraction(bias), -ends[-1] - Fraction(bias))
    return (bias, _rounded(margin)) if margin > 0 else True


def _rounded(number: Fraction) -> float:
    """Return the nearest float64, the largest ones for what is beyond them."""
    return float(min(max(number, -LARGEST), LARGEST))


def exact_products(rows: np.ndarray, weight: np.ndarray) -> list[Fraction]:
    """Return row . weight without rounding."""
    weights, low = integers(weight)
    found = []
    for row in rows:
        whole, unit = integers(row)
        total = sum(k * w for k, w in zip(whole, weights, strict=True))
        found.append(Fraction(total) * Fraction(2) ** (unit + low))
    return found
