r"""Floors: what no model can get below on these data, because it cannot tell some examples apart.

A model is a function of its input. Where two examples look the same to it and have different targets, it must pay for
one of them. With the groups $g$ of examples that look the same, the best function answers each group with the mean of
its targets, and that gives the least possible loss exactly: a lookup table attains it.

What counts is the input **as the model sees it**: after normalization, with the vocabulary's unknown words, cut to the
longest length, as a bag without order. The coarser the view, the higher the floor.

What is claimed is the value that the checker's own rule proves from the evidence, less four times what rounding may
have added to it: another machine, which may add up in another order, proves it as well.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Final, final

import numpy as np

from thalweg.certificates.certificate.interval import Certificate, Evidence, rounding_slack
from thalweg.certificates.certificate.proved import proved_certificate
from thalweg.certificates.checker import check
from thalweg.certificates.exact import exactly
from thalweg.certificates.floors.contexts import Level, starts_of
from thalweg.data.arrays.equal import renumbered
from thalweg.errors import InputError

LEAST: Final = 1e-60  # smaller weights are left out, which lowers a floor
MOST: Final = 1e60


@final
@dataclasses.dataclass(frozen=True)
class Floor:
    """A floor before it is compared with a loss."""

    value: float  # the least possible loss
    evidence: Evidence  # what `thalweg.certificates.checker.check` verifies the value from
    num_conflicts: int  # groups with different targets

    def certificate(self, loss: float, *, seconds: float, view: str | None = None) -> Certificate:
        """Return the certificate of a point; `view` says what a model sees, as the end of "that sees only ..."."""
        if loss < self.value - rounding_slack(loss):
            raise InputError(
                f"The floor would be {self.value:.9g}, above what the model has, {loss:.9g}: it tells apart what looks "
                "the same in this view, so no floor is proved for it."
            )
        evidence = dict(self.evidence) if view is None else {**self.evidence, "view": view}
        return proved_certificate(evidence, loss=loss, seconds=seconds)


def proved(evidence: Evidence) -> float:
    """Return what may be claimed: the value that the checker proves, less four times its error."""
    return check.claim(check.prove(evidence))


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
        weights: of the examples, `[n]`, not negative; None: all one.
        total: $N$, above 0; None: the sum of the weights.
        smoothing: $a$ in [0, 1).

    Raises:
        ValueError: for weights that are negative or no numbers, or a total that is not above 0.
        InputError: for weights above 1e60.

    Example:
        >>> floor = class_floor(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
        >>> round(floor.value, 4), floor.num_conflicts  # (2 log 2) / 3
        (0.4621, 1)
    """
    group, label, mass = _pairs(groups, labels, num_classes, _weights(weights, np.shape(groups)))
    whole = _total(total, weights, len(groups))
    return _entropy_floor(group, label, mass, whole, len(groups), num_classes, smoothing)


