"""Newton, Newton-CG and Levenberg-Marquardt against dense linear algebra and SciPy, at saddles, and refused."""

import pytest
import scipy.optimize
import torch
from cases import PROBLEMS, descent, run, snapshot
from torch import Tensor, nn

from thalweg import vectors
from thalweg.batch import Batch
from thalweg.curvature.diagonal import gauss_newton_diagonal
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.operators import Matrix
from thalweg.errors import InputError
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.objective import Objective
from thalweg.optim.base import Point
from thalweg.optim.damping import Damping
from thalweg.optim.descent import Descent
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.newton import Absolute, Floor, Newton, Shift, SpectralModel, spectral_model
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.preconditioner import Jacobi, KroneckerFactored, NoPreconditioner
from thalweg.optim.trust_region import TrustRegion
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status

PLAIN_CG = NewtonCG(damping=None, tolerance=1e-8, progress=None)
every_problem = pytest.mark.parametrize("name", ["rosenbrock", "logistic", "regression", "classes"])


def make(name: str) -> Objective:
    return PROBLEMS[name].make(torch.float64, None)


def gradient_of(objective: Objective) -> Tensor:
    return vectors.flatten(objective.value_and_gradient()[1])


def dense_hessian(objective: Objective) -> Tensor:
    """Row by row by double backward, independent of the operators."""
    total, count = objective.sum_and_count(objective.batches[0])
    loss = total / count + sum(0.5 * objective.l2 * p.square().sum() for p in objective.penalized)
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, objective.parameters, create_graph=True)])
    rows = [torch.autograd.grad(entry, objective.parameters, retain_graph=True) for entry in gradient]
    return torch.stack([torch.cat([part.reshape(-1) for part in row]) for row in rows])


