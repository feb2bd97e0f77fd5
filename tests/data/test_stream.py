"""Shuffling of endless input, and going on from a number."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.stream import ShuffleBuffer, share_of


@given(st.integers(0, 40), st.integers(1, 10), st.integers(0, 5))
def test_every_item_comes_once_and_at_most_a_buffer_early(num_items, size, seed):
    result = list(ShuffleBuffer(range(num_items), size, seed=seed))
    assert sorted(result) == list(range(num_items))
    assert all(item < place + size for place, item in enumerate(result))


@given(st.integers(0, 40), st.integers(1, 10), st.integers(0, 5), st.integers(0, 50))
def test_a_buffer_goes_on_where_another_stopped(num_items, size, seed, consumed):
    whole = list(ShuffleBuffer(range(num_items), size, seed=seed))
    rest = ShuffleBuffer(range(num_items), size, seed=seed, consumed=consumed)
    assert list(rest) == whole[consumed:]
    assert rest.consumed == num_items


def test_endless_input_is_read_only_a_buffer_ahead():
    numbers = itertools.count()
    buffer = ShuffleBuffer(numbers, 100, seed=0)
    given_out = list(itertools.islice(buffer, 1000))
    assert buffer.consumed == 1000
    assert next(numbers) <= 1100
    assert len(set(given_out)) == 1000


def test_a_buffer_of_one_keeps_the_order_and_seeds_differ():
    assert list(ShuffleBuffer("abc", 1, seed=0)) == ["a", "b", "c"]
    orders = {tuple(ShuffleBuffer(range(20), 20, seed=seed)) for seed in range(10)}
    assert len(orders) == 10


def test_a_full_buffer_draws_uniformly():
    first = [next(ShuffleBuffer(range(8), 8, seed=seed)) for seed in range(2000)]
    counts = np.bincount(first, minlength=8)
    assert ((counts - 250.0) ** 2 / 250).sum() < 24.3  # chi-square, 7 degrees of freedom, probability 0.999


def test_shares_of_all_ranks_are_the_whole():
    shares = [list(share_of(range(11), rank, 3)) for rank in range(3)]
    assert shares[0] == [0, 3, 6, 9]
    assert sorted(itertools.chain.from_iterable(shares)) == list(range(11))


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"size=\.\.\.\) must be at least 1; got 0"):
        ShuffleBuffer([], 0, seed=0)
    with pytest.raises(ValueError, match=r"consumed=\.\.\.\) must be 0 or more; got -1"):
        ShuffleBuffer([], 1, seed=0, consumed=-1)
    with pytest.raises(ValueError, match=r"rank=\.\.\.\) must lie in \[0, world_size\); got 1 of 1"):
        share_of([], 1, 1)
