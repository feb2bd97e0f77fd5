"""Figures of classifiers' answers, one function for thalweg and its peers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

BINS = 15


@final
@dataclass(frozen=True)
class Answers:
    """What a classifier says about each text.

    Args:
        labels: its answer.
        likeliest: the label with the largest probability; another one than the answer where thresholds decide.
        probability: of the likeliest label.
        of_truth: probability of the true label.
    """

    labels: Sequence[str]
    likeliest: Sequence[str] = ()
    probability: Sequence[float] = ()
    of_truth: Sequence[float] = ()


def measures(truth: Sequence[str], answers: Answers, rare: Sequence[str] = ()) -> dict[str, Any]:
    """Return accuracy, macro F1 of labels given or answered, calibration error, log loss, and rare labels."""
    true, given = np.array(truth), np.array(answers.labels)
    found: dict[str, Any] = {
        "accuracy": float(np.mean(true == given)),
        "macro_f1": float(np.mean([f1(true, given, label) for label in sorted({*truth, *answers.labels})])),
    }
    if answers.probability:
        right = true == np.array(answers.likeliest)
        found["ece"] = calibration_error(right, np.array(answers.probability))
        found["log_loss"] = float(-np.mean(np.log(np.clip(answers.of_truth, 1e-15, None))))
    if rare:
        found["rare_recall"] = float(np.mean([np.mean(given[true == label] == label) for label in rare]))
        found["rare_f1"] = float(np.mean([f1(true, given, label) for label in rare]))
    return found


def f1(true: np.ndarray, given: np.ndarray, label: str) -> float:
    """Return twice the right answers over all places of a label; 0 where there is none."""
    places = np.sum(true == label) + np.sum(given == label)
    return float(2 * np.sum((true == label) & (given == label)) / max(places, 1))


def calibration_error(right: np.ndarray, probability: np.ndarray) -> float:
    """Return the mean distance of accuracy and probability in 15 bins of equal width, weighted by their examples."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [abs(np.sum(right[bins == number]) - np.sum(probability[bins == number])) for number in range(BINS)]
    return float(np.sum(gaps) / len(right))
