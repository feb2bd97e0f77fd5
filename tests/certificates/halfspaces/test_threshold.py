"""Threshold networks against brute force in integers over all splits, in every scale of columns."""

import time
from fractions import Fraction

import numpy as np
import pytest
from halfspace_problems import fewest, labeled, scores, splits
from hypothesis import given, settings

from thalweg.certificates.certificate.interval import Proof
from thalweg.certificates.checker.cells import integer_rows
from thalweg.certificates.checker.check import Refused, rule
from thalweg.certificates.halfspaces import listing
from thalweg.certificates.halfspaces.listing import all_splits, as_decimals
from thalweg.certificates.halfspaces.threshold import (
    Gate,
    ThresholdNetwork,
    _between,
    certify_threshold,
    fewest_errors,
)
from thalweg.errors import InputError


def errors_without_rounding(network, x, labels):
    wrong = 0
    for row, label in zip(x, labels, strict=True):
        units = [score > 0 for score in scores(row, network.weights, network.bias)]
        wrong += (any(units) if network.gate is Gate.OR else all(units)) != bool(label)
    return wrong


@settings(max_examples=20)
@given(labeled(most=5))
def test_the_fewest_errors_are_those_of_brute_force(data):
    x, labels = data
    units = splits(x)
    for gate in Gate:
        best = fewest_errors(x, labels, gate)
        assert best.bound == best.errors == fewest(units, labels, gate)
        assert best.network.errors(x, labels) == best.errors == errors_without_rounding(best.network, x, labels)
        assert best.proof is Proof.PROOF
        level = certify_threshold(x, labels, ThresholdNetwork(np.ones_like(best.network.weights), np.zeros_like(best.network.bias), gate))  # fmt: skip # noqa: E501
        assert level.bound <= level.reached <= level.loss
        assert rule("threshold")(level.evidence)[:2] == (level.loss, level.bound)


NUMBERS = np.arange(24)
NEAR = np.array([[0.0, 0.0], [-2e-4, 0.0], [1e-4, -1e5], [-1e-4, 0.0]])
HARD = [
    (np.c_[1.7e9 + NUMBERS, NUMBERS % 2], NUMBERS % 2, Gate.SINGLE, 0),
    (np.c_[1.7e9 + 86400.0 * NUMBERS, 0.1 * (NUMBERS % 2)], NUMBERS % 2, Gate.SINGLE, 0),
    (NEAR, np.array([0, 0, 1, 1]), Gate.OR, 1),
    (NEAR, np.array([0, 0, 1, 1]), Gate.AND, 0),
    (np.array([[0.1], [0.3], [0.1 + 0.2]]), np.array([0, 1, 0]), Gate.SINGLE, 1),
    (np.array([[0.1], [0.3], [0.1 + 0.2]]), np.array([0, 1, 0]), Gate.AND, 0),
    (np.array([[1e308], [-1e308], [5e-324]]), np.array([1, 0, 0]), Gate.SINGLE, 0),
]


@pytest.mark.parametrize(("x", "labels", "gate", "errors"), HARD)
def test_scales_that_float64_alone_gets_wrong(x, labels, gate, errors):
    best = fewest_errors(x, labels, gate)
    assert best.errors == best.bound == errors == errors_without_rounding(best.network, x, labels)
    level = certify_threshold(x, labels, best.network)
    assert rule("threshold")(level.evidence)[:2] == (errors, errors)


def test_answers_are_those_of_real_numbers():
    network = ThresholdNetwork(np.array([[1e-4, 1e5], [1.0, 0.0]]), np.array([1e10, 0.0]), Gate.AND)
    x = np.array([[1.0, -1e5], [-1.0, -1e5], [1e-300, -1e5], [0.0, -1e5]])
    assert network.answers(x).tolist() == [True, False, True, False]
    assert network.errors(x, [1, 1, 1, 1]) == 2


@settings(max_examples=10)
@given(labeled(most=5))
def test_conflicts_and_the_program_enclose_the_fewest(data):
    x, labels = data
    units = splits(x)
    for gate in Gate:
        found = _between(x, labels.astype(bool), gate, 10.0)
        assert found.bound <= fewest(units, labels, gate) <= found.errors == found.network.errors(x, labels)
        assert found.bound == len(found.conflicts)


def test_an_and_pays_for_a_negative_example_among_positive_ones():
    x, labels = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]), np.array([1, 0, 1, 0, 1])
    assert [_between(x, labels == 1, gate, 10.0).bound for gate in Gate] == [1, 1, 1]
    assert [fewest_errors(x, labels, gate).bound for gate in Gate] == [2, 2, 1]


@pytest.mark.parametrize("gate", [Gate.AND, Gate.OR])
def test_more_than_one_word_of_points(gate):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 2))
    labels = ((x @ [1.0, 0.5] > -0.2) & (x @ [-1.0, 1.0] > -0.5)) ^ (rng.random(90) < 0.03)
    exact = fewest_errors(x, labels, gate)
    assert exact.network.errors(x, labels) == exact.errors == exact.bound
    assert _between(x, labels, gate, 0.3).bound <= exact.errors
    if gate is Gate.AND:
        assert exact.errors <= 3


def test_sixty_random_points_in_three_dimensions():
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    best = fewest_errors(x, labels, Gate.AND)
    assert best.errors == best.bound == 13
    assert best.listed
    assert best.network.errors(x, labels) == 13


