"""The level of output layers without a penalty: what it says, and that every sentence is true."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from thalweg import MLP, Bernoulli, Objective, Softmax
from thalweg.certificates.checker.check import Refused, rule
from thalweg.certificates.halfspaces import level as level_module
from thalweg.certificates.halfspaces.level import separable_level
from thalweg.errors import InputError

X = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [2.0, 3.0]])


def level_of(targets, outputs=2, x=X, loss=None, weights=None, seconds=20.0, **penalty):
    torch.manual_seed(0)
    loss = loss or (nn.BCEWithLogitsLoss() if outputs == 1 else nn.CrossEntropyLoss())
    objective = Objective(nn.Linear(x.shape[1], outputs), loss, x, targets, weights=weights, **penalty)
    return separable_level(objective.copied(torch.float64), seconds=seconds)


def proved(level):
    return rule("separable")(level.evidence)[1]


@pytest.mark.parametrize("outputs", [1, 2])
def test_errors_that_no_layer_avoids(outputs):
    labels = torch.tensor([0, 0, 1, 1, 1])
    level = level_of(labels[:, None].float() if outputs == 1 else labels, outputs)
    assert level.bound == proved(level) == 1.0
    assert level.loss >= 1.0
    assert not level.whole
    assert level.scope == (
        "Every output layer is wrong on at least 1 example of these 5, on the features that the layers below it give "
        "them now; its weights and bias are all that changes."
    )


@pytest.mark.parametrize(("labels", "bound"), [([0, 0, 1, 1, 2], 1.0), ([0, 1, 2, 0, 1], 0.0)])
def test_three_classes(labels, bound):
    level = level_of(torch.tensor(labels), 3)
    assert level.bound == proved(level) == bound
    assert ("as close to 0 as you like" in "".join(level.assumptions)) == (bound == 0.0)
    assert level.reached == (0.0 if bound == 0.0 else None)


LABELS = torch.tensor([0, 1, 0, 1, 1])


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), LABELS),
        (nn.CrossEntropyLoss(), torch.tensor([[0.75, 0.25], [0.25, 0.75], [1.0, 0.0], [0.125, 0.875], [0.0, 1.0]])),
        (Bernoulli(None, label_smoothing=0.1), LABELS[:, None].float()),
        (nn.BCEWithLogitsLoss(), torch.tensor([[0.2], [0.8], [0.1], [0.9], [1.0]])),
    ],
)
def test_no_infimum_of_0_is_claimed_with_soft_targets(loss, targets):
    """Their loss is bounded away from 0 by their entropy, which every layer pays."""
    level = level_of(targets, 1 if targets.ndim == 2 and targets.shape[1] == 1 else 2, loss=loss)
    assert level.bound == proved(level) == 0.0
    assert "Some output layer is right on all of these 5 training examples" in level.scope
    assert level.assumptions == ()


def test_the_infimum_is_reached_from_above_by_multiples():
    level = level_of(LABELS)
    weights, bias = (torch.tensor(level.evidence[name]) for name in ("W", "b"))
    losses = [float(nn.functional.cross_entropy(k * (X.double() @ weights.T + bias), LABELS)) for k in (1, 10, 100)]
    assert losses[0] > losses[1] >= losses[2] >= 0.0
    assert losses[2] < 1e-3


def test_a_penalty_on_the_body_stays_in_the_loss():
    torch.manual_seed(0)
    model = MLP([2, 4, 2], activation=nn.Tanh)
    body = [parameter for name, parameter in model.named_parameters() if "layers.0" in name or "0." in name]
    objective = Objective(model, nn.CrossEntropyLoss(), X, LABELS, l2=0.1, penalized=body[:1]).copied(torch.float64)
    level = separable_level(objective)
    assert level.bound == 0.0
    assert "as close to 0 as you like but for the penalty on the other weights" in "".join(level.assumptions)


@pytest.mark.parametrize("where", ["example", "class"])
def test_weights_of_0_are_no_error_and_no_demand(where):
    """The corners of a square contradict one another; without two of them nothing does."""
    labels = torch.tensor([0, 0, 1, 1, 1])
    if where == "example":
        level = level_of(labels, weights=torch.tensor([1.0, 0.0, 2.0, 1.0, 1.0]), loss=Softmax(None, 2))
    else:
        level = level_of(labels, loss=nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0])))
    assert level.bound == 0.0
    assert level.loss <= 4.0
    assert f"on all of these {4 if where == 'example' else 3} training examples" in level.scope


def test_the_search_goes_on_while_there_is_time_and_says_where_it_stopped():
    rng = np.random.default_rng(0)
    x, labels = torch.from_numpy(rng.normal(size=(2000, 5))).float(), torch.from_numpy(rng.integers(0, 2, 2000))
    level = level_of(labels, x=x)
    assert level.bound > 100.0  # not a cap of 50
    assert "stopped" not in level.scope
    start = time.process_time()
    short = level_of(labels, x=x, seconds=0.1)
    assert time.process_time() - start < 1.5
    assert 0.0 < short.bound < level.bound
    assert f"at least {short.bound:,.0f} examples (the search for more stopped there) of these 2,000," in short.scope
    assert proved(short) == short.bound


def test_what_was_looked_for_is_told_where_the_time_was_too_short(monkeypatch):
    def too_late(*given):
        raise InputError("The time was over.")

    monkeypatch.setattr(level_module, "_disjoint_sets", lambda examples, end: ([], True, None))
    monkeypatch.setattr(level_module, "separating_layer", too_late)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 2))).float()
    expected = r"were found in the time that there was.*The time was over\."
    with pytest.raises(InputError, match=expected):
        level_of(torch.arange(30) % 3, outputs=3, x=x)


def test_ties_count_as_one_of_the_classes_whichever_it_is():
    """A layer of zeros ties everywhere: right on all of one class only, never on both examples of a conflict."""
    x, labels = torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1])
    level = level_of(labels, x=x)
    assert level.bound == proved(level) == 1.0


def test_large_scales_and_offsets():
    number = torch.arange(40)
    x = torch.stack([1.7e9 + number.double(), (number % 2).double()], 1)
    objective = Objective(nn.Linear(2, 2).double(), nn.CrossEntropyLoss(), x, number % 2)
    level = separable_level(objective)
    assert level.bound == proved(level) == 0.0
    with pytest.raises(Refused, match="not right on every example"):
        rule("separable")({**level.evidence, "b": level.evidence["b"] + [0.0, 1.0]})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: level_of(LABELS, l2=0.1), "under an L2 penalty"),
        (lambda: level_of(torch.rand(5, 3).round(), 3, loss=nn.BCEWithLogitsLoss()), "one class per example"),
        (lambda: level_of(torch.full((5, 2), 0.5)), "one class per example"),
        (lambda: level_of(torch.zeros(5, 1), 1, loss=nn.MSELoss()), "one class per example"),
        (lambda: level_of(LABELS, seconds=1e-9), "takes longer than"),
    ],
)
def test_what_the_level_is_not_about_is_told(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_layer_needs_a_bias():
    objective = Objective(nn.Linear(2, 2, bias=False), nn.CrossEntropyLoss(), X, LABELS).copied(torch.float64)
    with pytest.raises(InputError, match="has no bias"):
        separable_level(objective)
