"""The checker's formulas against suprema found by search: each conjugate, each pair of loss and dual value."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize, minimize_scalar

from thalweg.certificates.checker import check as base
from thalweg.certificates.checker.check import Refused, dual_terms, rule, terms, weights

FUNCTIONS = rule("head").func.__globals__  # of the file that verifies heads
conjugate, Matrix = FUNCTIONS["conjugate"], FUNCTIONS["Matrix"]
GRID = np.linspace(-60.0, 60.0, 240_001)


def entries(gradient, penalty):
    """Supremum of <G, W> - penalty(W) for a penalty that is a sum over the entries of W."""
    return sum((g * GRID - penalty(GRID)).max() for g in gradient.ravel())


def over_directions(gradient, radius):
    """Supremum of <G, W> over the ball, by descent from random directions."""
    rng = np.random.default_rng(0)

    def loss(flat):
        return -radius * float(flat @ gradient.ravel()) / np.linalg.norm(flat)

    return max(-minimize(loss, rng.normal(size=gradient.size)).fun for _ in range(3))


G = np.array([[0.7, -1.3, 0.02], [2.1, 0.4, -0.9]])
W = np.array([[0.3, -0.2, 0.0], [0.5, 1.0, -0.4]])
PENALTIES = {
    "l2": ({"l2": 0.3}, lambda g: entries(g, lambda w: 0.15 * w**2), 0.15 * (W**2).sum()),
    "l1": ({"l1": 2.2}, lambda g: entries(g, lambda w: 2.2 * np.abs(w)), 2.2 * np.abs(W).sum()),
    "elastic": (
        {"l1": 0.5, "l2": 0.3},
        lambda g: entries(g, lambda w: 0.5 * np.abs(w) + 0.15 * w**2),
        0.5 * np.abs(W).sum() + 0.15 * (W**2).sum(),
    ),
    "ball": ({"radius": 1.7}, lambda g: over_directions(g, 1.7), 0.0),
}


@pytest.mark.parametrize("kind", PENALTIES)
def test_each_conjugate_is_the_supremum(kind):
    numbers, supremum, penalty = PENALTIES[kind]
    found, value = conjugate({"regularizer": kind, "W": W, **numbers}, G, base)
    assert found == pytest.approx(supremum(G), rel=1e-6, abs=1e-9)
    assert value == pytest.approx(penalty)


def test_the_conjugate_of_the_nuclear_norm_is_an_indicator():
    e, top = np.array([[1.0, 0.2], [0.5, -0.3]]), np.linalg.svd(G)[1][0]
    evidence = {"regularizer": "nuclear", "E": e, "W": W, "l2": 1.001 * top}
    found, value = conjugate(evidence, G, base)
    assert (found, value) == (0.0, pytest.approx(0.5 * 1.001 * top * ((e**2).sum() + (W**2).sum())))
    # Below the largest singular value the supremum is infinite: there is a matrix that gains, and so do its multiples.
    u, s, v = np.linalg.svd(G)
    assert (G * np.outer(u[:, 0], v[0])).sum() - 0.999 * s[0] > 0.0
    with pytest.raises(Refused, match="not feasible"):
        conjugate({**evidence, "l2": 0.999 * top}, G, base)
    # The penalty of two factors is never below that of their product.
    product = e @ W
    assert value >= 1.001 * top * np.linalg.svd(product)[1].sum()


@pytest.mark.parametrize(("kind", "name"), [("l1", "l1"), ("ball", "radius")])
def test_weights_and_duals_outside_are_refused(kind, name):
    limit = np.abs(G).max() if kind == "l1" else np.linalg.norm(W)
    conjugate({"regularizer": kind, "W": W, name: limit}, G, base)
    with pytest.raises(Refused, match=r"not feasible|outside the ball"):
        conjugate({"regularizer": kind, "W": W, name: 0.999 * limit}, G, base)


def infimum(evidence, row, residual):
    """Infimum of phi(z) + R z over the predictions of one example."""
    one = {**evidence, "T": evidence["T"][row : row + 1]}
    if evidence["loss"] == "softmax":
        fun = lambda z: float(terms(one, z[None]).sum() + residual[row] @ z)  # noqa: E731
        return min(minimize(fun, start, options={"gtol": 1e-10}).fun for start in np.eye(3))
    fun = lambda z: float((terms(one, np.array([[z]])) + residual[row] * z).sum())  # noqa: E731
    rough = np.linspace(-40.0, 40.0, 801)
    at = rough[np.argmin([fun(z) for z in rough])]
    return min(
        minimize_scalar(fun, bounds=(at - 0.2, at + 0.2), method="bounded", options={"xatol": 1e-12}).fun, fun(at)
    )


PAIRS = {
    "softmax": ({"T": np.array([0, 2])}, np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]])),
    "soft": (
        {"loss": "softmax", "T": np.array([[0.5, 0.25, 0.25], [0.0, 0.6, 0.4]])},
        np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]]),
    ),
    "logistic": ({"T": np.array([[1.0], [0.0], [0.3]])}, np.array([[0.6], [0.2], [0.9]])),
    "squared": ({"T": np.array([[1.5], [-2.0]]), "factor": 0.8}, np.array([[0.7], [3.0]])),
    "half squares": ({"loss": "squared", "T": np.array([[1.5], [-2.0]])}, np.array([[0.7], [3.0]])),
    "squared_hinge": ({"T": np.array([[1.0], [-1.0]])}, np.array([[0.4], [2.5]])),
    "hinge": ({"T": np.array([[1.0], [-1.0], [1.0]])}, np.array([[0.4], [1.0], [0.0]])),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_each_dual_value_is_the_infimum_of_its_loss(kind):
    evidence, dual = PAIRS[kind]
    evidence = {"loss": kind, **evidence, "dual": dual}
    value, residual = dual_terms(evidence)
    for row in range(len(dual)):
        assert value[row].sum() == pytest.approx(infimum(evidence, row, residual), abs=1e-7)


def phi(kind, t, z, factor):
    """The losses, written once more."""
    match kind:
        case "softmax":
            return np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), t]
        case "logistic":
            return np.where(t > 0.5, np.log1p(np.exp(-z)), np.log1p(np.exp(z))).sum(1)
        case "squared":
            return factor * ((z - t) ** 2).sum(1)
    margin = np.maximum(1.0 - t * z, 0.0)
    return (margin**2 if kind == "squared_hinge" else margin).sum(1)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "logistic", "squared", "squared_hinge", "hinge"])
def test_the_loss_of_weights_is_computed_anew(kind, intercept):
    rng = np.random.default_rng(0)
    x, w, b, c = rng.normal(size=(7, 2)), rng.normal(size=(2, 3)), rng.normal(size=3), rng.random((7, 1))
    target = rng.integers(0, 3, 7) if kind == "softmax" else rng.choice([-1.0, 1.0], (7, 3))
    target = (target > 0).astype(float) if kind == "logistic" else target
    dual = np.full((7, 3), 1 / 3) if kind == "softmax" else target if kind == "logistic" else np.zeros((7, 3))
    if intercept and kind == "softmax":
        dual = np.eye(3)[target]
    evidence = {"rule": "head", "loss": kind, "T": target, "c": c, "dual": dual, "X": x, "W": w, "factor": 0.7,
                "regularizer": "elastic", "l1": 0.1, "l2": 0.2, "offset": 0.25}  # fmt: skip
    evidence |= {"b": b} if intercept else {}
    expected = (c[:, 0] * phi(kind, target, x @ w + b * intercept, 0.7)).sum()
    expected += 0.1 * np.abs(w).sum() + 0.1 * (w**2).sum() + 0.25
    assert rule("head")(evidence)[0] == pytest.approx(expected, rel=1e-12)


def test_weights_are_means_where_none_are_given_and_never_negative():
    assert weights({}, 4).ravel().tolist() == [0.25] * 4
    with pytest.raises(Refused, match="negative"):
        weights({"c": np.array([1.0, -1.0])}, 2)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("kind", PENALTIES)
def test_at_the_optimum_the_bound_is_the_loss(kind, intercept):
    """A formula that is wrong by any factor either leaves a gap here, or puts the bound above the loss."""
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(30, 3)), rng.normal(size=(30, 1)) + 1.0
    numbers = {"l2": {"l2": 0.3}, "l1": {"l1": 0.1}, "elastic": {"l1": 0.05, "l2": 0.3}, "ball": {"radius": 0.05}}[kind]
    l1, l2 = numbers.get("l1", 0.0), numbers.get("l2", 0.0)

    def split(flat):
        return (flat[:3] - flat[3:6])[:, None], flat[6] * intercept

    def loss(flat):
        w, b = split(flat)
        return 0.5 * ((x @ w + b - t) ** 2).mean() + l1 * flat[:6].sum() + 0.5 * l2 * float((w**2).sum())

    if kind == "ball":  # the weights of ridge regression, at the strength that makes them as long as the ball is wide
        mean = (x.mean(0), t.mean()) if intercept else (0.0, 0.0)
        z, y = x - mean[0], t - mean[1]

        def ridge(strength):
            return np.linalg.solve(z.T @ z / 30 + strength * np.eye(3), z.T @ y / 30)

        w = ridge(brentq(lambda strength: np.linalg.norm(ridge(strength)) - 0.05, 1e-6, 1e3, xtol=1e-14))
        b = (mean[1] - mean[0] @ w).item() if intercept else 0.0
        least = loss(np.r_[w[:, 0], np.zeros(3), b])
    else:
        found = minimize(loss, np.full(7, 0.1), bounds=[(0, None)] * 6 + [(None, None)], method="L-BFGS-B",
                         options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 3000, "maxfun": 100_000})  # fmt: skip
        (w, b), least = split(found.x), found.fun
    dual = t - x @ w - b
    dual = dual - dual.mean() if intercept else dual
    if kind == "l1":
        dual *= min(1.0, l1 / np.abs(x.T @ dual / 30).max())
    evidence = {"rule": "head", "loss": "squared", "T": t, "dual": dual, "X": x, "W": w, "regularizer": kind, **numbers}
    value, bound = rule("head")(evidence | ({"b": np.array([b])} if intercept else {}))
    assert value == pytest.approx(least, rel=1e-9)
    assert bound <= value + 1e-9
    assert bound == pytest.approx(value, rel=1e-4)


def test_packed_rows_multiply_like_dense_ones():
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(5, 4)) * (rng.random((5, 4)) < 0.5)
    rows, columns = np.nonzero(dense)
    packed = {"X_values": dense[rows, columns], "X_columns": columns, "X_width": 4,
              "X_starts": np.r_[0, np.cumsum(np.bincount(rows, minlength=5))]}  # fmt: skip
    left, right = rng.normal(size=(5, 2)), rng.normal(size=(4, 2))
    assert Matrix(packed, base).times(right) == pytest.approx(dense @ right)
    assert Matrix(packed, base).transposed_times(left) == pytest.approx(dense.T @ left)
    with pytest.raises(Refused, match="do not fit"):
        Matrix({**packed, "X_width": 2}, base)
