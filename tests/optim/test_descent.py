"""What every direction x step size pair must do, and what `Descent` promises as a PyTorch optimizer."""

import copy
import itertools
import json
import math
from collections import defaultdict

import pytest
import torch
from cases import (
    DIRECTIONS,
    FIRST_ORDER,
    FROM_CURVATURE,
    PAIRS,
    PROBLEMS,
    SEARCHED,
    SOME_PAIRS,
    STEP_SIZES,
    UPDATES,
    Residuals,
    descent,
    run,
    snapshot,
)
from torch import nn

from thalweg import vectors
from thalweg.heads.squared import Squared
from thalweg.models.mlp import MaskedLinear
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, Recovery, Requires, SearchDirection
from thalweg.optim.clipping import ClipNorm, ClipUpdate
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Gradient, Update
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.newton import Newton
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.quasi_newton import BFGS
from thalweg.optim.stochastic import StochasticArmijo
from thalweg.optim.trust_region import TrustRegion
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status
from thalweg.training.folder.checkpoint import pack, unpack

some_pairs = pytest.mark.parametrize("pair", SOME_PAIRS, ids=" x ".join)
GRADIENT_ONLY = [
    pair
    for pair in SOME_PAIRS
    if Requires.CURVATURE not in DIRECTIONS[pair[0]].requires and pair[0] not in FROM_CURVATURE
]
gradient_pair = pytest.mark.parametrize("pair", GRADIENT_ONLY, ids=" x ".join)


def make(name: str, dtype: torch.dtype = torch.float64, parts: list[int] | None = None) -> Objective:
    return PROBLEMS[name].make(dtype, parts)


# ---- the battery ----


@some_pairs
def test_a_quadratic_falls(pair):
    objective = make("quadratic")
    losses = run(objective, descent(objective, pair), 8)
    assert losses[-1] < 0.9 * losses[0]
    if pair in SEARCHED and pair[1] != "stochastic":
        assert all(after <= before for before, after in itertools.pairwise(losses))


# A fixed step promises nothing away from the quadratic; every direction meets each of the other problems.
RUNS = [(pair, "quadratic") for pair in PAIRS if pair in SOME_PAIRS or pair not in SEARCHED]
RUNS += [
    (pair, ("rosenbrock", "logistic", "regression")[(i + j) % 3])
    for i, direction in enumerate(DIRECTIONS)
    for j, pair in enumerate(pair for pair in SEARCHED if pair[0] == direction)
]


@pytest.mark.parametrize(
    ("pair", "name"), RUNS, ids=lambda value: value if isinstance(value, str) else " x ".join(value)
)
def test_the_minimum_is_reached(pair, name):
    """Second-order methods to many digits, first-order ones as far as their rate goes."""
    direction, step_size = pair
    problem, objective = PROBLEMS[name], make(name)
    first_order = direction in FIRST_ORDER
    if first_order:
        share = {"quadratic": 0.02, "rosenbrock": 0.2, "logistic": 0.05, "regression": 0.1}[name]
    elif step_size == "stochastic":
        share = {"quadratic": 1e-8, "rosenbrock": 1e-5, "logistic": 1e-8, "regression": 0.3}[name]
    else:
        share = {"quadratic": 1e-12, "rosenbrock": 1e-12, "logistic": 1e-12, "regression": 1e-2}[name]
    share = 1e-5 if step_size == "small fixed" and not first_order else share
    goal = problem.minimum + share * (problem.start - problem.minimum) + 1e-15
    optimizer = descent(objective, pair)
    for _ in range(250):
        optimizer.step(objective)
        if float(objective.value()) <= goal:
            break
        assert optimizer.status.good, optimizer.status
    assert float(objective.value()) <= goal


@some_pairs
def test_a_saved_optimizer_goes_on_bit_for_bit(pair):
    """Through JSON and tensors, as a checkpoint holds it, into an optimizer that has never stepped."""
    objective, again = make("regression"), make("regression")
    optimizer, other = descent(objective, pair), descent(again, pair)
    run(objective, optimizer, 5)
    tree, tensors = pack(optimizer.state_dict())
    other.load_state_dict(unpack(json.loads(json.dumps(tree)), tensors))
    with torch.no_grad():
        for mine, theirs in zip(again.parameters, objective.parameters, strict=True):
            mine.copy_(theirs)
    for _ in range(4):
        optimizer.step(objective)
        other.step(again)
        assert torch.equal(snapshot(objective), snapshot(again))
        assert other.report == optimizer.report


