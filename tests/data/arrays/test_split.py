"""The validation part: decided by the text alone, every label kept in training."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.arrays.split import text_key, text_keys, validation_rows
from thalweg.errors import InputError

TEXTS = [f"text number {number}" for number in range(5000)]


def test_keys_are_the_published_hash_and_the_fast_way_agrees():
    texts = ["", "valley", "Tal 谷 😀", "\ud800"]
    expected = [
        int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        for text in texts
    ]
    assert [text_key(text) for text in texts] == expected
    assert text_keys(texts).tolist() == expected
    assert text_keys([]).tolist() == []


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_is_met(share):
    found = validation_rows(text_keys(TEXTS), share).mean()
    assert abs(found - share) < 4 * (share * (1 - share) / len(TEXTS)) ** 0.5


def test_the_choice_does_not_depend_on_order_or_on_other_rows():
    keys = text_keys(TEXTS)
    valid = validation_rows(keys, 0.2)
    order = np.random.default_rng(0).permutation(len(keys))
    np.testing.assert_array_equal(validation_rows(keys[order], 0.2), valid[order])
    np.testing.assert_array_equal(validation_rows(keys[:1000], 0.2), valid[:1000])
    assert (valid <= validation_rows(keys, 0.3)).all()


def test_keys_that_are_no_hashes_are_spread_as_well():
    assert 0.08 < validation_rows(np.arange(5000, dtype=np.uint64), 0.1).mean() < 0.12


LABELED = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=20)


@given(LABELED, st.floats(0.01, 0.99), st.booleans())
def test_no_text_is_on_both_sides_and_no_label_is_missing_from_training(rows, share, several):
    texts = np.array([text for text, _ in rows])
    labels = np.array([label for _, label in rows])
    table = labels[:, None] == np.arange(3) if several else labels
    keys = text_keys([f"t{text}" for text in texts])
    others = {text: {label for t, label in rows if t != text} for text in texts.tolist()}
    can_go = [text for text in others if {label for t, label in rows if t == text} <= others[text]]
    if not can_go:
        with pytest.raises(InputError, match=r"films\.csv: expected"):
            validation_rows(keys, share, table, name="films.csv")
        return
    valid = validation_rows(keys, share, table)
    assert valid.any()
    assert not valid.all()
    assert valid.dtype == bool
    assert not set(texts[valid]) & set(texts[~valid])
    assert set(labels[valid]) <= set(labels[~valid])


def test_rows_with_several_labels_keep_each_label_in_training():
    labels = np.zeros((100, 3), dtype=bool)
    labels[:, 0] = True
    rare = np.flatnonzero(validation_rows(text_keys(TEXTS[:100]), 0.3))[:2]
    labels[rare, 1] = True
    valid = validation_rows(text_keys(TEXTS[:100]), 0.3, labels)
    assert not valid[rare].any()
    assert valid.sum() > 10


def test_string_labels_are_taken():
    labels = np.array(["a", "b"] * 20)
    assert 0 < validation_rows(text_keys(TEXTS[:40]), 0.25, labels).sum() < 40


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_neither_side_is_empty(share):
    assert validation_rows(text_keys(["a", "b", "b"]), share).sum() in (1, 2)


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "a"]])
def test_a_single_text_cannot_be_cut(texts):
    with pytest.raises(InputError, match=f"data: expected at least two different texts.*got {len(set(texts))}"):
        validation_rows(text_keys(texts), 0.1, name="data")


def test_texts_with_a_label_each_cannot_be_cut():
    with pytest.raises(InputError, match="the only one with its label"):
        validation_rows(text_keys(TEXTS[:50]), 0.2, np.arange(50))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_is_refused(share):
    with pytest.raises(ValueError, match=r"share=\.\.\.\) must lie in \(0, 1\)"):
        validation_rows(text_keys(TEXTS), share)