def at(objective: Objective, seed: int = 0) -> Objective:
    """The objective at a point that is nothing special."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in objective.parameters:
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return objective


def point_of(objective: Objective) -> Point:
    gradient = gradient_of(objective)
    return Point(gradient, gradient, objective.parameters, [], objective, float(objective.value()))


def proposed(direction, objective: Objective) -> Tensor:
    return direction.propose(point_of(objective), direction.start([])).vector


def damped(matrix: Tensor, state) -> Tensor:
    """The matrix plus its own diagonal times the damping, ones where it knows nothing of a parameter."""
    diagonal = matrix.diagonal()
    return matrix + state["damping"] * torch.diag(torch.where(diagonal > 0.0, diagonal, 1.0))


# ---- the steps, by dense linear algebra ----


@every_problem
@pytest.mark.parametrize(
    ("eigenvalues", "by_hand"),
    [
        (Absolute(1e-6), lambda v: v.abs().clamp(min=1e-6 * float(v.abs().max()))),
        (Floor(1e-2), lambda v: v.clamp(min=1e-2 * float(v.abs().max()))),
        (Shift(1e-3), lambda v: (v - min(float(v.min()), 0.0)).clamp(min=1e-3 * float(v.abs().max()))),
    ],
    ids=["absolute", "floor", "shift"],
)
def test_newton_steps_are_by_the_changed_eigenvalues(name, eigenvalues, by_hand):
    objective = at(make(name))
    hessian = dense_hessian(objective)
    scale = hessian.diagonal().abs().sqrt()
    values, basis = torch.linalg.eigh(hessian / scale.outer(scale))
    expected = -basis @ ((basis.T @ (gradient_of(objective) / scale)) / by_hand(values)) / scale
    torch.testing.assert_close(proposed(Newton(eigenvalues), objective), expected, rtol=1e-6, atol=1e-8)


def test_newton_is_done_with_a_quadratic_in_one_step():
    objective = make("ill-conditioned quadratic")
    for direction in (Newton(), PLAIN_CG, Newton(curvature=GaussNewton)):
        objective = make("ill-conditioned quadratic")
        run(objective, Descent(objective.parameters, direction, Fixed()), 1)
        assert float(objective.value()) < 1e-10


@every_problem
def test_newton_cg_solves_the_damped_equation(name):
    objective = at(make(name))
    damping = 1e-2
    matrix = GaussNewton(objective).dense()
    for preconditioner in (Jacobi(), KroneckerFactored(), NoPreconditioner()):
        direction = NewtonCG(
            damping=Damping(initial=damping),
            tolerance=1e-9,
            progress=None,
            max_iterations=2000,
            preconditioner=preconditioner,
        )
        state = direction.start([])
        move = direction.propose(point_of(objective), state)
        damped = matrix + state["damping"] * torch.eye(len(matrix), dtype=torch.float64)
        expected = -torch.linalg.solve(damped, gradient_of(objective))
        torch.testing.assert_close(move.vector, expected, rtol=1e-5, atol=1e-7)
        assert move.curvature == pytest.approx(float(expected @ matrix @ expected), rel=1e-4)


@every_problem
@pytest.mark.parametrize("penalty", [0.0, 0.05])
def test_levenberg_marquardt_solves_the_damped_equation(name, penalty):
    """In the primal and in the dual, squared errors or not, with a penalty or not, down to tiny damping."""
    objective = at(make(name))
    batch = objective.batches[0]
    rows = objective.prediction(batch).numel()
    for some in (range(rows // objective.prediction(batch).shape[-1]), range(2)):
        picked = Batch({k: v[list(some)] for k, v in batch.inputs.items()}, batch.targets[list(some)])
        part = Objective(objective.model, objective.head, picked.inputs["inputs"], picked.targets, l2=penalty)
        matrix = GaussNewton(part).dense()
        for initial in (1e-1, 1e-6):
            direction = LevenbergMarquardt(Damping(initial=initial))
            state = direction.start([])
            move = direction.propose(point_of(part), state)
            expected = -torch.linalg.solve(damped(matrix, state), gradient_of(part))
            torch.testing.assert_close(move.vector, expected, rtol=1e-5, atol=1e-6)
            assert move.curvature == pytest.approx(float(expected @ matrix @ expected), rel=1e-5, abs=1e-12)


def test_the_dual_is_used_where_it_is_smaller_and_keeps_its_digits():
    """At tiny damping the textbook form of the dual loses everything; this one solves J d = -r to the last digits."""
    torch.manual_seed(0)
    x = torch.randn(6, 30, dtype=torch.float64)
    model = nn.Linear(30, 1, dtype=torch.float64)
    objective = Objective(model, nn.MSELoss(), x, x.sum(1, keepdim=True))
    direction = LevenbergMarquardt(Damping(initial=1e-13, smallest=1e-16))
    state = direction.start([])
    step = direction.propose(point_of(objective), state).vector
    assert state["factors"].dual
    before = model(x) - x.sum(1, keepdim=True)
    after = before + x @ step[:30].unsqueeze(1) + step[30]
    assert after.abs().max() < 1e-11 * before.abs().max()


def test_masked_tokens_and_several_outputs_in_the_dual():
    torch.manual_seed(1)
    tokens, ids = torch.randn(4, 3, 6, dtype=torch.float64), torch.randint(3, (4, 3))
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool()
    model = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3)).double()
    objective = Objective(model, Softmax(None, None), tokens, ids, mask=mask)
    matrix = GaussNewton(objective).dense()
    direction = LevenbergMarquardt(Damping(initial=1e-3))
    state = direction.start([])
    step = direction.propose(point_of(objective), state).vector
    assert state["factors"].dual
    expected = -torch.linalg.solve(damped(matrix, state), gradient_of(objective))
    torch.testing.assert_close(step, expected, rtol=1e-6, atol=1e-8)


def test_inputs_that_are_not_counted_by_examples_work_too():
    """A flat bag of tokens: the examples can't be told apart by slicing."""
    tokens, offsets = torch.tensor([1, 2, 3, 4, 0, 2]), torch.tensor([0, 2, 5])

    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.out = nn.EmbeddingBag(5, 3, mode="mean"), nn.Linear(3, 2)

        def forward(self, tokens, offsets):
            return self.out(self.embedding(tokens, offsets))

    torch.manual_seed(0)
    objective = Objective(
        Bag().double(), Softmax(None, None), {"tokens": tokens, "offsets": offsets}, torch.tensor([0, 1, 1])
    )
    direction = LevenbergMarquardt(Damping(initial=1e-2))
    state = direction.start([])
    step = direction.propose(point_of(objective), state).vector
    expected = -torch.linalg.solve(damped(GaussNewton(objective).dense(), state), gradient_of(objective))
    torch.testing.assert_close(step, expected, rtol=1e-6, atol=1e-8)


# ---- the diagonal ----


def test_the_diagonal_is_exact_for_one_output():
    objective = at(make("regression"))
    x = objective.batches[0].inputs["inputs"]
    heads = (nn.MSELoss(), Bernoulli(None))
    for head in heads:
        for l2 in (0.0, 0.1):
            part = Objective(objective.model, head, x, (x.sum(1, keepdim=True) > 0).double(), l2=l2)
            expected = GaussNewton(part).dense().diagonal()
            torch.testing.assert_close(gauss_newton_diagonal(part, part.parameters), expected)


