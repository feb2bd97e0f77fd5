"""Arithmetic that says how far rounding may have moved its results; the rules of the other files are made of it.

Every bound is computed in float64 together with an error, so that "value - error" is below the true number literally:
sums are split without error, products of n terms are off by gamma(n) of the absolute values at most, in any order of
summation, and logarithms of numpy by 4 units in the last place.
"""

import collections
import math

import numpy as np

U = 2.0**-53
MOST_EIGENVALUES = 1500  # rows or columns, whichever are fewer, of a matrix whose singular values are bounded
TINY = 1e-200  # more than what underflow can take from any sum here, as long as divisors are in RANGE
LEAST, MOST = 1e-60, 1e60  # RANGE of numbers that others are divided by or multiplied with

# loss: computed again from weights in the evidence, or None; size: sum of the absolute values of its terms;
# value, error: the bound that is proved is value - error.
Proved = collections.namedtuple("Proved", "loss size value error products", defaults=(0.0,))  # products: see `prove`


class Refused(Exception):  # noqa: N818
    """The certificate proves less than it says, or has been changed."""


def need(condition, sentence):
    """Raise Refused with the sentence unless the condition holds."""
    if not condition:
        raise Refused(sentence)


def gamma(n):
    """Return by which fraction of its terms' sizes a float64 sum of n products may be off, in any order."""
    return n * U / (1 - n * U)


def total(values):
    """Return the sum of an array and a bound on its error, whatever the order of summation.

    Each number is split into a multiple of one large unit, whose sums have no error, and a rest (Rump, Ogita, Oishi).
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    largest = float(np.abs(x).max(initial=0.0))
    if largest == 0.0:
        return 0.0, 0.0
    need(largest < 1e280, "A number is too large to be added up.")  # NaN fails as well
    sigma = math.ldexp(1.0, math.ceil(math.log2(len(x) + 2)) + math.frexp(largest)[1])
    high = (sigma + x) - sigma
    rest = x - high
    result = float(high.sum()) + float(rest.sum())
    return result, 2.0 * gamma(len(x) + 4) * float(np.abs(rest).sum()) + U * abs(result) * (1 + 8 * U) + TINY


def length(values):
    """Return the Euclidean length of an array, rounded up."""
    x = np.asarray(values, dtype=np.float64)
    largest = float(np.abs(x).max(initial=0.0))
    if largest == 0.0:
        return 0.0
    value, error = total((x / largest) ** 2)
    return largest * math.sqrt((value + error) * (1 + 8 * U)) * (1 + 8 * U) + TINY


def row_lengths(matrix):
    """Return the length of each row of a matrix, rounded up; squares that underflow are below 1e-150 of the largest."""
    largest = max(float(matrix.max(initial=0.0)), -float(matrix.min(initial=0.0)))
    if largest == 0.0:
        return np.zeros(len(matrix))
    step = max(1, 2**20 // max(1, matrix.shape[1]))
    squares = [np.square(matrix[i : i + step] / largest).sum(1) for i in range(0, len(matrix), step)]
    return largest * (np.sqrt(np.concatenate(squares)) * (1 + gamma(matrix.shape[1] + 8)) + 1e-150)


def reach(rows, right):
    """Return the sum over examples of |row| |right|, rounded up."""
    return float(np.sum(row_lengths(rows) * row_lengths(right))) * (1 + gamma(len(rows) + 4))


def xlogx(p):
    """Return p log p, 0 at 0."""
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0)


def entropy(p, off):
    """Return -p log p and bounds on the errors, where p is off by `off` at most.

    The function is concave, so that it changes most downward, at one of the ends.
    """
    value = -xlogx(p)
    low, high = -xlogx(np.maximum(p - off, 0)), -xlogx(p + off)
    return value, np.maximum(value - np.minimum(low, high), 0) + 16 * U * np.maximum(np.abs(high), np.abs(value)) + TINY


def largest_eigenvalue(matrix):
    """Return an upper bound of a symmetric matrix's largest eigenvalue, proved by a Cholesky factorization.

    If the factorization of t I - M - shift I runs through in float64, t I - M is positive semidefinite for a shift of
    gamma(n + 1) times the trace or more (Rump 2006, Verification of Positive Definiteness).
    """
    n = len(matrix)
    size = float(np.abs(matrix).sum(1).max(initial=0.0))  # no eigenvalue is larger (Gershgorin)
    if n == 0 or size == 0.0:
        return 0.0
    need(size < 1e280, "A matrix is too large to be bounded.")  # NaN fails as well
    top, step = max(float(np.linalg.eigvalsh(matrix)[-1]), 0.0), 1e-14 * size + 2 * _shift(n, 2 * size)
    for _ in range(60):
        bound = min(top + step, size * (1 + gamma(n + 2)))
        shift = _shift(n, bound + size)
        try:
            np.linalg.cholesky(bound * np.eye(n) - matrix - shift * np.eye(n))
            return bound
        except np.linalg.LinAlgError:
            step *= 4
    return size * (1 + gamma(n + 2))


def _shift(n, size):
    return 8 * (n + 2) * U * n * size + TINY


def largest_singular_value(matrix):
    """Return an upper bound of a matrix's largest singular value, from the smaller of its two Gram matrices."""
    scale = float(np.abs(matrix).max(initial=0.0))
    if scale == 0.0:
        return 0.0
    need(
        min(matrix.shape) <= MOST_EIGENVALUES,
        f"A matrix of {matrix.shape[0]:,} by {matrix.shape[1]:,} takes too long to verify.",
    )
    a = matrix / scale
    a = a if a.shape[0] >= a.shape[1] else a.T
    gram = a.T @ a
    error = gamma(len(a) + 4) * length(a) ** 2
    return scale * math.sqrt(largest_eigenvalue(0.5 * (gram + gram.T)) + error) * (1 + 8 * U) + TINY
