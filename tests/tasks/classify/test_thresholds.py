"""Thresholds of labels: the best F1 by brute force, few examples, halves, and what a decision refuses."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from thalweg.errors import InputError
from thalweg.tasks.classify import thresholds
from thalweg.tasks.classify.decision import Decision, decision_of
from thalweg.tasks.classify.thresholds import best_threshold, choose, crossed


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_that_is_allowed_has_a_better_f1(seed):
    draw = np.random.default_rng(seed)
    right = draw.random(40) < draw.uniform(0.05, 0.7)
    right[0] = True
    logits = np.round(draw.normal(size=40) + 2.0 * right - draw.uniform(0.0, 4.0), draw.integers(0, 3))  # with ties
    found = best_threshold(logits, right)
    mean = (1.0 / (1.0 + np.exp(-logits))).mean()
    lowest = min(0.0, np.log(mean) - np.log1p(-mean))
    tried = [t for t in (*logits, *(logits - 1e-9), 0.0) if t >= lowest - 1e-12]
    scores = [f1_score(right, logits > t, zero_division=0.0) for t in tried]
    assert f1_score(right, logits > found) >= max(scores) - 1e-12
    assert found >= lowest - 1e-12


@pytest.mark.parametrize(
    ("logits", "right", "expected"),
    [
        ([-3.0, 3.0], [False, True], 0.0),  # of all that are best the one nearest to 0.5
        ([-3.0, -1.0], [False, True], -2.0 + 0.0),
        ([1.0, 3.0], [False, True], 2.0),
        ([-1.0, -1.0, -1.0], [True, False, False], 0.0),  # nothing tells the texts apart: no label for all of them
        ([0.0, 0.0], [False, False], float("nan")),
    ],
)
def test_thresholds_by_hand(logits, right, expected):
    found = best_threshold(np.array(logits), np.array(right))
    mean = (1.0 / (1.0 + np.exp(-np.array(logits)))).mean()
    expected = max(expected, min(0.0, np.log(mean / (1.0 - mean)))) if expected == expected else expected
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_label_with_few_examples_leans_on_the_others():
    draw = np.random.default_rng(0)
    right = draw.random((2000, 3)) < [0.2, 0.2, 0.001]
    right[:2, 2] = True
    logits = np.where(right, 0.0, -4.0) + 0.5 * draw.normal(size=right.shape) - 1.0  # 0.5 would find next to nothing
    found = choose(logits, right)
    assert np.abs(found + 2.5).max() < 1.0
    count, total = right[:, 2].sum(), right.sum()
    pooled = total / (total + thresholds.PRIOR) * best_threshold(logits.ravel(), right.ravel())
    own = best_threshold(logits[:, 2], right[:, 2])
    assert found[2] == pytest.approx((count * own + thresholds.PRIOR * pooled) / (count + thresholds.PRIOR))
    nobody = choose(logits, np.zeros_like(right))
    assert nobody.tolist() == [0.0, 0.0, 0.0]
    right[:, 2] = False
    assert choose(logits, right)[2] == pytest.approx(right.sum() / (right.sum() + 3.0) * best_threshold(
        logits.ravel(), right.ravel()
    ))  # fmt: skip


def test_what_is_crossed_does_not_praise_itself_and_does_not_depend_on_the_order():
    draw = np.random.default_rng(0)
    logits, right = draw.normal(size=(60, 40)), draw.random((60, 40)) < 0.1  # nothing to be learned
    itself = f1_score(right, logits > choose(logits, right), average="macro", zero_division=0.0)
    other = f1_score(right, crossed(logits, right), average="macro", zero_division=0.0)
    fresh = draw.random((60, 40)) < 0.1
    new = f1_score(fresh, logits > choose(logits, right), average="macro", zero_division=0.0)
    assert itself > new + 0.05
    assert abs(other - new) < 0.05
    order = draw.permutation(60)
    np.testing.assert_array_equal(crossed(logits[order], right[order]), crossed(logits, right)[order])


@pytest.mark.parametrize("num_texts", [0, 1, 2])
def test_next_to_no_texts_are_no_obstacle(num_texts):
    logits, right = np.zeros((num_texts, 3)), np.ones((num_texts, 3), dtype=bool)
    assert choose(logits, right).shape == (3,)
    assert crossed(logits, right).shape == right.shape


TWO = ("no", "yes")
COUNTS = np.array([9, 4])


def test_the_usual_decision():
    assert not decision_of("", TWO, COUNTS, multilabel=False).is_open
    several = decision_of("", TWO, COUNTS, multilabel=True)
    assert several.is_open
    logits = torch.tensor([[-1.0, 2.0], [0.5, 0.4]])
    assert several.given(logits).tolist() == [[False, True], [True, True]]
    assert decision_of("", TWO, COUNTS, multilabel=False).given(logits).tolist() == [1, 0]


def test_of_two_labels_the_rarer_one_has_the_threshold():
    decision = decision_of("0.2", TWO, COUNTS, multilabel=False)
    assert decision.rarer == 1
    assert decision_of("0.2", TWO, COUNTS[::-1], multilabel=False).rarer == 0
    chances = torch.tensor([0.1, 0.19, 0.21, 0.6])
    logits = torch.stack([(1.0 - chances).log(), chances.log()], 1)
    assert decision.given(logits).tolist() == [0, 0, 1, 1]
    chances = torch.tensor([0.02] * 8 + [0.3, 0.4, 0.45])
    modest = torch.stack([(1.0 - chances).log(), chances.log()], 1)
    right = torch.tensor([0] * 8 + [1] * 3)
    auto = decision_of("auto", TWO, COUNTS, multilabel=False)
    assert auto.given(modest).tolist() == [0] * 11
    chosen = auto.chosen(modest, right)
    assert torch.equal(chosen.given(modest), right)
    assert "The label 'yes' is given from a probability of 0." in chosen.sentence(TWO)
    assert Decision.of_json(chosen.to_json(), 2) == chosen
    assert chosen.at(0.5, TWO).given(logits).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("option", ["0.2", "auto"])
def test_more_labels_that_exclude_one_another_have_no_threshold(option):
    with pytest.raises(InputError, match=r"--threshold is for two labels.*these 3 labels exclude one another"):
        decision_of(option, ("a", "b", "c"), np.ones(3), multilabel=False)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, float("nan")])
def test_a_threshold_is_a_probability(value):
    with pytest.raises(InputError, match="--threshold must lie between 0 and 1; got"):
        Decision(multilabel=True).at(value, TWO)


def test_limits_of_another_number_of_labels_are_refused():
    with pytest.raises(ValueError, match="expected 3 limits, got 1"):
        Decision.of_json({"multilabel": True, "rarer": 1, "limits": [0.0], "auto": True}, 3)
