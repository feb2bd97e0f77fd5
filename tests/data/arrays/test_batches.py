"""Batch order as a stateless function, and collation against loops written out."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from thalweg.data.arrays.batches import Examples, Order, contiguous, flat, num_chunks, pad, windows
from thalweg.data.arrays.ragged import Ragged, RaggedBuilder, Spill


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


LISTS = st.lists(st.lists(st.integers(1, 1000), max_size=6), min_size=1, max_size=8)


@given(LISTS, st.data(), st.sampled_from([None, 1, 3]))
def test_padding_is_that_of_pytorch(lists, data, max_length):
    indices = np.array(data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1)))
    tokens, mask = pad(Ragged.from_lists(lists), indices, max_length=max_length)
    rows = [torch.tensor(lists[index][:max_length], dtype=torch.int64) for index in indices]
    expected = pad_sequence(rows, batch_first=True)
    expected = expected if expected.shape[1] else torch.zeros(len(rows), 1, dtype=torch.int64)
    assert torch.equal(tokens, expected)
    assert torch.equal(mask, torch.arange(expected.shape[1]) < torch.tensor([[len(row)] for row in rows]))
    assert tokens.dtype == torch.int64


def test_padding_value_and_type_can_be_chosen():
    values, _ = pad(Ragged.from_lists([[0.5], []], np.float32), np.array([0, 1]), dtype=np.float64, padding=-1)
    assert values.tolist() == [[0.5], [-1.0]]
    assert values.dtype == torch.float64


@given(LISTS, st.data(), st.sampled_from([None, 2]))
def test_flat_bags_are_the_sequences_joined(lists, data, max_length):
    indices = np.array(data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1)))
    ragged = Ragged.from_lists(lists)
    weights = Ragged((ragged.values / 8).astype(np.float32), ragged.offsets)
    tokens, offsets, values = flat(ragged, weights, indices, max_length=max_length)
    chosen = [lists[index][:max_length] for index in indices]
    assert tokens.tolist() == list(chain.from_iterable(chosen))
    assert offsets.tolist() == [sum(map(len, chosen[:row])) for row in range(len(chosen))]
    assert values.tolist() == [token / 8 for token in list(chain.from_iterable(chosen))]
    whole = max_length is None and indices.tolist() == [*range(len(lists))]
    kind = torch.int32 if whole else torch.int64
    assert (tokens.dtype, offsets.dtype, values.dtype) == (kind, kind, torch.float32)
    assert not len(tokens) or whole == (tokens.data_ptr() == ragged.values.ctypes.data)  # all texts are not copied
    assert torch.equal(flat(ragged, None, indices, max_length=max_length)[2], torch.ones(len(tokens)))


def test_flat_bags_are_read_by_embedding_bag():
    ragged = Ragged.from_lists([[1, 2], [], [3]])
    weights = Ragged.from_lists([[0.5, 2.0], [], [1.0]], np.float32)
    tokens, offsets, values = flat(ragged, weights, np.array([2, 1, 0]))
    table = torch.nn.EmbeddingBag.from_pretrained(torch.eye(4), mode="sum")
    assert table(tokens, offsets, per_sample_weights=values).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0.5, 2, 0]]


def test_collation_reads_files_as_it_reads_memory(tmp_path):
    lists = [[1, 2, 3], [], [4]]
    builder = RaggedBuilder(np.int32, Spill(tmp_path, 0))
    builder.extend(lists)
    mapped, indices = builder.finish(), np.array([2, 0, 1])
    assert isinstance(mapped.values, np.memmap)
    for collate in (lambda ragged: pad(ragged, indices), lambda ragged: flat(ragged, ragged, indices)):
        for result, expected in zip(collate(mapped), collate(Ragged.from_lists(lists)), strict=True):
            assert torch.equal(result, expected)
            result.zero_()  # a copy: the file itself cannot be written to
    assert mapped.values.tolist() == [1, 2, 3, 4]


def test_windows_are_slices():
    series = np.random.default_rng(0).normal(size=(20, 3))
    starts = np.array([4, 0, 16])
    result = windows(series, starts, 4)
    assert torch.equal(result, torch.stack([torch.from_numpy(series[start : start + 4]) for start in starts]))
    assert windows(series, starts, 4, dtype=np.float32).dtype == torch.float32


@given(st.integers(0, 40), st.integers(1, 7))
@settings(max_examples=50)
def test_chunks_of_a_text_have_every_token_but_the_first_as_target_once(num_values, length):
    values = np.arange(100, 100 + num_values, dtype=np.int32)
    count = num_chunks(num_values, length)
    chunks, mask = contiguous(values, np.arange(count), length)
    assert chunks.shape == (count, length + 1)
    assert chunks[:, 1:][mask].tolist() == values[1:].tolist()
    assert chunks[:, :-1][mask].tolist() == values[:-1].tolist()
    assert (chunks[:, 1:][~mask] == 0).all()


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