def test_the_diagonal_is_unbiased_for_several_outputs_and_other_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.randn(8, 3, dtype=torch.float64)
    objective = Objective(model, Softmax(None, None), x, torch.randint(3, (8,)))
    expected = GaussNewton(objective).dense().diagonal()
    few = gauss_newton_diagonal(objective, objective.parameters, 20)
    many = gauss_newton_diagonal(objective, objective.parameters, 2000)
    error = (many - expected).abs().max() / expected.max()
    assert error < 0.1
    assert error < (few - expected).abs().max() / expected.max()


def test_jacobi_makes_newton_cg_blind_to_the_scale_of_the_inputs():
    products = {}
    for preconditioner in (Jacobi(), NoPreconditioner()):
        torch.manual_seed(0)
        x = torch.randn(200, 20, dtype=torch.float64) * torch.logspace(-3, 1, 20, dtype=torch.float64)
        model = nn.Linear(20, 1, dtype=torch.float64)
        y = (torch.rand(200, 1, dtype=torch.float64) < 0.5).double()
        objective = Objective(model, Bernoulli(None), x, y, l2=1e-8)
        optimizer = Descent(model.parameters(), NewtonCG(damping=None, preconditioner=preconditioner))
        while gradient_of(objective).norm() > 1e-8:
            optimizer.step(objective)
        products[type(preconditioner)] = objective.num_products
    assert products[Jacobi] < 0.3 * products[NoPreconditioner]


def test_kronecker_factors_make_newton_cg_blind_to_how_the_inputs_are_mixed():
    products = {}
    for preconditioner in (KroneckerFactored(least=1e-8), Jacobi()):
        torch.manual_seed(0)
        turn = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64))[0]
        x = (torch.randn(200, 20, dtype=torch.float64) * torch.logspace(-2, 1, 20, dtype=torch.float64)) @ turn
        model = nn.Linear(20, 1, dtype=torch.float64)
        y = (torch.rand(200, 1, dtype=torch.float64) < 0.5).double()
        objective = Objective(model, Bernoulli(None), x, y, l2=1e-8)
        optimizer = Descent(model.parameters(), NewtonCG(damping=None, preconditioner=preconditioner))
        while gradient_of(objective).norm() > 1e-8:
            optimizer.step(objective)
        products[type(preconditioner)] = objective.num_products
    assert products[KroneckerFactored] < 0.3 * products[Jacobi]


