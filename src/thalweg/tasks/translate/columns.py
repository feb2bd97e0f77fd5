"""The columns of translation: two texts."""

from collections.abc import Callable
from typing import Final

from thalweg.data.columns import misfits
from thalweg.data.columns.choice import FORMAT, NUM_SHOWN, PAIR, PAIR_AND_NUMBER, Choice, Kind, Rule, Table, TaskColumns
from thalweg.data.columns.facts import ColumnFacts, shortened
from thalweg.data.columns.role_names import is_side, name_score
from thalweg.data.columns.scores import MANY_WORDS, NAME_WEIGHT, is_label_like, is_text_like

MIN_OWN: Final = 0.5  # of the targets come once; fewer may be labels
MIN_FILLED: Final = 0.5  # of the rows have a text on each side of a translation


def choose(table: Table) -> Choice:
    """Return the source and the target; languages are names of both sides, and their order decides.

    A translation memory has them in its first two columns.
    """
    if is_memory(table):
        return choose_languages(table)
    named_target = [one for one in table.facts if is_side(one.name, "target")]
    target = table.named.get("target") or (named_target[0] if len(named_target) == 1 else None)
    texts = [one for one in table.facts if is_text_like(one) and not is_label_like(one)]
    is_named = bool(table.named) or any(name_score(one.name, role) for one in texts for role in ("source", "target"))
    if not is_named and len(texts) >= 2:
        source, target = texts[:2]  # what comes later says where a pair is from
    else:
        source = table.best("source", side_score("source"), (target,) if target else ())
    if source is not None and target is None:
        target = table.best("target", side_score("target"), (source,))
        is_decided = bool(table.named) or is_side(source.name, "source")
        if target is not None and target.position < source.position and not is_decided:
            source, target = target, source
    if source is None or target is None:
        raise table.fail(
            "two columns of texts for the task translate", "name them with --text-column and --label-column"
        )
    rest = [repr(one.name) for one in texts if one not in (source, target)]
    table.doubts = {"rest": f"not read: {shortened(rest, NUM_SHOWN)}"} if rest else {}
    told = table.sentence(f"Source column {source.name!r}, target column {target.name!r}")
    return Choice("translate", {"source": source.name, "target": target.name}, told)


def choose_languages(table: Table) -> Choice:
    """Return the languages of a translation memory that were named, and the first ones for the others."""
    named = {role: one.name for role, one in table.named.items()}
    rest = [name for name in table.source.columns if name not in named.values()]
    source = named.get("source") or rest.pop(0)
    target = named.get("target") or rest.pop(0)
    told = table.sentence(f"Source language {source!r}, target language {target!r}")
    return Choice("translate", {"source": source, "target": target}, told)


def is_memory(table: Table) -> bool:
    """The file's format is that of texts with their translations."""
    return table.source.kind == "tmx"


def side_score(role: str) -> Callable[[ColumnFacts], float | None]:
    """How much a column looks like one side of a translation; None when it can't be."""

    def score(one: ColumnFacts) -> float | None:
        if not one.is_text or one.num_values < MIN_FILLED * one.num_rows:
            return None
        words = min(one.mean_words, MANY_WORDS) / MANY_WORDS
        return NAME_WEIGHT * name_score(one.name, role) + words + one.distinct_fraction

    return score


def has_two_texts(table: Table) -> bool:
    """There are two texts that are not labels."""
    return sum(is_text_like(one) and not is_label_like(one) for one in table.facts) >= 2


def has_sides(table: Table) -> bool:
    """A column is called the source and one the target, and most of the targets are texts of their own, not labels."""
    sources = [one for one in table.facts if is_side(one.name, "source") and one.mean_words > 1]
    targets = [one for one in table.facts if is_side(one.name, "target") and one.mean_words > 1]
    labels = [one for one in table.facts if one not in (*sources, *targets) and is_label_like(one)]
    return len(sources) == len(targets) == 1 and targets[0].distinct_fraction > MIN_OWN and not labels


COLUMNS = TaskColumns(
    "translate",
    {"source": Kind.TEXT, "target": Kind.TEXT},
    choose,
    (
        Rule(FORMAT, "the file is a translation memory", is_memory),
        Rule(PAIR_AND_NUMBER, "two columns are called source and target", has_sides),
        Rule(PAIR, "there are pairs of texts", has_two_texts),
    ),
    options={"text": "source", "label": "target"},
    objection=misfits.of_pairs,
)
