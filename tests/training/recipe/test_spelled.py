"""Values of options as people write them."""

import pytest

from thalweg.training.recipe.spelled import batch_size, seconds


def test_durations_and_batch_sizes_of_the_command_line():
    assert [seconds(text) for text in ("60s", "5m", "2 min", "1.5h", "90", ".5")] == [60, 300, 120, 5400, 90, 0.5]
    assert (batch_size("full"), batch_size("32")) == (0, 32)
    for wrong in ("soon", "1.2.3s", "s", "-5s"):
        with pytest.raises(ValueError, match="expected a duration such as 60s, 5m or 1h; got"):
            seconds(wrong)
    for long in ("1000000001s", "9" * 400):
        with pytest.raises(ValueError, match="expected a duration of at most 1,000,000,000 seconds; got"):
            seconds(long)
    with pytest.raises(ValueError, match='expected a number of examples or "full"; got'):
        batch_size("half")