@some_pairs
def test_how_the_unknowns_are_split_into_tensors_changes_nothing(pair):
    whole, split = make("long rosenbrock"), make("long rosenbrock", parts=[1, 4, 3])
    whole_optimizer, split_optimizer = descent(whole, pair), descent(split, pair)
    for _ in range(3):
        whole_optimizer.step(whole)
        split_optimizer.step(split)
        torch.testing.assert_close(snapshot(split), snapshot(whole), rtol=1e-8, atol=1e-8)


@some_pairs
def test_another_order_of_the_parameters_changes_nothing(pair):
    one, other = make("classes"), make("classes")
    first = descent(one, pair)
    second = Descent(list(reversed(other.parameters)), DIRECTIONS[pair[0]], STEP_SIZES[pair[1]])
    for _ in range(3):
        first.step(one)
        second.step(other)
    # The loss, not the parameters: along directions that it does not depend on, only rounding errors move them.
    torch.testing.assert_close(other.value(), one.value(), rtol=1e-6, atol=1e-8)


@some_pairs
def test_single_precision_stays_single(pair):
    objective = make("quadratic", torch.float32)
    losses = run(objective, optimizer := descent(objective, pair), 10)
    assert losses[-1] < losses[0]
    assert {parameter.dtype for parameter in objective.parameters} == {torch.float32}
    floats = [tensor for tensor in pack(optimizer.state_dict())[1].values() if tensor.is_floating_point()]
    assert all(tensor.dtype == torch.float32 for tensor in floats)


def spoiled(objective: Objective, how: str) -> Objective:
    """The same model with targets that are not finite, or with a loss whose gradient is not."""
    model = objective.model
    batch = objective.batches[0]
    if how == "loss":
        return Objective(model, Squared(), batch.inputs["inputs"], batch.targets + math.inf)

    def blow_up(parameter):
        parameter.register_hook(lambda gradient: gradient + math.nan)

    twin = copy.deepcopy(model)
    blow_up(next(twin.parameters()))
    return Objective(twin, Squared(), batch.inputs["inputs"], batch.targets)


@some_pairs
def test_a_loss_or_gradient_that_is_not_finite_changes_nothing(pair):
    for how, status in (("loss", Status.LOSS_NOT_FINITE), ("gradient", Status.GRADIENT_NOT_FINITE)):
        objective = spoiled(make("quadratic"), how)
        optimizer = descent(objective, pair)
        before = snapshot(objective)
        optimizer.step(objective)
        assert optimizer.status is status
        assert not optimizer.status.good
        assert torch.equal(snapshot(objective), before)
        assert optimizer.counts["rejected"] == 1
        assert optimizer.counts["steps"] == 0


@some_pairs
def test_one_bad_batch_leaves_no_trace(pair):
    """A rejected step changes neither parameters nor memory: the run goes on as if it had not been."""
    clean, dirty = make("quadratic"), make("quadratic")
    optimizer, other = descent(clean, pair), descent(dirty, pair)
    run(clean, optimizer, 3)
    run(dirty, other, 3)
    other.step(spoiled(dirty, "loss"))
    run(clean, optimizer, 2)
    run(dirty, other, 2)
    assert torch.equal(snapshot(clean), snapshot(dirty))


# The stochastic search judges averages: one step may go up.
@pytest.mark.parametrize("pair", [p for p in SOME_PAIRS if p in SEARCHED and p[1] != "stochastic"], ids=" x ".join)
def test_a_wrong_gradient_ends_in_no_step_and_leaves_the_parameters(pair, monkeypatch):
    """The gradient points uphill, so that nothing lowers the loss."""
    objective = make("quadratic")
    right = Objective.__call__

    def wrong(self):
        loss = right(self)
        for parameter in self.parameters:
            parameter.grad.neg_()
        return loss

    monkeypatch.setattr(Objective, "__call__", wrong)
    optimizer = descent(objective, pair)
    before = snapshot(objective)
    optimizer.step(objective)
    assert optimizer.status is Status.NO_STEP
    assert torch.equal(snapshot(objective), before)
    assert optimizer.counts["rejected"] == 1


