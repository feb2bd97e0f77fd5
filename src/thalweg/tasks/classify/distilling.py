"""Labels beside the probabilities of a teacher: mixed into soft targets, and compared on validation texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.errors import counted
from thalweg.tasks.reading.taught import Lessons


def mixed_labels(
    lessons: Lessons, values: Sequence[Any], labels: Sequence[str], weight: float, *, several: bool
) -> np.ndarray:
    """Return `weight` times the teacher's probabilities plus `1 - weight` on the labels, float32 `[rows, labels]`.

    A row without a label (None) keeps the teacher's probabilities. A KeyError names a label that is not among the
    teacher's.
    """
    places = {name: place for place, name in enumerate(labels)}
    targets = lessons.targets.astype(np.float64)
    for row, value in enumerate(values):
        names = value if several else [] if value is None else [value]
        own = [places[name] for name in names]
        if weight < 1.0 and value is not None:
            targets[row] *= weight
            targets[row, own] += 1.0 - weight
    return targets.astype(np.float32)


def label_comparison(teachers: float, own: float, count: int, *, is_teachers: bool) -> str:
    """Return the accuracies of teacher and pupil on validation texts in a sentence without its period."""
    texts = counted(count, "validation text")
    if is_teachers:
        return f"This model gives the teacher's label to {own:.1%} of the {texts}, which have no labels of their own"
    return f"The teacher is right on {teachers:.1%} and this model on {own:.1%} of the {texts}"