@pytest.mark.parametrize("decimals", [None, 0, 1])
def test_directions_in_float64_and_cells_in_integers_list_the_same(decimals, monkeypatch):
    x = np.random.default_rng(0).normal(size=(12, 3))
    vectors = integer_rows(np.unique(x if decimals is None else np.round(x, decimals), axis=0))
    exact = all_splits(vectors)
    monkeypatch.setattr(listing, "MAX_EXACT", 600)
    found = all_splits(vectors)
    if decimals == 1:  # planes that all but meet in one line, which directions in float64 miss
        assert found is None or len(found) == len(exact)
    else:
        assert len(found) == len(exact)
        assert len(np.unique(np.concatenate([found, exact]), axis=0)) == len(exact)


def test_decimal_numbers_are_read_where_their_floats_have_too_many_splits(monkeypatch):
    rng = np.random.default_rng(0)
    x, labels = np.round(rng.normal(size=(14, 3)), 1), rng.integers(0, 2, 14)
    exact = fewest_errors(x, labels, Gate.AND)
    monkeypatch.setattr(listing, "MAX_EXACT", 0)
    read = fewest_errors(x, labels, Gate.AND)
    assert (exact.digits, read.digits) == (None, 1)
    assert read.proof is Proof.PROOF_WITH_TOLERANCE
    assert read.bound == exact.bound
    level = certify_threshold(x, labels, read.network)
    assert level.assumptions == ("The features are read as multiples of 0.1.",)
    assert as_decimals(np.array([[0.1], [1.0 / 3.0]])) is None
    assert as_decimals(np.array([[0.1], [2.25]]))[0] == [(10, 1), (225, 1)]


def test_where_listing_is_too_much_both_ends_come_back():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 6)), rng.integers(0, 2, 60)
    for gate in Gate:
        best = fewest_errors(x, labels, gate, seconds=0.3)
        assert not best.listed
        assert 0 <= best.bound <= best.errors == best.network.errors(x, labels)
        level = certify_threshold(x, labels, best.network, seconds=0.3)
        assert level.proof is Proof.PROOF
        assert rule("threshold")(level.evidence)[:2] == (level.loss, level.bound)


def test_the_checker_refuses_what_does_not_prove_the_bound():
    x, labels = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 0])
    level = certify_threshold(x, labels, ThresholdNetwork(np.ones((1, 1)), np.array([-0.5]), Gate.SINGLE))
    evidence = dict(level.evidence)
    assert rule("threshold")(evidence)[:2] == (1.0, 1.0)
    assert rule("threshold")(evidence | {"bias": np.array([0.5])})[:2] == (2.0, 1.0)
    sets = {"example": np.array([0, 1, 2]), "set": np.zeros(3, int)}
    assert rule("threshold")(evidence | sets)[1] == 1.0
    for change, message in [
        ({"gate": "NAND"}, "no gate"),
        ({"weights": np.ones((2, 1))}, "do not fit the gate"),
        ({"label": np.array([0, 2, 0])}, "do not fit"),
        (sets | {"set": np.array([0, 0, 1])}, "does not prove an error"),
        (sets | {"example": np.array([0, 1, 1])}, "belongs to two sets"),
        (sets | {"example": np.array([0, 1, 3])}, "names no example"),
        ({"X": np.random.default_rng(0).normal(size=(60, 3)), "label": np.arange(60) % 2, "weights": np.ones((1, 3))},
         "too many ways to list"),
    ]:  # fmt: skip
        with pytest.raises(Refused, match=message):
            rule("threshold")(evidence | change)
    both = {"gate": "AND", "weights": np.ones((2, 1)), "bias": np.zeros(2)}
    with pytest.raises(Refused, match="does not fit the gate"):
        rule("threshold")(evidence | both | sets)


EXTREME = np.where(np.arange(220_000).reshape(11, -1) % 3 > 0, 1e308, 1e-308)


@pytest.mark.parametrize(
    ("x", "weights", "message"),
    [
        (EXTREME, np.zeros(20_000), "too many ways to list"),
        (np.ones((1_000_000, 1)), np.zeros(1), "too many ways to list"),
        (np.ones((200_000, 2)), np.array([1.0, -1.0]), "too close to the boundary"),
    ],
)
def test_the_checker_does_not_work_for_long(x, weights, message):
    evidence = {"rule": "threshold", "X": x, "label": np.arange(len(x)) % 2, "gate": "SINGLE", "weights": weights[None]}
    start = time.process_time()
    with pytest.raises((Refused, ValueError), match=message):
        rule("threshold")(evidence | {"bias": np.zeros(1)})
    assert time.process_time() - start < 10.0


def test_the_scope_names_what_is_fixed():
    x, labels = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 0])
    level = certify_threshold(x, labels, ThresholdNetwork(np.ones((1, 1)), np.array([-0.5]), Gate.SINGLE))
    assert level.scope == (
        "No weights and biases make one threshold unit wrong on fewer of these 3 examples than this bound; their "
        "features and labels are fixed."
    )


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        ([[np.inf]], [1], "NaN or infinity"),
        ([[1.0]], [2], "labels 0 or 1"),
        ([[1.0]], [], "one per"),
        ([], [], "with a row"),
    ],
)
def test_bad_input_is_told(x, labels, message):
    with pytest.raises(InputError, match=message):
        fewest_errors(np.array(x), np.array(labels), Gate.AND)


def test_numbers_too_far_apart_for_weights_keep_the_bound():
    """Neighbors in float64 around a line: the split exists, and the bound counts it, whatever weights are found."""
    x = np.array([[1.7e9, 0.0], [np.nextafter(1.7e9, 2e9), 1e-6], [np.nextafter(1.7e9, 0.0), 2e-6], [1.7e9, 3e-6]])
    for labels in ([0, 1, 0, 1], [1, 0, 0, 1]):
        for gate in Gate:
            best = fewest_errors(x, np.array(labels), gate)
            assert best.bound == fewest(splits(x), np.array(labels, bool), gate) <= best.errors
            assert Fraction(best.errors) == errors_without_rounding(best.network, x, labels)
