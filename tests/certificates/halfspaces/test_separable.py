"""Separability: hyperplanes that are right, or a few points that prove there are none, checked in rational numbers."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import nn

from thalweg.certificates.checker.check import Refused, rule
from thalweg.certificates.halfspaces.level import separable_level
from thalweg.certificates.halfspaces.separable import (
    disjoint_conflicts,
    layer_separable,
    separability,
)
from thalweg.certificates.halfspaces.threshold import Gate, fewest_errors
from thalweg.errors import InputError
from thalweg.objective import Objective


def exactly_inseparable(x, sign, points):
    """Whether the hulls of the given points have a point in common, in rational arithmetic on the numbers as stored.

    False says that these points alone do not prove it: rounding may have named one that is not needed, or one too few.
    """
    rows = [[Fraction(float(sign[i]) * float(value)) for value in (*x[i], 1.0)] for i in points]
    return positive_kernel([list(column) for column in zip(*rows, strict=True)], len(rows))


def positive_kernel(matrix: list[list[Fraction]], num: int) -> bool:
    """Whether a kernel of dimension one is spanned by a vector of one sign (zeros allowed), by elimination."""
    pivots: list[int] = []
    row = 0
    for column in range(num):
        place = next((i for i in range(row, len(matrix)) if matrix[i][column] != 0), None)
        if place is None:
            continue
        matrix[row], matrix[place] = matrix[place], matrix[row]
        head = matrix[row][column]
        matrix[row] = [value / head for value in matrix[row]]
        for i in range(len(matrix)):
            if i != row and matrix[i][column] != 0:
                factor = matrix[i][column]
                matrix[i] = [a - factor * b for a, b in zip(matrix[i], matrix[row], strict=True)]
        pivots.append(column)
        row += 1
    free = [column for column in range(num) if column not in pivots]
    if len(free) != 1:
        return False
    vector = [-matrix[i][free[0]] for i in range(len(pivots))]
    return all(value >= 0 for value in vector)


@st.composite
def labeled(draw, most=10):
    """Points on a small grid (ties, duplicates, collinear ones) with signs; sometimes one kind is missing."""
    num, dimension = draw(st.integers(1, most)), draw(st.integers(1, 3))
    points = draw(st.lists(st.integers(-2, 2), min_size=num * dimension, max_size=num * dimension))
    signs = draw(st.lists(st.sampled_from([-1, 1]), min_size=num, max_size=num))
    return np.array(points, float).reshape(num, dimension), np.array(signs)


@settings(max_examples=30)
@given(labeled())
def test_either_a_hyperplane_or_a_proof_without_rounding(data):
    x, sign = data
    found = separability(x, sign)
    if found.separable:
        assert (sign * (x @ found.weight + found.bias) > 0.0).all()
        assert not len(found.points)
    else:
        assert len(found.points) <= x.shape[1] + 2
        assert exactly_inseparable(x, sign, found.points)
        assert found.multiplier.sum() == pytest.approx(1.0)


@settings(max_examples=20)
@given(labeled())
def test_conflicts_bound_the_errors(data):
    x, sign = data
    conflicts = disjoint_conflicts(x, sign)
    least = fewest_errors(x, sign > 0, Gate.SINGLE).errors
    assert len(conflicts) <= least
    assert (len(conflicts) == 0) == (least == 0)
    points = np.concatenate([part.points for part in conflicts]) if conflicts else np.zeros(0)
    assert len(np.unique(points)) == len(points)


def test_the_margin_is_the_largest():
    x, sign = np.array([[0.0, 0.0], [3.0, 1.0]]), np.array([-1, 1])
    found = separability(x, sign)
    assert found.margin == pytest.approx(2.0)  # half the distance in the sum of absolute differences
    assert np.abs(found.weight).max() == pytest.approx(1.0)


def test_sparse_features_give_the_same():
    rng = np.random.default_rng(0)
    x, sign = rng.normal(size=(60, 5)), rng.choice([-1, 1], 60)
    dense, packed = separability(x, sign), separability(sparse.csr_matrix(x), sign)
    assert dense.separable == packed.separable
    assert packed.residual < 1e-12


def test_one_wrong_label_in_wide_data_is_separable():
    rng = np.random.default_rng(0)
    x = sparse.random(100, 500, 0.05, format="csr", random_state=0)
    found = separability(x, rng.choice([-1, 1], 100))
    assert found.separable
    assert found.margin > 0.0


@settings(max_examples=12)
@given(labeled(most=7))
def test_a_layer_separates_two_classes_when_a_hyperplane_does(data):
    x, sign = data
    labels = (sign > 0).astype(int)
    separates, weight, bias = layer_separable(x, labels)
    assert separates == separability(x, sign).separable
    if separates and labels.max() == 1:
        assert ((x @ weight.T + bias).argmax(1) == labels).all()


def test_a_layer_for_three_classes():
    x = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0], [0.0, 0.0]])
    assert layer_separable(x[:3], np.array([0, 1, 2]))[0]
    inside = layer_separable(np.vstack([x, x[:1]]), np.array([0, 1, 2, 0, 1]))
    assert not inside[0]
    assert not inside[1].any()


def test_the_checker_verifies_the_points():
    x, sign = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), np.array([-1, -1, 1, 1])
    found = separability(x, sign)
    evidence = {
        "rule": "separable", "X": x[found.points], "sign": sign[found.points], "multiplier": found.multiplier,
        "set": np.zeros(len(found.points), int), "example": found.points, "tolerance": 1e-12,
    }  # fmt: skip
    assert rule("separable")(evidence)[1] == 1.0
    twice = {key: np.concatenate([value, value]) for key, value in evidence.items() if isinstance(value, np.ndarray)}
    twice |= {"tolerance": 1e-12, "set": np.repeat([0, 1], len(found.points))}
    with pytest.raises(Refused, match="belongs to two sets"):
        rule("separable")(twice)


def objective_of(targets, outputs, l2=0.0):
    torch.manual_seed(0)
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [2.0, 3.0]])
    loss = nn.BCEWithLogitsLoss() if outputs == 1 else nn.CrossEntropyLoss()
    return Objective(nn.Linear(2, outputs), loss, x, targets, l2=l2).copied(torch.float64)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_level_counts_errors_that_no_layer_avoids(outputs):
    labels = torch.tensor([0, 0, 1, 1, 1])
    level = separable_level(objective_of(labels[:, None].float() if outputs == 1 else labels, outputs))
    assert level.bound == 1.0
    assert level.loss >= 1.0
    assert not level.whole
    assert rule("separable")(level.evidence)[1] == 1.0


@pytest.mark.parametrize(("labels", "bound"), [([0, 0, 1, 1, 2], 1.0), ([0, 1, 2, 0, 1], 0.0)])
def test_the_level_of_three_classes(labels, bound):
    level = separable_level(objective_of(torch.tensor(labels), 3))
    assert level.bound == bound
    assert ("infimum 0" in level.scope) == (bound == 0.0)


def test_the_level_is_for_layers_without_a_penalty():
    with pytest.raises(InputError, match="under an L2 penalty"):
        separable_level(objective_of(torch.tensor([0, 0, 1, 1, 1]), 2, l2=0.1))


@pytest.mark.parametrize(
    ("x", "sign", "message"),
    [
        (np.array([[np.nan]]), np.array([1]), "NaN or infinity"),
        (np.array([[1.0]]), np.array([0]), "signs -1 or 1"),
        (np.array([[1.0]]), np.array([1, 1]), "Expected 1 signs"),
    ],
)
def test_bad_input_is_told(x, sign, message):
    with pytest.raises(InputError, match=message):
        separability(x, sign)
