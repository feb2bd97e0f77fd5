"""Floors against lookup tables made by hand, for random data with ties, duplicates and classes that are missing."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.certificates.checker import check
from thalweg.certificates.floors.contexts import prefix_levels, window_levels
from thalweg.certificates.floors.floor import (
    answers_floor,
    class_floor,
    error_floor,
    levels_floor,
    number_floor,
    smoothed_entropy,
    soft_floor,
)
from thalweg.certificates.floors.norm import norm_floor
from thalweg.data.arrays.equal import same_rows

NUM_CLASSES = 4
examples = st.lists(st.tuples(st.integers(0, 5), st.integers(0, NUM_CLASSES - 1)), min_size=1, max_size=30)
smoothings = st.sampled_from([0.0, 0.1, 0.6])
seeds = st.integers(0, 2**32 - 1)


def proved(floor):
    return check.rule(floor.evidence["rule"])(floor.evidence)[1]


def cross_entropy(targets, table, groups):
    """Mean cross-entropy of a lookup table, and of its improvement by the groups' mean targets."""
    p = table[groups]
    return -(targets * np.log(np.where(targets > 0, p, 1.0))).sum(1).mean()


def mean_targets(groups, targets):
    table = np.full((groups.max() + 1, targets.shape[1]), 1.0 / targets.shape[1])
    for group in set(groups.tolist()):
        table[group] = targets[groups == group].mean(0)
    return table


@settings(max_examples=40)
@given(examples, smoothings, seeds)
def test_no_lookup_table_is_below_the_floor_of_classes_and_the_best_one_attains_it(data, smoothing, seed):
    groups, labels = (np.array(column) for column in zip(*data, strict=True))
    floor = class_floor(groups, labels, NUM_CLASSES, smoothing=smoothing)
    targets = (1 - smoothing) * np.eye(NUM_CLASSES)[labels] + smoothing / NUM_CLASSES
    best = cross_entropy(targets, mean_targets(groups, targets), groups)
    assert math.isclose(floor.value, best, rel_tol=1e-12, abs_tol=1e-14)
    table = np.random.default_rng(seed).dirichlet(np.full(NUM_CLASSES, 0.5), groups.max() + 1)
    assert floor.value <= cross_entropy(targets, table, groups) + 1e-12
    assert math.isclose(proved(floor), floor.value, rel_tol=1e-12, abs_tol=1e-14)
    errors = error_floor(groups, labels, NUM_CLASSES)
    by_group = defaultdict(Counter)
    for group, label in data:
        by_group[group][label] += 1
    hits = sum(max(counter.values()) for counter in by_group.values())
    assert math.isclose(errors.value, 1 - hits / len(data), abs_tol=1e-12)
    assert math.isclose(proved(errors), errors.value, abs_tol=1e-12)
    soft = soft_floor(groups, np.eye(NUM_CLASSES)[labels], smoothing=smoothing)
    assert math.isclose(soft.value, floor.value, rel_tol=1e-12, abs_tol=1e-14)


@settings(max_examples=25)
@given(examples, seeds)
def test_weighted_soft_targets_answers_and_numbers_have_the_floor_of_their_mean(data, seed):
    rng = np.random.default_rng(seed)
    groups = np.array([group for group, _ in data])
    weights = rng.choice([0.0, 0.5, 2.0], len(groups))
    total = float(len(groups))
    numbers = rng.integers(0, 3, (len(groups), 2)).astype(float)
    answers = rng.choice([0.0, 0.3, 1.0], (len(groups), 2))
    probabilities = rng.dirichlet(np.ones(3), len(groups))
    squares = coins = entropy = 0.0
    for group in set(groups.tolist()):
        mine, w = groups == group, weights[groups == group]
        if w.sum() == 0:
            continue
        mean = np.average(numbers[mine], axis=0, weights=w)
        squares += 0.7 * (w[:, None] * (numbers[mine] - mean) ** 2).sum()
        p = np.average(answers[mine], axis=0, weights=w).clip(1e-300, 1 - 1e-16)
        coins -= w.sum() * (p * np.log(p) + (1 - p) * np.log1p(-p)).sum()
        q = np.average(probabilities[mine], axis=0, weights=w)
        entropy -= w.sum() * (q * np.log(q)).sum()
    for floor, expected in (
        (number_floor(groups, numbers, weights, total, 0.7), squares / total),
        (answers_floor(groups, answers, weights[:, None], total), coins / total),
        (soft_floor(groups, probabilities, weights=weights, total=total), entropy / total),
    ):
        assert math.isclose(floor.value, expected, rel_tol=1e-9, abs_tol=1e-12)
        assert math.isclose(proved(floor), floor.value, rel_tol=1e-12, abs_tol=1e-14)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 5))
