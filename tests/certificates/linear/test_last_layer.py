"""Plain PyTorch models are taken apart above their last linear layer, and only where that is their end."""

import pytest
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.certificates.levels import certify_objective
from thalweg.certificates.linear.last_layer import split_last_layer
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.models.bag import Bag
from thalweg.objective import Objective

X, Y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, inputs):
        return self.last(torch.tanh(self.first(inputs)))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs):
        return self.layer(self.layer(inputs))


@pytest.mark.parametrize(
    ("model", "loss", "targets"),
    [
        (nn.Linear(4, 3), nn.CrossEntropyLoss(label_smoothing=0.1), Y),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), nn.CrossEntropyLoss(), Y),
        (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Sequential(nn.Linear(5, 2))), nn.MSELoss(), torch.randn(6, 2)),
        (nn.Linear(4, 1), nn.BCEWithLogitsLoss(), torch.rand(6, 1)),
    ],
)
def test_the_parts_are_the_same_function(model, loss, targets):
    objective = Objective(model, loss, X, targets, l2=0.1)
    other = split_last_layer(objective)
    assert torch.isclose(other.value(), objective.value())
    assert isinstance(other.head.output, nn.Linear)
    assert not any(parameter is other.head.output.weight for parameter in other.model.parameters())
    assert split_last_layer(other) is other


def test_a_head_with_a_layer_is_left_alone():
    objective = Objective(nn.Identity(), Softmax(4, 3), X, Y)
    assert split_last_layer(objective) is objective


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), "not that of a linear layer itself"),
        (Twice(), "used more than once"),
        (Tied(), "tied"),
    ],
)
def test_models_that_do_not_end_so_are_refused(model, message):
    with pytest.raises(InputError, match=message):
        split_last_layer(Objective(model, nn.CrossEntropyLoss(), X, Y))


class InPlace(nn.Module):
    """Changes the tensor that its last layer returned, and returns that tensor itself."""

    def __init__(self, change):
        super().__init__()
        self.out, self.change = nn.Linear(1, 2), change

    def forward(self, inputs):
        prediction = self.out(inputs)
        if self.change == "clamp":
            prediction.clamp_(-20.0, 20.0)
        elif self.change == "some":
            prediction[inputs[:, 0].abs() > 100.0] = 0.0
        elif self.change == "another" and len(inputs) < 10:
            return prediction * 1.0
        return prediction


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("clamp", "changes the output of its last linear layer"),
        ("some", "changes the output of its last linear layer"),
        ("another", "not that of its last linear layer on all data"),
    ],
)
def test_an_output_that_is_changed_in_place_is_no_layers(change, message):
    """One of 400 examples, beyond those looked at, was changed: the layer's bound was 0.69, the loss 0.0056."""
    signs = torch.tensor([-1.0, 1.0]).repeat(200)
    x, y = (signs * torch.linspace(0.5, 1.5, 400))[:, None], (signs > 0).long()
    x[300] *= -1e3
    model = InPlace(change)
    with torch.no_grad():
        model.out.weight.copy_(torch.tensor([[-4.0], [4.0]]))
        model.out.bias.zero_()
    batches = [Batch({"inputs": x[:395]}, y[:395]), Batch({"inputs": x[395:]}, y[395:])]
    objective = Objective(model, nn.CrossEntropyLoss(), batches, l2=1e-4)
    interval = certify_objective(objective, seconds=2.0)
    assert message in interval.left_out["head"]
    assert interval.loss == pytest.approx(float(objective.value()), rel=1e-5)
    assert [level.name for level in interval.levels][:2] == ["floor", "floor"]


class Capped(Softmax):
    """A cross-entropy of 20 nats at most; its linear form is that of all of it."""

    def loss_from_hidden(self, hidden, targets, mask=None, weights=None):
        each = nn.functional.cross_entropy(self(hidden), targets, reduction="none")
        return each.clamp_max(20.0).sum(), torch.tensor(float(len(targets)), dtype=hidden.dtype)


class Squashed(Softmax):
    def forward(self, hidden):
        return super().forward(hidden).clamp(-30.0, 30.0)


class Documented(Softmax):
    """Changes nothing."""


@pytest.mark.parametrize(("kind", "name"), [(Capped, "loss_from_hidden"), (Squashed, "forward"), (Documented, "")])
def test_a_head_that_inherits_the_form_of_another_loss_is_refused(kind, name):
    """No layer was to be below 0.6925 [proof], and one of the capped loss is at 0.054."""
    signs = torch.tensor([-1.0, 1.0]).repeat(50)
    x, y = (signs * torch.linspace(0.5, 1.5, 100))[:, None], (signs > 0).long()
    x[50] *= -1e3
    head = kind(1, 2)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(1e-3)
    interval = certify_objective(Objective(nn.Identity(), head, x, y, l2=1e-4), seconds=2.0)
    levels = {level.name for level in interval.levels}
    if name:
        assert (
            f"{kind.__name__} has a `{name}` of its own and the `linear_form` of Softmax" in interval.left_out["head"]
        )
        assert levels == {"local"}
    else:
        assert {"floor", "head"} <= levels
    bag = {"tokens": torch.arange(8) % 5, "offsets": torch.arange(0, 8, 2)}
    interval = certify_objective(Objective(Bag(5, 1), kind(1, 2), bag, torch.tensor([0, 1, 1, 0]), l2=0.1), seconds=2.0)
    assert ("factored" in {level.name for level in interval.levels}) == (not name)
