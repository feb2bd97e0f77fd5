"""The gradient, and the steps of PyTorch's own optimizers as directions."""

import copy

import pytest
import torch
from cases import PROBLEMS, snapshot
from torch import nn

from thalweg.objective import Objective
from thalweg.optim.clipping import ClipNorm, ClipUpdate
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Gradient, Update
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.stochastic import StochasticArmijo

OPTIMIZERS = [
    (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    (torch.optim.AdamW, {"lr": 0.01, "amsgrad": True, "fused": True}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9)}),
    (torch.optim.RMSprop, {"lr": 0.01}),
    (torch.optim.Adagrad, {"lr": 0.1}),
    (torch.optim.NAdam, {"lr": 0.01}),
    (torch.optim.Adafactor, {"lr": 0.01}),
    (torch.optim.Rprop, {"lr": 0.01}),
]
every_optimizer = pytest.mark.parametrize(
    ("constructor", "options"), OPTIMIZERS, ids=lambda value: getattr(value, "__name__", "")
)


def model_and_loss(dtype: torch.dtype = torch.float32):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
    model.unused = nn.Parameter(torch.ones(3, dtype=dtype))  # weight decay must not touch what has no gradient
    x = torch.randn(12, 4, dtype=dtype)
    return model, Objective(model, nn.MSELoss(), x, x[:, :2].cos())


def two_groups(model: nn.Module) -> list[dict]:
    matrices = [p for p in model.parameters() if p.dim() > 1]
    return [{"params": matrices}, {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]


@every_optimizer
def test_with_a_fixed_step_it_is_the_optimizer_itself_to_the_last_bit(constructor, options):
    """Groups, schedule and clipping included."""
    ours, our_loss = model_and_loss()
    theirs, their_loss = model_and_loss()
    descent = Descent(two_groups(ours), Update(constructor, **options), Fixed(1), clip=ClipNorm(0.1))
    optimizer = constructor(two_groups(theirs), **options)
    schedules = [torch.optim.lr_scheduler.ExponentialLR(each, gamma=0.7) for each in (descent, optimizer)]
    clip = ClipNorm(0.1)
    for _ in range(6):
        descent.step(our_loss)
        their_loss()
        clip(parameter for group in optimizer.param_groups for parameter in group["params"])
        optimizer.step()
        for schedule in schedules:
            schedule.step()
        assert torch.equal(snapshot(our_loss), snapshot(their_loss))
    assert [group["lr"] for group in descent.param_groups] == [group["lr"] for group in optimizer.param_groups]
    assert torch.equal(ours.unused, torch.ones(3))


def test_update_clipping_is_the_one_for_any_optimizer():
    ours, our_loss = model_and_loss()
    theirs, their_loss = model_and_loss()
    descent = Descent(ours.parameters(), Update(torch.optim.SGD, lr=1.0), Fixed(1), clip_update=ClipUpdate(0.01))
    optimizer, clip = torch.optim.SGD(theirs.parameters(), lr=1.0), ClipUpdate(0.01)
    for _ in range(3):
        descent.step(our_loss)
        their_loss()
        clip.before(theirs.parameters())
        optimizer.step()
        clip.after(theirs.parameters())
    assert torch.equal(snapshot(our_loss), snapshot(their_loss))


def test_steps_without_a_closure_are_the_same():
    ours, our_loss = model_and_loss()
    theirs, their_loss = model_and_loss()
    descent = Descent(ours.parameters(), Update(torch.optim.AdamW, lr=0.01), Fixed(1))
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01)
    for _ in range(3):
        our_loss()
        descent.step()
        their_loss()
        optimizer.step()
    assert torch.equal(snapshot(our_loss), snapshot(their_loss))


def test_fixed_multiplies_the_inner_rate():
    model, _ = model_and_loss()
    assert Descent(model.parameters(), Update(torch.optim.AdamW, lr=0.01), Fixed(0.5)).param_groups[0]["lr"] == 0.005


def test_the_state_is_that_of_the_inner_optimizer():
    model, objective = model_and_loss()
    descent = Descent(model.parameters(), Update(torch.optim.AdamW, lr=0.01), Fixed(1))
    descent.step(objective)
    inner = descent.state_dict()["state"][0]["direction"]["optimizer"]
    assert {int(memory["step"]) for memory in inner.values()} == {1}
    assert len(inner) == 4
    assert descent.param_groups[0]["betas"] == (0.9, 0.999)


def test_a_rejected_step_leaves_the_moments_alone():
    model, objective = model_and_loss()
    descent = Descent(model.parameters(), Update(torch.optim.AdamW, lr=0.01), Fixed(1))
    descent.step(objective)
    before = copy.deepcopy(descent.state_dict()["state"][0]["direction"]["optimizer"])
    bad = objective.batches[0].targets * float("nan")
    descent.step(Objective(model, nn.MSELoss(), objective.batches[0].inputs["inputs"], bad))
    after = descent.state_dict()["state"][0]["direction"]["optimizer"]
    assert all(torch.equal(after[i]["exp_avg"], before[i]["exp_avg"]) for i in before)


@pytest.mark.parametrize("step_size", [Armijo(), StochasticArmijo(slope=0.3)], ids=lambda size: type(size).__name__)
def test_a_line_search_rescues_a_rate_that_diverges(step_size):
    """Adam's direction with a rate a thousand times too large."""
    objective = PROBLEMS["regression"].make(torch.float64, None)
    plain = PROBLEMS["regression"].make(torch.float64, None)
    descent = Descent(objective.parameters, Update(torch.optim.AdamW, lr=10.0), step_size)
    optimizer = torch.optim.AdamW(plain.parameters, lr=10.0)
    for _ in range(30):
        descent.step(objective)
        optimizer.step(plain)
    assert float(objective.value()) < 0.5 < float(plain.value())


def test_lbfgs_of_pytorch_is_no_update():
    with pytest.raises(ValueError, match=r"Update\(constructor, ...\) needs an optimizer that makes one step"):
        Update(torch.optim.LBFGS)


def test_the_gradient_is_steepest_descent_clipped_or_not():
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    for clip, expected in ((None, [2.7, 3.6]), (ClipNorm(1.0), [2.94, 3.92])):
        with torch.no_grad():
            w.copy_(torch.tensor([3.0, 4.0]))
        optimizer = Descent([w], Gradient(), Fixed(0.1), clip=clip)
        optimizer.zero_grad()
        (0.5 * w.square().sum()).backward()
        optimizer.step()
        assert w.tolist() == pytest.approx(expected, rel=1e-5)
