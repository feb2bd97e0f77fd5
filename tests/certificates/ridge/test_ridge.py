"""Linear models under an L2 penalty: optimum and bound against scikit-learn and SciPy, and what degenerates."""

import numpy as np
import pytest
import torch
from linear_cases import LOSSES, as_tensor, random_features, random_loss
from scipy import optimize, sparse
from sklearn.linear_model import LogisticRegression
from torch import nn

from thalweg.certificates.certificate.interval import level_to_json
from thalweg.certificates.checker.check import check_level
from thalweg.certificates.factored.bags import factored_problem
from thalweg.certificates.factored.newton import solve as solve_factored
from thalweg.certificates.factored.path import factored_path
from thalweg.certificates.factored.problem import Factored
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.certificates.number_losses import LogisticLoss
from thalweg.certificates.ridge.newton import solve, start
from thalweg.certificates.ridge.optimizer import LinearNewton
from thalweg.certificates.ridge.path import ridge_path
from thalweg.certificates.ridge.problem import linear_problem, weights_of
from thalweg.errors import InputError
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.models.bag import Bag, LinearBag
from thalweg.objective import Objective
from thalweg.status import Status

SMOOTH = tuple(kind for kind in LOSSES if kind != "hinge")


def text_problem(seed=0, n=60, features=40, outputs=3, l2=3e-3, kind="softmax"):
    rng = np.random.default_rng(seed)
    x = sparse.random_array((n, features), density=0.2, rng=rng, format="csr")
    return Head(Features(x), random_loss(rng, kind, n, outputs), L2(l2), intercept=True, whole=True)


def dense(features):
    return features.times(torch.eye(features.shape[1], dtype=torch.float64)).numpy()


@pytest.mark.parametrize("kind", SMOOTH)
@pytest.mark.parametrize("seed", range(4))
def test_newton_ends_at_the_optimum_of_scipy_and_the_bound_lies_below(kind, seed):
    rng = np.random.default_rng(seed)
    x = random_features(rng, 14, 5)
    problem = Head(Features(x), random_loss(rng, kind, 14, 3), L2(0.02), intercept=True, whole=True)
    point, status, _ = solve(problem, tolerance=1e-9)

    def value(flat):
        at = problem.at(as_tensor(flat[:15].reshape(5, 3)), as_tensor(flat[15:]))
        slope = 0.02 * at.weight - at.gradient
        return at.total, np.concatenate([slope.numpy().ravel(), -at.slope_bias.numpy()])

    best = optimize.minimize(value, np.zeros(18), jac=True, method="BFGS", options={"gtol": 1e-9}).fun
    assert status is Status.CONVERGED
    assert point.total == pytest.approx(best, rel=1e-7)
    for one in (point, start(problem)):
        level = problem.certificate(one)
        assert (level.name, level.whole) == ("linear", True)
        assert level.bound <= best * (1 + 1e-12) + 1e-12
        assert check_level(level_to_json(level), dict(level.evidence)) >= level.bound


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_logistic_regression_of_scikit_learn(weighted):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(80, 6)), rng.integers(4, size=80)
    weights = rng.uniform(0.2, 3.0, 80) if weighted else np.ones(80)
    strength = 1.0 / (2.0 * weights.sum())
    sure = LogisticRegression(C=2.0, tol=1e-10, max_iter=10_000).fit(x, y, sample_weight=weights)
    loss = SoftmaxLoss.of_labels(torch.from_numpy(y), 4, weights=torch.from_numpy(weights))
    point, _, _ = solve(Head(Features(x), loss, L2(strength), intercept=True), tolerance=1e-12)
    np.testing.assert_allclose(point.weight.numpy(), sure.coef_.T, atol=1e-4)
    answers = torch.softmax(point.z, 1).numpy()
    np.testing.assert_allclose(answers, sure.predict_proba(x), atol=1e-5)


def test_several_labels_are_regressions_of_their_own():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(50, 4)), rng.integers(2, size=(50, 3)).astype(float)
    loss = LogisticLoss(torch.from_numpy(y))
    point, _, _ = solve(Head(Features(x), loss, L2(1.0 / (5.0 * 150)), intercept=True), tolerance=1e-12)
    for k in range(3):
        sure = LogisticRegression(C=5.0, tol=1e-10, max_iter=10_000).fit(x, y[:, k])
        np.testing.assert_allclose(point.weight[:, k].numpy(), sure.coef_[0], atol=2e-4)


