"""The columns of scoring: a text or a pair of texts, and a number."""

from typing import Final

from thalweg.data.columns import misfits
from thalweg.data.columns.choice import PAIR_AND_NUMBER, POSSIBLE, TYPICAL, Choice, Kind, Rule, Table, TaskColumns
from thalweg.data.columns.facts import ColumnFacts
from thalweg.data.columns.role_names import are_twins, name_score, normalized
from thalweg.data.columns.scores import FREQUENT_NAME, is_text_like, number_score, text_score

# Two columns whose names say nothing are a pair if both are texts of about the same length.
MIN_WORDS: Final = 2
MIN_DISTINCT: Final = 0.3
LENGTH_RATIOS: Final = (0.4, 2.5)

HEADINGS: Final = ("title", "subject", "headline", "summary")  # of the other text, with which they are no pair

MIN_NUMBER: Final = 0.5  # score of the number beside a pair: decimals, or a name
MIN_VALUES: Final = 5  # a few different decimal numbers may be labels


def choose(table: Table) -> Choice:
    """Return the number and one text or two."""
    number = table.best("number", number_score)
    if number is None:
        raise table.fail("a column of numbers for the task score", "name it with --label-column")
    pair = pair_of(table, number)
    if pair is None:
        text = table.text("score", (number,))
        told = table.sentence(f"Text column {text.name!r}, number column {number.name!r}")
        return Choice("score", {"text": text.name, "number": number.name}, told)
    first, second = (one.name for one in pair)
    if "other" in table.declined:
        told = f"Text column {first!r} alone, number column {number.name!r}."
        return Choice("score", {"text": first, "number": number.name}, told)
    table.doubts.pop("text", None)
    told = table.sentence(f"Text columns {first!r} and {second!r}, number column {number.name!r}")
    return Choice("score", {"text": first, "other": second, "number": number.name}, told)


def pair_of(table: Table, number: ColumnFacts) -> tuple[ColumnFacts, ColumnFacts] | None:
    """Return the two texts of a pair: those the user named, or by their names, or by their contents."""
    first, second = table.named.get("text"), table.named.get("other")
    if first is not None and second is not None:
        return first, second
    texts = [one for one in table.facts if one.is_text and one is not number and not one.is_constant]
    for one in [first] if first else texts:
        for other in texts:
            if one is not other and are_twins(one.name, other.name):
                return one, other
    return pair_by_contents(texts) if first is None else None


def pair_by_contents(texts: list[ColumnFacts]) -> tuple[ColumnFacts, ColumnFacts] | None:
    """Return the two best texts, if they are much alike."""
    alike = [one for one in texts if one.mean_words >= MIN_WORDS and one.distinct_fraction > MIN_DISTINCT]
    alike.sort(key=lambda one: -(text_score(one) or 0))
    if len(alike) < 2 or any(normalized(one.name).split("_")[-1] in HEADINGS for one in alike[:2]):
        return None
    one, other = sorted(alike[:2], key=lambda two: two.position)
    same_names = name_score(one.name, "text") == name_score(other.name, "text")
    same_length = LENGTH_RATIOS[0] < one.mean_words / other.mean_words < LENGTH_RATIOS[1]
    return (one, other) if same_names and same_length else None


def has_pair(table: Table) -> bool:
    """There are two texts that belong together, and what is surely a score."""
    number = _number(table)
    pair = None if number is None else pair_of(table, number)
    if number is None or pair is None:
        return False
    score = number_score(number)
    is_alone = "number" not in table.doubts and are_twins(*(one.name for one in pair))
    return score is not None and (score > MIN_NUMBER or (is_alone and score >= 0))


def has_typical_number(table: Table) -> bool:
    """Beside a text there are many decimal numbers, or a number that is called a score."""
    number = _number(table)
    return number is not None and (
        (number.has_fractions and number.num_distinct > MIN_VALUES)
        or name_score(normalized(number.name).split("_")[-1], "number") >= FREQUENT_NAME
    )


def has_number(table: Table) -> bool:
    """Beside a text there is a number that is not a numbering."""
    number = _number(table)
    return number is not None and (number_score(number) or 0) > 0


def _number(table: Table) -> ColumnFacts | None:
    """The best number of a table that has texts."""
    return table.best("number", number_score) if any(map(is_text_like, table.facts)) else None


COLUMNS = TaskColumns(
    "score",
    {"text": Kind.TEXT, "other": Kind.TEXT, "number": Kind.NUMBER},
    choose,
    (
        Rule(PAIR_AND_NUMBER, "there are pairs of texts with a number", has_pair),
        Rule(TYPICAL, "there are texts with a number", has_typical_number),
        Rule(POSSIBLE, "there are texts with a number", has_number),
    ),
    options={"label": "number"},
    optional=frozenset({"other"}),
    objection=misfits.of_scores,
)
