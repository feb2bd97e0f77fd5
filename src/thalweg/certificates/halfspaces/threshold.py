"""The fewest errors of a threshold unit, and of two of them under AND or OR: exactly, or between two bounds."""

import dataclasses
import enum
import time
from typing import final

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from thalweg.certificates.certificate.interval import Certificate, Proof
from thalweg.certificates.halfspaces.cells import arrange, most_cells, reduced
from thalweg.certificates.halfspaces.separable import disjoint_conflicts
from thalweg.errors import InputError

MAX_CELLS = 1_500_000
MARGIN = 1e-3
BLOCK = 1 << 18
CHECKED_CELLS = 3000


class Gate(enum.Enum):
    """What the output unit makes of the hidden ones."""

    SINGLE = "one threshold unit"
    AND = "the AND of two threshold units"
    OR = "the OR of two threshold units"


@final
@dataclasses.dataclass(frozen=True)
class ThresholdNetwork:
    """Threshold units `weights @ x + bias > 0`, and what the output makes of them.

    Args:
        weights: `[1 or 2, d]`.
        bias: `[1 or 2]`.
        gate: how the output combines the units.

    Example:
        >>> band = ThresholdNetwork(np.array([[1.0], [-1.0]]), np.array([0.0, 1.0]), Gate.AND)
        >>> band.answers(np.array([[-1.0], [0.5], [2.0]]))
        array([False,  True, False])
    """

    weights: np.ndarray
    bias: np.ndarray
    gate: Gate

    def answers(self, x: np.ndarray) -> np.ndarray:
        """Return what the network says of examples `[n, d]`, bool `[n]`."""
        units = np.asarray(x, dtype=float) @ self.weights.T + self.bias > 0.0
        return np.asarray(units.any(1) if self.gate is Gate.OR else units.all(1))

    def errors(self, x: np.ndarray, labels: np.ndarray) -> int:
        """Return on how many examples it is wrong."""
        return int((self.answers(x) != np.asarray(labels, dtype=bool)).sum())


@final
@dataclasses.dataclass(frozen=True)
class FewestErrors:
    """The best network that was found, and a bound on all of its kind.

    Args:
        network: it.
        errors: how many it makes.
        bound: every network of its kind makes at least so many.
        listed: whether all ways to split the data were listed; else a mixed-integer program was solved.
        proof: what kind of statement the bound is.
        inside: a direction for each way to split the data, where they were listed and are few, else None.
    """

    network: ThresholdNetwork
    errors: int
    bound: int
    listed: bool
    proof: Proof
    inside: np.ndarray | None = None


def fewest_errors(x: np.ndarray, labels: np.ndarray, gate: Gate, *, seconds: float = 60.0) -> FewestErrors:
    """Return the threshold network of one kind with the fewest errors on the given examples.

    Where the ways in which a hyperplane can split the examples are few (a million or so: 60 points in 3 dimensions, 30
    in 4), all are listed, packed into words, and all pairs that can still win are looked at. Duplicates, collinear
    points and contradicting labels need no special care. Elsewhere HiGHS solves a mixed-integer program, which gives
    both ends of an interval when the time is up; there units must part the examples with a margin of 0.001 (features
    scaled to [-1, 1], weights at most 1), which the certificate states.

    Args:
        x: finite numbers, `[n, d]`.
        labels: bool or 0/1, `[n]`.
        gate: one unit, or two under AND or OR (the network of Blum and Rivest).
        seconds: time for the mixed-integer program.

    Raises:
        InputError: for NaN, or labels that are neither 0 nor 1.

    Example:
        >>> corners = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
        >>> exclusive_or = np.array([0, 0, 1, 1])
        >>> [fewest_errors(corners, exclusive_or, gate).errors for gate in Gate]
        [1, 0, 0]

    Source: Blum and Rivest, "Training a 3-node neural network is NP-complete" (1992).

    Not for hundreds of examples with many unavoidable errors: the two ends stay apart.
    """
    x, labels = np.asarray(x, dtype=float), np.asarray(labels)
    if not np.isfinite(x).all():
        raise InputError("The features hold NaN or infinity; correct the data.")
    if not np.isin(labels, (0, 1)).all() or len(labels) != len(x):
        raise InputError(f"Expected {len(x)} labels 0 or 1, one per example; got {len(labels)}.")
    labels = labels.astype(bool)
    rows, axes = reduced(np.column_stack([x, np.ones(len(x))]))
    num = len(np.unique(x, axis=0))
    if most_cells(num, rows.shape[1]) <= MAX_CELLS:
        return _by_listing(rows, axes, labels, gate)
    return _by_program(x, labels, gate, seconds)


