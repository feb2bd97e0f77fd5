"""Batch order as a stateless function."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.arrays.batches import Examples, Order
from thalweg.data.arrays.ragged import Ragged


def epoch_of(order: Order, epoch: int) -> list[np.ndarray]:
    return [order.batch(epoch, index) for index in range(order.num_batches)]


ORDERS = st.tuples(
    st.integers(1, 60), st.integers(1, 20), st.integers(0, 5), st.booleans(), st.booleans(), st.integers(1, 4)
).filter(lambda case: min(case[0], case[1]) >= case[5])


@given(ORDERS)
def test_every_example_comes_exactly_once_an_epoch_over_all_ranks(case):
    num_examples, batch_size, seed, with_lengths, shuffle, world_size = case
    lengths = np.arange(num_examples) % 7 if with_lengths else None
    parts = []
    for rank in range(world_size):
        order = Order(
            num_examples, batch_size, seed=seed, lengths=lengths, shuffle=shuffle, rank=rank, world_size=world_size
        )
        parts.append(epoch_of(order, 3))
    assert sorted(np.concatenate([batch for part in parts for batch in part]).tolist()) == list(range(num_examples))
    sizes = np.array([[len(batch) for batch in part] for part in parts])
    assert sizes.min() >= 1
    assert (sizes.max(axis=0) - sizes.min(axis=0)).max() <= 1
    full = sizes.sum(axis=0)
    assert ((full >= min(batch_size, num_examples)).sum()) >= len(full) - 1


@given(ORDERS)
def test_ranks_share_the_batches_of_one_process(case):
    num_examples, batch_size, seed, with_lengths, shuffle, world_size = case
    lengths = np.arange(num_examples) % 7 if with_lengths else None
    rest = num_examples % batch_size
    if 0 < rest < world_size:
        return  # the rest joins another batch there
    options = {"seed": seed, "lengths": lengths, "shuffle": shuffle}
    alone = epoch_of(Order(num_examples, batch_size, **options), 1)
    shares = [
        epoch_of(Order(num_examples, batch_size, rank=rank, world_size=world_size, **options), 1)
        for rank in range(world_size)
    ]
    for index, batch in enumerate(alone):
        assert sorted(np.concatenate([share[index] for share in shares]).tolist()) == sorted(batch.tolist())


@given(ORDERS, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=5))
def test_a_batch_does_not_depend_on_what_was_asked_before(case, asked):
    num_examples, batch_size, seed, with_lengths, shuffle, _ = case
    lengths = np.arange(num_examples) % 7 if with_lengths else None
    used = Order(num_examples, batch_size, seed=seed, lengths=lengths, shuffle=shuffle)
    for epoch, index in asked:
        index %= used.num_batches
        fresh = Order(num_examples, batch_size, seed=seed, lengths=lengths, shuffle=shuffle)
        np.testing.assert_array_equal(used.batch(epoch, index), fresh.batch(epoch, index))


def test_changing_a_batch_does_not_change_the_order():
    order = Order(10, 5, seed=0)
    first = order.batch(0, 0)
    before = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(order.batch(0, 0), before)


def test_epochs_and_seeds_differ_and_the_first_place_is_uniform():
    first = [Order(8, 8, seed=seed).batch(epoch, 0)[0] for seed in range(20) for epoch in range(100)]
    counts = np.bincount(first, minlength=8)
    # 2000 draws from 8: chi-square with 7 degrees of freedom is below 24.3 with probability 0.999.
    assert ((counts - 250.0) ** 2 / 250).sum() < 24.3


def test_lengths_put_similar_examples_together():
    lengths = np.random.default_rng(0).integers(1, 200, 64 * 32 * 3)
    plain = epoch_of(Order(len(lengths), 32, seed=0), 0)
    sorted_ = epoch_of(Order(len(lengths), 32, seed=0, lengths=lengths), 0)

    def padded(batches):
        return sum(int(lengths[batch].max()) * len(batch) for batch in batches) / lengths.sum()

    assert padded(plain) > 1.8
    assert padded(sorted_) < 1.03
    # Batches of one length do not follow each other: neighbors are as different as random ones.
    means = np.array([lengths[batch].mean() for batch in sorted_])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.25


@given(st.integers(1, 60), st.integers(1, 80), st.integers(1, 3), st.integers(0, 3), st.booleans())
def test_batches_by_tokens_are_full_and_hold_every_example_once(num_examples, tokens, world_size, seed, several):
    num_examples = max(num_examples, world_size)
    lengths = np.random.default_rng(seed).integers(1, 12, (num_examples, 2) if several else num_examples)
    about = {"lengths": lengths, "batch_tokens": tokens, "seed": seed, "world_size": world_size}
    orders = [Order(num_examples, num_examples, rank=rank, **about) for rank in range(world_size)]
    longest = lengths.reshape(num_examples, -1).max(1)
    whole = [np.concatenate(parts) for parts in zip(*(epoch_of(order, 2) for order in orders), strict=True)]
    assert sorted(np.concatenate(whole).tolist()) == list(range(num_examples))
    for batch in whole:
        least = world_size if len(whole) > 1 else 1
        assert least <= len(batch) <= max(2 * world_size - 1, tokens // longest[batch].max())
    by_length = sorted(whole, key=lambda batch: (longest[batch].mean(), longest[batch].max(), -len(batch)))
    for batch, following in itertools.pairwise(by_length if world_size == 1 else []):  # one more would be too many
        assert (len(batch) + 1) * longest[following].min() > tokens


def test_two_lengths_leave_little_padding():
    lengths = np.random.default_rng(0).integers(1, 30, (20_000, 2))
    for order in (
        Order(20_000, 32, seed=0, lengths=lengths),
        Order(20_000, 32, seed=0, lengths=lengths, batch_tokens=500),
    ):
        batches = epoch_of(order, 0)
        padded = sum(len(batch) * int(lengths[batch].max(0).sum()) for batch in batches)
        assert padded < 1.12 * lengths.sum()
    one = Order(20_000, 32, seed=0, lengths=lengths.max(1))
    assert sum(len(batch) * int(lengths[batch].max(0).sum()) for batch in epoch_of(one, 0)) > 1.3 * lengths.sum()


def test_batches_by_tokens_need_lengths():
    with pytest.raises(ValueError, match="needs lengths"):
        Order(4, 2, seed=0, batch_tokens=8)


def test_dropping_the_last_batch_leaves_out_other_examples_each_epoch():
    order = Order(10, 4, seed=0, drop_last=True)
    assert order.num_batches == 2
    left_out = {frozenset(range(10)) - set(np.concatenate(epoch_of(order, epoch)).tolist()) for epoch in range(20)}
    assert len(left_out) > 5
    assert all(len(batch) == 4 for batch in epoch_of(order, 0))
    assert Order(3, 4, seed=0, drop_last=True).num_batches == 1


def test_without_shuffling_the_order_is_that_of_the_examples():
    assert [batch.tolist() for batch in epoch_of(Order(5, 2, seed=3, shuffle=False), 9)] == [[0, 1], [2, 3], [4]]


def test_orders_that_cannot_be_are_refused():
    for options, match in [
        ({"num_examples": 0}, r"num_examples=\.\.\.\) must be at least 1; got 0"),
        ({"batch_size": 0}, r"at least the number of processes, 1; got 0 and 10"),
        ({"rank": 2, "world_size": 2}, r"rank=\.\.\.\) must lie in \[0, world_size\); got 2 of 2"),
        ({"batch_size": 2, "world_size": 3}, r"number of processes, 3"),
        ({"seed": -1}, r"seed=\.\.\.\) must be 0 or more; got -1"),
        ({"lengths": np.ones(3)}, r"one length an example, 10; got 3"),
    ]:
        with pytest.raises(ValueError, match=match):
            Order(**{"num_examples": 10, "batch_size": 4, "seed": 0} | options)


def test_a_batch_that_is_not_there_is_refused():
    for epoch, index in [(0, 3), (0, -1), (-1, 0)]:
        with pytest.raises(IndexError, match="has 3 batches per epoch"):
            Order(10, 4, seed=0).batch(epoch, index)


def test_examples_know_their_number_and_lengths():
    tokens, other = Ragged.from_lists([[1, 2], [3], []]), Ragged.from_lists([[1], [2, 2, 2], []])
    examples = Examples({"tokens": tokens, "other_tokens": other, "label": np.array([2, 1, 0])}, ["a", "b", "c"])
    assert len(examples) == 3
    assert examples.lengths is not None
    assert examples.lengths.tolist() == [2, 3, 0]
    part = examples.take(np.array([2, 0]))
    assert part.raw == ["c", "a"]
    assert [column.tolist() for column in part.columns["tokens"]] == [[], [1, 2]]
    assert part.columns["label"].tolist() == [0, 2]
    assert Examples({"tokens": tokens}, sort_by=()).lengths is None
    assert Examples({"x": np.zeros(2)}).lengths is None


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"columns of one length; got \{'x': 2, 'raw': 1\}"):
        Examples({"x": np.zeros(2)}, ["a"])
