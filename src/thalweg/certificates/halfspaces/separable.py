"""Whether a hyperplane is right on all examples, proved either way; and how many errors none can avoid."""

import dataclasses
import math
import time
from typing import final

import numpy as np
from scipy import sparse

from thalweg.certificates.checker.cells import integers
from thalweg.certificates.checker.conflicts import MAX_PRICE, multipliers
from thalweg.certificates.halfspaces.hyperplane import Matrix, Scaled, proved_hyperplane, scaled, widest_margin
from thalweg.certificates.halfspaces.simplex import widest
from thalweg.errors import InputError

MARGIN = 4.0  # how much wider than the checker needs it an enclosure must be, for other machines' sums
PRICE = 0.5 * MAX_PRICE  # of eliminations in the evidence of one statement
CLEAR = 1e-7  # margins that HiGHS cannot be wrong about
ROUNDS = 30
EXACT_SECONDS = 10.0


@final
@dataclasses.dataclass(frozen=True)
class Separation:
    r"""A hyperplane that is right on all examples, or the few examples that prove there is none.

    Args:
        separable: which of the two it is.
        weight: w, `[d]`, $\|w\|_\infty \le 1$; zeros where there is no such hyperplane.
        bias: b.
        margin: the smallest $s_i (w^\top x_i + b)$; 0 where there is none.
        points: indices of examples whose two hulls have a point in common, at most d + 2; empty where separable.
        multiplier: $\lambda > 0$ of these, summing to 1, with $\sum \lambda_i s_i (x_i, 1) = 0$; the exact ones are
            proved to exist, these are them rounded.
        price: what verifying the points costs, in the checker's own unit; 0 where separable.
    """

    separable: bool
    weight: np.ndarray
    bias: float
    margin: float
    points: np.ndarray
    multiplier: np.ndarray
    price: float = 0.0


def separability(x: Matrix, sign: np.ndarray, *, seconds: float = math.inf) -> Separation:
    r"""Say whether a hyperplane separates two kinds of examples, proved either way about the numbers as they are.

    A linear program maximizes the margin t with $s_i (w^\top x_i + b) \ge t$, each column moved and scaled to
    [-1, 1]. If $t > 0$ its solution is the hyperplane; the rows nearest to it are placed without rounding. Else its
    dual names at most d + 2 examples, a point in the hulls of both kinds (Farkas, Gordan; Kirchberger), and exact
    multipliers are proved to exist: by elimination in integers, or by an enclosure of the solution of a linear system.
    Where float64 cannot tell, the program is solved in integers on the rows that matter. No answer has a tolerance.

    Args:
        x: finite numbers, `[n, d]`, dense or sparse.
        sign: -1 or 1, `[n]`.
        seconds: how long it may take.

    Raises:
        InputError: for NaN, signs that are others, or where neither is proved (within the time).

    Example:
        >>> corners = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
        >>> exclusive_or = separability(corners, np.array([-1, -1, 1, 1]))
        >>> exclusive_or.separable, exclusive_or.points.tolist(), exclusive_or.multiplier.tolist()
        (False, [0, 1, 2, 3], [0.25, 0.25, 0.25, 0.25])

    Source: Gordan (1873); Farkas (1902); Kirchberger (1903); Rump, "Verification methods" (2010).

    Not for a soft margin: one wrong label makes data inseparable.
    """
    end, data = time.perf_counter() + seconds, scaled(x)
    return separate(data, checked_signs(sign, data.moved.shape[0]), end)


def checked_signs(sign: np.ndarray, num: int) -> np.ndarray:
    """Return signs as float64, or raise an InputError."""
    sign = np.asarray(sign, dtype=float)
    if sign.shape != (num,) or not np.isin(sign, (-1.0, 1.0)).all():
        raise InputError(f"Expected {num} signs -1 or 1, one per example; got the shape {list(sign.shape)}.")
    return sign