def test_windows_are_those_of_a_dictionary(symbols, length):
    text = np.array(symbols)
    *_, level = window_levels(text, length)
    follow = defaultdict(Counter)
    for i, symbol in enumerate(symbols):
        context = tuple(symbols[max(0, i - length) : i]) if i >= length else ("begin", i)
        follow[context][symbol] += 1
    nats = -sum(n * math.log(n / sum(c.values())) for c in follow.values() for n in c.values())
    hits = sum(max(c.values()) for c in follow.values())
    found = level.nats_and_hits()
    assert math.isclose(found[0], nats, abs_tol=1e-9)
    assert found[1] == hits
    entropy, errors = levels_floor([level], 3)
    assert math.isclose(entropy.value, nats / len(text), abs_tol=1e-12)
    assert math.isclose(errors.value, 1 - hits / len(text), abs_tol=1e-12)
    assert math.isclose(proved(entropy), entropy.value, abs_tol=1e-12)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 1), st.lists(st.integers(0, 2), max_size=6)), min_size=1, max_size=12))
def test_prefixes_are_those_of_a_dictionary(data):
    sequences = [sequence for _, sequence in data]
    if not any(sequences):
        return
    symbols = np.array([symbol for sequence in sequences for symbol in sequence])
    follow = defaultdict(Counter)
    for first, sequence in data:
        for t, symbol in enumerate(sequence):
            follow[(first, *sequence[:t])][symbol] += 1
    nats = -sum(n * math.log(n / sum(c.values())) for c in follow.values() for n in c.values())
    lengths, first = np.array([len(s) for s in sequences]), np.array([f for f, _ in data])
    levels = list(prefix_levels(symbols, lengths, first))
    for smoothing in (0.0, 0.2):
        entropy, _ = levels_floor(levels, 3, smoothing)
        expected = nats / len(symbols)
        if smoothing:
            total = 0.0
            for counter in follow.values():
                q = np.array([counter[k] for k in range(3)]) / sum(counter.values())
                q = (1 - smoothing) * q + smoothing / 3
                total -= sum(counter.values()) * (q * np.log(q)).sum()
            expected = total / len(symbols)
        assert math.isclose(entropy.value, expected, rel_tol=1e-9, abs_tol=1e-12)
        assert math.isclose(proved(entropy), entropy.value, abs_tol=1e-12)


def test_known_figures_of_a_text():
    """From pydoc's topics, with every context length counted by a dictionary on another occasion."""
    rng = np.random.default_rng(0)
    text = rng.integers(0, 3, 5000)
    values = [level.nats_and_hits()[0] / len(text) for level in window_levels(text, 12)]
    assert math.isclose(values[0], -sum(p * math.log(p) for p in np.bincount(text) / len(text)), rel_tol=1e-12)
    assert all(after <= before for before, after in itertools.pairwise(values))
    assert values[12] < 0.01


