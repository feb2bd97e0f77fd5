"""The rule two_layer: bounds that hold literally, and evidence that proves less than it says is refused."""

import dataclasses
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from thalweg.certificates.certificate.interval import Interval
from thalweg.certificates.checker import cells, moments, networks, rules
from thalweg.certificates.checker.check import Refused, check, prove
from thalweg.certificates.losses import SoftmaxLoss
from thalweg.certificates.number_losses import SquaredLoss
from thalweg.certificates.two_layer.evidence import moments_proof, problem_evidence, signs_proof
from thalweg.certificates.two_layer.level import certify_point
from thalweg.certificates.two_layer.neurons import Bias
from thalweg.certificates.two_layer.oracles import oracle_of
from thalweg.certificates.two_layer.point import TwoLayerPoint
from thalweg.certificates.two_layer.problem import TwoLayerProblem, Weights
from thalweg.certificates.two_layer.relaxed_oracle import RelaxedOracle
from thalweg.certificates.two_layer.semidefinite import Relaxation


def problem_of(method, *, num=12, hidden=Bias.NONE, output=Bias.NONE, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(num, 2 if method == "fan" else 3))
    targets = torch.from_numpy(rng.integers(-2, 3, (num, 1)).astype(float))
    if method == "several":
        return TwoLayerProblem(features, SoftmaxLoss.of_labels(torch.arange(num) % 3, 3), 0.02, 0.1, hidden, output)
    return TwoLayerProblem(features, SquaredLoss(targets), 0.05, 0.1, hidden, output)


def certified(method, **options):
    """A certificate by one method; three units of which one is inactive are the point."""
    problem = problem_of(method, **options)
    width, dimension = problem.loss.num_outputs, problem.features.shape[1]
    rng = np.random.default_rng(1)
    ingoing, outgoing = rng.normal(size=(3, dimension)), rng.normal(size=(3, width))
    weights = Weights(ingoing, np.zeros(3), outgoing, np.zeros(width), np.zeros((dimension, width)))
    oracle = RelaxedOracle(problem.features, problem.hidden_bias, 0.1) if method == "moments" else oracle_of(problem)
    level, solution = certify_point(TwoLayerPoint(problem, weights), oracle, seconds=60.0, steps=200)
    if method == "signs":
        searched = RelaxedOracle(problem.features, problem.hidden_bias, 0.1)
        kept = problem_evidence(problem, weights, 0.0, {})
        dual = problem.dual_point(problem.predictions(solution.weights))
        proof = signs_proof(kept, problem, dual, searched)
        assert proof is not None
        evidence, found = proof
        level = dataclasses.replace(level, bound=rules.claim(found), evidence=evidence, **rules.statement(evidence))
    return level


METHODS = ["fan", "cells", "signs", "moments", "several"]


@pytest.fixture(scope="module")
def levels():
    return {method: certified(method) for method in METHODS}


TAMPERED = [
    ("residual", lambda value: 2 * value),
    ("scale", lambda value: value * (1.0 + 1e-9)),
    ("T", lambda value: (value + 1) % 3 if value.dtype.kind == "i" else value + 0.1),
    ("U", lambda value: value * 1.01),
    ("l2", lambda value: 0.9 * value),
    ("leak", lambda value: value + 0.1),
    ("X", lambda value: value * 1.01),
    ("hidden_bias", lambda _: "FREE"),
    ("output_bias", lambda _: "FREE"),
    ("skip", lambda _: 1),
    ("method", lambda value: "cells" if value == "fan" else "fan"),
]


@pytest.mark.parametrize("method", METHODS)
def test_tampered_evidence_is_refused(levels, method, tmp_path):
    level, path = levels[method], tmp_path / "certificate.json"
    assert level.evidence["method"] == {"several": "moments"}.get(method, method)
    Interval(loss=level.loss, levels=(level,), unit=level.unit).save(path)
    assert check(path).bound_verified
    for name, change in TAMPERED:
        evidence = {**level.evidence, name: change(level.evidence[name])}
        Interval(loss=level.loss, levels=(dataclasses.replace(level, evidence=evidence),), unit=level.unit).save(path)
        assert check(path).refused, name


