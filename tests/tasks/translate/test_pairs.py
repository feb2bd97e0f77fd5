"""Which pairs are trained on: long ones, odd ones, and that none is left out of what is measured."""

import numpy as np
import pytest
from tests.tasks.translate.test_translate import Pairs as Rows
from tests.tasks.translate.test_translate import settings

from thalweg.data.arrays.ragged import IN_MEMORY
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.tasks.translate.pairs import Pairs, Reading, tokens_of
from thalweg.tasks.translate.task import Translate

BYTES = Tokenizer.train([], "byte")
ROWS = [
    ("a" * 5, "b" * 5),
    ("a" * 30, "b" * 5),  # long, odd
    ("a", "b" * 10),  # short on both sides: may differ
    ("a", "b" * 11),  # odd
    ("a" * 12, "b" * 4),  # three times as long
    ("a" * 19, "b" * 19),  # with its end as long as may be
    ("a" * 20, "b" * 20),  # too long by one
    *[("a" * 5, "b" * 5)] * 7,
]
DROPPED = (
    "2 of 14 training pairs have a text of more than 19 tokens and were left out (--max-length; --long cut keeps the "
    "beginnings)."
)


def read(rows=ROWS, **options):
    pairs = Pairs(Rows(rows), {"source": "english", "target": "german"}, settings().normalizer())
    reading = Reading(BYTES, BYTES, 20, IN_MEMORY, **options)
    keep = np.ones(len(rows), dtype=bool)
    examples, notes = reading.training(pairs, keep)
    kept = [(len(s), len(t)) for s, t in zip(examples.ragged("source"), examples.ragged("target"), strict=True)]
    return kept, notes, reading.held_out(pairs, keep)


@pytest.mark.parametrize(
    ("options", "kept", "notes"),
    [
        ({}, [0, 2, 3, 4, 5], [DROPPED, "1 of 14 training pairs have more than 9 times as many tokens on one side: are "
                               "they translations? --max-ratio 9 leaves them out."]),
        ({"max_ratio": 9.0}, [0, 2, 4, 5], [DROPPED, "1 of 14 training pairs have more than 9 times as many tokens on "
                                            "one side and were left out (--max-ratio)."]),
        ({"max_ratio": 2.5}, [0, 2, 5], [DROPPED, "2 of 14 training pairs have more than 2.5 times as many tokens on "
                                         "one side and were left out (--max-ratio)."]),
        ({"max_ratio": 3.0}, [0, 2, 4, 5], None),
        ({"long": "cut", "max_ratio": 1e9}, [0, 1, 2, 3, 4, 5, 6],
         ["3 texts are longer than 19 tokens and were truncated (--max-length)."]),
        ({"long": "cut", "max_ratio": 5.5}, [0, 2, 4, 5, 6], None),
    ],
)  # fmt: skip
def test_long_and_odd_pairs_are_left_out_and_counted(options, kept, notes):
    found, told, (held_out, cut) = read(**options)
    assert found == [tuple(min(20, len(text) + 1) for text in ROWS[row]) for row in [*kept, *range(7, 14)]]
    assert notes is None or told == notes
    assert len(held_out) == len(ROWS)
    assert cut == ["3 texts are longer than 19 tokens and were truncated (--max-length)."]


def test_data_of_odd_pairs_are_taken_as_they_are():
    rows = [("a", "b" * 15)] * 10
    assert read(rows)[:2] == ([(2, 16)] * 10, [])


def test_no_pair_left_is_refused():
    with pytest.raises(InputError, match=r"pairs.tsv: no pair is left to train on. 1 of 1 training pairs have a text"):
        Translate.prepare(Rows([(f"{n}" + "a" * 20, "b") for n in range(2)]), None, settings(share=0.5))


def test_ids_end_unless_they_are_cut():
    found = tokens_of(BYTES, ["ab", "", "abcd"], 4)
    assert [ids.tolist() for ids in found.ids] == [[101, 102, 3], [3], [101, 102, 103, 104]]
    assert found.lengths.tolist() == [2, 0, 4]
    assert found.is_cut.tolist() == [False, False, True]


def test_blocks_of_a_stream_are_read_by_the_same_rules():
    rows = [("ab", "cd"), ("e" * 30, "f")] * 20
    task, prepared = Translate.prepare(Rows([(f"{n}{a}", b) for n, (a, b) in enumerate(rows)]), None, settings())
    block = task.training_examples(Rows(rows[:6]), {"source": "english", "target": "german"})
    assert len(block) == 3
    assert block.columns.keys() == prepared.train.columns.keys()
    only_long = task.training_examples(Rows(rows[1:2]), {"source": "english", "target": "german"})
    assert len(only_long) == 0
