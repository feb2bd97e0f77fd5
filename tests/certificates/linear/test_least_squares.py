"""Ridge regression of an output layer: against its closed form, weighted, with and without a bias, and refusals."""

import pytest
import torch
from torch import nn

from thalweg.certificates.linear.last_layer import head_problem
from thalweg.certificates.linear.least_squares import LeastSquares
from thalweg.errors import InputError
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.objective import Objective
from thalweg.status import Status


def data(outputs=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(5, outputs, generator=generator, dtype=torch.float64) + 3.0
    return x, y + 0.5 * torch.randn(y.shape, generator=generator, dtype=torch.float64)


def closed_form(x, y, l2, bias, weights):
    """Return weight and bias from an augmented system of least squares, output by output."""
    found = []
    for i in range(y.shape[1]):
        w = weights[:, i] / weights.sum()
        x1 = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1) if bias else x
        rest = torch.zeros(5, x1.shape[1], dtype=x.dtype)
        rest[:, :5] = l2**0.5 * torch.eye(5, dtype=x.dtype)
        rows = torch.cat([w.sqrt()[:, None] * x1, rest])
        target = torch.cat([w.sqrt() * y[:, i], torch.zeros(5, dtype=x.dtype)])
        found.append(torch.linalg.lstsq(rows, target[:, None]).solution[:, 0])
    return torch.stack(found)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_step_is_the_optimum(bias, weighted):
    x, y = data()
    head = Squared(5, 2, bias=bias).double()
    weights = torch.ones_like(y)
    if weighted:
        weights[:, 1] = torch.linspace(0.1, 2.0, 40, dtype=x.dtype)
    objective = Objective(nn.Identity(), head, {"input": x}, y, l2=0.05, weights=weights if weighted else None)
    optimizer = LeastSquares(head.parameters())
    before = objective.value()
    assert optimizer.step(objective).item() == pytest.approx(before.item())
    expected = closed_form(x, y, 0.05, bias, weights)
    assert torch.allclose(head.output.weight, expected[:, :5], rtol=1e-9)
    if bias:
        assert torch.allclose(head.output.bias, expected[:, 5], rtol=1e-9)
    assert optimizer.status is Status.STEPPED
    assert optimizer.relative_gap is not None
    assert 0.0 <= optimizer.relative_gap < 1e-10
    problem, point, _ = head_problem(objective)
    certificate = problem.certificate(point)
    assert certificate.loss == pytest.approx(objective.value().item())
    assert certificate.relative_gap < 1e-8


def test_single_precision_knows_its_gap():
    x, y = data(1)
    head = Squared(5, 1).float()
    objective = Objective(nn.Identity(), head, {"input": x.float()}, y.float(), l2=0.05)
    optimizer = LeastSquares(head.parameters())
    optimizer.step(objective)
    assert optimizer.relative_gap is not None
    assert optimizer.relative_gap < 1e-6


def test_what_it_cannot_solve_is_refused():
    x, y = data(1)
    with pytest.raises(ValueError, match="needs a thalweg Objective"):
        LeastSquares(Squared(5).parameters()).step(None)
    head = Squared(5).double()
    with pytest.raises(InputError, match="an L2 penalty: --l2 above 0"):
        LeastSquares(head.parameters()).step(Objective(nn.Identity(), head, {"input": x}, y))
    classes = Softmax(5, 2).double()
    labels = (y[:, 0] > 3.0).long()
    with pytest.raises(InputError, match="needs a squared error"):
        LeastSquares(classes.parameters()).step(Objective(nn.Identity(), classes, {"input": x}, labels, l2=0.1))