def separate(data: Scaled, sign: np.ndarray, end: float) -> Separation:
    """Decide for scaled rows, until a time."""
    num, dimension = data.moved.shape
    if len(np.unique(sign)) < 2:  # one kind only: any constant of its sign
        nothing = np.zeros(0, int), np.zeros(0)
        return Separation(True, np.zeros(dimension), float(sign[0]) if num else 1.0, 1.0, *nothing)
    weight, margin, multiplier = widest_margin(data, sign, end - time.perf_counter())
    named = np.flatnonzero(multiplier > 1e-9 * multiplier.max(initial=0.0))
    attempts = [lambda: _hyperplane(data, sign, weight), lambda: conflict_among(data, sign, named)]
    for attempt in attempts if margin > CLEAR else attempts[::-1]:
        found = attempt()
        if found is not None:
            return found
    end = min(end, time.perf_counter() + EXACT_SECONDS)
    found = _without_rounding(data, sign, named, _nearest(data, sign, weight), end)
    if found is None:
        raise InputError(
            f"These {num:,} examples are neither proved separable nor proved inseparable: in columns scaled to [-1, 1] "
            f"the widest margin is {max(margin, 0.0):.2g}, too close to 0 for float64 in {dimension:,} columns."
        )
    return found


def conflict_among(data: Scaled, sign: np.ndarray, points: np.ndarray) -> Separation | None:
    """Return the proof that some rows, just as many as it takes, are inseparable, or None."""
    if not 2 <= len(points) <= data.moved.shape[1] + 2:
        return None
    own = (sign[points] > 0).astype(int)
    found, price = multipliers(data.dense(points), own, 1 - own, margin=MARGIN, limit=PRICE)
    if found is None:
        return None
    return Separation(False, np.zeros(data.moved.shape[1]), 0.0, 0.0, points, found, price)


def _hyperplane(data: Scaled, sign: np.ndarray, moved: np.ndarray) -> Separation | None:
    found = proved_hyperplane(data, sign, moved)
    return None if found is None else Separation(True, *found, np.zeros(0, int), np.zeros(0))


