"""A rate is tried before it is used: what diverges is divided, what hardly moves is multiplied, the rest is kept."""

import contextlib

import pytest
import torch
from torch import nn

from thalweg.objective import Objective
from thalweg.optim.clipping import ClipNorm
from thalweg.optim.rate_search import MAX_TRIES, find_rate


def a_problem(scale: float = 1.0, *, bad: bool = False):
    generator = torch.Generator().manual_seed(0)
    x = scale * torch.randn(128, 4, generator=generator)
    y = x.sum(1, keepdim=True) / scale
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    nn.init.zeros_(model.weight)

    def objective(step: int) -> Objective:
        rows = (torch.arange(16) + 16 * step) % 128
        return Objective(model, nn.MSELoss(), x[rows] * (torch.nan if bad else 1.0), y[rows])

    return model, objective


@pytest.mark.parametrize(
    ("lr", "low", "high"),
    [(0.1, 1.0, 1.0), (1e3, 4.0**-10, 4.0**-4), (1e-6, 16.0, 4.0**11)],
    ids=["right", "diverges", "hardly moves"],
)
def test_the_factor(lr, low, high):
    model, objective = a_problem()
    found = find_rate(lambda: torch.optim.SGD(model.parameters(), lr=lr), objective)
    assert low <= found.factor <= high
    assert found.after < found.before


def test_a_right_rate_costs_four_gradients_and_four_losses():
    model, objective = a_problem()
    found = find_rate(lambda: torch.optim.SGD(model.parameters(), lr=0.1), objective)
    assert (found.num_gradients, found.num_values) == (4, 4)


def test_badly_scaled_inputs_get_a_smaller_rate():
    factors = []
    for scale in (1.0, 1000.0):
        model, objective = a_problem(scale)
        factors.append(find_rate(lambda m=model: torch.optim.Adam(m.parameters(), lr=0.05), objective).factor)
    assert factors[0] == 1.0
    assert factors[1] < 1.0


def test_nothing_is_left_of_the_tries():
    model, objective = a_problem()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    made = []

    def make():
        made.append(torch.optim.Adam(model.parameters(), lr=1e4))
        return made[-1]

    first = find_rate(make, objective, clip=lambda: ClipNorm(1.0))
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert len(made) > 1
    assert find_rate(make, objective, clip=lambda: ClipNorm(1.0)) == first


def a_normed_problem(*, fails: bool = False):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    def objective(step: int) -> Objective:
        if fails and step == 3:
            raise RuntimeError("no batch")
        return Objective(model, nn.MSELoss(), x, x[:, :1])

    return model, objective


@pytest.mark.parametrize(
    ("lr", "fails"), [(0.01, False), (1e30, False), (0.01, True)], ids=["right", "diverges", "fails"]
)
def test_running_means_of_a_batch_norm_are_put_back_too(lr, fails):
    model, objective = a_normed_problem(fails=fails)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="no batch") if fails else contextlib.nullcontext():
        find_rate(lambda: torch.optim.SGD(model.parameters(), lr=lr), objective)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_losses_that_are_not_finite_leave_the_rate_alone():
    model, objective = a_problem(bad=True)
    found = find_rate(lambda: torch.optim.SGD(model.parameters(), lr=0.1), objective)
    assert (found.factor, found.num_gradients) == (1.0, 0)


def test_where_no_rate_helps_the_first_one_stays():
    model, _ = a_problem()
    x = torch.ones(2, 4)
    at_minimum = model(x).detach()
    found = find_rate(
        lambda: torch.optim.SGD(model.parameters(), lr=0.1), lambda step: Objective(model, nn.MSELoss(), x, at_minimum)
    )
    assert found.factor == 1.0
    assert found.num_gradients <= 4 * MAX_TRIES
