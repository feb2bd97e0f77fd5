"""Values of a stream as numbers."""

import pytest

from thalweg.errors import InputError
from thalweg.online.values import target_number

NUMBERS = [("52,58", 52.58), ("1.052,58", 1052.58), ("−5", -5), ("1,234.5", 1234.5)]


@pytest.mark.parametrize(("label", "number"), NUMBERS)
def test_a_label_is_a_number_in_any_clear_notation(label, number):
    assert target_number(label) == number


@pytest.mark.parametrize("label", ["1,234", "4/5", "$5", "85 %", "★★", "1e40", "five"])
def test_a_label_that_is_unclear_without_its_column_is_refused(label):
    with pytest.raises(InputError, match="Expected a finite number of at most 1e"):
        target_number(label)