def degenerate(name):
    two = torch.tensor([0, 1])
    many = SoftmaxLoss.of_labels(torch.arange(6) % 2, 2)
    return {
        "one feature": (np.arange(6.0)[:, None], many, 1e-2),
        "empty texts": (np.vstack([np.eye(2), np.zeros((4, 2))]), many, 1e-2),
        "nothing at all": (np.zeros((6, 2)), many, 1e-2),
        "a label without examples": (np.eye(6), SoftmaxLoss.of_labels(torch.arange(6) % 2, 3), 1e-2),
        "two labels for one text": (np.ones((2, 3)), SoftmaxLoss.of_labels(two, 2), 1e-2),
        "a tiny penalty": (np.random.default_rng(0).normal(size=(6, 8)), many, 1e-8),
        "weights of zero": (
            np.eye(6), SoftmaxLoss.of_labels(torch.arange(6) % 2, 2, weights=torch.tensor([1, 1, 0, 0, 1, 1.0])), 1e-2,
        ),
    }[name]  # fmt: skip


@pytest.mark.parametrize("name", [
    "one feature", "empty texts", "nothing at all", "a label without examples", "two labels for one text",
    "a tiny penalty", "weights of zero",
])  # fmt: skip
def test_degenerate_data_are_solved_and_proved(name):
    x, loss, l2 = degenerate(name)
    problem = Head(Features(sparse.csr_array(x)), loss, L2(l2), intercept=True, whole=True)
    point, status, _ = solve(problem, tolerance=1e-4)
    level = problem.certificate(point)
    assert status is Status.CONVERGED
    assert level.loss - level.bound <= 1e-4 * level.loss + 1e-12
    assert check_level(level_to_json(level), dict(level.evidence)) >= level.bound


def test_a_loss_that_has_no_least_value_ends_near_its_limit():
    loss = SoftmaxLoss.of_labels(torch.zeros(6, dtype=torch.long), 2)  # one label: a larger bias is always better
    problem = Head(Features(np.eye(6)), loss, L2(1e-2), intercept=True, whole=True)
    point, _, _ = solve(problem, tolerance=1e-4)
    assert 0.0 <= problem.certificate(point).bound <= point.total < 1e-4


def test_a_rare_label_under_a_weak_penalty_is_not_thrown_out():
    rng = np.random.default_rng(0)
    x = sparse.random_array((400, 300), density=0.03, rng=rng, format="csr")
    labels = torch.from_numpy(np.minimum(rng.geometric(0.4, 400) - 1, 8))  # the last ones have an example or two
    problem = Head(Features(x), SoftmaxLoss.of_labels(labels, 9), L2(1e-7), intercept=True)
    point, status, _ = solve(problem, tolerance=1e-3)
    assert status is Status.CONVERGED
    assert problem.relative_gap(point) <= 1e-3


def test_forged_evidence_is_refused():
    problem = text_problem()
    level = problem.certificate(solve(problem)[0])
    for name, change in (("residual", 2), ("W", 1.01), ("X_values", 1.001), ("l2", 0.9)):
        evidence = {**level.evidence, name: level.evidence[name] * change}
        with pytest.raises(Exception, match=r"proves|no distribution|domain|not feasible|weights give"):
            check_level(level_to_json(level), evidence)
    for evidence in ({**level.evidence, "offset": 0.1}, {**level.evidence, "regularizer": "ball", "radius": 1.0}):
        with pytest.raises(Exception, match="has an L2 penalty and no other"):
            check_level(level_to_json(level), evidence)


def stored_paths(problem, penalties, tolerance):
    width = problem.loss.num_outputs
    yield "ridge", ridge_path(problem.features, problem.loss, penalties, tolerance=tolerance)
    yield "factored", factored_path(problem.features, problem.loss, penalties, width=width, tolerance=tolerance)


@pytest.mark.parametrize("kind", ["softmax", "class_weights", "logistic"])
def test_a_path_is_near_the_optimum_at_every_penalty(kind):
    problem, penalties = text_problem(kind=kind, n=200), [0.03 / 3**power for power in range(5)]
    for name, path in stored_paths(problem, penalties, 1e-3):
        for l2, point in zip(penalties, path, strict=True):
            assert point.l2 == l2
            assert point.gap <= 1e-3
            convex = Head(problem.features, problem.loss, L2(l2), intercept=True)
            whole = Factored(problem.features, problem.loss, l2, intercept=True)
            exact = convex if name == "ridge" else whole
            assert exact.relative_gap(exact.at(*point.weights)) <= 1.2e-3
            sure = solve(convex, tolerance=1e-8)[0] if name == "ridge" else solve_factored(whole, 3, tolerance=1e-7)[0]
            assert sure.total * (1 - 1e-6) <= exact.at(*point.weights).total <= sure.total * (1 + 1.2e-3)


def test_a_path_that_is_left_computes_no_more_and_later_points_cost_less():
    problem = text_problem(n=400, features=200, outputs=5)
    penalties = [0.03 / 3**power for power in range(6)]
    warm = list(ridge_path(problem.features, problem.loss, penalties, tolerance=1e-3))
    cold = [next(ridge_path(problem.features, problem.loss, [l2], tolerance=1e-3)) for l2 in penalties]
    assert sum(point.products for point in warm) < 0.6 * sum(point.products for point in cold)
    asked = []
    for _ in ridge_path(problem.features, problem.loss, (asked.append(l2) or l2 for l2 in penalties)):
        if len(asked) == 2:
            break
    assert asked == penalties[:2]
    for _, path in stored_paths(problem, [0.0], 1e-3):
        with pytest.raises(ValueError, match="above zero"):
            next(path)


