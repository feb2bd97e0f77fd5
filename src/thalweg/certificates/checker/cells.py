"""Hyperplanes, their cells and signs in integer arithmetic: nothing is rounded, no tolerance says what is equal.

Numbers in float64 are integers times a power of two, so each column of a matrix becomes integers exactly. Directions u
are told apart by the signs of v . u for vectors v; those with the same signs, none of them zero, are a cell.
"""

import functools
import math

import numpy as np

UNIT = 2.0**-53  # half the distance of 1.0 from the next number
MOST = 5_000_000  # numbers that are multiplied as integers; a row counts as 40 more


def integers(column):
    """Return integers k and an exponent e with column = k 2^e exactly; finite float64 numbers."""
    mantissa, exponent = np.frexp(np.asarray(column, dtype=float))
    whole, exponent = np.ldexp(mantissa, 53).astype(np.int64), exponent.astype(int) - 53
    low = int(exponent[whole != 0].min(initial=10**6)) if (whole != 0).any() else 0
    return [k << (e - low) if k else 0 for k, e in zip(whole.tolist(), exponent.tolist(), strict=True)], low


def most_bits(x):
    """Return how many bits the integers of `integer_rows` have at most."""
    exponent = np.frexp(x[x != 0])[1]
    return 54 + int(exponent.max() - exponent.min()) if exponent.size else 1


