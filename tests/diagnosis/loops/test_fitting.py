"""The loss that a loop tells is found for every usual layout of outputs and targets, and only if it is the loop's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from thalweg.diagnosis.loops.fitting import fitting, is_of_all_pairs
from thalweg.diagnosis.loops.seen import Call
from thalweg.diagnosis.loops.watch import Watch

CLASSES = torch.arange(8) % 3
TOKENS = torch.arange(20).reshape(4, 5) % 3


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


LOSSES = {
    "squeezed output": (random(8, 1), random(8), lambda x, y: F.mse_loss(x.squeeze(1), y)),
    "targets with a dimension more": (random(8), random(8, 1), lambda x, y: F.mse_loss(x, y.squeeze(1))),
    "binary": (random(8, 1), CLASSES % 2, lambda x, y: F.binary_cross_entropy_with_logits(x[:, 0], y.float())),
    "classes last": (random(4, 5, 3), TOKENS, lambda x, y: F.cross_entropy(x.transpose(1, 2), y)),
    "flat": (random(4, 5, 3), TOKENS.flatten(), lambda x, y: F.cross_entropy(x.reshape(-1, 3), y)),
    "up to the last": (random(4, 5, 3), TOKENS[:, 1:], lambda x, y: F.cross_entropy(x[:, :-1].transpose(1, 2), y)),
    "of the next": (random(4, 5, 3), TOKENS, lambda x, y: F.cross_entropy(x[:, :-1].transpose(1, 2), y[:, 1:])),
    "sum": (random(8, 3), CLASSES, lambda x, y: F.cross_entropy(x, y, reduction="sum")),
    "half precision": (random(8, 3).bfloat16(), CLASSES, F.cross_entropy),
    "column of classes": (random(8, 3), CLASSES.unsqueeze(1), lambda x, y: F.cross_entropy(x, y.squeeze(1))),
}  # fmt: skip


@pytest.mark.parametrize(("output", "targets", "loss"), LOSSES.values(), ids=LOSSES)
def test_usual_layouts(output, targets, loss):
    told = loss(output, targets)
    fit = fitting(Call(nn.Identity(), (), {"input": output}, output), told, targets)
    assert fit is not None
    other = output.roll(1, 0)  # the same loss of other numbers, too
    total, count = fit.head.loss_from_hidden(other.float(), fit.layout(targets, other.shape))
    rounding = 1e-2 if output.dtype == torch.bfloat16 else 1e-5
    assert float(total / fit.head.divisor(count)) == pytest.approx(float(loss(other, targets)), rel=rounding)


PAIRS = {
    "squared": (random(8, 1), random(8), F.mse_loss, True),
    "targets with a dimension more": (random(8), random(8, 1), F.mse_loss, True),
    "absolute": (random(8, 1), random(8), F.l1_loss, True),
    "Huber": (random(8, 1), 9.0 * random(8), F.huber_loss, True),
    "a sum": (random(8, 1), random(8), lambda x, y: F.mse_loss(x, y, reduction="sum"), True),
    "whole numbers": (random(8, 1), CLASSES, lambda x, y: F.mse_loss(x, y.float()), True),
    "of one shape": (random(8), random(8), F.mse_loss, False),
    "squeezed": (random(8, 1), random(8).roll(1), lambda x, y: F.l1_loss(x.squeeze(1), y), False),
    "one answer for all": (torch.ones(8, 1), random(8), lambda x, y: F.l1_loss(x.squeeze(1), y), False),
    "one target for several outputs": (random(8, 3), random(8, 1), F.mse_loss, False),
    "one example": (random(1, 1), random(1), F.mse_loss, False),
    "classes": (random(8, 3), CLASSES, F.cross_entropy, False),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(("output", "targets", "loss", "expected"), PAIRS.values(), ids=PAIRS)
def test_a_loss_of_all_pairs(output, targets, loss, expected):
    call = Call(nn.Identity(), (), {"input": output}, output)
    assert is_of_all_pairs(call, loss(output, targets), targets) == expected


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("head", [None, nn.MSELoss()])
@pytest.mark.parametrize(("loss", "expected"), [
    (F.mse_loss, "targets-broadcast"),
    (lambda x, y: -F.mse_loss(x.squeeze(1), y), "loss-driven-up"),
    (lambda x, y: F.mse_loss(x.squeeze(1), y), None),
])  # fmt: skip
def test_losses_that_are_told_wrongly(loss, expected, head):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    watch = Watch(model, optimizer, head)
    x = random(8, 3)
    for _ in range(4):
        told = loss(model(x), x[:, 0])
        watch.loss(told, x[:, 0])
        optimizer.zero_grad()
        told.backward()
        optimizer.step()
    assert [one.name for one in watch.findings()] == ([] if expected is None else [expected])


class Several(nn.Module):
    """A model whose answer is one of several things that it returns."""

    def __init__(self, kind, starts_at_zero=False):
        super().__init__()
        self.kind = kind
        torch.manual_seed(0)
        self.inner = nn.Linear(3, 3)
        if starts_at_zero:
            nn.init.zeros_(self.inner.weight)
            nn.init.zeros_(self.inner.bias)

    def forward(self, x):
        found = self.inner(x)
        return {"tensor": found, "tuple": (found, None), "dict": {"logits": found, "sum": x.sum(1)}}[self.kind]


def watched(model, read, loss, steps=4, lr=0.1):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    watch = Watch(model, optimizer)
    for step in range(steps):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        y = CLASSES
        value = loss(read(model(x)), y)
        watch.loss(value, y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return watch


@pytest.mark.parametrize(("kind", "read"), [("tuple", lambda x: x[0]), ("dict", lambda x: x["logits"])])
def test_an_answer_among_other_things_is_looked_at(kind, read):
    model = Several(kind)
    watch = watched(model, read, F.cross_entropy)
    batch = watch.subject().train[0]
    expected = F.cross_entropy(read(model(batch.inputs["x"])), batch.targets)
    torch.testing.assert_close(watch.subject().objective([batch]).value(), expected)
    assert [name for name, _ in watch.subject().objective().named_parameters()] == ["inner.weight", "inner.bias"]
    found = watch.diagnose()
    assert found.skipped == {}
    assert found.probes["predictions"]["answers"] == 32
    assert isinstance(model(batch.inputs["x"]), tuple | dict)


def test_a_loss_that_fits_by_chance_is_given_up():
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.1)  # of equal answers that is the cross-entropy
    watch = watched(Several("tensor", starts_at_zero=True), lambda x: x, smoothed, steps=20, lr=1.0)
    assert watch.subject().train == []
    assert "say which it is by Watch(..., head=...)" in watch.diagnose().skipped["all"]
