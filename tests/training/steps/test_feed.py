"""From a step's number to its batches, whichever step is asked for first."""

import pytest
from reviews import session_for, write_reviews


@pytest.mark.parametrize("batch_size", [0, 32, 1000])
def test_a_run_that_goes_on_sees_the_batches_of_the_undisturbed_one(tmp_path, batch_size):
    """In the same order, which decides how they are shared out, and the last bits of their sums."""
    feed = session_for(write_reviews(tmp_path / "reviews.csv"), tmp_path, batch_size=batch_size).feed
    again = feed.with_batch_size(batch_size + 1).with_batch_size(batch_size)
    assert again is not feed
    undisturbed = [[batch.keys.tolist() for batch in feed(step)] for step in range(6)]
    assert [[batch.keys.tolist() for batch in again(step)] for step in range(4, 6)] == undisturbed[4:]
