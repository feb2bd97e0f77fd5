"""Linear heads: every bound below every loss, and at the optimum of other programs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from linear_cases import LOSSES, as_tensor, random_features, random_loss
from scipy import optimize, sparse
from sklearn.linear_model import ElasticNet as SklearnElasticNet
from sklearn.linear_model import Lasso, LogisticRegression, Ridge
from sklearn.svm import LinearSVC
from torch import nn

from thalweg.certificates.certificate.interval import level_to_json
from thalweg.certificates.checker.check import check_level
from thalweg.certificates.linear import working_set
from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.last_layer import head_problem, split_last_layer
from thalweg.certificates.linear.level import head_level
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.polish import polish
from thalweg.certificates.linear.regularizers import L1, L2, Ball, ElasticNet
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.certificates.newton import conjugate_gradients
from thalweg.certificates.number_losses import HingeLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss
from thalweg.errors import InputError
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.objective import Objective
from thalweg.status import Status

SMOOTH = tuple(kind for kind in LOSSES if kind not in {"hinge", "squared_hinge"})


def random_regularizer(rng, weight):
    strength = float(10.0 ** rng.uniform(-4, 0))
    kinds = [L2(strength), L1(strength), ElasticNet(strength, float(10.0 ** rng.uniform(-4, 0)))]
    return [*kinds, Ball(float(weight.norm()))][rng.integers(4)]


def checked(head, point):
    level = head.certificate(point)
    assert level.bound <= level.loss
    assert check_level(level_to_json(level), dict(level.evidence)) >= level.bound
    return level


@hypothesis_settings(max_examples=50)
@given(st.integers(0, 2**31), st.sampled_from(LOSSES), st.booleans())
def test_every_bound_lies_below_every_loss(seed, kind, intercept):
    rng = np.random.default_rng(seed)
    n, d, outputs = int(rng.integers(1, 12)), int(rng.integers(1, 6)), int(rng.integers(2, 5))
    weights = [as_tensor(scale * rng.normal(size=(d, outputs))) for scale in (1.0, 0.0, 0.03, 0.3)]
    regularizer = random_regularizer(rng, weights[0])
    loss = random_loss(rng, kind, n, outputs)
    head = Head(Features(random_features(rng, n, d)), loss, regularizer, intercept=bool(intercept))
    bias = as_tensor(rng.normal(size=outputs)) * float(intercept)
    points = [head.at(weight, bias) for weight in weights]
    if isinstance(regularizer, L2) and kind != "hinge" and seed % 2:
        points.append(polish(head, tolerance=1e-8, max_steps=12).point)
    bound = max(point.total - head.gap(point) for point in points)
    least = min(point.total for point in points)
    assert bound <= least + 1e-9 * abs(least) + 1e-12
    checked(head, points[int(rng.integers(len(points)))])


@pytest.mark.parametrize("kind", SMOOTH)
def test_the_gap_is_the_squared_gradient_over_twice_the_penalty(kind):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        head = Head(Features(rng.normal(size=(20, 4))), random_loss(rng, kind, 20, 3), L2(0.05), intercept=False)
        point = polish(head, tolerance=1e-3).point
        dual = head.loss.dual_point(point.z, balanced=False)
        direct = point.total - (head.loss.dual_value(dual) - float(point.gradient.square().sum()) / (2.0 * 0.05))
        assert abs(direct - head.gap(point)) <= 1e-12 * abs(point.total)


@pytest.mark.parametrize("kind", [*SMOOTH, "squared_hinge"])
@pytest.mark.parametrize("intercept", [True, False])
def test_polishing_ends_where_scipy_ends(kind, intercept):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 5))
    head = Head(Features(x), random_loss(rng, kind, 40, 3), L2(0.02), intercept=intercept)
    polished = polish(head, tolerance=1e-10)

    def value(flat):
        w, b = as_tensor(flat[:15].reshape(5, 3)), as_tensor(flat[15:]) * float(intercept)
        point = head.at(w, b)
        slope = 0.02 * w - point.gradient
        return point.total, np.r_[slope.reshape(-1), -float(intercept) * point.slope_bias]

    other = optimize.minimize(value, np.zeros(18), jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 500})
    assert polished.status is Status.CONVERGED
    assert polished.bound <= other.fun * (1 + 1e-12)
    assert polished.point.total == pytest.approx(other.fun, rel=1e-8)
    assert polished.excess >= 0.0


def binary(seed=0, n=60, d=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = (x[:, 0] + rng.normal(size=n) > 0.3).astype(int)
    return x, y


def test_scikit_learns_own_optima_have_no_gap():
    x, y = binary()
    n, signs = len(y), as_tensor(2.0 * y - 1)[:, None]
    for intercept in (True, False):
        model = LogisticRegression(C=2.0, fit_intercept=intercept, tol=1e-10, max_iter=1000).fit(x, y)
        loss = LogisticLoss(as_tensor(y.astype(float))[:, None])
        head = Head(Features(x), loss, L2(1 / (2.0 * n)), intercept=intercept)
        assert head.relative_gap(head.at(as_tensor(model.coef_.T), as_tensor(model.intercept_.reshape(1)))) < 1e-8
        ridge = Ridge(alpha=3.0, fit_intercept=intercept).fit(x, y)
        head = Head(Features(x), SquaredLoss(as_tensor(y.astype(float))[:, None]), L2(3.0 / n), intercept=intercept)
        bias = as_tensor(np.reshape(ridge.intercept_, 1))
        assert head.relative_gap(head.at(as_tensor(ridge.coef_.reshape(-1, 1)), bias)) < 1e-12
        lasso = Lasso(alpha=0.05, fit_intercept=intercept, tol=1e-12).fit(x, y)
        head = Head(Features(x), SquaredLoss(as_tensor(y.astype(float))[:, None]), L1(0.05), intercept=intercept)
        bias = as_tensor(np.reshape(lasso.intercept_, 1))
        assert head.relative_gap(head.at(as_tensor(lasso.coef_.reshape(-1, 1)), bias)) < 1e-8
        net = SklearnElasticNet(alpha=0.1, l1_ratio=0.5, fit_intercept=intercept, tol=1e-12).fit(x, y)
        head = Head(
            Features(x), SquaredLoss(as_tensor(y.astype(float))[:, None]), ElasticNet(0.05, 0.05), intercept=intercept
        )
        bias = as_tensor(np.reshape(net.intercept_, 1))
        assert head.relative_gap(head.at(as_tensor(net.coef_.reshape(-1, 1)), bias)) < 1e-8
    svm = LinearSVC(C=0.5, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(x, y)
    head = Head(Features(x), SquaredHingeLoss(signs), L2(1 / (0.5 * n)), intercept=False)
    assert head.relative_gap(head.at(as_tensor(svm.coef_.T))) < 1e-8


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", ["logistic", "squared", "squared_hinge"])
def test_sparse_polishing_closes_the_gap(kind, intercept):
    rng = np.random.default_rng(5)
    for regularizer in (L1(0.03), ElasticNet(0.02, 0.05)):
        loss = random_loss(rng, kind, 60, 1)
        x = rng.normal(size=(60, 120))
        for features in (x, sparse.csr_array(x)):
            head = Head(Features(features), loss, regularizer, intercept=intercept)
            polished = polish(head, tolerance=1e-7)
            assert polished.status is Status.CONVERGED
            checked(head, polished.point)
        assert int((polished.point.weight != 0.0).sum()) < 80
    x, y = binary(n=200)
    head = Head(Features(x), LogisticLoss(as_tensor(y.astype(float))[:, None]), L1(0.02), intercept=False)
    other = LogisticRegression(
        C=1 / (0.02 * 200), l1_ratio=1.0, solver="liblinear", fit_intercept=False, tol=1e-10, max_iter=5000
    ).fit(x, y)
    polished = polish(head, tolerance=1e-9).point
    assert polished.total == pytest.approx(head.at(as_tensor(other.coef_.T)).total, rel=1e-7)
    with pytest.raises(ValueError, match="for one output"):
        polish(Head(Features(x), SoftmaxLoss.of_labels(torch.zeros(200), 2), L1(0.1), intercept=True))
    with pytest.raises(ValueError, match="got Ball and LogisticLoss"):
        polish(Head(Features(x), head.loss, Ball(0.1), intercept=True))


@pytest.mark.parametrize("largest", [(0, 0), (1000, 0), (1000, 1000)])
def test_sparse_polishing_is_the_same_with_and_without_the_matrix_of_curvature(largest, monkeypatch):
    monkeypatch.setattr(working_set, "LARGEST_DENSE", largest[0])
    monkeypatch.setattr(working_set, "LARGEST_SOLVED", largest[1])
    x, y = binary(seed=1, n=80, d=150)
    x[:, 3], x[:, 4], x[:, 5] = 0.0, x[:, 6], 1e3 * x[:, 5]
    head = Head(
        Features(sparse.csr_array(x)), LogisticLoss(as_tensor(y.astype(float))[:, None]), L1(0.03), intercept=True
    )
    polished = polish(head, tolerance=1e-8)
    assert polished.status is Status.CONVERGED
    other = optimize.minimize(
        lambda v: _split_value(head, v), np.zeros(301), jac=True, bounds=[(0, None)] * 300 + [(None, None)],
        method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000},
    )  # fmt: skip
    assert polished.bound <= other.fun
    assert polished.point.total == pytest.approx(other.fun, rel=1e-5)


def _split_value(head, v):
    """Value and slope in the positive and the negative part of each weight, and the bias."""
    point = head.at(as_tensor(v[:150] - v[150:300])[:, None], as_tensor(v[300:]))
    strength, slope = head.regularizer.strength, -point.gradient[:, 0].numpy()
    bias = -point.slope_bias.numpy()
    return point.value + strength * v[:300].sum(), np.r_[slope + strength, strength - slope, bias]


def test_kept_duals_close_the_gap_of_a_hinge_that_predictions_leave_open():
    x, y = binary()
    n, signs, strength = len(y), as_tensor(2.0 * y - 1)[:, None], 0.05
    rows = (signs * as_tensor(x)).numpy()
    matrix = rows @ rows.T / (strength * n * n)

    def value(a):
        return 0.5 * a @ matrix @ a - a.mean(), matrix @ a - 1 / n

    solved = optimize.minimize(
        value, np.full(n, 0.5), jac=True, bounds=[(0, 1)] * n, method="L-BFGS-B", options={"ftol": 1e-16, "gtol": 1e-12}
    )
    weight = as_tensor(rows.T @ solved.x / (strength * n))[:, None]
    kept = HingeLoss(signs, duals=as_tensor(solved.x)[:, None])
    gaps = []
    for loss in (kept, HingeLoss(signs)):
        head = Head(Features(x), loss, L2(strength), intercept=False)
        gaps.append(head.relative_gap(head.at(weight)))
        checked(head, head.at(weight))
    assert gaps[0] < 1e-6 < gaps[1]


def test_the_best_weights_within_a_ball():
    x, y = binary()
    loss = LogisticLoss(as_tensor(y.astype(float))[:, None])
    ridge = Head(Features(x), loss, L2(0.1), intercept=False)
    point = polish(ridge, tolerance=1e-12).point
    # The penalty's optimum is also the best of all weights that are no longer.
    head = Head(Features(x), loss, Ball(float(point.weight.norm())), intercept=False)
    assert head.relative_gap(head.at(point.weight)) < 1e-6
    assert head.relative_gap(head.at(0.5 * point.weight)) > 1e-3


def body(dropout=0.0):
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(dropout)).double()


HEADS = {
    "softmax": (lambda: Softmax(6, 3, label_smoothing=0.1), lambda: torch.arange(20) % 3),
    "bernoulli": (lambda: Bernoulli(6, 3), lambda: torch.rand(20, 3).round().double()),
    "squared": (lambda: Squared(6, 2), lambda: torch.randn(20, 2).double()),
    "no bias": (lambda: Softmax(6, 3, bias=False), lambda: torch.arange(20) % 3),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("l2", [0.0, 0.02])
def test_the_head_of_any_network(name, l2):
    make, targets = HEADS[name]
    model = body(dropout=0.5).train()
    objective = Objective(model, make().double(), torch.randn(20, 4).double(), targets(), l2=l2)
    head, point, rest = head_problem(objective)
    assert model.training
    model.eval()
    assert point.total + rest == pytest.approx(objective.value().item(), rel=1e-12)
    level = head.certificate(point, offset=rest)
    assert level.loss == pytest.approx(objective.value().item(), rel=1e-12)
    assert not level.whole
    assert check_level(level_to_json(level), dict(level.evidence)) >= level.bound
    if l2:
        polished = polish(head, point, tolerance=1e-8)
        layer = objective.head.output
        with torch.no_grad():
            layer.weight.copy_(polished.point.weight.T)
            if layer.bias is not None:
                layer.bias.copy_(polished.point.bias)
        assert objective.value().item() == pytest.approx(point.total + rest - polished.excess, rel=1e-9)
        assert objective.value().item() >= level.bound - 1e-12


def test_refusals():
    embedding = nn.Embedding(5, 6).double()
    tied = Objective(
        nn.Sequential(embedding, nn.Tanh()), Softmax(6, 5, tied=embedding), torch.arange(5), torch.arange(5), l2=0.1
    )
    with pytest.raises(InputError, match=r"shares its weight with .0\.weight. .tied."):
        head_problem(tied)
    with pytest.raises(InputError, match="not that of a linear layer itself"):
        head_problem(Objective(body(), nn.CrossEntropyLoss(), torch.randn(20, 4).double(), torch.arange(20) % 6))
    spoiled = Objective(body(), Softmax(6, 3).double(), torch.full((3, 4), torch.nan).double(), torch.arange(3))
    with pytest.raises(InputError, match="NaN or infinity"):
        head_problem(spoiled)
    x, y = binary()
    head = Head(Features(x), HingeLoss(as_tensor(2.0 * y - 1)[:, None]), L2(0.1), intercept=False)
    with pytest.raises(ValueError, match="a hinge has none"):
        polish(head)
    with pytest.raises(ValueError, match="NaN or infinity"):
        head.at(torch.full((5, 1), torch.inf))
    with pytest.raises(ValueError, match="rows of features"):
        Head(Features(x[:3]), head.loss, L2(0.1), intercept=False)
    for wrong in (lambda: L2(0.0), lambda: L1(-1.0), lambda: ElasticNet(1.0, 0.0)):
        with pytest.raises(ValueError, match="above zero"):
            wrong()
    with pytest.raises(ValueError, match="-1 or 1"):
        SquaredHingeLoss(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        LogisticLoss(torch.full((3, 1), 2.0))
    with pytest.raises(ValueError, match="probabilities"):
        SoftmaxLoss(torch.ones(3, 2))
    with pytest.raises(ValueError, match="class ids"):
        SoftmaxLoss.of_labels(torch.tensor([5]), 2)
    with pytest.raises(ValueError, match="not negative"):
        LogisticLoss(torch.zeros(3, 1), -torch.ones(3))


def test_polishing_keeps_a_limit_of_seconds():
    x, y = binary()
    loss = LogisticLoss(as_tensor(y.astype(float))[:, None])
    for regularizer in (L2(1e-4), L1(1e-3)):
        head = Head(Features(x), loss, regularizer, intercept=True)
        best = polish(head, tolerance=1e-10)
        none = polish(head, tolerance=1e-10, seconds=0.0)
        assert none.status is Status.OUT_OF_TIME
        assert (none.gradients, none.products, none.excess) == (1, 0, 0.0)
        assert none.bound <= best.point.total < none.point.total
        assert polish(head, best.point, tolerance=1e-6, seconds=0.0).status is Status.CONVERGED
    with pytest.raises(ValueError, match="number of seconds; got NaN"):
        polish(head, seconds=float("nan"))


def test_past_the_limit_the_first_product_is_the_last():
    matrix, right = torch.diag(torch.arange(1.0, 9.0)), torch.ones(8)
    for end, products in ((math.inf, 8), (0.0, 1)):
        solved = conjugate_gradients(
            lambda v: (matrix @ v, None), right, torch.ones(8), accuracy=1e-5, max_products=20, end=end
        )
        assert solved.products == products
        assert solved.predicted < 0.0


@pytest.mark.parametrize("regularizer", [L1(1e-3), ElasticNet(1e-3, 1e-6)])
def test_sparse_polishing_ends_where_there_is_no_curvature(regularizer):
    """Of predictions of 1e10 all second derivatives are 0, and a step's length was doubled without end."""
    x = (
        torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
        * torch.tensor([1e8, 1.0, 1e-6]).double()
    )
    head = Head(Features(x), LogisticLoss((torch.arange(40) % 2).double()[:, None]), regularizer, intercept=True)
    polished = polish(head, head.at(torch.full((3, 1), 100.0), torch.zeros(1)))
    assert polished.status is Status.NO_STEP
    assert polished.bound <= polished.point.total
    assert polish(head, tolerance=1e-4).status is Status.CONVERGED


