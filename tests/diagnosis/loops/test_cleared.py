"""Whether gradients are cleared is seen from outside, whatever the loop does in between."""

import pytest
import torch
from torch import nn

from thalweg.diagnosis import Watch
from thalweg.diagnosis.loops.cleared import LOOKS, Cleared


def figures(clear, *, steps=6, passes=1, closure=False):
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    cleared = Cleared(optimizer)
    for step in range(steps):

        def backward(step=step):
            clear(optimizer, step)
            for _ in range(passes):
                model(torch.randn(4, 3)).square().mean().backward()
            return torch.zeros(())

        if closure:
            cleared.look()
            optimizer.step(backward)
        else:
            backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            cleared.look()
            optimizer.step()
    return cleared.figures()


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("closure", [False, True])
@pytest.mark.parametrize("to_none", [False, True])
def test_cleared_gradients(to_none, closure, passes):
    found = figures(lambda optimizer, _: optimizer.zero_grad(set_to_none=to_none), passes=passes, closure=closure)
    assert found["left_over"] == 0
    assert found["looked_at"] >= 4


@pytest.mark.parametrize("passes", [1, 3])
def test_gradients_that_are_left_over(passes):
    assert figures(lambda optimizer, step: None, passes=passes) == {"looked_at": 5, "left_over": 5}


def test_gradients_of_another_optimizer_may_be_left_over_before_they_are_cleared():
    """As those of a discriminator, which the generator's backward pass reaches, too."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    cleared = Cleared(optimizer)
    for _ in range(5):
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().mean().backward()
        cleared.look()
        optimizer.step()
    assert cleared.figures()["left_over"] == 0


def test_it_looks_at_the_first_steps_only():
    found = figures(lambda optimizer, step: None, steps=LOOKS + 9)
    assert found["looked_at"] == LOOKS


def test_a_watch_tells_it():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watch = Watch(model, optimizer)
    for _ in range(5):
        loss = nn.functional.cross_entropy(model(torch.randn(8, 3)), torch.arange(8) % 2)
        watch.loss(loss)
        loss.backward()
        optimizer.step()
    assert [one.name for one in watch.findings()] == ["gradients-accumulate"]
