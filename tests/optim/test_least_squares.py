"""Published least-squares problems: solved by the second-order methods, in whatever units their unknowns come."""

import math

import pytest
import scipy.optimize
import torch
from least_squares_problems import PROBLEMS, LeastSquares
from torch import nn

from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.functions import as_objective
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, AbstractStepSize
from thalweg.optim.descent import Descent
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo
from thalweg.optim.newton import Newton
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.trust_region import TrustRegion

NUMBERED = {name: problem for name, problem in PROBLEMS.items() if problem.number}


def evaluations(
    problem: LeastSquares, direction: AbstractDirection, step_size: AbstractStepSize, most: int = 300
) -> float:
    """Return how often the loss was evaluated until the problem was solved; infinity where it was not."""
    objective = problem.objective()
    optimizer = Descent(objective.parameters, direction, step_size)
    while not problem.solved(problem.sum_of_squares(objective.parameters[0].detach())):
        if optimizer.counts["values"] > most or (not optimizer.status.good and optimizer.counts["rejected"]):
            return math.inf
        optimizer.step(objective)
    return optimizer.counts["values"] + 1


def minpack(problem: LeastSquares) -> tuple[float, float]:
    """Return the same for MINPACK's lmder, and the sum of squares where it ends."""
    slopes, num, solved = torch.func.jacrev(problem.residuals), -1, math.inf  # SciPy looks once at the shape

    def residuals(x):
        nonlocal num, solved
        num += 1
        values = problem.residuals(torch.from_numpy(x)).numpy()
        if problem.solved(float(values @ values)):
            solved = min(solved, num)
        return values

    x, *_ = scipy.optimize.leastsq(
        residuals,
        problem.start.numpy().copy(),
        Dfun=lambda x: slopes(torch.from_numpy(x)).numpy(),
        ftol=1e-14,
        xtol=1e-14,
        maxfev=1000,
        full_output=True,
    )
    return solved, problem.sum_of_squares(torch.from_numpy(x))


@pytest.fixture(scope="module")
def theirs() -> dict[str, tuple[float, float]]:
    return {name: minpack(problem) for name, problem in NUMBERED.items()}


def test_the_published_minima_are_those_of_the_formulas(theirs):
    """MINPACK ends at one of them, and never lower."""
    for name, (_, total) in theirs.items():
        assert total >= min(NUMBERED[name].optima) * (1.0 - 1e-8), name
    assert [name for name, (count, _) in theirs.items() if count == math.inf] == []


def test_levenberg_marquardt_solves_all_and_takes_no_more_than_minpack(theirs):
    taken = {name: evaluations(p, LevenbergMarquardt(), TrustRegion()) for name, p in NUMBERED.items()}
    assert [name for name, count in taken.items() if count == math.inf] == []
    ratios = [math.log(taken[name] / count) for name, (count, _) in theirs.items() if count < math.inf]
    assert math.exp(sum(ratios) / len(ratios)) < 1.0
    assert taken["Powell badly scaled"] <= 20
    assert taken["Meyer"] <= 130


@pytest.mark.parametrize("name", ["Powell badly scaled", "Brown badly scaled", "Osborne 1", "Meyer"])
def test_newton_solves_what_is_badly_scaled(name):
    assert evaluations(PROBLEMS[name], Newton(), Armijo(), 1000) < math.inf


@pytest.mark.parametrize("name", ["penalty I, n = 10", "Brown-Dennis"])
def test_newton_cg_solves_large_residuals_within_a_ball(name):
    """Cut at a ball of another norm than the solve's, it crept along an edge at which the first problem has 1e5."""
    assert evaluations(PROBLEMS[name], NewtonCG(Hessian), TrustRegion(), 200) < math.inf


def unchecked(factory):
    """Curvature without its own check, whose differences have the units of all parameters together."""
    return lambda objective, parameters, *, check: factory(objective, parameters, check=False)


