"""The column of a language model: texts."""

from thalweg.data.columns import misfits
from thalweg.data.columns.choice import FORMAT, REST, Choice, Kind, Rule, Table, TaskColumns
from thalweg.data.columns.scores import is_long_text, is_text_like


def choose(table: Table) -> Choice:
    """Return the text."""
    text = table.text("language")
    if table.source.kind == "text" or len(table.facts) == 1:
        return Choice("language", {"text": text.name}, "Plain text, line by line.")
    told = "; ".join([f"Text column {text.name!r}", *table.doubts.values()])
    return Choice("language", {"text": text.name}, f"{told}; --text-column chooses another.")


def is_plain_text(table: Table) -> bool:
    """The file has no columns."""
    return table.source.kind == "text"


def has_text(table: Table) -> bool:
    """There are long texts, and nothing else that could be read."""
    return any(is_text_like(one) and is_long_text(one) for one in table.facts)


def is_one_text(table: Table) -> bool:
    """There is nothing but one column of long texts, even if they come again."""
    return len(table.facts) == 1 and is_long_text(table.facts[0])


COLUMNS = TaskColumns(
    "language",
    {"text": Kind.TEXT},
    choose,
    (
        Rule(FORMAT, "the file is plain text", is_plain_text),
        Rule(REST, "there are texts and nothing to predict from them", has_text),
        Rule(REST, "there is one column, of texts", is_one_text),
    ),
    objection=misfits.of_words,
)
