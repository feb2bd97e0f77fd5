"""Verifies the rule threshold with numpy alone.

X, label, gate SINGLE | AND | OR, weights, bias; inside: a direction for every split of the examples.
"""

import itertools

import numpy as np

NEAR = 1e-10  # hyperplanes closer than this count as one


def distinct(rows):
    """Return unit normals of the different hyperplanes, and one row of each."""
    size = np.linalg.norm(rows, axis=1)
    which = np.flatnonzero(size > NEAR * size.max(initial=1e-300))
    unit = rows[which] / size[which, None]
    unit *= np.where(unit @ np.cos(1.3 * np.arange(rows.shape[1]) ** 2 + 0.4) < 0, -1.0, 1.0)[:, None]
    order = np.argsort(unit @ np.cos(2.1 * np.arange(rows.shape[1]) ** 2 + 1.0))
    keep, position = [], unit @ np.cos(2.1 * np.arange(rows.shape[1]) ** 2 + 1.0)
    for i in order:
        close = itertools.takewhile(lambda j: position[i] - position[j] <= 9 * NEAR, reversed(keep))  # noqa: B023
        if all(np.abs(unit[i] - unit[j]).max() > NEAR for j in close):
            keep.append(i)
    return unit[keep], which[keep]


def count_cells(normals):
    """Return how many cells different hyperplanes have: each adds as many as the earlier ones cut it into."""
    number, rank = normals.shape
    if number == 0 or rank == 1:
        return 1 + (number > 0)
    if rank == 2:
        return 2 * number
    return 1 + sum(
        count_cells(distinct(normals[:i] @ np.linalg.svd(normals[i][None])[2][1:].T)[0]) for i in range(number)
    )


def check_threshold(e, base):
    """The network's errors, and the fewest: every way to split the examples is listed, every pair looked at again."""
    x, label = np.c_[e["X"], np.ones(len(e["X"]))], e["label"].astype(bool)
    gate = e["gate"]
    base.need(gate in ("SINGLE", "AND", "OR"), f"There is no gate {gate!r}.")
    units = e["X"] @ e["weights"].T + e["bias"] > 0
    errors = float(((units.any(1) if gate == "OR" else units.all(1)) != label).sum())
    left, size, right = np.linalg.svd(x, full_matrices=False)
    keep = size > 1e-12 * size.max()
    normals, _ = distinct(left[:, keep] * size[keep])
    value = e["inside"] @ right[keep].T @ normals.T
    base.need(np.abs(value).min(initial=1.0) > 1e-14, "A direction lies on a hyperplane.")
    given = len(np.unique(np.packbits(value > 0, axis=1), axis=0))
    base.need(given == count_cells(normals), f"{given} splits are given, there are more.")
    splits = e["inside"] @ x.T > 0
    if gate == "SINGLE":
        return errors, float((splits != label).sum(1).min())
    one = splits if gate == "AND" else ~splits
    kind = label if gate == "AND" else ~label
    yes, no = one[:, kind].astype(float), one[:, ~kind].astype(float)
    return errors, min(float((kind.sum() - part @ yes.T + rest @ no.T).min())
                       for part, rest in zip(np.array_split(yes, 1 + len(yes) // 256),
                                             np.array_split(no, 1 + len(no) // 256), strict=True))  # fmt: skip
