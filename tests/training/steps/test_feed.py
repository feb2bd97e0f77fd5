"""From a step's number to its batches, whichever step is asked for first."""

import numpy as np
import pytest
import torch
from reviews import session_for, write_reviews

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.training.steps.feed import Feed


@pytest.mark.parametrize("batch_size", [0, 32, 1000])
def test_a_run_that_goes_on_sees_the_batches_of_the_undisturbed_one(tmp_path, batch_size):
    """In the same order, which decides how they are shared out, and the last bits of their sums."""
    feed = session_for(write_reviews(tmp_path / "reviews.csv"), tmp_path, batch_size=batch_size).feed
    again = feed.with_batch_size(batch_size + 1).with_batch_size(batch_size)
    assert again is not feed
    undisturbed = [[batch.keys.tolist() for batch in feed(step)] for step in range(6)]
    assert [[batch.keys.tolist() for batch in again(step)] for step in range(4, 6)] == undisturbed[4:]


@pytest.mark.parametrize("batch_size", [4, 99])
def test_what_is_drawn_is_a_function_of_the_step_and_the_example(batch_size):
    examples = Examples({"label": np.arange(10)})

    def drawn(part, places, keys, number):
        del part
        return Batch({"number": torch.full((len(keys),), number)}, torch.from_numpy(keys * 1), None)

    def collate(part, places):
        raise AssertionError

    feed = Feed(examples, collate, batch_size=batch_size, accumulate=2, seed=3, drawn=drawn)
    assert not feed.is_fixed
    assert feed.is_alone
    steps = [feed(step) for step in range(6)]
    numbers = [{int(number) for batch in batches for number in batch.inputs["number"]} for batches in steps]
    assert all(len(each) == 1 for each in numbers)
    assert len(set.union(*numbers)) == 6
    again = feed.with_batch_size(50).with_batch_size(batch_size)(4)
    for batch, before in zip(again, steps[4], strict=True):
        assert torch.equal(batch.targets, before.targets)
        assert torch.equal(batch.targets, batch.keys)
        assert torch.equal(batch.inputs["number"], before.inputs["number"])
    other = Feed(examples, collate, batch_size=batch_size, accumulate=2, seed=4, drawn=drawn)(4)
    assert int(other[0].inputs["number"][0]) not in set.union(*numbers)
