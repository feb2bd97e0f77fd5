"""Rows with what a teacher says of them."""

import numpy as np
import pytest
import torch

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.data.containers.memory import source_of
from thalweg.errors import InputError
from thalweg.tasks.reading.taught import (
    TARGETS,
    Lessons,
    Taught,
    Unlabeled,
    labels_known,
    lessons_of,
    taken,
    taught_batch,
)

ROWS = {"text": ["a", "b", "c"], "label": ["x", None, "y"]}
LESSONS = Lessons(np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], dtype=np.float32), np.array([0, 1, 1]))


class Pupil:
    def stand_in(self, row):
        return f"stand-in {row}"


@pytest.mark.parametrize(("replaces", "expected"), [(False, ["x", "y", "y"]), (True, ["x", "y", "x"])])
def test_rows_without_a_label_have_the_teachers(replaces, expected):
    source = source_of(ROWS, "rows", skip_bad_rows=False)
    taught = Taught(source, "label", LESSONS, ["x", "y", "x"], ("x", "y"), replaces=replaces)
    for size in (1, 4096):
        assert [value for chunk in taught.chunks(size) for value in chunk.column("label")] == expected
    assert lessons_of(taught) is LESSONS
    assert labels_known(taught) == ("x", "y")
    assert lessons_of(source) is None
    assert labels_known(source) is None


@pytest.mark.parametrize("count", [2, 4])
def test_other_rows_than_the_teacher_saw_are_refused(count):
    source = source_of(ROWS, "rows", skip_bad_rows=False)
    with pytest.raises(InputError, match="rows has other rows than the teacher was asked about"):
        list(Taught(source, "label", LESSONS, ["x"] * count, ("x",), replaces=False).chunks())


def test_a_missing_column_has_stand_ins():
    source = Unlabeled(source_of({"text": ["a", "b"]}, "rows", skip_bad_rows=False), "label", Pupil())
    assert source.columns == ("text", "label")
    assert [row.values for row in source.rows()] == [("a", "stand-in 0"), ("b", "stand-in 1")]


def test_batches_have_the_teachers_targets():
    examples = Examples({"labels": np.array([0, 1, 1]), **LESSONS.columns()})
    batch = Batch({}, torch.tensor([1, 0]))
    targets = taught_batch(batch, examples, np.array([2, 0])).targets
    np.testing.assert_array_equal(targets.numpy(), LESSONS.targets[[2, 0]])
    assert taught_batch(batch, Examples({"labels": np.array([0])}), np.array([0])) is batch
    rows = np.array([False, True, True])
    assert taken(None, rows) is None
    assert taken(LESSONS, rows).columns()[TARGETS].shape == (2, 2)