# ---- within a ball ----


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("radius", [1e-3, 0.3, 3.0, 100.0])
def test_the_ball_is_solved_exactly(seed, radius):
    """The conditions of More and Sorensen: (H + sigma) d = -g, H + sigma positive, sigma (|d| - radius) = 0."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian = root + root.T if seed % 2 else root @ root.T + 0.1 * torch.eye(6, dtype=torch.float64)
    gradient = torch.randn(6, generator=generator, dtype=torch.float64)
    step, predicted, length = spectral_model(hessian, gradient).within(radius)
    assert length == pytest.approx(float(step.norm()))
    assert step.norm() <= radius * (1 + 1e-7)
    assert predicted == pytest.approx(float(-(gradient @ step + 0.5 * step @ hessian @ step)))
    sigma = float(-(step @ (hessian @ step + gradient)) / (step @ step))
    torch.testing.assert_close(hessian @ step + sigma * step, -gradient, rtol=1e-5, atol=1e-5)
    assert sigma >= -1e-6
    assert float(torch.linalg.eigvalsh(hessian)[0]) + sigma >= -1e-5
    assert sigma < 1e-6 or float(step.norm()) == pytest.approx(radius, rel=1e-6)


def test_the_hard_case_goes_on_along_the_most_negative_eigenvector():
    model = SpectralModel(
        torch.tensor([-2.0, 1.0]), torch.eye(2), torch.tensor([0.0, 3.0])
    )  # nothing of the gradient along it
    step, predicted, _ = model.within(2.0)
    assert step.tolist() == pytest.approx([-(3.0**0.5), -1.0], rel=1e-6) or step[0] == pytest.approx(3.0**0.5)
    assert float(step.norm()) == pytest.approx(2.0)
    assert predicted > 3.0


# SciPy's Krylov solver warns now and then.
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # SciPy's, in its Krylov solver
@pytest.mark.parametrize("name", ["rosenbrock", "beale", "logistic", "quadratic"])
@pytest.mark.parametrize("direction", [Newton(), NewtonCG(Hessian, damping=None)], ids=["exact", "cg"])
def test_trust_regions_end_where_scipys_end(name, direction):
    ours, theirs = make(name), make(name)
    sizes = [parameter.numel() for parameter in theirs.parameters]

    def put(x):
        with torch.no_grad():
            for parameter, part in zip(theirs.parameters, torch.from_numpy(x).split(sizes), strict=True):
                parameter.copy_(part.view_as(parameter))

    def value(x):
        put(x)
        return float(theirs.value())

    def slope(x):
        put(x)
        return gradient_of(theirs).numpy().copy()

    def bend(x):
        put(x)
        return dense_hessian(theirs).detach().numpy()

    method = "trust-exact" if isinstance(direction, Newton) else "trust-krylov"
    start = snapshot(theirs).numpy().copy()
    expected = scipy.optimize.minimize(value, start, jac=slope, hess=bend, method=method, options={"gtol": 1e-9})
    optimizer = Descent(ours.parameters, direction, TrustRegion())
    for _ in range(200):
        optimizer.step(ours)
        if gradient_of(ours).norm() < 1e-9:
            break
    assert gradient_of(ours).norm() < 1e-8
    torch.testing.assert_close(snapshot(ours), torch.from_numpy(expected.x), rtol=1e-5, atol=1e-5)
    assert optimizer.counts["steps"] <= 2 * expected.nit + 10


# ---- saddles ----


@pytest.mark.parametrize("start", [(0.0, 0.0), (0.0, 1.0), (1e-9, 1e-9)], ids=["on it", "above it", "beside it"])
@pytest.mark.parametrize(
    ("direction", "step_size"),
    [
        ("newton", "armijo"),
        ("newton", "trust region"),
        ("modified newton", "wolfe"),
        ("damped newton", "armijo"),
        ("newton-cg with hessian", "armijo"),
        ("newton-cg with hessian", "trust region"),
    ],
)
def test_saddles_are_left(direction, step_size, start):
    objective = make("saddle")
    with torch.no_grad():
        objective.parameters[0].copy_(torch.tensor(start, dtype=torch.float64))
    optimizer = descent(objective, (direction, step_size))
    for _ in range(60):
        optimizer.step(objective)
        assert optimizer.status.good
    assert float(objective.value()) < 1e-12
    assert abs(abs(float(snapshot(objective)[0])) - 1.0) < 1e-6


def test_without_curvature_a_saddle_looks_like_an_end():
    objective = make("saddle")
    with torch.no_grad():
        objective.parameters[0].zero_()
    optimizer = Descent(objective.parameters, LBFGS(), StrongWolfe())
    optimizer.step(objective)
    assert optimizer.status is Status.STATIONARY


def test_a_minimum_is_not_left():
    objective = make("logistic")
    for direction in (Newton(), NewtonCG(Hessian, damping=None)):
        optimizer = Descent(objective.parameters, direction, Armijo())
        run(objective, optimizer, 15)
        before = snapshot(objective)
        run(objective, optimizer, 5)
        torch.testing.assert_close(snapshot(objective), before, rtol=1e-7, atol=1e-7)


# ---- damping ----


def test_damping_follows_the_gain_ratio():
    damping, state = Damping(initial=0.1, fall=0.2, smallest=1e-3), {}
    assert damping.value(state, 10.0) == pytest.approx(1.0)
    damping.learn(state, 1.0)
    assert damping.value(state, 5.0) == pytest.approx(0.2)  # the scale is that of the first matrix
    damping.learn(state, 0.5)
    assert state["damping"] == pytest.approx(0.2)
    damping.learn(state, 0.1)
    assert state["damping"] == pytest.approx(0.2 * (1 + 0.8**3))
    damping.learn(state, None)
    before = state["damping"]
    for factor in (2.0, 8.0, 64.0):
        damping.learn(state, -1.0)
        assert state["damping"] == pytest.approx(before * factor)
    for _ in range(50):
        damping.learn(state, 1.0)
    assert state["damping"] == pytest.approx(1e-2)


def test_a_failed_step_is_tried_again_with_more_damping():
    """The parameters stay, the factors are used again, and it is no fallback."""
    objective = at(make("regression"), seed=4)
    optimizer = Descent(objective.parameters, LevenbergMarquardt(Damping(initial=1e-9)), Armijo(max_trials=1))
    run(objective, optimizer, 6)
    assert optimizer.counts["values"] > optimizer.counts["steps"] == 6
    assert optimizer.counts["fallbacks"] == 0
    assert optimizer.status is Status.STEPPED


def test_warm_starts_save_products():
    counts = {}
    for share in (0.0, 0.9):
        objective = make("classes")
        direction = NewtonCG(warm_start=share, tolerance=1e-2, progress=None, damping=Damping(initial=1.0, fall=0.99))
        run(objective, Descent(objective.parameters, direction, Fixed(0.02)), 10)
        counts[share] = objective.num_products
    assert counts[0.9] < counts[0.0]


# ---- refusals ----


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        (Newton(max_bytes=10_000), r"Newton needs a dense matrix of 49 x 49.*Use NewtonCG or LBFGS"),
        (LevenbergMarquardt(max_bytes=10_000), r"LevenbergMarquardt needs a dense matrix of 40 x 49.*Use NewtonCG"),
    ],
    ids=["newton", "levenberg-marquardt"],
)
def test_matrices_that_are_too_large_are_refused(direction, message):
    objective = make("regression")
    with pytest.raises(InputError, match=message):
        Descent(objective.parameters, direction).step(objective)


@pytest.mark.parametrize("direction", [Newton(), NewtonCG(), LevenbergMarquardt()], ids=lambda d: type(d).__name__)
def test_dropout_is_refused(direction):
    model = nn.Sequential(nn.Linear(3, 20), nn.Dropout(0.5), nn.Linear(20, 1))
    objective = Objective(model, nn.MSELoss(), torch.randn(10, 3), torch.randn(10, 1))
    with pytest.raises(InputError, match=r"Two evaluations at the same parameters gave.*model.eval\(\)"):
        Descent(model.parameters(), direction).step(objective)


def test_parameters_of_another_model_are_refused():
    objective = make("regression")
    stranger = torch.ones(2, dtype=torch.float64, requires_grad=True)
    optimizer = Descent([*objective.parameters, stranger], Newton())
    with pytest.raises(ValueError, match="takes trainable parameters of the model or the head"):
        optimizer.step(objective)


def test_some_of_the_parameters_are_enough():
    for direction in (Newton(), NewtonCG(), LevenbergMarquardt()):
        objective = make("regression")
        fixed, free = objective.parameters[:4], objective.parameters[4:]
        before = [tensor.detach().clone() for tensor in fixed]
        losses = run(objective, Descent(free, direction), 3)
        assert losses[-1] < losses[0]
        assert all(torch.equal(old, new) for old, new in zip(before, fixed, strict=True))


@pytest.mark.parametrize(
    ("make_part", "message"),
    [
        (lambda: NewtonCG(tolerance=1.0), r"NewtonCG\(tolerance=...\) must lie in \(0, 1\); got 1.0"),
        (lambda: NewtonCG(progress=0.0), r"NewtonCG\(progress=...\) must be positive or None; got 0.0"),
        (lambda: NewtonCG(warm_start=1.1), r"NewtonCG\(warm_start=...\) must lie in \[0, 1\]; got 1.1"),
        (lambda: NewtonCG(max_iterations=0), r"NewtonCG\(max_iterations=...\) must be at least 1; got 0"),
        (lambda: Damping(initial=0.0), r"Damping\(initial=...\) must be positive and finite; got 0.0"),
        (lambda: Damping(fall=1.0), r"Damping\(fall=...\) must lie in \(0, 1\); got 1.0"),
        (lambda: Floor(0.0), r"Floor\(least=...\) must lie in \(0, 1\); got 0.0"),
        (lambda: Jacobi(power=0.0), r"Jacobi\(power=...\) must lie in \(0, 1\]; got 0.0"),
        (
            lambda: KroneckerFactored(num_samples=0),
            r"KroneckerFactored\(num_samples=...\) must lie between 1 and 10,000; got 0",
        ),
        (lambda: KroneckerFactored(least=0.0), r"KroneckerFactored\(least=...\) must be positive; got 0.0"),
        (lambda: Jacobi(num_samples=0), r"Jacobi\(num_samples=...\) must lie between 1 and 10,000; got 0"),
    ],
)
def test_settings_out_of_range_are_refused(make_part, message):
    with pytest.raises(ValueError, match=message):
        make_part()


def test_the_matrix_of_the_tests_is_symmetric():
    hessian = dense_hessian(at(make("classes")))
    torch.testing.assert_close(hessian, hessian.T)
    v = torch.ones(len(hessian), dtype=torch.float64)
    torch.testing.assert_close(Matrix(hessian) @ v, hessian @ v)


def test_damping_stays_a_number_of_single_precision_however_often_a_step_fails():
    damping, state = Damping(), {}
    damping.value(state, 1.0)
    for _ in range(2000):
        damping.increase(state)
    assert state["damping"] == 1e30
    assert torch.isfinite(torch.tensor(state["damping"] * 2.0, dtype=torch.float32))
    damping.learn(state, 1.0)
    assert state["damping"] == pytest.approx(2e29)
