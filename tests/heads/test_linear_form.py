"""The linear form of a head gives the head's own loss, whatever mask, weights and smoothing there are."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.heads.adapt import as_head
from thalweg.heads.base import ConvexLoss
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared

POSITIVE = torch.tensor([1.0, 3.0, 0.5])
HEADS = {
    "softmax": (lambda: Softmax(4, 3), "ids"),
    "smoothed": (lambda: Softmax(4, 3, label_smoothing=0.2, bias=False), "ids"),
    "class weights": (lambda: Softmax(4, 3, class_weights=POSITIVE, label_smoothing=0.1), "ids"),
    "soft targets": (lambda: Softmax(4, 3), "rows"),
    "bernoulli": (lambda: Bernoulli(4, 3, label_smoothing=0.1), "answers"),
    "positive weights": (lambda: Bernoulli(4, 3, pos_weight=POSITIVE, factor=POSITIVE.flip(0)), "answers"),
    "squared": (lambda: Squared(4, 3, factor=0.7), "numbers"),
}


def make_targets(kind):
    if kind == "ids":
        return torch.randint(0, 3, (5, 2))
    raw = torch.rand(5, 2, 3)
    return {"rows": raw / raw.sum(-1, keepdim=True), "answers": (raw > 0.5).double(), "numbers": raw}[kind]


def value(form):
    """The loss as the form's docstring says it."""
    z = form.features if form.layer is None else form.layer(form.features)
    t = form.targets
    if form.loss is ConvexLoss.SOFTMAX:
        t = t if t.is_floating_point() else F.one_hot(t, z.shape[-1]).double()
        t = (1 - form.smoothing) * t + form.smoothing / z.shape[-1]
        u = torch.ones(z.shape[-1]) if form.class_weights is None else form.class_weights
        each = -(t * u * z.log_softmax(-1)).sum(-1)
    elif form.loss is ConvexLoss.LOGISTIC:
        each = F.softplus(z) - t * z
    else:
        each = form.factor * (z - t) ** 2
    return (each if form.weights is None else each * form.weights).sum() / form.count


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_heads_own_loss(name, masked, weighted):
    make, kind = HEADS[name]
    head, hidden, targets = make().double(), torch.randn(5, 2, 4), make_targets(kind)
    mask = torch.rand(5, 2) > 0.4 if masked else None
    weights = torch.rand(5, 2) if weighted else None
    if masked and kind != "ids":
        targets = torch.where(mask.unsqueeze(-1), targets, torch.nan)
    total, count = head.loss_from_hidden(hidden, targets, mask, weights)
    form = head.linear_form(hidden, targets, mask, weights)
    assert torch.isclose(value(form), total / count, rtol=1e-12, atol=0.0)
    assert not form.features.requires_grad


@pytest.mark.usefixtures("float64")
def test_a_loss_without_a_layer_has_the_prediction_as_features():
    prediction, numbers = torch.randn(5, 3), torch.randn(5, 3)
    form = as_head(nn.MSELoss()).linear_form(prediction, numbers)
    assert form.layer is None
    assert torch.isclose(value(form), nn.MSELoss()(prediction, numbers))
    ids = torch.tensor([0, 1, -100, 2, 0])
    form = as_head(nn.CrossEntropyLoss()).linear_form(prediction, ids)
    assert form.targets.tolist() == [0, 1, 2, 0]
    assert torch.isclose(value(form), nn.CrossEntropyLoss()(prediction, ids))


@pytest.mark.usefixtures("float64")
def test_single_answers_may_be_masked():
    head, hidden = Squared(4, 3), torch.randn(5, 4)
    targets, mask = torch.randn(5, 3), torch.rand(5, 3) > 0.5
    total, count = head.loss_from_hidden(hidden, targets, mask)
    assert torch.isclose(value(head.linear_form(hidden, targets, mask)), total / count)
