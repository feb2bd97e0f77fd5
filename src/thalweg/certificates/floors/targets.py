"""The floor of an objective: its targets, and which of them the model cannot tell apart."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Final, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.certificates.floors.contexts import prefix_levels, starts_of
from thalweg.certificates.floors.floor import (
    Floor,
    answers_floor,
    class_floor,
    error_floor,
    levels_floor,
    number_floor,
    soft_floor,
)
from thalweg.certificates.floors.rows import column_sizes, columns_of, numbers_of
from thalweg.certificates.linear.forms import form_on, join_forms
from thalweg.data.arrays.equal import Column, Prefixes, same_rows
from thalweg.errors import InputError
from thalweg.heads.base import ConvexLoss, LinearForm
from thalweg.objective import Objective

GROWN: Final = 1e3  # times what a column of hidden states was in the first batch; then they are looked at again
MAX_MASSES: Final = 50_000_000  # of a table with a row a target and a column a class
MAX_LOGITS: Final = 2**22  # held at a time
ROW_BY_ROW: Final = "a full example"


@final
@dataclasses.dataclass(frozen=True)
class Targets:
    """What a head is to answer on all batches, and how often the model at hand is wrong."""

    form: LinearForm  # of the first batch, for what all batches share
    num_outputs: int  # columns of the prediction
    targets: np.ndarray  # all of them, ids [n] or rows [n, outputs]
    weights: np.ndarray | None
    count: float  # what the sum is divided by
    positions: list[tuple[np.ndarray, np.ndarray]]  # for each batch the row and the place in it of each target
    errors: float | None  # fraction of wrong answers, those of weight 0 left out; None where there are no classes
    loss: float  # of the objective, from the same pass
    answers: np.ndarray  # a number for the hidden state of each target, the same in whatever row and batch it stands

    @property
    def unit(self) -> str:
        """The unit of the loss."""
        return "squared error" if self.form.loss is ConvexLoss.SQUARED else "nats"


def collect_targets(
    objective: Objective,
    keep: Callable[[LinearForm], None] | None = None,
    watch: Callable[[], None] = lambda: None,
    layer: nn.Linear | None = None,
) -> Targets:
    """Return the targets of all batches, from one pass of the model that holds one batch at a time.

    `keep` is shown the form of each batch, and `watch` is called after each; `layer` is as for `form_on`.
    It raises an InputError if the loss is not a convex function of a linear
    prediction, or no finite features.
    """
    forms: list[LinearForm] = []
    positions: list[tuple[np.ndarray, np.ndarray]] = []
    wrong: list[np.ndarray] = []
    answers: list[np.ndarray] = []
    sizes: Tensor | None = None
    most: Tensor | None = None
    outputs, total, count = 1, 0.0, 0.0
    with torch.no_grad():
        for batch in objective.batches:
            hidden, form = form_on(objective, batch, layer)
            if hidden.ndim < 2 or len(hidden) != batch.num_examples:
                raise InputError(
                    f"The model must return a row for each example, {batch.num_examples:,} here, and returns a tensor "
                    f"of shape {list(hidden.shape)}; it is unknown which answer belongs to which example."
                )
            if not bool(torch.isfinite(form.features).all()):
                raise InputError(
                    "The model's hidden states hold NaN or infinity, so there is nothing to certify; look at its "
                    "inputs and weights."
                )
            if keep is not None:
                keep(form)
            outputs = form.features.shape[1] if form.layer is None else form.layer.out_features
            wrong.append(_wrong(form, outputs))
            if len(form.features):
                highest = form.features.abs().amax(0, keepdim=True)
                most = highest if most is None else torch.maximum(most, highest)
                sizes = column_sizes(most) if sizes is None else sizes
            answers.append(numbers_of(form.features, column_sizes(form.features) if sizes is None else sizes))
            part, divisor = objective.head.loss_from_hidden(hidden, batch.targets, batch.mask, batch.weights)
            total, count = total + float(part), count + float(divisor)
            positions.append(_positions(hidden, form))
            # A new tensor: a slice would keep the features of all batches alive.
            none = form.features.new_empty((0, form.features.shape[1]))
            forms.append(dataclasses.replace(form, features=none, rows=None))
            watch()
        if most is not None and sizes is not None and bool((column_sizes(most) > GROWN * sizes).any()):
            whole = column_sizes(most)
            answers = [numbers_of(form_on(objective, batch)[1].features, whole) for batch in objective.batches]
    first = forms[0]
    joined = join_forms(forms)
    targets = joined.targets.cpu().numpy()
    if not np.isfinite(targets).all():
        raise InputError("The targets hold NaN or infinity; clean the data.")
    weights = None if joined.weights is None else joined.weights.cpu().numpy()
    squares = sum(float(tensor.detach().square().sum()) for tensor in objective.penalized)
    loss = total / count + 0.5 * objective.l2 * squares if count > 0.0 else math.nan
    found = Targets(
        first, outputs, targets, weights, float(joined.count), positions, None, loss, np.concatenate(answers)
    )
    _require_bounded(found)
    heavy = _is_heavy(found)
    if not (_is_classes(first) and heavy.any()):
        return found
    return dataclasses.replace(found, errors=float(np.concatenate(wrong)[heavy].mean()))


def groups_by_input(batches: Sequence[Batch], targets: Targets) -> np.ndarray:
    """Return the group of each target where nothing is known of the model but that it looks at one row at a time.

    Two targets share a group if their rows have the same inputs, of the same names, types and shapes, bit for bit, and
    they have the same place in it. It raises an InputError for inputs that have no row for each example.
    """
    kinds: dict[object, tuple[list[int], list[list[Column]]]] = {}
    for number, batch in enumerate(batches):
        kind, columns = columns_of(batch)
        numbers, parts = kinds.setdefault(kind, ([], []))
        numbers.append(number)
        parts.append(columns)
    ids: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(batches)
    offset = 0
    for numbers, parts in kinds.values():
        sizes = [batches[number].num_examples for number in numbers]
        joined = [_joined(column) for column in zip(*parts, strict=True)]
        found = same_rows(*joined) if joined else np.zeros(sum(sizes), dtype=np.int64)
        for number, part in zip(numbers, np.split(found + offset, np.cumsum(sizes)[:-1]), strict=True):
            ids[number] = part
        offset += int(found.max(initial=-1)) + 1
    longest = 1 + max(int(place.max(initial=0)) for _, place in targets.positions)
    parts = [own[row] * longest + place for own, (row, place) in zip(ids, targets.positions, strict=True)]
    return np.concatenate(parts)


def conflicting(targets: Targets, groups: np.ndarray) -> np.ndarray:
    """Return which targets are in a group with different ones, bool `[n]`: those that make a floor."""
    rows = targets.targets.reshape(len(groups), -1)
    order = np.argsort(groups, kind="stable")
    starts = starts_of(groups[order])
    sizes = np.diff(starts, append=len(order))
    first = order[np.repeat(starts, sizes)]
    differs = np.zeros(len(order), dtype=bool)
    chunk = max(1, MAX_LOGITS // rows.shape[1])
    for begin in range(0, len(order), chunk):
        part = slice(begin, begin + chunk)
        differs[part] = (rows[order[part]] != rows[first[part]]).any(1)
    found = np.zeros(len(order), dtype=bool)
    if len(starts):
        found[order] = np.repeat(np.logical_or.reduceat(differs, starts), sizes)
    return found


def floor_of_errors(targets: Targets, groups: np.ndarray) -> Floor:
    """Return the floor of the fraction of wrong answers: every target counts the same, those of weight 0 do not."""
    heavy = _is_heavy(targets)
    return error_floor(groups[heavy], targets.targets[heavy], targets.num_outputs)


def floor_of_groups(targets: Targets, groups: np.ndarray) -> Floor:
    """Return the floor of the mean loss for targets that the model sees in these groups.

    It raises an InputError where class weights or soft targets with smoothing would take a table that is too large.
    """
    form, weights = targets.form, targets.weights
    assert len(groups) == len(targets.targets), f"{len(groups)} groups of {len(targets.targets)} targets"
    if form.loss is ConvexLoss.SQUARED:
        return number_floor(groups, targets.targets, weights, targets.count, form.factor)
    if form.loss is ConvexLoss.LOGISTIC:
        return answers_floor(groups, targets.targets, weights, targets.count)
    if form.class_weights is not None:
        return _weighted_classes(targets, groups, form.class_weights.double().cpu().numpy())
    if targets.targets.ndim == 2 and form.smoothing == 0.0:
        return soft_floor(groups, targets.targets, weights=weights, total=targets.count)
    if targets.targets.ndim == 2:  # smoothed one by one: rows of float32 do not add up to one
        return _weighted_classes(targets, groups, np.ones(targets.num_outputs))
    return class_floor(
        groups,
        targets.targets,
        targets.num_outputs,
        weights=weights,
        total=targets.count,
        smoothing=form.smoothing,
    )


def floors_of_prefixes(targets: Targets, view: Prefixes) -> tuple[Floor, Floor]:
    """Return the floors of the mean loss and of the fraction of errors for a model that sees prefixes.

    It raises an InputError for targets with weights, which prefixes are not counted with.
    """
    if targets.weights is not None or targets.form.class_weights is not None:
        raise InputError("Targets with weights are not counted by their prefixes.")
    assert len(view.symbols) == len(targets.targets), f"{len(view.symbols)} symbols, {len(targets.targets)} targets"
    levels = prefix_levels(view.symbols, view.lengths, view.first)
    return levels_floor(levels, targets.num_outputs, targets.form.smoothing)


def _weighted_classes(targets: Targets, groups: np.ndarray, u: np.ndarray) -> Floor:
    form, num_classes = targets.form, targets.num_outputs
    if targets.targets.ndim == 1 and form.smoothing == 0.0:
        each = u[targets.targets] * (1.0 if targets.weights is None else targets.weights)
        return class_floor(groups, targets.targets, num_classes, weights=each, total=targets.count)
    if len(groups) * num_classes > MAX_MASSES:
        raise InputError("Weights or soft targets with label smoothing would take a table too large to count.")
    hard = np.eye(num_classes)[targets.targets] if targets.targets.ndim == 1 else targets.targets
    masses = u * ((1.0 - form.smoothing) * hard + form.smoothing / num_classes)
    return soft_floor(groups, masses, weights=targets.weights, total=targets.count)


def _require_bounded(found: Targets) -> None:
    """Raise an InputError for a loss that weights or targets may make negative without limit."""
    by_class = None if found.form.class_weights is None else found.form.class_weights.cpu().numpy()
    weights = (part for part in (found.weights, by_class) if part is not None)
    if not all((part >= 0.0).all() and np.isfinite(part).all() for part in weights):
        raise InputError("Some weights of examples or classes are negative or not finite, so no loss is bounded below.")
    shares = found.targets
    if found.form.loss is ConvexLoss.SQUARED or shares.dtype.kind != "f":
        return
    if shares.min(initial=0.0) < 0.0 or (found.form.loss is ConvexLoss.LOGISTIC and shares.max(initial=0.0) > 1.0):
        raise InputError("Some targets are no probabilities, but negative or above 1, so no loss is bounded below.")


def _is_classes(form: LinearForm) -> bool:
    return form.loss is ConvexLoss.SOFTMAX and not form.targets.is_floating_point()


def _is_heavy(targets: Targets) -> np.ndarray:
    """Return which targets have a weight above 0, bool `[n]`."""
    heavy = np.ones(len(targets.targets), dtype=bool)
    if targets.weights is not None:
        heavy &= (targets.weights > 0.0).any(tuple(range(1, targets.weights.ndim)))
    if targets.form.class_weights is not None and targets.targets.ndim == 1:
        heavy &= targets.form.class_weights.cpu().numpy()[targets.targets] > 0.0
    return heavy


def _wrong(form: LinearForm, outputs: int) -> np.ndarray:
    """Return which answers are wrong, bool; no more than `MAX_LOGITS` predictions are held at a time."""
    if not _is_classes(form):
        return np.zeros(0, dtype=bool)
    wrong = []
    chunk = max(1, MAX_LOGITS // outputs)
    for part, targets in zip(form.features.split(chunk), form.targets.split(chunk), strict=True):
        prediction = part if form.layer is None else form.layer(part)
        wrong.append((prediction.argmax(-1) != targets).cpu().numpy())
    return np.concatenate(wrong)


def _joined(parts: Sequence[Column]) -> Column:
    """Return the column of several batches."""
    if isinstance(parts[0], tuple):
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    return np.concatenate([part for part in parts if not isinstance(part, tuple)])


def _positions(hidden: Tensor, form: LinearForm) -> tuple[np.ndarray, np.ndarray]:
    """Return row and place in the row of each target."""
    flat = np.arange(hidden.shape[:-1].numel())
    if form.rows is not None:
        flat = flat[form.rows.cpu().numpy()]
    each = max(1, hidden.shape[1:-1].numel())
    return flat // each, flat % each
