"""Labels mixed with a teacher's probabilities."""

import numpy as np
import pytest

from thalweg.tasks.classify.distilling import label_comparison, mixed_labels
from thalweg.tasks.reading.taught import Lessons

CHANCES = np.array([[0.9, 0.1], [0.2, 0.8]], dtype=np.float32)
CASES = {
    "teacher alone": (["b", "b"], 1.0, False, CHANCES),
    "halves": (["b", None], 0.5, False, [[0.45, 0.55], [0.2, 0.8]]),
    "labels alone": (["b", "a"], 0.0, False, [[0.0, 1.0], [1.0, 0.0]]),
    "several": ([["a", "b"], []], 0.5, True, [[0.95, 0.55], [0.1, 0.4]]),
}


@pytest.mark.parametrize(("values", "weight", "several", "expected"), CASES.values(), ids=CASES)
def test_targets_are_shares_of_both(values, weight, several, expected):
    found = mixed_labels(Lessons(CHANCES, CHANCES.argmax(1)), values, ("a", "b"), weight, several=several)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_comparison_says_whose_labels_they_are():
    said = [label_comparison(0.9, 0.85, 100, is_teachers=own) for own in (False, True)]
    assert said[0] == "The teacher is right on 90.0% and this model on 85.0% of the 100 validation texts"
    assert said[1].startswith("This model gives the teacher's label to 85.0% of the 100 validation texts")