def certify_threshold(
    x: np.ndarray, labels: np.ndarray, network: ThresholdNetwork, *, seconds: float = 60.0
) -> Certificate:
    """Compare a threshold network with the best of its kind.

    Args:
        x: finite numbers, `[n, d]`.
        labels: bool or 0/1, `[n]`.
        network: any one or two threshold units; an architecture with the same units gives the same numbers.
        seconds: time for the mixed-integer program, where one is needed.

    Example:
        >>> x, y = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 0])
        >>> level = certify_threshold(x, y, ThresholdNetwork(np.ones((1, 1)), np.array([-0.5]), Gate.SINGLE))
        >>> level.loss, level.bound
        (1.0, 1.0)
    """
    start = time.perf_counter()
    best = fewest_errors(x, labels, network.gate, seconds=seconds)
    errors = network.errors(x, labels)
    assumptions: tuple[str, ...] = ()
    if best.proof is Proof.PROOF_WITH_TOLERANCE and not best.listed:
        assumptions = (f"Units part the examples with a margin of {MARGIN:g} (features in [-1, 1], weights <= 1).",)
    elif best.proof is Proof.PROOF_WITH_TOLERANCE:
        assumptions = ("Hyperplanes closer than 1e-10 count as one.",)
    evidence = {}
    if best.inside is not None:
        evidence = {
            "rule": "threshold",
            "X": np.asarray(x, dtype=float),
            "label": np.asarray(labels).astype(np.int8),
            "gate": network.gate.name,
            "weights": network.weights,
            "bias": network.bias,
            "inside": best.inside,
        }
    return Certificate(
        name="threshold",
        quantity="training errors",
        unit="errors",
        loss=float(errors),
        bound=float(min(best.bound, errors)),
        reached=float(min(best.errors, errors)),
        scope=f"No choice of weights makes {network.gate.value} wrong on fewer of these examples.",
        proof=best.proof,
        assumptions=assumptions,
        seconds=time.perf_counter() - start,
        evidence=evidence,
    )


def _by_listing(rows: np.ndarray, axes: np.ndarray, labels: np.ndarray, gate: Gate) -> FewestErrors:
    found = arrange(rows)
    active = found.active()
    proof = Proof.PROOF if found.complete else Proof.PROOF_WITH_TOLERANCE
    if gate is Gate.SINGLE:
        wrong = (active != labels).sum(1)
        units = [int(wrong.argmin())]
        errors = int(wrong.min())
    elif gate is Gate.AND:
        errors, units = _best_pair(active, labels)
    else:  # not (not a and not b), and the complement of a split is a split
        errors, units = _best_pair(~active, ~labels)
    directions = found.inside[units] @ axes.T
    network = ThresholdNetwork(directions[:, :-1], directions[:, -1], gate)
    inside = found.inside @ axes.T if len(active) <= CHECKED_CELLS and found.complete else None
    return FewestErrors(network, errors, errors, True, proof, inside)


def _best_pair(active: np.ndarray, labels: np.ndarray) -> tuple[int, list[int]]:
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
    ones = np.bitwise_count(words)
    return ones[..., 0].astype(np.int16) if words.shape[-1] == 1 else ones.sum(-1, dtype=np.int16)


