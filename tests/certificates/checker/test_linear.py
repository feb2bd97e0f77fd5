"""Linear problems: formulas against suprema and infima found by search, bounds against optima and exact arithmetic."""

import functools

import mpmath
import numpy as np
import pytest
from dual_cases import KINDS, PENALTIES, exact_bound, exact_loss, optimum, wild_certificate, wild_evidence
from scipy.optimize import brentq, minimize, minimize_scalar

from thalweg.certificates.certificate.interval import level_to_json
from thalweg.certificates.checker import check, linear, losses, rules
from thalweg.certificates.checker.check import ERRORS, Refused, check_level, prove, proved
from thalweg.certificates.checker.linear import Matrix, conjugate
from thalweg.certificates.linear.polish import polish
from thalweg.errors import InputError

GRID = np.linspace(-60.0, 60.0, 240_001)
G = np.array([[0.7, -1.3, 0.02], [2.1, 0.4, -0.9]])


# ---- each formula against a search ----


def entries(gradient, penalty):
    """Supremum of <G, W> - penalty(W) for a penalty that is a sum over the entries of W."""
    return sum((g * GRID - penalty(GRID)).max() for g in gradient.ravel())


def over_directions(gradient, radius):
    """Supremum of <G, W> over the ball, by descent from random directions."""
    rng = np.random.default_rng(0)

    def loss(flat):
        return -radius * float(flat @ gradient.ravel()) / np.linalg.norm(flat)

    return max(-minimize(loss, rng.normal(size=gradient.size)).fun for _ in range(3))


CONJUGATES = {
    "l2": ({"l2": 0.3}, lambda g: entries(g, lambda w: 0.15 * w**2)),
    "l1": ({"l1": 2.2}, lambda g: entries(g, lambda w: 2.2 * np.abs(w))),
    "elastic": ({"l1": 0.5, "l2": 0.3}, lambda g: entries(g, lambda w: 0.5 * np.abs(w) + 0.15 * w**2)),
    "ball": ({"radius": 1.7}, lambda g: over_directions(g, 1.7)),
}


@pytest.mark.parametrize("kind", CONJUGATES)
def test_each_conjugate_is_the_supremum(kind):
    numbers, supremum = CONJUGATES[kind]
    found, error = conjugate({"regularizer": kind, **numbers}, rules, G, 0.0)
    assert found == pytest.approx(supremum(G), rel=1e-6, abs=1e-9)
    assert 0.0 <= error < 1e-13
    # A gradient that may be off by 0.1 has a conjugate within the error.
    moved = conjugate({"regularizer": kind, **numbers}, rules, G + 0.1 * G / np.linalg.norm(G) * (kind != "l1"), 0.0)[0]
    numbers = {**numbers, "l1": numbers.get("l1", 0.0) + 0.2} if kind == "l1" else numbers
    value, error = conjugate({"regularizer": kind, **numbers}, rules, G, 0.1)
    assert moved <= value + error + 1e-12


def test_the_conjugate_of_the_nuclear_norm_is_an_indicator():
    top = np.linalg.svd(G)[1][0]
    assert conjugate({"regularizer": "nuclear", "l2": top * (1 + 1e-10)}, rules, G, 0.0) == (0.0, 0.0)
    # Below the largest singular value the supremum is infinite: there is a matrix that gains, and so do its multiples.
    u, s, v = np.linalg.svd(G)
    assert (G * np.outer(u[:, 0], v[0])).sum() - 0.999 * s[0] > 0.0
    for l2, off in ((0.999 * top, 0.0), (top * (1 - 1e-15), 0.0), (1.01 * top, 0.02 * top)):
        with pytest.raises(Refused, match="not feasible"):
            conjugate({"regularizer": "nuclear", "l2": l2}, rules, G, off)


def test_the_penalty_of_two_factors_is_never_below_that_of_their_product():
    e, w = np.array([[1.0, 0.2], [0.5, -0.3]]), np.array([[0.3, -0.2, 0.0], [0.5, 1.0, -0.4]])
    value = linear.penalty({"regularizer": "nuclear", "l2": 0.7, "E": e, "W": w})
    assert value == pytest.approx(0.35 * ((e**2).sum() + (w**2).sum()))
    assert value >= 0.7 * np.linalg.svd(e @ w)[1].sum()


