"""What may stand before and behind numbers."""

import pytest

from thalweg.data.columns.units import is_currency, is_unit


@pytest.mark.parametrize("text", ["", "$", "€", "R$", "US$", "CHF", "kr", "zł", "₹", "Rs."])
def test_signs_and_codes_are_currencies(text):
    assert is_currency(text)


@pytest.mark.parametrize("text", ["No.", "Q", "item", "T-", "ABC", "#"])
def test_other_words_before_a_number_make_it_a_name(text):
    assert not is_currency(text)


@pytest.mark.parametrize(
    "text", ["%", "kg", "km/h", "°C", "/5", "out of 5", "out of 5 stars", "von 10", "stars", "m2", "Mio. €"]
)
def test_units_stand_behind_numbers(text):
    assert is_unit(text)


@pytest.mark.parametrize(
    "text", ["", "pm", "a.m.", "Uhr", "th", "/0", "/2024", "Q1", "-A", "BC", "words of a sentence that goes on"]
)
def test_what_makes_a_time_an_ordinal_or_a_name_is_no_unit(text):
    assert not is_unit(text)
