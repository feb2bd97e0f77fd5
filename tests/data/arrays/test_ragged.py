"""Ragged arrays against plain lists, in memory and in files."""

import errno
import gc
import resource
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.data.arrays.ragged import Ragged, RaggedBuilder, Spill, flat_positions

LISTS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=8), max_size=12)


def as_lists(ragged: Ragged) -> list[list[int]]:
    return [sequence.tolist() for sequence in ragged]


@given(LISTS)
def test_ragged_gives_back_the_lists_it_was_made_of(lists):
    ragged = Ragged.from_lists(lists)
    assert as_lists(ragged) == lists
    assert ragged.lengths.tolist() == [len(entry) for entry in lists]
    assert len(ragged) == len(lists)


@given(LISTS, st.data())
def test_take_and_slices_do_what_lists_do(lists, data):
    ragged = Ragged.from_lists(lists)
    part = data.draw(st.slices(len(lists))) if lists else slice(None)
    assert as_lists(ragged[part]) == lists[part]
    assert len(ragged[part].values) == sum(map(len, lists[part]))
    indices = data.draw(st.lists(st.integers(0, len(lists) - 1))) if lists else []
    assert as_lists(ragged.take(indices)) == [lists[index] for index in indices]


def test_take_reads_a_mask_as_a_mask_and_negative_indices_from_the_end():
    ragged = Ragged.from_lists([[1], [2, 3], [], [4]])
    assert as_lists(ragged.take(np.array([True, False, True, True]))) == [[1], [], [4]]
    assert as_lists(ragged.take([-1, 1])) == [[4], [2, 3]]
    assert ragged[-3].tolist() == [2, 3]


def test_an_index_outside_is_refused():
    ragged = Ragged.from_lists([[1], [2]])
    with pytest.raises(IndexError, match="has 2 sequences; there is no sequence 2"):
        ragged[2]
    with pytest.raises(IndexError, match="index 2 is out of bounds"):
        ragged.take([2])


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="end at 5, after the 2 values"):
        Ragged(np.zeros(2), np.array([0, 5]))
    with pytest.raises(ValueError, match="two 1-d arrays"):
        Ragged(np.zeros((2, 2)), np.array([0, 2]))
    with pytest.raises(ValueError, match=r"must sum to the 3 values; they sum to 2"):
        RaggedBuilder().extend_flat(np.zeros(3, dtype=np.int32), np.array([2]))


@given(LISTS, st.integers(0, 200), st.sampled_from([np.int32, np.float32]))
def test_a_builder_that_spills_gives_the_same_as_one_in_memory(tmp_path_factory, lists, spill_bytes, dtype):
    folder = tmp_path_factory.mktemp("spill")
    builder = RaggedBuilder(dtype, Spill(folder, spill_bytes))
    for entry in lists[:3]:
        builder.append(entry)
    builder.extend(lists[3:6])
    rest = lists[6:]
    builder.extend_flat(
        np.array(list(chain.from_iterable(rest)), dtype=dtype), np.array([len(entry) for entry in rest], dtype=np.int64)
    )
    ragged, reference = builder.finish(), Ragged.from_lists(lists, dtype)
    assert ragged.values.dtype == dtype
    np.testing.assert_array_equal(ragged.values, reference.values)
    np.testing.assert_array_equal(ragged.offsets, reference.offsets)
    np.testing.assert_array_equal(ragged.take(np.arange(len(lists))).values, reference.values)
    spilled = reference.values.nbytes > spill_bytes
    assert isinstance(ragged.values, np.memmap) == spilled
    assert any(folder.iterdir()) == (spilled or reference.offsets.nbytes > spill_bytes)


def test_a_folder_that_is_full_is_named_and_nothing_is_written_again(tmp_path):
    builder = RaggedBuilder(np.int64, Spill(tmp_path, 1000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as told:
            builder.append(np.arange(5_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert told.value.errno == errno.EFBIG
    assert str(told.value.filename).startswith(str(tmp_path / "ragged-"))
    del builder, told
    gc.collect()


@pytest.mark.parametrize("spill_bytes", [0, 10**9])
def test_provisional_values_are_replaced_by_the_table(tmp_path, spill_bytes):
    builder = RaggedBuilder(np.int32, Spill(tmp_path, spill_bytes))
    builder.extend([[0, 1], [], [2, 1]])
    ragged = builder.finish(np.array([10, 30, 20]))
    assert as_lists(ragged) == [[10, 30], [], [20, 30]]
    assert ragged.values.dtype == np.int32


def test_a_large_array_is_not_held_in_memory(tmp_path):
    builder = RaggedBuilder(np.int32, Spill(tmp_path, 2**20))
    part = np.arange(2**20, dtype=np.int32)
    for _ in range(20):  # 80 MB, written in pieces of 16 MB
        builder.extend_flat(part.copy(), np.full(2**10, 2**10))
        held = sum(piece.nbytes for piece in builder._values._pieces)
        assert held <= 20 * 2**20
    ragged = builder.finish()
    assert isinstance(ragged.values, np.memmap)
    assert len(ragged) == 20 * 2**10
    np.testing.assert_array_equal(ragged[3 * 2**10 + 5], np.arange(5 * 2**10, 6 * 2**10))


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 5))))
def test_flat_positions_are_the_ranges_joined(spans):
    starts, lengths = (np.array([span[side] for span in spans], dtype=np.int64) for side in (0, 1))
    expected = [place for start, length in spans for place in range(start, start + length)]
    assert flat_positions(starts, lengths).tolist() == expected