@pytest.mark.parametrize("head", [nn.BCEWithLogitsLoss, nn.CrossEntropyLoss])
def test_a_layer_that_is_sure_of_its_mistakes_is_polished_from_zero(head):
    torch.manual_seed(0)
    model = nn.Linear(2, 3).double()
    with torch.no_grad():
        model.weight.mul_(1e3)
    targets = torch.eye(3).double()[torch.arange(14) % 3]
    level = head_level(split_last_layer(Objective(model, head(), torch.randn(14, 2).double(), targets, l2=1e-4)))
    assert level.loss > 10.0
    assert level.bound == pytest.approx(level.reached, rel=1e-6)
    assert level.reached is not None
    assert level.reached < 2.0


@pytest.mark.parametrize("sums", [[2.0, 1.0, 0.5], [0.0, 1.2, 1.0]])
def test_soft_targets_that_do_not_add_up_to_one_count_as_often_as_their_sum(sums):
    torch.manual_seed(0)
    x, shares = torch.randn(3, 2).double(), torch.rand(3, 4).double().softmax(1)
    targets = shares * torch.tensor(sums).double().unsqueeze(1)
    objective = Objective(nn.Linear(2, 4).double(), nn.CrossEntropyLoss(), x, targets, l2=0.1)
    level = head_level(split_last_layer(objective))
    assert level.loss == pytest.approx(objective.value().item(), rel=1e-12)
    assert level.bound == pytest.approx(level.reached, rel=1e-6)
    assert check_level(level_to_json(level), dict(level.evidence)) >= level.bound
