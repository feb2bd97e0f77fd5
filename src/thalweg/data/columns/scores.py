"""How well a column fits as text, label, number or time, by its name and by what its first rows hold."""

from typing import Final

from thalweg.data.columns.facts import ColumnFacts
from thalweg.data.columns.role_names import LAST_WORD, WHOLE_NAME, is_amount, is_code, name_score

# What `name_score` gives for one of the usual names of a role: 1 for the first of them down to 0.6 for the last.
COMMON_NAME: Final = 0.9  # among the first quarter
FREQUENT_NAME: Final = 0.8  # among the first half

MIN_ROWS: Final = 20  # fewer rows say little about how often values come again
MANY_WORDS: Final = 10  # a text with more words is no better a text
NAME_WEIGHT: Final = 2.0  # a fitting name outweighs what the values look like, each of which adds at most about 1

# A label comes again: each value about three times. Where the column is called a label, hardly ever will do.
MAX_DISTINCT: Final = 0.4
MAX_DISTINCT_NAMED: Final = 0.9
MAX_LABEL_WORDS: Final = 6  # longer values are texts, unless the column has a common name of labels
MAX_CLASSES: Final = 20  # so few values are likely labels, even where some of them are decimal numbers
CONSTANT_TEXT: Final = 2.0  # one value in all rows: nothing to read ...
CONSTANT_LABEL: Final = 0.7  # ... but files may be sorted by their label
CONSTANT_NUMBER: Final = 2.0

# Something that is surely a label and no text: a third of the values at most, of few words.
MAX_DISTINCT_SURE: Final = 0.3
MAX_WORDS_SURE: Final = 4

# Whole numbers that hardly come again are identifiers.
MIN_DISTINCT_NUMBERING: Final = 0.7
NUMBERING: Final = 1.5
MIN_DISTINCT_TIME: Final = 0.9  # moments in words, such as "May 1949", hardly come again
MAX_WORDS_TIME: Final = 4

MIN_FILLED: Final = 0.5  # of its rows, or a column holds remarks, unless it is called a text
MIN_LONG: Final = 3.0  # words on average, in what is worth a language model
MIN_WORDS: Final = 1.5  # on average, in what is a text even if its values come again


def text_score(one: ColumnFacts) -> float | None:
    """How much a column looks like the text to read; None when it can't be."""
    named = name_score(one.name, "text")
    if one.is_list or one.is_date or one.is_nested or not one.num_values:
        return None
    if named < WHOLE_NAME and (one.is_number or one.is_identifier or one.is_mixed):
        return None
    words = min(one.mean_words, MANY_WORDS) / MANY_WORDS
    return NAME_WEIGHT * named + words + one.distinct_fraction - CONSTANT_TEXT * one.is_constant - one.is_number


def is_text_like(one: ColumnFacts) -> bool:
    """Whether a column may be a text, and is not a column of labels in words."""
    if one.num_values < MIN_FILLED * one.num_rows and name_score(one.name, "text") < WHOLE_NAME:
        return False
    return text_score(one) is not None and (one.mean_words >= MIN_WORDS or not is_label_like(one))


def is_long_text(one: ColumnFacts) -> bool:
    """Whether a column holds texts long enough to be learned word by word; those called texts may be shorter."""
    least = MIN_WORDS if name_score(one.name, "text") >= WHOLE_NAME else MIN_LONG
    return text_score(one) is not None and one.mean_words >= least


def label_score(one: ColumnFacts) -> float | None:
    """How much a column looks like labels; None when it can't be."""
    named = name_score(one.name, "label")
    if one.is_date or one.is_nested or not one.num_values or (one.is_list and not one.is_set):
        return None
    is_named = named >= LAST_WORD
    if one.num_values >= MIN_ROWS and one.distinct_fraction > (MAX_DISTINCT_NAMED if is_named else MAX_DISTINCT):
        return None
    # Ratings in halves are amounts, whatever the column is called; whole numbers may be written as 4.0.
    may_be_amount = not is_named or name_score(one.name, "number") >= WHOLE_NAME or one.num_distinct > MAX_CLASSES
    if one.has_fractions and not is_code(one.name) and may_be_amount:
        return None
    is_single = not one.is_list and one.separator is None
    if is_single and one.mean_words > MAX_LABEL_WORDS and named < COMMON_NAME:
        return None
    few = 0.3 if one.num_distinct <= MAX_CLASSES else 0.0
    words = 0.1 * min(one.mean_words, 5)
    return NAME_WEIGHT * named + (1 - one.distinct_fraction) + few - words - CONSTANT_LABEL * one.is_constant


def is_label_like(one: ColumnFacts) -> bool:
    """Few values that come again and again, or a name that says so."""
    if name_score(one.name, "text") >= LAST_WORD:
        return False
    few = one.num_values >= MIN_ROWS and one.distinct_fraction < MAX_DISTINCT_SURE and one.mean_words < MAX_WORDS_SURE
    return few or (name_score(one.name, "label") >= WHOLE_NAME and label_score(one) is not None)


def number_score(one: ColumnFacts) -> float | None:
    """How much a column of numbers looks like a score to predict, and not like a numbering; None when it can't be."""
    if not one.is_number or not is_amount(one.name):
        return None
    is_numbering = one.is_increasing or (
        not one.has_decimals and one.distinct_fraction > MIN_DISTINCT_NUMBERING and one.num_values >= MIN_ROWS
    )
    is_named_time = name_score(one.name, "time") >= WHOLE_NAME
    penalty = NUMBERING * is_numbering + CONSTANT_NUMBER * one.is_constant + is_named_time
    return NAME_WEIGHT * name_score(one.name, "number") + one.has_decimals - penalty


def is_time(one: ColumnFacts) -> bool:
    """Dates, and numbers that only count on."""
    if one.is_date:
        return True
    is_named = name_score(one.name, "time") >= LAST_WORD
    counts_on = one.is_increasing and (is_named or one.position == 0) and not one.has_decimals
    is_moment = not one.is_number and one.distinct_fraction > MIN_DISTINCT_TIME and one.mean_words < MAX_WORDS_TIME
    counts = name_score(one.name, "time") >= WHOLE_NAME and (one.is_increasing or one.is_decreasing)  # 1959.083
    return counts_on or counts or (is_named and is_moment)
