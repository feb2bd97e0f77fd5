"""Floors against lookup tables made by hand, for random data with ties, duplicates and classes that are missing."""

import itertools
import math
from collections import Counter, defaultdict

import mpmath
import numpy as np
import pytest
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
from thalweg.errors import InputError

NUM_CLASSES = 4
examples = st.lists(st.tuples(st.integers(0, 5), st.integers(0, NUM_CLASSES - 1)), min_size=1, max_size=30)
smoothings = st.sampled_from([0.0, 0.1, 0.6])
seeds = st.integers(0, 2**32 - 1)


def proved(floor):
    """What the checker proves, which is what is claimed and three errors more, and never less."""
    found = check.prove(floor.evidence)
    assert floor.value <= max(0.0, found.value - found.error)
    return found.value


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


@pytest.mark.parametrize(
    ("classes", "smoothing", "nats"), [(4, 0.1, 0.3488), (1000, 0.1, 1.0148), (50_000, 0.1, 1.4070)]
)
def test_label_smoothing_alone(classes, smoothing, nats):
    assert math.isclose(smoothed_entropy(classes, smoothing), nats, abs_tol=5e-5)
    floor = class_floor(np.array([0, 1]), np.array([0, 1]), classes, smoothing=smoothing)
    assert math.isclose(floor.value, smoothed_entropy(classes, smoothing), rel_tol=1e-12)


def exactly(group, label, weight, *, total, smoothing=0.0, classes=None, factor=None):
    """The floor with 60 digits: of classes (and their smoothing), or with a factor of numbers."""
    with mpmath.workdps(60):
        w = [mpmath.mpf(x) for x in weight.tolist()]
        a, result = mpmath.mpf(smoothing), mpmath.mpf(0)
        for g in set(group.tolist()):
            rows = [i for i in range(len(w)) if group[i] == g and w[i] > 0]
            mass = mpmath.fsum(w[i] for i in rows)
            if factor is not None and rows:
                y = {i: mpmath.mpf(float(label[i])) for i in rows}
                mean = mpmath.fsum(w[i] * y[i] for i in rows) / mass
                result += mpmath.fsum(w[i] * (y[i] - mean) ** 2 for i in rows) * mpmath.mpf(factor)
            elif rows:
                for k in range(classes):
                    own = mpmath.fsum(w[i] for i in rows if label[i] == k)
                    share = (1 - a) * own / mass + a / classes
                    result -= mass * share * mpmath.log(share) if share > 0 else 0
        return result / total


@pytest.mark.parametrize("seed", range(40))
def test_no_floor_is_above_its_exact_value(seed):
    """At no tolerance, whatever the scale; and no floor is lower than needed by a billionth of it."""
    rng = np.random.default_rng(seed)
    n, num_classes = int(rng.integers(1, 30)), int(rng.integers(1, 5))
    groups, labels = rng.integers(0, 6, n), rng.integers(0, num_classes, n)
    if seed % 3 == 0:  # one class is rare
        labels = (rng.random(n) < 0.1).astype(int) * (num_classes - 1)
    smoothing = float(rng.choice([0.0, 0.1, 1e-6, 0.999]))
    weights = (None, rng.random(n) + 0.01, 10 ** rng.uniform(-8, 8, n), rng.integers(0, 3, n) + np.eye(n)[0])[seed % 4]
    each = np.ones(n) if weights is None else weights
    total = mpmath.fsum(each.tolist())
    numbers = rng.choice([0.0, 1e8, -1e8, 1e-8]) + 10 ** rng.uniform(-8, 8) * rng.standard_normal(n)
    pairs = [
        (
            class_floor(groups, labels, num_classes, weights=weights, smoothing=smoothing),
            exactly(groups, labels, each, total=total, smoothing=smoothing, classes=num_classes),
        ),
        (
            number_floor(groups, numbers[:, None], weights, float(total), 0.7),
            exactly(groups, numbers, each, total=total, factor=0.7),
        ),
    ]
    for floor, exact in pairs:
        assert floor.value <= exact
        assert exact - floor.value <= 1e-9 * exact + 1e-50
        assert proved(floor) >= floor.value


def test_a_large_group_with_one_odd_label_loses_no_digits():
    """N log N - n log n would: both are 14 million here, and differ by 15."""
    groups, labels = np.zeros(1_000_001, dtype=int), np.zeros(1_000_001, dtype=int)
    labels[7] = 1
    with mpmath.workdps(60):
        n = mpmath.mpf(10**6)
        exact = (n * mpmath.log((n + 1) / n) + mpmath.log(n + 1)) / (n + 1)
    value = class_floor(groups, labels, 2).value
    assert value <= exact
    assert exact - value <= 1e-13 * exact


