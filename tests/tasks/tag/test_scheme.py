"""Which tags may follow each other: BIO, BIOES, and sentences that break the scheme."""

import itertools

import numpy as np
import pytest

from thalweg.data.arrays.ragged import Ragged
from thalweg.tasks.tag.scheme import allowed_steps, follows, num_broken

BIO = ("B-a", "B-b", "I-a", "I-b", "O")
BIOES = ("B-a", "E-a", "I-a", "O", "S-a")


@pytest.mark.parametrize(
    ("tags", "first", "last", "pairs"),
    [
        (BIO, "B-a B-b O", "B-a B-b I-a I-b O", "B-a I-a, I-a I-a, B-b I-b, I-b I-b"),
        (BIOES, "B-a O S-a", "E-a O S-a", "B-a I-a, B-a E-a, I-a I-a, I-a E-a"),
    ],
)
def test_steps_of_a_scheme(tags, first, last, pairs):
    steps, ends = allowed_steps(tags)
    assert " ".join(tag for tag, may in zip(tags, steps[0], strict=True) if may) == first
    assert " ".join(tag for tag, may in zip(tags, ends, strict=True) if may) == last
    inner = {tuple(pair.split()) for pair in pairs.split(", ")}
    outside = set(last.split())  # after these, whatever may come first may follow
    expected = inner | set(itertools.product(outside, first.split()))
    found = {(a, b) for (i, a), (j, b) in itertools.product(enumerate(tags), enumerate(tags)) if steps[1 + i, j]}
    assert found == expected


def test_sentences_that_break_a_scheme_are_counted():
    steps, ends = allowed_steps(BIOES)
    sentences = [["O"], ["I-a", "E-a"], ["B-a", "E-a"], ["B-a"], ["S-a", "S-a"], ["B-a", "O", "B-a"], []]
    ids = Ragged.from_lists([[BIOES.index(tag) for tag in sentence] for sentence in sentences])
    broken = [
        any(not follows(a, b, bioes=True) for a, b in itertools.pairwise(["O", *sentence, "O"]))
        for sentence in sentences
    ]
    assert num_broken(steps, ends, ids) == sum(broken) == 3
    assert num_broken(steps, ends, Ragged.from_lists([np.array([], dtype=np.int32)])) == 0
