"""Columns whose contents are not what their names say, so that a guess of the task would learn the wrong thing."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from thalweg.data.columns.facts import ColumnFacts, shortened
from thalweg.data.columns.notation import PLAIN
from thalweg.data.columns.role_names import LAST_WORD, WHOLE_NAME, are_twins, is_side, name_score, normalized
from thalweg.data.columns.scores import MAX_WORDS_TIME, MIN_FILLED, is_label_like, is_text_like, is_time, label_score
from thalweg.data.columns.times.dates import readings
from thalweg.data.columns.times.month_names import MONTHS, plain_letters

MIN_MOMENTS: Final = 5  # columns with the names of moments, of which a series may consist
MOST_MOMENTS: Final = 0.7  # of the columns of numbers
FIRST_YEAR: Final = 1700
LAST_YEAR: Final = 2200
MIN_NUMBERED: Final = 10  # columns with numbers that follow each other, of which a series may consist
MOST_NUMBERED: Final = 0.9  # of the columns of numbers
MAX_CLASSES: Final = 0.2  # different ones a row
MIN_NAMES: Final = 0.95  # different ones a row
MAX_TEXTS: Final = 3  # beside each other, of which the first two are a pair
SHOWN: Final = 40  # characters of a value in a message
NUM_SHOWN: Final = 4  # columns that are described
MAX_SINGLE: Final = 1.1  # words on average, in a column of single words
MIN_LABELS: Final = 5  # rows with labels that are all different, in which no label can be learned


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


# What only an answer is called, in a few languages; other names of `ROLE_NAMES` are given to other columns, too.
ANSWERS: Final = _words(
    "label labels category categories class classes intent intents sentiment topic topics target emotion polarity tag "
    "tags genre stars rating ratings score scores price prices grade grades points similarity relatedness spam is_spam "
    "toxic amount sales y kategorie klasse bewertung preis umsatz thema stimmung categorie classe prix categoria clase "
    "etiqueta precio nota voto prezzo"
)
AS_LISTS: Final = "save the table as JSON Lines, which has lists (to_json(..., orient='records', lines=True) of pandas)"
NUMBERINGS: Final = _words("id index idx nr no number row unnamed")


def of_words(facts: Sequence[ColumnFacts]) -> str:
    """Return why a table is not for learning its words alone: a column is called the answer, or holds objects."""
    answers = [one for one in facts if is_called_answer(one) and name_score(one.name, "text") < WHOLE_NAME]
    return _no_answer(answers) or _objects(facts)


def of_pairs(facts: Sequence[ColumnFacts]) -> str:
    """Return why texts are not sides of a translation: one is called the answer, or a column holds objects."""
    answers = [one for one in facts if one.num_values and not _is_side(one)]
    answers = [one for one in answers if is_called_answer(one) or _is_unfit_label(one)]
    told = _no_answer(answers) or _objects(facts) or _preferred(facts) or _instructed(facts)
    return told or _labels_beside(facts) or _several(facts)


def of_labels(facts: Sequence[ColumnFacts]) -> str:
    """Return why labels can't be learned: they are all different, or are the tags of single words."""
    single = [one for one in facts if not one.is_list and one.separator is None and one.num_values >= MIN_LABELS]
    answers = [one for one in single if is_called_answer(one) and one.num_distinct == one.num_values]
    answers += [one for one in facts if one.is_mixed and is_called_answer(one)]
    return _no_answer(answers) or _word_by_word(facts) or _halves(facts)


def of_series(facts: Sequence[ColumnFacts]) -> str:
    """Return why there is nothing to forecast: numbers that are not all in one notation, or a numbering alone."""
    mixed = [one for one in facts if one.is_mixed and not is_label_like(one)]
    if mixed:
        return f"the column {mixed[0].name!r}: {looks(mixed[0])}; {_how(mixed[0])}."
    if told := _wide(facts):
        return told
    has_more = any(one.is_nested or (one.is_text and not one.is_mixed) for one in facts)
    if has_more and any(one.is_number for one in facts) and all(map(_is_numbering, facts)):
        return (
            f"there is nothing to forecast but a numbering ({described(facts)}); choose with --task, --text-column and "
            "--label-column."
        )
    return ""


def _wide(facts: Sequence[ColumnFacts]) -> str:
    """Rows that are series themselves: beside a name or a class, only columns that are numbered, and no times."""
    numbers = [one for one in facts if one.is_number]
    first = facts[0]
    has_class = first.is_number and not first.has_decimals and first.distinct_fraction <= MAX_CLASSES
    has_class = has_class and sum(one.has_decimals for one in numbers) >= MOST_NUMBERED * len(numbers)
    has_name = not first.is_number and first.distinct_fraction > MIN_NAMES and first.num_values == first.num_rows
    numbers = numbers[has_class:]
    parts = [re.fullmatch(r"(\D*)(\d+)", one.name.strip()) for one in numbers]
    counted_on = sum(
        one is not None and after is not None and one[1] == after[1] and int(after[2]) == int(one[2]) + 1
        for one, after in pairwise(parts)
    )
    is_numbered = counted_on >= MIN_NUMBERED and counted_on >= MOST_NUMBERED * (len(numbers) - 1)
    if not is_numbered or not (has_class or has_name) or any(one.is_date for one in facts):
        return ""
    return (
        f"each row seems to be a series of its own, from the column {numbers[0].name!r} to {numbers[-1].name!r}, with "
        f"its {'class' if has_class else 'name'} in {first.name!r}, and no column says when; put the values one below "
        "another, with a column that says when (pandas.melt does), or choose with --task."
    )