HEADS = {
    "softmax": (lambda: Softmax(None, 3), lambda n: torch.arange(n) % 3),
    "smoothed": (lambda: Softmax(None, 3, label_smoothing=0.1), lambda n: torch.arange(n) % 3),
    "class weights": (lambda: Softmax(None, 3, class_weights=torch.rand(3) + 0.1), lambda n: torch.arange(n) % 3),
    "bernoulli": (lambda: Bernoulli(None, 3), lambda n: torch.rand(n, 3).round()),
    "positive weights": (
        lambda: Bernoulli(None, 3, pos_weight=torch.rand(3) + 0.5),
        lambda n: torch.rand(n, 3).round(),
    ),
    "squared": (lambda: Squared(None), lambda n: torch.randn(n, 3)),
}


def linear_objective(make_head, make_targets, *, l2=3e-3, parts=1, weights=None):
    model, head = LinearBag(12, 3).double(), make_head().double()
    tokens, offsets = torch.randint(12, (50,)), torch.arange(0, 50, 5)
    inputs = {"tokens": tokens, "offsets": offsets, "weights": torch.rand(50, dtype=torch.float64)}
    targets = make_targets(10)
    targets = targets.double() if targets.is_floating_point() else targets
    objective = Objective(model, head, inputs, targets, l2=l2, weights=weights)
    if parts == 2:
        one = objective.batches[0]
        objective = Objective(model, head, [one, one], l2=l2)
    return objective


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_trained_is_what_is_certified(name, parts):
    objective = linear_objective(*HEADS[name], parts=parts)
    optimizer = LinearNewton(objective.parameters)
    for _ in range(12):
        optimizer.step(objective)
    problem = linear_problem(objective)
    assert problem.at(*weights_of(objective)).total == pytest.approx(objective.value().item(), rel=1e-12)
    assert optimizer.relative_gap <= 1e-6
    _, gradients = objective.value_and_gradient()
    assert max(gradient.abs().max().item() for gradient in gradients) < 1e-4
    assert optimizer.bound <= objective.value().item() * (1 + 1e-12)
    assert objective.num_products > 0


def test_weights_of_examples_count():
    weights = torch.rand(10, dtype=torch.float64)
    objective = linear_objective(*HEADS["softmax"], weights=weights)
    plain = torch.optim.LBFGS(objective.parameters, max_iter=500, line_search_fn="strong_wolfe", tolerance_change=0)
    plain.step(objective)
    reached = objective.value().item()
    point, _, _ = solve(linear_problem(objective), tolerance=1e-9)
    assert point.total == pytest.approx(reached, rel=1e-7)


def test_steps_repeat_bit_for_bit_from_a_saved_state():
    first = linear_objective(*HEADS["softmax"])
    optimizer = LinearNewton(first.parameters)
    optimizer.step(first)
    saved, kept = optimizer.state_dict(), [parameter.detach().clone() for parameter in first.parameters]
    optimizer.step(first)
    ended = [parameter.detach().clone() for parameter in first.parameters]
    for parameter, value in zip(first.parameters, kept, strict=True):
        parameter.data.copy_(value)
    again = LinearNewton(first.parameters)
    again.load_state_dict(saved)
    again.step(first)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters, ended, strict=True))


def test_refusals():
    make, targets = HEADS["softmax"]
    for wrong, message in (
        (linear_objective(make, targets, l2=0.0), "--l2"),
        (linear_objective(lambda: Softmax(3, 3), targets), "has a layer of its own"),
    ):
        with pytest.raises(InputError, match=message):
            linear_problem(wrong)
    bag = Objective(Bag(12, 3).double(), Softmax(3, 3).double(), linear_objective(make, targets).batches[0], l2=0.1)
    with pytest.raises(InputError, match="must be linear"):
        linear_problem(bag)
    whole = linear_objective(make, targets)
    with pytest.raises(InputError, match="must be a bag without a network"):
        factored_problem(whole)
    whole = Objective(whole.model, whole.head, whole.batches, l2=0.1, penalized=[whole.model.bias])
    with pytest.raises(InputError, match="penalty must be on the table"):
        linear_problem(whole)
    whole = linear_objective(make, targets)
    nn.init.normal_(whole.model.table.weight)
    optimizer = LinearNewton(whole.parameters)
    with pytest.raises(ValueError, match="needs a thalweg Objective"):
        optimizer.step()
    optimizer.step(whole)
    with pytest.raises(InputError, match="--optimizer linear-newton looks at all the data"):
        optimizer.step(whole.on(linear_objective(make, targets).batches))
