"""Gauss-Newton, Fisher and empirical Fisher matrices against curvlinops, on models without LayerNorm."""

import pytest
import torch
from torch import nn

from thalweg.curvature.gauss_newton import EmpiricalFisher, Fisher, GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.objective import Objective

curvlinops = pytest.importorskip("curvlinops")

MATRICES = {
    "HessianLinearOperator": Hessian,
    "GGNLinearOperator": GaussNewton,
    "EFLinearOperator": EmpiricalFisher,
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")  # PyTorch's own, in forward mode
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("name", MATRICES)
def test_products_are_those_of_curvlinops(name, loss):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x = torch.randn(20, 4, dtype=torch.float64)
    y = torch.randint(3, (20,)) if isinstance(loss, nn.CrossEntropyLoss) else torch.randn(20, 3, dtype=torch.float64)
    parameters = list(model.parameters())
    theirs = getattr(curvlinops, name)(model, loss, parameters, [(x, y)], check_deterministic=False)
    ours = MATRICES[name](Objective(model, loss, x, y))
    v = torch.randn(ours.size, dtype=torch.float64)
    torch.testing.assert_close(ours @ v, theirs @ v, rtol=1e-9, atol=1e-11)
    if name == "GGNLinearOperator":  # the families are exponential in the prediction
        torch.testing.assert_close(Fisher(Objective(model, loss, x, y)) @ v, theirs @ v, rtol=1e-9, atol=1e-11)
