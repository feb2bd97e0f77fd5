"""The whole loop against SciPy: minima, bounds, why it ends, what it returns, and what it costs."""

import math
import statistics

import numpy as np
import pytest
import scipy.optimize
import torch
from least_squares_problems import ONE_SIZE
from torch import nn

from thalweg.errors import InputError
from thalweg.functions import as_objective
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective
from thalweg.optim.directions import Gradient, Update
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.minimum import minimize
from thalweg.optim.newton import Newton
from thalweg.status import Status

pytestmark = pytest.mark.usefixtures("float64")

START = [-1.2, 1.0]


def rosenbrock(x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def with_gradient(function):
    def evaluate(array):
        x = torch.tensor(array, requires_grad=True)
        value = function(x)
        value.backward()
        return value.item(), x.grad.numpy()

    return evaluate


def norm_at(function, x):
    x = x.clone().requires_grad_()
    return float(torch.autograd.grad(function(x), x)[0].norm())


def quartic(x):
    return ((x - torch.arange(5.0)) ** 4).sum() + (x[0] * x[4]) ** 2


FUNCTIONS = {
    "rosenbrock": (rosenbrock, START),
    "long rosenbrock": (rosenbrock, START * 5),
    "quartic": (quartic, [0.5] * 5),
    "log sum exp": (lambda x: torch.logsumexp(torch.cat([x, -2.0 * x, x.sum().reshape(1)]), 0), [3.0, -1.0, 2.0]),
}


@pytest.mark.parametrize("direction", [None, LBFGS(), Newton()], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_finds_what_scipy_finds(name, direction):
    function, start = FUNCTIONS[name]
    reference = scipy.optimize.minimize(with_gradient(function), start, jac=True, options={"gtol": 1e-9})
    found = minimize(function, start, direction=direction)
    assert found.success
    assert found.gradient_norm <= 1e-6
    assert found.value <= reference.fun + 1e-8
    # What is said of x is so.
    assert found.value == pytest.approx(float(function(found.x)), rel=1e-12, abs=1e-300)
    assert found.gradient_norm == pytest.approx(norm_at(function, found.x), rel=1e-6, abs=1e-12)
    last = found.history[-1]
    assert (last.value, last.gradient_norm, last.multiple) == (found.value, found.gradient_norm, 0.0)
    assert found.num_steps == len(found.history) - 1 == found.best


def test_more_problems_are_solved_than_by_scipy_at_about_its_cost():
    ratios, solved = [], {"ours": 0, "scipy": 0}
    problems = [problem for problem in ONE_SIZE if problem.name not in ("Meyer", "Powell badly scaled")]  # hundreds
    for problem in problems:
        function = lambda x, problem=problem: 0.5 * problem.residuals(x).square().sum()  # noqa: E731
        reference = scipy.optimize.minimize(with_gradient(function), problem.start.numpy(), jac=True)
        found = minimize(function, problem.start)
        both = [problem.solved(2.0 * value) for value in (found.value, reference.fun)]
        solved["ours"] += both[0]
        solved["scipy"] += both[1]
        if all(both):
            ratios.append((found.num_values + found.num_gradients) / reference.nfev)
    assert solved["ours"] >= solved["scipy"] + 3
    assert solved["ours"] == len(problems)
    assert statistics.median(ratios) <= 1.15  # to a gradient of 1e-6, and SciPy to 1e-5


BOUNDS = {
    "one side": (rosenbrock, START * 2, None, 0.5),
    "both sides": (rosenbrock, START * 2, [-0.5, 0.4, -math.inf, 0.2], [0.7, 0.9, 0.3, math.inf]),
    "a start outside": (quartic, [0.5] * 5, torch.ones(5), np.array([2.0, 2.0, 1.5, 4.0, 4.0])),
}


@pytest.mark.parametrize("direction", [None, LBFGS()], ids=str)
@pytest.mark.parametrize("case", BOUNDS)
def test_bounds_are_kept_as_by_scipy(case, direction):
    function, start, lower, upper = BOUNDS[case]
    size = len(start)
    low = np.broadcast_to(-np.inf if lower is None else np.asarray(lower), size)
    high = np.broadcast_to(np.inf if upper is None else np.asarray(upper), size)
    reference = scipy.optimize.minimize(
        with_gradient(function),
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(low, high),
        options={"gtol": 1e-10, "ftol": 1e-14},
    )
    found = minimize(function, start, lower=lower, upper=upper, direction=direction)
    assert found.success
    assert found.value == pytest.approx(reference.fun, rel=1e-8)
    assert bool(((found.x >= torch.tensor(low)) & (found.x <= torch.tensor(high))).all())
    assert found.gradient_norm <= 1e-6 < norm_at(function, found.x)
    stopped = minimize(function, start, lower=lower, upper=upper, direction=direction, max_steps=found.num_steps)
    assert stopped.gradient_norm == pytest.approx(found.gradient_norm, rel=1e-6, abs=1e-12)


def test_a_start_outside_its_bounds_is_moved_to_them():
    found = minimize(lambda x: (x - 3.0).square().sum(), [1.0, 7.0], lower=4.0, upper=6.0)
    assert found.x.tolist() == [4.0, 4.0]
    assert found.value == 2.0
    assert found.history[0].value == 10.0
    stopped = minimize(lambda x: x.square().sum(), [1.0, 2.0], lower=4.0)
    assert (stopped.x.tolist(), stopped.value) == ([4.0, 4.0], 32.0)


def test_bounds_have_the_form_of_the_variables():
    def function(v):
        return (v["a"] - 2.0).square().sum() + (v["b"] + 1.0).square()

    start = {"a": torch.zeros(2), "b": 0.0}
    found = minimize(function, start, lower={"b": 0.5}, upper={"a": torch.tensor([1.0, 3.0])})
    torch.testing.assert_close(found.x["a"], torch.tensor([1.0, 2.0]))
    assert float(found.x["b"]) == 0.5
    found = minimize(lambda v: function({"a": v[0], "b": v[1]}), list(start.values()), upper=[1.0, None])
    torch.testing.assert_close(found.x[0], torch.ones(2))
    assert float(found.x[1]) == pytest.approx(-1.0)
    for lower in ({"c": 1.0}, [1.0, 2.0], "low"):
        with pytest.raises(InputError, match=r"minimize\(lower=...\) must be a number, or have the form of .*\(a, b\)"):
            minimize(function, start, lower=lower)
    with pytest.raises(ValueError, match="numbers, or tensors that fit each of its parameters"):
        minimize(rosenbrock, START, lower=[1.0, 2.0, 3.0])


ENDS = {
    "tolerance": ({"tolerance": 30.0}, Status.CONVERGED),
    "precision": ({"tolerance": 0.0}, Status.STATIONARY),
    "steps": ({"max_steps": 5}, Status.OUT_OF_ITERATIONS),
    "no steps": ({"max_steps": 0}, Status.OUT_OF_ITERATIONS),
    "evaluations": ({"max_evaluations": 10}, Status.OUT_OF_EVALUATIONS),
    "time": ({"seconds": 1e-9}, Status.OUT_OF_TIME),
    "callback": ({"callback": lambda iteration, _: iteration.number == 3}, Status.STOPPED_BY_CALLBACK),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("step_size", [None, Armijo(), Fixed(1e-3)], ids=str)
def test_why_it_ended(end, step_size):
    options, status = ENDS[end]
    direction = Gradient() if isinstance(step_size, Fixed) else None
    if isinstance(step_size, Fixed) and end in ("precision", "tolerance"):
        options = {"tolerance": 2.0}
        status = Status.CONVERGED
    calls = []
    found = minimize(
        lambda x: calls.append(0) or rosenbrock(x), START, direction=direction, step_size=step_size, **options
    )
    assert found.status is status
    assert found.status.value in str(found)
    assert found.success == (status in (Status.CONVERGED, Status.STATIONARY))
    assert found.value == pytest.approx(float(rosenbrock(found.x)), rel=1e-12, abs=1e-300)
    assert found.gradient_norm == pytest.approx(norm_at(rosenbrock, found.x), rel=1e-9, abs=1e-12)
    assert found.num_values + found.num_gradients == len(calls)
    assert found.num_steps <= options.get("max_steps", 10_000)


def test_the_best_point_is_returned_where_steps_go_up():
    momentum = Update(torch.optim.SGD, lr=0.1, momentum=0.95)
    found = minimize(lambda x: x.square().sum(), [1.0, 2.0], direction=momentum, max_steps=12)
    values = [iteration.value for iteration in found.history]
    assert 0 < found.best == values.index(min(values)) < 12
    assert found.value == min(values) == pytest.approx(float(found.x.square().sum()))
    assert found.gradient_norm == pytest.approx(2.0 * float(found.x.norm()))
    assert f"x is the best point, number {found.best}" in str(found)


def test_an_update_ends_at_the_tolerance_where_it_is():
    found = minimize(lambda x: x.square().sum(), [1.0, 2.0], direction=Update(torch.optim.SGD, lr=0.1), tolerance=0.1)
    assert found.status is Status.CONVERGED
    assert found.gradient_norm == pytest.approx(norm_at(lambda x: x.square().sum(), found.x))
    assert found.gradient_norm <= 0.1


def test_the_callback_sees_points_with_their_figures():
    seen = []
    found = minimize(rosenbrock, START, callback=lambda iteration, x: seen.append((iteration, x)))
    assert [iteration for iteration, _ in seen] == list(found.history[:-1])
    for iteration, x in seen:
        assert iteration.value == pytest.approx(float(rosenbrock(x)), rel=1e-12)
        assert iteration.gradient_norm == pytest.approx(norm_at(rosenbrock, x), rel=1e-9)
        assert iteration.multiple > 0.0


@pytest.mark.parametrize("evaluation", [1, 2, 9, 20])
def test_an_interruption_keeps_the_best_point(evaluation):
    calls = []

    def function(x):
        calls.append(0)
        if len(calls) == evaluation:
            raise KeyboardInterrupt
        return rosenbrock(x)

    found = minimize(function, START)
    assert found.status is Status.BROKEN_OFF
    assert not found.success
    if evaluation <= 2:  # in the first step
        assert math.isnan(found.value)
        assert found.x.tolist() == START
    else:
        assert found.value == float(rosenbrock(found.x))
        assert found.value == min([iteration.value for iteration in found.history], default=24.2)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        ([torch.tensor(-1.2), torch.tensor(1.0)], list),
        ((-1.2, 1.0, torch.ones(1)), tuple),
        ({"a": -1.2, "b": 1.0}, dict),
        ({"layer.a": -1.2, "b": 1.0}, dict),
    ],
)
def test_x_has_the_form_of_the_start(start, kind):
    def function(v):
        parts = v.values() if isinstance(v, dict) else v
        return rosenbrock(torch.cat([part.reshape(-1) for part in parts]))

    found = minimize(function, start)
    assert type(found.x) is kind
    assert len(found.x) == len(start)
    assert kind is not dict or list(found.x) == list(start)
    for part in found.x.values() if kind is dict else found.x:
        assert not part.requires_grad
        assert bool((part - 1.0).abs().max() < 1e-5)


def test_an_objective_of_a_model_is_moved():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].bias.requires_grad_(False)
    frozen = model[0].bias.clone()
    x = torch.randn(30, 3)
    objective = Objective(model, Softmax(None, None), x, x.argmax(1), l2=1e-2)
    gradients = objective.num_gradients
    found = minimize(objective, tolerance=1e-5)
    assert found.success
    assert found.value == pytest.approx(float(objective.value()))
    assert set(found.x) == {"0.weight", "2.weight", "2.bias"}
    assert torch.equal(found.x["0.weight"], model[0].weight)
    assert torch.equal(model[0].bias, frozen)
    assert found.num_gradients == objective.num_gradients - gradients


