"""A search ends by itself, and what it says then is true."""

import itertools
import math

import pytest
import torch
from cases import PROBLEMS, descent
from torch import nn

from thalweg.functions import as_objective
from thalweg.objective import Objective
from thalweg.optim.descent import Descent
from thalweg.optim.line_search import Armijo
from thalweg.optim.progress import MAX_IDLE, at_rest, no_step, remember
from thalweg.optim.quasi_newton import BFGS
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status

ENDS = {Status.CONVERGED, Status.NO_PROGRESS, Status.STATIONARY, Status.NO_STEP}
PAIRS = [
    *(("lbfgs", "armijo"), ("lbfgs", "wolfe"), ("bfgs", "wolfe"), ("self-scaled broyden", "wolfe")),
    *(("newton", "armijo"), ("newton", "trust region"), ("newton-cg", "armijo"), ("levenberg-marquardt", "armijo")),
]


def closure_of(optimizer, function):
    def closure():
        optimizer.zero_grad()
        loss = function()
        loss.backward()
        return loss

    return closure


# The network takes longest, and rounding ends its search soonest in single precision.
PROBLEMS_IN = [
    *itertools.product(["quadratic", "rosenbrock", "beale", "logistic"], [torch.float32, torch.float64]),
    ("classes", torch.float32),
]


@pytest.mark.parametrize("pair", PAIRS, ids=" with ".join)
@pytest.mark.parametrize(("name", "dtype"), PROBLEMS_IN, ids=str)
def test_a_loop_on_the_status_ends_at_the_minimum(name, pair, dtype):
    objective = PROBLEMS[name].make(dtype, None)
    optimizer = descent(objective, pair)
    for _ in range(1000):
        if not optimizer.status.continues:
            break
        optimizer.step(objective)
    assert optimizer.status in ENDS
    share = 2e-3 if name == "classes" else 1e-10 if dtype == torch.float64 else 1e-4  # it has several minima
    minimum, start = PROBLEMS[name].minimum, PROBLEMS[name].start
    assert float(objective.value()) <= minimum + share * start


def test_a_solved_problem_costs_next_to_nothing():
    objective = PROBLEMS["logistic"].make(torch.float64, None)
    optimizer = descent(objective, ("bfgs", "wolfe"))
    for _ in range(400):
        optimizer.step(objective)
    assert optimizer.counts["gradients"] < 2 * optimizer.counts["steps"] + 400
    assert optimizer.status is Status.CONVERGED
    before = optimizer.counts["gradients"]
    for _ in range(10):
        optimizer.step(objective)
    assert optimizer.counts["gradients"] <= before + 10


def test_at_a_kink_the_search_ends_without_a_claim_of_convergence():
    w = torch.tensor([3.0, 1.0], requires_grad=True)

    def closure():
        optimizer.zero_grad()
        loss = 1.0 + w[0].abs() + 10.0 * w[1].abs()
        loss.backward()
        return loss

    optimizer = Descent([w], step_size=StrongWolfe())
    for _ in range(200):
        if not optimizer.status.continues:
            break
        optimizer.step(closure)
    assert optimizer.status in {Status.NO_PROGRESS, Status.NO_STEP}


def test_other_batches_are_no_rest():
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    optimizer = Descent(model.parameters(), step_size=Armijo())
    for i in range(40):  # each batch is fitted nearly at once: every step is a good one on its own batch
        x = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
        optimizer.step(Objective(model, nn.MSELoss(), x, x.sum(1, keepdim=True) + i))
        assert optimizer.status.continues


def test_only_steps_that_were_taken_count():
    memory: dict = {}
    for _ in range(3 * MAX_IDLE):
        assert at_rest(memory, 1.0, 1.0, torch.float64) is None


@pytest.mark.parametrize(("promised", "status"), [(0.0, Status.CONVERGED), (0.1, Status.NO_PROGRESS)])
def test_it_has_converged_where_nothing_more_was_promised(promised, status):
    memory: dict = {}
    found = []
    for _ in range(MAX_IDLE + 2):
        found.append(at_rest(memory, 1.0, 1.0 if not found else 1e-3, torch.float64))
        remember(memory, 1.0, promised)
    assert found == [None] * (MAX_IDLE + 2)  # the gradient fell once
    assert at_rest(memory, 1.0, 1e-3, torch.float64) is status


