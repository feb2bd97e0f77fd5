"""All ways in which a hyperplane splits examples, proved to be all, and the best pair of them."""

from fractions import Fraction
from typing import Final

import numpy as np

from thalweg.certificates.checker.cells import (
    UNIT,
    cells,
    count_cells,
    independent,
    most_cells,
)
from thalweg.certificates.halfspaces.cells import arrange

MAX_CELLS: Final = 1_500_000
# Cells that are listed in integers: where directions in float64 may leave one out, and for the checker.
MAX_EXACT: Final = 150_000
BLOCK: Final = 1 << 18
_ONES: Final = np.array([k.bit_count() for k in range(256)], np.uint8)  # for NumPy below 2.0


def all_splits(vectors: list[tuple[int, ...]]) -> np.ndarray | None:
    """Return all sign patterns of different vectors (x, 1) of integers, bool `[splits, n]`: how hyperplanes split them.

    Directions are found in float64, their signs verified; the list is complete if it has as many as there can be at
    most (Cover), or as many as there are, counted in integers. Where it has not, cells are listed in integers. None:
    they are too many, or too many for that.
    """
    normals = independent(vectors, _most_rank(len(vectors), MAX_CELLS))
    if normals is None:
        return None
    number, rank = len(normals), len(normals[0])
    if most_cells(number, rank) <= MAX_EXACT // 30:
        return cells(normals) > 0
    found = _by_directions(normals)
    if len(found) == most_cells(number, rank) or len(found) == count_cells(normals):
        return found
    return cells(normals) > 0 if most_cells(number, rank) <= MAX_EXACT else None


def as_decimals(points: np.ndarray) -> tuple[list[tuple[int, ...]], int] | None:
    """Return rows (x, 1) as integers, x read as decimal numbers, and the digits after the point; None: more than 9."""
    for digits in range(10):
        if (np.round(points, digits) == points).all():
            scale = 10**digits
            return [(*(round(Fraction(k) * scale) for k in row), 1) for row in points.tolist()], digits
    return None


def _most_rank(number: int, most: int) -> int:
    """Return the highest rank at which so many points have at most so many splits, at least 1."""
    rank = 1
    while rank < number and most_cells(number, rank + 1) <= most:
        rank += 1
    return rank if most_cells(number, rank) <= most else 0


def _by_directions(normals: list[tuple[int, ...]]) -> np.ndarray:
    """Return the different sign patterns of directions found in float64, those whose signs are certain."""
    bits = [max(abs(v[k]) for v in normals).bit_length() for k in range(len(normals[0]))]
    rows = np.array([[k / (1 << size) for k, size in zip(v, bits, strict=True)] for v in normals])
    left, size, right = np.linalg.svd(rows, full_matrices=False)
    if size[-1] <= 1e-14 * size[0]:
        return np.zeros((0, len(rows)), bool)
    inside = arrange(left).inside @ (right / size[:, None])
    value = inside @ rows.T
    error = (len(bits) + 4) * 4.0 * UNIT * (np.abs(inside) @ np.abs(rows).T)
    certain = (np.abs(value) > error).all(1)
    packed = np.packbits(value[certain] > 0.0, axis=1)
    words = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
    words[:, : packed.shape[1]] = packed
    first = np.unique(words.view([("", np.uint64)] * (words.shape[1] // 8)).ravel(), return_index=True)[1]
    return value[certain][first] > 0.0


def best_pair(active: np.ndarray, labels: np.ndarray) -> tuple[int, list[int]]:
    """Fewest errors of `a and b` over pairs of splits `[cells, n]`, and the pair."""
    positive, negative = _packed(active[:, labels]), _packed(active[:, ~labels])
    num_positive, num_negative = int(labels.sum()), int((~labels).sum())
    lost, taken = num_positive - _count(positive), _count(negative)
    # A split that loses more and takes more than another one of the same positives can never be better.
    order = np.lexsort((taken, lost))
    alone = lost + taken
    first = int(alone.argmin())
    best, pair = int(alone[first]), [first, first]
    for start in np.argsort(alone, kind="stable")[:200]:  # a good pair early cuts the search
        both = num_positive - _count(positive & positive[start]) + _count(negative & negative[start])
        place = int(both.argmin())
        if both[place] < best:
            best, pair = int(both[place]), [int(start), place]
    levels = [order[lost[order] == level] for level in np.unique(lost)]
    for high, right in enumerate(levels):
        if lost[right[0]] >= best:
            break
        for left in levels[: high + 1]:
            best, pair = _scan(positive, negative, lost, taken, left, right, (num_positive, num_negative), best, pair)
    return best, pair


def _scan(
    positive: np.ndarray,
    negative: np.ndarray,
    lost: np.ndarray,
    taken: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    totals: tuple[int, int],
    best: int,
    pair: list[int],
) -> tuple[int, list[int]]:
    """Look at all pairs of two groups, each sorted by how many negatives it takes, that can have fewer errors."""
    start = 0
    while start < len(left):
        # Together they lose at least what the worse one does, and take at least taken_a + taken_b - all negatives.
        most = best - 1 - int(lost[right[0]]) + totals[1] - int(taken[left[start]])
        reach = int(np.searchsorted(taken[right], most, side="right"))
        if reach == 0:
            break
        rows = left[start : start + max(1, BLOCK // reach)]
        others = right[:reach]
        both = totals[0] - _count(positive[rows, None] & positive[others])
        both = both + _count(negative[rows, None] & negative[others])
        place = int(both.argmin())
        i, j = divmod(place, reach)
        if both[i, j] < best:
            best, pair = int(both[i, j]), [int(rows[i]), int(others[j])]
        start += len(rows)
    return best, pair


def _packed(bits: np.ndarray) -> np.ndarray:
    """Bool `[cells, n]` as words uint64 `[cells, words]`."""
    words = -(-max(1, bits.shape[1]) // 64)
    whole = np.zeros((len(bits), 64 * words), bool)
    whole[:, : bits.shape[1]] = bits
    return np.packbits(whole, axis=1).view(np.uint64)


def _count(words: np.ndarray) -> np.ndarray:
    """Number of ones in the last dimension's words."""
    ones = np.bitwise_count(words) if hasattr(np, "bitwise_count") else _ONES[words[..., None].view(np.uint8)].sum(-1)
    return ones[..., 0].astype(np.int16) if words.shape[-1] == 1 else ones.sum(-1, dtype=np.int16)
