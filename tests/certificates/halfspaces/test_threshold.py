"""Threshold networks against brute force over all splits that linear programs find."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from thalweg.certificates.certificate.interval import Proof
from thalweg.certificates.checker.check import Refused, rule
from thalweg.certificates.halfspaces.threshold import (
    Gate,
    ThresholdNetwork,
    _by_program,
    certify_threshold,
    fewest_errors,
)
from thalweg.errors import InputError


def splits(x):
    """All ways in which a threshold unit can answer, one linear program for each subset of the different points."""
    points, place = np.unique(x, axis=0, return_inverse=True)
    rows = np.c_[points, np.ones(len(points))]
    found = []
    for answers in itertools.product((False, True), repeat=len(points)):
        signed = -np.where(answers, 1.0, -1.0)[:, None] * rows
        solved = linprog(
            np.r_[np.zeros(rows.shape[1]), -1.0], A_ub=np.c_[signed, np.ones(len(points))], b_ub=np.zeros(len(points)),
            bounds=[(-1, 1)] * x.shape[1] + [(None, None), (None, 1)],
        )  # fmt: skip
        if -solved.fun > 1e-8:
            found.append(np.array(answers)[place.ravel()])
    return np.array(found)


def brute(units, labels, gate):
    if gate is Gate.SINGLE:
        return int((units != labels).sum(1).min())
    join = np.logical_and if gate is Gate.AND else np.logical_or
    return min(int((join(a, b) != labels).sum()) for a in units for b in units)


@st.composite
def small(draw):
    """At most five points of a tiny grid: duplicates with either label, collinear points, one class missing."""
    num, dimension = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    points = draw(st.lists(st.integers(-1, 1), min_size=num * dimension, max_size=num * dimension))
    return np.array(points, float).reshape(num, dimension), np.array(
        draw(st.lists(st.booleans(), min_size=num, max_size=num))
    )


@settings(max_examples=12)
@given(small())
def test_the_fewest_errors_are_those_of_brute_force(data):
    x, labels = data
    units = splits(x)
    for gate in Gate:
        best = fewest_errors(x, labels, gate)
        assert best.errors == best.bound == best.network.errors(x, labels) == brute(units, labels, gate)
        assert best.proof is Proof.PROOF
        level = certify_threshold(x, labels, ThresholdNetwork(np.ones((1 + (gate is not Gate.SINGLE), x.shape[1])), np.zeros(1 + (gate is not Gate.SINGLE)), gate))  # fmt: skip # noqa: E501
        assert level.bound <= level.reached <= level.loss
        assert rule("threshold")(level.evidence) == (level.loss, level.bound)


@settings(max_examples=6)
@given(small())
def test_the_mixed_integer_program_agrees(data):
    x, labels = data
    for gate in Gate:
        exact, program = fewest_errors(x, labels, gate), _by_program(x, labels, gate, 10.0)
        assert program.bound <= exact.errors == program.errors == program.network.errors(x, labels)
        assert program.proof is Proof.PROOF_WITH_TOLERANCE


@pytest.mark.parametrize("gate", [Gate.AND, Gate.OR])
def test_more_than_one_word_of_points_agrees_with_the_program(gate):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 2))
    labels = ((x @ [1.0, 0.5] > -0.2) & (x @ [-1.0, 1.0] > -0.5)) ^ (rng.random(90) < 0.03)
    exact = fewest_errors(x, labels, gate)
    assert exact.network.errors(x, labels) == exact.errors
    if gate is Gate.AND:
        assert exact.errors <= 3
        assert _by_program(x, labels, gate, 1.0).errors >= exact.errors


def test_sixty_random_points_in_three_dimensions():
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    best = fewest_errors(x, labels, Gate.AND)
    assert best.errors == 13
    assert best.listed
    assert best.network.errors(x, labels) == 13


def test_where_listing_is_too_much_both_ends_come_back():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 12)), rng.integers(0, 2, 40)
    best = fewest_errors(x, labels, Gate.AND, seconds=1.0)
    assert not best.listed
    assert best.bound <= best.errors == best.network.errors(x, labels)
    level = certify_threshold(x, labels, best.network, seconds=1.0)
    assert any("margin of 0.001" in sentence for sentence in level.assumptions)


def test_the_checker_refuses_a_missing_split():
    x, labels = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 0])
    level = certify_threshold(x, labels, ThresholdNetwork(np.ones((1, 1)), np.array([-0.5]), Gate.SINGLE))
    evidence = dict(level.evidence)
    evidence["inside"] = evidence["inside"][1:]
    with pytest.raises(Refused, match="there are more"):
        rule("threshold")(evidence)


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [([[np.inf]], [1], "NaN or infinity"), ([[1.0]], [2], "labels 0 or 1"), ([[1.0]], [], "one per")],
)
def test_bad_input_is_told(x, labels, message):
    with pytest.raises(InputError, match=message):
        fewest_errors(np.array(x), np.array(labels), Gate.AND)
