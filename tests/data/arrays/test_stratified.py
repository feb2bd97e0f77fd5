"""The stratified split: shares of labels, texts on one side, no dependence on order, nothing missing from training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.arrays.ragged import Ragged
from thalweg.data.arrays.split import text_keys
from thalweg.data.arrays.stratified import stratified_rows
from thalweg.errors import InputError

TEXTS = [f"text number {number}" for number in range(5000)]
ROWS = st.lists(st.tuples(st.integers(0, 6), st.sets(st.integers(0, 3), max_size=3)), min_size=1, max_size=20)


def labels_of(rows):
    """The labels that the rows of each text have; no label counts as one."""
    found = {}
    for text, labels in rows:
        found.setdefault(text, set()).update(labels or {-1})
    return found


@given(ROWS, st.floats(0.01, 0.99))
def test_no_text_is_on_both_sides_and_no_label_is_missing_from_training(rows, fraction):
    keys = text_keys([f"t{text}" for text, _ in rows])
    labels = Ragged.from_lists([sorted(labels) for _, labels in rows])
    known = labels_of(rows)
    spare = [t for t in known if all(any(x in known[o] for o in known if o != t) for x in known[t])]
    if not spare:
        with pytest.raises(InputError, match=r"films\.csv: expected (a label with )?at least two different texts"):
            stratified_rows(keys, fraction, labels, "films.csv")
        return
    valid = stratified_rows(keys, fraction, labels)
    assert valid.any()
    assert not valid.all()
    held_out = {text for (text, _), chosen in zip(rows, valid, strict=True) if chosen}
    assert not held_out & {text for (text, _), chosen in zip(rows, valid, strict=True) if not chosen}
    assert set().union(*known.values()) == set().union(*(known[text] for text in known if text not in held_out))
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_array_equal(stratified_rows(keys[order], fraction, labels.take(order)), valid[order])


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_each_label_has_its_share_to_less_than_one_text(fraction):
    sizes = np.array([1, 2, 3, 5, 9, 10, 20, 73, 500, 4000])
    labels = np.repeat(np.arange(len(sizes)), sizes)
    keys = text_keys(TEXTS[: len(labels)])
    valid = stratified_rows(keys, fraction, labels)
    found = np.bincount(labels[valid], minlength=len(sizes))
    assert found[0] == 0
    assert (found < np.maximum(sizes, 1)).all()
    # Half a text of its own rounding and half of the label before; and one text of each stays in training.
    assert (np.abs(found - fraction * sizes)[1:] <= 1.0).all()
    assert abs(found.sum() - fraction * sizes[1:].sum()) <= (sizes * (1 - fraction) < 1).sum() + 0.5


def test_many_small_labels_have_their_share_together():
    labels = np.repeat(np.arange(300), 2)
    assert stratified_rows(text_keys(TEXTS[:600]), 0.1, labels).sum() == 60


def test_rare_labels_among_several_have_their_share():
    generator = np.random.default_rng(0)
    shares = np.array([0.004, 0.008, 0.02, 0.1, 0.3, 0.6])
    table = generator.random((5000, 6)) < shares
    table[:, 5] |= table[:, 0]  # a label that always comes with a rare one
    labels = Ragged.from_lists([np.flatnonzero(row) for row in table])
    valid = stratified_rows(text_keys(TEXTS), 0.1, labels)
    counts = table.sum(0)
    assert np.abs(table[valid].sum(0) - 0.1 * counts)[:5].max() <= 2.0
    np.testing.assert_allclose(table[valid].sum(0), 0.1 * counts, atol=4.0)
    assert abs(valid.sum() - 500) <= 5


def test_copies_of_a_text_count_once_and_go_together():
    texts = [TEXTS[0]] * 50 + TEXTS[1:20]
    valid = stratified_rows(text_keys(texts), 0.3, np.zeros(len(texts), dtype=int))
    assert len({text for text, chosen in zip(texts, valid, strict=True) if chosen}) == 6
    assert len(set(valid[:50].tolist())) == 1


def test_labels_may_be_strings_and_their_names_do_not_matter():
    ids, keys = np.arange(40) % 3, text_keys(TEXTS[:40])
    np.testing.assert_array_equal(
        stratified_rows(keys, 0.25, np.array(["a", "b", "c"])[ids]), stratified_rows(keys, 0.25, ids)
    )


@pytest.mark.parametrize("num_texts", [0, 1])
def test_a_single_text_cannot_be_split(num_texts):
    keys = text_keys(TEXTS[:1] * 2 * num_texts)
    with pytest.raises(InputError, match=f"data: expected at least two different texts.*got {num_texts}"):
        stratified_rows(keys, 0.1, np.zeros(len(keys), dtype=int), "data")


def test_texts_with_a_label_each_cannot_be_split():
    with pytest.raises(InputError, match="the only one with its label"):
        stratified_rows(text_keys(TEXTS[:50]), 0.2, np.arange(50))


@pytest.mark.parametrize("fraction", [0.0, 1.0, float("nan")])
def test_a_fraction_outside_is_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction=\.\.\.\) must lie in \(0, 1\)"):
        stratified_rows(text_keys(TEXTS), fraction, np.zeros(5000, dtype=int))
