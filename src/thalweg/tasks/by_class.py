"""Precision, recall and F1 of each class, as scikit-learn's `classification_report` has them."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def by_class(
    kind: str, names: Sequence[str], right: np.ndarray, given: np.ndarray, true: np.ndarray
) -> list[dict[str, Any]]:
    """Return a row for each class: its precision, recall, F1, how often it is true (support) and was given.

    With c right answers, g given and t true ones, precision = c / g, recall = c / t, F1 = 2 c / (g + t); where nothing
    is to be divided by, 0.

    Args:
        kind: what the classes are: "label", "tag".
        names: of the classes.
        right: how often each was given rightly, `[classes]`.
        given: how often each was given, `[classes]`.
        true: how often each is true, `[classes]`.

    Example:
        >>> by_class("label", ["a"], np.array([3]), np.array([4]), np.array([6]))
        [{'label': 'a', 'precision': 0.75, 'recall': 0.5, 'f1': 0.6, 'support': 6, 'given': 4}]
    """
    columns = (_over(right, given), _over(right, true), _over(2 * right, given + true))
    figures = zip(*(column.tolist() for column in columns), true.tolist(), given.tolist(), strict=True)
    keys = ("precision", "recall", "f1", "support", "given")
    return [{kind: name, **dict(zip(keys, row, strict=True))} for name, row in zip(names, figures, strict=True)]


def averages(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the averages of the rows of `by_class`.

    "macro" counts every class alike that is true or was given somewhere, "weighted" by its support, "micro" adds up
    all answers first (with one label an example it is the accuracy).
    """
    figures = np.array([[row[key] for key in ("precision", "recall", "f1")] for row in rows]).reshape(-1, 3)
    support, given = (np.array([row[key] for row in rows], dtype=np.int64) for key in ("support", "given"))
    right = np.rint(figures[:, 1] * support).sum()
    seen = (support + given) > 0
    found = {
        "micro": [_over(right, given.sum()), _over(right, support.sum()), _over(2 * right, (support + given).sum())],
        "macro": figures[seen].mean(0) if seen.any() else np.zeros(3),
        "weighted": _over((figures * support[:, None]).sum(0), support.sum()),
    }
    keys = ("precision", "recall", "f1")
    return {name: dict(zip(keys, map(float, values), strict=True)) for name, values in found.items()}


def confusion_rows(names: Sequence[str], guess: np.ndarray, target: np.ndarray) -> list[dict[str, Any]]:
    """Return how often each true class was answered by each given one: `{"true", "given", "count"}`, without zeros."""
    pairs, counts = np.unique(target.astype(np.int64) * len(names) + guess, return_counts=True)
    true, given = np.divmod(pairs, len(names))
    rows = zip(true.tolist(), given.tolist(), counts.tolist(), strict=True)
    return [{"true": names[t], "given": names[g], "count": count} for t, g, count in rows]


def confusion_counts(guess: np.ndarray, target: np.ndarray, size: int) -> np.ndarray:
    """Return how often each of `size` true classes was answered by each given one, `[true, given]`."""
    return np.bincount(target.astype(np.int64) * size + guess, minlength=size * size).reshape(size, size)


def counts_by_class(guess: np.ndarray, target: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how often each of `size` classes was given rightly, was given, and is true; ids, one an example."""
    right, given, true = (np.bincount(ids, minlength=size) for ids in (target[guess == target], guess, target))
    return right, given, true


def macro_f1(right: np.ndarray, given: np.ndarray, true: np.ndarray) -> float:
    """Return the mean F1 of the classes that are true or were given somewhere, from the counts of `by_class`."""
    seen = given + true > 0
    return float(_over(2 * right, given + true)[seen].mean()) if seen.any() else 0.0


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return a quotient; 0 where nothing is to be divided by."""
    return np.asarray(numerator) / np.maximum(denominator, 1)
