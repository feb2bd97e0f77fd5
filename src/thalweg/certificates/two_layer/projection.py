"""Projections onto many polyhedral cones at once, with multipliers that prove how long each can be at most."""

import numpy as np

ACCURACY = 1e-13


def project(
    vectors: np.ndarray, signs: np.ndarray, normals: np.ndarray, enough: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Project each vector g `[p, r]` onto its cone $\{u : s_i n_i^\top u \ge 0\}$, all in one batch, by active sets.

    The signs s are int8 `[p, m]`, the normals n of length 1, `[m, r]`. For **any** multipliers $\mu \ge 0$ the length
    of $g + \sum_i \mu_i s_i n_i$ is at least that of the projection, which is the largest value of $g^\top u$ over the
    unit directions of the cone (or 0). So an early end costs tightness only, and a vector no longer than `enough` is
    left alone.

    Returns `g + sum mu s n`, the indices of the normals in use (-1 for none) and their multipliers, each `[p, r]`.

    Source: Lawson and Hanson, "Solving Least Squares Problems" (1974).
    """
    num, rank = vectors.shape
    index, multiplier = np.full((num, rank), -1), np.zeros((num, rank))
    moved = vectors.copy()
    size = np.sqrt((vectors * vectors).sum(1))
    busy = np.flatnonzero(size > enough)
    for _ in range(10 * rank):
        if not len(busy):
            break
        value = (moved[busy] @ normals.T) * signs[busy]
        worst = value.argmin(1)
        low = value[np.arange(len(busy)), worst]
        long = np.sqrt((moved[busy] ** 2).sum(1)) > enough
        room = (index[busy] < 0).any(1)
        # One that is in use already has been met to rounding.
        new = (index[busy] != worst[:, None]).all(1)
        go = (low < -ACCURACY * size[busy]) & long & room & new
        busy, worst = busy[go], worst[go]
        slot = (index[busy] < 0).argmax(1)
        index[busy, slot] = worst
        _solve(vectors, signs, normals, index, multiplier, busy)
        moved[busy] = vectors[busy] + np.einsum("pk,pkr->pr", multiplier[busy], _rows(signs, normals, index, busy))
    return moved, index, multiplier


def _rows(signs: np.ndarray, normals: np.ndarray, index: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The normals in use, turned into their cones; zeros in empty slots, `[which, r, r]`."""
    used = index[which]
    side = np.where(used < 0, 0, np.take_along_axis(signs[which], np.maximum(used, 0), 1))
    return normals[used] * side[:, :, None]


def _solve(
    vectors: np.ndarray,
    signs: np.ndarray,
    normals: np.ndarray,
    index: np.ndarray,
    multiplier: np.ndarray,
    which: np.ndarray,
) -> None:
    """Least squares over the normals in use; those whose multipliers would turn negative leave."""
    rank = vectors.shape[1]
    for _ in range(rank + 1):
        if not len(which):
            return
        rows = _rows(signs, normals, index, which)
        used = index[which] >= 0
        gram = rows @ np.swapaxes(rows, 1, 2)
        gram[:, np.arange(rank), np.arange(rank)] += np.where(used, 1e-15, 1.0)
        right = -np.einsum("pkr,pr->pk", rows, vectors[which])
        best = np.linalg.solve(gram, right[:, :, None])[:, :, 0]
        now = multiplier[which]
        leaves = used & (best <= 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(leaves, now / np.where(leaves, now - best, 1.0), np.inf)
        step = np.minimum(np.nanmin(share, axis=1), 1.0)[:, None]
        after = np.where(used, now + step * (best - now), 0.0)
        gone = leaves & (share <= step)
        after = np.where(gone, 0.0, np.maximum(after, 0.0))
        multiplier[which] = after
        index[which] = np.where(gone, -1, index[which])
        which = which[gone.any(1)]
