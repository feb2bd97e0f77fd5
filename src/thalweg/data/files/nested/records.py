"""Records with objects inside -> columns: dotted names, labels with scores, marked spans, and messages of a chat."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from thalweg.data.columns.role_names import WHOLE_NAME, name_score
from thalweg.data.files.base import BadRows, Chunk
from thalweg.data.files.nested.annotations import REJECTED, asks_one_label, is_answer, is_rejected, unwrapped
from thalweg.data.files.nested.spans import Span, are_spans, span_of, tags_of, words_of
from thalweg.errors import InputError

Record = dict[str, Any]

_MAX_DEPTH: Final = 8  # objects inside objects that become dotted columns
_SCORED: Final = ("cats", "labels", "label", "categories", "classes", "tags")  # names of objects of labels with scores
_LABELED: Final = ("annotations", "components", "cats")  # lists of objects that are labels, besides those called so
_FIELDS: Final = ("label", "name", "tag", "category", "value")
_CHOSEN: Final = 0.5  # a label with this score is given
_ROLES: Final = (("role", "content"), ("from", "value"))  # of a message
_ASKING: Final = ("user", "human", "prompter")
_ANSWERING: Final = ("assistant", "gpt", "bot", "model")
_MAX_LONG: Final = 0.01  # of the rows may have more messages than a pair
_MIN_COLUMNS: Final = 2  # that remain, or what was left out is what matters


def flattened(record: Record, prefix: str = "", depth: int = 0) -> Record:
    """A record whose objects have become dotted names, in the order in which they appear.

    Example:
        >>> flattened({"id": 1, "translation": {"en": "a", "fr": "b"}})
        {'id': 1, 'translation.en': 'a', 'translation.fr': 'b'}
    """
    if depth == 0 and not any(isinstance(value, dict) for value in record.values()):
        return record
    flat: Record = {}
    for key, value in record.items():
        if isinstance(value, dict) and depth < _MAX_DEPTH:
            flat.update(flattened(value, f"{prefix}{key}.", depth + 1))
        else:
            flat[prefix + key] = value
    return flat


@final
@dataclass(frozen=True)
class Special:
    """Columns that are made from what is not a plain value.

    `make` takes a flat record and returns the values of `columns`, with what had to be changed; or, as a text, why the
    record is a bad row.
    """

    columns: tuple[str, ...]
    make: Callable[[Record], tuple[tuple[Any, ...], list[str]] | str]


@final
@dataclass(frozen=True)
class Layout:
    """Which columns the records of a source have; made from its first records by `layout_of`."""

    plain: tuple[str, ...]
    specials: tuple[Special, ...] = ()
    scored: tuple[str, ...] = ()  # objects that are not made flat
    is_nested: bool = False
    one_label: bool = False  # the answers of an annotator are about one label
    left_out: tuple[str, ...] = ()  # keys that hold lists of objects

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return (*self.plain, *(column for one in self.specials for column in one.columns))

    def chunk(self, lines: list[int], records: list[Record], bad: BadRows) -> Chunk | None:
        """The values of some records by column; those that do not fit are bad rows. None where all of them are."""
        if not self.is_nested:
            values = tuple([record.get(name) for record in records] for name in self.plain)
            if not any(map(_has_objects, values)):
                return Chunk(self.plain, lines, values)
        kept, rows = [], []
        for line, record in zip(lines, records, strict=True):
            row = self.row(line, record, bad)
            if row is not None:
                kept.append(line)
                rows.append(row)
        return Chunk(self.columns, kept, tuple(map(list, zip(*rows, strict=True)))) if rows else None

    def row(self, line: int, record: Record, bad: BadRows) -> tuple[Any, ...] | None:
        """The values of one record; None for a bad row, which is counted."""
        if is_rejected(record) and not (self.one_label and record["answer"] == "reject"):
            bad.leave_out(line, REJECTED)
            return None
        flat = self._flat(record)
        values = [flat.get(name) for name in self.plain]
        for name, value in zip(self.plain, values, strict=True):
            if holds_objects(value):
                bad.add(line, f"{name!r} holds objects, and plain values in the rows before")
                return None
        for special in self.specials:
            made = special.make(flat)
            if isinstance(made, str):
                bad.add(line, made)
                return None
            values += made[0]
            for problem in dict.fromkeys(made[1]):
                bad.leave_out(line, problem)
        return tuple(values)

    def _flat(self, record: Record) -> Record:
        record = unwrapped(record, one_label=self.one_label)
        if not self.scored:
            return flattened(record)
        held = {name: record[name] for name in self.scored if name in record}
        return {**flattened({key: value for key, value in record.items() if key not in held}), **held}


def layout_of(name: str, records: Sequence[Record]) -> tuple[Layout, list[str]]:
    """Decide the columns by the first records, in order of appearance, and say what is not plain about them.

    Raises `InputError`, with the path, when what the records hold can't be columns.
    """
    one_label, has_answers = asks_one_label(records), any(map(is_answer, records))
    accepted = [record for record in records if one_label or not is_rejected(record)]
    records = [unwrapped(record, one_label=one_label) for record in accepted or records]
    scored = tuple(key for key in _SCORED if _is_scored([record.get(key) for record in records]))
    draft = Layout((), scored=scored)
    flat = [draft._flat(record) for record in records]
    keys = list(dict.fromkeys(key for record in flat for key in record))
    is_nested = (
        has_answers or bool(scored) or any(isinstance(value, dict) for record in records for value in record.values())
    )
    specials, notes, used = _specials(name, keys, flat, scored)
    left_out = [key for key in keys if key not in used and any(holds_objects(record.get(key)) for record in flat)]
    made = tuple(column for one in specials for column in one.columns)
    plain = tuple(key for key in keys if key not in {*used, *left_out, *made})
    is_nested = is_nested or bool(specials) or bool(left_out)
    if left_out:
        if len(plain) + len(made) < _MIN_COLUMNS:
            raise InputError(
                f"{name}: {left_out[0]!r} holds a list of objects in each row, which are no values of a column; make a "
                f"row of each of them first, for example with jq -c '.{left_out[0]}[]'."
            )
        notes.append(f"Left out, because they hold lists of objects: {', '.join(left_out[:5])}.")
    dotted = [key for key in plain if "." in key and key not in records[0]]
    if dotted:
        notes.append(f"Objects inside of rows are read as columns with dots: {', '.join(dotted[:4])}.")
    if one_label:
        notes.append("All questions are about one label; where it was rejected, the label is its opposite.")
    return Layout(plain, tuple(specials), scored, is_nested, one_label, tuple(left_out)), notes


def _specials(
    name: str, keys: list[str], flat: list[Record], scored: tuple[str, ...]
) -> tuple[list[Special], list[str], set[str]]:
    specials: list[Special] = []
    notes: list[str] = []
    used: set[str] = set()
    for key in scored:
        is_single = all(len(_given(record[key])) == 1 for record in flat if record.get(key))
        specials.append(Special((key,), _labels_maker(key, is_single=is_single)))
        what = "the label with the score of at least 0.5" if is_single else "labels with scores of at least 0.5"
        notes.append(f"Column {key!r} holds {what}.")
        used.add(key)
    for key in keys:
        values = [record.get(key) for record in flat if record.get(key)]
        if key in used or not values or not all(isinstance(value, list) for value in values):
            continue
        if all(map(are_spans, values)) and (text := _text_of(keys, flat, key)):
            tokens = _token_column(keys, flat)
            specials.append(Special(("tokens", "tags"), _tags_maker(key, text, tokens)))
            notes.append(f"The spans in {key!r} are read as words and BIO tags of {text!r} (columns tokens and tags).")
            used |= {key} | ({tokens} if tokens else set())
            break
    for key in keys:
        values = [record.get(key) for record in flat if record.get(key)]
        field = _field_of(values) if key not in used and _holds_labels(key) else ""
        if field:
            specials.append(Special((key,), _fields_maker(key, field)))
            notes.append(f"Of the objects in {key!r}, their {field!r} are read.")
            used.add(key)
    for key in keys:
        values = [record.get(key) for record in flat if record.get(key)]
        fields = next(
            (pair for pair in _ROLES if values and all(_are_messages(value, *pair) for value in values)), None
        )
        if fields and key not in used:
            columns = (
                ("source", "target") if not {"source", "target"} & set(keys) else (f"{key}.user", f"{key}.assistant")
            )
            specials.append(Special(columns, _pair_maker(key, *fields)))
            notes.append(_messages_note(name, key, fields, values, columns))
            used.add(key)
            break
    return specials, notes, used


def holds_objects(value: Any) -> bool:
    """Whether a value has objects where a column has plain values."""
    return any(isinstance(one, dict) for one in (value if isinstance(value, list) else [value]))


def _has_objects(values: list[Any]) -> bool:
    kinds = set(map(type, values))
    return dict in kinds or (list in kinds and any(map(holds_objects, values)))


# Labels with scores: {"cats": {"GOOD": 1.0, "BAD": 0.0}}.


def _is_scored(values: list[Any]) -> bool:
    found = [value for value in values if value is not None]
    return bool(found) and all(isinstance(value, dict) and value and _are_scores(value) for value in found)


def _are_scores(value: Record) -> bool:
    return all(isinstance(score, int | float) and 0 <= score <= 1 for score in value.values())


def _given(scores: Record) -> list[str]:
    return [label for label, score in scores.items() if score >= _CHOSEN]


def _labels_maker(key: str, *, is_single: bool) -> Callable[[Record], tuple[tuple[Any, ...], list[str]] | str]:
    def make(record: Record) -> tuple[tuple[Any, ...], list[str]] | str:
        scores = record.get(key)
        if scores is None:
            return (None,), []
        if not isinstance(scores, dict) or not _are_scores(scores):
            return f"expected labels with scores from 0 to 1 in {key!r}"
        labels = _given(scores)
        if not is_single:
            return (labels,), []
        return ((labels[0],), []) if len(labels) == 1 else f"expected one label in {key!r}, got {len(labels)}"

    return make


# Spans: {"text": ..., "entities": [[0, 4, "PER"]]}.


def _text_of(keys: list[str], flat: list[Record], spans: str) -> str | None:
    """The column that the spans are about: of those that are long enough, the one that is called a text."""

    def fits(key: str) -> bool:
        pairs = [(record.get(key), record.get(spans) or []) for record in flat]
        ends = [max((span.end for entry in found if (span := span_of(entry))), default=0) for _, found in pairs]
        return all(isinstance(text, str) and end <= len(text) for (text, _), end in zip(pairs, ends, strict=True))

    fitting = [key for key in keys if fits(key)]
    return max(fitting, key=lambda key: (name_score(key, "text"), -keys.index(key)), default=None)


def _token_column(keys: list[str], flat: list[Record]) -> str | None:
    """A column with the places of the words, as some tools export them beside the spans."""

    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(
            isinstance(one, dict) and isinstance(one.get("start"), int) and isinstance(one.get("end"), int)
            for one in value
        )

    return next((key for key in ("tokens", "words") if key in keys and all(fits(one.get(key)) for one in flat)), None)


def _tags_maker(
    key: str, text_key: str, tokens: str | None
) -> Callable[[Record], tuple[tuple[Any, ...], list[str]] | str]:
    def make(record: Record) -> tuple[tuple[Any, ...], list[str]] | str:
        text, found = record.get(text_key), record.get(key) or []
        if not isinstance(text, str):
            return f"expected a text in {text_key!r} for the spans in {key!r}"
        spans = [span_of(entry) for entry in found] if isinstance(found, list) else [None]
        if not all(span is not None and 0 <= span.start < span.end <= len(text) for span in spans):
            return f"expected spans with start, end and label inside of the text in {key!r}"
        words = words_of(text)
        if tokens and record.get(tokens):
            words = [Span(one["start"], one["end"], text[one["start"] : one["end"]]) for one in record[tokens]]
            words = [word for word in words if word.label.strip()]
        tags, problems = tags_of(words, [span for span in spans if span])
        return ([word.label for word in words], tags), problems

    return make


# Labels as objects: {"labels": [{"name": "bug", "id": 7}]}.


def _holds_labels(key: str) -> bool:
    return key in _LABELED or name_score(key.rpartition(".")[2], "label") >= WHOLE_NAME


def _field_of(values: list[Any]) -> str:
    """The field of objects in lists that is their label; "" where they have none."""
    found = [one for value in values for one in (value if isinstance(value, list) else [value])]
    if not found or not all(isinstance(one, dict) for one in found):
        return ""
    plain = (str, int)
    return next((name for name in _FIELDS if all(isinstance(one.get(name), plain) for one in found)), "")


def _fields_maker(key: str, field: str) -> Callable[[Record], tuple[tuple[Any, ...], list[str]] | str]:
    def make(record: Record) -> tuple[tuple[Any, ...], list[str]] | str:
        found = record.get(key) or []
        if not isinstance(found, list) or not all(isinstance(one, dict) and field in one for one in found):
            return f"expected a list of objects with {field!r} in {key!r}"
        return ([str(one[field]) for one in found],), []

    return make


# Messages: [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}].


def _are_messages(value: Any, role: str, content: str) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and isinstance(one.get(role), str) and isinstance(one.get(content), str) for one in value
    )


def _turns(messages: list[Record], role: str, content: str) -> list[tuple[str, str]]:
    return [(one[role].lower(), one[content]) for one in messages if one[role].lower() in (*_ASKING, *_ANSWERING)]


def _is_pair(turns: list[tuple[str, str]]) -> bool:
    return len(turns) == 2 and turns[0][0] in _ASKING and turns[1][0] in _ANSWERING


def _pair_maker(key: str, role: str, content: str) -> Callable[[Record], tuple[tuple[Any, ...], list[str]] | str]:
    def make(record: Record) -> tuple[tuple[Any, ...], list[str]] | str:
        messages = record.get(key)
        if not _are_messages(messages, role, content):
            return f"expected messages with {role} and {content} in {key!r}"
        turns = _turns(messages or [], role, content)
        if not _is_pair(turns):
            return f"expected one message of the user and one answer in {key!r}, got {len(turns)} messages"
        return (turns[0][1], turns[1][1]), []

    return make


def _messages_note(name: str, key: str, fields: tuple[str, str], values: list[Any], columns: tuple[str, ...]) -> str:
    wrong = [turns for value in values if not _is_pair(turns := _turns(value, *fields))]
    if len(wrong) > _MAX_LONG * len(values):
        raise InputError(
            f"{name}: expected one message of the user and one answer in {key!r}, got {len(wrong[0])} messages in one "
            f"row ({len(wrong):,} of {len(values):,} rows); split each conversation into pairs of question and answer, "
            "a row each."
        )
    others = sum(one[fields[0]].lower() not in (*_ASKING, *_ANSWERING) for value in values for one in value)
    more = "; messages of the system are left out" if others else ""
    return f"The messages in {key!r} are read as columns {columns[0]} (the user's) and {columns[1]} (the answer){more}."


def rows_of(layout: Layout, pairs: Iterator[tuple[int, Any]], bad: BadRows, size: int) -> Iterator[Chunk]:
    """Lines with records, or with what is wrong with them as half a sentence -> chunks of at most `size` rows."""
    lines: list[int] = []
    records: list[Record] = []
    for line, record in pairs:
        if isinstance(record, dict):
            lines.append(line)
            records.append(record)
        else:
            bad.add(line, str(record))
        if len(records) == size:
            if chunk := layout.chunk(lines, records, bad):
                yield chunk
            lines, records = [], []
    if records and (chunk := layout.chunk(lines, records, bad)):
        yield chunk
