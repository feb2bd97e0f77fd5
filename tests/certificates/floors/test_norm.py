"""The floor of bounded features: below every network, exactly what its dual point says, and refused else."""

import math

import mpmath
import numpy as np
import pytest
import torch

from thalweg.certificates.checker import check
from thalweg.certificates.floors.norm import norm_floor
from thalweg.errors import InputError


@pytest.mark.parametrize(
    ("classes", "radius", "l2", "value"),
    [(4, 11.3, 1e-2, 0.00658125), (10, 5.0, 1e-2, 0.08026497), (4, 1.0, 1e-2, 0.22443797)],
)
def test_features_of_bounded_length_balanced(classes, radius, l2, value):
    assert math.isclose(norm_floor(np.full(classes, 7), radius, l2).value, value, rel_tol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_features_of_bounded_length_whatever_the_classes(seed, smoothing):
    """No features in the ball with any head are below the bound, and free features come close to it."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(1000, rng.dirichlet(np.full(3, 2.0)))
    if seed == 0:
        counts = np.array([3, 2, 0])
    radius, l2 = float(rng.uniform(0.5, 5)), 10 ** rng.uniform(-3, -1)
    target = torch.tensor((1 - smoothing) * np.eye(3) + smoothing / 3)
    p = torch.tensor(counts / counts.sum())
    for free_bias in (True, False):
        floor = norm_floor(counts, radius, l2, smoothing=smoothing, free_bias=free_bias)
        torch.manual_seed(seed)
        h, w, b = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((3, 3), (3, 3), (3,)))

        def loss(h=h, w=w, b=b, free_bias=free_bias):
            features = radius * h * torch.sqrt(p.sum() / (p * h.square().sum(1)).sum())  # mean square is the radius's
            z = features @ w.T + (b if free_bias else 0.0)
            return -(p * (target * z.log_softmax(1)).sum(1)).sum() + 0.5 * l2 * w.square().sum()

        assert floor.value <= float(loss().detach())
        optimizer = torch.optim.LBFGS(
            [h, w, b], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=0.0
        )

        def closure(optimizer=optimizer, loss=loss):
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
        assert floor.value <= float(loss().detach())
        assert float(loss().detach()) - floor.value <= 2e-3 * float(loss().detach())


def exactly(evidence):
    """What the dual point proves, with 50 digits."""
    with mpmath.workdps(50):
        counts = evidence["counts"].tolist()
        present, num = [k for k, n in enumerate(counts) if n], sum(counts)
        a, scale = mpmath.mpf(evidence["smoothing"]), mpmath.mpf(2) ** evidence["exponent"]
        matrix, entropy = mpmath.matrix(len(present), len(counts)), mpmath.mpf(0)
        for i, k in enumerate(present):
            share = mpmath.mpf(counts[k]) / num
            row = [int(r) * scale for r in evidence["residual"][i]]
            p = [a / len(counts) + ((1 - a) if j == k else 0) - r for j, r in enumerate(row)]
            assert min(p) >= 0
            assert abs(sum(p) - 1) < 1e-45
            entropy -= share * sum(q * mpmath.log(q) for q in p if q > 0)
            for j, r in enumerate(row):
                matrix[i, j] = mpmath.sqrt(share) * r
        top = max(mpmath.eigsy(matrix * matrix.T, eigvals_only=True)) if len(present) > 1 else mpmath.norm(matrix) ** 2
        return entropy - top * mpmath.mpf(evidence["radius"]) ** 2 / (2 * mpmath.mpf(evidence["l2"]))


@pytest.mark.parametrize("seed", range(40))
def test_the_bound_is_not_above_its_exact_value(seed):
    rng = np.random.default_rng(seed)
    num_classes = int(rng.integers(1, 6))
    counts = rng.integers(0, 10 ** int(rng.integers(1, 7)), num_classes)
    counts[0] += 1
    radius, l2, smoothing = 10 ** rng.uniform(-2, 2), 10 ** rng.uniform(-6, 1), float(rng.choice([0, 0, 0.1, 1e-5]))
    floor = norm_floor(counts, radius, l2, smoothing=smoothing, free_bias=bool(seed % 2))
    exact = exactly(floor.evidence)
    assert floor.value <= max(exact, mpmath.mpf(10) ** -40)
    assert exact - floor.value <= 1e-9 * abs(exact) + 1e-30
    if seed % 2:  # a bias is unbounded: the sums are zero, not nearly
        present = counts[counts > 0].tolist()
        columns = floor.evidence["residual"].T.tolist()
        assert all(sum(n * r for n, r in zip(present, column, strict=True)) == 0 for column in columns)


FORGERIES = {
    "a row that does not sum to zero": lambda e: e["residual"].__setitem__((0, 0), e["residual"][0, 0] + 1),
    "columns that do not": lambda e: e["residual"][0].__iadd__(np.array([1, -1, 0])),
    "a residual that wraps around": lambda e: e["residual"][0].__iadd__(np.array([2**61, 0, 0])),
    "a class too many": lambda e: e["counts"].__setitem__(2, 0),
    "a negative count": lambda e: e["counts"].__setitem__(2, -5),
    "no penalty": lambda e: e.update(l2=0.0),
    "a radius below zero": lambda e: e.update(radius=-1.0),
    "a grid too coarse": lambda e: e.update(exponent=1),
    "smoothing of one": lambda e: e.update(smoothing=1.0),
    "probabilities below zero": lambda e: e.update(exponent=-50),
    "floats": lambda e: e.update(residual=e["residual"].astype(np.float64)),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_dual_points_are_refused(forgery):
    evidence = dict(norm_floor(np.array([10, 10, 10]), 2.0, 1e-2).evidence)
    evidence |= {"counts": evidence["counts"].copy(), "residual": evidence["residual"].copy()}
    assert check.prove(evidence).value > 0.0
    forgery(evidence)
    with pytest.raises(check.Refused, match=r"do(es)? not (fit|sum)|too large|out of its range|negative|sum to 0"):
        check.prove(evidence)


def test_norm_floor_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="must be positive"):
        norm_floor(np.full(2, 5), 1.0, 0.0)
    with pytest.raises(ValueError, match="whole numbers"):
        norm_floor(np.full(2, 0.4), 1.0, 0.1)
    with pytest.raises(ValueError, match="not all of them 0"):
        norm_floor(np.zeros(2, dtype=int), 1.0, 0.1)
    with pytest.raises(InputError, match="too many"):
        norm_floor(np.ones(2000, dtype=int), 1.0, 0.1)


def test_the_statement_names_the_penalty_the_length_and_the_bias_to_the_last_digit():
    counts, radius, l2 = np.array([9, 1]), math.sqrt(128.0), 0.123456789
    said = check.statement(norm_floor(counts, radius, l2, free_bias=False).evidence)
    assert f"at most {radius!r} long" in said["scope"]
    assert f"an L2 penalty of {l2!r} on the weights of its output layer and no bias." in said["scope"]
    assert f"never longer than {radius!r}" in said["assumptions"][0]
    assert "and a bias without one." in check.statement(norm_floor(counts, radius, l2).evidence)["scope"]
