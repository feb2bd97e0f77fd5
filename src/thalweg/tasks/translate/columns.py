"""The columns of translation: two texts."""

from collections.abc import Callable

from thalweg.data.columns import misfits
from thalweg.data.columns.choice import PAIR, Choice, Kind, Rule, Table, TaskColumns
from thalweg.data.columns.facts import ColumnFacts
from thalweg.data.columns.role_names import is_side, name_score
from thalweg.data.columns.scores import MANY_WORDS, NAME_WEIGHT, is_label_like, is_text_like


def choose(table: Table) -> Choice:
    """Return the source and the target; languages are names of both sides, and their order decides."""
    named_target = [one for one in table.facts if is_side(one.name, "target")]
    target = table.named.get("target") or (named_target[0] if len(named_target) == 1 else None)
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
    table.doubts.clear()
    told = table.sentence(f"Source column {source.name!r}, target column {target.name!r}")
    return Choice("translate", {"source": source.name, "target": target.name}, told)


def side_score(role: str) -> Callable[[ColumnFacts], float | None]:
    """How much a column looks like one side of a translation; None when it can't be."""

    def score(one: ColumnFacts) -> float | None:
        if not one.is_text:
            return None
        words = min(one.mean_words, MANY_WORDS) / MANY_WORDS
        return NAME_WEIGHT * name_score(one.name, role) + words + one.distinct_fraction

    return score


def has_two_texts(table: Table) -> bool:
    """There are two texts that are not labels."""
    return sum(is_text_like(one) and not is_label_like(one) for one in table.facts) >= 2


COLUMNS = TaskColumns(
    "translate",
    {"source": Kind.TEXT, "target": Kind.TEXT},
    choose,
    (Rule(PAIR, "there are pairs of texts", has_two_texts),),
    options={"text": "source", "label": "target"},
    objection=misfits.of_pairs,
)