FORGED = [
    ("cells", {"multiplier": lambda value: -value}, "negative"),
    ("cells", {"multiplier": lambda value: 0.0 * value}, "not feasible"),
    ("cells", {"side": lambda value: 0 * value}, "neither 1 nor -1"),
    ("cells", {"cell": lambda value: value + 10**6}, "not feasible"),
    ("signs", {"theta": lambda value: value + 1.0}, "out of range"),
    ("signs", {"delta": lambda value: -value}, "out of range"),
    ("signs", {"delta": lambda value: 1.0 + 0.0 * value}, "not feasible"),
    ("signs", {"axes": lambda value: 0.5 * value}, "not orthonormal"),
    ("signs", {"axes": lambda value: value[:, :2]}, "not feasible"),
    ("moments", {"axes": lambda value: value[:, :2]}, "not feasible"),
    ("moments", {"products": lambda value: -value}, "negative"),
    ("moments", {"products": lambda value: value + np.tri(value.shape[1], dtype=np.float32)}, "not symmetric"),
    ("moments", {"products": lambda value: 1.1 * value}, "not feasible"),
    ("moments", {"own": lambda value: 1.0 + value}, "not feasible"),
    ("moments", {"share": lambda value: 1e250 * value}, "not feasible"),
    ("moments", {"own": lambda value: 1e250 * value}, "not feasible"),
    ("moments", {"share": lambda value: 1.01 * value}, "not feasible"),
    ("moments", {"sign": lambda value: np.abs(value)}, "do not cover"),
    ("moments", {"sign": lambda value: value[:1], "products": lambda value: value[:1]}, "do not cover"),
    ("moments", {"unit": lambda value: 3.0 * value}, "no power of two"),
    ("moments", {"cone": lambda value: 1.1 * value}, "not feasible"),
    ("several", {"cone": lambda value: 1.2 * value}, "not feasible"),
    ("several", {"sign": lambda value: 1.0 + value}, "do not cover"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "changes", "message"), FORGED)
def test_proofs_that_do_not_prove_are_refused(levels, method, changes, message):
    evidence = dict(levels[method].evidence)
    evidence |= {name: change(evidence[name]) for name, change in changes.items()}
    with pytest.raises(Refused, match=message):
        prove(evidence)


def test_a_free_bias_needs_residuals_that_sum_to_zero(levels):
    evidence = {**levels["fan"].evidence, "hidden_bias": "FREE"}
    with pytest.raises(Refused, match="sum to 0"):
        prove(evidence)
    with pytest.raises(Refused, match="sum to 0"):
        prove({**evidence, "free_bias": 1})


@pytest.mark.parametrize("hidden", list(Bias))
def test_a_kink_far_away_is_not_needed(hidden):
    """The ellipsoid that a free bias stays in: without its multiplier the same proof is none."""
    problem = problem_of("several", hidden=hidden)
    weights, relaxation = problem_weights(problem), Relaxation(problem)
    found = relaxation.solve(weights, 60.0, np.inf, 200)
    assert found is not None
    proof = moments_proof(problem_evidence(problem, weights, 0.0, {}), problem, found, relaxation)
    assert proof is not None
    evidence: dict[str, Any] = proof[0]
    assert prove(evidence).value > 0.0
    if hidden is Bias.FREE:
        with pytest.raises(Refused, match="negative"):
            prove({**evidence, "hull": -evidence["hull"]})
        with pytest.raises(Refused, match="not feasible"):
            prove({**evidence, "H": 10.0 * evidence["H"], "hull": 10.0 * evidence["hull"]})
        for change, message in ((-1.0, "negative"), (1e3, "not feasible")):
            with pytest.raises(Refused, match=message):
                prove({**evidence, "reach": evidence["reach"] + np.float32(change)})


def test_no_row_is_farther_than_the_farthest():
    rng = np.random.default_rng(0)
    for scale in (1e-200, 1e-6, 1.0, 1e6, 1e140):
        rows = scale * rng.normal(size=(9, 3))
        exact = [[sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x, y, strict=True)) for y in rows] for x in rows]
        found = moments.farthest(rows, rules)
        assert all(Fraction(far) ** 2 >= max(square) for far, square in zip(found, exact, strict=True))
        assert found == pytest.approx([max(np.linalg.norm((rows - row) / scale, axis=1)) * scale for row in rows])


def exact_loss(problem, weights):
    """Half the mean squared error with its penalties, in fractions."""

    def whole(array):
        return [[Fraction(x) for x in row] for row in np.atleast_2d(array).tolist()]

    x, ingoing, outgoing = whole(problem.features), whole(weights.ingoing), whole(weights.outgoing)
    leak, total = Fraction(problem.leak), Fraction(0)
    for row, (target,) in zip(x, whole(problem.loss.targets.numpy()), strict=True):
        z = Fraction(0)
        for unit, (out,) in zip(ingoing, outgoing, strict=True):
            hidden = sum(a * b for a, b in zip(row, unit, strict=True))
            z += out * (hidden if hidden > 0 else leak * hidden)
        total += (z - target) ** 2 / (2 * len(x))
    squares = sum(a * a for part in (ingoing, outgoing) for row in part for a in row)
    return total + Fraction(problem.l2) * squares / 2