def test_a_gradient_as_large_as_ever_is_no_convergence():
    memory, found = {}, None
    for _ in range(MAX_IDLE + 2):
        found = at_rest(memory, 1.0, 1.0, torch.float64)
        remember(memory, 1.0, 0.0)
    assert found is Status.NO_PROGRESS
    assert no_step(memory, 1.0, 1.0, torch.float64) is Status.NO_STEP


def test_a_rate_that_rises_is_a_new_search():
    memory, found = {}, None
    for _ in range(MAX_IDLE + 2):
        found = at_rest(memory, 1.0, 1.0, torch.float64, [1e-12])
        remember(memory, 1.0, 1.0)
    assert found is Status.NO_PROGRESS
    assert at_rest(memory, 1.0, 1.0, torch.float64, [1e-13]) is Status.NO_PROGRESS
    assert at_rest(memory, 1.0, 1.0, torch.float64, [1.0]) is None


def test_losses_of_batches_that_are_alike_in_half_precision_are_no_rest():
    memory: dict = {}
    for i in range(5 * MAX_IDLE):
        assert at_rest(memory, 1.5 + 0.0078125 * (i % 2), 1.0, torch.bfloat16) is None
        remember(memory, 1.5 + 0.0078125 * (i % 2), 0.0)


def test_small_falls_add_up():
    memory: dict = {}
    for i in range(5 * MAX_IDLE):  # each is below the rounding of a difference
        assert at_rest(memory, 1.0 - 2e-7 * i, 1.0, torch.float32) is None
        remember(memory, 1.0 - 2e-7 * (i + 1), 0.0)


def test_a_rate_of_zero_leaves_everything_and_a_later_one_goes_on():
    w = torch.tensor([-1.2, 1.0], requires_grad=True)
    optimizer = Descent([w], step_size=StrongWolfe(), lr=0.0)
    rosenbrock = closure_of(optimizer, lambda: 100.0 * (w[1] - w[0] ** 2) ** 2 + (1.0 - w[0]) ** 2)
    for _ in range(4):
        optimizer.step(rosenbrock)
        assert optimizer.status is Status.NO_STEP
        assert w.tolist() == torch.tensor([-1.2, 1.0]).tolist()
    optimizer.param_groups[0]["lr"] = 1.0
    for _ in range(60):
        optimizer.step(rosenbrock)
    assert rosenbrock() < 1e-8


@pytest.mark.parametrize(("scale", "status"), [(1e-30, Status.STATIONARY), (1e20, Status.GRADIENT_NOT_FINITE)])
def test_a_gradient_whose_squares_are_no_numbers_is_neither_zero_nor_infinite(scale, status):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = Descent([w])
    optimizer.step(closure_of(optimizer, lambda: scale * w.square().sum()))
    assert optimizer.status is not status
    assert optimizer.report.gradient_norm == pytest.approx(scale * 2.0 * 5.0**0.5)


@pytest.mark.parametrize("falls", ["loss", "gradient"])
def test_a_falling_loss_or_gradient_is_progress(falls):
    memory: dict = {}
    for i in range(5 * MAX_IDLE):
        value, size = (1.0 - 1e-3 * i, 1.0) if falls == "loss" else (1.0, 0.85**i)
        assert at_rest(memory, value, size, torch.float64) is None
        remember(memory, 1.0 - 1e-3 * (i + 1) if falls == "loss" else 1.0, math.inf)


@pytest.mark.parametrize("pair", PAIRS[:6], ids=" with ".join)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("loss", ["line", "parabola", "cubic"])
def test_a_loss_without_a_lower_bound_is_said(loss, dtype, pair):
    function = {"line": lambda x: -x.sum(), "parabola": lambda x: -x @ x, "cubic": lambda x: (x**3).sum()}[loss]
    objective = as_objective(function, torch.tensor([-1.0, -2.0], dtype=dtype))
    optimizer = descent(objective, pair)
    while optimizer.status.continues and objective.num_gradients + objective.num_values < 1000:
        optimizer.step(objective)
    assert optimizer.status is Status.UNBOUNDED
    assert not optimizer.status.good


def test_a_fall_that_nothing_promised_is_no_convergence():
    # At a pole the loss is so large that what the step before it promised is less than its rounding errors.
    objective = as_objective(lambda x: -(x**-2.0).sum(), torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = Descent(objective.parameters, BFGS(), StrongWolfe())
    while optimizer.status.continues and objective.num_gradients < 1000:
        optimizer.step(objective)
    assert optimizer.status is Status.NO_STEP
