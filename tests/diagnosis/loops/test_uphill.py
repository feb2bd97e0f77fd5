"""The sign of what a backward pass brings to the loss is seen, whatever it is multiplied by."""

import pytest
import torch
from torch import nn

from thalweg.diagnosis.loops.uphill import LOOKS, Uphill

WAYS = {
    "as usual": (lambda loss: loss, False, 0),
    "a part of it": (lambda loss: loss / 4, False, 0),
    "with other terms": (lambda loss: 2.0**16 * (loss + 1.0), False, 0),
    "its negative": (lambda loss: -loss, False, 5),
    "maximized": (lambda loss: loss, True, 5),
    "its negative maximized": (lambda loss: -loss, True, 0),
}


def figures(driven, maximize, *, steps=5):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    uphill = Uphill(torch.optim.SGD(model.parameters(), lr=0.1, maximize=maximize))
    for _ in range(steps):
        loss = model(torch.randn(4, 3)).square().mean()
        uphill.listen(loss)
        driven(loss).backward()
    return uphill.figures()


@pytest.mark.parametrize(("driven", "maximize", "expected"), WAYS.values(), ids=WAYS)
def test_the_sign(driven, maximize, expected):
    assert figures(driven, maximize) == {"losses_looked_at": 5, "driven_up": expected}


def test_only_the_first_losses_are_looked_at_and_none_that_is_a_number():
    assert figures(lambda loss: loss, False, steps=LOOKS + 5)["losses_looked_at"] == LOOKS
    uphill = Uphill(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1))
    uphill.listen(1.0)
    uphill.listen(torch.tensor(1.0, requires_grad=True).detach())
    assert uphill.figures() == {"losses_looked_at": 0, "driven_up": 0}
