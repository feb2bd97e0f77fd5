"""Groups of contradictory examples against floors of each group alone, and against sums made by hand."""

import itertools
import math

import numpy as np
import pytest

from thalweg.certificates.by_example.contradictions import contradictions
from thalweg.certificates.floors.floor import answers_floor, class_floor, error_floor, number_floor, smoothed_entropy

CASES = [
    pytest.param(seed, weighted, smoothing, id=f"{seed}-{'weights' if weighted else 'plain'}-{smoothing:g}")
    for seed, (weighted, smoothing) in enumerate(itertools.product((False, True), (0.0, 0.1)))
]


def drawn(seed, weighted, size=60):
    rng = np.random.default_rng(seed)
    groups, labels = rng.integers(0, 15, size), rng.integers(0, 4, size)
    return groups, labels, rng.integers(0, 4, size) / 2.0 if weighted else None, rng


@pytest.mark.parametrize(("seed", "weighted", "smoothing"), CASES)
def test_the_costs_of_classes_add_up_to_the_floor_and_each_is_that_of_its_group_alone(seed, weighted, smoothing):
    groups, labels, weights, _ = drawn(seed, weighted)
    options = {"weights": weights, "num_classes": 4, "smoothing": smoothing}
    found = contradictions(groups, labels, **options)
    total = len(groups) if weights is None else weights.sum()
    floor = class_floor(groups, labels, 4, weights=weights, smoothing=smoothing).value
    assert found.cost == pytest.approx(total * (floor - smoothed_entropy(4, smoothing)), rel=1e-12)
    assert found.errors == pytest.approx(total * error_floor(groups, labels, 4, weights).value, rel=1e-12)
    assert found.num_groups > 3
    assert found.num_groups == len(found.worst)
    assert found.num_rows == sum(len(one.rows) for one in found.worst)
    assert [one.cost for one in found.worst] == sorted((one.cost for one in found.worst), reverse=True)
    for one in found.worst:
        assert len(set(groups[one.rows])) == 1
        assert len(set(labels[one.rows])) > 1
        assert one.rows.tolist() == sorted(one.rows)
        counts = np.bincount(labels[one.rows], None if weights is None else weights[one.rows], 4)
        assert one.errors == counts.sum() - counts.max()
        p = (1 - smoothing) * counts / counts.sum() + smoothing / 4
        entropy = -sum(value * math.log(value) for value in p if value > 0.0)
        assert one.cost == pytest.approx(counts.sum() * (entropy - smoothed_entropy(4, smoothing)), rel=1e-12)
    assert contradictions(groups, labels, limit=2, **options).worst[1].cost == found.worst[1].cost


def test_answers_and_numbers_add_up_to_their_floors():
    groups, _, weights, rng = drawn(7, True)
    answers = rng.integers(0, 2, (len(groups), 3)).astype(np.float32)
    found = contradictions(groups, answers, weights=weights)
    whole = answers_floor(groups, answers, weights[:, None], 1.0).value
    assert found.cost == pytest.approx(whole, rel=1e-12)
    first = found.worst[0]
    sets = {}
    for row in first.rows:
        sets[tuple(answers[row])] = sets.get(tuple(answers[row]), 0.0) + weights[row]
    assert first.errors == sum(sets.values()) - max(sets.values())
    numbers = rng.integers(0, 3, (len(groups), 2)).astype(float)
    found = contradictions(groups, numbers, weights=weights, factor=0.5)
    assert found.cost == pytest.approx(number_floor(groups, numbers, weights, 1.0, 0.5).value, rel=1e-12)
    assert found.errors is None
    assert found.worst[0].errors is None


def test_a_single_column_of_numbers_needs_no_second_axis():
    found = contradictions(np.array([3, 3, 8]), np.array([1.0, 3.0, 5.0]), factor=0.5)
    assert (found.num_groups, found.cost) == (1, 1.0)


@pytest.mark.parametrize("options", [{}, {"smoothing": 0.1}, {"factor": 0.5}])
def test_nothing_contradicts_where_targets_agree_or_have_no_weight(options):
    groups, targets = np.array([0, 0, 1, 1]), np.array([1, 1, 2, 0])
    assert contradictions(groups, targets, weights=np.array([1.0, 1.0, 1.0, 0.0]), **options).num_groups == 0
    empty = contradictions(np.zeros(0, dtype=int), np.zeros(0, dtype=int), **options)
    assert (empty.num_groups, empty.num_rows, empty.cost, empty.worst) == (0, 0, 0.0, ())


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"must have one length; got \[2, 3, 2\]"):
        contradictions(np.zeros(2, dtype=int), np.zeros(3, dtype=int))