@pytest.mark.parametrize("numbers", [{"l1": 0.1}, {"l1": 0.1, "l2": 0.3}, {"l2": 0.3}, {"radius": 9.0}])
def test_penalties_of_weights(numbers):
    w = np.array([[0.3, -0.2], [0.5, 1.0]])
    kind = {"l1": "l1", "l1l2": "elastic", "l2": "l2", "radius": "ball"}["".join(numbers)]
    expected = numbers.get("l1", 0.0) * np.abs(w).sum() + 0.5 * numbers.get("l2", 0.0) * (w**2).sum()
    assert linear.penalty({"regularizer": kind, "W": w, **numbers}) == pytest.approx(expected)


@pytest.mark.parametrize("numbers", [{"l1": -0.1}, {"l2": -1.0}, {"radius": -1.0}, {"l2": 1e-70}, {"l2": 1e70}])
def test_penalties_out_of_range_are_refused(numbers):
    with pytest.raises(Refused, match="must be 0, or 1e-60 to 1e60"):
        conjugate({"regularizer": "elastic", **numbers}, rules, G, 0.0)


def test_a_gradient_above_the_l1_penalty_is_refused():
    limit = np.abs(G).max()
    assert conjugate({"regularizer": "l1", "l1": limit * (1 + 1e-14)}, rules, G, 0.0) == (0.0, 0.0)
    with pytest.raises(Refused, match="not feasible"):
        conjugate({"regularizer": "l1", "l1": limit}, rules, G, 0.0)  # rounding might lift it


PAIRS = {
    "softmax": ({"T": np.array([0, 2])}, [[0.5, -0.2, -0.3], [-0.1, -0.1, 0.2]]),
    "soft": (
        {"loss": "softmax", "T": np.array([[0.5, 0.25, 0.25], [0.0, 0.6, 0.4]])},
        [[0.1, 0.05, -0.15], [-0.1, 0.5, -0.4]],
    ),
    "no distribution": (
        {"loss": "softmax", "T": np.array([[1.5, 0.25, 0.25], [0.0, 0.2, 0.4]])},
        [[0.5, 0.0, -0.5], [-0.1, 0.1, 0.0]],
    ),
    "logistic": ({"T": np.array([[1.0], [0.0], [0.3]])}, [[0.6], [-0.2], [-0.5]]),
    "squared": ({"T": np.array([[1.5], [-2.0]]), "factor": 0.8}, [[0.7], [3.0]]),
    "squared_hinge": ({"T": np.array([[1.0], [-1.0]])}, [[0.4], [-2.5]]),
    "hinge": ({"T": np.array([[1.0], [-1.0], [1.0]])}, [[0.4], [-1.0 + 2**-20], [0.0]]),
}  # fmt: skip


def evidence_of(kind, weights=None):
    """Evidence of a pair of targets and residuals."""
    given, residual = PAIRS[kind]
    whole = np.round(np.array(residual) * 2**20).astype(np.int64)
    if given.get("loss", kind) == "softmax":
        whole[:, 0] -= whole.sum(1)
    e = {"loss": kind, "count": 1.0, "factor": 0.5, "residual": whole, "exponent": -20, "scale": 1.0, "free_bias": 0}
    return e | given | ({} if weights is None else {"weight": weights})


