"""The columns of classification: a text, and a label whose values come again."""

from thalweg.data.columns import misfits
from thalweg.data.columns.choice import LIKELY, NAMED, PARTS, Choice, Kind, Rule, Table, TaskColumns
from thalweg.data.columns.facts import ColumnFacts
from thalweg.data.columns.role_names import LAST_WORD, WHOLE_NAME, is_side, name_score, normalized
from thalweg.data.columns.scores import is_label_like, is_text_like, is_time, label_score


def choose(table: Table) -> Choice:
    """Return the text and the label; where the text was named, the label may be what else looks like a text."""
    label = table.best("label", label_score) if "text" in table.named else None
    text = table.named["text"] if label is not None else table.text("classify")
    label = label or table.best("label", label_score, (text,))
    if label is None:
        raise table.fail(
            f"a column of labels along with the text {text.name!r} (values that repeat)",
            "name it with --label-column",
        )
    shown = f"{label.num_distinct} label{'s' if label.num_distinct != 1 else ''}{table.looked_at}"
    shown += f", several per row, separated by {label.separator!r}" if label.separator else ""
    shown += ", several a row" if label.is_list else ""
    return Choice(
        "classify",
        {"text": text.name, "label": label.name},
        table.sentence(f"Text column {text.name!r}, label column {label.name!r} ({shown})"),
        separator=label.separator,
        is_multilabel=label.is_list or label.separator is not None,
    )


def has_named_label(table: Table) -> bool:
    """Beside a text there is what may be labels, and is called so."""
    return any(name_score(one.name, "label") >= LAST_WORD for one in _labels(table))


def has_document(table: Table) -> bool:
    """Beside what may be labels there are several texts that are called parts of one document, such as a title."""
    texts = [one.name for one in table.facts if is_text_like(one) and not is_label_like(one)]
    are_parts = all(name_score(name, "text") >= LAST_WORD and not is_one_side(name) for name in texts)
    return len(texts) >= 2 and are_parts and has_label(table)


def is_one_side(name: str) -> bool:
    """Whether a name says that a text is one of two, as in "source_text" and "sentence1"."""
    words = normalized(name).split("_")
    sided = any(is_side(word, role) for word in words for role in ("source", "target"))
    return sided or name_score(name, "first") >= WHOLE_NAME or name_score(name, "other") >= WHOLE_NAME


def has_label(table: Table) -> bool:
    """Beside a text there is what may be labels."""
    return bool(_labels(table))


def _labels(table: Table) -> list[ColumnFacts]:
    """The columns that may be labels, beside the best text of a table that has texts."""
    if not any(map(is_text_like, table.facts)):
        return []
    text = table.text("classify")
    others = [one for one in table.facts if one is not text and not is_time(one) and label_score(one) is not None]
    return [one for one in others if not is_text_like(one) or is_label_like(one)]


COLUMNS = TaskColumns(
    "classify",
    {"text": Kind.TEXT, "label": Kind.LABEL},
    choose,
    (
        Rule(NAMED, "there are texts with labels", has_named_label),
        Rule(PARTS, "there are documents with labels", has_document),
        Rule(LIKELY, "there are texts with labels", has_label),
    ),
    objection=misfits.of_labels,
)