def _nearest(data: Scaled, sign: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the rows in the order of their distance from the boundary of their kind."""
    value = data.moved @ weight
    place = np.empty(len(value), int)
    for kind in (-1.0, 1.0):
        mine = np.flatnonzero(sign == kind)
        place[mine[np.argsort(kind * value[mine], kind="stable")]] = np.arange(len(mine))
    return np.argsort(place, kind="stable")


def _without_rounding(
    data: Scaled, sign: np.ndarray, named: np.ndarray, order: np.ndarray, end: float
) -> Separation | None:
    """Decide by programs in integers on more and more rows: the ones named, the nearest, those that were violated."""
    step = 2 * (data.moved.shape[1] + 2)
    chosen = np.union1d(named, order[:step])
    for _ in range(ROUNDS):
        rows, unit = like_integers(data.dense(chosen))
        found = widest([[int(s) * k for k in row] for s, row in zip(sign[chosen], rows, strict=True)],
                       end - time.perf_counter())  # fmt: skip
        if found is None:
            return None
        if not found[0]:
            return conflict_among(data, sign, chosen[found[1]])
        moved = np.ldexp(found[1][:-1], data.exponent - unit)
        separation = _hyperplane(data, sign, moved / np.abs(moved).max(initial=1e-300))
        if separation is not None:
            return separation
        worst = np.setdiff1d(_nearest(data, sign, moved)[:step], chosen)
        if not len(worst):
            return None
        chosen = np.union1d(chosen, worst)
    return None


def like_integers(points: np.ndarray) -> tuple[list[list[int]], np.ndarray]:
    """Return rows (x, 1), moved, as integers of like size in every column, and the exponent of two of their scale."""
    columns, units = [], []
    for column in points.T:
        whole, low = integers(column)
        whole = [k - whole[0] for k in whole]
        common = math.gcd(*whole)
        zeros = (common & -common).bit_length() - 1 if common else 0
        columns.append([k >> zeros for k in whole])
        units.append(low + zeros)
    bits = [max((abs(k) for k in column), default=0).bit_length() for column in columns]
    most = max(bits, default=0)
    even = [[k << (most - size) for k in column] for column, size in zip(columns, bits, strict=True)]
    even.append([1 << most] * len(points))
    return [list(row) for row in zip(*even, strict=True)], np.array(units, int) + np.array(bits, int)


@final
@dataclasses.dataclass(frozen=True)
class Conflicts:
    """Sets of examples without a common member, each of which costs every hyperplane an error.

    Args:
        sets: the proofs, of their own examples each.
        rest: the hyperplane that separates all others; None where the search stopped before.
        stopped: why it did, else "".
    """

    sets: list[Separation]
    rest: Separation | None = None
    stopped: str = ""


def disjoint_conflicts(
    x: Matrix, sign: np.ndarray, *, at_most: int | None = None, seconds: float = math.inf
) -> Conflicts:
    """Return sets of examples without a common member of which no hyperplane is right on all: each costs an error.

    Their number is a proved lower bound on the errors of every hyperplane. First come examples with the same features
    and different signs, then sets in small random parts of what is left, then in all of it, one after the other.

    Source: Amaldi, Pfetsch and Trotter, "On the maximum feasible subsystem problem, IISs and IIS-hypergraphs" (2003).
    """
    end, data = time.perf_counter() + seconds, scaled(x)
    return conflicts_of(data, checked_signs(sign, data.moved.shape[0]), at_most, end)


def conflicts_of(data: Scaled, sign: np.ndarray, at_most: int | None, end: float, *, most: float = PRICE) -> Conflicts:
    """Return disjoint conflicts of scaled rows, at most so many, until a time, that cost at most so much to verify."""
    found = [_pair(data, pair) for pair in contradictions(data, sign)][:at_most]
    taken = np.zeros(len(sign), bool)
    for part in found:
        taken[part.points] = True
    draw, price = np.random.default_rng(0), sum(part.price for part in found)
    size = 4 * (data.moved.shape[1] + 2)
    while at_most is None or len(found) < at_most:
        left = draw.permutation(np.flatnonzero(~taken))
        try:
            while True:
                some = np.sort(left[:size])
                part = separate(data.among(some), sign[some], end)
                if not part.separable or size >= len(left):
                    break
                size *= 4
        except InputError as error:
            return Conflicts(found, stopped=str(error))
        if part.separable:
            return Conflicts(found, rest=part)
        if price + part.price > most:
            return Conflicts(found, stopped="verifying more would take too long")
        price += part.price
        found.append(dataclasses.replace(part, points=some[part.points]))
        taken[found[-1].points] = True
    return Conflicts(found, stopped=f"{at_most} were asked for")


def contradictions(data: Scaled, sign: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of equal rows with different signs, without a common one."""
    if sparse.issparse(data.rows):
        rows = data.rows.copy()
        rows.sum_duplicates()
        rows.eliminate_zeros()
        cuts = list(zip(rows.indptr[:-1], rows.indptr[1:], strict=True))
        keys = [rows.indices[a:b].tobytes() + rows.data[a:b].tobytes() for a, b in cuts]
    else:
        keys = [row.tobytes() for row in np.ascontiguousarray(data.rows + 0.0)]
    waiting: dict[tuple[bytes, float], list[int]] = {}
    pairs = []
    for i, (key, mine) in enumerate(zip(keys, sign.tolist(), strict=True)):
        others = waiting.get((key, -mine))
        if others:
            pairs.append((others.pop(), i))
        else:
            waiting.setdefault((key, mine), []).append(i)
    return pairs


def _pair(data: Scaled, pair: tuple[int, int]) -> Separation:
    return Separation(False, np.zeros(data.moved.shape[1]), 0.0, 0.0, np.array(pair), np.array([0.5, 0.5]), 1.0)