def error_floor(groups: np.ndarray, labels: np.ndarray, num_classes: int, weights: np.ndarray | None = None) -> Floor:
    """Return the least possible fraction of wrong answers; one minus it is the ceiling of the accuracy.

    Args:
        groups: which examples look the same, int `[n]`.
        labels: class ids, int `[n]`.
        num_classes: number of classes.
        weights: of the examples, `[n]`, not negative; None: all one.

    Raises:
        ValueError: for weights that are negative or no numbers, or without any above 0.
        InputError: for weights above 1e60.

    Example:
        >>> round(error_floor(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 2).value, 4)
        0.25
    """
    pairs = _pairs(groups, labels, num_classes, _weights(weights, np.shape(groups)))
    return _hits_floor(*pairs, _total(None, weights, len(groups)), len(groups))


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
        weights: of the examples, `[n]`, not negative; None: all one.
        total: what the sum is divided by, above 0; None: the sum of all masses.
        smoothing: fraction of each target that is spread over all classes.

    Raises:
        ValueError: for masses that are negative or no numbers, or a total that is not above 0.
        InputError: for masses above 1e60.

    Example:
        >>> round(soft_floor(np.array([0, 0]), np.array([[1.0, 0.0], [0.0, 1.0]])).value, 4)
        0.6931
    """
    rows, columns = np.nonzero(probabilities)
    mass = probabilities[rows, columns].astype(np.float64)
    mass = _weights(mass if weights is None else mass * weights[rows], mass.shape)
    num_classes = probabilities.shape[1]
    pairs = _pairs(np.asarray(groups)[rows], columns, num_classes, mass)
    return _entropy_floor(*pairs, _total(total, mass, 0), len(groups), num_classes, smoothing)


def answers_floor(groups: np.ndarray, answers: np.ndarray, weights: np.ndarray | None, total: float) -> Floor:
    """Return the least possible mean of binary cross-entropies, one for each example and output.

    Args:
        groups: which examples look the same, int `[n]`.
        answers: in [0, 1], `[n, outputs]`.
        weights: `[n, outputs]`, not negative; None: all one.
        total: what the sum is divided by, above 0.

    Raises:
        ValueError: for answers outside [0, 1], weights that are negative or no numbers, or a total that is not above 0.
        InputError: for weights above 1e60.

    Example:
        >>> round(answers_floor(np.array([0, 0]), np.array([[1.0], [0.0]]), None, 2.0).value, 4)
        0.6931
    """
    outputs = answers.shape[1]
    cells = (group_ids(groups, outputs)[:, None] * outputs + np.arange(outputs)).reshape(-1)
    yes = answers.astype(np.float64).reshape(-1)
    if not ((yes >= 0.0) & (yes <= 1.0)).all():
        raise ValueError("answers_floor(answers) must lie in [0, 1].")
    each = np.ones(len(yes)) if weights is None else np.broadcast_to(weights, answers.shape).reshape(-1)
    no = 1.0 - yes
    # A number that was weighted is off by a few roundings of 1, and so is its complement; less mass is a lower floor.
    no = no if weights is None else np.where((yes > 0.0) & (yes < 1.0), np.maximum(no - 8 * 2.0**-53, 0.0), no)
    return soft_floor(cells, np.stack([no, yes], 1), weights=each, total=total)


def number_floor(
    groups: np.ndarray, numbers: np.ndarray, weights: np.ndarray | None, total: float, factor: float
) -> Floor:
    r"""Return the least possible mean of $\text{factor}\,(y - z)^2$: the variance within the groups.

    Args:
        groups: which examples look the same, int `[n]`.
        numbers: $y$, `[n, outputs]`.
        weights: `[n]` or `[n, outputs]`, not negative; None: all one.
        total: what the sum is divided by, above 0.
        factor: of the squares.

    Raises:
        ValueError: for numbers that are none, weights that are negative, or a total that is not above 0.
        InputError: for numbers or weights above 1e60.

    Example:
        >>> floor = number_floor(np.array([0, 0, 1]), np.array([[1.0], [3.0], [5.0]]), None, 3.0, 0.5)
        >>> round(floor.value, 4)  # (1 + 1) / 2 / 3
        0.3333
    """
    outputs = numbers.shape[1]
    cells = (group_ids(groups, outputs)[:, None] * outputs + np.arange(outputs)).reshape(-1)
    y = exactly(numbers, "numbers").reshape(-1)
    _in_range(np.abs(y), "numbers")
    examples = len(y)
    each = np.ones(examples, dtype=np.int64)
    if weights is not None:
        wide = np.broadcast_to(weights.reshape(len(numbers), -1), numbers.shape).reshape(-1)
        each = _weights(wide, wide.shape)
        assert each is not None
    heavy = each > 0
    order = np.argsort(cells[heavy], kind="stable")
    cells, y, each = renumbered(cells[heavy][order]), y[heavy][order], each[heavy][order]
    starts = starts_of(cells)
    differ = np.minimum.reduceat(y, starts) < np.maximum.reduceat(y, starts) if len(starts) else np.zeros(0, dtype=bool)
    kept = differ[cells]
    evidence = {
        "rule": "floor",
        "measure": "squares",
        "group": renumbered(cells[kept]),
        "label": y[kept],
        "weight": each[kept],
        "total": _total(total, weights, 0),
        "examples": examples,
        "factor": factor,
    }
    return Floor(proved(evidence), evidence, int(differ.sum()))


def levels_floor(levels: Iterable[Level], num_classes: int, smoothing: float = 0.0) -> tuple[Floor, Floor]:
    """Return the floors of the cross-entropy and of the fraction of errors over all levels of some contexts.

    Args:
        levels: from `thalweg.certificates.floors.contexts`: all levels of prefixes, or one level of windows.
        num_classes: number of symbols that could follow.
        smoothing: fraction of each target that is spread over all of them.

    Raises:
        ValueError: without any target.
    """
    groups, labels, counts = [], [], []
    offset = num_targets = 0
    for level in levels:
        groups.append(level.group + offset)
        labels.append(level.label)
        counts.append(level.count)
        offset += int(level.group.max(initial=-1)) + 1
        num_targets += level.num_targets
    group, label, count = np.concatenate(groups), np.concatenate(labels), np.concatenate(counts)
    whole = _total(None, None, num_targets)
    pure = num_targets - int(count.sum())
    return (
        _entropy_floor(group, label, count, whole, num_targets, num_classes, smoothing, pure),
        _hits_floor(group, label, count, whole, num_targets),
    )


def whole_numbers(values: np.ndarray, what: str, most: int | None = None) -> np.ndarray:
    """Return ids as int64; a ValueError says that they are no whole numbers, or not in [0, most)."""
    values = np.asarray(values)
    if len(values) and values.dtype.kind not in "iub":
        raise ValueError(f"The {what} must be whole numbers; got an array of the type {values.dtype}.")
    if most is not None and len(values) and not (values.min() >= 0 and values.max() < most):
        raise ValueError(f"The {what} must lie in [0, {most}); got {values.min()} to {values.max()}.")
    return values.astype(np.int64)


def group_ids(groups: np.ndarray, columns: int) -> np.ndarray:
    """Return the numbers of groups as int64 that can be multiplied by a number of columns, others in their place."""
    groups = np.asarray(groups)
    if len(groups) and groups.dtype.kind not in "iub":
        raise ValueError(f"The groups must be whole numbers; got an array of the type {groups.dtype}.")
    fits = not len(groups) or (groups.min() >= 0 and int(groups.max()) < 2**62 // max(columns, 1))
    return groups.astype(np.int64) if fits else renumbered(groups)


def _weights(weights: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return weights, with those that are too small to count as 0: int64 where all are whole, else float64."""
    if weights is None:
        return None
    if weights.shape != shape:
        raise ValueError(f"The weights must have the shape {list(shape)}; got {list(weights.shape)}.")
    found = weights.astype(np.float64)
    if not (found >= 0.0).all():
        raise ValueError("The weights must be numbers, and not negative.")
    _in_range(found, "weights")
    if found.sum() < 2**53 and (found == np.rint(found)).all():
        return found.astype(np.int64)
    return np.where(found >= LEAST, found, 0.0)