def integer_rows(x):
    """Return each row (x, 1) as integers, after moving and scaling the columns, which changes no sign pattern."""
    columns = []
    for column in np.asarray(x, dtype=float).T:
        whole = integers(column)[0]
        moved = [k - whole[0] for k in whole]
        common = math.gcd(*moved) or 1
        columns.append([k // common for k in moved])
    return list(zip(*columns, [1] * len(x), strict=True))


def primitive(vector, zero):
    """Return the vector divided by its entries' greatest common divisor, its first entry but zeros positive."""
    common = math.gcd(*vector)
    if vector < zero:
        common = -common
    return vector if common == 1 else tuple([k // common for k in vector])


def distinct(vectors):
    """Return the different hyperplanes that vectors of integers are normal to, as primitive vectors, sorted."""
    zero = (0,) * len(vectors[0]) if len(vectors) else ()
    return sorted({primitive(tuple(v), zero) for v in vectors if any(v)})


def eliminate(rows, most=math.inf, *, above=False):
    """Return the last pivot and the pivots' columns of a matrix of integers, which is eliminated in place.

    Nothing is rounded (Bareiss 1968). Above the pivots entries are eliminated on request; it ends after `most` pivots
    and one.
    """
    pivot, used = 1, []
    for column in range(len(rows[0]) if rows else 0):
        top = len(used)
        place = next((i for i in range(top, len(rows)) if rows[i][column]), None)
        if place is None:
            continue
        rows[top], rows[place] = rows[place], rows[top]
        main, head = rows[top], rows[top][column]
        for i in range(0 if above else top + 1, len(rows)):
            by = rows[i][column]
            if i != top:
                rows[i] = [(head * a - by * b) // pivot for a, b in zip(rows[i], main, strict=True)]
        pivot = head
        used.append(column)
        if len(used) > most:
            break
    return pivot, used


def independent(vectors, most=math.inf):
    """Return vectors of integers in as few of their coordinates as tell the same; None where these are too many."""
    _, used = eliminate([list(v) for v in vectors], most)
    return None if len(used) > most else [tuple([v[column] for column in used]) for v in vectors]


def on_hyperplane(vectors, normal):
    """Return other vectors as functions on a hyperplane: in the coordinates but the first in which its normal is."""
    place = next(i for i, k in enumerate(normal) if k)
    head, rest = normal[place], normal[:place] + normal[place + 1 :]
    if len(rest) == 2:
        first, second = rest
        kept = (1, 2) if place == 0 else (0, 2) if place == 1 else (0, 1)
        return [(head * v[kept[0]] - v[place] * first, head * v[kept[1]] - v[place] * second) for v in vectors]
    return [
        tuple([head * k - v[place] * n for k, n in zip(v[:place] + v[place + 1 :], rest, strict=True)]) for v in vectors
    ]


def count_cells(vectors):
    """Return how many cells the hyperplanes have that vectors of integers are normal to (equal ones once, no zeros).

    Each hyperplane adds as many cells as the ones before it cut it into: count(n_1 .. n_m) = 1 + sum_i count(n_j on the
    hyperplane of n_i, j < i), of which the different ones count. Any rank and position; 1 without a hyperplane.
    """
    return _count(distinct(vectors))


def _count(normals):
    if len(normals) < 3 or len(normals[0]) < 3:
        return 2 * len(normals) if normals else 1
    zero = (0,) * (len(normals[0]) - 1)
    total = 1
    for i, normal in enumerate(normals):
        total += _count(list({primitive(v, zero) for v in on_hyperplane(normals[:i], normal)}))
    return total


def most_cells(number, rank):
    """Return the most cells that so many hyperplanes can have in so many dimensions (Cover 1965)."""
    return 2 * sum(math.comb(number - 1, k) for k in range(rank)) if number else 1


def cells(vectors):
    """Return the signs of vectors of integers, none zero, in all cells: int8 [cells, n], 1 or -1, each cell once.

    Every cell has a facet, so the cells are those on both sides of the cells on each hyperplane; down to the plane, in
    which lines are sorted by their angle.
    """
    vectors = [tuple(v) for v in vectors]
    zero = (0,) * len(vectors[0]) if vectors else ()
    unit = [primitive(v, zero) for v in vectors]
    kept = {v: i for i, v in enumerate(dict.fromkeys(unit))}
    side = np.array([-1 if v < zero else 1 for v in vectors], np.int8)
    return _cells(list(kept), np.array([kept[v] for v in unit], int), side, {})


def _cells(normals, owner, side, known):
    """Signs of the cells on a plane: `owner` and `side` say which of its hyperplanes each original one is there."""
    number = len(normals)
    if number == 0:
        return np.zeros((1, len(owner)), np.int8)
    if len(normals[0]) <= 2:
        signs = _around(normals)
        return signs[:, owner] * side
    found = []
    for k in range(number):
        gone = (owner == k) | (side == 0)
        key = gone.tobytes()
        if key not in known:
            others = [j for j in range(number) if j != k]
            restricted = on_hyperplane([normals[j] for j in others], normals[k])
            zero = (0,) * len(restricted[0]) if others else ()
            unit = [primitive(v, zero) for v in restricted]
            kept = {v: i for i, v in enumerate(dict.fromkeys(unit))}
            place, turn = np.zeros(number, int), np.zeros(number, np.int8)
            for j, v, u in zip(others, restricted, unit, strict=True):
                place[j], turn[j] = kept[u], 1 if (v < zero) == (u < zero) else -1
            known[key] = _cells(list(kept), place[owner], turn[owner] * side, known)
        for sign in (1, -1):
            found.append(known[key] + sign * np.where(owner == k, side, 0).astype(np.int8))
    signs = np.concatenate(found)
    _, first = np.unique(np.packbits(signs > 0, axis=1), axis=0, return_index=True)
    return signs[first]


def _around(normals):
    """Signs [2m, m] of the sectors between m lines of the plane, or of the half-lines beside a point."""
    if len(normals[0]) == 1:
        return np.array([[1], [-1]], np.int8)
    order = sorted(range(len(normals)), key=functools.cmp_to_key(
        lambda i, j: normals[j][0] * normals[i][1] - normals[i][0] * normals[j][1]))  # fmt: skip
    rank = np.empty(len(normals), int)
    rank[order] = np.arange(len(normals))
    signs = np.where(rank < np.arange(len(normals))[:, None], 1, -1).astype(np.int8)
    return np.concatenate([signs, -signs])


def sides(x, weight, bias, left=(MOST,)):
    """Return the signs of x . weight + bias exactly: by an error bound, or in integers, as many as left[0] allows."""
    x, weight, bias = np.asarray(x, dtype=float), np.asarray(weight, dtype=float), float(bias)
    terms = x.shape[1] + 2
    with np.errstate(all="ignore"):
        value = x @ weight + bias
        size = np.abs(x) @ np.abs(weight) + abs(bias)
        sure = np.abs(value) > 2.0 * terms * UNIT * size + terms * 2.0**-1000
    sign = np.where(sure, np.sign(np.where(sure, value, 0.0)), 0.0).astype(np.int8)
    if not weight.any():
        return np.full(len(x), np.sign(bias), np.int8)
    left = list(left) if isinstance(left, tuple) else left
    left[0] -= int((~sure).sum()) * (terms + 40)
    if left[0] < 0:
        raise ValueError(f"{(~sure).sum():,} rows of {terms - 2:,} numbers are too close to the boundary.")
    by, _ = integers(np.r_[weight, bias])
    for i in np.flatnonzero(~sure):
        row, unit = integers(x[i])
        total = sum(k * w for k, w in zip(row, by[:-1], strict=True))
        total = (total << max(unit, 0)) + (by[-1] << max(-unit, 0))
        sign[i] = (total > 0) - (total < 0)
    return sign
