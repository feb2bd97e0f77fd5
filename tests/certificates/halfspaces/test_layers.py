"""Layers for several classes: right on all, or demands that contradict one another, decided as in integers."""

import numpy as np
import pytest
from halfspace_problems import labeled, scores, separable_in_integers
from hypothesis import given, settings

from thalweg.certificates.checker.conflicts import multipliers
from thalweg.certificates.halfspaces.hyperplane import scaled
from thalweg.certificates.halfspaces.layers import Rows, layer_separable, pairs_of_classes, separating_layer
from thalweg.errors import InputError


@settings(max_examples=40)
@given(labeled(most=8, columns=2, classes=4))
def test_either_answer_is_that_of_integers_in_every_scale(data):
    x, labels = data
    separates, weights, bias = layer_separable(x, labels)
    assert separates == separable_in_integers(x, labels)
    assert weights.shape == (labels.max() + 1, x.shape[1])
    if not separates:
        assert not weights.any()
        return
    for row, mine in zip(x, labels, strict=True):
        found = scores(row, weights, bias)
        assert all(score < found[mine] for k, score in enumerate(found) if k != mine)


TRIANGLE = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, -1.0], [0.0, 0.0]])


def test_a_layer_for_three_classes():
    assert layer_separable(TRIANGLE[:3], np.array([0, 1, 2]))[0]
    inside = layer_separable(np.vstack([TRIANGLE, TRIANGLE[:1]]), np.array([0, 1, 2, 0, 1]))
    assert not inside[0]
    assert not inside[1].any()


def test_three_classes_can_contradict_one_another_where_no_two_do():
    """Three segments like the blades of a windmill: any two can be parted, all three cannot."""
    angle = 2.0 * np.pi * np.arange(3) / 3.0
    hub, along = np.c_[np.cos(angle), np.sin(angle)], np.c_[-np.sin(angle), np.cos(angle)]
    x = np.round(10.0 * np.concatenate([hub - along, hub + 4.0 * along])) * [1.0, 1e-6] + [0.0, 1e3]
    labels = np.tile(np.arange(3), 2)
    for left_out in range(3):
        assert layer_separable(x[labels != left_out], labels[labels != left_out])[0]
    found = separating_layer(scaled(x), labels, 3, np.inf)
    assert isinstance(found, Rows)
    assert multipliers(x[found.points], found.own, found.rival)[0] is not None
    assert not separable_in_integers(x, labels)


def test_classes_without_an_example_are_below_the_others():
    x = np.array([[-3.0, 1e9], [4.0, -1e9], [0.0, 2e9]])
    separates, weights, bias = layer_separable(x, np.array([1, 4, 1]))
    assert separates
    assert ((x @ weights.T + bias).argmax(1) == [1, 4, 1]).all()
    assert layer_separable(x, np.array([3, 3, 3]))[0]
    assert layer_separable(x[:0], np.zeros(0, int))[0]


def test_pairs_come_in_the_order_in_which_they_are_confused():
    labels, answers = np.array([0, 1, 2, 2, 1]), np.array([0, 2, 2, 1, 0])
    assert pairs_of_classes(labels, answers) == [(1, 2), (0, 1), (0, 2)]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0.0]), "class ids from 0 on"),
        (np.array([-1]), "class ids from 0 on"),
        (np.array([0, 1]), "Expected 1"),
    ],
)
def test_bad_labels_are_told(labels, message):
    with pytest.raises(InputError, match=message):
        layer_separable(np.ones((1, 1)), labels)
