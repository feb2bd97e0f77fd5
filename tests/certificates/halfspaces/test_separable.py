"""Separability: hyperplanes that are right, or a few points that prove there are none, checked in rational numbers."""

import numpy as np
import pytest
from halfspace_problems import labeled, scores, separable_in_integers
from hypothesis import given, settings
from scipy import sparse

from thalweg.certificates.checker.check import Refused, rule
from thalweg.certificates.checker.conflicts import multipliers
from thalweg.certificates.halfspaces.separable import disjoint_conflicts, separability
from thalweg.certificates.halfspaces.simplex import widest
from thalweg.certificates.halfspaces.threshold import Gate, fewest_errors
from thalweg.errors import InputError

CORNERS = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])


def right_without_rounding(found, x, sign):
    values = [scores(row, [found.weight], [found.bias])[0] for row in x]
    return all(s * value > 0 for s, value in zip(sign.tolist(), values, strict=True))


@settings(max_examples=60)
@given(labeled())
def test_either_answer_is_that_of_integers_in_every_scale(data):
    x, labels = data
    sign = np.where(labels, 1, -1)
    found = separability(x, sign)
    assert found.separable == separable_in_integers(x, labels)
    if found.separable:
        assert right_without_rounding(found, x, sign)
        assert not len(found.points)
    else:
        assert len(found.points) <= x.shape[1] + 2
        assert not separable_in_integers(x[found.points], labels[found.points])
        assert found.multiplier.sum() == pytest.approx(1.0)
        assert (found.multiplier > 0.0).all()


@settings(max_examples=30)
@given(labeled(most=6))
def test_conflicts_bound_the_errors(data):
    x, labels = data
    found = disjoint_conflicts(x, np.where(labels, 1, -1))
    least = fewest_errors(x, labels, Gate.SINGLE).errors
    assert not found.stopped
    assert len(found.sets) <= least
    assert (len(found.sets) == 0) == (least == 0)
    points = np.concatenate([part.points for part in found.sets]) if found.sets else np.zeros(0)
    assert len(np.unique(points)) == len(points)
    assert found.rest is not None


NUMBERS = np.arange(24)
HARD = {
    # A large number that counts up beside the one column that matters.
    "clock": (np.c_[1.7e9 + NUMBERS, NUMBERS % 2], NUMBERS % 2, True),
    "days": (np.c_[1.7e9 + 86400.0 * NUMBERS, 0.1 * (NUMBERS % 2)], NUMBERS % 2, True),
    # Neighbors in float64: there is one threshold between them.
    "neighbors": (np.array([[1.7e9], [np.nextafter(1.7e9, 2e9)]]), np.array([0, 1]), True),
    "tenths": (np.array([[0.1], [0.2], [0.1 + 0.2], [0.3]]), np.array([0, 0, 1, 0]), True),
    "tenths, wrong": (np.array([[0.1], [0.2], [0.1 + 0.2], [0.3]]), np.array([0, 0, 0, 1]), False),
    # One step of the last digit off the line through two points of the other class, on either side.
    "above the line": (np.array([[0.0, 0.0], [2.0, 2.0], [1.0, np.nextafter(1.0, 2.0)]]), np.array([0, 0, 1]), True),
    "on the line": (np.array([[0.0, 0.0], [2.0, 2.0], [1.0, 1.0]]), np.array([0, 0, 1]), False),
    "extremes": (np.array([[1e308], [-1e308], [5e-324]]), np.array([1, 0, 1]), True),
    "contradiction": (np.array([[1e-300, 7.0], [1e-300, 7.0]]), np.array([0, 1]), False),
    "no columns that vary": (np.full((3, 2), 1e9), np.array([0, 1, 1]), False),
}


@pytest.mark.parametrize("name", HARD)
def test_what_float64_alone_gets_wrong(name):
    x, labels, separable = HARD[name]
    sign = np.where(labels, 1, -1)
    found = separability(x, sign)
    assert found.separable == separable == separable_in_integers(x, labels)
    assert not separable or right_without_rounding(found, x, sign)


