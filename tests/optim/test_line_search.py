"""Each step size against the conditions it promises, on lines written out by hand."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from cases import PROBLEMS
from torch import nn

from thalweg.objective import Objective
from thalweg.optim.base import SearchDirection
from thalweg.optim.descent import Descent
from thalweg.optim.directions import Gradient, Update
from thalweg.optim.evaluation import Evaluation, LineEvaluator, Problem
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.stochastic import StochasticArmijo
from thalweg.optim.trust_region import TrustRegion
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status


@dataclasses.dataclass
class Curve:
    """A line with a given phi and its derivative, as a step size sees it."""

    phi: Callable[[float], float]
    derivative: Callable[[float], float]
    well_scaled: bool = True
    largest: float = math.inf
    curvature: float = 0.0
    num_evaluations: int = 0
    shortest: float = 0.0
    schedule: float = 1.0

    def __post_init__(self):
        self.value, self.slope, self.length = self.phi(0.0), self.derivative(0.0), 1.0
        self.rounding = 1e-15 * abs(self.value)

    def value_at(self, t):
        self.num_evaluations += 1
        return self.phi(t)

    def value_and_slope_at(self, t):
        self.num_evaluations += 1
        return self.phi(t), self.derivative(t)

    def within(self, radius):
        raise AssertionError("a line search has no radius")

    def first_radius(self):
        raise AssertionError("a line search has no radius")

    def value_of(self, step):
        raise AssertionError("a line search has no radius")


CURVES = {
    "parabola": lambda: Curve(lambda t: (t - 1.0) ** 2, lambda t: 2.0 * (t - 1.0)),
    "far parabola": lambda: Curve(lambda t: (t / 300.0 - 1.0) ** 2, lambda t: 2.0 / 300.0 * (t / 300.0 - 1.0)),
    "near parabola": lambda: Curve(lambda t: (1e4 * t - 1.0) ** 2, lambda t: 2e4 * (1e4 * t - 1.0)),
    # More and Thuente (1994), functions 1 and 2 of their table.
    "flat": lambda: Curve(lambda t: -t / (t * t + 2.0), lambda t: (t * t - 2.0) / (t * t + 2.0) ** 2),
    "steep": lambda: Curve(
        lambda t: (t + 0.004) ** 5 - 2.0 * (t + 0.004) ** 4, lambda t: 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3
    ),
    "wall": lambda: Curve(
        lambda t: -math.log(1.0 - 5.0 * t) - 6.0 * t if t < 0.2 else math.inf,
        lambda t: 5.0 / (1.0 - 5.0 * t) - 6.0 if t < 0.2 else math.nan,
    ),
    "nan beyond": lambda: Curve(
        lambda t: math.cosh(9.0 * t - 1.0) if t < 0.5 else math.nan,
        lambda t: 9.0 * math.sinh(9.0 * t - 1.0) if t < 0.5 else math.nan,
    ),
    "wiggly": lambda: Curve(
        lambda t: -t + 0.3 * math.sin(9.0 * t) + 0.05 * t * t, lambda t: -1.0 + 2.7 * math.cos(9.0 * t) + 0.1 * t
    ),
}
every_curve = pytest.mark.parametrize("name", [name for name in CURVES if CURVES[name]().slope < 0.0])


@every_curve
@pytest.mark.parametrize("slope", [1e-4, 0.3])
def test_armijo_lowers_the_loss_enough(name, slope):
    for well_scaled in (True, False):
        curve = CURVES[name]()
        curve.well_scaled = well_scaled
        found = Armijo(slope=slope).search(curve, {})
        assert found.multiple > 0.0
        assert found.value == curve.phi(found.multiple)
        assert found.value <= curve.value + slope * found.multiple * curve.slope
        assert found.num_trials == curve.num_evaluations


@every_curve
@pytest.mark.parametrize(("slope", "flatness"), [(1e-4, 0.9), (0.1, 0.2), (1e-4, 0.001)])
def test_both_wolfe_conditions_hold(name, slope, flatness):
    curve = CURVES[name]()
    found = StrongWolfe(slope=slope, flatness=flatness).search(curve, {})
    t = found.multiple
    assert found.value == curve.phi(t)
    assert curve.phi(t) <= curve.value + slope * t * curve.slope
    assert abs(curve.derivative(t)) <= flatness * abs(curve.slope)
    assert found.num_trials == curve.num_evaluations <= 25


def test_one_evaluation_is_enough_where_the_first_step_is_right():
    for search in (Armijo(), StrongWolfe()):
        curve = CURVES["parabola"]()
        found = search.search(curve, {})
        assert (found.multiple, curve.num_evaluations) == (1.0, 1)


def test_interpolation_finds_the_minimum_of_a_parabola_at_once():
    curve = Curve(lambda t: (t - 0.3) ** 2, lambda t: 2.0 * (t - 0.3))
    assert Armijo(slope=0.4).search(curve, {}).multiple == pytest.approx(0.3)
    assert curve.num_evaluations == 2


@pytest.mark.parametrize("search", [Armijo(), StrongWolfe(), StochasticArmijo()], ids=lambda s: type(s).__name__)
def test_a_line_that_only_rises_gives_no_step(search):
    curve = Curve(lambda t: 1.0 + t, lambda t: 1.0)
    curve.slope = -1.0  # what a wrong gradient says
    assert search.search(curve, {}).multiple == 0.0


@pytest.mark.parametrize("search", [Armijo(), StrongWolfe(), StochasticArmijo()], ids=lambda s: type(s).__name__)
def test_no_step_is_longer_than_allowed(search):
    curve = CURVES["far parabola"]()
    curve.largest = 2.5
    found = search.search(curve, {})
    assert 0.0 < found.multiple <= 2.5


@pytest.mark.parametrize("search", [Armijo(), StrongWolfe(), StochasticArmijo()], ids=lambda s: type(s).__name__)
def test_where_the_decrease_drowns_in_rounding_an_equal_loss_is_enough(search):
    curve = Curve(lambda t: 1.0, lambda t: -1e-18 * (1.0 - t))
    assert search.search(curve, {}).multiple == 1.0


@pytest.mark.parametrize("search", [Armijo(), StrongWolfe(), StochasticArmijo()], ids=lambda s: type(s).__name__)
def test_where_steps_drown_in_the_rounding_of_the_parameters_the_search_ends(search):
    curve = Curve(lambda t: 1.0 + 1e-3 * t, lambda t: -1e-3)
    curve.shortest = 0.3
    assert search.search(curve, {}).multiple == 0.0
    assert curve.num_evaluations <= 2


def test_a_line_knows_which_steps_move_no_parameter():
    w = nn.Parameter(torch.tensor([1.0, -4.0, 0.0]))
    start = Evaluation(1.0, torch.tensor(1.0), [None], torch.ones(3), 1.0)

    def line(direction):
        return LineEvaluator(Problem(None, [w]), [w.detach().clone()], start, SearchDirection(torch.tensor(direction)))

    eps = torch.finfo(torch.float32).eps
    assert line([2.0, 1.0, 0.0]).shortest == pytest.approx(eps)
    assert line([0.0, 1.0, 0.0]).shortest == pytest.approx(8.0 * eps)
    assert line([2.0, 1.0, 1e-30]).shortest == 0.0
    assert line([0.0, 0.0, 0.0]).shortest == math.inf


def test_negative_curvature_is_enough_without_a_slope():
    curve = Curve(lambda t: -t * t + t**4, lambda t: -2.0 * t + 4.0 * t**3)
    curve.curvature = -2.0
    found = Armijo().search(curve, {})
    assert found.multiple > 0.0
    assert found.value < 0.0


def test_the_first_trial_follows_the_last_step_where_the_length_means_nothing():
    state = {}
    curve = CURVES["far parabola"]()
    curve.well_scaled = False
    first = Armijo(growth=2.0).search(curve, state)
    second = Armijo(growth=2.0).search(curve, state)
    assert second.multiple == pytest.approx(2.0 * first.multiple)


def test_the_stochastic_search_forgives_one_bad_batch_but_not_ten():
    good = Curve(lambda t: (t - 1.0) ** 2, lambda t: 2.0 * (t - 1.0))
    search, state = StochasticArmijo(slope=0.1, smoothing=0.9, growth=1.0), {}
    for _ in range(10):
        assert search.search(good, state).multiple == 1.0
    steps = [search.search(Curve(lambda t: 1.0 + t, lambda t: -1.0), state).multiple for _ in range(10)]
    assert steps[0] == 1.0
    assert min(steps) < 0.1


def test_without_smoothing_every_batch_counts():
    search = StochasticArmijo(slope=0.1, smoothing=0.0)
    for name in CURVES:
        curve = CURVES[name]()
        if curve.slope < 0.0:
            found = search.search(curve, {})
            assert found.value <= curve.value + 0.1 * found.multiple * curve.slope


def test_the_stochastic_step_grows_between_steps():
    state, search = {}, StochasticArmijo(growth=1.5)
    steps = [search.search(CURVES["far parabola"](), state).multiple for _ in range(4)]
    assert steps == pytest.approx([1.0, 1.5, 2.25, 3.375])
    capped = StochasticArmijo(growth=1.5, largest=2.0)
    assert capped.search(CURVES["far parabola"](), state).multiple == 2.0


def test_a_batch_on_which_the_direction_leads_uphill_shortens_the_step_once():
    state, search = {}, StochasticArmijo(slope=0.3, growth=1.0)
    good = Curve(lambda t: (t - 1.0) ** 2, lambda t: 2.0 * (t - 1.0))
    assert search.search(good, state).multiple == 1.0
    for _ in range(3):  # in a row, too: what they bring the average down to can be made up for
        assert search.search(Curve(lambda t: 1.0 + 0.5 * t, lambda t: 0.5), state).multiple > 0.0
    assert state["step"] == 0.125
    assert search.search(good, state).multiple == 0.125
    steep = Curve(lambda t: 1.0 + t + 100.0 * t * t, lambda t: 1.0 + 200.0 * t)
    assert 0.0 < search.search(steep, state).multiple < 0.1


def test_a_schedule_multiplies_the_step_that_was_found():
    """The curve is in units of the scheduled direction: at half the rate the same point is twice as far."""
    state, search = {}, StochasticArmijo(slope=0.3, growth=1.25)
    steps = []
    for schedule in (1.0, 0.5, 0.25, 0.25, 1.0):
        curve = Curve(lambda t, s=schedule: (s * t - 4.0) ** 2, lambda t, s=schedule: 2.0 * s * (s * t - 4.0))
        curve.schedule = schedule
        found = search.search(curve, state)
        assert (found.value is None) == (schedule < 1.0)
        steps.append(found.multiple)
    assert steps == pytest.approx([1.25**k for k in range(5)])  # of a direction that the schedule has shortened


def test_schedulers_shorten_what_a_search_finds():
    moved = []
    for decay in (1.0, 0.5):
        torch.manual_seed(0)
        objective = PROBLEMS["quadratic"].make(torch.float64, None)
        size = StochasticArmijo(slope=0.3, growth=1.0, smoothing=0.0)
        optimizer = Descent(objective.parameters, Update(torch.optim.SGD, lr=1e-3), size)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, decay, 3)
        before = nn.utils.parameters_to_vector(objective.parameters).detach()
        optimizer.step(objective)
        moved.append((nn.utils.parameters_to_vector(objective.parameters) - before).norm().item())
        schedule.step()
        assert optimizer.report.multiple == 1.0
    assert moved[1] == pytest.approx(0.5 * moved[0])


def test_a_steady_step_is_searched_for_more_and_more_rarely():
    state, search = {}, StochasticArmijo(growth=1.0, every=4)
    curve = Curve(lambda t: (t - 1.0) ** 2, lambda t: 2.0 * (t - 1.0))
    evaluations = []
    for _ in range(16):
        assert search.search(curve, state).multiple == 1.0
        evaluations.append(curve.num_evaluations)
    assert evaluations == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6]
    short = Curve(lambda t: (t - 0.1) ** 2, lambda t: 2.0 * (t - 0.1))
    steps = [search.search(short, state).multiple for _ in range(40)]
    assert min(steps) < 0.3


def test_batches_are_searched_on_their_own_loss():
    """Mini-batches of a problem that the model can fit: the stochastic search needs no rate."""
    torch.manual_seed(0)
    x = torch.randn(200, 10, dtype=torch.float64)
    y = x @ torch.randn(10, 1, dtype=torch.float64)
    for direction, goal in ((Gradient(), 1e-4), (Update(torch.optim.AdamW, lr=0.01, weight_decay=0.0), 1e-2)):
        model = nn.Linear(10, 1, dtype=torch.float64)
        whole = Objective(model, nn.MSELoss(), x, y)
        optimizer = Descent(model.parameters(), direction, StochasticArmijo())
        for step in range(150):
            some = torch.arange(200)[step % 10 :: 10]
            optimizer.step(Objective(model, nn.MSELoss(), x[some], y[some]))
            if float(whole.value()) < 1e-3 * goal:
                break
            assert optimizer.status.good
        assert float(whole.value()) < goal
        assert optimizer.counts["values"] < 5 * optimizer.counts["steps"]


def test_the_radius_follows_the_gain():
    """It grows by 2.5 after a step that was right, and shrinks to 0.6 of one that was wrong."""
    objective = PROBLEMS["quadratic"].make(torch.float64, None)
    optimizer = Descent(objective.parameters, Gradient(), TrustRegion(radius=1e-3))
    optimizer.step(objective)
    memory = optimizer.state_dict()["state"][0]["step_size"]
    assert memory["radius"] == pytest.approx(2.5e-3)
    assert optimizer.report.gain == pytest.approx(1.0, abs=0.1)
    wide = Descent(objective.parameters, Gradient(), TrustRegion(radius=1e3))
    wide.step(objective)
    assert wide.status is Status.STEPPED
    assert wide.report.num_trials > 2
    assert wide.state_dict()["state"][0]["step_size"]["radius"] < 10.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed(0.0), r"Fixed\(lr=...\) must be positive and finite; got 0.0"),
        (lambda: Fixed(math.inf), r"Fixed\(lr=...\) must be positive and finite; got inf"),
        (lambda: Armijo(slope=1.5), r"Armijo\(slope=...\) must lie in \(0, 1\); got 1.5"),
        (lambda: Armijo(growth=0.5), r"Armijo\(growth=...\) must be at least 1; got 0.5"),
        (lambda: Armijo(max_trials=0), r"Armijo\(max_trials=...\) must be at least 1; got 0"),
        (lambda: StrongWolfe(flatness=0.0), r"StrongWolfe\(flatness=...\) must lie in \(0, 1\); got 0.0"),
        (lambda: StrongWolfe(slope=0.5, flatness=0.4), "needs slope < flatness; got 0.5, 0.4"),
        (lambda: StochasticArmijo(smoothing=1.0), r"StochasticArmijo\(smoothing=...\) must lie in \[0, 1\); got 1.0"),
        (lambda: StochasticArmijo(every=0), r"StochasticArmijo\(every=...\) must be at least 1; got 0"),
        (lambda: StochasticArmijo(growth=0.9), r"StochasticArmijo\(growth=...\) must be at least 1; got 0.9"),
        (lambda: StochasticArmijo(largest=-1.0), r"StochasticArmijo\(largest=...\) must be positive; got -1.0"),
        (lambda: TrustRegion(radius=0.0), r"TrustRegion\(radius=...\) must be positive; got 0.0"),
        (lambda: TrustRegion(accept=0.5), r"TrustRegion\(accept=...\) must lie in \(0, 1\); got 2.0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
