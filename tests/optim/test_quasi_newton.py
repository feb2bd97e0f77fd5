"""Quasi-Newton methods against their formulas, dense linear algebra and SciPy."""

import math

import numpy as np
import pytest
import scipy.optimize
import torch
from cases import PROBLEMS, snapshot
from torch import Tensor

from thalweg.errors import InputError
from thalweg.objective import Objective
from thalweg.optim.base import Point, Recovery, SearchDirection, State, StepInfo
from thalweg.optim.descent import Descent
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.quasi_newton import BFGS, SelfScaledBFGS, SelfScaledBroyden
from thalweg.optim.wolfe import StrongWolfe

N = 7
DENSE = [BFGS(), SelfScaledBFGS(), SelfScaledBroyden()]
every_dense = pytest.mark.parametrize("direction", DENSE, ids=lambda d: type(d).__name__)


def vector(seed: int, size: int = N) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def point(gradient: Tensor) -> Point:
    return Point(gradient, gradient, [], [], None, 0.0)


def pairs(count: int) -> list[tuple[Tensor, Tensor]]:
    """Steps, and changes of the gradient of one positive definite quadratic along them."""
    root = torch.stack([vector(100 + i) for i in range(N)])
    hessian = root @ root.T + 0.1 * torch.eye(N, dtype=torch.float64)
    return [(vector(i), hessian @ vector(i)) for i in range(count)]


def taken(step: Tensor, change: Tensor, gradient: Tensor | None = None, multiple: float | None = None) -> StepInfo:
    return StepInfo(point(torch.zeros(N) if gradient is None else gradient), step, change, multiple, None)


def bfgs_inverse(steps: list[tuple[Tensor, Tensor]], scale: float) -> Tensor:
    """The textbook product form, H+ = V' H V + rho s s' with V = I - rho y s'."""
    inverse = scale * torch.eye(N, dtype=torch.float64)
    for step, change in steps:
        rho = 1.0 / (step @ change)
        v = torch.eye(N, dtype=torch.float64) - rho * torch.outer(change, step)
        inverse = v.T @ inverse @ v + rho * torch.outer(step, step)
    return inverse


def test_bfgs_is_the_textbook_update():
    direction, steps = BFGS(), pairs(5)
    state = direction.start([])
    for step, change in steps:
        direction.learn(taken(step, change), state)
    first_step, first_change = steps[0]
    expected = bfgs_inverse(steps, float(first_step @ first_change / (first_change @ first_change)))
    torch.testing.assert_close(state["inverse"], expected)
    gradient = vector(50)
    move = direction.propose(point(gradient), state)
    torch.testing.assert_close(move.vector, -(expected @ gradient))
    assert move.well_scaled
    assert move.minimizes_model


@pytest.mark.parametrize("memory", [1, 3, 10])
def test_the_two_loops_are_bfgs_of_the_last_pairs(memory):
    direction, steps = LBFGS(memory=memory), pairs(6)
    state = direction.start([])
    for step, change in steps:
        direction.learn(taken(step, change), state)
    step, change = steps[-1]
    expected = bfgs_inverse(steps[-memory:], float(step @ change / (change @ change)))
    gradient = vector(60)
    torch.testing.assert_close(direction.propose(point(gradient), state).vector, -(expected @ gradient))
    assert len(direction.pack(state)["steps"]) == min(memory, 6)


def learned(direction: LBFGS, steps: list[tuple[Tensor, Tensor]], state: State | None = None) -> State:
    state = direction.start([]) if state is None else state
    for step, change in steps:
        direction.learn(taken(step, change), state)
    return state


def test_a_memory_that_is_started_again_forgets_all_pairs():
    direction, steps = LBFGS(memory=3), pairs(7)
    state = learned(direction, steps[:5])
    assert direction.on_failure(state) is Recovery.RESTART
    assert direction.on_failure(state) is Recovery.NONE
    learned(direction, steps[5:], state)
    step, change = steps[-1]
    expected = bfgs_inverse(steps[5:], float(step @ change / (change @ change))) @ vector(60)
    torch.testing.assert_close(direction.propose(point(vector(60)), state).vector, -expected)