@settings(max_examples=25)
@given(st.lists(st.tuples(st.lists(st.integers(-2, 3), max_size=3), st.sampled_from([0.0, -0.0, 1.5])), max_size=20))
def test_equal_rows_are_those_of_a_dictionary(data):
    values = np.array([v for row, _ in data for v in row], dtype=np.int32)
    ids = same_rows((values, np.array([len(row) for row, _ in data], dtype=int)), np.array([x for _, x in data]))
    keys = [(tuple(row), x + 0.0) for row, x in data]
    for i, left in enumerate(keys):
        for j, right in enumerate(keys):
            assert (ids[i] == ids[j]) == (left == right)


def test_a_hash_that_deceives_is_noticed(monkeypatch):
    monkeypatch.setattr(
        "thalweg.data.arrays.equal._hashes", lambda bits, starts, lengths: np.zeros(len(lengths), np.uint64)
    )
    assert same_rows(np.array([[1, 2], [3, 4], [1, 2]])).tolist() == [0, 1, 0]


def test_columns_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="at least one column"):
        same_rows()
    with pytest.raises(ValueError, match="one length"):
        same_rows(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="NaN among the inputs"):
        same_rows(np.array([1.0, np.nan]))


@pytest.mark.parametrize(
    ("classes", "smoothing", "nats"), [(4, 0.1, 0.3488), (1000, 0.1, 1.0148), (50_000, 0.1, 1.4070)]
)
def test_label_smoothing_alone(classes, smoothing, nats):
    assert math.isclose(smoothed_entropy(classes, smoothing), nats, abs_tol=5e-5)
    floor = class_floor(np.array([0, 1]), np.array([0, 1]), classes, smoothing=smoothing)
    assert math.isclose(floor.value, smoothed_entropy(classes, smoothing), rel_tol=1e-12)


@pytest.mark.parametrize(
    ("classes", "radius", "l2", "value"),
    [(4, 11.3, 1e-2, 0.00658125), (10, 5.0, 1e-2, 0.08026497), (4, 1.0, 1e-2, 0.22443797)],
)
def test_features_of_bounded_length_balanced(classes, radius, l2, value):
    floor = norm_floor(np.full(classes, 1 / classes), radius, l2)
    assert math.isclose(floor.value, value, rel_tol=1e-6)
    assert math.isclose(proved(floor), floor.value, rel_tol=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_features_of_bounded_length_whatever_the_classes(seed, smoothing):
    """No features in the ball with any head are below the bound, and free features come close to it."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(3, 2.0))
    if seed == 0:
        shares = np.array([0.6, 0.4, 0.0])
    radius, l2 = float(rng.uniform(0.5, 5)), 10 ** rng.uniform(-3, -1)
    target = torch.tensor((1 - smoothing) * np.eye(3) + smoothing / 3)
    p = torch.tensor(shares)
    for free_bias in (True, False):
        floor = norm_floor(shares, radius, l2, smoothing=smoothing, free_bias=free_bias)
        assert math.isclose(proved(floor), floor.value, rel_tol=1e-9, abs_tol=1e-12)
        torch.manual_seed(seed)
        h, w, b = (torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((3, 3), (3, 3), (3,)))

        def loss(h=h, w=w, b=b, free_bias=free_bias):
            features = radius * h * torch.sqrt(p.sum() / (p * h.square().sum(1)).sum())  # mean square is the radius's
            z = features @ w.T + (b if free_bias else 0.0)
            return -(p * (target * z.log_softmax(1)).sum(1)).sum() + 0.5 * l2 * w.square().sum()

        assert floor.value <= float(loss().detach()) + 1e-12
        optimizer = torch.optim.LBFGS(
            [h, w, b], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=0.0
        )

        def closure(optimizer=optimizer, loss=loss):
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
        assert floor.value <= float(loss().detach()) + 1e-12
        assert float(loss().detach()) - floor.value <= 2e-3 * float(loss().detach())


def test_norm_floor_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="must be positive"):
        norm_floor(np.full(2, 0.5), 1.0, 0.0)
    with pytest.raises(ValueError, match="sum to one"):
        norm_floor(np.full(2, 0.4), 1.0, 0.1)
