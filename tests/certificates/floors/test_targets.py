"""Targets of an objective: which count, with their weights, and nothing that is not needed stays in memory."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.certificates.floors.targets import (
    collect_targets,
    conflicting,
    floor_of_errors,
    floor_of_groups,
    groups_by_input,
)
from thalweg.errors import InputError
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective
from thalweg.training.certified.certify import certify

X = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
Y = torch.tensor([0, 1, 1, 1])


def of(loss, targets=Y, **keywords):
    """Targets and groups of a linear model that always answers 1 (or the number 0)."""
    model = nn.Linear(1, 1 if targets.is_floating_point() and targets.ndim == 2 else 2)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.arange(len(model.bias)))
    objective = Objective(model, loss, X, targets, **keywords).copied(torch.float64)
    found = collect_targets(objective)
    return objective, found, groups_by_input(objective.batches, found)


def entropy(*masses):
    total = sum(masses)
    return -sum(m * math.log(m / total) for m in masses if m)


@pytest.mark.parametrize(
    ("loss", "keywords", "floor", "errors", "wrong"),
    [
        (nn.CrossEntropyLoss(), {}, entropy(1, 2) / 4, 1 / 4, 1 / 4),
        (nn.CrossEntropyLoss(), {"weights": torch.tensor([0.0, 1.0, 1.0, 1.0])}, 0.0, 0.0, 0.0),
        (nn.CrossEntropyLoss(), {"mask": torch.tensor([False, True, True, True])}, 0.0, 0.0, 0.0),
        (nn.CrossEntropyLoss(), {"weights": torch.tensor([4.0, 1.0, 1.0, 2.0])}, entropy(4, 2) / 8, 1 / 4, 1 / 4),
        (nn.CrossEntropyLoss(), {"weights": torch.tensor([4.0, 0.0, 1.0, 0.0])}, entropy(4, 1) / 5, 1 / 2, 1 / 2),
        (nn.CrossEntropyLoss(torch.tensor([0.0, 1.0])), {}, 0.0, 0.0, 0.0),
        (nn.CrossEntropyLoss(torch.tensor([5.0, 1.0])), {}, entropy(5, 2) / 8, 1 / 4, 1 / 4),
        (nn.CrossEntropyLoss(torch.tensor([0.1, 0.7])), {}, entropy(0.1, 1.4) / 2.2, 1 / 4, 1 / 4),
    ],
)
def test_weights_masks_and_class_weights(loss, keywords, floor, errors, wrong):
    _, targets, groups = of(loss, **keywords)
    assert floor_of_groups(targets, groups).value == pytest.approx(floor, rel=1e-6, abs=1e-15)
    assert floor_of_errors(targets, groups).value == pytest.approx(errors, abs=1e-12)
    assert targets.errors == wrong


def test_ties_are_answered_by_one_of_them():
    mask = torch.tensor([True, True, False, False])
    _, targets, groups = of(nn.CrossEntropyLoss(), torch.tensor([0, 1, 0, 1]), mask=mask)
    assert floor_of_errors(targets, groups).value == pytest.approx(1 / 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_targets_and_smoothing(smoothing):
    soft = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75], [0.0, 1.0]])
    objective = Objective(nn.Linear(1, 2), Softmax(None, 2, label_smoothing=smoothing), X, soft).copied(torch.float64)
    targets = collect_targets(objective)
    groups = groups_by_input(objective.batches, targets)
    mean = soft[:3].double().mean(0) * (1 - smoothing) + smoothing / 2
    alone = soft[3].double() * (1 - smoothing) + smoothing / 2
    expected = (3 * entropy(*mean.tolist()) + entropy(*alone.tolist())) / 4
    assert floor_of_groups(targets, groups).value == pytest.approx(expected, rel=1e-12)
    assert targets.errors is None


@pytest.mark.parametrize("positive", [None, 1e-20, 3.0])
def test_answers_with_a_weight_of_the_positive_ones(positive):
    weight = None if positive is None else torch.tensor([positive], dtype=torch.float64)
    answers = torch.tensor([[0.0], [1.0], [1.0], [1.0]])
    _, targets, groups = of(Bernoulli(None, pos_weight=weight), answers)
    expected = entropy(1, 2 * (positive or 1.0)) / 4
    assert floor_of_groups(targets, groups).value == pytest.approx(expected, rel=1e-9)


def test_numbers_of_large_size_and_small_spread():
    numbers = torch.tensor([[1e8], [1e8 + 1e-6], [1e8], [3.0]], dtype=torch.float64)
    _, targets, groups = of(nn.MSELoss(), numbers)
    step = float(numbers[1] - numbers[0])
    assert floor_of_groups(targets, groups).value == pytest.approx(step**2 * 2 / 3 / 4, rel=1e-9)


def test_batches_without_a_real_target_add_nothing():
    masked = Batch({"inputs": X}, Y, torch.zeros(4, dtype=torch.bool))
    model = nn.Linear(1, 2)
    wrapped = nn.Module()
    wrapped.layer, wrapped.forward = model, lambda inputs: model(inputs)
    objective = Objective(wrapped, nn.CrossEntropyLoss(), [masked, Batch({"inputs": X}, Y), masked])
    targets = collect_targets(objective)
    groups = groups_by_input(objective.batches, targets)
    assert floor_of_groups(targets, groups).value == pytest.approx(entropy(1, 2) / 4)


def test_one_class_has_no_floor():
    objective = Objective(nn.Linear(1, 1), nn.CrossEntropyLoss(), X, torch.zeros(4, dtype=torch.int64))
    targets = collect_targets(objective.copied(torch.float64))
    groups = groups_by_input(objective.batches, targets)
    assert (floor_of_groups(targets, groups).value, floor_of_errors(targets, groups).value) == (0.0, 0.0)


def test_which_targets_are_in_conflict():
    _, targets, groups = of(nn.CrossEntropyLoss())
    assert conflicting(targets, groups).tolist() == [True, True, True, False]
    _, targets, groups = of(nn.MSELoss(), torch.tensor([[1.0], [1.0], [1.0], [2.0]]))
    assert not conflicting(targets, groups).any()


def test_the_features_of_a_batch_are_let_go_before_the_next():
    """A slice of them would keep all of them."""
    sizes = []

    class Wide(nn.Module):
        def forward(self, inputs):
            return inputs.expand(-1, 1000) * 1.0

    head = Softmax(1000, 2)
    form_of = head.linear_form

    def watched(hidden, *rest):
        form = form_of(hidden, *rest)
        sizes.append(form.features)
        return form

    head.linear_form = watched
    objective = Objective(Wide(), head, [Batch({"inputs": X}, Y)] * 3)
    targets = collect_targets(objective)
    assert targets.form.features.untyped_storage().nbytes() == 0
    assert len(sizes) == 3


def test_logits_of_many_classes_are_made_in_parts(monkeypatch):
    monkeypatch.setattr("thalweg.certificates.floors.targets.MAX_LOGITS", 5)
    _, targets, _ = of(nn.CrossEntropyLoss())
    assert targets.errors == 1 / 4


def test_a_model_that_returns_no_row_for_each_example_is_refused():
    objective = Objective(nn.Flatten(0), nn.MSELoss(), X, torch.zeros(4))
    with pytest.raises(InputError, match="a row for each example, 4 here"):
        collect_targets(objective)
    assert np.isfinite(float(objective.value()))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_soft_targets_whose_rows_do_not_add_up_to_one(smoothing):
    soft = torch.tensor([[0.7, 0.4], [0.2, 0.5], [0.1, 0.7], [0.6, 0.4]], dtype=torch.float64)
    model = nn.Linear(1, 2)
    objective = Objective(model, nn.CrossEntropyLoss(label_smoothing=smoothing), X, soft).copied(torch.float64)
    found = collect_targets(objective)
    floor = floor_of_groups(found, groups_by_input(objective.batches, found)).value
    optimizer = torch.optim.LBFGS(objective.parameters, max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-16)
    optimizer.step(objective)  # two different inputs, so that a linear model is any function of them
    assert floor <= objective.value() <= floor * (1 + 1e-9)


def test_a_loss_without_any_target_is_refused():
    model = nn.Linear(1, 2)
    weights, loss = torch.ones(4), nn.CrossEntropyLoss(ignore_index=1)
    with pytest.raises(InputError, match="The loss is nan"):
        certify(Objective(model, loss, X, torch.ones(4, dtype=torch.int64), weights=weights))
