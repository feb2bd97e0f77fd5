r"""Floors: what no model can get below on these data, because it cannot tell some examples apart.

A model is a function of its input. Where two examples look the same to it and have different targets, it must pay for
one of them. With the groups $g$ of examples that look the same, the best function answers each group with the mean of
its targets, and that gives the least possible loss exactly: a lookup table attains it.

What counts is the input **as the model sees it**: after normalization, with the vocabulary's unknown words, cut to the
longest length, as a bag without order. The coarser the view, the higher the floor.
"""

import dataclasses
from collections.abc import Iterable
from typing import final

import numpy as np

from thalweg.certificates.certificate.interval import Certificate, Evidence, Proof
from thalweg.certificates.floors.contexts import Level, starts_of
from thalweg.data.arrays.equal import renumbered


@final
@dataclasses.dataclass(frozen=True)
class Floor:
    """A floor before it is compared with a loss."""

    value: float  # the least possible loss
    evidence: Evidence  # what `thalweg.certificates.checker.check` verifies the value from
    num_conflicts: int  # groups with different targets

    def certificate(
        self, loss: float, scope: str, *, seconds: float, quantity: str = "training loss", unit: str = "nats"
    ) -> Certificate:
        """Return the certificate of a point."""
        return Certificate(
            name="floor",
            quantity=quantity,
            unit=unit,
            loss=loss,
            bound=self.value,
            scope=scope,
            proof=Proof.PROOF,
            seconds=seconds,
            evidence=self.evidence,
        )


def class_floor(
    groups: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    weights: np.ndarray | None = None,
    total: float | None = None,
    smoothing: float = 0.0,
) -> Floor:
    r"""Return the least possible mean cross-entropy.

    $$\frac1N \sum_g W_g H(\bar t_g), \qquad \bar t_g = (1-a)\, \frac{W_{g\cdot}}{W_g} + \frac aK$$

    with the weight $W_{gk}$ of class $k$ in group $g$, $K$ classes, the smoothing $a$ and the entropy $H$.

    Args:
        groups: which examples look the same, int `[n]`.
        labels: class ids, int `[n]`.
        num_classes: $K$.
        weights: of the examples, `[n]`; None: all one.
        total: $N$; None: the sum of the weights.
        smoothing: $a$ in [0, 1).

    Example:
        >>> floor = class_floor(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
        >>> round(floor.value, 4), floor.num_conflicts  # (2 log 2) / 3
        (0.4621, 1)
    """
    pair_group, pair_label, mass = _pairs(groups, labels, num_classes, weights)
    whole = float(mass.sum()) if total is None else total
    return _entropy_floor(pair_group, pair_label, mass / whole, num_classes, smoothing)


def error_floor(groups: np.ndarray, labels: np.ndarray, num_classes: int, weights: np.ndarray | None = None) -> Floor:
    """Return the least possible fraction of wrong answers; one minus it is the ceiling of the accuracy.

    Args:
        groups: which examples look the same, int `[n]`.
        labels: class ids, int `[n]`.
        num_classes: number of classes.
        weights: of the examples, `[n]`; None: all one.

    Example:
        >>> round(error_floor(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2).value, 4)
        0.25
    """
    pair_group, pair_label, mass = _pairs(groups, labels, num_classes, weights)
    return _hits_floor(pair_group, pair_label, mass / mass.sum())


def soft_floor(
    groups: np.ndarray,
    probabilities: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    total: float | None = None,
    smoothing: float = 0.0,
) -> Floor:
    """Return the least possible mean cross-entropy for targets that are distributions, or any masses over classes.

    Args:
        groups: which examples look the same, int `[n]`.
        probabilities: `[n, classes]`, not negative.
        weights: of the examples, `[n]`; None: all one.
        total: what the sum is divided by; None: the sum of all masses.
        smoothing: fraction of each target that is spread over all classes.

    Example:
        >>> round(soft_floor(np.array([0, 0]), np.array([[1.0, 0.0], [0.0, 1.0]])).value, 4)
        0.6931
    """
    rows, columns = np.nonzero(probabilities)
    mass = probabilities[rows, columns] * (1.0 if weights is None else weights[rows])
    num_classes = probabilities.shape[1]
    pair_group, pair_label, mass = _pairs(groups[rows], columns, num_classes, mass)
    whole = float(mass.sum()) if total is None else total
    return _entropy_floor(pair_group, pair_label, mass / whole, num_classes, smoothing)


