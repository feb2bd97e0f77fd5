"""What quasi-Newton methods start from, against dense linear algebra."""

import pytest
import torch
from cases import PROBLEMS
from torch import Tensor, nn

from thalweg import vectors
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.objective import Objective
from thalweg.optim.base import Point, StepInfo
from thalweg.optim.descent import Descent
from thalweg.optim.initial import InverseDiagonal, InverseGaussNewton
from thalweg.optim.lbfgs import LBFGS, ScaledIdentity
from thalweg.optim.quasi_newton import BFGS, SelfScaledBFGS, SelfScaledBroyden
from thalweg.optim.wolfe import StrongWolfe

INITIALS = [InverseGaussNewton(damping=1e-2), InverseDiagonal(damping=1e-2)]
every_initial = pytest.mark.parametrize("initial", INITIALS, ids=lambda initial: type(initial).__name__)


def point_of(objective: Objective) -> Point:
    gradient = vectors.flatten(objective.value_and_gradient()[1])
    return Point(gradient, gradient, objective.parameters, [], objective, float(objective.value()))


def by_hand(initial, objective: Objective) -> Tensor:
    """The inverse from the whole Gauss-Newton matrix."""
    matrix = GaussNewton(objective).dense()
    if isinstance(initial, InverseDiagonal):
        matrix = torch.diag(matrix.diagonal())
    largest = matrix.diagonal().max()
    return torch.linalg.inv(matrix + initial.damping * largest * torch.eye(len(matrix), dtype=matrix.dtype))


def pair(objective: Objective, seed: int) -> tuple[Tensor, Tensor]:
    """A step, and the change of the gradient that a positive definite matrix gives."""
    generator = torch.Generator().manual_seed(seed)
    n = sum(parameter.numel() for parameter in objective.parameters)
    step = torch.randn(n, generator=generator, dtype=torch.float64)
    return step, torch.linspace(0.5, 3.0, n, dtype=torch.float64) * step


@every_initial
@pytest.mark.parametrize("make", [BFGS, SelfScaledBFGS, SelfScaledBroyden, LBFGS])
def test_the_first_step_is_by_the_inverse(initial, make):
    objective = PROBLEMS["regression"].make(torch.float64, None)
    point = point_of(objective)
    direction = make(initial=initial)
    move = direction.propose(point, direction.start([]))
    torch.testing.assert_close(move.vector, -(by_hand(initial, objective) @ point.gradient), rtol=1e-6, atol=1e-9)
    assert move.well_scaled


@every_initial
def test_the_two_loops_go_on_from_it(initial):
    """H+ = V' H V + rho s s' over the pairs, from the inverse scaled by the last pair."""
    objective = PROBLEMS["regression"].make(torch.float64, None)
    point, direction = point_of(objective), LBFGS(initial=initial)
    state = direction.start([])
    direction.propose(point, state)
    pairs = [pair(objective, seed) for seed in range(3)]
    for step, change in pairs:
        direction.learn(StepInfo(point, step, change, None, None), state)
    inverse = by_hand(initial, objective)
    step, change = pairs[-1]
    inverse = inverse * (step @ change) / (change @ inverse @ change)
    for step, change in pairs:
        v = torch.eye(len(step), dtype=torch.float64) - torch.outer(change, step) / (step @ change)
        inverse = v.T @ inverse @ v + torch.outer(step, step) / (step @ change)
    expected = -(inverse @ point.gradient)
    torch.testing.assert_close(direction.propose(point, state).vector, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("make", [BFGS, LBFGS])
def test_it_is_made_anew_after_so_many_pairs(make):
    objective = PROBLEMS["regression"].make(torch.float64, None)
    initial = InverseGaussNewton(damping=1e-2, refresh=3)
    optimizer = Descent(objective.parameters, make(initial=initial), StrongWolfe())
    for _ in range(3):
        optimizer.step(objective)
    state = optimizer.state[objective.parameters[0]]["direction"]
    assert state["num_learned"] == 3
    optimizer.step(objective)
    assert state["num_learned"] == 1
    assert state["num_pairs"] == 4


def test_a_diagonal_makes_lbfgs_blind_to_the_scale_of_the_inputs():
    steps = {}
    for initial in (ScaledIdentity(), InverseDiagonal()):
        torch.manual_seed(0)
        x = torch.randn(200, 20, dtype=torch.float64) * torch.logspace(-2, 1, 20, dtype=torch.float64)
        y = (torch.rand(200, 1, dtype=torch.float64) < 0.5).double()
        model = nn.Linear(20, 1, dtype=torch.float64)
        objective = Objective(model, nn.BCEWithLogitsLoss(), x, y, l2=1e-4)
        optimizer = Descent(model.parameters(), LBFGS(initial=initial), StrongWolfe())
        while point_of(objective).gradient.norm() > 1e-3:
            optimizer.step(objective)
        steps[type(initial)] = optimizer.counts["steps"]
    assert steps[InverseDiagonal] < 0.5 * steps[ScaledIdentity]


@every_initial
def test_without_curvature_the_first_step_is_the_gradient(initial):
    """Inputs of zero: nothing to invert."""
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    objective = Objective(model, nn.MSELoss(), torch.zeros(3, 2).double(), torch.ones(3, 1).double())
    point = point_of(objective)
    assert initial.inverse(point, {}) is None
    move = BFGS(initial=initial).propose(point, BFGS(initial=initial).start([]))
    assert torch.equal(move.vector, -point.gradient)
    assert not move.well_scaled


@every_initial
def test_a_plain_closure_is_refused(initial):
    w = torch.ones(2, requires_grad=True)

    def closure():
        w.grad = None
        loss = w.square().sum()
        loss.backward()
        return loss

    name = type(initial).__name__
    with pytest.raises(ValueError, match=rf"{name} needs second derivatives: step\(objective\).*ScaledIdentity\(\)"):
        Descent([w], BFGS(initial=initial), StrongWolfe()).step(closure)


@pytest.mark.parametrize("part", [InverseGaussNewton, InverseDiagonal])
def test_arguments_out_of_range_are_refused(part):
    with pytest.raises(ValueError, match=rf"{part.__name__}\(damping=...\) must be positive; got 0.0"):
        part(damping=0.0)
    with pytest.raises(ValueError, match=rf"{part.__name__}\(refresh=...\) must be at least 1; got 0"):
        part(refresh=0)
