"""Which examples of data in blocks are in which batch: each in exactly one, whatever the processes."""

import numpy as np
import pytest

from thalweg.data.blocks.windows import WINDOW, Windows

SIZES = {
    "one block": [7],
    "unequal": [1, 50, 3, 3, 90, 2, 1, 1],
    "a window": [5] * WINDOW,
    "several windows": [3 + number % 4 for number in range(3 * WINDOW + 5)],
}


def dealt(windows, sizes, epoch):
    """Return for each example of this process, called (block, place), its batch in the epoch."""
    found, before = {}, 0
    ends = windows._plan(epoch)[1].tolist()
    for window, end in enumerate(ends):
        for block in windows.blocks(epoch, window).tolist():
            for place, batch in enumerate(windows.dealt(epoch, window, block, sizes[block]).tolist()):
                assert (block, place) not in found
                found[block, place] = before + batch
        before = end
    return found


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("name", SIZES)
def test_processes_share_all_examples_without_overlap_and_in_the_batches_of_one(name, world_size):
    sizes = SIZES[name]
    wanted = {(block, place) for block, size in enumerate(sizes) for place in range(size)}
    for epoch in (0, 3):
        alone = dealt(Windows(sizes, 4, seed=1), sizes, epoch)
        shares = [
            dealt(Windows(sizes, 4, seed=1, rank=rank, world_size=world_size), sizes, epoch)
            for rank in range(world_size)
        ]
        assert sum(map(len, shares)) == len(wanted)
        assert {key: batch for share in shares for key, batch in share.items()} == alone
        assert set(alone) == wanted


@pytest.mark.parametrize("name", SIZES)
def test_batches_of_a_window_have_sizes_that_differ_by_one(name):
    windows = Windows(SIZES[name], 4, seed=0)
    counts = np.bincount(list(dealt(windows, SIZES[name], 0).values()), minlength=windows.num_batches)
    first = 0
    for end in windows._plan(0)[1].tolist():
        assert np.ptp(counts[first:end]) <= 1
        first = end
    assert len(counts) == windows.num_batches == -(-sum(SIZES[name]) // 4)


def test_examples_that_turned_out_to_be_more_or_fewer_are_all_dealt_evenly():
    windows = Windows([20, 20], 4, seed=0)
    for size in (0, 1, 13, 45):
        found = windows.dealt(0, 0, 1, size)
        assert len(found) == size
        assert np.ptp(np.bincount(found, minlength=10)) <= 2


def test_order_is_a_function_of_seed_and_epoch_and_of_nothing_asked_before():
    sizes = SIZES["several windows"]
    one, other = Windows(sizes, 4, seed=5), Windows(sizes, 4, seed=5)
    for epoch in range(3):
        one.blocks(epoch, 0)
    assert dealt(one, sizes, 2) == dealt(other, sizes, 2)
    assert dealt(other, sizes, 2) != dealt(other, sizes, 1)
    assert dealt(Windows(sizes, 4, seed=6), sizes, 2) != dealt(other, sizes, 2)


def test_blocks_of_one_unit_are_read_in_the_same_window():
    sizes = SIZES["several windows"]
    units = np.arange(len(sizes)) // 16
    windows = Windows(sizes, 4, seed=0, units=units)
    found = [set(units[windows.blocks(1, window)]) for window in range(len(windows._plan(1)[0]))]
    assert sum(map(len, found)) == len(set(units))


def test_place_of_a_batch_and_what_is_out_of_range():
    windows = Windows(SIZES["several windows"], 4, seed=0)
    places = [windows.place(0, index) for index in range(windows.num_batches)]
    assert places == sorted(places)
    assert places[0] == (0, 0)
    with pytest.raises(IndexError, match="there is no"):
        windows.place(0, windows.num_batches)
    for wrong in ({"sizes": []}, {"sizes": [0]}, {"batch_size": 0}, {"rank": 2}, {"world_size": WINDOW + 1}):
        with pytest.raises(ValueError, match=r"Windows\("):
            Windows(**{"sizes": [3], "batch_size": 1, "seed": 0, "world_size": 2, **wrong})
