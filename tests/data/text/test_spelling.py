"""Character n-grams of words, in buckets, against Python's own slices."""

from collections import Counter

import numpy as np
import pytest
from scipy import sparse

from thalweg.data.text.spelling import BUCKETS, Spelling, cosine, grams
from thalweg.data.text.word_index import word_hashes

WORDS = ["running", "run", "a", "ann", "anna", "狗", "été", "x1", "٣"]


def spelled(words):
    found = word_hashes(words)
    return Spelling.of(found.characters, found.starts, found.lengths)


def slices(word, order):
    marked = f" {word} "
    return Counter(marked[i : i + order] for i in range(max(1, len(marked) - order + 1)))


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_n_grams_are_those_of_the_marked_words(order):
    found = grams(spelled(WORDS), order)
    assert found.shape == (len(WORDS), BUCKETS)
    names = sorted({piece for word in WORDS for piece in slices(word, order)})
    # With so few n-grams no two fall into one bucket, so that buckets and n-grams are the same but for their order.
    bucket = {}
    for row, word in enumerate(WORDS):
        counts = Counter(dict(zip(found[[row]].indices.tolist(), found[[row]].data.tolist(), strict=True)))
        assert sorted(counts.values()) == sorted(slices(word, order).values()), word
        for piece in slices(word, order):
            bucket.setdefault(piece, set(counts)).intersection_update(counts)
    assert all(bucket[name] for name in names)
    assert len(set(found.indices.tolist())) == len(names)


def test_a_word_alone_has_the_same_n_grams_as_among_others():
    together = grams(spelled(WORDS), 3)
    for row, word in enumerate(WORDS):
        alone = grams(spelled([word]), 3)
        assert alone.indices.tolist() == together[[row]].indices.tolist()


def test_vectors_have_length_one_and_alike_words_are_near():
    vectors = spelled(WORDS).vectors((2, 3))
    near = (vectors @ vectors.T).toarray()
    assert np.diag(near) == pytest.approx(np.ones(len(WORDS)))
    assert near[0, 1] > 0.2 > near[0, 3]
    shared = set(slices("ann", 2)) & set(slices("anna", 2)) | set(slices("ann", 3)) & set(slices("anna", 3))
    sizes = [sum(len(slices(word, order)) for order in (2, 3)) for word in ("ann", "anna")]
    assert near[3, 4] == pytest.approx(len(shared) / np.sqrt(sizes[0] * sizes[1]))


def test_digits_of_any_script_are_digits():
    assert spelled(WORDS).has_digit().tolist() == [False] * 7 + [True, True]
    assert not len(spelled([""]).has_digit())


def test_cosine_of_zero_rows_says_whether_both_are_zero():
    rows = sparse.csr_array(np.array([[3.0, 0.0], [0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [1.0, 1.0], [0.0, 0.0]]))
    assert cosine(rows, 3) == pytest.approx([0.6, 0.0, 1.0])
