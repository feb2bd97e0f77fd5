"""The fewest errors of one threshold unit, or of two under an AND or an OR: exactly, or between two bounds."""

import dataclasses
import enum
import time
from fractions import Fraction
from typing import final

import numpy as np

from thalweg.certificates.certificate.interval import Certificate, Proof
from thalweg.certificates.certificate.proved import proved_certificate
from thalweg.certificates.checker import check
from thalweg.certificates.checker.cells import integer_rows
from thalweg.certificates.checker.halfspaces import answers, different
from thalweg.certificates.exact import exactly
from thalweg.certificates.halfspaces.hyperplane import Scaled, exact_products, scaled
from thalweg.certificates.halfspaces.listing import all_splits, as_decimals, best_pair
from thalweg.certificates.halfspaces.program import units_by_program
from thalweg.certificates.halfspaces.separable import PRICE, conflicts_of, contradictions, separability, separate
from thalweg.errors import InputError


class Gate(enum.Enum):
    """What the output unit makes of the hidden ones."""

    SINGLE = "one threshold unit"
    AND = "the AND of two threshold units"
    OR = "the OR of two threshold units"


@final
@dataclasses.dataclass(frozen=True)
class ThresholdNetwork:
    """Threshold units `weights @ x + bias > 0`, decided without rounding, and what the output makes of them.

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
        x, weights, bias = (exactly(values, "numbers of a network") for values in (x, self.weights, self.bias))
        try:
            return np.asarray(answers(x, weights, bias, self.gate.name))
        except ValueError as error:
            raise InputError(f"{error} Their answers would take too long to compute without rounding.") from None

    def errors(self, x: np.ndarray, labels: np.ndarray) -> int:
        """Return on how many examples it is wrong."""
        return int((self.answers(x) != np.asarray(labels, dtype=bool)).sum())


@final
@dataclasses.dataclass(frozen=True)
class FewestErrors:
    """The best network that was found, and a bound on all of its kind.

    Args:
        network: it.
        errors: how many it makes, counted without rounding.
        bound: every network of its kind makes at least so many, proved about the numbers as they are; as many as
            `errors` where `listed`, unless float64 has no weights for the best split.
        listed: whether all ways to split the data were listed.
        conflicts: where not: disjoint sets of examples (indices), each of which costs every network of the kind an
            error; the bound is their number.
        digits: None, or the bound is about the features read as decimal numbers of so many digits after the point,
            where the splits of the numbers as they are stored are too many to be listed without rounding.
    """

    network: ThresholdNetwork
    errors: int
    bound: int
    listed: bool
    conflicts: tuple[np.ndarray, ...] = ()
    digits: int | None = None

    @property
    def proof(self) -> Proof:
        """What kind of statement the bound is."""
        return Proof.PROOF if self.digits is None else Proof.PROOF_WITH_TOLERANCE


def fewest_errors(x: np.ndarray, labels: np.ndarray, gate: Gate, *, seconds: float = 60.0) -> FewestErrors:
    """Return the threshold network of one kind with the fewest errors on the given examples.

    Where the ways in which a hyperplane can split the examples are few (a million or so: 60 points in 3 dimensions, 30
    in 4), all are listed, packed into words, and all pairs that can still win are looked at. That the list is complete
    is proved by the number of splits, counted in integers for the numbers as they are stored, so that scales,
    duplicates, collinear points and contradicting labels need no care. Elsewhere HiGHS looks for a network (a
    mixed-integer program of units that part the examples with a margin), and the bound is the number of disjoint sets
    of examples that no network of the kind is right on, each proved: no hyperplane parts them, or a negative example
    lies in the hull of positive ones (AND), or a positive one in the hull of negative ones (OR).

    Args:
        x: finite numbers, `[n, d]`.
        labels: bool or 0/1, `[n]`.
        gate: one unit, or two under AND or OR (the network of Blum and Rivest).
        seconds: for the program, and again for the bound, where not all splits are listed.

    Raises:
        InputError: for no examples, NaN, or labels that are neither 0 nor 1.

    Example:
        >>> corners = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
        >>> exclusive_or = np.array([0, 0, 1, 1])
        >>> [fewest_errors(corners, exclusive_or, gate).errors for gate in Gate]
        [1, 0, 0]

    Source: Blum and Rivest, "Training a 3-node neural network is NP-complete" (1992); Cover, "Geometrical and
    statistical properties of systems of linear inequalities" (1965); Zaslavsky, "Facing up to arrangements" (1975).

    Not for hundreds of examples in many dimensions with many unavoidable errors: the two ends stay apart.
    """
    x, labels = _checked(x, labels)
    points, place = np.unique(x + 0.0, axis=0, return_inverse=True)
    place = place.ravel()
    splits, digits = all_splits(integer_rows(points)), None
    if splits is None:
        read = as_decimals(points)
        if read is None or (splits := all_splits(read[0])) is None:
            return _between(x, labels, gate, seconds)
        digits = read[1]
    counts = [np.bincount(place[which], minlength=len(points)) for which in (labels, ~labels)]
    if gate is Gate.SINGLE:
        wrong = counts[0].sum() + splits @ (counts[1] - counts[0])
        units = [int(wrong.argmin())]
        bound = int(wrong.min())
    else:  # a or b is not (not a and not b), and the complement of a split is a split
        splits = splits if gate is Gate.AND else ~splits
        bound, units = best_pair(splits[:, place], labels if gate is Gate.AND else ~labels)
    network = _network(points, [splits[unit] ^ (gate is Gate.OR) for unit in units], gate)
    errors = None if network is None else network.errors(x, labels)
    other = _constant(x, labels, gate)
    if network is None or errors is None or other.errors(x, labels) < errors:
        network, errors = other, other.errors(x, labels)
    return FewestErrors(network, errors, bound, listed=True, digits=digits)


def certify_threshold(
    x: np.ndarray, labels: np.ndarray, network: ThresholdNetwork, *, seconds: float = 60.0
) -> Certificate:
    """Compare a threshold network with the best of its kind.

    Args:
        x: finite numbers, `[n, d]`.
        labels: bool or 0/1, `[n]`.
        network: any one or two threshold units; an architecture with the same units gives the same numbers.
        seconds: as for `fewest_errors`.

    Example:
        >>> x, y = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 0])
        >>> level = certify_threshold(x, y, ThresholdNetwork(np.ones((1, 1)), np.array([-0.5]), Gate.SINGLE))
        >>> level.loss, level.bound
        (1.0, 1.0)
    """
    start = time.perf_counter()
    x, labels = _checked(x, labels)
    best = fewest_errors(x, labels, network.gate, seconds=seconds)
    errors = network.errors(x, labels)
    reached = float(min(best.errors, errors))
    evidence = {
        "rule": "threshold",
        "X": x,
        "label": labels.astype(np.int8),
        "gate": network.gate.name,
        "weights": np.asarray(network.weights, dtype=float),
        "bias": np.asarray(network.bias, dtype=float),
    }
    if not best.listed:
        sizes = [len(one) for one in best.conflicts]
        evidence["example"] = np.concatenate([np.zeros(0, int), *best.conflicts])
        evidence["set"] = np.repeat(np.arange(len(sizes)), sizes)
    if not best.listed or (best.digits is None and different(x)[0] is not None):
        seconds = time.perf_counter() - start
        return proved_certificate(evidence, loss=float(errors), seconds=seconds, reached=reached)
    about = check.statement(evidence)
    said = () if best.digits is None else (f"The features are read as multiples of {10.0**-best.digits:g}.",)
    return Certificate(
        name="threshold",
        quantity=about["quantity"],
        unit=about["unit"],
        loss=float(errors),
        bound=float(min(best.bound, errors)),
        reached=reached,
        scope=about["scope"],
        proof=best.proof,
        assumptions=said,
        seconds=time.perf_counter() - start,
    )


def _checked(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, labels = exactly(x, "features"), np.asarray(labels)
    if x.ndim != 2 or not len(x):
        raise InputError(f"The features must be a matrix [examples, columns] with a row; got {list(x.shape)}.")
    if not np.isfinite(x).all():
        raise InputError("The features hold NaN or infinity; correct the data.")
    if labels.shape != (len(x),) or not np.isin(labels, (0, 1)).all():
        raise InputError(f"Expected {len(x)} labels 0 or 1, one per example; got the shape {list(labels.shape)}.")
    return x, labels.astype(bool)


def _network(points: np.ndarray, splits: list[np.ndarray], gate: Gate) -> ThresholdNetwork | None:
    """Return units that split different points as wanted, or None where float64 has no such weights."""
    try:
        units = [separability(points, np.where(split, 1, -1)) for split in splits]
    except InputError:
        return None
    return ThresholdNetwork(np.stack([u.weight for u in units]), np.array([u.bias for u in units]), gate)


def _between(x: np.ndarray, labels: np.ndarray, gate: Gate, seconds: float) -> FewestErrors:
    """Return the best network of a mixed-integer program, and a bound from disjoint conflicts."""
    data, network = scaled(x), _constant(x, labels, gate)
    # Under OR the units answer for the complement: the network is wrong where none of them says no.
    kind, turn = (~labels, -1.0) if gate is Gate.OR else (labels, 1.0)
    found = units_by_program(data, kind, 1 if gate is Gate.SINGLE else 2, seconds)
    if found is not None:
        weights = np.stack([data.weights(turn * w) for w in found[0]])
        bias = np.array(
            [
                float(Fraction(turn * b) - exact_products(data.shift[None], w)[0])
                for w, b in zip(weights, found[1], strict=True)
            ]
        )
        other = ThresholdNetwork(weights, bias, gate)
        network = min((network, other), key=lambda one: one.errors(x, labels))
    conflicts = _conflicts(data, kind, gate, time.perf_counter() + seconds)
    return FewestErrors(network, network.errors(x, labels), len(conflicts), listed=False, conflicts=tuple(conflicts))


def _conflicts(data: Scaled, kind: np.ndarray, gate: Gate, end: float) -> list[np.ndarray]:
    """Return disjoint sets of examples, in each of which every network has an error."""
    sign = np.where(kind, 1.0, -1.0)
    if gate is Gate.SINGLE:
        return [part.points for part in conflicts_of(data, sign, None, end).sets]
    found = [np.array(pair) for pair in contradictions(data, sign)]
    taken = np.zeros(len(kind), bool)
    taken[np.concatenate([np.zeros(0, int), *found])] = True
    price = 0.0
    for negative in np.flatnonzero(~kind & ~taken):  # in the hull of positive ones, where a convex set ...
        rows = np.r_[negative, np.flatnonzero(kind & ~taken)]
        try:
            part = separate(data.among(rows), sign[rows], end)
        except InputError:
            if time.perf_counter() > end:
                break
            continue
        price += part.price
        if price > PRICE:
            break
        if not part.separable:
            found.append(rows[part.points])
            taken[found[-1]] = True
    return found


def _constant(x: np.ndarray, labels: np.ndarray, gate: Gate) -> ThresholdNetwork:
    """Return the network that says the more frequent label."""
    num_units = 1 if gate is Gate.SINGLE else 2
    side = 1.0 if 2 * int(labels.sum()) >= len(labels) else -1.0
    return ThresholdNetwork(np.zeros((num_units, x.shape[1])), np.full(num_units, side), gate)
