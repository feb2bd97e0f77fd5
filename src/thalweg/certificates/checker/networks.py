"""Verifies the rule two_layer with numpy alone; `check.py` beside it calls `check_two_layer`.

Besides what `losses.py` needs, X [n,d], l2, and offset (added to loss and bound):
  leak, hidden_bias, output_bias, skip   slope of the activation on the left; NONE | PENALIZED | FREE; 0 or 1
  U [m,d], u [m], A [m,K], a [K], S [d,K]   the network sigma(X U' + u) A + a + X S
  axes [p,r]  directions of X (with a column of ones for a penalized bias; minus its mean for a free one), near
              orthonormal; what X has beside them is paid for. Not there: X as it is
  method      fan: rank 2 at most; nothing more, every angle is looked at
              cells: cell, side, row [.,k], multiplier [.,k] >= 0: what shortens the gradients that are too long in
              their cells, which are listed again in integers
              signs: theta [.,n] in [0,1], delta [.,1+n] > 0 for each place of the kink, output and sign in turn
              moments: see `moments.py`
The residuals R prove the bound if no neuron u, |u| = 1, has a value |R' sigma(X u)| above l2 count.
"""

import math

import numpy as np

MOST = 400_000  # cells
ANGLE = 1e-13  # more than what rounding does to an angle, and to a number from one


def check_two_layer(e, base):
    """Weak duality: a dual point at which no neuron's value is above l2 bounds every network of every width."""
    x, l2, leak = e["X"], float(e["l2"]), float(e["leak"])
    kinds = e["hidden_bias"], e["output_bias"]
    base.need(l2 > 0 and e["method"] in METHODS, f"There is no method {e['method']!r}, or l2 is not positive.")
    base.need(set(kinds) <= {"NONE", "PENALIZED", "FREE"}, "There is no such kind of bias.")
    base.need("FREE" not in kinds or e["free_bias"], "A free bias needs residuals that sum to 0.")
    base.need(x.ndim == 2 and len(x) == len(e["residual"]), "X and the residual have different numbers of examples.")
    units, outputs = len(e["U"]), e["residual"].shape[1]
    wide = x.shape[1]
    shapes = {"U": (units, wide), "u": (units,), "A": (units, outputs), "a": (outputs,), "S": (wide, outputs)}
    base.need(all(e[key].shape == shape for key, shape in shapes.items()), "The weights do not fit X and residual.")
    base.affordable(units * (x.size + len(x) * outputs), 4 * max(len(x) * units, len(x) * outputs, wide * outputs))
    places = len(np.unique(x, axis=0)) if kinds[0] == "FREE" else 1
    rank = e.get("axes", x).shape[1] + 1
    work = {"fan": (places * 10_000 * len(x) * outputs, 50 * len(x) * outputs),
            "signs": (places * outputs * (10 * (len(x) + rank) * rank**2 + 2000 * len(x) + 4e6),
                      8 * (len(x) + rank) * rank),
            "moments": (40 * (len(x) + rank) ** 3, 10 * (len(x) + rank) ** 2), "cells": (0, 100 * x.size)}  # fmt: skip
    base.affordable(*work[e["method"]])
    hidden = x @ e["U"].T + e["u"]
    z = np.where(hidden > 0, hidden, leak * hidden) @ e["A"] + e["a"] + x @ e["S"]
    squares = sum(np.sum(e[name] ** 2) for name in ("U", "A", "S"))
    for name, kind in zip("ua", kinds, strict=True):
        squares += np.sum(e[name] ** 2) if kind == "PENALIZED" else 0.0
        base.need(kind != "NONE" or not e[name].any(), "There is a bias where none should be.")
    base.need(e["skip"] or not e["S"].any(), "There is an input skip where none should be.")
    loss, size = base.loss_sum(e, z)
    offset, more = float(e["offset"]), 0.5 * l2 * squares
    value, error = base.dual_sum(e)
    base.need(0 <= offset < math.inf, "The penalty of what stays as it is must be a number and not negative.")
    count, scale, plain = float(e["count"]), float(e["scale"]), base.residual(e)
    parts = [x.T @ plain] if e["skip"] else []
    parts += [plain.sum(0)[None]] if e["output_bias"] == "PENALIZED" and not e["free_bias"] else []
    against = np.concatenate(parts) * (scale / count) if parts else np.zeros((0, 1))
    off = scale / count * (base.gamma(len(x) + 8) * base.reach(x, plain) + base.TINY) if parts else 0.0
    below, wrong = base.part("linear").conjugate({"regularizer": "l2", "l2": l2}, base, against, off)
    if scale > 0 and plain.any():
        scaled, plain, limit = base.part("moments").in_unit(e, x, plain, l2 * count / scale, base)
        METHODS[e["method"]](scaled, x, plain, limit, base)
    error = error / count * (1 + 4 * base.U) + wrong + 8 * base.U * (abs(value) / count + below + abs(offset))
    return base.Proved(loss + more + offset, size + more + abs(offset), value / count - below + offset, error)


