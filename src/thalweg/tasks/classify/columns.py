"""The columns of classification: a text, and a label whose values come again."""

from itertools import count, takewhile
from typing import Final

from thalweg.data.columns import misfits
from thalweg.data.columns.choice import LIKELY, NAMED, NUM_SHOWN, PARTS, TYPICAL, Choice, Kind, Rule, Table, TaskColumns
from thalweg.data.columns.facts import ColumnFacts, shortened
from thalweg.data.columns.label_values import YES, label_of
from thalweg.data.columns.role_names import LAST_WORD, WHOLE_NAME, is_side, name_score, normalized
from thalweg.data.columns.scores import COMMON_NAME, is_label_like, is_text_like, is_time, label_score
from thalweg.data.files.table.header import REPEATED
from thalweg.errors import InputError, counted

MIN_FLAGS: Final = 3  # columns of 0 and 1 that vary: one or two may be about something else


def choose(table: Table) -> Choice:
    """Return the text and the label; where the text was named, the label may be what else looks like a text."""
    if table.named_labels:
        return _of_columns(table, table.text("classify", table.named_labels), list(table.named_labels))
    flags = [] if "label" in table.named else flag_columns(table)
    if flags:
        return _of_columns(table, table.text("classify", flags), flags)
    label = table.best("label", label_score) if "text" in table.named else None
    text = table.named["text"] if label is not None else table.text("classify")
    label = label or table.best("label", label_score, (text,))
    if label is None:
        raise table.fail(
            f"a column of labels along with the text {text.name!r} (values that repeat)",
            "name it with --label-column",
        )
    if len(same := _of_one_name(table, label)) > 1:
        return _of_columns(table, text, same)
    shown = f"{label.num_distinct} label{'s' if label.num_distinct != 1 else ''}{table.looked_at}"
    shown += f", several per row, separated by {label.separator!r}" if label.separator else ""
    is_multilabel = label.has_several if label.is_list else label.separator is not None
    shown += ", several a row" if label.is_list and is_multilabel else ""
    na_is_missing = label.is_number and label.num_missing_words > 0
    shown += ", NA and the like are no label" if na_is_missing else ""
    return Choice(
        "classify",
        {"text": text.name, "label": label.name},
        table.sentence(f"Text column {text.name!r}, label column {label.name!r} ({shown})"),
        separator=label.separator,
        is_multilabel=is_multilabel,
        na_is_missing=na_is_missing,
    )


def flag_columns(table: Table) -> list[ColumnFacts]:
    """Return the columns of 0 and 1 that are a label each: at least three side by side, and none is called a label."""
    runs: list[list[ColumnFacts]] = [[]]
    for one in table.facts:
        if runs[-1] and one.flags != runs[-1][-1].flags:
            runs.append([])
        if one.flags:
            runs[-1].append(one)
    longest = max(runs, key=len)
    rest = [one for one in table.facts if one not in longest and one not in table.named.values()]
    is_named = any(name_score(one.name, "label") >= WHOLE_NAME and label_score(one) is not None for one in rest)
    is_one_of_them = any(name_score(one.name, "label") >= COMMON_NAME for one in longest)
    varying = sum(one.num_distinct > 1 for one in longest)
    return longest if varying >= MIN_FLAGS and not is_named and not is_one_of_them else []


def _of_one_name(table: Table, label: ColumnFacts) -> list[ColumnFacts]:
    """The columns that have the name of a label in the file, as each of several labels has a column of its own."""
    numbered = (f"{label.name}{REPEATED}{number}" for number in count(2))
    facts = {one.name: one for one in table.facts}
    return [label, *(facts[name] for name in takewhile(facts.__contains__, numbered))]


def _of_columns(table: Table, text: ColumnFacts, labels: list[ColumnFacts]) -> Choice:
    """Return the choice of several columns of labels: their values, or the names of those that hold 1."""
    names = [one.name for one in labels]
    if text in labels:
        raise InputError(f"{table.source.name}: the text and label columns must be different, got {text.name!r}.")
    is_one_hot = all(one.flags for one in labels)
    if not is_one_hot and any(one.flags for one in labels):
        flags = next(one for one in labels if one.flags)
        other = next(one for one in labels if not one.flags)
        raise InputError(
            f"{table.source.name}: expected several label columns of one kind, got {flags.name!r} with "
            f"{flags.flags} in every row and {other.name!r} with other values; name those of one kind."
        )
    if is_one_hot:
        rows = zip(*map(table.values, labels), strict=True)
        numbers = [sum((label_of(value) or "").lower() in YES for value in row) for row in rows]
        is_multilabel = max(numbers) > 1
        shown = f"{len(labels)} labels, {'any number' if is_multilabel else 'one'} a row"
        if num_none := numbers.count(0):
            rows_ = f"{counted(num_none, 'row')}{table.looked_at} with 0 in each"
            shown += (
                f"; {rows_} {'has' if num_none == 1 else 'have'} none" if is_multilabel else f"; {rows_} can't be used"
            )
    else:
        is_multilabel = True
        found = {label_of(value) for one in labels for value in table.values(one)} - {None}
        shown = f"{len(found)} labels{table.looked_at}, several a row"
    told = f"Text column {text.name!r}, label columns {shortened([*map(repr, names)], NUM_SHOWN)} ({shown})"
    table.doubts.pop("label", None)
    return Choice(
        "classify",
        {"text": text.name, "label": ",".join(names)},
        table.sentence(told),
        is_multilabel=is_multilabel,
        label_columns=tuple(names),
        is_one_hot=is_one_hot,
    )


def has_flags(table: Table) -> bool:
    """Beside a text there are several columns of 0 and 1."""
    return any(map(is_text_like, table.facts)) and bool(flag_columns(table))


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
        Rule(TYPICAL, "there are texts with columns of 0 and 1", has_flags),
        Rule(PARTS, "there are documents with labels", has_document),
        Rule(LIKELY, "there are texts with labels", has_label),
    ),
    objection=misfits.of_labels,
)
