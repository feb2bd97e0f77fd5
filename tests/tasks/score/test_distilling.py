"""Numbers beside those of a teacher (what is trained on them: tests/training/distilled)."""

import pytest

from thalweg.tasks.score.distilling import number_comparison


@pytest.mark.parametrize(("own", "said"), [(False, "0.5 for the teacher and 0.75 for this model"), (True, "by 0.75")])
def test_the_comparison_says_whose_numbers_they_are(own, said):
    assert said in number_comparison(0.5, 0.75, 20, is_teachers=own)
