"""What quasi-Newton methods start from, against dense linear algebra."""

import numpy as np
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
from thalweg.optim.lbfgs import LBFGS, AutomaticInitial, ScaledIdentity, affine_outputs
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
    for initial in (ScaledIdentity(), InverseDiagonal(), AutomaticInitial()):
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
    assert steps[AutomaticInitial] <= 1.1 * steps[InverseDiagonal]


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


class Frozen(nn.Module):
    """Features that stay as they are, and a linear layer on them."""

    def __init__(self, *features: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*features).requires_grad_(False)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(4, 2, mode="sum")

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x.abs().long().clamp(max=3))


MODELS = {
    "linear": (2, lambda: nn.Linear(4, 2)),
    "zero": (2, lambda: zeros(nn.Linear(4, 2))),
    "nested": (2, lambda: nn.Sequential(nn.Identity(), nn.Linear(4, 2, bias=False))),
    "frozen below": (2, lambda: Frozen(nn.Linear(4, 4), nn.Tanh())),
    "two layers": (0, lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))),
    "tanh": (0, lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))),
    "relu": (0, lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))),
    "one layer and gelu": (0, lambda: nn.Sequential(nn.Linear(4, 2), nn.GELU())),
    "dropout": (0, lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))),
    "trained normalization": (0, lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))),
    "frozen normalization": (2, lambda: Frozen(nn.BatchNorm1d(4))),
    "bag": (0, Bag),
}


def zeros(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_affine_is_found_out_and_nothing_is_changed_by_that(name, dtype):
    outputs, make = MODELS[name]
    torch.manual_seed(0)
    model, x = make().to(dtype), 5.0 * torch.randn(30, 4).to(dtype)
    objective = Objective(model, nn.CrossEntropyLoss(), x, torch.arange(30) % 2)
    state, noise = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    assert affine_outputs(objective, objective.parameters) == (0 if dtype == torch.bfloat16 else outputs)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), noise)


def test_the_automatic_start_is_the_diagonal_damped_by_its_quantiles():
    torch.manual_seed(0)
    x = torch.randn(50, 21, dtype=torch.float64) * torch.logspace(-2, 1, 21, dtype=torch.float64)
    x[:, 7] = 0.0  # nothing is known of its weight
    model = nn.Linear(21, 1, bias=False, dtype=torch.float64)
    objective = Objective(model, nn.BCEWithLogitsLoss(), x, (x[:, :1] > 0.0).double(), l2=1e-4)
    found = AutomaticInitial().inverse(point_of(objective), {})
    diagonal = GaussNewton(objective).dense().diagonal()
    known = np.delete(diagonal.numpy(), 7)
    low, high = (np.quantile(known, share, method="lower") for share in (0.1, 0.9))
    diagonal[7] = high
    damping = 30.0 * low**2 / high
    torch.testing.assert_close(found, (1.0 + damping / high) / (diagonal + damping))


def test_where_nothing_is_known_to_help_the_automatic_start_is_the_scaled_identity():
    for name in ("regression", "classes", "rosenbrock"):
        ends = []
        for initial in (AutomaticInitial(), ScaledIdentity()):
            objective = PROBLEMS[name].make(torch.float64, None)
            optimizer = Descent(objective.parameters, LBFGS(initial=initial), StrongWolfe())
            for _ in range(5):
                optimizer.step(objective)
            ends.append(vectors.flatten(objective.parameters))
        assert torch.equal(*ends)
    assert AutomaticInitial().inverse(Point(ends[0], ends[0], objective.parameters, [], None, 0.0), {}) is None