def test_weights_of_a_model_stay_within_their_bounds():
    x, y = torch.randn(20, 6), torch.randn(20, 1)
    model = nn.Linear(6, 1, bias=False)
    found = minimize(Objective(model, nn.MSELoss(reduction="sum"), x, y), lower={"weight": 0.0})
    expected, residual = scipy.optimize.nnls(x.numpy(), y[:, 0].numpy())
    assert found.value == pytest.approx(residual**2)
    np.testing.assert_allclose(model.weight.detach()[0].numpy(), expected, atol=1e-6)
    assert 0 < int((expected == 0.0).sum()) < 6


def test_residuals_go_through_levenberg_marquardt():
    objective = as_objective(lambda x: torch.stack([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]]), START, residuals=True)
    found = minimize(objective, direction=LevenbergMarquardt())
    torch.testing.assert_close(found.x, torch.ones(2), rtol=0.0, atol=1e-5)
    assert found.num_products <= len(found.history) + 1  # one Jacobian an iteration, and its check


def test_a_loss_that_is_not_finite_is_said():
    found = minimize(lambda x: x.sum().log(), [-1.0, -2.0])
    assert found.status is Status.LOSS_NOT_FINITE
    assert not found.success
    assert found.x.tolist() == [-1.0, -2.0]


def test_it_is_deterministic():
    first, second = (minimize(rosenbrock, START * 10) for _ in range(2))
    assert first.history == second.history
    assert torch.equal(first.x, second.x)


