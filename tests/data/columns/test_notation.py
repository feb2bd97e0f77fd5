"""How numbers are written: each notation reads its own numbers, and nothing else."""

# ruff: noqa: E501  (rows of values as they are)

import pytest

from thalweg.data.columns.notation import PLAIN, Notation, canonical, notations_of, number_of
from thalweg.errors import InputError


def test_numbers_are_what_python_and_people_call_numbers():
    values = ["1", " 2.5 ", "-1e3", 3, 2.5, "nan", "inf", "", "1_000", None, True, [1], "0x10", "1,5", 10**400]
    assert [number_of(value) for value in values] == [1, 2.5, -1000, 3, 2.5, *[None] * 10]


GERMAN, AMERICAN, FRENCH = Notation(",", "."), Notation(thousands=","), Notation(",", " ")
SWISS, INDIAN, PLAIN_COMMA = Notation(thousands="'"), Notation(thousands=",", indian=True), Notation(",")

# A notation, its name, and values with the numbers that they are in it (None: no number).
NOTATIONS = [
    (PLAIN, "plain", {"1.5": 1.5, "1e3": 1000, "1,5": None, "−1": None, 2: 2, "٣": 3}),
    (Notation(), "1234567.5", {"1.5": 1.5, "−1.5": -1.5, "(1.5)": -1.5, "1.5-": -1.5, "+2": 2, "1,234.5": 1234.5}),
    (PLAIN_COMMA, "1234567,5", {"52,58": 52.58, "7": 7, "-,5": -0.5, "1,5e3": 1500, "5,-": 5, "1.5": None, "1,2,3": None}),
    (PLAIN_COMMA, "1234567,5", {"1.234,5": 1234.5, "1.234.567": 1234567, "1.234": None, "1.23,5": None, "1'234,5": 1234.5}),
    (GERMAN, "1.234.567,5", {"1.234": 1234, "997": 997, "1.234.567,25": 1234567.25, "1.23": None, "0.123": None, "1,234.5": None}),
    (AMERICAN, "1,234,567.5", {"1,234": 1234, "1,234.50": 1234.5, "1.5": 1.5, "12,34": None, "1234,5": None}),
    (INDIAN, "12,34,567.5", {"1,23,456": 123456, "12,34,567.5": 1234567.5, "1,234": 1234, "123,456": None}),
    (FRENCH, "1 234 567,5", {"1 234,5": 1234.5, "1\u202f234": 1234, "1\u00a0234\u00a0567": 1234567, "1 23": None}),
    (SWISS, "1'234'567.5", {"1'234.5": 1234.5, "1\u2019234": 1234, "12'34": None}),
    (Notation("٫", "٬"), "1٬234٬567٫5", {"١٬٢٣٤٫٥": 1234.5, "٧": 7}),
    (Notation(thousands=",", before="$"), "$1,234,567.5", {"$1,234": 1234, "-$5": -5, "$-5": -5, "($5.50)": -5.5, "$5-": -5, "0": 0, "5": None, "€5": None}),
    (Notation(",", ".", after="€"), "1.234.567,5 €", {"1.234,50 €": 1234.5, "5€": 5, "-3,5 €": -3.5, "3,5- €": -3.5, "5 $": None}),
    (Notation(before="EUR"), "EUR 1234567.5", {"EUR 12.5": 12.5, "EUR12": 12, "12": None}),
    (Notation(after="%"), "1234567.5 %", {"85 %": 85, "85%": 85, "８５％": 85, "0": 0, "85": None, "85 kg": None}),
    (Notation(after="/5"), "1234567.5/5", {"4/5": 4, "4 / 5": 4, "3.5/5": 3.5, "7/10": None}),
    (Notation(after="out of 5 stars"), "1234567.5 out of 5 stars", {"4.0 out of 5 stars": 4}),
    (Notation(form="fraction"), "1/2", {"4/5": 0.8, "7/10": 0.7, "1 1/2": 1.5, "-1/4": -0.25, "3": 3, "1/0": None, "1/2/3": None}),
    (Notation(form="stars"), "★★★", {"★★★★": 4, "★★☆☆☆": 2, "⭐⭐": 2, "☆": None, "four": None}),
    (Notation(form="magnitude"), "1234567.5k", {"3.5k": 3500, "1.2M": 1200000, "900": 900, "2 Mio.": 2000000, "1bn": 1e9}),
]  # fmt: skip


@pytest.mark.parametrize(("notation", "name", "values"), NOTATIONS, ids=[case[1] for case in NOTATIONS])
def test_a_notation_reads_its_own_numbers_and_nothing_else(notation, name, values):
    assert {value: notation.number(value) for value in values} == values
    assert notation.name == name
    assert Notation.named(name) == notation


@pytest.mark.parametrize(
    "value", ["", " ", "-", "()", ",", "abc", "nan", "1e999", "--1", "-(1)", "(1", "1)", None, True]
)
def test_what_is_no_number_is_none_in_any_notation(value):
    assert [one.number(value) for one, _, _ in NOTATIONS] == [None] * len(NOTATIONS)


@pytest.mark.parametrize("name", ["", "wrong", "12", "1.234", "x1y2z 1234567.5", None, 5])
def test_a_name_that_no_notation_has_is_refused(name):
    with pytest.raises(InputError, match=r"Expected the name of a notation of numbers, such as '1\.234\.567,5 €'"):
        Notation.named(name)


def test_signs_spaces_and_digits_have_one_form():
    assert canonical("\u2009−１\u00a0２３４ ") == "-1 234"


def test_columns_of_a_run_say_which_notations_they_have():
    found = notations_of({"series": ["a", "b"], "notations": {"a": "1234567,5"}})
    assert found == {"a": PLAIN_COMMA}
    assert notations_of({"text": "t"}) == {}
