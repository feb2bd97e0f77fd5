"""The bootstrap against SciPy and against drawing by hand; degenerate examples; time; coverage."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import f1_score

from thalweg.certificates.new_texts.resampling import (
    MAX_UNITS,
    Samples,
    block_length,
    block_weights,
    drawn_weights,
    f1,
    of_sums,
    ratio,
    sums_by,
    widened_tails,
)
from thalweg.tasks.classify.meter import label_pairs, label_sets


def mean_of(values, **options) -> Samples:
    sums = np.stack([values, np.ones_like(values)], 1)
    return of_sums(sums, lambda sums: {"mean": ratio(sums[:, 0], sums[:, 1])}, **options)


def test_percentiles_equal_scipy():
    values = np.random.default_rng(1).exponential(size=40)
    level = 1 - 2 * widened_tails(40, 0.95)[0]
    expected = bootstrap((values,), np.mean, confidence_level=level, method="percentile", n_resamples=50_000, rng=0)
    found = mean_of(values).intervals(draws=50_000)["mean"]
    assert found == pytest.approx(tuple(expected.confidence_interval), rel=0.01)
    assert 0.955 < level < 0.965  # wider than 95 %, as Student's t is for 40 values


def test_pairs_of_labels_are_drawn_as_examples_are():
    rng = np.random.default_rng(2)
    target = rng.integers(0, 4, 150)
    guess = np.where(rng.random(150) < 0.7, target, rng.integers(0, 4, 150))
    samples = label_pairs(guess, target, 5)
    drawn = []
    for _ in range(1500):
        rows = rng.integers(0, 150, 150)
        t, g = target[rows], guess[rows]
        hits, given, true = (np.bincount(labels, minlength=4) for labels in (t[t == g], g, t))
        drawn.append(float(np.mean(2 * hits / (given + true))))
    expected = np.quantile(drawn, widened_tails(150, 0.95))
    assert label_pairs(guess, target, 4).intervals(draws=4000)["macro_f1"] == pytest.approx(expected, abs=0.012)
    assert samples.values["macro_f1"] == pytest.approx(f1_score(target, guess, average="macro"))
    assert samples.shares["accuracy"] == (int((target == guess).sum()), 150)
    assert samples.baselines["accuracy"] == np.bincount(target).max() / 150


def test_sets_of_labels():
    rng = np.random.default_rng(3)
    target = rng.random((90, 3)) < [0.5, 0.2, 0.0]
    guess = target ^ (rng.random((90, 3)) < 0.1)
    samples = label_sets(guess, target)
    for name in ("macro", "micro"):
        expected = f1_score(target, guess, average=name, zero_division=0)
        assert samples.values[f"{name}_f1"] == pytest.approx(expected)
        low, high = samples.intervals()[f"{name}_f1"]
        assert low < expected < high
    _, counts = np.unique(target, axis=0, return_counts=True)
    assert samples.baselines == {"accuracy": counts.max() / 90}


@pytest.mark.parametrize(
    ("guess", "target", "low", "high"),
    [
        ([0], [0], 0.025, 1.0),  # one example
        ([1], [0], 0.0, 0.975),
        ([0] * 20, [0] * 20, 0.025 ** (1 / 20), 1.0),  # all right, of one class
        ([1] * 20, [0] * 20, 0.0, 1 - 0.025 ** (1 / 20)),  # all wrong
        ([0, 1] * 10, [0, 1] * 10, 0.025 ** (1 / 20), 1.0),
    ],
)
def test_what_never_varies_has_no_bootstrap_interval(guess, target, low, high):
    found = label_pairs(np.array(guess), np.array(target), 2).intervals()
    assert found.keys() == {"accuracy"}
    assert found["accuracy"] == pytest.approx((low, high))


def test_few_mistakes_leave_no_more_certainty_than_the_accuracy_has():
    target = np.array([0, 1] * 20)
    guess = np.where(np.arange(40) == 7, 0, target)
    found = label_pairs(guess, target, 2).intervals()
    low, high = found["accuracy"]
    assert found["macro_f1"][0] == pytest.approx(low, abs=0.01)
    assert high <= found["macro_f1"][1] <= 1.0


def test_a_label_that_no_example_has_may_have_any_f1():
    """One in 100 texts has a third label, which is never given: of the intervals of 50 texts 44 % held the true value.

    The macro F1 of texts without that label is over the two others.
    """
    rng = np.random.default_rng(3)
    joint = np.array([[0.4455, 0.0495, 0.0], [0.0495, 0.4455, 0.0], [0.005, 0.005, 0.0]])
    true = np.mean(2 * np.diag(joint) / (joint.sum(0) + joint.sum(1)))
    held = []
    for _ in range(100):
        target, guess = np.divmod(rng.choice(9, 50, p=joint.ravel()), 3)
        low, high = label_pairs(guess, target, 3).intervals(draws=200)["macro_f1"]
        held.append(low <= true <= high)
    assert np.mean(held) > 0.95
    rows = rng.random((40, 3)) < [0.5, 0.3, 0.0]
    guesses = rows ^ (rng.random((40, 3)) < [0.2, 0.2, 0.0])
    samples = label_sets(guesses, rows)
    low, high = samples.intervals(draws=200)["macro_f1"]
    assert low < samples.values["macro_f1"] < high
    assert high > samples.values["macro_f1"] + 1 / 3


def test_a_label_that_is_given_but_that_no_example_has_does_not_count_twice():
    """Draws without that mistake have a macro F1 of 1 over the two others; the limit was 4/3."""
    target = np.arange(50) % 2
    guess = np.where(np.arange(50) == 0, 2, target)
    low, high = label_pairs(guess, target, 3).intervals()["macro_f1"]
    assert 0.6 < low < 2 / 3 < high <= 1.0
    assert high > 0.99


def test_undefined_draws():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    nan = Samples(np.ones(4, dtype=int), lambda w: {"bad": np.full(len(w), np.nan), "good": w @ values / 4})
    assert nan.intervals().keys() == {"good"}
    assert ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0])).tolist()[0] == 0.5
    assert f1(np.zeros(1), np.zeros(1), np.zeros(1)).tolist() == [0.0]


def test_many_examples_are_drawn_in_groups():
    values = np.random.default_rng(4).normal(size=50_000)
    samples = mean_of(values)
    assert len(samples.counts) == MAX_UNITS
    low, high = samples.intervals(draws=2000)["mean"]
    assert high - low == pytest.approx(2 * 1.96 / 50_000**0.5, rel=0.08)
    assert samples.values["mean"] == pytest.approx(values.mean(), abs=1e-12)
    assert mean_of(values).intervals() == mean_of(values).intervals()  # seeded


def test_flags_of_many_examples_are_added_up():
    flags = np.random.default_rng(8).random((5000, 3)) < 0.3
    samples = of_sums(flags, lambda sums: {"all": sums.sum(1)})
    assert samples.values == {"all": float(flags.sum())}


def test_neighbors_in_time_are_drawn_together():
    noise = np.random.default_rng(5).normal(size=400)
    series = np.zeros(400)
    for i in range(1, 400):
        series[i] = 0.7 * series[i - 1] + noise[i]
    plain, blocks = (mean_of(series, in_time=in_time).intervals()["mean"] for in_time in (False, True))
    assert blocks[1] - blocks[0] > 1.5 * (plain[1] - plain[0])  # sqrt(1.7 / 0.3) = 2.4 in the limit
    weights = block_weights(10, 3, 50, 0)
    assert (weights.sum(1) == 10).all()
    assert block_length(1) == 1
    assert block_length(1000) == 10
    long = mean_of(np.arange(6000.0), in_time=True)
    ends = long.figures(np.eye(MAX_UNITS))["mean"]
    assert (np.diff(ends) > 0).all()  # groups of neighbors, in order


def test_weights_add_up():
    assert (drawn_weights(np.array([3, 1, 6]), 20, 0).sum(1) == 10).all()
    assert (drawn_weights(np.ones(7, dtype=int), 20, 0).sum(1) == 7).all()
    weights = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert sums_by(weights, np.array([2, 0, 2, 2]), 4).tolist() == [[2.0, 0.0, 8.0, 0.0]]


@pytest.mark.parametrize(("size", "plain"), [(12, 0.904), (60, 0.938)])
def test_coverage(size, plain):
    """Of 4,000 intervals of a mean about 95 % cover the true one, which without the wider levels fewer do."""
    values = np.random.default_rng(7).normal(size=(4000, size))
    means = values @ drawn_weights(np.ones(size, dtype=int), 1000, 0).T / size
    covered = []
    for tails in (widened_tails(size, 0.95), (0.025, 0.975)):
        low, high = np.quantile(means, tails, axis=1)
        covered.append(((low <= 0.0) & (high >= 0.0)).mean())
    assert covered == pytest.approx([0.944, plain], abs=0.005)
