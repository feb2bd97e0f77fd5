"""What the first rows say about a column."""

from thalweg.data.columns.facts import as_text, column_facts
from thalweg.data.files.base import Row


def test_facts_describe_a_column():
    rows = [Row(i, (f"a text {i}", str(i), f"2024-01-0{i}", ["a", "a"], None)) for i in range(1, 6)]
    text, number, date, words, nothing = column_facts(("text", "n", "when", "words", "none"), rows)
    assert (text.is_text, text.mean_words, text.distinct_fraction) == (True, 3, 1)
    assert (number.is_number, number.is_increasing, number.has_decimals) == (True, True, False)
    assert (date.is_date, date.is_text) == (True, False)
    assert (words.is_list, words.is_set, words.num_distinct) == (True, False, 1)
    assert (nothing.num_values, nothing.is_text) == (0, False)


def test_values_of_any_kind_have_a_text():
    assert [as_text(value) for value in ("a", None, ["a", None, "b"], 1.5, True)] == ["a", "", "a  b", "1.5", "True"]