def _by_program(x: np.ndarray, labels: np.ndarray, gate: Gate, seconds: float) -> FewestErrors:
    """Mixed-integer program: units that must answer right with a margin unless a binary variable pays for the error."""
    # Unknowns, with u units, n examples, p of them negative (under OR: of the complement):
    #
    #     w_1 [d], b_1 | ... | w_u [d], b_u | error [n] | passes_1 [p] | ... | passes_u [p]
    #     real, |w| <= 1                    | binary    | binary
    #
    # Rows of the matrix, each "sum >= least":
    #
    #     u n rows   side_i (w . z_i + b) + big error_i >= margin       for a positive i: every unit must say yes
    #                side_i (w . z_i + b) + big passes_ki >= margin     for a negative i: or unit k lets it pass
    #     p rows     error_i - sum_k passes_ki >= 1 - u                 an error where every unit lets it pass
    size = np.abs(x).max(0, initial=0.0)
    size = np.where(size > 0.0, size, 1.0)
    z = x / size
    kind = ~labels if gate is Gate.OR else labels
    num, dimension = z.shape
    num_units = 1 if gate is Gate.SINGLE else 2
    reach = float(np.abs(z).sum(1).max(initial=0.0))
    big = 2.0 * reach + MARGIN
    per_unit = dimension + 1
    errors_at = num_units * per_unit
    negatives = np.flatnonzero(~kind)
    passes_at = errors_at + num
    total = passes_at + num_units * len(negatives)
    rows, low = [], []

    def add(entries: dict[int, float], least: float) -> None:
        rows.append(entries)
        low.append(least)

    for unit in range(num_units):
        base = unit * per_unit
        for i in range(num):
            side = 1.0 if kind[i] else -1.0
            entries = {base + k: side * z[i, k] for k in range(dimension) if z[i, k] != 0.0}
            entries[base + dimension] = side
            if kind[i]:
                entries[errors_at + i] = big
            else:
                entries[passes_at + unit * len(negatives) + int(np.searchsorted(negatives, i))] = big
            add(entries, MARGIN)
    for place, i in enumerate(negatives):  # a negative is an error where every unit lets it pass
        entries = {errors_at + int(i): 1.0}
        for unit in range(num_units):
            entries[passes_at + unit * len(negatives) + place] = -1.0
        add(entries, 1.0 - num_units)
    data = [(r, c, v) for r, entries in enumerate(rows) for c, v in entries.items()]
    r, c, v = zip(*data, strict=True)
    matrix = sparse.csr_matrix((v, (r, c)), shape=(len(rows), total))
    lower = np.r_[np.tile(np.r_[-np.ones(dimension), -reach], num_units), np.zeros(total - errors_at)]
    upper = np.r_[np.tile(np.r_[np.ones(dimension), reach], num_units), np.ones(total - errors_at)]
    cost = np.r_[np.zeros(errors_at), np.ones(num), np.zeros(total - passes_at)]
    solved = milp(
        cost,
        constraints=LinearConstraint(matrix, np.array(low), np.full(len(low), np.inf)),  # type: ignore[arg-type]
        bounds=Bounds(lower, upper),
        integrality=np.r_[np.zeros(errors_at), np.ones(total - errors_at)],
        options={"time_limit": seconds},
    )
    network, errors = _constant(x, labels, gate), min(int(labels.sum()), int((~labels).sum()))
    if solved.x is not None:
        units = solved.x[:errors_at].reshape(num_units, per_unit)
        # Under OR the units answer for the complement: the network is wrong where none of them says no.
        sign = -1.0 if gate is Gate.OR else 1.0
        solved_network = ThresholdNetwork(sign * units[:, :dimension] / size, sign * units[:, dimension], gate)
        if solved_network.errors(x, labels) < errors:
            network, errors = solved_network, solved_network.errors(x, labels)
    dual = getattr(solved, "mip_dual_bound", None)
    bound = 0 if dual is None or not np.isfinite(dual) else max(0, int(np.ceil(dual - 1e-6)))
    if gate is Gate.SINGLE:  # conflicts bound the errors without any margin
        bound = max(bound, len(disjoint_conflicts(x, np.where(labels, 1, -1), at_most=200)))
    return FewestErrors(network, errors, min(bound, errors), False, Proof.PROOF_WITH_TOLERANCE)


def _constant(x: np.ndarray, labels: np.ndarray, gate: Gate) -> ThresholdNetwork:
    """The network that says the more frequent label."""
    num_units = 1 if gate is Gate.SINGLE else 2
    side = 1.0 if 2 * int(labels.sum()) >= len(labels) else -1.0
    return ThresholdNetwork(np.zeros((num_units, x.shape[1])), np.full(num_units, side), gate)
