"""One pass over the texts gives what two passes give."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.arrays.ragged import RaggedBuilder
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.data.text.word_index import WordIndex

TEXTS = st.lists(st.text("abc de.😀谷", max_size=20), max_size=8)


@given(TEXTS, st.integers(4, 12), st.integers(1, 3))
def test_one_pass_gives_the_ids_of_two(texts, vocabulary_size, min_count):
    index, builder = WordIndex(), RaggedBuilder()
    for start in range(0, len(texts), 2):
        ids, lengths = index.encode(texts[start : start + 2])
        index.count(ids)
        builder.extend_flat(ids, lengths)
    tokenizer, table = index.finish(vocabulary_size, min_count=min_count)
    reference = Tokenizer.train(texts, "word", vocabulary_size, min_count=min_count)
    assert [tokenizer.token(i) for i in range(tokenizer.vocabulary_size)] == [
        reference.token(i) for i in range(reference.vocabulary_size)
    ]
    ragged = builder.finish(table)
    values, lengths = reference.encode_many(texts)
    np.testing.assert_array_equal(ragged.values, values)
    np.testing.assert_array_equal(ragged.lengths, lengths)
    assert ragged.values.dtype == np.int32


def test_words_that_were_not_counted_are_unknown():
    index = WordIndex()
    train, _ = index.encode(["a a b"])
    valid, _ = index.encode(["c a"])
    index.count(train)
    tokenizer, table = index.finish()
    assert table[valid].tolist() == [1, 4]
    assert tokenizer.id_of("c") is None


def test_words_beyond_the_bound_are_unknown():
    index = WordIndex(max_words=2)
    ids, _ = index.encode(["a b c c c a"])
    index.count(ids)
    tokenizer, table = index.finish()
    assert table[ids].tolist() == [4, 5, 1, 1, 1, 4]
    assert tokenizer.vocabulary_size == 6