REFUSED = {
    "no start": ({"start": None}, "needs a start"),
    "no function": ({"function": 3.0}, "takes a function or an Objective; got a float"),
    "a start of an objective": ({"function": as_objective(rosenbrock, torch.ones(2))}, "leave start out"),
    "a method by name": ({"direction": "bfgs"}, r"minimize\(direction=...\) must be an object such as .*; got 'bfgs'"),
    "a search by name": (
        {"step_size": "wolfe"},
        r"minimize\(step_size=...\) must be an object such as .*; got 'wolfe'",
    ),
    "negative steps": ({"max_steps": -1}, r"minimize\(max_steps=...\) must be at least 0; got -1"),
    "no evaluations": ({"max_evaluations": 0}, r"minimize\(max_evaluations=...\) must be at least 1; got 0"),
    "no time": ({"seconds": 0.0}, r"minimize\(seconds=...\) must be positive; got 0.0"),
    "a negative tolerance": ({"tolerance": -1.0}, r"tolerance=...\) must be zero or positive; got -1.0"),
    "a number without residuals": ({"direction": LevenbergMarquardt()}, "no Gauss-Newton matrix"),
    "bounds without room": ({"lower": 3.0, "upper": 2.0}, "lower <= upper"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_cannot_be_used_are_refused(case):
    options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        minimize(**{"function": rosenbrock, "start": START, **options})
