"""Cells of a hyperplane arrangement: all ways in which directions can split a set of points.

A direction u splits rows x_i by the signs of x_i . u. The directions with the same signs form a cone, a *cell*; there
are at most 2 sum_{k<r} C(n-1, k) of them for n rows of rank r (Cover). All are found here without moving the data:
parallel rows are one hyperplane, and several hyperplanes may meet in one line. Every cell comes with a direction
inside.
"""

import dataclasses
import itertools
import math
from typing import final

import numpy as np

# Hyperplanes whose unit normals differ by less are one; a sector narrower than this is none.
TOLERANCE = 1e-10
RANK_TOLERANCE = 1e-12  # singular values below this fraction of the largest are zero
CHUNK = 2_000_000


@final
@dataclasses.dataclass(frozen=True)
class Arrangement:
    """The different hyperplanes that rows of numbers are normal to, and their cells."""

    normals: np.ndarray  # of length 1, no two parallel, [m, r]
    owner: np.ndarray  # index of each row's hyperplane, -1 for a row of zeros, [n]
    orientation: np.ndarray  # whether the row points along its normal (1.0), against it (-1.0), or is zero (0.0), [n]
    signs: np.ndarray  # 1 or -1, on which side of each hyperplane each cell lies, int8 [cells, m]
    inside: np.ndarray  # a unit direction inside each cell, [cells, r]
    # Whether the count proves that no cell is missing: as many different ones, each with a direction inside, as such
    # hyperplanes can have at most.
    complete: bool

    def active(self) -> np.ndarray:
        """Return whether `row . u > 0` inside each cell, bool `[cells, n]`; False for rows of zeros."""
        return (self.signs[:, self.owner] * self.orientation) > 0


def arrange(rows: np.ndarray) -> Arrangement:
    """Return the arrangement of the hyperplanes `{u : row . u = 0}`, with all its cells.

    The rows are finite numbers, float64 `[n, r]`, of full rank r >= 1 but for rounding (else a ValueError).

    Source: Cover, "Geometrical and statistical properties of systems of linear inequalities" (1965); Zaslavsky, "Facing
    up to arrangements" (1975).

    Not for more than a few thousand rows in 3 dimensions, or a hundred in 4: look at `most_cells` first.
    """
    if rows.ndim != 2 or rows.shape[1] < 1 or not np.isfinite(rows).all():
        raise ValueError(f"arrange(rows) needs a matrix of finite numbers with a column; got the shape {rows.shape}.")
    normals, owner, orientation = distinct(rows)
    signs, inside = _cells(normals)
    most = most_cells(len(normals), rows.shape[1])
    complete = len(signs) == most or len(signs) == count_cells(normals)
    return Arrangement(normals, owner, orientation, signs, inside, complete)