def _in_range(values: np.ndarray, what: str) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"The {what} hold NaN or infinity.")
    if values.max(initial=0.0) > MOST:
        raise InputError(f"The {what} go up to {values.max():.3g}; floors are computed up to {MOST:g} only.")


def _total(total: float | None, weights: np.ndarray | None, count: int) -> float | int:
    """Return what the loss is divided by; where it is not given the sum of the weights, or the count."""
    if total is None:
        total = count if weights is None else math.fsum(weights.tolist())
    if not 0.0 < total < np.inf:
        raise ValueError(f"The total weight must be above 0, or there is no loss; got {total!r}.")
    if not LEAST <= total <= MOST:
        raise InputError(f"The weights add up to {total:.3g}; floors are computed from {LEAST:g} to {MOST:g} only.")
    return int(total) if float(total).is_integer() and total < 2**53 else float(total)


def _pairs(
    groups: np.ndarray, labels: np.ndarray, num_classes: int, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs (group, label) in order, and the weight of each: how many there are where none is given."""
    labels = whole_numbers(labels, "labels", num_classes)
    keys = group_ids(groups, num_classes) * num_classes + labels
    if weights is None:
        unique, mass = np.unique(keys, return_counts=True)
    else:
        unique, inverse = np.unique(keys, return_inverse=True)
        mass = np.bincount(inverse.reshape(-1), weights, len(unique)).astype(weights.dtype)
        unique, mass = unique[mass > 0], mass[mass > 0]
    return unique // num_classes, unique % num_classes, mass


def _impure(
    group: np.ndarray, label: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, int]:
    """Leave out groups with a single label: returns group, label and weight of the others, and how much was left out.

    The last number says how many groups are left.
    """
    starts = starts_of(group)
    sizes = np.diff(starts, append=len(group))
    keep = np.repeat(sizes > 1, sizes)
    num = int((sizes > 1).sum())
    numbers = np.repeat(np.arange(num), sizes[sizes > 1])
    return numbers, label[keep].astype(np.int64), weight[keep], _sum(weight[~keep]), num


def _sum(weights: np.ndarray) -> float:
    """Return a sum that is rounded once; of counts an int."""
    return int(weights.sum()) if weights.dtype.kind == "i" else math.fsum(weights.tolist())


def _entropy_floor(
    group: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    total: float,
    examples: int,
    num_classes: int,
    smoothing: float,
    pure: int = 0,
) -> Floor:
    evidence, alone, num_conflicts = _counted("entropy", group, label, weight, total, examples)
    evidence |= {"pure": pure + alone, "smoothing": smoothing, "classes": num_classes}
    return Floor(proved(evidence), evidence, num_conflicts)


def _hits_floor(group: np.ndarray, label: np.ndarray, weight: np.ndarray, total: float, examples: int) -> Floor:
    evidence, _, num_conflicts = _counted("errors", group, label, weight, total, examples)
    return Floor(proved(evidence), evidence, num_conflicts)


def _counted(
    measure: str, group: np.ndarray, label: np.ndarray, weight: np.ndarray, total: float, examples: int
) -> tuple[dict[str, Any], float, int]:
    """Return the evidence of what is counted, the weight of groups with one label, and how many have several."""
    group, label, weight, alone, num_conflicts = _impure(group, label, weight)
    evidence = {"rule": "floor", "measure": measure, "group": group, "label": label, "weight": weight}
    return {**evidence, "total": total, "examples": examples}, alone, num_conflicts


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
