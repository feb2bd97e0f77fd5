"""The validation split: decided by the text alone, every label kept in training, neither side empty."""

import hashlib
import math

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


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
def test_the_fraction_is_met(fraction):
    found = validation_rows(text_keys(TEXTS), fraction).mean()
    assert abs(found - fraction) < 4 * (fraction * (1 - fraction) / len(TEXTS)) ** 0.5


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


@given(LABELED, st.floats(0.01, 0.99))
def test_no_text_is_on_both_sides_and_no_label_is_missing_from_training(rows, fraction):
    texts = np.array([text for text, _ in rows])
    labels = np.array([label for _, label in rows])
    table = labels[:, None] == np.arange(3)
    keys = text_keys([f"t{text}" for text in texts])
    others = {text: {label for t, label in rows if t != text} for text in texts.tolist()}
    can_go = [text for text in others if {label for t, label in rows if t == text} <= others[text]]
    if not can_go:
        with pytest.raises(InputError, match=r"films\.csv: expected"):
            validation_rows(keys, fraction, table, name="films.csv")
        return
    valid = validation_rows(keys, fraction, table)
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


def place(text: str) -> float:
    """Where a text lies in [0, 1), in Python's own integers."""
    number, mask = text_key(text) + 0x9E3779B97F4A7C15 & 2**64 - 1, 2**64 - 1
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & mask
    number = (number ^ number >> 27) * 0x94D049BB133111EB & mask
    return (number ^ number >> 31) / 2**64


def expected_split(texts: list[str], labels: list[int] | None, fraction: float) -> set[str]:
    """The texts for validation, by the rule as it is documented."""
    ordered = sorted(set(texts), key=place)
    valid = {text for text in ordered if place(text) < fraction} or {ordered[0]}
    if len(valid) == len(ordered):
        valid.remove(ordered[-1])
    if labels is None:
        return valid
    labels_of = {text: {label for t, label in zip(texts, labels, strict=True) if t == text} for text in ordered}
    in_training = set().union(*(labels_of[text] for text in ordered if text not in valid))
    kept = {text for text in valid if labels_of[text] <= in_training}
    spare = (t for t in ordered if all(any(x in labels_of[o] for o in ordered if o != t) for x in labels_of[t]))
    return kept or {next(spare)}


@pytest.mark.parametrize("fraction", [1e-9, 0.05, 0.1, 0.3, 0.5, 0.9, 1 - 1e-9])
def test_tiny_data_are_split_as_documented_and_not_nearly_all_to_one_side(fraction):
    for num_texts in range(2, 31):
        for seed in range(6):
            generator = np.random.default_rng([num_texts, seed])
            texts = [f"{seed} text {number}" for number in range(num_texts)]
            texts += generator.choice(texts, generator.integers(0, 4)).tolist()  # some come again
            labels = generator.integers(0, 2, len(texts)).tolist()
            valid = validation_rows(text_keys(texts), fraction)
            assert {text for text, chosen in zip(texts, valid, strict=True) if chosen} == expected_split(
                texts, None, fraction
            )
            num_valid = len(set(np.array(texts)[valid]))
            assert 1 <= num_valid <= num_texts - 1
            # Six standard deviations of a binomial count.
            reach = 6 * math.sqrt(num_texts * fraction * (1 - fraction)) + 1
            assert abs(num_valid - fraction * num_texts) <= reach
            try:
                valid = validation_rows(text_keys(texts), fraction, np.array(labels)[:, None] == np.arange(2))
            except InputError:
                with pytest.raises(StopIteration):
                    expected_split(texts, labels, fraction)
                continue
            assert {text for text, chosen in zip(texts, valid, strict=True) if chosen} == expected_split(
                texts, labels, fraction
            )


def test_a_single_text_cannot_be_cut():
    for texts in [[], ["a"], ["a", "a"]]:
        with pytest.raises(InputError, match=f"data: expected at least two different texts.*got {len(set(texts))}"):
            validation_rows(text_keys(texts), 0.1, name="data")


def test_texts_with_a_label_each_cannot_be_cut():
    with pytest.raises(InputError, match="the only one with its label"):
        validation_rows(text_keys(TEXTS[:50]), 0.2, np.eye(50, dtype=bool))


def test_a_fraction_outside_is_refused():
    for fraction in [0.0, 1.0, -0.1, float("nan")]:
        with pytest.raises(ValueError, match=r"fraction=\.\.\.\) must lie in \(0, 1\)"):
            validation_rows(text_keys(TEXTS), fraction)