FORGERIES = {
    "a class twice": lambda e: e["label"].__setitem__(1, e["label"][0]),
    "classes in another order": lambda e: e.update(label=e["label"][::-1].copy()),
    "a class that comes again after a wrap": lambda e: e.update(
        label=np.array([-6, 0, 6, -6]) * 10**18, group=np.zeros(4, dtype=int), weight=np.ones(4, dtype=int)
    ),
    "groups out of order": lambda e: e.update(group=e["group"][::-1].copy()),
    "a negative count": lambda e: e["weight"].__setitem__(0, -1),
    "a count of zero": lambda e: e["weight"].__setitem__(0, 0),
    "counts that overflow": lambda e: e["weight"].__setitem__(0, 2**62),
    "counts of one byte": lambda e: e.update(weight=e["weight"].astype(np.int8)),
    "not a number": lambda e: e.update(weight=np.full(len(e["weight"]), np.nan)),
    "no total": lambda e: e.update(total=0),
    "a negative total": lambda e: e.update(total=-4),
    "smoothing of one": lambda e: e.update(smoothing=1.0),
    "smoothing below zero": lambda e: e.update(smoothing=-0.1),
    "no classes": lambda e: e.update(classes=0),
    "fewer classes than labels": lambda e: e.update(classes=1),
    "a mass below zero": lambda e: e.update(pure=-1.0),
    "a mass without end": lambda e: e.update(pure=float("inf")),
    "another measure": lambda e: e.update(measure="surprise"),
    "a row too few": lambda e: e.update(label=e["label"][:-1]),
    "a table": lambda e: e.update({key: e[key][:, None] for key in ("group", "label", "weight")}),
    "examples below zero": lambda e: e.update(examples=-1),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_counts_are_refused(forgery):
    floor = class_floor(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), 2)
    evidence = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in floor.evidence.items()}
    forgery(evidence)
    with pytest.raises(
        check.Refused, match=r"do not fit|order|not whole|must lie|too large|one of the classes|measure|NaN|finite|kind"
    ):
        check.prove(evidence)


def test_forged_numbers_are_refused():
    floor = number_floor(np.array([0, 0]), np.array([[1.0], [2.0]]), None, 2.0, 1.0)
    for change in ({"factor": 0.0}, {"factor": -1.0}, {"label": np.array([1e70, 0.0])}, {"label": np.array([1, 2])}):
        with pytest.raises(check.Refused, match="no numbers, or too large"):
            check.prove({**floor.evidence, **change})


def test_what_is_no_problem_is_refused():
    groups, labels = np.zeros(2, dtype=int), np.array([0, 1])
    with pytest.raises(ValueError, match="not negative"):
        class_floor(groups, labels, 2, weights=np.array([1.0, -1.0]))
    with pytest.raises(ValueError, match="not negative"):
        class_floor(groups, labels, 2, weights=np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"shape \[2\]"):
        class_floor(groups, labels, 2, weights=np.ones(3))
    with pytest.raises(ValueError, match="above 0"):
        error_floor(groups, labels, 2, np.zeros(2))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        answers_floor(groups, np.array([[0.5], [1.5]]), None, 2.0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        number_floor(groups, np.array([[0.5], [np.inf]]), None, 2.0, 1.0)
    with pytest.raises(InputError, match="up to 1e"):
        number_floor(groups, np.array([[0.5], [1e80]]), None, 2.0, 1.0)
    tiny = class_floor(groups, labels, 2, weights=np.array([1.0, 1e-80]))
    assert tiny.value == 0.0  # a weight that is left out lowers a floor


@pytest.mark.parametrize("groups", [np.array([0, 86], np.uint8), np.array([0, 2**63], np.uint64), np.array([0, 2**62])])
def test_groups_of_every_type_stay_apart(groups):
    """Products of groups and columns wrapped around: 0.23 nats for two groups that have nothing in common."""
    yes = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])[:, : 3 if groups.dtype == np.uint8 else 4]
    assert answers_floor(groups, yes, None, 1.0).value == 0.0
    assert number_floor(groups, yes, None, 1.0, 1.0).value == 0.0
    assert soft_floor(groups, np.array([[1.0, 0.0], [0.0, 1.0]])).value == 0.0
    assert class_floor(groups, np.array([0, 1]), yes.shape[1]).value == 0.0
    assert class_floor(groups[[0, 0]], np.array([0, 1]), 2).value == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: class_floor(np.array([0, 1]), np.array([0, -1]), 2), r"labels must lie in \[0, 2\); got -1 to 0"),
        (lambda: error_floor(np.array([0, 1]), np.array([2, 1]), 2), r"labels must lie in \[0, 2\); got 1 to 2"),
        (
            lambda: class_floor(np.array([0.2, 0.7]), np.array([0, 1]), 2),
            "groups must be whole numbers",
        ),
        (
            lambda: class_floor(np.array([0, 0]), np.array([0.2, 0.7]), 2),
            "labels must be whole numbers",
        ),
        (lambda: list(window_levels(np.array([0, -1]), 1)), "Symbols must be whole numbers, not negative"),
        (lambda: list(window_levels(np.array([0.2, 0.7]), 1)), "Symbols must be whole numbers, not negative"),
        (lambda: list(window_levels(np.array([0, 2**62]), 1)), r"Symbols must be smaller than 2\^61"),
    ],
)
def test_ids_that_would_be_taken_for_others_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("numbers", [[2**53 + 1, 2**53 + 3], np.array([1, 1 + np.longdouble(2) ** -60])])
def test_numbers_that_float64_would_round_are_refused(numbers):
    """2^53 + 1 and 2^53 + 3 became 2^53 and 2^53 + 4: a floor of four times the true one."""
    with pytest.raises(InputError, match="The numbers hold numbers that float64 has no room for"):
        number_floor(np.array([0, 0]), np.array(numbers)[:, None], None, 1.0, 1.0)
    even = np.array([[2**53 + 2], [2**53 + 4]])
    assert number_floor(np.array([0, 0]), even, None, 1.0, 1.0).value == pytest.approx(2.0)
