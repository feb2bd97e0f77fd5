"""Bessel functions of large order against mpmath, in value and two derivatives, and where they must not break."""

import math

import mpmath
import pytest
import torch
from torch import Tensor

from thalweg.heads.bessel import bessel_ratio, log_partition

mpmath.mp.dps = 40
KAPPAS = (1e-6, 1e-3, 0.3, 4.0, 15.0, 60.0, 250.0, 1e3, 1e4)
WIDTHS = (2, 3, 16, 49, 50, 128, 300, 4096)  # 50 needs no recurrence; one width for each number of terms
every_width = pytest.mark.parametrize("width", WIDTHS)


def exact(width: int, kappa: float) -> tuple[float, float, float]:
    """L, A = I_{v+1} / I_v, and the derivative of A."""
    v, k = mpmath.mpf(width) / 2 - 1, mpmath.mpf(kappa)
    first, second = mpmath.besseli(v, k), mpmath.besseli(v + 1, k)
    ratio = second / first
    partition = mpmath.log(first) + mpmath.loggamma(v + 1) + v * mpmath.log(2 / k)
    curvature = 1 - ratio**2 - (width - 1) / k * ratio
    return float(partition), float(ratio), float(curvature)


def references(width: int, kappas: Tensor) -> list[Tensor]:
    rows = [exact(width, kappa) for kappa in kappas.tolist()]
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)]


@every_width
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_two_derivatives_agree_with_mpmath(width, dtype):
    kappa = torch.tensor(KAPPAS, dtype=torch.float64).to(dtype).requires_grad_()
    partition, ratio, curvature = references(width, kappa.detach().double())
    is_double = dtype == torch.float64

    got = bessel_ratio(kappa, width)
    torch.testing.assert_close(got.detach().double(), ratio, rtol=1e-12 if is_double else 5e-7, atol=0)
    (got_curvature,) = torch.autograd.grad(got.sum(), kappa)
    # 1 - A^2 - (m - 1) A / kappa is tiny where kappa is large, and float32 has no more digits of A.
    torch.testing.assert_close(got_curvature.double(), curvature, rtol=1e-9 if is_double else 4e-3, atol=0)

    value = log_partition(kappa.square(), width)
    rtol, atol = (1e-12, 1e-13) if is_double else (2e-6, 2e-7)
    torch.testing.assert_close(value.detach().double(), partition, rtol=rtol, atol=atol)
    (slope,) = torch.autograd.grad(value.sum(), kappa)
    torch.testing.assert_close(slope.double(), ratio, rtol=1e-12 if is_double else 1e-6, atol=0)


# PyTorch's own forward mode calls what PyTorch deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("width", [4, 16, 300])
def test_derivatives_agree_with_finite_differences_in_every_mode(width):
    square = torch.tensor([0.5, 20.0, 900.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q: log_partition(q, width), square)
    assert torch.autograd.gradgradcheck(lambda q: log_partition(q, width), square)

    def slope(q: Tensor) -> Tensor:
        return torch.func.grad(lambda one: log_partition(one, width))(q)

    curvature = torch.func.vmap(lambda q: torch.func.jvp(slope, (q,), (torch.ones_like(q),))[1])(square.detach())
    value = log_partition(square, width).sum()
    (first,) = torch.autograd.grad(value, square, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), square)
    torch.testing.assert_close(curvature, second, rtol=1e-12, atol=0)


@pytest.mark.parametrize("width", [2, 49, 300])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_zero_is_no_special_case(width, dtype):
    e = torch.zeros(width, dtype=dtype, requires_grad=True)
    value = log_partition(e.square().sum(), width)
    (slope,) = torch.autograd.grad(value, e, create_graph=True)
    (curvature,) = torch.autograd.grad(slope[0], e)
    assert value.item() == pytest.approx(0.0, abs=1e-7)
    assert (slope == 0).all()
    assert curvature[0].item() == pytest.approx(1.0 / width, rel=1e-5)  # the identity / m
    assert (curvature[1:] == 0).all()
    assert bessel_ratio(torch.zeros(1, dtype=dtype), width).item() == 0.0


def test_three_dimensions_have_elementary_functions():
    """L_3 = log(sinh(kappa) / kappa) and A_3 = coth(kappa) - 1 / kappa."""
    kappa = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    torch.testing.assert_close(log_partition(kappa.square(), 3), torch.log(torch.sinh(kappa) / kappa))
    torch.testing.assert_close(bessel_ratio(kappa, 3), 1.0 / torch.tanh(kappa) - 1.0 / kappa)


def test_it_is_the_mean_over_the_sphere():
    u = torch.nn.functional.normalize(torch.randn(200_000, 16, dtype=torch.float64), dim=-1)[:, 0]
    for kappa in (1.0, 4.0):
        sampled = torch.logsumexp(kappa * u, 0) - math.log(len(u))
        assert log_partition(torch.tensor(kappa**2, dtype=torch.float64), 16).item() == pytest.approx(
            sampled.item(), abs=0.01
        )


def test_overflow_stays_finite():
    assert log_partition(torch.tensor([1e30, 3e38]), 300).isfinite().all()
    assert (bessel_ratio(torch.tensor([1e15, 1e18]), 300) == 1.0).all()


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="at least 2; got 1"):
        log_partition(torch.ones(1), 1)
    with pytest.raises(ValueError, match=r"float32 or float64; got torch.bfloat16"):
        bessel_ratio(torch.ones(1, dtype=torch.bfloat16), 16)