@some_pairs
def test_clipping_composes(pair):
    """No entry moves further than the limit, and the run still descends."""
    limit = 0.01
    objective = make("regression")
    optimizer = descent(objective, pair, clip=ClipNorm(0.5), clip_update=ClipUpdate(limit))
    start = float(objective.value())
    for _ in range(5):
        before = snapshot(objective)
        optimizer.step(objective)
        assert optimizer.status.good
        assert (snapshot(objective) - before).abs().max() <= limit * (1 + 1e-12)
    if pair in SEARCHED:
        assert float(objective.value()) < start


@gradient_pair
def test_a_plain_closure_does_what_the_objective_does(pair):
    one, other = make("regression"), make("regression")
    first, second = descent(one, pair), descent(other, pair)

    def closure():
        second.zero_grad()
        total, count = other.sum_and_count(other.batches[0])
        (total / count).backward()
        return total / count

    for _ in range(4):
        loss = first.step(one)
        assert torch.equal(loss, second.step(closure))
    assert torch.equal(snapshot(one), snapshot(other))


@some_pairs
def test_missing_connections_stay_missing(pair):
    torch.manual_seed(3)
    model = nn.Sequential(MaskedLinear(torch.tensor([[1, 0, 1], [0, 1, 1]])), nn.Tanh(), nn.Linear(2, 1)).double()
    x = torch.randn(20, 3, dtype=torch.float64)
    objective = Objective(model, nn.MSELoss(), x, x.sum(1, keepdim=True))
    losses = run(objective, descent(objective, pair), 5)
    assert losses[-1] < losses[0] or pair not in SEARCHED
    layer = model[0]
    assert torch.equal(layer.weight[layer.mask == 0], torch.zeros(2, dtype=torch.float64))
    assert layer.stored[layer.mask == 0].abs().max() < 1e-12


# ---- parts that do not fit ----


@pytest.mark.parametrize("direction", UPDATES)
def test_a_trust_region_refuses_a_direction_without_a_model(direction):
    with pytest.raises(ValueError, match=r"TrustRegion needs a direction with a quadratic model .* Update\(\w+\)"):
        Descent([torch.zeros(1, requires_grad=True)], DIRECTIONS[direction], TrustRegion())


@pytest.mark.parametrize("direction", [Newton(), NewtonCG(), LevenbergMarquardt()], ids=lambda d: type(d).__name__)
def test_curvature_needs_an_objective(direction):
    w = torch.ones(1, requires_grad=True)
    optimizer = Descent([w], direction)
    with pytest.raises(ValueError, match=r"needs second derivatives: step\(objective\).*got function"):
        optimizer.step(lambda: w.square().sum())


@pytest.mark.parametrize(
    ("direction", "step_size", "who"), [(LBFGS(), Fixed(), "LBFGS"), (Gradient(), Armijo(), "Armijo")]
)
def test_what_evaluates_the_loss_needs_a_closure(direction, step_size, who):
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match=rf"{who} evaluates the loss itself.*got no closure"):
        Descent([w], direction, step_size).step()


def test_update_clipping_must_be_one():
    with pytest.raises(ValueError, match=r"clip_update=\.\.\.\) must be a ClipUpdate; got ClipNorm"):
        Descent([torch.zeros(1, requires_grad=True)], clip_update=ClipNorm(1.0))  # pyright: ignore[reportArgumentType]


# ---- falling back ----


class Uphill(AbstractDirection):
    """Leads uphill until its memory is started again `failures` times."""

    def __init__(self, failures: int, way: Recovery) -> None:
        self.failures, self.way = failures, way

    def start(self, groups):
        return {"failures": self.failures}

    def propose(self, point, state):
        return SearchDirection((1.0 if state["failures"] else -1.0) * point.gradient, well_scaled=False)

    def on_failure(self, state):
        if not state["failures"]:
            return Recovery.NONE
        state["failures"] -= 1
        return self.way


