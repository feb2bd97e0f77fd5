"""Names of columns, and how well a column fits."""

import pytest

from thalweg.data.columns.facts import ColumnFacts
from thalweg.data.columns.role_names import name_score, normalized
from thalweg.data.columns.scores import is_label_like, is_time, label_score, number_score, text_score


def test_names_are_compared_by_their_words():
    assert normalized("Review  Text") == "review_text"
    assert name_score("text", "text") == 1
    assert 0 < name_score("my_text", "text") < name_score("Text", "text")
    assert name_score("column1", "text") == 0


def test_a_role_of_ones_own_has_names_too():
    assert name_score("Melody", ("melody", "tune")) == 1
    assert name_score("my tune", ("melody", "tune")) == 0.5


def test_names_in_other_languages_mean_the_same():
    assert name_score("Kategorie", "label") == name_score("category", "label")
    assert name_score("note_texte", "text") == 0


def column(name="x", position=1, num_distinct=60, mean_words=1.0, **facts):
    return ColumnFacts(name, position, 60, 60, num_distinct, mean_words, **facts)


LONG, LABELS = column(mean_words=12.0), column(num_distinct=3)
NUMBERING, DECIMALS = column(is_number=True), column(is_number=True, has_decimals=True)
YEAR = column("year", is_number=True, is_increasing=True)


def test_long_and_different_values_are_texts():
    assert text_score(LONG) > text_score(column(mean_words=3.0)) > text_score(column(num_distinct=1, mean_words=12.0))
    assert text_score(NUMBERING) is None
    assert text_score(column("text", is_number=True)) is not None, "its name says so"
    assert text_score(column("text", mean_words=3.0)) > text_score(LONG), "a name outweighs contents"


def test_values_that_come_again_are_labels():
    assert label_score(LONG) is None
    assert label_score(LABELS) > label_score(column(num_distinct=24)) > label_score(column(num_distinct=1))
    assert label_score(column("label", num_distinct=50)) is not None
    assert label_score(column("label", num_distinct=60)) is None
    assert is_label_like(LABELS)
    assert not is_label_like(column("text", num_distinct=3))


@pytest.mark.parametrize("worse", [NUMBERING, YEAR, column(num_distinct=1, is_number=True, has_decimals=True)])
def test_decimals_are_scores_and_numberings_are_not(worse):
    assert number_score(DECIMALS) > number_score(worse)
    assert number_score(LONG) is None


def test_what_only_counts_on_is_time():
    assert is_time(YEAR)
    assert is_time(column(is_date=True))
    assert is_time(column("x", 0, is_number=True, is_increasing=True))
    assert not is_time(column("x", 1, is_number=True, is_increasing=True))
    assert is_time(column("Month", mean_words=2.0))
    assert is_time(column("Año", 1, is_number=True, is_decreasing=True)), "newest first"
    assert is_time(column("year", 1, is_number=True, is_increasing=True, has_decimals=True)), "1959.083"
    assert not is_time(column("price_index", 1, is_number=True, is_increasing=True, has_decimals=True))
    assert not is_time(DECIMALS)
