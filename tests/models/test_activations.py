"""Activations against their formulas, gains against PyTorch's table and against integrals."""

import math

import pytest
import torch
from scipy import integrate
from torch import nn

from thalweg.models import activations

X = torch.linspace(-4.0, 4.0, 41, dtype=torch.float64)
FORMULAS = {
    activations.sigmoid: lambda x: 1 / (1 + torch.exp(-x)),
    activations.tanh: lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
    activations.relu: lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    activations.leaky_relu: lambda x: torch.where(x > 0, x, 0.01 * x),
    activations.gelu: lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    activations.silu: lambda x: x / (1 + torch.exp(-x)),
}


@pytest.mark.parametrize("factory", FORMULAS, ids=lambda factory: factory.__name__)
def test_activation_is_its_formula(factory):
    torch.testing.assert_close(factory()(X), FORMULAS[factory](X))


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (activations.sigmoid, nn.init.calculate_gain("sigmoid")),
        (activations.tanh, nn.init.calculate_gain("tanh")),
        (activations.relu, nn.init.calculate_gain("relu")),
        (activations.leaky_relu, nn.init.calculate_gain("leaky_relu", 0.01)),
        (lambda: activations.leaky_relu(0.3), nn.init.calculate_gain("leaky_relu", 0.3)),
    ],
)
def test_gain_is_pytorchs_where_it_has_one(factory, expected):
    assert activations.gain(factory) == expected


def density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize(
    ("factory", "function"),
    [
        (activations.gelu, lambda z: z * 0.5 * (1 + math.erf(z / math.sqrt(2)))),
        (activations.silu, lambda z: z / (1 + math.exp(-z))),
        (nn.Identity, lambda z: z),
        (nn.Softplus, lambda z: math.log1p(math.exp(z))),
    ],
)
def test_gain_of_other_activations_is_the_integral(factory, function):
    moment, _ = integrate.quad(lambda z: function(z) ** 2 * density(z), -12, 12, epsabs=1e-12)
    assert activations.gain(factory) == pytest.approx(moment**-0.5, rel=1e-5)


def test_gain_refuses_an_activation_without_one():
    class Zero(nn.Module):
        def forward(self, x):
            return 0 * x

    with pytest.raises(ValueError, match="not all zero"):
        activations.gain(Zero)


def test_leaky_relu_refuses_an_infinite_slope():
    with pytest.raises(ValueError, match=r"leaky_relu\(slope=\.\.\.\) must be finite"):
        activations.leaky_relu(math.inf)
