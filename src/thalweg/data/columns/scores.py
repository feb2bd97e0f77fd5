"""How well a column fits a role, by its name and by what its first rows hold."""

from thalweg.data.columns.facts import ColumnFacts
from thalweg.data.columns.role_names import name_score


def text_score(one: ColumnFacts) -> float | None:
    """How much a column looks like the text to read; None when it can't be."""
    named = name_score(one.name, "text")
    if one.is_list or one.is_date or not one.num_values or (one.is_number and named < 0.6):
        return None
    constant = one.num_distinct == 1 and one.num_values > 1
    return 2 * named + min(one.mean_words, 10) / 10 + one.distinct_share - 2 * constant - one.is_number


def label_score(one: ColumnFacts) -> float | None:
    """How much a column looks like labels; None when it can't be."""
    named = name_score(one.name, "label")
    if one.is_date or not one.num_values:
        return None
    repeats = 1 - one.distinct_share
    if one.is_list and not one.is_set:
        return None
    # A label comes back: unless the column is called a label, each value is expected about three times.
    if one.num_values >= 20 and one.distinct_share > (0.9 if named >= 0.5 else 0.4):
        return None
    if one.is_number and one.has_decimals and (named < 0.5 or one.num_distinct > 20):
        return None
    if not one.is_list and one.separator is None and one.mean_words > 6 and named < 0.9:
        return None
    constant = one.num_distinct == 1 and one.num_values > 1
    few = 0.3 if one.num_distinct <= 20 else 0.0
    return 2 * named + repeats + few - 0.1 * min(one.mean_words, 5) - 0.7 * constant


def number_score(one: ColumnFacts) -> float | None:
    """How much a column of numbers looks like a score to predict, and not like a numbering; None when it can't be."""
    if not one.is_number:
        return None
    named = max(name_score(one.name, "number"), 0.0)
    is_numbering = one.is_increasing or (not one.has_decimals and one.distinct_share > 0.7 and one.num_values >= 20)
    constant = one.num_distinct == 1 and one.num_values > 1
    is_time = name_score(one.name, "time") >= 0.6
    return 2 * named + one.has_decimals - 1.5 * is_numbering - 2 * constant - is_time


def is_time(one: ColumnFacts) -> bool:
    """Dates, and numbers that only count on."""
    if one.is_date:
        return True
    named = name_score(one.name, "time") >= 0.5
    counts_on = one.is_increasing and (named or one.position == 0) and not one.has_decimals
    return counts_on or (named and not one.is_number and one.distinct_share > 0.9 and one.mean_words < 4)


def is_label_like(one: ColumnFacts) -> bool:
    """Few values that come again and again, or a name that says so."""
    if name_score(one.name, "text") >= 0.5:
        return False
    few = one.num_values >= 20 and one.distinct_share < 0.3 and one.mean_words < 4
    return few or (name_score(one.name, "label") >= 0.6 and label_score(one) is not None)