@pytest.mark.parametrize("step_size", [Armijo(), StrongWolfe()], ids=lambda size: type(size).__name__)
@pytest.mark.parametrize(
    ("way", "failures", "status", "fallbacks", "restarts"),
    [
        (Recovery.RESTART, 1, Status.TURNED_DOWNHILL, 1, 1),
        (Recovery.DAMP, 2, Status.STEPPED, 0, 0),
        (Recovery.NONE, 5, Status.TURNED_DOWNHILL, 1, 0),
        (Recovery.RESTART, 1000, Status.TURNED_DOWNHILL, 11, 10),
    ],
)
def test_a_direction_that_leads_uphill_is_replaced_and_counted(way, failures, status, fallbacks, restarts, step_size):
    objective = make("quadratic")
    start = float(objective.value())
    optimizer = Descent(objective.parameters, Uphill(failures, way), step_size)
    optimizer.step(objective)
    assert optimizer.status is status
    assert optimizer.counts["fallbacks"] == fallbacks
    assert optimizer.counts["restarts"] == restarts
    assert float(objective.value()) < start


class Elsewhere(AbstractDirection):
    """Leads downhill by the slope, but every step along it is far too long."""

    def propose(self, point, state):
        return SearchDirection(-1e20 * point.gradient)


def test_a_search_that_finds_nothing_is_followed_by_steepest_descent():
    objective = make("quadratic")
    optimizer = Descent(objective.parameters, Elsewhere(), Armijo(max_trials=12))
    start = float(objective.value())
    optimizer.step(objective)
    assert optimizer.status is Status.SEARCHED_AGAIN
    assert optimizer.counts["fallbacks"] == 1
    assert optimizer.report.num_trials > 12
    assert float(objective.value()) < start


def test_a_stationary_point_is_named():
    objective = make("quadratic")
    optimizer = Descent(objective.parameters, Newton())
    run(objective, optimizer, 3)
    before = snapshot(objective)
    for parameter in objective.parameters:
        parameter.register_hook(torch.zeros_like)
    again = Descent(objective.parameters, BFGS())
    again.step(objective)
    assert again.status is Status.STATIONARY
    assert torch.equal(snapshot(objective), before)


def test_a_gradient_below_the_tolerance_ends_it_at_once():
    objective = make("quadratic")
    optimizer = Descent(objective.parameters, BFGS(), StrongWolfe(), tolerance=1e-4)
    while optimizer.status in (Status.RUNNING, Status.STEPPED):
        optimizer.step(objective)
    assert optimizer.status is Status.CONVERGED
    assert 0.0 < float(vectors.norm(objective.value_and_gradient()[1])) <= 1e-4
    before, steps = snapshot(objective), optimizer.counts["steps"]
    optimizer.step(objective)
    assert torch.equal(snapshot(objective), before)
    assert optimizer.counts["steps"] == steps
    assert copy.deepcopy(optimizer).tolerance == 1e-4


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match=r"Descent\(tolerance=...\) must be zero or positive; got -1.0"):
        Descent([torch.zeros(1, requires_grad=True)], tolerance=-1.0)


# ---- as an optimizer of PyTorch ----


def test_before_the_first_step_nothing_is_claimed():
    optimizer = Descent([torch.zeros(1, requires_grad=True)])
    assert optimizer.status is Status.RUNNING
    assert optimizer.counts == dict.fromkeys(optimizer.counts, 0)
    assert isinstance(optimizer.direction, LBFGS)
    assert isinstance(optimizer.step_size, StrongWolfe)


def test_the_loss_returned_is_that_where_the_step_began():
    objective = make("logistic")
    optimizer = Descent(objective.parameters, LBFGS(), StrongWolfe())
    for _ in range(3):
        before = objective.value()
        assert torch.equal(optimizer.step(objective), before)
        assert optimizer.report.value == float(objective.value())


def test_steps_without_a_closure_are_gradient_descent():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    v = w.detach().clone().requires_grad_()
    ours, theirs = Descent([w], Gradient(), Fixed(0.1)), torch.optim.SGD([v], lr=0.1)
    for _ in range(3):
        for tensor, optimizer in ((w, ours), (v, theirs)):
            optimizer.zero_grad()
            tensor.pow(4).sum().backward()
            assert optimizer.step() is None
    torch.testing.assert_close(w, v)


