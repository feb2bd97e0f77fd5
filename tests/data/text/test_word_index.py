"""One pass over the texts gives what two passes give, and finds the words of the regular expression."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.arrays.ragged import RaggedBuilder
from thalweg.data.text import word_index
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.data.text.word_index import WordIndex
from thalweg.data.text.words import split_words

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


ANY_TEXT = st.text(st.characters(), max_size=30) | st.text("ab_ .'\n\u00e9\u4e2d\ud800\U0001f600", max_size=12)


@given(st.lists(ANY_TEXT, max_size=6))
def test_the_words_are_those_of_the_regular_expression(texts):
    words = word_index.word_hashes(texts)
    expected = [split_words(text) for text in texts]
    assert words.words_of.tolist() == [len(row) for row in expected]
    assert [words.word(i) for i in range(len(words.hashes))] == [word for row in expected for word in row]


def test_every_character_alone_is_read_as_by_the_regular_expression():
    # Beyond the first planes there are tags (from U+E0000 on) and private characters only.
    characters = [chr(code) for code in (*range(0x32000), *range(0x32000, 0x110000, 31))]
    words = word_index.word_hashes(characters)
    assert words.words_of.tolist() == [len(split_words(character)) for character in characters]
    assert len(np.unique(words.hashes)) == len(words.hashes)


def test_different_words_have_different_hashes_and_equal_words_equal_ones():
    generator = np.random.default_rng(0)
    letters = np.array(list("ab"))  # few letters: many words that differ in their order alone
    text = [" ".join("".join(generator.choice(letters, size)) for _ in range(3000)) for size in (6, 12, 17, 64)]
    words = word_index.word_hashes(text)
    spelled = [words.word(i) for i in range(len(words.hashes))]
    assert len(set(spelled)) == len(set(zip(spelled, words.hashes.tolist(), strict=True)))
    assert len(set(spelled)) == len(np.unique(words.hashes))


@pytest.mark.parametrize("num_characters", [1, 50, 10**6])
def test_numbers_are_given_in_order_whatever_the_tables_hold(monkeypatch, num_characters):
    """Tables so small that words fight for slots, and grow on the way."""
    monkeypatch.setattr(word_index, "_NUM_CHARACTERS", num_characters)
    monkeypatch.setattr(word_index, "_FIRST_BITS", 2)
    monkeypatch.setattr(word_index, "_LAST_BITS", 6)
    generator = np.random.default_rng(1)
    texts = [" ".join(f"w{i}" for i in generator.zipf(1.3, generator.integers(0, 20)) % 500) for _ in range(300)]
    index = WordIndex()
    numbers: dict[str, int] = {}
    for _ in range(2):
        ids, lengths = index.encode(texts)
        expected = [[numbers.setdefault(word, len(numbers) + 1) for word in text.split()] for text in texts]
        assert ids.tolist() == [number for row in expected for number in row]
        assert lengths.tolist() == [len(row) for row in expected]