def of_scores(facts: Sequence[ColumnFacts]) -> str:
    """Return why there is no text to score: the only one is called a time, and holds what can't be read as one."""
    texts = [one for one in facts if is_text_like(one) and one.is_text]
    if len(texts) != 1 or not _is_called_time(texts[0]):
        return ""
    one = texts[0]
    return (
        f"by its name, the column {one.name!r} says when the rows were, but {looks(one)}, which can't be read as dates "
        "or times; write it as 2024-01-31, or choose --task forecast, which takes the rows in their order, or --task "
        "score."
    )


def of_names(facts: Sequence[ColumnFacts]) -> str:
    """Return why a table is not read as it lies: the moments are the names of its columns, as in tables for people."""
    numbers = [one for one in facts if one.is_number or _is_moment(one.name)]
    moments = [one.name for one in numbers if _is_moment(one.name)]
    if len(moments) < MIN_MOMENTS or len(moments) < MOST_MOMENTS * len(numbers):
        return ""
    return (
        f"the names of {len(moments):,} columns are moments ({moments[0]!r} to {moments[-1]!r}), so a series goes from "
        "left to right; put its values one below another, with a column that says when (pandas.melt does), or choose "
        "with --task."
    )


def _is_moment(name: str) -> bool:
    name = name.strip().split(" [")[0]  # as the World Bank writes them: 1960 [YR1960]
    if name.isdigit():
        return len(name) == 4 and FIRST_YEAR <= int(name) <= LAST_YEAR
    return plain_letters(name) in MONTHS or bool(readings(name))


def _is_called_time(one: ColumnFacts) -> bool:
    is_short = one.mean_words < MAX_WORDS_TIME and any(map(str.isdigit, one.example))
    return name_score(one.name, "time") >= WHOLE_NAME and is_short


def _no_answer(answers: Sequence[ColumnFacts]) -> str:
    if not answers:
        return ""
    one = answers[0]
    return f"by its name, the column {one.name!r} is the answer, but {looks(one)}; {_how(one)}."


def _objects(facts: Sequence[ColumnFacts]) -> str:
    nested = next((one for one in facts if one.is_nested), None)
    if nested is None:
        return ""
    if nested.example:
        return f"in the column {nested.name!r} {looks(nested)}; {AS_LISTS}, or choose with --task and --text-column."
    return f"{looks(nested)} in the column {nested.name!r}; flatten them, or choose with --task and --text-column."


def _preferred(facts: Sequence[ColumnFacts]) -> str:
    if not {"chosen", "rejected"} <= {normalized(one.name) for one in facts}:
        return ""
    return (
        "the columns 'chosen' and 'rejected' are answers of which one is preferred, and no task learns that; choose "
        "with --task, --text-column and --label-column what is to be learned."
    )


def _instructed(facts: Sequence[ColumnFacts]) -> str:
    """Instructions with inputs, as models of chat are tuned: an answer is one to both."""
    filled = {normalized(one.name) for one in facts if one.num_values > MIN_FILLED * one.num_rows}
    if not {"instruction", "input", "output"} <= filled:
        return ""
    return (
        "an 'output' answers its 'instruction' and its 'input' together; write both into one column, or choose with "
        "--text-column and --label-column."
    )


def _labels_beside(facts: Sequence[ColumnFacts]) -> str:
    """Texts that are not called sides of a translation may as well be what a label beside them is about."""
    texts = [one for one in facts if is_text_like(one) and not is_label_like(one)]
    if sum(any(name_score(one.name, side) >= WHOLE_NAME for side in ("source", "target")) for one in texts) >= 2:
        return ""
    labels = [one for one in facts if one not in texts and not is_time(one) and label_score(one) is not None]
    labels = [one for one in labels if one.num_distinct > 1 and (not is_text_like(one) or is_label_like(one))]
    if len(texts) < 2 or not labels:
        return ""
    one = labels[0]
    return (
        f"there are several texts ({_quoted(texts)}) and what may be the label of each row ({_quoted(labels)}); name "
        f"it with --label-column {_typed(one)}, or choose --task translate."
    )


