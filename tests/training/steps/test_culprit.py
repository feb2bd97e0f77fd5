"""What was not finite is found where it began, and looking for it leaves no trace."""

import math

import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective
from thalweg.training.steps.culprit import GRADIENT, INPUT, OUTPUT, PARAMETER, Culprit, find_culprit
from thalweg.training.steps.fit import FitOptions, fit


class Overflowing(nn.Module):
    """e to a power that is too large for a float."""

    def forward(self, x):
        return torch.exp(x * 1e4)


class Root(nn.Module):
    """A square root of zero: finite, with an infinite derivative."""

    def forward(self, x):
        return torch.sqrt(x * 0.0)


def network(*parts):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), *parts, nn.Linear(4, 4))
    return model, Softmax(4, 2)


def batch(value=1.0):
    return Batch({"input": torch.tensor([[value, 2.0], [3.0, -1.0], [0.5, 0.5]])}, torch.tensor([0, 1, 1]))


def spoil(model):
    with torch.no_grad():
        model[-1].bias[0] = math.nan


@pytest.mark.parametrize(("parts", "value", "change", "expected"), [
    ((), 1.0, None, None),
    ((Overflowing(),), 1.0, None, Culprit("3", OUTPUT)),
    ((Root(),), 1.0, None, Culprit("1", GRADIENT)),
    ((), math.nan, None, Culprit("input", INPUT)),
    ((), 1.0, spoil, Culprit("3", PARAMETER)),
])  # fmt: skip
def test_where_it_began(parts, value, change, expected):
    model, head = network(*parts)
    if change:
        change(model)
    objective = Objective(model, head, [batch(value)])
    before = [tensor.clone() for tensor in model.state_dict().values()]
    gradients = [torch.ones_like(parameter) for parameter in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    state = torch.get_rng_state()
    assert find_culprit(objective) == expected
    assert all(torch.equal(a, b) or a.isnan().any() for a, b in zip(before, model.state_dict().values(), strict=True))
    assert all(p.grad is gradient for p, gradient in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_loss_that_is_infinite_by_itself_is_the_heads():
    model, head = network()
    with torch.no_grad():
        head.output.bias[0] = 3e38
        head.output.bias[1] = -3e38
    objective = Objective(model, head, [batch()])
    assert find_culprit(objective) == Culprit("head", OUTPUT)


@pytest.mark.parametrize(("culprit", "sentence"), [
    (Culprit("layers.2", OUTPUT), "the output of layers.2"), (Culprit("a", GRADIENT), "the gradient of a"),
    (Culprit("a", PARAMETER), "a parameter of a"), (Culprit("x", INPUT), "the x of the batch"),
])  # fmt: skip
def test_in_words(culprit, sentence):
    assert str(culprit) == sentence


def test_a_rejected_step_names_the_module_with_the_dropout_that_it_had():
    class Sometimes(nn.Module):
        """Infinite where the dropout before it has kept the first unit of the first example."""

        def forward(self, x):
            return x / (x[0, 0] == 0.0).float()

    model, head = network(Sometimes())
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.0)
    rejected = []
    for record in fit(model, head, optimizer, lambda _: [batch()], steps=12, options=FitOptions(seed=4)):
        entry = record.resolve()
        rejected.append(bool(entry.get("rejected")))
        assert entry.get("where") == ("3" if rejected[-1] else None)
        assert entry.get("what") == (OUTPUT if rejected[-1] else None)
    assert 2 < sum(rejected) < 10
