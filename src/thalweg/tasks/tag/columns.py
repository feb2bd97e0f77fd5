"""The columns of tagging: words, and a tag for each of them."""

from collections.abc import Callable

from thalweg.data.columns.choice import FORMAT, LISTS, Choice, Kind, Rule, Table, TaskColumns
from thalweg.data.columns.facts import ColumnFacts
from thalweg.data.columns.role_names import LAST_WORD, WHOLE_NAME, name_score
from thalweg.data.columns.scores import NAME_WEIGHT


def choose(table: Table) -> Choice:
    """Return two columns of lists, or of texts whose words are separated by spaces: as many tags as words."""
    tokens = table.best("tokens", tokens_score)
    tags = table.best("tags", tags_score(tokens), (tokens,)) if tokens else None
    if tokens is None or tags is None:
        raise table.fail(
            "a column of lists of words and one of lists of tags for the task tag",
            'give CoNLL with tags, or JSON Lines such as {"tokens": [...], "tags": [...]}',
        )
    others = [repr(one.name) for one in table.facts if one.is_list and one not in (tokens, tags)]
    table.doubts = {"tags": f"other tags are in {', '.join(others[:4])}"} if others else {}
    lists = [value for value in table.values(tags) if isinstance(value, list)]
    num_tags = len({str(tag) for value in lists for tag in value if tag is not None})
    shown = f" ({num_tags} tags{table.looked_at})" if tags.is_list else ""
    return Choice(
        "tag",
        {"tokens": tokens.name, "tags": tags.name},
        table.sentence(f"Word column {tokens.name!r}, tag column {tags.name!r}{shown}"),
    )


def tokens_score(one: ColumnFacts) -> float | None:
    """How much a column looks like words; None when it can't be."""
    named = name_score(one.name, "tokens")
    if not (one.is_list or (one.is_text and named >= WHOLE_NAME)):
        return None
    return NAME_WEIGHT * named + one.distinct_fraction


def tags_score(tokens: ColumnFacts) -> Callable[[ColumnFacts], float | None]:
    """How much a column looks like the tags of these words; None when it can't be."""

    def score(one: ColumnFacts) -> float | None:
        named = name_score(one.name, "tags")
        is_as_long = one.is_text and one.mean_words == tokens.mean_words and named >= LAST_WORD
        fits = one.is_list == tokens.is_list and (one.is_list or is_as_long)
        return NAME_WEIGHT * named if fits else None

    return score


def is_conll(table: Table) -> bool:
    """The file's format is that of words with tags."""
    return table.source.kind in ("conll", "conllu")


def has_lists(table: Table) -> bool:
    """There are two columns of lists, and one is called words."""
    lists = [one for one in table.facts if one.is_list]
    return len(lists) >= 2 and any(name_score(one.name, "tokens") >= LAST_WORD for one in lists)


COLUMNS = TaskColumns(
    "tag",
    {"tokens": Kind.WORDS, "tags": Kind.TAGS},
    choose,
    (
        Rule(FORMAT, "the file has one word with its tags a line", is_conll),
        Rule(LISTS, "there are lists of words and lists of tags", has_lists),
    ),
    options={"text": "tokens", "label": "tags"},
)
