"""Figures of each class, beside scikit-learn's."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import classification_report, confusion_matrix

from thalweg.tasks.by_class import averages, by_class, confusion_counts, confusion_rows, counts_by_class, macro_f1

NAMES = ("a", "b", "c", "d")
CASES = {
    "usual": ([0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 3, 1, 1, 0, 0]),
    "all right": ([0, 1, 2, 3], [0, 1, 2, 3]),
    "all wrong": ([0, 0, 1], [1, 1, 0]),
    "one class only": ([2, 2, 2], [2, 2, 2]),
    "a class that is never true": ([0, 0, 1], [3, 0, 1]),
    "a class that is never given": ([0, 3, 1], [0, 0, 1]),
    "one example": ([1], [2]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_label_an_example(case):
    target, guess = map(np.array, CASES[case])
    rows = by_class("label", NAMES, *counts_by_class(guess, target, len(NAMES)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        every = classification_report(target, guess, labels=range(4), target_names=NAMES, output_dict=True)
        seen = classification_report(target, guess, output_dict=True)
    compare(rows, every, seen)
    assert averages(rows)["micro"]["f1"] == pytest.approx(float((guess == target).mean()))
    assert macro_f1(*counts_by_class(guess, target, len(NAMES))) == pytest.approx(seen["macro avg"]["f1-score"])
    matrix = confusion_matrix(target, guess, labels=range(4))
    assert (confusion_counts(guess, target, len(NAMES)) == matrix).all()
    found = np.zeros((4, 4), dtype=int)
    for row in confusion_rows(NAMES, guess, target):
        found[NAMES.index(row["true"]), NAMES.index(row["given"])] = row["count"]
    assert (found == matrix).all()


@pytest.mark.parametrize("seed", range(4))
def test_several_labels_an_example(seed):
    draw = np.random.default_rng(seed)
    target, guess = (draw.random((30, 4)) < share for share in (0.3, 0.2 * seed))
    rows = by_class("label", NAMES, (guess & target).sum(0), guess.sum(0), target.sum(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = classification_report(target, guess, target_names=NAMES, output_dict=True)
    compare(rows, report, report)
    for key, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        assert averages(rows)["micro"][key] == pytest.approx(report["micro avg"][name])


def compare(rows, every, seen):
    for row in rows:
        assert row["support"] == every[row["label"]]["support"]
    for key, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        for row in rows:
            assert row[key] == pytest.approx(every[row["label"]][name]), row["label"]
        for average in ("macro", "weighted"):
            assert averages(rows)[average][key] == pytest.approx(seen[f"{average} avg"][name]), average


def test_nothing_at_all():
    rows = by_class("tag", NAMES, *counts_by_class(np.zeros(0, dtype=int), np.zeros(0, dtype=int), 4))
    assert [row["f1"] for row in rows] == [0.0] * 4
    assert averages(rows)["macro"] == averages(rows)["weighted"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
