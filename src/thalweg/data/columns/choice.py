"""Which column is the text, which the label: found by names and contents, told in a sentence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from thalweg.data.columns.facts import ColumnFacts, column_facts
from thalweg.data.columns.role_names import is_side, name_score, normalized
from thalweg.data.columns.scores import is_label_like, is_time, label_score, number_score, text_score
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError

TASKS: Final = ("classify", "tag", "score", "forecast", "language", "translate")
_NUM_ROWS: Final = 1000
# What --text-column and --label-column mean for tasks whose roles have other names.
_ALIASES: Final[dict[str, dict[str, str]]] = {
    "classify": {},
    "score": {"label": "number"},
    "translate": {"text": "source", "label": "target"},
    "tag": {"text": "tokens", "label": "tags"},
    "forecast": {"label": "series"},
    "language": {},
}
_ROLES: Final = {
    "classify": ("text", "label"),
    "score": ("text", "other", "number"),
    "translate": ("source", "target"),
    "tag": ("tokens", "tags"),
    "forecast": ("series", "time"),
    "language": ("text",),
}
_CLOSE: Final = 0.35  # a second column whose score comes so near to the best is named to the user


@final
@dataclass(frozen=True)
class Choice:
    """Which columns a task reads.

    Args:
        task: classify, tag, score, forecast, language or translate.
        columns: role -> column. classify: text, label; score: text, number and maybe other (the second text of a
            pair); translate: source, target; tag: tokens, tags; forecast: maybe time; language: text.
        series: the numeric columns of a forecast, in the file's order; empty for the other tasks.
        separator: the character between several labels of one row (classify); None when a row has one, or a list.
        is_multilabel: whether a row may have several labels.
        sentence: the choice in words, and how to choose others.
    """

    task: str
    columns: dict[str, str]
    sentence: str
    series: tuple[str, ...] = ()
    separator: str | None = None
    is_multilabel: bool = False


@final
@dataclass
class _Search:
    """The columns of one source while their roles are being found."""

    source: AbstractSource
    facts: list[ColumnFacts]
    overrides: dict[str, ColumnFacts]
    doubts: list[str] = field(default_factory=list)

    def best(
        self, role: str, score: Callable[[ColumnFacts], float | None], taken: tuple[ColumnFacts, ...] = ()
    ) -> ColumnFacts | None:
        """The override for a role, or the (first) column with the highest score; a score of None does not fit."""
        if role in self.overrides:
            return self.overrides[role]
        taken = (*taken, *self.overrides.values())
        scored = [(value, one) for one in self.facts if one not in taken and (value := score(one)) is not None]
        if not scored:
            return None
        scored.sort(key=lambda pair: (-pair[0], pair[1].position))
        near = [repr(one.name) for value, one in scored[1:] if value > scored[0][0] - _CLOSE]
        if near:
            self.doubts.append(f"{' or '.join(near[:2])} would do for the {role} too")
        return scored[0][1]

    def fail(self, what: str, how: str) -> InputError:
        names = ", ".join(map(repr, self.source.columns[:12])) + (", ..." if len(self.source.columns) > 12 else "")
        return InputError(f"{self.source.name}: expected {what}, found none among the columns {names}; {how}.")

    def sentence(self, text: str) -> str:
        return f"{'; '.join([text, *self.doubts])}; --text-column and --label-column choose others."


def choose_columns(source: AbstractSource, task: str, overrides: Mapping[str, str | None] | None = None) -> Choice:
    """Find the columns that a task reads, by their names and by the first 1,000 rows.

    Args:
        source: the data.
        task: classify, tag, score, forecast, language or translate.
        overrides: role -> column name, for roles that the user has chosen; None means not chosen. "text" and "label"
            are understood by all tasks: they stand for source and target of translate, tokens and tags of tag; "label"
            for the number of score and for the series of forecast (several names are separated by commas).

    Returns:
        The choice, with a sentence for the user.

    Raises:
        InputError: when a chosen column does not exist, or no column fits a role.
        ValueError: when the task is unknown.

    Example:
        >>> from thalweg.data.builtin.catalog import SAMPLES
        >>> choose_columns(SAMPLES["sunspots"], "forecast").series
        ('sunspots',)
    """
    if task not in TASKS:
        raise ValueError(f"choose_columns(task=...) must be one of {', '.join(TASKS)}; got {task!r}.")
    named = {role: name for role, name in (overrides or {}).items() if name}
    named = {_ALIASES[task].get(role, role): name for role, name in named.items()}
    for role in named:
        if role not in _ROLES[task]:
            raise InputError(f"The task {task} has no {role} column; it has {' and '.join(_ROLES[task])}.")
    rows = source.head(_NUM_ROWS + 1)
    facts = column_facts(source.columns, rows[:_NUM_ROWS])
    series = named.pop("series", None) if task == "forecast" else None
    chosen = {role: facts[source.columns.index(_existing(source, name))] for role, name in named.items()}
    if len({one.name for one in chosen.values()}) < len(chosen):
        roles = " and ".join(chosen)
        raise InputError(f"{source.name}: the {roles} columns must be different, got {next(iter(named.values()))!r}.")
    search = _Search(source, facts, chosen)
    if task == "forecast":
        return _forecast(search, series)
    many = len(rows) > _NUM_ROWS
    return {"classify": _classify, "score": _score, "translate": _translate, "tag": _tag, "language": _language}[task](
        search, many
    )


def _existing(source: AbstractSource, name: str) -> str:
    if name in source.columns:
        return name
    same = [column for column in source.columns if column.lower() == name.lower()]
    if len(same) == 1:
        return same[0]
    listed = ", ".join(map(repr, source.columns[:20])) + (", ..." if len(source.columns) > 20 else "")
    raise InputError(f"{source.name}: there is no column {name!r}; the columns are {listed}.")


def _text(search: _Search, task: str, taken: tuple[ColumnFacts, ...] = ()) -> ColumnFacts:
    text = search.best("text", text_score, taken)
    if text is None:
        raise search.fail(f"a column of texts for the task {task}", "name it with --text-column")
    return text


def _classify(search: _Search, many: bool) -> Choice:
    label = search.best("label", label_score) if "text" in search.overrides else None
    if label is None:
        # The label first when its name is plain, so that a column called "type" is not taken for the text.
        text = _text(search, "classify")
        label = search.best("label", label_score, (text,))
    else:
        text = search.overrides["text"]
    if label is None:
        raise search.fail(
            f"a column of labels beside the text {text.name!r} (values that come again and again)",
            "name it with --label-column",
        )
    is_multilabel = label.is_list or label.separator is not None
    shown = f"{label.num_distinct} label{'s' if label.num_distinct != 1 else ''}"
    shown += f" in the first {_NUM_ROWS:,} rows" if many else ""
    shown += f", several a row, separated by {label.separator!r}" if label.separator else ""
    shown += ", several a row" if label.is_list else ""
    return Choice(
        "classify",
        {"text": text.name, "label": label.name},
        search.sentence(f"Text column {text.name!r}, label column {label.name!r} ({shown})"),
        separator=label.separator,
        is_multilabel=is_multilabel,
    )


def _score(search: _Search, many: bool) -> Choice:
    del many
    number = search.best("number", number_score)
    if number is None:
        raise search.fail("a column of numbers for the task score", "name it with --label-column")
    pair = _pair(search, number)
    if pair is None:
        text = _text(search, "score", (number,))
        columns = {"text": text.name, "number": number.name}
        told = f"Text column {text.name!r}, number column {number.name!r}"
    else:
        search.doubts = [doubt for doubt in search.doubts if "for the text" not in doubt]
        columns = {"text": pair[0].name, "other": pair[1].name, "number": number.name}
        told = f"Text columns {pair[0].name!r} and {pair[1].name!r}, number column {number.name!r}"
    return Choice("score", columns, search.sentence(told))


def _pair(search: _Search, number: ColumnFacts) -> tuple[ColumnFacts, ColumnFacts] | None:
    """The two texts of a pair: by names such as sentence1 and sentence2, or two columns of like contents."""
    if "text" in search.overrides and "other" not in search.overrides:
        first = search.overrides["text"]
    elif "text" in search.overrides:
        return search.overrides["text"], search.overrides["other"]
    else:
        first = None
    texts = [one for one in search.facts if one.is_text and one is not number]
    for one in [first] if first else texts:
        name = normalized(one.name)
        for other in texts:
            twin = normalized(other.name)
            is_twin = name[:-1] == twin[:-1] != "column" and (name[-1:], twin[-1:]) in (("1", "2"), ("a", "b"))
            if is_twin and one is not other:
                return one, other
            if (name, twin) in (
                ("premise", "hypothesis"),
                ("first", "second"),
                ("left", "right"),
                ("query", "document"),
            ):
                return one, other
    if first is not None:
        return (first, search.overrides["other"]) if "other" in search.overrides else None
    alike = [one for one in texts if one.mean_words >= 2 and one.distinct_share > 0.3]
    alike.sort(key=lambda one: -(text_score(one) or 0))
    if len(alike) < 2:
        return None
    one, other = sorted(alike[:2], key=lambda two: two.position)
    same_names = name_score(one.name, "text") == name_score(other.name, "text")
    same_length = 0.4 < one.mean_words / other.mean_words < 2.5
    return (one, other) if same_names and same_length else None


def _translate(search: _Search, many: bool) -> Choice:
    del many

    def score_as(role: str) -> Callable[[ColumnFacts], float | None]:
        def score(one: ColumnFacts) -> float | None:
            if not one.is_text:
                return None
            return 2 * name_score(one.name, role) + min(one.mean_words, 10) / 10 + one.distinct_share

        return score

    # Languages are names of both sides; only source, src, target, tgt ... say which is which.
    plain = [one for one in search.facts if is_side(one.name, "target")]
    target = search.overrides.get("target") or (plain[0] if len(plain) == 1 else None)
    source = search.best("source", score_as("source"), (target,) if target else ())
    if source is not None and target is None:
        target = search.best("target", score_as("target"), (source,))
        if target is not None and target.position < source.position and not search.overrides:
            explicit = is_side(source.name, "source")
            source, target = (source, target) if explicit else (target, source)
    if source is None or target is None:
        raise search.fail(
            "two columns of texts for the task translate", "name them with --text-column and --label-column"
        )
    search.doubts.clear()
    told = f"Source column {source.name!r}, target column {target.name!r}"
    return Choice("translate", {"source": source.name, "target": target.name}, search.sentence(told))


def _tag(search: _Search, many: bool) -> Choice:
    def score_tokens(one: ColumnFacts) -> float | None:
        named = name_score(one.name, "tokens")
        return 2 * named + one.distinct_share if one.is_list or (one.is_text and named >= 0.6) else None

    tokens = search.best("tokens", score_tokens)

    def score_tags(one: ColumnFacts) -> float | None:
        named = name_score(one.name, "tags")
        # Words and tags may also be texts, parted by spaces; then there are as many of both.
        fits = one.is_list or (tokens and one.is_text and one.mean_words == tokens.mean_words and named >= 0.5)
        return 2 * named if fits and tokens and one.is_list == tokens.is_list else None

    tags = search.best("tags", score_tags, (tokens,)) if tokens else None
    if tokens is None or tags is None:
        raise search.fail(
            "a column of lists of words and one of lists of tags for the task tag",
            'give CoNLL, or JSON Lines such as {"tokens": [...], "tags": [...]}',
        )
    search.doubts.clear()
    others = [repr(one.name) for one in search.facts if one.is_list and one not in (tokens, tags)]
    if others:
        search.doubts.append(f"other tags are in {', '.join(others[:4])}")
    num = f" ({tags.num_distinct} tags{f' in the first {_NUM_ROWS:,} rows' if many else ''})" if tags.is_list else ""
    told = f"Word column {tokens.name!r}, tag column {tags.name!r}{num}"
    return Choice("tag", {"tokens": tokens.name, "tags": tags.name}, search.sentence(told))


def _forecast(search: _Search, series: str | None) -> Choice:
    time = search.overrides.get("time") or next((one for one in search.facts if is_time(one)), None)
    if time and series is None and not any(one.is_number for one in search.facts if one is not time):
        time = None  # the only numbers there are happen to grow
    if series is not None:
        names = tuple(_existing(search.source, name.strip()) for name in series.split(",") if name.strip())
        time = None if time and time.name in names else time
    else:
        names = tuple(one.name for one in search.facts if one.is_number and one is not time)
    if not names:
        raise search.fail("a column of numbers for the task forecast", "name it with --label-column")
    shown = ", ".join(map(repr, names[:6])) + (f" ... ({len(names)} in all)" if len(names) > 6 else "")
    told = f"Numeric column{'s' if len(names) > 1 else ''} {shown}"
    told += f", in the order of the rows ({time.name!r} is left out)" if time else ""
    return Choice(
        "forecast",
        {"time": time.name} if time else {},
        f"{told}; --label-column chooses others.",
        series=names,
    )


def _language(search: _Search, many: bool) -> Choice:
    del many
    text = _text(search, "language")
    if search.source.kind == "text" or len(search.facts) == 1:
        return Choice("language", {"text": text.name}, "Plain text, line by line.")
    told = "; ".join([f"Text column {text.name!r}", *search.doubts])
    return Choice("language", {"text": text.name}, f"{told}; --text-column chooses another.")


def guess_task(source: AbstractSource) -> tuple[str, str]:
    """Guess from the columns what a file is for.

    Args:
        source: the data.

    Returns:
        The task's name, and a sentence that gives the reason and how to choose another.

    Raises:
        InputError: when the columns fit no task.

    Example:
        >>> from thalweg.data.builtin.catalog import SAMPLES
        >>> guess_task(SAMPLES["numbers"])[0]
        'translate'
    """
    task, reason = _guess(source)
    return task, f"Task {task}: {reason}; --task chooses another."


def _guess(source: AbstractSource) -> tuple[str, str]:
    if source.kind == "text":
        return "language", "the file is plain text"
    if source.kind in ("conll", "conllu"):
        return "tag", "the file has one word with its tags a line"
    facts = column_facts(source.columns, source.head(_NUM_ROWS))
    search = _Search(source, facts, {})
    lists = [one for one in facts if one.is_list]
    if len(lists) >= 2 and any(name_score(one.name, "tokens") >= 0.5 for one in lists):
        return "tag", "there are lists of words and lists of tags"
    texts = [one for one in facts if text_score(one) is not None and (one.mean_words >= 1.5 or not is_label_like(one))]
    if not texts:
        if any(one.is_number for one in facts):
            return "forecast", "the columns are numbers"
        if len(facts) == 1 and facts[0].is_text:
            return "language", "there is one column, of texts"
        raise search.fail("a column of texts or of numbers", "choose the task with --task and the columns by name")
    number = search.best("number", number_score)
    if number is not None and _pair(search, number) is not None and (number_score(number) or 0) > 0.5:
        return "score", "there are pairs of texts with a number"
    others = [one for one in facts if one is not _text(search, "classify") and not is_time(one)]
    labels = [one for one in others if label_score(one) is not None and (one not in texts or is_label_like(one))]
    named = any(name_score(one.name, "label") >= 0.5 for one in labels)
    is_score = number is not None and (
        (number.has_decimals and number.num_distinct > 5) or name_score(number.name, "number") >= 0.8
    )
    if is_score and not named:
        return "score", "there are texts with a number"
    sides = [one for one in texts if not is_label_like(one)]
    if len(sides) >= 2 and not named:
        return "translate", "there are pairs of texts"
    if labels:
        return "classify", "there are texts with labels"
    if number is not None and (number_score(number) or 0) > 0:
        return "score", "there are texts with a number"
    return "language", "there are texts and nothing to predict from them"
