"""Verifies the rules two_layer and threshold with numpy alone; `check.py` beside it calls these functions.

Rule two_layer, besides T, c, loss and dual as in `check.py`, X [n,d], l2, and offset (added to loss and bound):
  leak, hidden_bias, output_bias, skip   slope of the activation on the left; NONE | PENALIZED | FREE; 0 or 1
  U [m,d], u [m], A [m,K], a [K], S [d,K]   the network sigma(X U' + u) A + a + X S
  axes [p,r]  orthonormal; they span X (with a column of ones for a penalized bias; minus its mean for a free one)
  method      fan: rank 2 at most; nothing more, every angle is looked at again
              cells: inside [cells,r], a direction in every cell; block [cells], its arrangement; cell, side, row [.,r],
              multiplier [.,r] >= 0: what shortens the long gradients
              relaxed: leaf [.,4]: output, anchor, sign, how many sides are used; sides, theta, delta and their counts
Rule threshold: X, label, gate SINGLE | AND | OR, weights, bias; inside: a direction for every split of the examples
"""

import itertools
import math

import numpy as np

NEAR = 1e-10  # hyperplanes closer than this count as one
SLACK = 1e-10  # share by which rounding may lift a neuron's value above l2


def check_two_layer(e, base):
    """Weak duality: a dual point at which no neuron's value is above l2 bounds every network of every width."""
    x, l2, leak = e["X"], float(e["l2"]), float(e["leak"])
    base.need(l2 > 0 and e["method"] in METHODS, f"There is no method {e['method']!r}, or l2 is not positive.")
    hidden = x @ e["U"].T + e["u"]
    z = np.where(hidden > 0, hidden, leak * hidden) @ e["A"] + e["a"] + x @ e["S"]
    squares = sum(np.sum(e[name] ** 2) for name in ("U", "A", "S"))
    for name, kind in (("u", e["hidden_bias"]), ("a", e["output_bias"])):
        squares += np.sum(e[name] ** 2) if kind == "PENALIZED" else 0.0
        base.need(kind != "NONE" or not e[name].any(), "There is a bias where none should be.")
    base.need(e["skip"] or not e["S"].any(), "There is an input skip where none should be.")
    c = base.weights(e, len(x))
    loss = np.sum(c * base.terms(e, z)) + 0.5 * l2 * squares + e["offset"]
    value, residual = base.dual_terms(e)
    residual = c * residual
    against = [x.T @ residual] if e["skip"] else []
    if "FREE" in (e["hidden_bias"], e["output_bias"]):
        off = np.abs(residual.sum(0)).max()
        base.need(off <= 1e-12 * np.abs(residual).sum() + 1e-15, f"Residuals must sum to 0, got {off:.3g}.")
    elif e["output_bias"] == "PENALIZED":
        against.append(residual.sum(0))
    top = METHODS[e["method"]](e, x, residual, base.need)
    base.need(top <= l2 * (1 + SLACK), f"The dual is not feasible: a neuron may have the value {top:.9g} > {l2:.9g}.")
    bound = np.sum(c * value) - sum(np.sum(g**2) for g in against) / (2 * l2)
    return loss, bound + e["offset"]


def families(e, x, need):
    """Yield what directions are multiplied with, one matrix for each place where a free bias may put the kink."""
    kind, axes = e["hidden_bias"], e["axes"]
    inputs = x - x.mean(0) if kind == "FREE" else np.c_[x, np.ones(len(x))] if kind == "PENALIZED" else x
    need(np.abs(axes.T @ axes - np.eye(axes.shape[1])).max() <= 1e-10, "The axes are not orthonormal.")
    rows = inputs @ axes
    off = np.abs(rows @ axes.T - inputs).max()
    need(off <= 1e-9 * np.abs(inputs).max() + 1e-300, f"The inputs leave the span of the axes by {off:.3g}.")
    for anchor in np.unique(x, axis=0, return_index=True)[1] if kind == "FREE" else [-1]:
        moved = rows - rows[anchor] if kind == "FREE" else rows
        yield int(anchor), np.where((x == x[anchor]).all(1)[:, None] & (kind == "FREE"), 0.0, moved)


def by_fan(e, x, residual, need):
    """Turn once around the plane; between two events the value is a matrix times the direction."""
    top, leak = 0.0, float(e["leak"])
    for _, rows in families(e, x, need):
        rows = np.c_[rows, np.zeros(len(rows))][:, :2] if rows.shape[1] < 2 else rows
        need(rows.shape[1] == 2, "A fan needs rank 2.")
        angle = np.arctan2(rows[:, 1], rows[:, 0])[:, None] + [[-math.pi / 2, math.pi / 2]]
        events = np.sort(np.mod(angle.ravel(), 2 * math.pi))
        ends = np.r_[events[1:], events[0] + 2 * math.pi]
        for low, high in zip(events, ends, strict=True):
            middle = np.array([math.cos((low + high) / 2), math.sin((low + high) / 2)])
            matrix = (residual * np.where(rows @ middle > 0, 1.0, leak)[:, None]).T @ rows  # [K, 2]
            for end in (low, high):
                top = max(top, np.linalg.norm(matrix @ [math.cos(end), math.sin(end)]))
            inner = np.linalg.svd(matrix)[2][0]
            inner = inner if inner @ middle >= 0 else -inner
            if inner @ middle >= math.cos((high - low) / 2) - 1e-12:
                top = max(top, np.linalg.norm(matrix @ inner))
    return top


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