@pytest.mark.parametrize("columns", [40, 90])
def test_many_columns_are_proved_by_an_enclosure(columns):
    """As many points as columns and 2, random and with integers that differ: one conflict; without a point: none."""
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.normal(size=(columns + 2, columns // 2)), rng.integers(-9, 9, size=(columns + 2, columns // 2))], 1
    )
    kernel = np.linalg.svd(np.c_[x, np.ones(len(x))].T)[2][-1]
    found = separability(x * 10.0 ** rng.integers(-6, 7, columns), np.sign(kernel))
    assert len(found.points) == columns + 2
    assert np.sort(found.multiplier) == pytest.approx(np.sort(np.abs(kernel) / np.abs(kernel).sum()), rel=1e-6)
    own = (kernel > 0).astype(int)
    assert multipliers(x[1:], own[1:], 1 - own[1:])[0] is None
    assert multipliers(x, np.r_[1 - own[:1], own[1:]], np.r_[own[:1], 1 - own[1:]])[0] is None


def test_enclosures_and_eliminations_agree():
    rng = np.random.default_rng(1)
    for _ in range(40):
        columns = int(rng.integers(1, 6))
        x, own = rng.normal(size=(columns + 2, columns)), rng.integers(0, 2, columns + 2)
        enclosed = multipliers(x, own, 1 - own)[0]
        by_integers = multipliers(x, own, 1 - own, margin=np.inf)[0]
        assert (enclosed is None) == (by_integers is None)
        assert enclosed is None or enclosed == pytest.approx(by_integers)


def test_the_widest_margin_in_integers_is_that_of_the_linear_program():
    separable, weights = widest([[3, 1], [1, 2]], 10.0)
    assert separable
    assert weights.tolist() == [1.0, 1.0]
    assert widest([[3, 1], [-3, -1], [5, 5]], 10.0)[1].tolist() == [0, 1]
    assert widest([[1, 0], [0, 1]], 0.0) is None


def test_the_margin_is_that_of_the_hyperplane():
    x, sign = np.array([[0.0, 0.0], [3.0, 1.0]]), np.array([-1, 1])
    found = separability(x, sign)
    assert found.margin == pytest.approx((sign * (x @ found.weight + found.bias)).min())
    assert np.abs(found.weight).max() == pytest.approx(1.0)


def test_sparse_features_give_the_same():
    rng = np.random.default_rng(0)
    x, sign = rng.normal(size=(60, 5)), rng.choice([-1, 1], 60)
    dense, packed = separability(x, sign), separability(sparse.csr_matrix(x), sign)
    assert dense.separable == packed.separable
    assert multipliers(x[packed.points], (sign[packed.points] > 0).astype(int), (sign[packed.points] < 0).astype(int))
    twice = sparse.csr_matrix(np.concatenate([x, x[:3]]))
    found = disjoint_conflicts(twice, np.r_[sign, -sign[:3]])
    assert [part.points.tolist() for part in found.sets[:3]] == [[0, 60], [1, 61], [2, 62]]


def test_one_wrong_label_in_wide_data_is_separable():
    rng = np.random.default_rng(0)
    x = sparse.random(100, 500, 0.05, format="csr", random_state=0)
    found = separability(x, rng.choice([-1, 1], 100))
    assert found.separable
    assert found.margin > 0.0


def test_a_search_that_stops_says_so():
    rng = np.random.default_rng(0)
    x, sign = rng.normal(size=(300, 10)), rng.choice([-1, 1], 300)
    assert disjoint_conflicts(x, sign, at_most=3).stopped == "3 were asked for"
    assert len(disjoint_conflicts(x, sign, at_most=3).sets) == 3
    assert "time" in disjoint_conflicts(x, sign, seconds=0.0).stopped
    with pytest.raises(InputError, match="time for the linear program was over"):
        separability(x, sign, seconds=0.0)


def evidence_of(x, sign, points, owner=None):
    label = (sign > 0).astype(int)
    return {
        "rule": "separable", "X": x[points], "label": label, "answer": 0 * label, "rival": 1 - label[points],
        "example": points, "set": np.zeros(len(points), int) if owner is None else owner, "stopped": 0,
    }  # fmt: skip


def test_the_checker_verifies_the_points():
    sign = np.array([-1, -1, 1, 1])
    found = separability(CORNERS, sign)
    evidence = evidence_of(CORNERS, sign, found.points)
    assert rule("separable")(evidence) == (2.0, 1.0)
    twice = evidence_of(CORNERS, sign, np.r_[found.points, found.points], np.repeat([0, 1], 4))
    with pytest.raises(Refused, match="belongs to two sets"):
        rule("separable")(twice)
    with pytest.raises(Refused, match="does not prove an error"):
        rule("separable")(evidence_of(CORNERS, sign, found.points[:3]))
    with pytest.raises(Refused, match="is two points"):
        rule("separable")(evidence | {"example": np.array([0, 0, 2, 3])})
    near = CORNERS * [1.0, 1e-9]
    near[1, 1] = np.nextafter(near[1, 1], 1.0)
    assert rule("separable")(evidence | {"X": near})[1] == 1.0  # the diagonals still cross
    line = np.array([[0.0, 0.0], [2.0, 2.0], [1.0, np.nextafter(1.0, 2.0)]])
    with pytest.raises(Refused, match="does not prove an error"):
        rule("separable")(evidence_of(line, np.array([-1, -1, 1]), np.arange(3)))


def test_the_checker_does_not_work_for_long():
    many = np.repeat(np.arange(40), 82)
    x = np.random.default_rng(0).integers(-(2**50), 2**50, size=(len(many), 120)).astype(float)
    x[:, 80:] = x[:, :40]  # so that integers would have to be eliminated
    evidence = evidence_of(x, np.arange(len(many)) % 2, np.arange(len(many)), many)
    with pytest.raises(Refused, match="take too long to be verified"):
        rule("separable")(evidence)


@pytest.mark.parametrize(
    ("x", "sign", "message"),
    [
        (np.array([[np.nan]]), np.array([1]), "NaN or infinity"),
        (np.array([[1.0]]), np.array([0]), "signs -1 or 1"),
        (np.array([[1.0]]), np.array([1, 1]), "Expected 1 signs"),
        (np.array([1.0]), np.array([1]), "must be a matrix"),
    ],
)
def test_bad_input_is_told(x, sign, message):
    with pytest.raises(InputError, match=message):
        separability(x, sign)


@pytest.mark.parametrize(
    "x",
    [
        np.array([[2**53], [2**53 + 1]]),
        np.array([[2**64 - 1], [2**64 - 2]], dtype=np.uint64),
        np.array([[1], [1 + np.longdouble(2) ** -60]]),
        np.array([[2**70], [2**70 + 1]], dtype=object),
        sparse.csr_array(np.array([[2**53], [2**53 + 1]])),
    ],
)
def test_numbers_that_float64_would_round_are_refused(x):
    """Two different points became one, and were "proved" to be inseparable."""
    with pytest.raises(InputError, match="The features hold numbers that float64 has no room for"):
        separability(x, np.array([-1, 1]))


def test_numbers_of_other_types_are_what_they_are():
    for kind in (np.uint8, np.int64, np.float32, np.float16, bool, object, np.longdouble):
        assert separability(np.array([[0], [1]], dtype=kind), np.array([-1, 1])).separable
    with pytest.raises(InputError, match="The features must be real numbers; got an array of the type complex128"):
        separability(np.array([[0], [1j]]), np.array([-1, 1]))
    with pytest.raises(InputError, match="The features must be real numbers; got an array of the type object"):
        separability(np.array([["a"], [1]], dtype=object), np.array([-1, 1]))
    with pytest.raises(InputError, match="float64 has no room"):
        fewest_errors(np.array([[2**53], [2**53 + 1]]), np.array([0, 1]), Gate.SINGLE)
