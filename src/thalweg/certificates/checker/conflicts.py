"""Conflicts: rows of a few examples that no layer puts right, proved by exact or enclosed multipliers, no tolerance.

A row says that one class scores a point higher than another one does: own over rival at x. Multipliers l > 0 with
sum l ((x,1) in the block of own, -(x,1) in that of rival) = 0 exactly prove that no layer puts all rows of a set right.
"""

import importlib

import numpy as np

CELLS = importlib.import_module(".cells" if __package__ else "cells", __package__ or None)
UNIT = 2.0**-53
MAX_PRICE = 4e6  # of all sets, about microseconds
MAX_NUMBERS = 3e7


def blocks(points, own, rival):
    """Return rows [m, (K-1) c]: a point [m,c] in its own class's block, negative in the rival's; the first has none."""
    classes = np.unique(np.r_[own, rival])
    return np.concatenate([points * ((own == k).astype(int) - (rival == k))[:, None] for k in classes[1:]], 1)


def multipliers(x, own, rival, *, margin=1.0, limit=MAX_PRICE):
    """Return multipliers > 0, rounded, that prove a set of rows to be a conflict, or None; and about what it costs.

    For as many rows as a vertex has, a linear system is solved in float64 and the distance of the true solution is
    bounded; else, or where the bound is too wide (`margin` times), integers are eliminated without rounding.
    """
    number, x = len(x), x[:, (x != x[0]).any(0)]
    if number == 2 and not x.size:  # one point with two classes
        return (np.array([0.5, 0.5]) if own[0] == rival[1] and own[1] == rival[0] else None), 1.0
    width = (len(np.unique(np.r_[own, rival])) - 1) * (x.shape[1] + 1)
    price = 100.0 + 1e-2 * number * width + (1e-3 * number**3 if width + 1 == number else 0.0)
    if price > limit:
        return None, price
    found = enclosed(x, own, rival, margin) if width + 1 == number else None
    if found is None:
        price += x.shape[1] * (30.0 + 0.02 * number * CELLS.most_bits(x)) + 0.5 * number * width * min(number, width)
        if price > limit:
            return None, price
        rows = blocks(np.array(CELLS.integer_rows(x), dtype=object), own, rival).T.tolist()
        bits = min(number, width) * max(int(abs(k)).bit_length() for row in rows for k in row)
        price += number * width * min(number, width) * (1.7e-3 * bits + 4e-7 * bits**2)
        found = positive_kernel(rows) if price <= limit else None
    return found, price


def enclosed(x, own, rival, margin):
    """Return l with sum l row = 0 and sum l = 1 if an enclosure proves that it exists and is positive, else None."""
    with np.errstate(all="ignore"):
        moved = x - x[0]  # each entry within UNIT of its size; the columns' scale is a power of two
        moved = np.ldexp(moved, -np.frexp(np.abs(moved).max(0))[1])
    matrix = blocks(np.c_[moved, np.ones(len(x))], own, rival).T
    matrix = np.concatenate([matrix, np.ones((1, len(x)))])
    if not np.isfinite(matrix).all():
        return None
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    right = np.zeros(len(x))
    right[-1] = 1.0
    guess = inverse @ right
    guess = guess + inverse @ (right - matrix @ guess)
    size, by = np.abs(matrix), np.abs(inverse)
    if not max(by.max(), np.abs(guess).max()) < 2.0**100:
        return None
    slack = 2.0 * (len(x) + 4) * UNIT  # of a sum of so many products of numbers within UNIT, twice over
    tiny = 2.0**-900
    far = np.abs(np.eye(len(x)) - inverse @ matrix).sum(1) + slack * (1.0 + (by @ size).sum(1)) + tiny
    rest = np.abs(right - matrix @ guess) + slack * (right + size @ np.abs(guess)) + tiny
    step = (by @ rest) * (1.0 + slack) + tiny
    if not (np.isfinite(step).all() and far.max() < 0.5):
        return None
    error = step + 1.01 * far * (step.max() / (1.0 - far.max()))
    return guess if (guess > 1.01 * margin * error).all() else None


def positive_kernel(rows):
    """Return the only solution l of rows l = 0 with sum 1 if it is positive, rounded; by elimination in integers."""
    number = len(rows[0])
    pivot, used = CELLS.eliminate(rows, above=True)
    free = [column for column in range(number) if column not in used]
    if len(free) != 1:
        return None
    solution = [pivot] * number
    for row, column in zip(rows, used, strict=False):
        solution[column] = -row[free[0]]
    total = sum(solution)
    return np.array([k / total for k in solution]) if total and all(k * total > 0 for k in solution) else None


def conflicts(x, own, rival, owner, base):
    """Return how many sets there are; refuses one that does not prove an error."""
    base.need(x.size <= MAX_NUMBERS, "The sets are too large to be verified here.")
    order, left = np.argsort(owner, kind="stable"), MAX_PRICE
    number = 1 + np.count_nonzero(np.diff(owner[order]))
    base.need(100.0 * number <= left, "The sets take too long to be verified here.")
    sets = np.split(order, np.flatnonzero(np.diff(owner[order])) + 1) if len(owner) else []
    for mine in sets:
        found, price = multipliers(x[mine], own[mine], rival[mine], limit=left)
        left -= price
        base.need(left >= 0, "The sets take too long to be verified here.")
        base.affordable(base.MICROSECOND * price)
        base.need(found is not None, "A set does not prove an error: its hulls have no point in common.")
    return len(sets)
