"""Factored linear models: the bound against another method's optimum, and Newton's method against plain training."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from linear_cases import LOSSES, as_tensor, random_features, random_loss
from scipy import sparse
from torch import nn

from thalweg.certificates.certificate.interval import level_to_json
from thalweg.certificates.checker.check import RULES, check_level
from thalweg.certificates.factored.bags import factored_problem
from thalweg.certificates.factored.newton import solve
from thalweg.certificates.factored.optimizer import FactoredNewton
from thalweg.certificates.factored.problem import Factored, spectral_norm
from thalweg.certificates.factored.start import balance, grow, start
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.errors import InputError
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.models.bag import Bag
from thalweg.models.mlp import MLP
from thalweg.objective import Objective
from thalweg.status import Status

SMOOTH = tuple(kind for kind in LOSSES if kind != "hinge")


def text_problem(seed=0, n=60, features=40, outputs=3, l2=3e-3, kind="softmax"):
    rng = np.random.default_rng(seed)
    x = sparse.random_array((n, features), density=0.2, rng=rng, format="csr")
    return Factored(Features(x), random_loss(rng, kind, n, outputs), l2, intercept=True)


def slow_optimum(problem, steps=800):
    """The convex problem in the product, by proximal gradients with momentum and singular value thresholds."""
    x = problem.features.times(torch.eye(problem.features.shape[1], dtype=torch.float64))
    loss, l2 = problem.loss, problem.l2
    ones = torch.ones(len(x), 1, dtype=torch.float64) if problem.intercept else torch.zeros(len(x), 0)
    both = torch.cat([x, ones.double()], 1)
    bend = 2.0 * max(1.0, 2 * loss.scale) * float(loss.factor.max()) * torch.linalg.matrix_norm(both, 2).item() ** 2
    m = torch.zeros(both.shape[1], loss.num_outputs, dtype=torch.float64)
    y, t, best = m, 1.0, np.inf
    for _ in range(steps):
        residual = loss.value_and_residual(both @ y)[1]
        new = y + both.T @ residual / bend
        u, s, v = torch.linalg.svd(new[: x.shape[1]], full_matrices=False)
        new = torch.cat([(u * (s - l2 / bend).clamp_min(0)) @ v, new[x.shape[1] :]])
        t, before = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
        y, m = new + (before - 1) / t * (new - m), new
        value = float(loss.value(both @ m)) + l2 * float(torch.linalg.svdvals(m[: x.shape[1]]).sum())
        best = min(best, value)
    return best


@hypothesis_settings(max_examples=20)
@given(st.integers(0, 2**31), st.sampled_from(LOSSES), st.booleans())
def test_every_bound_lies_below_every_loss(seed, kind, intercept):
    rng = np.random.default_rng(seed)
    n, d, outputs, width = rng.integers(2, 14), rng.integers(1, 7), rng.integers(2, 5), int(rng.integers(1, 5))
    problem = Factored(
        Features(random_features(rng, n, d)),
        random_loss(rng, kind, n, outputs),
        float(10.0 ** rng.uniform(-4, 0)),
        intercept=bool(intercept),
    )
    if kind == "hinge":
        points = []
    else:
        point, _ = solve(problem, width, tolerance=1e-6, max_steps=15)
        points = [point]
    points += [
        problem.at(*(as_tensor(scale * rng.normal(size=shape)) for shape in ((d, width), (outputs, width))))
        for scale in (0.0, 0.1, 1.0)
    ]
    bounds = [problem.bound(point)[0] for point in points]
    least = min(point.total for point in points)
    assert max(bounds) <= least + 1e-9 * abs(least) + 1e-12
    for point in points:
        level = problem.certificate(point)
        assert check_level(level_to_json(level), dict(level.evidence)) >= level.bound


@pytest.mark.parametrize("kind", SMOOTH)
def test_newton_ends_at_the_optimum_of_another_method(kind):
    rng = np.random.default_rng(sum(map(ord, kind)))
    intercept = bool(rng.integers(2))
    problem = Factored(Features(rng.normal(size=(30, 6))), random_loss(rng, kind, 30, 3), 0.02, intercept=intercept)
    point, status = solve(problem, 3, tolerance=1e-8)
    slow = slow_optimum(problem)
    assert status is Status.CONVERGED
    assert problem.bound(point)[0] <= slow + 1e-12
    assert point.total == pytest.approx(slow, rel=1e-4)
    assert point.total <= slow * (1 + 1e-8)


def test_a_missing_class_and_an_output_that_is_never_used():
    labels = torch.tensor([0, 0, 1, 1, 0, 1])
    problem = Factored(Features(np.eye(6)), SoftmaxLoss.of_labels(labels, 4), 0.01, intercept=True)
    point, _ = solve(problem, 4, tolerance=1e-5)
    assert problem.relative_gap(point) <= 1e-5


def test_too_narrow_a_network_keeps_its_gap_and_says_so():
    problem = text_problem(outputs=4, l2=1e-4)
    narrow, status = solve(problem, 1, max_steps=80)
    wide, _ = solve(problem, 4)
    assert status is not Status.CONVERGED
    assert problem.relative_gap(narrow) > 0.1 > 1e-6 >= problem.relative_gap(wide)


def test_decay_so_strong_that_zero_is_best():
    problem = text_problem(l2=10.0)
    point, status = solve(problem, 3)
    assert status is Status.CONVERGED
    assert not bool(point.embedding.any())


def test_a_saddle_of_zeros_is_left():
    problem = text_problem()
    zero = problem.at(torch.zeros(40, 3), torch.zeros(3, 3), torch.zeros(3))
    assert grow(problem, zero).total < zero.total
    point, status = solve(problem, 3, point=zero)
    assert status is Status.CONVERGED
    assert problem.relative_gap(point) <= 1e-6


def test_balancing_keeps_the_product_and_lowers_the_penalty():
    problem = text_problem()
    point = problem.at(torch.randn(40, 5), torch.randn(3, 5), torch.randn(3))
    balanced = balance(problem, point)
    torch.testing.assert_close(balanced.embedding @ balanced.weight.T, point.embedding @ point.weight.T)
    nuclear = torch.linalg.svdvals(point.embedding @ point.weight.T).sum()
    assert balanced.penalty == pytest.approx(problem.l2 * float(nuclear), rel=1e-10)


def test_the_start_lies_on_the_proximal_step():
    problem = text_problem()
    first = start(problem, 2)
    assert first.total < problem.at(torch.zeros(40, 2), torch.zeros(3, 2), first.bias).total


def test_a_tampered_certificate_is_refused():
    problem = text_problem()
    level = problem.certificate(solve(problem, 3)[0])
    for name, change in (("residual", 2), ("E", 1.01), ("X_values", 1.001), ("l2", 0.9)):
        evidence = {**level.evidence, name: level.evidence[name] * change}
        with pytest.raises(Exception, match=r"proves|no distribution|domain|not feasible|weights give"):
            check_level(level_to_json(level), evidence)
    assert level.evidence["rule"] in RULES


def test_spectral_norm_is_never_below():
    for seed in range(20):
        matrix = torch.from_numpy(np.random.default_rng(seed).normal(size=(30, 5))) * 10.0 ** (seed - 10)
        exact = torch.linalg.svdvals(matrix)[0].item()
        assert exact <= spectral_norm(matrix) <= exact * (1 + 1e-11)


HEADS = {
    "softmax": (lambda: Softmax(3, 4), lambda n: torch.arange(n) % 4),
    "smoothed": (lambda: Softmax(3, 4, label_smoothing=0.1), lambda n: torch.arange(n) % 4),
    "class weights": (lambda: Softmax(3, 4, class_weights=torch.rand(4) + 0.1), lambda n: torch.arange(n) % 4),
    "no bias": (lambda: Softmax(3, 4, bias=False), lambda n: torch.arange(n) % 4),
    "bernoulli": (lambda: Bernoulli(3, 3), lambda n: torch.rand(n, 3).round()),
    "positive weights": (lambda: Bernoulli(3, 3, pos_weight=torch.rand(3) + 0.5), lambda n: torch.rand(n, 3).round()),
    "squared": (lambda: Squared(3, 3), lambda n: torch.randn(n, 3)),
}


def bag_objective(make_head, make_targets, *, l2=3e-3, dropout=0.0, parts=1, body=None):
    model, head = Bag(12, 3, dropout=dropout, body=body).double(), make_head().double()
    tokens, offsets = torch.randint(12, (50,)), torch.arange(0, 50, 5)
    inputs = {"tokens": tokens, "offsets": offsets, "weights": torch.rand(50, dtype=torch.float64)}
    targets = make_targets(10)
    targets = targets.double() if targets.is_floating_point() else targets
    objective = Objective(model, head, inputs, targets, l2=l2)
    if parts == 2:
        one = objective.batches[0]
        objective = Objective(model, head, [one, one], l2=l2)
    return objective


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_trained_is_what_is_certified(name, parts):
    objective = bag_objective(*HEADS[name], parts=parts)
    problem = factored_problem(objective)
    layer = objective.head.output
    point = problem.at(objective.model.embedding.weight, layer.weight, layer.bias)
    assert point.total == pytest.approx(objective.value().item(), rel=1e-12)
    optimizer = FactoredNewton(objective.parameters)
    for _ in range(40):
        optimizer.step(objective)
    assert optimizer.relative_gap <= 1e-6
    _, gradients = objective.value_and_gradient()
    assert max(gradient.abs().max().item() for gradient in gradients) < 1e-4
    assert optimizer.bound <= objective.value().item() * (1 + 1e-12)


def test_it_ends_where_plain_training_ends_only_sooner():
    objective = bag_objective(*HEADS["softmax"])
    objective.model.width = 3
    FactoredNewton(objective.parameters).step(objective)
    plain = torch.optim.LBFGS(objective.parameters, max_iter=400, line_search_fn="strong_wolfe", tolerance_change=0)
    plain.step(objective)
    reached = objective.value().item()
    optimizer = FactoredNewton(objective.parameters)
    for _ in range(30):
        optimizer.step(objective)
    assert objective.value().item() <= reached * (1 + 1e-9)


def test_steps_repeat_bit_for_bit_from_a_saved_state():
    first = bag_objective(*HEADS["softmax"])
    optimizer = FactoredNewton(first.parameters)
    for _ in range(3):
        optimizer.step(first)
    saved = optimizer.state_dict()
    kept = [parameter.detach().clone() for parameter in first.parameters]
    for _ in range(3):
        optimizer.step(first)
    ended = [parameter.detach().clone() for parameter in first.parameters]
    for parameter, value in zip(first.parameters, kept, strict=True):
        parameter.data.copy_(value)
    again = FactoredNewton(first.parameters)
    again.load_state_dict(saved)
    for _ in range(3):
        again.step(first)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters, ended, strict=True))


def test_refusals():
    make = HEADS["softmax"]
    with pytest.raises(InputError, match=r"dropout is 0\.5"):
        factored_problem(bag_objective(*make, dropout=0.5))
    with pytest.raises(InputError, match="--l2"):
        factored_problem(bag_objective(*make, l2=0.0))
    with pytest.raises(InputError, match="without a network"):
        factored_problem(bag_objective(*make, body=MLP([3, 3], activation=nn.Tanh)))
    with pytest.raises(InputError, match="not a linear layer"):
        factored_problem(bag_objective(lambda: Softmax(None, 3), lambda n: torch.arange(n) % 3))
    objective = bag_objective(*make)
    objective = Objective(objective.model, objective.head, objective.batches, l2=0.1, penalized=objective.penalized[:1])
    with pytest.raises(InputError, match="penalty must be on"):
        factored_problem(objective)
    with pytest.raises(ValueError, match="needs a thalweg Objective"):
        FactoredNewton(objective.parameters).step()
    optimizer = FactoredNewton(objective.parameters)
    whole = bag_objective(*make)
    optimizer = FactoredNewton(whole.parameters)
    optimizer.step(whole)
    with pytest.raises(InputError, match="all the data in every step"):
        optimizer.step(whole.on(bag_objective(*make).batches))
    with pytest.raises(ValueError, match="above zero"):
        Factored(Features(np.eye(2)), SoftmaxLoss.of_labels(torch.tensor([0, 1]), 2), 0.0, intercept=True)
    with pytest.raises(ValueError, match="NaN or infinity"):
        text_problem().at(torch.full((40, 2), torch.nan), torch.zeros(3, 2))
