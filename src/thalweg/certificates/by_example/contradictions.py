"""Which examples force the floor: groups that look the same to the model and have different targets, by their cost."""

import dataclasses
from typing import final

import numpy as np

from thalweg.certificates.exact import exactly
from thalweg.certificates.floors.contexts import starts_of
from thalweg.certificates.floors.floor import smoothed_entropy
from thalweg.data.arrays.equal import renumbered
from thalweg.errors import require


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Contradiction:
    """One group of examples that look the same and have different targets.

    Args:
        rows: the examples, int `[num_rows]`, rising.
        cost: what they add at least to the sum of the losses, beyond what label smoothing costs: in nats, or squared
            errors.
        errors: how many of them every model gets wrong at least (of several labels: whose set of labels is not exactly
            met), weighted; None for numbers, where nothing is right or wrong.
    """

    rows: np.ndarray
    cost: float
    errors: float | None


@final
@dataclasses.dataclass(frozen=True)
class Contradictions:
    """All groups of examples that look the same and have different targets, and the costliest of them.

    Args:
        num_groups: how many there are.
        num_rows: examples in all of them together.
        cost: of all of them: the floor of the mean loss times the count it is divided by, without label smoothing's own
            cost.
        errors: of all of them; None for numbers.
        worst: the costliest groups, the first one the costliest.
    """

    num_groups: int
    num_rows: int
    cost: float
    errors: float | None
    worst: tuple[Contradiction, ...]


def contradictions(
    groups: np.ndarray,
    targets: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    num_classes: int | None = None,
    smoothing: float = 0.0,
    factor: float | None = None,
    limit: int = 20,
) -> Contradictions:
    r"""Return which groups of examples that look the same contradict each other, and what each of them costs.

    A model answers a group $g$ as a whole, so its examples cost at least

    $$W_g \bigl(H(\bar t_g) - H_a\bigr), \qquad W_g H_b(\bar y_g) \text{ for each output}, \qquad
    \text{factor} \sum_{i \in g} w_i (y_i - \bar y_g)^2$$

    for classes, answers of yes and no, and numbers. $\bar t_g$ and $\bar y_g$ are the group's mean targets, $W_g$ is
    its weight, and $H_a$ is the entropy that label smoothing $a$ costs a perfect model. The costs of all groups add up
    to the floor of the data.

    Args:
        groups: which examples look the same, int `[n]` (see `thalweg.data.same_rows`).
        targets: class ids, int `[n]`; or answers in {0, 1}, float `[n, outputs]`; or with `factor` numbers, `[n]` or
            `[n, outputs]`.
        weights: of the examples, not negative, `[n]`; None: all one.
        num_classes: of class ids, for the smoothing; None: the largest id plus one.
        smoothing: $a$ in [0, 1), of class ids.
        factor: of the squared errors of numbers; None: the targets are no numbers.
        limit: how many groups are listed.

    Raises:
        ValueError: for groups, targets and weights of different lengths.

    Example:
        >>> found = contradictions(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 2, 2]))
        >>> found.num_groups, found.worst[0].rows.tolist(), round(found.worst[0].cost, 4), found.worst[0].errors
        (1, [0, 1, 2], 1.9095, 1.0)

    When not to use it: for sequences where each symbol is predicted from those before it; see `context_floors`.
    """
    groups, targets = np.asarray(groups), np.asarray(targets)
    lengths = [len(groups), len(targets), len(groups if weights is None else weights)]
    require(len(set(lengths)) == 1, "contradictions(groups, targets, weights) must have one length", lengths)
    if targets.ndim == 1 and factor is None:
        num_classes = int(targets.max(initial=0)) + 1 if num_classes is None else num_classes
    mass = np.ones(len(groups)) if weights is None else np.asarray(weights, dtype=np.float64)
    rows = np.flatnonzero(mass > 0.0)  # an example without weight contradicts nobody
    rows = rows[np.argsort(groups[rows], kind="stable")]
    rows = rows[_differs(groups[rows], targets[rows])]
    if not len(rows):
        return Contradictions(0, 0, 0.0, None if factor is not None else 0.0, ())
    group, target, mass = renumbered(groups[rows]), targets[rows], mass[rows]
    if factor is not None:
        cost, errors = factor * _squares(group, exactly(target, "targets"), mass), None
    elif num_classes is not None:
        cost, errors = _class_costs(group, target, mass, num_classes, smoothing)
    else:
        cost, errors = _answer_costs(group, target.astype(np.float64), mass)
    order = np.argsort(-cost, kind="stable")[:limit]
    ends = np.flatnonzero(np.diff(group, append=-1)) + 1
    starts = np.append(0, ends[:-1])
    worst = tuple(
        Contradiction(rows[starts[g] : ends[g]], float(cost[g]), None if errors is None else float(errors[g]))
        for g in order.tolist()
    )
    return Contradictions(
        len(cost), len(rows), float(cost.sum()), None if errors is None else float(errors.sum()), worst
    )


def _differs(group: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return for sorted groups which examples are in one whose targets are not all equal, bool `[n]`."""
    if not len(group):
        return np.zeros(0, dtype=bool)
    starts = starts_of(group)
    columns = target.reshape(len(target), -1)
    low, high = np.minimum.reduceat(columns, starts), np.maximum.reduceat(columns, starts)
    return np.repeat((low < high).any(1), np.diff(starts, append=len(group)))


def _class_costs(
    group: np.ndarray, labels: np.ndarray, mass: np.ndarray, num_classes: int, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return nats and errors of each group, for class ids."""
    pairs, place = np.unique(group * num_classes + labels, return_inverse=True)
    of_pair = np.bincount(place.reshape(-1), mass, len(pairs))
    of_group = np.bincount(group, mass)
    owner = pairs // num_classes
    share, spread = of_pair / of_group[owner], smoothing / num_classes
    smooth = (1.0 - smoothing) * share + spread
    entropy = -np.bincount(owner, smooth * np.log(smooth), len(of_group))
    if spread > 0.0:
        entropy -= (num_classes - np.bincount(owner, minlength=len(of_group))) * spread * np.log(spread)
    most = np.zeros(len(of_group))
    np.maximum.at(most, owner, of_pair)
    return of_group * np.maximum(0.0, entropy - smoothed_entropy(num_classes, smoothing)), of_group - most


def _answer_costs(group: np.ndarray, answers: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return nats and errors of each group, for rows of answers."""
    of_group = np.bincount(group, mass)
    cost = np.zeros(len(of_group))
    for column in answers.T:
        yes = np.clip(np.bincount(group, mass * column) / of_group, 0.0, 1.0)
        for share in (yes, 1.0 - yes):
            cost -= of_group * share * np.log(np.where(share > 0.0, share, 1.0))
    sets = np.unique(answers, axis=0, return_inverse=True)[1].reshape(-1)
    return cost, _class_costs(group, sets, mass, int(sets.max()) + 1, 0.0)[1]


def _squares(group: np.ndarray, numbers: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return the sum of squared distances from the group's mean."""
    of_group = np.bincount(group, mass)
    total = np.zeros(len(of_group))
    for column in numbers[None] if numbers.ndim == 1 else numbers.T:
        mean = np.bincount(group, mass * column) / of_group
        total += np.bincount(group, mass * (column - mean[group]) ** 2)
    return total