def _several(facts: Sequence[ColumnFacts]) -> str:
    """Two texts are a pair, and what comes behind them says where it is from; of more, any two might be meant."""
    texts = [one for one in facts if is_text_like(one) and not is_label_like(one)]
    if len(texts) <= MAX_TEXTS or any(name_score(one.name, side) for one in texts for side in ("source", "target")):
        return ""
    return (
        f"there are {len(texts)} columns of texts ({_quoted(texts)}), and no name says which two are a pair; name them "
        "with --text-column and --label-column, or choose with --task."
    )


def _halves(facts: Sequence[ColumnFacts]) -> str:
    """A label of a pair of texts can't be learned from one of them."""
    texts = [one for one in facts if is_text_like(one)]
    pair = next(((a, b) for a in texts for b in texts if a is not b and are_twins(a.name, b.name)), None)
    if pair is None:
        return ""
    first, second = pair
    return (
        f"the labels are those of pairs ({first.name!r} and {second.name!r}), and the task classify reads one text; "
        f"write both into one column, read one with --text-column {_typed(first)}, or give numbers for --task score."
    )


def _quoted(facts: Sequence[ColumnFacts]) -> str:
    return shortened([repr(one.name) for one in facts], NUM_SHOWN)


def _typed(one: ColumnFacts) -> str:
    return repr(one.name) if " " in one.name else one.name


def _is_side(one: ColumnFacts) -> bool:
    is_text = name_score(one.name, "text") >= WHOLE_NAME
    return is_text or is_side(one.name, "target") or is_side(one.name, "source")


def _is_unfit_label(one: ColumnFacts) -> bool:
    return name_score(one.name, "label") >= WHOLE_NAME and not is_label_like(one)


def _is_numbering(one: ColumnFacts) -> bool:
    """Whether a column is no number, or only counts the rows."""
    last = normalized(one.name).split("_")[-1]
    return not one.is_number or (last in NUMBERINGS and one.is_increasing and not one.has_decimals)


def looks(one: ColumnFacts) -> str:
    """Return what the values of a column look like, as a clause with an example.

    Example:
        >>> looks(ColumnFacts("label", 1, 30, 30, num_distinct=30, mean_words=1.0, example="a"))
        "its 30 values are all different, such as 'a'"
    """
    shown = repr(one.example if len(one.example) <= SHOWN else f"{one.example[:SHOWN]}...")
    if not one.num_values:
        return "it is empty"
    if one.is_nested:
        return f"there are lists or objects written as text, such as {shown}" if one.example else "there are objects"
    if one.is_list:
        return "its values are lists"
    if one.is_unclear_date:
        return f"its values are fractions or dates, such as {shown}"
    if one.is_date:
        return f"its values are dates or times, such as {shown}"
    if one.is_mixed:
        return f"many of its values are numbers in one notation, and others are not, such as {shown}"
    if one.is_number:
        return (
            "its values are plain numbers" if one.notation == PLAIN else f"its values are numbers {one.notation.words}"
        )
    if one.num_distinct == one.num_values:
        return f"its {one.num_values:,} values are all different, such as {shown}"
    if one.is_identifier:
        return f"its values are names or addresses, such as {shown}"
    return f"its values are words ({one.mean_words:.1f} in each, {one.num_distinct:,} different ones), such as {shown}"


def described(facts: Sequence[ColumnFacts]) -> str:
    """Return what the first columns of a table look like."""
    told = "; ".join(f"{one.name!r}: {looks(one)}" for one in facts[:NUM_SHOWN])
    return f"{told}; ..." if len(facts) > NUM_SHOWN else told


def is_called_answer(one: ColumnFacts) -> bool:
    """Whether a column has the name of an answer, or one that ends so: "label", "overall_rating"."""
    name = normalized(one.name)
    return name in ANSWERS or name.split("_")[-1] in ANSWERS


def _word_by_word(facts: Sequence[ColumnFacts]) -> str:
    """A word and its tag in each row are no text with its label."""
    words = [
        one for one in facts if name_score(one.name, "tokens") >= LAST_WORD and one.is_text and one.mean_words < 1.1
    ]
    tags = [
        one for one in facts if name_score(one.name, "tags") >= LAST_WORD and one not in words and not one.is_number
    ]
    if not words or not tags:
        return ""
    return (
        f"the columns {words[0].name!r} and {tags[0].name!r} hold one word and its tag a row, and nothing says where a "
        "sentence ends; give CoNLL with an empty line between sentences or a column with the number of the sentence, "
        "or choose --task classify for single words."
    )


def _how(one: ColumnFacts) -> str:
    """What decides."""
    name = _typed(one)
    if one.is_mixed:
        return f"correct the others, or leave them out with --task, --label-column {name} and --skip-bad-rows"
    if one.is_nested:
        return f"{AS_LISTS}, or choose with --task and the names of columns"
    if one.is_unclear_date or one.is_number:
        return f"choose --task score or --task classify with --label-column {name}"
    return "give labels that come again, or choose another task with --task, such as language"