def by_fan(e, x, plain, limit, base):
    """Turn once around the plane; between two events the value is the length of a matrix times the direction.

    The matrix is added up from the middle of the widest sector, where no sign is in doubt. Events that rounding puts in
    the wrong order bound sectors no wider than ANGLE, at whose ends the value hardly differs.
    """
    leak = float(e["leak"])
    for rows, off, longer in base.part("moments").placed(e, x, base):
        rows = np.c_[rows, np.zeros(len(rows))] if rows.shape[1] < 2 else rows
        base.need(rows.shape[1] == 2, "A fan needs rank 2.")
        turned = np.arctan2(rows[:, 1], rows[:, 0])[:, None] + [[-math.pi / 2, math.pi / 2]]
        angles = np.mod(turned.ravel(), 2 * math.pi)
        order = np.argsort(angles)
        high = np.r_[angles[order[1:]], angles[order[0]] + 2 * math.pi]
        first = int(np.argmax(high - angles[order]))
        order, high = np.roll(order, -first), np.roll(high, -first)
        low = angles[order]
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        slopes = np.where(rows @ [math.cos(middle[0]), math.sin(middle[0])] > 0, 1.0, leak)
        sign = np.where(order % 2 == 0, 1 - leak, leak - 1)[:, None]  # an example begins to be active, or ends
        matrix = [(plain * rows[:, [c]])[order // 2] * sign for c in (0, 1)]
        for c, part in enumerate(matrix):
            part[0] = slopes @ (plain * rows[:, [c]])
            np.cumsum(part, 0, out=part)  # [events, K]
        a, b, c = (matrix[0] ** 2).sum(1), (matrix[1] ** 2).sum(1), (matrix[0] * matrix[1]).sum(1)
        top, spread = 0.5 * np.arctan2(2 * c, a - b), np.hypot(0.5 * (a - b), c)
        ends = np.maximum(np.cos(2 * (low - top)), np.cos(2 * (high - top)))
        away = np.abs(np.mod(top - middle + math.pi / 2, math.pi) - math.pi / 2)
        square = 0.5 * (a + b) + spread * np.where(away <= half + 1e-12, 1.0, ends)
        square += (base.gamma(plain.shape[1]) + 64 * base.U) * (a + b)
        rounding = (ANGLE + base.gamma(3 * len(x) + 16)) * 3 * (1 + abs(leak)) * base.reach(rows, plain)
        value = math.sqrt(max(float(square.max()), 0.0)) * (1 + 4 * base.U) + rounding
        most = base.part("moments").allowed(e, plain, limit, off, longer, base)
        base.need(value <= most, f"The dual is not feasible: a neuron may have the value {value:.9g} > {most:.9g}.")


def vectors(e, x, cells):
    """Yield the rows as vectors of integers and as floats, one set for each place where a free bias may put the kink.

    Each column is divided by a power of two, which changes the sign of no product with all directions.
    """
    whole = list(zip(*(cells.integers(column)[0] for column in x.T), strict=True))
    kind = e["hidden_bias"]
    if kind != "FREE":
        ones = [1] * (kind == "PENALIZED")
        yield [(*row, *ones) for row in whole], np.c_[x, np.ones(len(x))] if ones else x
        return
    for anchor in np.unique(x, axis=0, return_index=True)[1]:
        yield [tuple(k - m for k, m in zip(row, whole[anchor], strict=True)) for row in whole], x - x[anchor]


def cells_price(number, rows, rank):
    """Return about how many products take as long as so many cells."""
    return number * (0.6 * rank**3 + 0.1 * rows) * 18_000


def signs_of(rows, cells):
    """Return in which cells of their hyperplanes the rows are positive (1) or negative (-1), int8 [cells, n]."""
    normals = cells.distinct(rows)
    place, zero = {normal: i for i, normal in enumerate(normals)}, (0,) * len(rows[0])
    real = np.array([any(row) for row in rows])
    owner = [place[cells.primitive(tuple(row), zero)] if any(row) else 0 for row in rows]
    signs = cells.cells(normals)
    turn = np.where([tuple(row) < zero for row in rows], -1, 1)
    return signs[:, owner] * (turn * real).astype(np.int8) if normals else np.zeros((1, len(rows)), np.int8)


def by_cells(e, x, plain, limit, base):
    """Every cell: the gradient, shortened by multipliers of its walls, bounds the value of all neurons in it."""
    base.need(plain.shape[1] == 1, "Cells are for one output.")
    cells, leak, start, listed = base.part("cells"), float(e["leak"]), 0, 0
    base.need(e["multiplier"].min(initial=0.0) >= 0, "A multiplier is negative.")
    for whole, rows in vectors(e, x, cells):
        normals = cells.distinct(whole)
        rank = len(cells.eliminate([list(v) for v in normals])[1])
        number = cells.most_cells(len(normals), rank)
        listed += number
        base.need(listed <= MOST, "There are too many cells to list.")
        base.affordable(cells_price(number, len(rows), rank) * (1 + cells.most_bits(rows) / 400),
                        number * len(rows) * rank**2 / 8)  # fmt: skip
        signs, size = signs_of(whole, cells), base.row_lengths(rows)
        gradient = np.concatenate([np.where(part > 0, 1.0, leak) @ (plain * rows)
                                   for part in np.array_split(signs, 1 + signs.size // 4_000_000)])  # fmt: skip
        wide = max(1.0, abs(leak)) * base.reach(rows, plain)
        rounding = base.gamma(len(x) + rows.shape[1] + 16) * wide
        value = np.repeat((base.row_lengths(gradient) + rounding)[:, None], 2, 1)  # of both signs
        mine = np.flatnonzero((e["cell"] >= start) & (e["cell"] < start + len(signs)))
        base.affordable(0, mine.size * (0.25 * len(rows) + 4 * rows.shape[1] * e["row"].shape[1]))
        cell, side, row = e["cell"][mine] - start, e["side"][mine].astype(float), e["row"][mine]
        base.need((np.abs(side) == 1).all(), "A side is neither 1 nor -1.")
        push = e["multiplier"][mine] * np.take_along_axis(signs[cell], row, 1)
        moved = side[:, None] * gradient[cell] + np.einsum("pk,pkr->pr", push, rows[row])
        more = base.gamma(push.shape[1] + 16) * (np.abs(push) * size[row]).sum(1) * 2
        shorter = base.row_lengths(moved) + rounding + more + 2 * base.gamma(4) * value[cell, 0]
        np.minimum.at(value, (cell, (side < 0).astype(int)), shorter)
        top = float(value.max())
        base.need(top <= limit, f"The dual is not feasible: a neuron may have the value {top:.9g} > {limit:.9g}.")
        start += len(signs)


def by_signs(e, x, plain, limit, base):
    """Longest sums over signs, bounded by a semidefinite relaxation."""
    base.part("moments").verify_signs(e, x, plain, limit, base)


def by_moments(e, x, plain, limit, base):
    """Products of numbers that are never negative prove that a quadratic form of every neuron is not."""
    base.part("moments").verify(e, x, plain, limit, base)


METHODS = {"fan": by_fan, "cells": by_cells, "signs": by_signs, "moments": by_moments}