@pytest.mark.parametrize("count", [0, 2, 4, 7])
@pytest.mark.parametrize("memory", [2, 4, 6])
def test_a_saved_memory_goes_on_to_the_same_bits_and_in_another_length_with_the_last_pairs(count, memory):
    steps, groups = pairs(9), [{"params": [vector(0)]}]
    saved = learned(LBFGS(memory=4), steps[:count])
    direction = LBFGS(memory=memory)
    packed = LBFGS(memory=4).pack(saved)
    assert all(isinstance(value, Tensor | int | float | None) for value in packed.values())
    loaded = direction.unpack(packed, groups)
    for state in (saved, loaded):
        learned(LBFGS(memory=4) if state is saved else direction, steps[count : count + 2], state)
    move = direction.propose(point(vector(60)), loaded).vector
    if memory == 4:
        assert torch.equal(move, direction.propose(point(vector(60)), saved).vector)
    kept = [*steps[:count][-min(memory, 4) :], *steps[count : count + 2]][-memory:]
    step, change = kept[-1]
    expected = bfgs_inverse(kept, float(step @ change / (change @ change))) @ vector(60)
    torch.testing.assert_close(move, -expected)


def test_a_memory_of_an_older_version_is_started_again():
    direction = LBFGS(memory=4)
    state = direction.unpack({"steps": [vector(1)], "changes": [vector(2)], "products": [1.0], "scale": 1.0}, [])
    assert state == direction.start([])


def two_loops(steps: list[tuple[Tensor, Tensor]], vector: Tensor, scale: float) -> Tensor:
    """Nocedal's recursion, a pair at a time."""
    result, ahead = vector.clone(), []
    for step, change in reversed(steps):
        ahead.append((step @ result) / (step @ change))
        result -= ahead[-1] * change
    result *= scale
    for (step, change), one in zip(steps, reversed(ahead), strict=True):
        result += (one - (change @ result) / (step @ change)) * step
    return result


@pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
def test_in_float32_it_is_as_exact_as_the_two_loops(condition):
    """Pairs of short steps towards the minimum of an ill-conditioned quadratic; the truth is in float64."""
    n, worst = 40, {"ours": 0.0, "two loops": 0.0}
    scales = torch.logspace(0, math.log10(condition), n, dtype=torch.float64)
    for seed in range(5):
        x, steps = vector(seed, n), []
        for i in range(30):
            gradient = scales * x
            step = -(gradient + 0.1 * gradient.norm() * vector(1000 * seed + i, n)) / scales.mean() / (1 + i % 7)
            x = x + step
            steps.append((step.float(), (scales * step).float()))
        probe, direction = vector(seed + 500, n).float(), LBFGS(memory=20)
        state = learned(direction, steps)
        exact = two_loops([(s.double(), y.double()) for s, y in steps[-20:]], probe.double(), state["scale"])
        found = {
            "ours": -direction.propose(point(probe), state).vector,
            "two loops": two_loops(steps[-20:], probe, state["scale"]),
        }
        for name, value in found.items():
            worst[name] = max(worst[name], float((value.double() - exact).norm() / exact.norm()))
    assert worst["ours"] <= 5.0 * worst["two loops"]


def test_pairs_of_half_precision_are_kept_in_single():
    direction = LBFGS(memory=4)
    steps = [(step.bfloat16(), change.bfloat16()) for step, change in pairs(3)]
    state = learned(direction, [(s, y) for s, y in steps if s @ y > 0])
    assert state["steps"].dtype == torch.float32
    move = direction.propose(point(vector(60).bfloat16()), state).vector
    assert move.dtype == torch.bfloat16
    assert bool(move.isfinite().all())


@every_dense
def test_the_secant_equation_holds_and_the_inverse_stays_positive(direction):
    state = direction.start([])
    gradient = vector(70)
    for step, change in pairs(6):
        if state["inverse"] is not None:  # a step along the direction, which the scaling asks for
            step = -0.7 * (state["inverse"] @ gradient)
            change = change * torch.sign(step @ change)
        direction.learn(taken(step, change, gradient, 0.7), state)
        torch.testing.assert_close(state["inverse"] @ change, step)
        assert torch.linalg.eigvalsh(state["inverse"])[0] > 0.0
        torch.testing.assert_close(state["inverse"], state["inverse"].T)


def broyden_by_the_hessian(hessian: Tensor, step: Tensor, change: Tensor, tau: float, theta: float) -> Tensor:
    """B+ = tau [B - B s s' B / s'Bs + theta w w'] + y y' / y's, the family as it is written for the Hessian."""
    bs = hessian @ step
    sbs, sy = step @ bs, step @ change
    w = sbs.sqrt() * (change / sy - bs / sbs)
    inner = hessian - torch.outer(bs, bs) / sbs + theta * torch.outer(w, w)
    return tau * inner + torch.outer(change, change) / sy


