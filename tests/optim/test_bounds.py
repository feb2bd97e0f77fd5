"""Steps inside a box: where they end is where SciPy's L-BFGS-B ends, and they never leave it."""

import numpy as np
import pytest
import scipy.optimize
import torch
from cases import PROBLEMS, snapshot
from torch import Tensor, nn

from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, AbstractStepSize
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Gradient, Update
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.quasi_newton import BFGS, SelfScaledBroyden
from thalweg.optim.trust_region import TrustRegion
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status


def bowl(x: Tensor) -> Tensor:
    """A convex function whose curvature differs much and mixes the unknowns."""
    weights = torch.logspace(0, 3, len(x), dtype=x.dtype)
    mixed = x + 0.5 * x.roll(1)
    return (weights * (mixed - torch.linspace(-1, 2, len(x), dtype=x.dtype)) ** 2).sum() + mixed.exp().sum()


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return lower and upper bounds, some missing, some the same, and a start, which may lie outside."""
    rng = np.random.default_rng(seed)
    lower = rng.uniform(-1.5, 1.0, n)
    upper = lower + rng.uniform(0.0, 1.5, n) * (rng.random(n) > 0.1)
    lower[rng.random(n) < 0.3], upper[rng.random(n) < 0.3] = -np.inf, np.inf
    return lower, upper, rng.uniform(-2.0, 2.0, n)


def by_scipy(lower: np.ndarray, upper: np.ndarray, start: np.ndarray) -> np.ndarray:
    def value_and_gradient(place: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.tensor(place, requires_grad=True)
        value = bowl(x)
        value.backward()
        return value.item(), x.grad.numpy()

    options = {"ftol": 0.0, "gtol": 1e-9, "maxiter": 10_000, "maxfun": 100_000}
    bounds = list(zip(lower, upper, strict=True))
    first = np.clip(start, lower, upper)
    found = scipy.optimize.minimize(
        value_and_gradient, first, jac=True, bounds=bounds, method="L-BFGS-B", options=options
    )
    return found.x


@pytest.mark.parametrize(
    ("direction", "step_size"),
    [(LBFGS(), Armijo()), (LBFGS(), StrongWolfe()), (BFGS(), StrongWolfe()), (SelfScaledBroyden(), StrongWolfe())],
    ids=["lbfgs armijo", "lbfgs wolfe", "bfgs", "broyden"],
)
@pytest.mark.parametrize(("seed", "n"), [(0, 1), (1, 2), (2, 5), (3, 12), (4, 30)])
def test_the_minimum_is_scipys(direction: AbstractDirection, step_size: AbstractStepSize, seed: int, n: int):
    lower, upper, start = drawn(seed, n)
    x = torch.tensor(start, requires_grad=True)
    low, high = torch.tensor(lower), torch.tensor(upper)
    optimizer = Descent([{"params": [x], "lower": low, "upper": high}], direction, step_size)

    def closure() -> Tensor:
        assert bool(((x >= low) & (x <= high)).all()), "it must never be evaluated outside"
        optimizer.zero_grad()
        value = bowl(x)
        value.backward()
        return value

    for _ in range(1000):
        if not optimizer.status.continues:
            break
        optimizer.step(closure)
    assert optimizer.status in {Status.CONVERGED, Status.STATIONARY, Status.NO_PROGRESS}
    np.testing.assert_allclose(x.detach().numpy(), by_scipy(lower, upper, start), rtol=1e-5, atol=1e-6)


def test_bounds_of_one_group_leave_the_others_free():
    objective = PROBLEMS["regression"].make(torch.float64, None)
    first, *rest = objective.parameters
    optimizer = Descent([{"params": [first], "lower": -0.2, "upper": 0.2}, {"params": rest}])
    before = float(objective.value())
    for _ in range(30):
        optimizer.step(objective)
    assert float(first.detach().abs().max()) == 0.2
    assert max(float(tensor.detach().abs().max()) for tensor in rest) > 0.5
    assert float(objective.value()) < 0.5 * before


def test_wide_bounds_change_nothing():
    free, bounded = (PROBLEMS["rosenbrock"].make(torch.float64, None) for _ in range(2))
    ours = Descent(free.parameters, LBFGS(), StrongWolfe())
    theirs = Descent([{"params": bounded.parameters, "lower": -1e6, "upper": 1e6}], LBFGS(), StrongWolfe())
    for _ in range(15):
        ours.step(free)
        theirs.step(bounded)
        assert torch.equal(snapshot(free), snapshot(bounded))


def test_a_corner_that_holds_everything_is_stationary():
    x = torch.zeros(3, requires_grad=True)
    optimizer = Descent([{"params": [x], "lower": 0.0}], Gradient(), Armijo())

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (x + 1.0).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert optimizer.status is Status.STATIONARY
    assert torch.equal(x, torch.zeros(3))


def test_bounds_are_saved_with_the_groups():
    def make() -> tuple[nn.Linear, Objective, Descent]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1, dtype=torch.float64)
        x = torch.randn(9, 3, dtype=torch.float64)
        objective = Objective(model, nn.MSELoss(), x, 5.0 * x.sum(1, keepdim=True))
        return model, objective, Descent([{"params": list(model.parameters()), "upper": 1.0}])

    model, objective, optimizer = make()
    for _ in range(3):
        optimizer.step(objective)
    again, other_objective, other = make()
    again.load_state_dict(model.state_dict())
    other.param_groups[0]["upper"] = None
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["upper"] == 1.0
    for _ in range(3):
        optimizer.step(objective)
        other.step(other_objective)
    assert torch.equal(model.weight, again.weight)
    assert float(model.weight.detach().max()) == 1.0


@pytest.mark.parametrize(
    ("bounds", "match"),
    [
        (
            {"lower": 1.0, "upper": 0.0},
            r"need lower <= upper with room for a finite number between them; got 1\.0 and 0\.0",
        ),
        ({"lower": float("inf")}, "need lower <= upper with room"),
        ({"upper": float("nan")}, "need lower <= upper with room"),
        ({"lower": torch.zeros(3)}, r"numbers, or tensors that fit each of its parameters \[2\]"),
        ({"upper": "high"}, r"numbers, or tensors that fit each of its parameters \[2\]"),
    ],
)
def test_bounds_that_cannot_be_are_refused(bounds, match):
    with pytest.raises(ValueError, match=match):
        Descent([{"params": [torch.zeros(2, requires_grad=True)], **bounds}])


@pytest.mark.parametrize(
    "parts",
    [
        (NewtonCG(), Armijo()),
        (LevenbergMarquardt(), Armijo()),
        (LBFGS(), TrustRegion()),
        (Update(torch.optim.SGD, lr=0.1), Armijo()),
        (Update(torch.optim.SGD, lr=0.1), Fixed(1)),
    ],
    ids=["newton-cg", "lm", "trust region", "searched update", "plain update"],
)
def test_parts_that_cannot_keep_bounds_say_so(parts):
    parameters = [torch.zeros(1, requires_grad=True)]
    with pytest.raises(ValueError, match="are kept by LBFGS, the BFGS family and Gradient, with Armijo, Strong"):
        Descent([{"params": parameters, "lower": -1.0}], *parts)


def test_a_loss_that_is_no_number_leaves_parameters_outside_their_bounds_alone():
    w = torch.tensor([-1.0, 0.5], requires_grad=True)
    optimizer = Descent([{"params": [w], "lower": 0.0}])

    def closure():
        optimizer.zero_grad()
        loss = w.sum() * torch.nan
        loss.backward()
        return loss

    optimizer.step(closure)
    assert optimizer.status is Status.LOSS_NOT_FINITE
    assert w.tolist() == [-1.0, 0.5]