@pytest.mark.parametrize("step_size", [Armijo(), TrustRegion()], ids=lambda part: type(part).__name__)
@pytest.mark.parametrize(
    "direction",
    [LevenbergMarquardt(), Newton(curvature=unchecked(Hessian)), Newton(curvature=unchecked(GaussNewton))],
    ids=["levenberg-marquardt", "newton", "gauss-newton"],
)
@pytest.mark.parametrize("name", ["Wood", "Rosenbrock", "Kowalik-Osborne", "Osborne 1"])
def test_the_unit_of_a_parameter_changes_nothing(name, direction, step_size, monkeypatch):
    monkeypatch.setattr("thalweg.curvature.root._fits", lambda *parts: True)
    problem = PROBLEMS[name]
    ends = []
    for factor in (1.0, 1e6, 1e-6):
        scale = torch.ones_like(problem.start)
        scale[1] = factor
        objective = problem.objective(scale=scale)
        optimizer = Descent(objective.parameters, direction, step_size)
        values = [float(optimizer.step(objective)) for _ in range(6)]
        ends.append((torch.tensor(values), scale * objective.parameters[0].detach()))
    for other in ends[1:]:
        torch.testing.assert_close(other, ends[0], rtol=1e-6, atol=1e-10)


def test_newton_cg_goes_the_same_way_in_other_units_within_a_ball():
    losses = []
    for factor in (1.0, 1e4):
        torch.manual_seed(0)
        x = torch.randn(50, 4, dtype=torch.float64)
        model = nn.Linear(4, 1, dtype=torch.float64)
        y = torch.sin(3.0 * x[:, :1])
        with torch.no_grad():
            model.weight[0, 2] /= factor
        x[:, 2] *= factor
        objective = Objective(model, nn.MSELoss(), x, y)
        optimizer = Descent(model.parameters(), NewtonCG(tolerance=1e-8), TrustRegion(radius=1e-2))
        losses.append([float(optimizer.step(objective)) for _ in range(8)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert losses[0][-1] < 0.9 * losses[0][0]


@pytest.mark.parametrize("step_size", [Armijo(), TrustRegion()], ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("direction", [LevenbergMarquardt(), Newton()], ids=lambda part: type(part).__name__)
def test_units_that_never_react_stay_where_they_are(direction, step_size):
    x = torch.linspace(-1.0, 1.0, 30).unsqueeze(1)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(1, 6), nn.ReLU(), nn.Linear(6, 1))
    with torch.no_grad():
        model[0].bias[:2] = -10.0
    before = model[0].weight[:2].clone()
    objective = Objective(model, nn.MSELoss(), x, torch.sin(3.0 * x))
    optimizer = Descent(model.parameters(), direction, step_size)
    losses = [float(optimizer.step(objective)) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(model[0].weight[:2], before)
    assert model[0].weight.abs().max() < 1e3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("step_size", [Armijo(), TrustRegion()], ids=lambda part: type(part).__name__)
def test_what_only_rounding_errors_depend_on_stays_where_it_is(step_size, dtype):
    torch.manual_seed(0)
    model = nn.MultiheadAttention(4, 2, dtype=dtype, batch_first=True)  # a bias of all keys moves no weight
    with torch.no_grad():
        model.in_proj_bias.normal_()
    before = model.in_proj_bias[4:8].clone()
    x, y = torch.randn(8, 3, 4, dtype=dtype), torch.randn(8, 3, 4, dtype=dtype)
    objective = as_objective(
        lambda v: torch.func.functional_call(model, v, (x, x, x))[0] - y, dict(model.named_parameters()), residuals=True
    )
    optimizer = Descent(objective.parameters, LevenbergMarquardt(), step_size)
    losses = [float(optimizer.step(objective)) for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]
    found = objective.model.variables["in_proj_bias"]
    assert (found[4:8] - before).abs().max() < 1e-3 * found.abs().max()