@pytest.mark.parametrize("multiple", [0.1, 1.0, 5.0])
@every_dense
def test_self_scaling_is_the_published_formula(direction, multiple):
    """Written out for the Hessian here, and inverted."""
    steps = pairs(4)
    state = direction.start([])
    for step, change in steps[:3]:
        direction.learn(taken(step, change), state)  # plain BFGS: how the step was made is not known
    inverse, gradient = state["inverse"].clone(), vector(80)
    step = -multiple * (inverse @ gradient)
    change = steps[3][1] * torch.sign(step @ steps[3][1])
    hessian = torch.linalg.inv(inverse)
    b = float(step @ hessian @ step / (step @ change))
    h = float(change @ inverse @ change / (step @ change))
    a = b * h - 1.0
    if isinstance(direction, BFGS):
        tau, theta = 1.0, 0.0
    elif isinstance(direction, SelfScaledBFGS):
        tau, theta = min(1.0, 1.0 / b), 0.0
    else:
        rho_minus = min(1.0, h * (1.0 - math.sqrt(a / (1.0 + a))))
        theta = max((rho_minus - 1.0) / a, min(1.0 / rho_minus, (1.0 - b) / b))
        sigma = 1.0 + theta * a
        rho_plus = min(1.0, 1.0 / b)
        power = sigma ** (-1.0 / (N - 1))
        tau = rho_plus * min(power, 1.0 / theta) if theta > 0 else min(rho_plus * power, sigma)
    direction.learn(taken(step, change, gradient, multiple), state)
    expected = torch.linalg.inv(broyden_by_the_hessian(hessian, step, change, tau, theta))
    torch.testing.assert_close(state["inverse"], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("direction", [*DENSE, LBFGS()], ids=lambda d: type(d).__name__)
def test_a_pair_without_curvature_is_left_out_however_it_is_scaled(direction):
    for scale in (1e-9, 1.0, 1e9):
        state = direction.start([])
        step, change = pairs(1)[0]
        direction.learn(taken(step, change), state)
        before = direction.propose(point(vector(1)), state).vector
        direction.learn(taken(scale * step, -scale * change), state)
        crossing = change - (change @ step) / (step @ step) * step
        direction.learn(taken(scale * step, scale * crossing), state)
        direction.learn(taken(step, torch.full_like(step, math.nan)), state)
        assert torch.equal(direction.propose(point(vector(1)), state).vector, before)
        assert (state["num_pairs"], state["num_skipped"]) == (1, 3)
        direction.learn(taken(1e-7 * step, 1e-7 * change), state)  # short, but as good as any other
        assert state["num_pairs"] == 2


@pytest.mark.parametrize("direction", [BFGS(damping=0.2), LBFGS(damping=0.2)], ids=lambda d: type(d).__name__)
def test_powell_damping_keeps_the_inverse_positive_on_noise(direction):
    """Damped: s'y is raised to damping * y'Hy, and H+ y = the damped step."""
    state = direction.start([])
    step, change = pairs(1)[0]
    direction.learn(taken(step, change), state)

    def inverse_times(v: Tensor) -> Tensor:
        return -direction.propose(point(v), state).vector

    for seed in range(30, 40):
        step, change = vector(seed), vector(seed + 100)
        old = inverse_times(change)
        damped = step @ change < 0.2 * (change @ old)
        direction.learn(taken(step, change), state)
        new = inverse_times(change)
        if damped:
            theta = 0.8 * (change @ old) / (change @ old - step @ change)
            torch.testing.assert_close(new, theta * step + (1 - theta) * old)
            torch.testing.assert_close(change @ new, 0.2 * (change @ old))
        else:
            torch.testing.assert_close(new, step)
        probe = vector(seed + 200)
        assert probe @ inverse_times(probe) > 0.0
    assert state["num_skipped"] == 0


def by_scipy(objective: Objective, method: str, **options) -> scipy.optimize.OptimizeResult:
    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.no_grad():
            flat = torch.from_numpy(x)
            for parameter, part in zip(objective.parameters, flat.split(sizes), strict=True):
                parameter.copy_(part.view_as(parameter))
        value, gradient = objective.value_and_gradient()
        return float(value), torch.cat([g.reshape(-1) for g in gradient]).numpy().copy()

    sizes = [parameter.numel() for parameter in objective.parameters]
    return scipy.optimize.minimize(fun, snapshot(objective).numpy().copy(), jac=True, method=method, options=options)


@pytest.mark.parametrize("name", ["rosenbrock", "long rosenbrock", "beale", "ill-conditioned quadratic", "logistic"])
@pytest.mark.parametrize(
    ("direction", "method"),
    [(BFGS(), "BFGS"), (SelfScaledBroyden(), "BFGS"), (LBFGS(memory=10), "L-BFGS-B")],
    ids=["bfgs", "self-scaled broyden", "lbfgs"],
)
def test_same_starts_as_scipy_same_minimum_in_no_more_evaluations(direction, method, name):
    ours, theirs = (PROBLEMS[name].make(torch.float64, None) for _ in range(2))
    expected = by_scipy(theirs, method, gtol=1e-8, **({"ftol": 0.0} if method == "L-BFGS-B" else {}))
    optimizer = Descent(ours.parameters, direction, StrongWolfe())
    for _ in range(300):
        optimizer.step(ours)
        _, gradient = ours.value_and_gradient()
        ours.num_gradients -= 1
        if max(float(g.abs().max()) for g in gradient) <= 1e-8:
            break
    torch.testing.assert_close(snapshot(ours), torch.from_numpy(expected.x), rtol=1e-5, atol=1e-5)
    assert ours.num_gradients <= 1.3 * expected.nfev + 40


def test_self_scaling_beats_plain_bfgs_on_a_small_network():
    """The reason for them: the same network, the same number of steps."""
    losses = {}
    for direction in DENSE:
        objective = PROBLEMS["regression"].make(torch.float64, None)
        optimizer = Descent(objective.parameters, direction, StrongWolfe())
        for _ in range(250):
            optimizer.step(objective)
        losses[type(direction)] = float(objective.value())
    assert losses[SelfScaledBFGS] < 0.5 * losses[BFGS]
    assert losses[SelfScaledBroyden] < 0.5 * losses[BFGS]


def test_a_memory_that_failed_is_started_again_and_counted():
    objective = PROBLEMS["rosenbrock"].make(torch.float64, None)
    optimizer = Descent(objective.parameters, BFGS(), Armijo(max_trials=4))
    for _ in range(5):
        optimizer.step(objective)
    memory = optimizer.state[objective.parameters[0]]["direction"]
    memory["inverse"].neg_()  # spoiled: it leads uphill now
    before = float(objective.value())
    optimizer.step(objective)
    assert optimizer.status.name in ("TURNED_DOWNHILL", "NO_STEP")
    assert optimizer.counts["restarts"] == 1
    assert float(objective.value()) <= before


def test_mini_batches_give_pairs_of_one_batch():
    """With a new batch at every step, both gradients of a pair come from the step's own batch."""
    torch.manual_seed(0)
    x = torch.randn(100, 5, dtype=torch.float64)
    y = x.sum(1, keepdim=True)
    model = torch.nn.Linear(5, 1, bias=False, dtype=torch.float64)
    optimizer = Descent(model.parameters(), LBFGS(memory=4), Fixed(0.1))
    for step in range(5):
        some = slice(20 * step, 20 * step + 20)
        optimizer.step(Objective(model, torch.nn.MSELoss(), x[some], y[some]))
        memory = optimizer.state[model.weight]["direction"]
        hessian, last = 2.0 * x[some].T @ x[some] / 20, step % 4
        torch.testing.assert_close(memory["changes"][last], hessian @ memory["steps"][last])


def test_a_matrix_that_is_too_large_is_refused_with_its_size():
    objective = PROBLEMS["regression"].make(torch.float64, None)
    optimizer = Descent(objective.parameters, BFGS(max_bytes=1000), StrongWolfe())
    with pytest.raises(InputError, match=r"BFGS needs a dense matrix of 49 x 49.*38.4 kB.*Use LBFGS or NewtonCG"):
        optimizer.step(objective)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LBFGS(memory=0), r"LBFGS\(memory=...\) must lie in \[1, 10000\]; got 0"),
        (lambda: LBFGS(memory=2**63), r"LBFGS\(memory=...\) must lie in \[1, 10000\]; got 9"),
        (lambda: LBFGS(damping=1.0), r"LBFGS\(damping=...\) must lie in \[0, 1\); got 1.0"),
        (lambda: BFGS(damping=-0.1), r"BFGS\(damping=...\) must lie in \[0, 1\); got -0.1"),
        (lambda: SelfScaledBFGS(damping=2.0), r"SelfScaledBFGS\(damping=...\) must lie in"),
        (lambda: SelfScaledBroyden(damping=2.0), r"SelfScaledBroyden\(damping=...\) must lie in"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_before_the_first_pair_it_is_the_gradient():
    for direction in [*DENSE, LBFGS()]:
        move = direction.propose(point(vector(9)), direction.start([]))
        assert isinstance(move, SearchDirection)
        assert not move.well_scaled
        assert torch.equal(move.vector, -vector(9))
