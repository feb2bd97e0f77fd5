"""Local verdicts against dense Hessians."""

import math

import pytest
import torch
from torch import nn

from thalweg.certificates.certificate.interval import Proof
from thalweg.certificates.local import Verdict, local_verdict
from thalweg.curvature.culprit import CurvatureError
from thalweg.curvature.hessian import Hessian
from thalweg.errors import InputError
from thalweg.objective import Objective

pytestmark = pytest.mark.usefixtures("float64")


class Product(nn.Module):
    """(x y - 1)^2 has a saddle at zero, where each coordinate alone is optimal."""

    def __init__(self, value):
        super().__init__()
        self.x = nn.Parameter(torch.full((1,), value))
        self.y = nn.Parameter(torch.full((1,), value))

    def forward(self, inputs):
        return (self.x * self.y).reshape(1, 1)


def small_network(l2=1e-2):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    return Objective(model, nn.CrossEntropyLoss(), torch.randn(40, 3), torch.randint(0, 3, (40,)), l2=l2)


def train(objective):
    optimizer = torch.optim.LBFGS(
        objective.parameters, max_iter=1000, tolerance_grad=1e-9, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )
    optimizer.step(objective)


def test_a_saddle_is_left_downhill():
    objective = Objective(Product(0.0), nn.MSELoss(), torch.zeros(1, 1), torch.ones(1, 1))
    found = local_verdict(objective)
    assert found.verdict is Verdict.NEGATIVE_CURVATURE
    assert math.isclose(found.curvature, -2.0, rel_tol=1e-9)
    with torch.no_grad():
        for parameter, part in zip(objective.parameters, found.step, strict=True):
            parameter.add_(part)
    assert math.isclose(float(objective.value()), found.improved_loss, rel_tol=1e-12)
    assert found.improved_loss < found.loss
    level = found.certificate()
    assert (level.whole, level.reached) == (False, found.improved_loss)
    # That it is no minimum was measured; that no curvature is below the bound has the chance of Lanczos's start.
    assert (level.proof, level.probability) == (Proof.PROBABILISTIC, 1e-6)


class Ridge(nn.Module):
    """A narrow valley of u and a shallow ridge of w: 1 + 50 u^2 - w^2 / 20000 + w^4 / 100."""

    def __init__(self):
        super().__init__()
        self.u, self.w = nn.Parameter(torch.full((1,), 1e-4)), nn.Parameter(torch.full((1,), 1e-3))

    def forward(self, inputs):
        return (1.0 + 50.0 * self.u**2 - 0.5e-4 * self.w**2 + 0.01 * self.w**4).sqrt().reshape(1, 1)


def test_a_small_fall_along_negative_curvature_is_told_where_one_along_the_gradient_is_larger():
    found = local_verdict(Objective(Ridge(), nn.MSELoss(), torch.zeros(1, 1), torch.zeros(1, 1)))
    assert found.verdict is Verdict.NEGATIVE_CURVATURE
    assert found.loss - 1e-7 < found.improved_loss < found.loss - 1e-9
    assert f"from {found.loss:.9g} to {found.improved_loss:.9g}" in found.sentence


def test_a_slope_is_no_minimum():
    objective = small_network()
    before = [parameter.detach().clone() for parameter in objective.parameters]
    found = local_verdict(objective)
    assert found.verdict in {Verdict.DESCENDS, Verdict.NEGATIVE_CURVATURE}
    assert "lowers the loss from" in found.sentence
    assert all(torch.equal(a, b) for a, b in zip(before, objective.parameters, strict=True))


@pytest.mark.parametrize("products", [15, 30, 1000])
def test_the_least_curvature_is_bounded_where_training_has_ended(products):
    objective = small_network()
    train(objective)
    found = local_verdict(objective, max_products=products)
    smallest = float(torch.linalg.eigvalsh(Hessian(objective).dense())[0])
    assert found.least <= smallest <= found.curvature + 1e-12
    assert found.verdict is Verdict.SECOND_ORDER
    level = found.certificate()
    assert (level.proof, level.probability) == (Proof.PROBABILISTIC, 1e-6)
    assert "Except with probability 1e-06" in level.scope


def test_dropout_is_refused():
    model = nn.Sequential(nn.Linear(3, 40), nn.Dropout(0.5), nn.Linear(40, 2))
    objective = Objective(model, nn.CrossEntropyLoss(), torch.randn(9, 3), torch.randint(0, 2, (9,)))
    with pytest.raises(InputError, match="no second derivative"):
        local_verdict(objective)


def test_derivatives_that_cannot_be_checked_are_no_ground_for_a_verdict():
    torch.manual_seed(0)
    x = 1e30 * torch.randn(20, 3, dtype=torch.float64)
    objective = Objective(nn.Linear(3, 2).double(), nn.CrossEntropyLoss(), x, torch.arange(20) % 2, l2=1e-4)
    with pytest.raises(CurvatureError, match=r"could not be checked here: .* rounding make them\.$"):
        local_verdict(objective)


def test_infinite_weights_are_refused():
    objective = small_network()
    with torch.no_grad():
        objective.parameters[0].fill_(torch.nan)
    with pytest.raises(InputError, match="loss is nan"):
        local_verdict(objective)


@pytest.mark.parametrize("options", [{"max_products": 1}, {"failure": 0.0}, {"failure": 1.0}])
def test_odd_options(options):
    with pytest.raises(ValueError, match="must be at least 2, and lie in"):
        local_verdict(small_network(), **options)