def answers_floor(groups: np.ndarray, answers: np.ndarray, weights: np.ndarray | None, total: float) -> Floor:
    """Return the least possible mean of binary cross-entropies, one for each example and output.

    Args:
        groups: which examples look the same, int `[n]`.
        answers: in [0, 1], `[n, outputs]`.
        weights: `[n, outputs]`; None: all one.
        total: what the sum is divided by.

    Example:
        >>> round(answers_floor(np.array([0, 0]), np.array([[1.0], [0.0]]), None, 2.0).value, 4)
        0.6931
    """
    outputs = answers.shape[1]
    cells = (groups[:, None] * outputs + np.arange(outputs)).reshape(-1)
    yes = answers.reshape(-1)
    each = np.ones(len(yes)) if weights is None else np.broadcast_to(weights, answers.shape).reshape(-1)
    return soft_floor(cells, np.stack([1.0 - yes, yes], 1), weights=each, total=total)


def number_floor(
    groups: np.ndarray, numbers: np.ndarray, weights: np.ndarray | None, total: float, factor: float
) -> Floor:
    r"""Return the least possible mean of $\text{factor}\,(y - z)^2$: the variance within the groups.

    Args:
        groups: which examples look the same, int `[n]`.
        numbers: $y$, `[n, outputs]`.
        weights: `[n]` or `[n, outputs]`; None: all one.
        total: what the sum is divided by.
        factor: of the squares.

    Example:
        >>> number_floor(np.array([0, 0, 1]), np.array([[1.0], [3.0], [5.0]]), None, 3.0, 0.5).value  # (1 + 1) / 2 / 3
        0.3333333333333333
    """
    outputs = numbers.shape[1]
    cells = renumbered((groups[:, None] * outputs + np.arange(outputs)).reshape(-1))
    y = numbers.astype(np.float64).reshape(-1)
    if weights is None:
        each = np.full(len(y), 1.0 / total)
    else:
        each = np.broadcast_to(weights.reshape(len(numbers), -1), numbers.shape).reshape(-1) / total
    low, high = np.full(cells.max(initial=0) + 1, np.inf), np.full(cells.max(initial=0) + 1, -np.inf)
    np.minimum.at(low, cells, y)
    np.maximum.at(high, cells, y)
    kept = (low < high)[cells]
    order = np.flatnonzero(kept)[np.argsort(cells[kept], kind="stable")]
    cells, y, each = renumbered(cells[order]), y[order], each[order]
    mass = np.bincount(cells, each)
    mean = np.bincount(cells, each * y) / np.where(mass > 0, mass, 1.0)
    value = factor * float((each * (y - mean[cells]) ** 2).sum()) if len(y) else 0.0
    evidence = {"rule": "floor", "measure": "squares", "group": cells, "label": y, "weight": each, "factor": factor}
    return Floor(value, evidence, int((low < high).sum()))