def infimum(evidence, row, weight):
    """Infimum of w phi(z) + R z over the predictions of one example."""
    one = {**evidence, "T": evidence["T"][row : row + 1]}
    residual = evidence["residual"][row] * 2.0**-20

    def fun(z):
        return float((weight * losses.terms(one, np.atleast_2d(z))).sum() + residual @ np.atleast_1d(z))

    if evidence["loss"] == "softmax":
        return min(minimize(fun, start, options={"gtol": 1e-10}).fun for start in np.eye(3))
    rough = np.linspace(-40.0, 40.0, 801)
    at = rough[np.argmin([fun(z) for z in rough])]
    return min(
        minimize_scalar(fun, bounds=(at - 0.2, at + 0.2), method="bounded", options={"xatol": 1e-12}).fun, fun(at)
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", PAIRS)
def test_each_dual_value_is_the_infimum_of_its_loss(kind, weighted):
    rows = len(PAIRS[kind][1])
    weights = np.array([1.5, 1.25, 3.0])[:rows] if weighted else np.ones(rows)
    e = evidence_of(kind, weights if weighted else None)
    value, error = rules.dual_sum(e)
    assert value == pytest.approx(sum(infimum(e, row, weights[row]) for row in range(rows)), abs=1e-7)
    assert error < 1e-13
    assert value - error <= exact_bound({**e, "X": np.zeros((rows, 1)), "regularizer": "l2", "l2": 1.0, "offset": 0.0})


@pytest.mark.parametrize("kind", [kind for kind in PAIRS if kind != "squared"])
def test_residuals_outside_the_domain_are_refused(kind):
    e = evidence_of(kind)
    with pytest.raises(Refused, match=r"domain|no distribution|a label or residual is wrong|above its weight"):
        rules.dual_sum({**e, "residual": -4 * e["residual"]})


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
    x, w, b, each = rng.normal(size=(7, 2)), rng.normal(size=(2, 3)), rng.normal(size=3), rng.random(7)
    target = rng.integers(0, 3, 7) if kind == "softmax" else rng.choice([-1.0, 1.0], (7, 3))
    target = (target > 0).astype(float) if kind == "logistic" else target
    evidence = {"rule": "head", "loss": kind, "T": target, "weight": each, "count": 5.0, "factor": 0.7, "X": x, "W": w,
                "residual": np.zeros((7, 3), np.int64), "exponent": 0, "scale": 1.0, "free_bias": int(intercept),
                "regularizer": "elastic", "l1": 0.1, "l2": 0.2, "offset": 0.25}  # fmt: skip
    evidence |= {"b": b} if intercept else {}
    expected = (each * phi(kind, target, x @ w + b * intercept, 0.7)).sum() / 5.0
    expected += 0.1 * np.abs(w).sum() + 0.1 * (w**2).sum() + 0.25
    found = prove(evidence)
    assert found.loss == pytest.approx(expected, rel=1e-12)
    assert (found.value, found.error) == (0.25, 0.0)  # no residual proves no more than that nothing is negative


def test_packed_rows_multiply_like_dense_ones():
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(5, 4)) * (rng.random((5, 4)) < 0.5)
    rows, columns = np.nonzero(dense)
    packed = {"X_values": dense[rows, columns], "X_columns": columns, "X_width": 4,
              "X_starts": np.r_[0, np.cumsum(np.bincount(rows, minlength=5))]}  # fmt: skip
    left, right = rng.normal(size=(5, 2)), rng.normal(size=(4, 2))
    one, other = Matrix(packed, rules), Matrix({"X": dense}, rules)
    assert one.times(right) == pytest.approx(dense @ right)
    assert one.transposed_times(left) == pytest.approx(dense.T @ left)
    assert one.row_lengths(rules) == pytest.approx(np.linalg.norm(dense, axis=1), rel=1e-13)
    assert (one.row_lengths(rules) >= other.row_lengths(rules) * (1 - 1e-14)).all()
    assert one.terms == (dense != 0).sum(0).max()
    for changed in ({"X_width": 2}, {"X_starts": packed["X_starts"][::-1]}, {"X_columns": columns[::-1]}):
        with pytest.raises(Refused, match=r"do not fit|twice, or not in order"):
            Matrix({**packed, **changed}, rules)


def test_lengths_of_rows_that_would_underflow_are_not_lost():
    rows = np.array([[1.0, 0.0], [1e-170, 1e-170], [0.0, 0.0]])
    assert (rules.row_lengths(rows) >= np.array([1.0, 1.414e-170, 0.0])).all()


# ---- at the optimum the bound is the loss: a formula that is wrong by any factor leaves a gap, or lies above it ----

OPTIMA = {"l2": {"l2": 0.3}, "l1": {"l1": 0.1}, "elastic": {"l1": 0.05, "l2": 0.3}, "ball": {"radius": 0.05}}


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("kind", OPTIMA)
def test_at_the_optimum_the_bound_is_the_loss(kind, intercept):
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(30, 3)), rng.normal(size=(30, 1)) + 1.0
    numbers = OPTIMA[kind]
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
        dual *= min(1.0, 0.999999 * l1 / np.abs(x.T @ dual / 30).max())
    whole = np.round(dual * 2**40).astype(np.int64)
    whole[0] -= whole.sum() * intercept
    evidence = {"rule": "head", "loss": "squared", "T": t, "X": x, "W": w, "regularizer": kind, **numbers,
                "count": 30.0, "factor": 0.5, "residual": whole, "exponent": -40, "scale": 1.0, "offset": 0.0,
                "free_bias": int(intercept)}  # fmt: skip
    found = prove(evidence | ({"b": np.array([b])} if intercept else {}))
    assert found.loss == pytest.approx(least, rel=1e-9)
    assert proved(found) <= found.loss + 1e-9
    assert proved(found) == pytest.approx(found.loss, rel=1e-4)