def by_cells(e, x, residual, need):
    """All cells, proved complete by their number: gradients, shortened by multipliers, bound the value in each."""
    need(residual.shape[1] == 1, "Cells are for one output.")
    top, first, leak = 0.0, 0, float(e["leak"])
    shortened = {}
    for i, (cell, side) in enumerate(zip(e["cell"].tolist(), e["side"].tolist(), strict=True)):
        shortened[cell, side] = i
    need(e["multiplier"].min(initial=0.0) >= 0, "A multiplier is negative.")
    for number, (_, rows) in enumerate(families(e, x, need)):
        inside = e["inside"][e["block"] == number]
        normals, _ = distinct(rows)
        value = inside @ normals.T
        need(np.abs(value).min(initial=1.0) > 1e-14, "A direction lies on a hyperplane.")
        patterns = np.unique(np.packbits(value > 0, axis=1), axis=0)
        most = 2 * sum(math.comb(len(normals) - 1, k) for k in range(normals.shape[1])) if len(normals) else 1
        need(len(patterns) in (most, count_cells(normals) if len(patterns) < most else most),
             f"{len(patterns)} cells are given, there are more.")  # fmt: skip
        sign = np.where(inside @ rows.T > 0, 1.0, -1.0)
        gradient = (np.where(sign > 0, 1.0, leak) * residual[:, 0]) @ rows
        unit = rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-300)[:, None]
        mine = (e["cell"] >= first) & (e["cell"] < first + len(inside))
        cell, row = e["cell"][mine] - first, e["row"][mine]
        push = np.where(row < 0, 0.0, e["multiplier"][mine] * np.take_along_axis(sign[cell], np.maximum(row, 0), 1))
        vector = e["side"][mine][:, None] * gradient[cell] + np.einsum("pk,pkr->pr", push, unit[row])
        for side in (1, -1):
            size = np.linalg.norm(gradient, axis=1)
            here = e["side"][mine] == side
            np.minimum.at(size, cell[here], np.linalg.norm(vector[here], axis=1))
            top = max(top, size.max(initial=0.0))
        first += len(inside)
    need(first == len(e["inside"]), "Some directions belong to no arrangement.")
    return top


def by_leaves(e, x, residual, need):
    """A semidefinite bound for every case: delta > 0 and theta are free, the eigenvalue is verified by Cholesky."""
    starts = {name: np.r_[0, np.cumsum(e[f"{name}_count"])] for name in ("sides", "theta", "delta")}
    top, cases, leak = np.zeros(residual.shape[1]), {}, float(e["leak"])
    all_rows = dict(families(e, x, need))
    for i, (output, anchor, sign, used) in enumerate(e["leaf"].tolist()):
        sides, theta, delta = (e[name][at[i] : at[i + 1]] for name, at in starts.items())
        word = "".join("+" if side > 0 else "-" for side in sides)
        cases.setdefault((output, anchor, sign), []).append(word)
        rows, v, sides = all_rows[anchor], sign * residual[:, output], sides[:used]
        order = np.argsort(-np.abs(v) * np.linalg.norm(rows, axis=1), kind="stable")[: len(sides)]
        tail, v = leak * (v @ rows), (1 - leak) * v
        tail = tail + (np.maximum(sides, 0) * v[order]) @ rows[order]
        size, v = np.abs(v[order]), np.where(np.isin(np.arange(len(v)), order), 0.0, v)
        plus, minus = rows[v > 0] * v[v > 0][:, None], -rows[v < 0] * v[v < 0][:, None]
        need(len(theta) == len(minus) + len(sides) and theta.min(initial=0) >= 0, "theta does not fit.")
        need(theta[: len(minus)].max(initial=0) <= 1 and delta.min() > 0, "theta or delta is out of range.")
        minus = np.concatenate([minus, -(sides * size)[:, None] * rows[order]])
        columns = np.vstack([tail + 0.5 * plus.sum(0) - theta @ minus, 0.5 * plus])
        matrix = (columns / delta[:, None]).T @ columns
        value = np.linalg.eigvalsh(matrix)[-1] * (1 + 1e-10) + 1e-300
        np.linalg.cholesky((value * (1 + 1e-9) + 1e-290) * np.eye(len(matrix)) - matrix)
        top[output] = max(top[output], math.sqrt(delta.sum() * value))
    for output, anchor, sign in itertools.product(range(len(top)), all_rows, (1, -1)):
        words = sorted(cases.get((output, anchor, sign), []))
        free = all(not b.startswith(a) for a, b in itertools.pairwise(words))
        need(free and sum(2.0 ** -len(word) for word in words) == 1.0, "The cases do not cover every direction.")
    return float(np.linalg.norm(top))


METHODS = {"fan": by_fan, "cells": by_cells, "relaxed": by_leaves}


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