def levels_floor(levels: Iterable[Level], num_classes: int, smoothing: float = 0.0) -> tuple[Floor, Floor]:
    """Return the floors of the cross-entropy and of the fraction of errors over all levels of some contexts.

    Args:
        levels: from `thalweg.certificates.floors.contexts`: all levels of prefixes, or one level of windows.
        num_classes: number of symbols that could follow.
        smoothing: fraction of each target that is spread over all of them.
    """
    groups, labels, counts = [], [], []
    offset = num_targets = 0
    for level in levels:
        groups.append(level.group + offset)
        labels.append(level.label)
        counts.append(level.count)
        offset += int(level.group.max(initial=-1)) + 1
        num_targets += level.num_targets
    group, label = np.concatenate(groups), np.concatenate(labels)
    weight = np.concatenate(counts) / num_targets
    pure = max(0.0, 1.0 - float(weight.sum()))
    return (
        _entropy_floor(group, label, weight, num_classes, smoothing, pure),
        _hits_floor(group, label, weight, pure),
    )


def _pairs(
    groups: np.ndarray, labels: np.ndarray, num_classes: int, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs (group, label) in order, and the weight of each."""
    keys = groups.astype(np.int64) * num_classes + labels
    if weights is None:
        unique, counts = np.unique(keys, return_counts=True)
        mass = counts.astype(np.float64)
    else:
        unique, inverse = np.unique(keys, return_inverse=True)
        mass = np.bincount(inverse.reshape(-1), weights, len(unique))
        unique, mass = unique[mass > 0], mass[mass > 0]
    return unique // num_classes, unique % num_classes, mass


def _groups_of(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each group of sorted pairs begins, and how many pairs it has."""
    starts = starts_of(group)
    return starts, np.diff(starts, append=len(group))


def _impure(
    group: np.ndarray, label: np.ndarray, weight: np.ndarray, pure: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Leave out groups with a single label, whose weight is added to `pure`."""
    _, sizes = _groups_of(group)
    keep = np.repeat(sizes > 1, sizes)
    numbers = np.repeat(np.arange(int((sizes > 1).sum())), sizes[sizes > 1])
    return numbers, label[keep], weight[keep], pure + float(weight[~keep].sum())


def _entropy_floor(
    group: np.ndarray, label: np.ndarray, weight: np.ndarray, num_classes: int, smoothing: float, pure: float = 0.0
) -> Floor:
    group, label, weight, pure = _impure(group, label, weight, pure)
    starts, sizes = _groups_of(group)
    mass = np.add.reduceat(weight, starts) if len(starts) else weight
    spread = smoothing / num_classes
    share = (1.0 - smoothing) * weight / np.repeat(mass, sizes) + spread
    value = -float((np.repeat(mass, sizes) * share * np.log(share)).sum()) + pure * smoothed_entropy(
        num_classes, smoothing
    )
    if spread > 0.0:
        value -= float(((num_classes - sizes) * mass).sum()) * spread * np.log(spread)
    evidence = {
        "rule": "floor",
        "measure": "entropy",
        "group": group,
        "label": label,
        "weight": weight,
        "pure": pure,
        "smoothing": smoothing,
        "classes": num_classes,
    }
    return Floor(max(0.0, float(value)), evidence, len(starts))


def _hits_floor(group: np.ndarray, label: np.ndarray, weight: np.ndarray, pure: float = 0.0) -> Floor:
    group, label, weight, pure = _impure(group, label, weight, pure)
    starts = starts_of(group)
    hits = float(np.maximum.reduceat(weight, starts).sum()) if len(starts) else 0.0
    evidence = {"rule": "floor", "measure": "errors", "group": group, "label": label, "weight": weight, "pure": pure}
    return Floor(max(0.0, float(weight.sum()) - hits), evidence, len(starts))


def smoothed_entropy(num_classes: int, smoothing: float) -> float:
    """Return the entropy of a target with label smoothing, which even a perfect model pays, in nats.

    Example:
        >>> f"{smoothed_entropy(4, 0.1):.4f} {smoothed_entropy(1000, 0.1):.4f}"
        '0.3488 1.0148'
    """
    if smoothing == 0.0 or num_classes == 1:
        return 0.0
    rest = smoothing / num_classes
    top = 1.0 - smoothing + rest
    return float(-top * np.log(top) - (num_classes - 1) * rest * np.log(rest))