@pytest.mark.parametrize("method", ["fan", "cells"])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_bound_is_below_the_best_network_in_exact_arithmetic(method, scale):
    """At a relative gap of 1e-9 at most, so that a bound that rounding lifted by more would lie above."""
    for seed in range(4):
        problem = problem_of(method, num=9, seed=seed)
        decimals = np.round(problem.features, 1)  # points in line, but for the rounding of decimals
        problem = dataclasses.replace(problem, features=scale * decimals, l2=scale * problem.l2)
        oracle = oracle_of(problem)
        level, solution = certify_point(TwoLayerPoint(problem, problem_weights(problem)), oracle, max_rounds=60)
        best = exact_loss(problem, problem.balanced(solution.weights))
        assert Fraction(level.bound) <= best
        assert best - Fraction(level.bound) <= Fraction(1, 10**7) * best
        claimed = prove(level.evidence)
        assert claimed.error <= 1e-11 * claimed.size


def problem_weights(problem):
    dimension, width = problem.features.shape[1], problem.loss.num_outputs
    ingoing, outgoing = np.zeros((1, dimension)), np.zeros((1, width))
    return Weights(ingoing, np.zeros(1), outgoing, np.zeros(width), np.zeros((dimension, width)))


@pytest.mark.parametrize("hidden", list(Bias))
def test_every_side_of_every_row_is_listed(hidden):
    rng = np.random.default_rng(0)
    features = np.round(rng.normal(size=(7, 2)), 1)
    features[3], features[5] = features[2], 0.0
    for whole, rows in networks.vectors({"hidden_bias": hidden.name}, features, cells):
        signs = networks.signs_of(whole, cells)
        directions = rng.normal(size=(20_000, rows.shape[1]))
        seen = {tuple(row) for row in np.sign(directions @ rows.T).astype(int)}
        assert seen <= {tuple(row) for row in signs.astype(int).tolist()}
        assert len(signs) == cells.count_cells(whole)


def test_an_ellipsoid_holds_its_rows_whatever_the_axes():
    rng = np.random.default_rng(0)
    for axes in (np.eye(3), np.diag([1e-3, 1.0, 1e3]), rng.normal(size=(3, 3))):
        rows = rng.normal(size=(20, 3))
        inside = moments.ellipsoid(axes, rows, rules)
        for row in rows:
            assert np.linalg.eigvalsh(inside - np.outer(row, row))[0] >= -1e-9 * np.abs(inside).max()


@pytest.mark.parametrize("seed", range(12))
def test_a_fan_holds_every_direction_and_is_tight(seed):
    """Also where angles are equal, opposite or of rows that are zero; the sums run over the sorted angles."""
    rng = np.random.default_rng(seed)
    x = (
        rng.integers(-1, 2, (9, 2)).astype(float)
        if seed % 2
        else rng.normal(size=(9, 2)) * 10.0 ** rng.integers(-6, 7, 2)
    )
    plain, leak = rng.normal(size=(9, 1 + seed % 3)), [0.0, 0.01, 0.5, 1.0, -0.5, 2.0][seed % 6]
    angle = np.linspace(0.0, 2.0 * np.pi, 20_001)
    size = np.abs(x).max(0)  # so that directions of both scales are looked at
    directions = np.stack([np.cos(angle) / size[0], np.sin(angle) / size[1]], 1)
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    before = directions @ x.T
    value = float(np.linalg.norm(np.where(before > 0, before, leak * before) @ plain, axis=1).max())
    evidence = {"leak": leak, "hidden_bias": "NONE"}
    networks.by_fan(evidence, x, plain, value * (1 + 1e-3), rules)
    with pytest.raises(Refused, match="not feasible"):
        networks.by_fan(evidence, x, plain, value * (1 - 1e-9), rules)


def test_a_fan_of_many_points_takes_little_memory():
    rng = np.random.default_rng(0)
    x, plain = rng.normal(size=(30_000, 2)), rng.normal(size=(30_000, 1))
    tracemalloc.start()
    try:
        networks.by_fan({"leak": 0.0, "hidden_bias": "NONE"}, x, plain, 1e6, rules)
        assert tracemalloc.get_traced_memory()[1] < 50 * x.nbytes  # the square of the number would be 15,000 times it
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", ["fan", "signs", "moments"])
def test_what_would_take_minutes_is_refused(levels, method):
    number = 30_000
    evidence = {**levels["fan"].evidence, "method": method, "hidden_bias": "FREE", "output_bias": "FREE"}
    evidence |= {
        "free_bias": 1,
        "X": np.arange(2.0 * number).reshape(-1, 2),
        "residual": np.zeros((number, 1), np.int64),
    }
    with pytest.raises(Refused, match="too large to be verified"):
        prove(evidence)


def test_more_units_than_fit_into_memory_are_refused(levels):
    evidence = dict(levels["fan"].evidence)
    evidence |= {"U": np.zeros((10_000_000, 2)), "u": np.zeros(10_000_000), "A": np.zeros((10_000_000, 1))}
    with pytest.raises(Refused, match="too large to be verified"):
        prove(evidence)