# ---- against exact arithmetic, without any tolerance ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_nothing_is_proved_above_the_exact_dual_value(kind, penalty):
    for seed in range(3):
        try:
            level, _ = wild_certificate(np.random.default_rng(seed), kind, penalty)
        except InputError:
            continue
        e = dict(level.evidence)
        assert check_level(level_to_json(level), e) >= level.bound
        found = prove(e)
        assert mpmath.mpf(proved(found)) <= max(exact_bound(e), mpmath.mpf(e["offset"]))
        assert found.error <= 1e-12 * max(found.size, abs(found.value))
        changed = wild_evidence(np.random.default_rng(seed), kind, penalty)
        try:
            most = proved(prove(changed))
        except (Refused, *ERRORS):
            continue
        assert mpmath.mpf(most) <= max(exact_bound(changed), mpmath.mpf(changed["offset"]))


@functools.cache
def polished(kind, seed, wild):
    _, head = wild_certificate(np.random.default_rng(seed), kind, "l2", wild=wild)
    zero = head.loss.targets.new_zeros(head.features.shape[1], head.loss.num_outputs)
    return head, polish(head, head.at(zero), tolerance=1e-12, max_steps=40).point


@pytest.mark.parametrize("wild", [1.0, 2.0])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "hinge" not in kind])
def test_no_bound_is_above_the_optimum_in_60_digits(kind, wild):
    head, point = polished(kind, 4, wild)
    level = head.certificate(point)
    e = dict(level.evidence)
    lowest, _ = optimum(e, point.weight.numpy(), point.bias.numpy(), steps=25)
    assert mpmath.mpf(level.bound) <= lowest
    assert lowest <= exact_loss(e, point.weight.tolist(), point.bias.tolist()) * (1 + mpmath.mpf("1e-50"))


EXTREMES = {
    "products that underflow": {"X": np.full((2, 1), 1e-170), "exponent": -560, "scale": 1e60, "count": 1e-60},
    "a scale below everything": {"scale": 1e-70},
    "a count below everything": {"count": 1e-300},
    "weights below everything": {"weight": np.full(2, 1e-300)},
    "features near overflow": {"X": np.full((2, 1), 1e300), "exponent": 300},
    "targets near overflow": {"T": np.array([[1e308], [-1e308]]), "exponent": 300},
    "an offset near overflow": {"offset": 1.7e308},
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_prove_nothing_false(name):
    e = {"rule": "head", "loss": "squared", "T": np.array([[1.0], [-1.0]]), "X": np.ones((2, 1)), "W": np.zeros((1, 1)),
         "regularizer": "l2", "l2": 1.0, "count": 2.0, "factor": 0.5, "offset": 0.0, "free_bias": 0, "scale": 1.0,
         "residual": np.array([[2**40], [2**39]]), "exponent": -41} | EXTREMES[name]  # fmt: skip
    try:
        most = proved(prove(e))
    except Refused:
        return
    assert mpmath.mpf(most) <= max(exact_bound(e), mpmath.mpf(e["offset"]))


def test_a_residual_on_a_target_of_zero_is_seen_however_small_its_share():
    """r / w underflows to 0, and the probability -r / w would pass for 0."""
    e = evidence_of("soft", np.full(2, 1e59))
    e["T"][:, 0] = 0.0
    whole = np.zeros((2, 3), np.int64)
    whole[0] = [1, -1, 0]
    with pytest.raises(Refused, match="a probability is negative"):
        rules.dual_sum({**e, "residual": whole, "exponent": -600, "scale": 1e-60})


def test_weights_are_for_examples_or_numbers():
    e = evidence_of("logistic")
    with pytest.raises(Refused, match="not one weight for each"):
        rules.dual_sum({**e, "weight": np.ones(2)})
    with pytest.raises(Refused, match="negative"):
        rules.dual_sum({**e, "weight": -np.ones(3)})
    with pytest.raises(Refused, match="belongs to a weight of 0"):
        rules.dual_sum({**e, "weight": np.zeros(3)})
    assert rules.dual_sum({**e, "weight": np.ones((3, 1))}) == rules.dual_sum(e)
    assert check.RULES["head"] == "linear"
