"""Every skip against its formula, written out."""

import pytest
import torch
from torch import nn

from thalweg.models.skips import Highway, NoSkip, PreNorm, Residual, ReZero

WIDTH = 5


@pytest.fixture
def x():
    torch.manual_seed(3)
    return torch.randn(4, 3, WIDTH, dtype=torch.float64)


def sublayer(h):
    return torch.sin(h) + 2


def test_no_skip_is_the_sublayer(x):
    torch.testing.assert_close(NoSkip(WIDTH)(x, sublayer), sublayer(x))


def test_residual_adds_the_input(x):
    torch.testing.assert_close(Residual(WIDTH)(x, sublayer), x + sublayer(x))


def test_prenorm_normalizes_what_the_sublayer_sees_only(x):
    normalized = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(PreNorm(WIDTH).double()(x, sublayer), x + sublayer(normalized))


def test_highway_mixes_by_its_gate(x):
    skip = Highway(WIDTH).double()
    t = torch.sigmoid(torch.einsum("oi,...i->...o", skip.gate.weight, x) + skip.gate.bias)
    torch.testing.assert_close(skip(x, sublayer), t * sublayer(x) + (1 - t) * x)


def test_highway_starts_with_bias_minus_two_and_mostly_carries(x):
    skip = Highway(WIDTH).double()
    assert torch.equal(skip.gate.bias, torch.full((WIDTH,), -2.0, dtype=torch.float64))
    nn.init.zeros_(skip.gate.weight)
    share = 1 / (1 + torch.exp(torch.tensor(2.0, dtype=torch.float64)))
    torch.testing.assert_close(skip(x, sublayer), x + share * (sublayer(x) - x))


def test_rezero_starts_as_the_identity_and_scales_later(x):
    skip = ReZero(WIDTH).double()
    assert torch.equal(skip(x, sublayer), x)
    nn.init.constant_(skip.alpha, 0.3)
    torch.testing.assert_close(skip(x, sublayer), x + 0.3 * sublayer(x))


def test_rezeros_factor_gets_a_gradient_at_the_start(x):
    skip = ReZero(WIDTH).double()
    skip(x, sublayer).sum().backward()
    torch.testing.assert_close(skip.alpha.grad, sublayer(x).sum())


def test_only_prenorm_asks_for_a_last_normalization():
    assert [skip.normalizes for skip in (NoSkip, Residual, PreNorm, Highway, ReZero)] == [
        False,
        False,
        True,
        False,
        False,
    ]