def reduced(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates `[n, r]` and orthonormal axes `[d, r]` with features = coordinates @ axes.T, r the rank."""
    left, size, right = np.linalg.svd(features, full_matrices=False)
    rank = max(1, int((size > RANK_TOLERANCE * size.max(initial=0.0)).sum()))
    return left[:, :rank] * size[:rank], right[:rank].T


def most_cells(num_rows: int, rank: int) -> int:
    """Return the number of cells in general position, the most there can be: `2 sum_{k < rank} C(num_rows - 1, k)`."""
    return 2 * sum(math.comb(num_rows - 1, k) for k in range(rank)) if num_rows else 1


def count_cells(normals: np.ndarray) -> int:
    """Return the number of cells of different hyperplanes, whatever their position, without listing the cells.

    Each hyperplane adds as many cells as the earlier ones cut it into, so the count needs only ever smaller dimensions.
    The normals `[m, r]` have length 1, and no two are parallel.
    """
    num, rank = normals.shape
    if num == 0 or rank == 0:
        return 1
    if rank <= 2:
        return 2 * min(num, rank * num if rank == 2 else 1)
    total = 1
    for place in range(num):
        basis = _complement(normals[place][None])
        total += count_cells(distinct(normals[:place] @ basis)[0])
    return total


def distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the different hyperplanes that rows `[n, r]` are normal to.

    These are unit normals `[m, r]`, each row's owner `[n]` (-1 for a row of zeros) and its orientation (1.0, -1.0, or
    0.0 for zeros).
    """
    length = np.sqrt((rows * rows).sum(1))
    real = np.flatnonzero(length > TOLERANCE * max(length.max(initial=0.0), np.finfo(float).tiny))
    unit = rows[real] / length[real, None]
    # Which of the two normals is a matter of taste; a direction in no one's data decides.
    flip = np.where(unit @ _somewhere(rows.shape[1], 1.0) < 0.0, -1.0, 1.0)
    unit *= flip[:, None]
    # Close ones are neighbors along another such direction; only runs of neighbors are compared with one another.
    line = unit @ _somewhere(rows.shape[1], 2.0)
    order = np.argsort(line, kind="stable")
    apart = np.diff(line[order]) > 2.0 * TOLERANCE * rows.shape[1]
    same = np.arange(len(unit))
    if not apart.all():
        for run in np.split(order, np.flatnonzero(apart) + 1):
            left = np.sort(run)
            while len(left) > 1:
                close = np.abs(unit[left] - unit[left[0]]).max(1) <= TOLERANCE
                same[left[close]] = left[0]
                left = left[~close]
    kept, number = np.unique(same, return_inverse=True)
    owner, orientation = np.full(len(rows), -1), np.zeros(len(rows))
    owner[real], orientation[real] = number, flip
    return unit[kept], owner, orientation


def _somewhere(rank: int, seed: float) -> np.ndarray:
    return np.cos(seed + np.arange(rank) ** 2 * 1.7)


def _complement(rows: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span what is orthogonal to independent rows `[..., k, r]`: `[..., r, r - k]`."""
    return np.swapaxes(np.linalg.svd(rows, full_matrices=True)[2][..., rows.shape[-2] :, :], -1, -2)


def _cells(normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signs int8 `[cells, m]` and unit directions inside `[cells, r]` for different hyperplanes `[m, r]`."""
    num, rank = normals.shape
    if num == 0:
        return np.zeros((1, 0), np.int8), np.eye(1, rank)
    if rank == 1:
        inside = np.array([[1.0], [-1.0]])
    elif rank == 2:
        inside = _sectors(normals[None])[1]
    else:
        return _by_planes(normals)
    return np.sign(inside @ normals.T).astype(np.int8), inside


def _sectors(normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sectors of arrangements in the plane: index of the arrangement, and a unit direction in the middle.

    The normals `[f, m, 2]` have length 1, or are zero for "no hyperplane".
    """
    there = np.abs(normals).max(2) > 0.0
    angle = np.where(there, np.arctan2(-normals[..., 0], normals[..., 1]), np.inf)  # of a ray on the line
    angle = np.where(angle < 0.0, angle + math.pi, angle)
    rays = np.sort(np.where(angle >= math.pi, np.where(there, angle - math.pi, np.inf), angle), axis=1)
    count = there.sum(1)
    following = np.concatenate([rays[:, 1:], np.full((len(rays), 1), np.inf)], 1)
    following[np.arange(len(rays)), np.maximum(count - 1, 0)] = rays[:, 0] + math.pi
    width = np.where(np.isfinite(rays), following, 0.0) - np.where(np.isfinite(rays), rays, 0.0)
    flat, place = np.nonzero(width > TOLERANCE)
    middle = rays[flat, place] + 0.5 * width[flat, place]
    half = np.stack([np.cos(middle), np.sin(middle)], 1)
    return np.concatenate([flat, flat]), np.concatenate([half, -half])


def _by_planes(normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells by way of their two-dimensional faces: every plane in which hyperplanes meet, sector by sector."""
    num, rank = normals.shape
    if num < rank:  # the rest of the space adds nothing
        basis = np.linalg.svd(normals, full_matrices=True)[2][:num].T
        inside = _cells(distinct(normals @ basis)[0])[1] @ basis.T
        return np.sign(inside @ normals.T).astype(np.int8), inside
    code = np.random.default_rng(0).integers(0, 2**62, num)
    chosen = np.array(list(itertools.combinations(range(num), rank - 2)))
    step = max(1, CHUNK // (2 * num * num))
    met: set[tuple[int, ...]] = set()
    codes, inside = np.zeros(0, np.int64), np.zeros((0, rank))
    for start in range(0, len(chosen), step):
        more = _around_planes(normals, chosen[start : start + step], code, met)
        both: np.ndarray = np.concatenate([codes, more[0]])
        codes, first = np.unique(both, return_index=True)
        inside = np.concatenate([inside, more[1]])[first]
    return np.sign(inside @ normals.T).astype(np.int8), inside


def _around_planes(
    normals: np.ndarray, chosen: np.ndarray, code: np.ndarray, met: set[tuple[int, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of sign patterns, and directions inside, of the cells around planes where chosen hyperplanes meet."""
    rank = normals.shape[1]
    _, spread, right = np.linalg.svd(normals[chosen], full_matrices=True)
    independent = spread[:, -1] > 10.0 * TOLERANCE
    chosen, basis = chosen[independent], np.swapaxes(right[independent][:, rank - 2 :], 1, 2)
    trace = normals @ basis  # [planes, m, 2]
    size = np.sqrt((trace * trace).sum(2))
    through = size <= 10.0 * TOLERANCE
    simple = through.sum(1) == rank - 2
    codes: list[np.ndarray] = [np.zeros(0, np.int64)]
    inside = [np.zeros((0, rank))]
    for plane in np.flatnonzero(~simple):
        members = tuple(np.flatnonzero(through[plane]).tolist())
        if members not in met:
            met.add(members)
            inside.append(_around_corner(normals, np.array(members), basis[plane]))
            codes.append((inside[-1] @ normals.T > 0.0) @ code)
    through, basis, chosen = through[simple], basis[simple], chosen[simple]
    plane, direction = _sectors(np.where(through[..., None], 0.0, trace[simple]))
    middle = np.einsum("srk,sk->sr", basis[plane], direction)
    value = middle @ normals.T
    at = through[plane]
    margin = np.where(at, np.inf, np.abs(value)).min(1)
    bits = ((value > 0.0) & ~at) @ code
    # Directions along which all but one of the plane's hyperplanes stay put; their sums lead to every side of all.
    out = np.swapaxes(np.linalg.pinv(normals[chosen]), 1, 2)
    for side in itertools.product((1.0, -1.0), repeat=rank - 2):
        leave = np.einsum("k,fkr->fr", np.array(side), out)
        leave = (leave / np.maximum(np.abs(leave @ normals.T).max(1), 1.0)[:, None])[plane]
        inside.append(middle + 0.5 * margin[:, None] * leave)
        codes.append(bits + (code[chosen] @ (np.array(side) > 0.0))[plane])
    return np.concatenate(codes), np.concatenate(inside)


def _around_corner(normals: np.ndarray, members: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Directions inside the cells around a plane in which more hyperplanes meet than it takes."""
    out = _complement(basis.T)
    across = _cells(normals[members] @ out)[1] @ out.T
    others = np.setdiff1d(np.arange(len(normals)), members)
    middle = _sectors((normals[others] @ basis)[None])[1] @ basis.T if len(others) else basis.T[:1]
    margin = np.abs(middle @ normals[others].T).min(1, initial=1.0)
    return (middle[:, None] + 0.5 * margin[:, None, None] * across).reshape(-1, normals.shape[1])
