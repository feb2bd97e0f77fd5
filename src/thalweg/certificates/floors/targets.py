"""The floor of an objective: its targets, and which of them the model cannot tell apart."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from thalweg.batch import Batch
from thalweg.certificates.floors.contexts import prefix_levels
from thalweg.certificates.floors.floor import (
    Floor,
    answers_floor,
    class_floor,
    levels_floor,
    number_floor,
    soft_floor,
)
from thalweg.certificates.linear.forms import form_on, join_forms
from thalweg.data.arrays.equal import Prefixes, same_rows
from thalweg.errors import InputError
from thalweg.heads.base import ConvexLoss, LinearForm
from thalweg.objective import Objective

MAX_MASSES: Final = 50_000_000  # of a table with a row a target and a column a class
ROW_BY_ROW = "each full example"


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
    errors: float | None  # fraction of wrong answers; None where there are no classes
    loss: float  # of the objective, from the same pass

    @property
    def unit(self) -> str:
        """The unit of the loss."""
        return "squared error" if self.form.loss is ConvexLoss.SQUARED else "nats"


def collect_targets(objective: Objective, keep: Callable[[LinearForm], None] | None = None) -> Targets:
    """Return the targets of all batches, from one pass of the model.

    `keep` is shown the form of each batch. It raises an InputError if the loss is not a convex function of a linear
    prediction, or no finite features.
    """
    forms: list[LinearForm] = []
    positions: list[tuple[np.ndarray, np.ndarray]] = []
    wrong, outputs, total, count = 0.0, 1, 0.0, 0.0
    with torch.no_grad():
        for batch in objective.batches:
            hidden, form = form_on(objective, batch)
            if not bool(torch.isfinite(form.features).all()):
                raise InputError(
                    "The model's hidden states hold NaN or infinity, so there is nothing to certify; look at its "
                    "inputs and weights."
                )
            if keep is not None:
                keep(form)
            prediction = form.features if form.layer is None else form.layer(form.features)
            outputs = prediction.shape[-1]
            wrong += _wrong(form, prediction)
            part, divisor = objective.head.loss_from_hidden(hidden, batch.targets, batch.mask, batch.weights)
            total, count = total + float(part), count + float(divisor)
            positions.append(_positions(hidden, form))
            # A new tensor: a slice would keep the features of all batches alive.
            none = form.features.new_empty((0, form.features.shape[1]))
            forms.append(dataclasses.replace(form, features=none, rows=None))
    first = forms[0]
    joined = join_forms(forms)
    targets = joined.targets.cpu().numpy()
    if not np.isfinite(targets).all():
        raise InputError("The targets hold NaN or infinity; clean the data.")
    weights = None if joined.weights is None else joined.weights.cpu().numpy()
    classes = first.loss is ConvexLoss.SOFTMAX and not first.targets.is_floating_point() and weights is None
    squares = sum(float(tensor.detach().square().sum()) for tensor in objective.penalized)
    return Targets(
        first,
        outputs,
        targets,
        weights,
        float(joined.count),
        positions,
        wrong / len(targets) if classes else None,
        total / count + 0.5 * objective.l2 * squares,
    )


def groups_by_input(batches: Sequence[Batch], targets: Targets) -> np.ndarray:
    """Return the group of each target where nothing is known of the model but that it looks at one row at a time.

    Two targets share a group if their rows have equal inputs (of equal shape) and they have the same place in it.
    """
    rows = [_row_values(batch) for batch in batches]
    values = np.concatenate([part.reshape(-1) for part in rows])
    lengths = np.concatenate([np.full(len(part), part.shape[1]) for part in rows])
    ids = same_rows((values, lengths))
    longest = 1 + max(int(place.max(initial=0)) for _, place in targets.positions)
    parts, start = [], 0
    for part, (row, place) in zip(rows, targets.positions, strict=True):
        parts.append(ids[start + row] * longest + place)
        start += len(part)
    return np.concatenate(parts)


def floor_of_groups(targets: Targets, groups: np.ndarray) -> Floor:
    """Return the floor of the mean loss for targets that the model sees in these groups.

    It raises an InputError where class weights with label smoothing would take a table that is too large.
    """
    form, weights = targets.form, targets.weights
    assert len(groups) == len(targets.targets), f"{len(groups)} groups of {len(targets.targets)} targets"
    if form.loss is ConvexLoss.SQUARED:
        return number_floor(groups, targets.targets, weights, targets.count, form.factor)
    if form.loss is ConvexLoss.LOGISTIC:
        return answers_floor(groups, targets.targets, weights, targets.count)
    if form.class_weights is not None:
        return _weighted_classes(targets, groups, form.class_weights.double().cpu().numpy())
    if targets.targets.ndim == 2:
        return soft_floor(groups, targets.targets, weights=weights, total=targets.count, smoothing=form.smoothing)
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
        raise InputError("Class weights with label smoothing would take a table too large to count.")
    hard = np.eye(num_classes)[targets.targets] if targets.targets.ndim == 1 else targets.targets
    masses = u * ((1.0 - form.smoothing) * hard + form.smoothing / num_classes)
    return soft_floor(groups, masses, weights=targets.weights, total=targets.count)


def _wrong(form: LinearForm, prediction: Tensor) -> float:
    if form.loss is not ConvexLoss.SOFTMAX or form.targets.is_floating_point():
        return math.nan
    return float((prediction.argmax(-1) != form.targets).sum())


def _positions(hidden: Tensor, form: LinearForm) -> tuple[np.ndarray, np.ndarray]:
    """Return row and place in the row of each target."""
    flat = np.arange(hidden.shape[:-1].numel())
    if form.rows is not None:
        flat = flat[form.rows.cpu().numpy()]
    each = max(1, hidden.shape[1:-1].numel())
    return flat // each, flat % each


def _row_values(batch: Batch) -> np.ndarray:
    """Return all inputs of a batch as one row of numbers an example; bags keep their features in their order."""
    inputs = batch.inputs
    if "offsets" in inputs:
        return _bag_rows(batch)
    parts = [inputs[name].detach().cpu() for name in sorted(inputs)]
    if any(len(part) != batch.num_examples for part in parts):
        raise InputError("The inputs have no row for each example, so it is unknown which of them are equal.")
    return np.concatenate([part.reshape(len(part), -1).double().numpy() for part in parts], axis=1)


def _bag_rows(batch: Batch) -> np.ndarray:
    """Return the features of each bag with their weights, as rows of one length (a bag of fewer ends in -1)."""
    inputs = batch.inputs
    tokens, offsets = inputs["tokens"].cpu().numpy(), inputs["offsets"].cpu().numpy()
    weights = inputs["weights"].double().cpu().numpy() if "weights" in inputs else np.ones(len(tokens))
    lengths = np.diff(np.append(offsets, len(tokens)))
    place = np.arange(len(tokens)) - np.repeat(offsets, lengths)
    rows = np.full((len(offsets), 2, max(1, int(lengths.max(initial=0)))), -1.0)
    example = np.repeat(np.arange(len(offsets)), lengths)
    rows[example, 0, place], rows[example, 1, place] = tokens, weights
    return rows.reshape(len(offsets), -1)
