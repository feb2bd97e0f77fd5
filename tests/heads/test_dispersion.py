"""Penalties that keep vectors apart, and the figures that show whether they are."""

import math

import pytest
import torch
from torch.nn import functional as F

from thalweg.heads.dispersion import Kernel, KoLeo, Sliced, dispersion_of, parted

PENALTIES = {"sliced": Sliced(3), "kernel": Kernel(2.0), "koleo": KoLeo()}


def cloud(num=12, width=5, spread=1.0, dtype=torch.float64):
    drawn = torch.randn(num, width, generator=torch.Generator().manual_seed(4), dtype=dtype)
    return F.normalize(torch.ones(width, dtype=dtype) + spread * drawn, dim=-1)


def value_of(penalty, x):
    torch.manual_seed(3)
    return penalty(x)


def test_known_values():
    even = torch.arange(8, dtype=torch.float64) * math.pi / 4
    circle = torch.stack([even.cos(), even.sin()], 1)
    assert value_of(Sliced(), circle) < 1e-12
    alike = torch.ones(2000, 4, dtype=torch.float64) / 2
    # Evenly spaced angles have the variance pi^2 / 3 on [-pi, pi], of which the penalty is half.
    assert value_of(Sliced(), alike) == pytest.approx(math.pi**2 / 6, rel=1e-3)
    x = cloud()
    cosines = (x @ x.T)[~torch.eye(12, dtype=torch.bool)]
    assert value_of(Kernel(2.0), x) == pytest.approx(math.log(float(torch.exp(2 * (cosines - 1)).mean())))
    distances = torch.cdist(x, x).fill_diagonal_(torch.inf).min(1).values
    assert value_of(KoLeo(), x) == pytest.approx(-0.5 * float((distances**2 + 1e-4).log().mean()))


@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_against_finite_differences(name):
    x = cloud().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: value_of(PENALTIES[name], x), (x,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("name", PENALTIES)
def test_a_descent_parts_an_exactly_equal_pair(name):
    x = cloud(10, 4)
    x[1] = x[0]
    for step in range(150):
        torch.manual_seed(step)
        x = x.detach().requires_grad_()
        PENALTIES[name](x).backward()
        tangent = x.grad - (x.grad * x).sum(1, keepdim=True) * x
        x = F.normalize(x.detach() - (1.0 if name == "kernel" else 0.1) * tangent, dim=-1)
    angle = torch.arccos((x[0] @ x[1]).clamp(-1, 1))
    assert angle > 0.2


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_fall_with_spread_and_are_means(name):
    tight, wide = cloud(200, 8, 0.05, torch.float32), cloud(200, 8, 3.0, torch.float32)
    assert value_of(PENALTIES[name], wide) < value_of(PENALTIES[name], tight)
    if name != "koleo":  # which knows the number: more vectors are nearer to each other
        assert value_of(PENALTIES[name], torch.cat([wide, -wide])) < value_of(PENALTIES[name], wide) + 0.1


def test_only_doubles_are_moved():
    x = cloud(6, 4)
    x[4] = x[2]
    found = parted(x)
    same = (found == x).all(1)
    assert same.tolist() == [True, True, True, True, False, True]
    assert 0 < (found[4] - x[4]).norm() < 0.2


def test_figures_of_known_tables():
    frame = torch.cat([torch.eye(6), -torch.eye(6)])
    spread = dispersion_of(frame)
    assert spread.figures() == pytest.approx({"smallest_angle": math.pi / 2, "variance": 1.0, "effective_rank": 6.0})
    assert spread.warnings() == []
    pair = torch.cat([frame, F.normalize(torch.tensor([[1.0, 1e-4, 0, 0, 0, 0]]), dim=-1)])
    found = dispersion_of(pair)
    assert found.smallest_angle == pytest.approx(1e-4, rel=1e-3)
    assert "nearly the same vector (an angle of 0.0001)" in found.warnings()[0]
    alike = F.normalize(torch.ones(50, 6) + 0.01 * torch.randn(50, 6), dim=-1)
    assert "have collapsed: their spread is 0.00" in dispersion_of(alike).warnings()[0]
    line = torch.tensor([[1.0] + [0.0] * 99, [-1.0] + [0.0] * 99]).repeat(50, 1)
    assert dispersion_of(line).effective_rank == pytest.approx(1.0)
    assert "use 1.0 of 100 dimensions" in dispersion_of(line).warnings()[0]


def test_large_tables_are_sampled_evenly():
    table = F.normalize(torch.randn(5000, 8), dim=-1)
    found = dispersion_of(table, limit=100)
    assert found == dispersion_of(table[torch.arange(100) * 50])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sliced(0), r"num_circles=...\) must be at least 1; got 0"),
        (lambda: Kernel(0.0), r"gamma=...\) must be positive; got 0.0"),
        (lambda: KoLeo()(torch.ones(1, 3)), "KoLeo needs at least two vectors; got 1"),
        (lambda: Kernel()(torch.ones(1, 3)), "Kernel needs at least two vectors; got 1"),
        (lambda: dispersion_of(torch.eye(3)[:1]), "at least two vectors; got 1"),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