def test_schedules_drive_the_fixed_step():
    w = torch.ones(2, requires_grad=True)
    optimizer = Descent([w], Gradient(), Fixed(0.5))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.1)
    moved = []
    for _ in range(3):
        before = w.detach().clone()
        w.grad = torch.ones(2)
        optimizer.step()
        schedule.step()
        moved.append(float((before - w.detach())[0]))
    assert moved == pytest.approx([0.5, 0.05, 0.005], rel=1e-5)


@pytest.mark.parametrize("direction", [Gradient(), LBFGS(), BFGS(), Newton()], ids=lambda d: type(d).__name__)
def test_groups_have_rates_of_their_own(direction):
    objective = make("quadratic", parts=[2, 4])
    first, second = objective.parameters
    optimizer = Descent([{"params": [first], "lr": 0.5}, {"params": [second], "lr": 0.0}], direction)
    fixed = second.detach().clone()
    losses = run(objective, optimizer, 5)
    assert losses[-1] < losses[0]
    assert torch.equal(second, fixed)


def test_the_rate_multiplies_the_move():
    one, other = make("quadratic"), make("quadratic")
    start = snapshot(one)
    Descent(one.parameters, Newton(), Fixed(1.0)).step(one)
    Descent(other.parameters, Newton(), Fixed(0.25)).step(other)
    torch.testing.assert_close(snapshot(other) - start, 0.25 * (snapshot(one) - start))


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_parameters_without_gradient_and_frozen_ones_are_left_alone(direction):
    objective = make("regression")
    stranger, frozen = nn.Parameter(torch.ones(3, dtype=torch.float64)), objective.parameters[0]
    frozen.requires_grad_(False)
    model = objective.model
    model.stranger = stranger
    batch = objective.batches[0]
    objective = Objective(model, nn.MSELoss(), batch.inputs["inputs"], batch.targets)
    kept = frozen.detach().clone()
    optimizer = Descent(model.parameters(), direction, Armijo())
    losses = run(objective, optimizer, 4)
    assert losses[-1] < losses[0]
    assert torch.equal(frozen, kept)
    assert torch.equal(stranger, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_a_group_can_be_added_and_a_layer_thawed(direction):
    objective = make("regression")
    model, batch = objective.model, objective.batches[0]
    model[0].requires_grad_(False)

    def now() -> Objective:
        return Objective(model, nn.MSELoss(), batch.inputs["inputs"], batch.targets)

    optimizer = Descent([*model[0].parameters(), *model[4].parameters()], direction, Armijo())
    run(now(), optimizer, 3)
    model[0].requires_grad_(True)
    optimizer.add_param_group({"params": list(model[2].parameters())})
    assert optimizer.param_groups[1]["lr"] == optimizer.param_groups[0]["lr"]
    before = snapshot(now())
    losses = run(now(), optimizer, 3)
    assert losses[-1] < losses[0]
    assert all((old != new).any() for old, new in zip(before.split(15), snapshot(now()).split(15), strict=True))
    assert optimizer.counts["restarts"] >= 1


def test_zero_grad_is_pytorchs():
    w = torch.ones(2, requires_grad=True)
    optimizer = Descent([w])
    w.grad = torch.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert torch.equal(w.grad, torch.zeros(2))
    optimizer.zero_grad()
    assert w.grad is None


def test_the_same_objective_is_not_evaluated_twice_at_one_point():
    objective = make("regression")
    optimizer = Descent(objective.parameters, LBFGS(), StrongWolfe())
    for _ in range(5):
        optimizer.step(objective)
    trials = objective.num_gradients
    optimizer.step(objective)
    assert objective.num_gradients - trials == optimizer.report.num_trials


def test_parameters_changed_from_outside_are_noticed():
    objective = make("regression")
    optimizer = Descent(objective.parameters, LBFGS(), StrongWolfe())
    optimizer.step(objective)
    objective.parameters[0].data.add_(0.1)  # no version counter tells of this
    expected = objective.value()
    assert torch.equal(optimizer.step(objective), expected)


def test_a_cleared_state_starts_again():
    objective = make("regression")
    optimizer = Descent(objective.parameters, LBFGS())
    run(objective, optimizer, 3)
    optimizer.state = defaultdict(dict)
    losses = run(objective, optimizer, 3)
    assert losses[-1] < losses[0]
    assert optimizer.counts["steps"] == 3


def test_state_of_other_parts_is_refused():
    objective = make("regression")
    optimizer = Descent(objective.parameters, LBFGS())
    run(objective, optimizer, 1)
    with pytest.raises(ValueError, match="saved with LBFGS and StrongWolfe; this one has BFGS and StrongWolfe"):
        Descent(objective.parameters, BFGS()).load_state_dict(optimizer.state_dict())


def test_a_copy_of_model_and_optimizer_goes_on_alike():
    objective = make("regression")
    optimizer = Descent(objective.parameters, Update(torch.optim.AdamW, lr=0.05), StochasticArmijo())
    run(objective, optimizer, 3)
    model, other = copy.deepcopy((objective.model, optimizer))
    batch = objective.batches[0]
    again = Objective(model, nn.MSELoss(), batch.inputs["inputs"], batch.targets)
    run(objective, optimizer, 3)
    run(again, other, 3)
    assert torch.equal(snapshot(objective), snapshot(again))


def test_dropout_draws_the_same_masks_at_every_trial():
    """The line search sees one function, so that its decrease is real."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 1)).double()
    x = torch.randn(30, 4, dtype=torch.float64)
    optimizer = Descent(model.parameters(), LBFGS(memory=5), StrongWolfe())
    for _ in range(5):
        objective = Objective(model, nn.MSELoss(), x, x.sum(1, keepdim=True))
        before = float(optimizer.step(objective))
        assert optimizer.status is Status.STEPPED
        assert float(objective.value()) == pytest.approx(optimizer.report.value, rel=1e-12)
        assert optimizer.report.value < before


def test_a_compiled_model_is_trained_like_any_other():
    plain, objective = make("regression"), make("regression")
    compiled = torch.compile(objective.model, backend="eager")
    batch = objective.batches[0]
    again = Objective(compiled, nn.MSELoss(), batch.inputs["inputs"], batch.targets)
    run(plain, Descent(plain.parameters, NewtonCG()), 3)
    run(again, Descent(again.parameters, NewtonCG()), 3)
    torch.testing.assert_close(snapshot(again), snapshot(plain))


def test_one_residual_after_another_is_a_fine_problem():
    """The helper of the tables itself: half the mean square, whatever the split."""
    x = torch.tensor([1.0, 2.0, 4.0])
    objective = Objective(Residuals(lambda u: 2.0 * u, x, [1, 2]), Squared(), torch.arange(3), torch.zeros(3, 1))
    assert float(objective.value()) == pytest.approx(0.5 * 4.0 * (1.0 + 4.0 + 16.0) / 3.0)


def test_steepest_descent_that_failed_is_not_searched_again():
    """The loss rises along the gradient given: one search is enough to say that there is no step."""
    for direction in (Gradient(), LBFGS(), BFGS()):
        w, trials = nn.Parameter(torch.ones(2)), []

        def closure(w=w, trials=trials):
            trials.append(w.detach().clone())
            w.grad = -torch.ones(2)  # wrong
            return w.detach().square().sum()

        optimizer = Descent([w], direction, Armijo())
        optimizer.step(closure)
        assert optimizer.status is Status.NO_STEP
        assert len({tuple(place.tolist()) for place in trials}) == len(trials)


def test_gradients_that_somebody_wrote_to_between_steps_are_put_right():
    objectives = [PROBLEMS["regression"].make(torch.float64, None) for _ in range(2)]
    for objective, spoiled in zip(objectives, (False, True), strict=True):
        optimizer = Descent(objective.parameters, LBFGS(), StrongWolfe(), clip=ClipNorm(0.5))
        for _ in range(4):
            if spoiled:
                for parameter in objective.parameters:
                    if parameter.grad is not None:
                        parameter.grad.zero_()
            optimizer.step(objective)
        assert objective.num_gradients <= 6
    assert torch.equal(snapshot(objectives[0]), snapshot(objectives[1]))


def test_the_step_size_taken_by_itself_suits_the_direction():
    for direction, expected in ((None, StrongWolfe), (BFGS(), StrongWolfe), (Gradient(), Armijo), (NewtonCG(), Armijo)):
        assert type(Descent([nn.Parameter(torch.ones(1))], direction).step_size) is expected
