"""Which notation numbers are in, as people in many countries write them."""

# ruff: noqa: E501  (rows of values as they are)

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thalweg.data.columns.notation import DECIMALS, PLAIN, THOUSANDS, Notation
from thalweg.data.columns.recognition import recognize, settled

# Values -> the name of their notation, and their numbers.
WRITTEN = [
    (["5", "12", "-3"], "plain", [5, 12, -3]),
    (["0.5", "1.25", "1e-3"], "plain", [0.5, 1.25, 0.001]),
    (["5.000", "3.800", "0.500"], "plain", [5, 3.8, 0.5]),
    (["5.000", "3.800", "1.250"], "plain", [5, 3.8, 1.25]),
    ([5, 2.5], "plain", [5, 2.5]),
    # Countries, in the order of their codes: Argentina to Vietnam.
    (["$ 1.234,50", "$ 12,00"], "$1.234.567,5", [1234.5, 12]),
    (["1 234,50", "99,99"], "1 234 567,5", [1234.5, 99.99]),  # Bulgaria, Czechia, Finland, Ukraine ...
    (["R$ 1.234,56", "R$ 3,20"], "R$1.234.567,5", [1234.56, 3.2]),
    (["CHF 1\u2019234.50", "CHF 3.20"], "CHF 1'234'567.5", [1234.5, 3.2]),
    (["¥1,234,567", "¥980"], "¥1,234,567.5", [1234567, 980]),
    (["12\u00a0345,6 Kč", "7,0 Kč"], "1 234 567,5 Kč", [12345.6, 7]),
    (["52,58", "1.052,58", "-3,1"], "1.234.567,5", [52.58, 1052.58, -3.1]),
    (["52,58", "3,1"], "1234567,5", [52.58, 3.1]),
    (["1.234,50 kr.", "2,00 kr."], "1.234.567,5 kr.", [1234.5, 2]),
    (["12,50 €", "1.200,00 €"], "1.234.567,5 €", [12.5, 1200]),
    (["1\u202f234,5", "0,5"], "1 234 567,5", [1234.5, 0.5]),
    (["£1,234.50", "£0.99"], "£1,234,567.5", [1234.5, 0.99]),
    (["12 345 Ft", "990 Ft"], "1 234 567.5 Ft", [12345, 990]),
    (["₹1,23,456.00", "₹500.00"], "₹12,34,567.5", [123456, 500]),
    (["12,34,567", "45,000"], "12,34,567.5", [1234567, 45000]),
    (["١٬٢٣٤٫٥", "٣"], "1٬234٬567٫5", [1234.5, 3]),
    (["8,5 zł", "1 200 zł"], "1 234 567,5 zł", [8.5, 1200]),
    (["SEK 1 234,50", "SEK 12,00"], "SEK 1 234 567,5", [1234.5, 12]),
    (["$1,234", "$45,000"], "$1,234,567.5", [1234, 45000]),
    (["1.234.567", "999", "45.000"], "1.234.567,5", [1234567, 999, 45000]),
    (["1,234,567", "999"], "1,234,567.5", [1234567, 999]),
    (["1'234.50", "5"], "1'234'567.5", [1234.5, 5]),
    (["5,-", "3,50"], "1234567,5", [5, 3.5]),
    # Signs, wide digits.
    (["−5.5", "3"], "1234567.5", [-5.5, 3]),
    (["(1,234.50)", "12.00", "0.10"], "1,234,567.5", [-1234.5, 12, 0.1]),
    (["3.50-", "4.25"], "1234567.5", [-3.5, 4.25]),
    (["($5.00)", "$7.25", "-$1.00"], "$1234567.5", [-5, 7.25, -1]),
    (["１２．５", "３"], "1234567.5", [12.5, 3]),
    (["1,5e3", "2,25"], "1234567,5", [1500, 2.25]),
    # Units, ratings.
    (["85 %", "3 %", "0"], "1234567.5 %", [85, 3, 0]),
    (["85,5%", "3%"], "1234567,5 %", [85.5, 3]),
    (["12 kg", "3 kg"], "1234567.5 kg", [12, 3]),
    (["21.5°C", "-3°C"], "1234567.5 °C", [21.5, -3]),
    (["1 star", "5 stars"], "1234567.5 stars", [1, 5]),
    (["4/5", "3/5", "5 / 5"], "1234567.5/5", [4, 3, 5]),
    (["4/5", "7/10"], "1/2", [0.8, 0.7]),
    (["1 1/2", "3/4", "2"], "1/2", [1.5, 0.75, 2]),
    (["4.0 out of 5 stars", "3.5 out of 5 stars"], "1234567.5 out of 5 stars", [4, 3.5]),
    (["4 von 10", "7 von 10"], "1234567.5 von 10", [4, 7]),
    (["★★★★☆", "★", "★★★★★"], "★★★", [4, 1, 5]),
    (["3.5k", "900", "1.2M"], "1234567.5k", [3500, 900, 1.2e6]),
    (["3.5k", "1k"], "1234567.5 k", [3.5, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("values", "name", "numbers"), WRITTEN, ids=[f"{case[0][0]} {case[1]}" for case in WRITTEN])
def test_numbers_are_read_as_they_are_written(values, name, numbers):
    found = recognize(values)
    assert found is not None
    assert found.other is None
    assert found.notation.name == name
    assert [found.notation.number(value) for value in values] == pytest.approx(numbers)


NO_NUMBERS = [
    [], ["a", "b"], ["A1", "A2"], ["5pm", "3pm"], ["1st", "2nd"], ["2022Q1", "2022Q2"], ["01-Jan-22", "02-Jan-22"],
    ["2024-01-31", "2024-02-01"], ["12:30", "12:40"], ["10.1.2.3", "10.1.2.4"], ["T-1001", "T-1002"], ["$5", "€5"],
    ["1.5", "2,5"], ["1,234.5", "1.234,5"], ["~5", "~6"], ["45 - 50", "5"], ["5 kg", "5 lb"], ["4/5", "good"],
    ["52.5200, 13.4050", "48.1, 11.6"], ["31.12.2024", "01.01.2025"], ["true", "false"], [True, False], ["5 4 3", "1 2"],
]  # fmt: skip


@pytest.mark.parametrize("values", NO_NUMBERS, ids=map(str, NO_NUMBERS))
def test_what_is_no_column_of_numbers_stays_what_it_is(values):
    assert recognize(values) is None


UNCLEAR = [
    (["997", "1.021", "1.036"], {".": 1.021, ",": 1021}),
    (["10.000", "500", "25000"], {".": 10, ",": 10000}),
    (["1,234", "567"], {".": 1234, ",": 1.234}),
    (["1,234", "2,345"], {".": 1234, ",": 1.234}),
    (["1,459 €", "1,399 €"], {".": 1459, ",": 1.459}),
    (["12.345 kg", "3 kg"], {".": 12.345, ",": 12345}),
]


@pytest.mark.parametrize(("values", "numbers"), UNCLEAR, ids=[case[0][0] for case in UNCLEAR])
@pytest.mark.parametrize("mark", [".", ","])
def test_numbers_that_can_be_read_in_two_ways_are_unclear_until_the_decimal_mark_is_known(values, numbers, mark):
    found = recognize(values)
    assert found is not None
    assert found.other is not None
    assert {one.decimal: one.number(found.example) for one in (found.notation, found.other)} == pytest.approx(numbers)
    decided = recognize(values, mark)
    assert decided is not None
    assert decided.other is None
    assert decided.notation.number(found.example) == pytest.approx(numbers[mark])


def test_a_few_broken_values_do_not_hide_the_notation():
    values = [f"{number},5" for number in range(100)]
    assert recognize([*values, "broken"]).notation == Notation(",")
    assert recognize([*values[:50], *["broken"] * 50]) is None


def test_a_clear_column_decides_about_the_others():
    unclear, comma, point = ["997", "1.021"], ["52,58", "3,1"], ["0.5", "2.25"]
    for other, notation in ((comma, Notation(",", ".")), (point, PLAIN)):
        columns = [unclear, other, ["a"]]
        found = settled([recognize(one) for one in columns], columns)
        assert found[0].notation == notation
        assert found[0].other is None
        assert found[2] is None
    both = [unclear, comma, point]
    assert settled([recognize(one) for one in both], both)[0].other is not None


def written(number, notation):
    """A number in a notation, as a program would write it."""
    whole, _, rest = f"{abs(number):.2f}".partition(".")
    head, tail = whole[:-3], whole[-3:]
    groups = [tail]
    size = 2 if notation.indian else 3
    while head:
        head, part = head[:-size], head[-size:]
        groups.insert(0, part)
    digits = notation.thousands.join(groups) if notation.thousands else whole
    unit = f" {notation.after}" if notation.after else ""
    return f"{'-' if number < 0 else ''}{notation.before}{digits}{notation.decimal}{rest}{unit}"


NOTATIONS = st.builds(
    Notation,
    decimal=st.sampled_from(DECIMALS),
    thousands=st.sampled_from(THOUSANDS),
    indian=st.booleans(),
    before=st.sampled_from(["", "$", "€", "R$"]),
    after=st.sampled_from(["", "%", "kg", "stars"]),
).filter(lambda one: one.decimal != one.thousands and (one.thousands or not one.indian))


@given(NOTATIONS, st.lists(st.integers(-(10**11), 10**11).map(lambda cents: cents / 100), min_size=2, max_size=30))
@example(Notation(",", "."), [1234.5, -0.25, 1234567.0])
def test_what_is_written_in_a_notation_is_read_in_it(notation, numbers):
    values = [written(number, notation) for number in numbers]
    found = recognize(values)
    assert found is not None
    assert found.other is None
    read = [found.notation.number(value) for value in values]
    assert all(math.isclose(one, number, abs_tol=1e-9) for one, number in zip(read, numbers, strict=True))
    assert [notation.number(value) for value in values] == read
    assert [Notation.named(found.notation.name).number(value) for value in values] == read
