"""JSON that is not one object a line: a list, columns as lists, what pandas writes, and objects over several lines."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

from thalweg.data.files.base import BadRows, Chunk
from thalweg.data.files.nested.records import Layout, layout_of, rows_of
from thalweg.data.files.nested.spans import span_of
from thalweg.errors import InputError

MAX_LENGTH: Final = 250_000_000  # characters: a document is read as a whole, which takes some five times its size
NUM_RECORDS: Final = 1000  # that decide the columns
_MAX_WRAPPERS: Final = 4  # objects around the records
_WORDS: Final = ("tokens", "words")
_SPACES: Final = " \t\n\r,"


@final
@dataclass(frozen=True, eq=False)
class Document:
    """The records of a document, held in memory."""

    layout: Layout
    lines: list[int]
    records: list[Any]  # what is no object is a bad row

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self.layout.columns

    def parse(self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int) -> Iterator[Chunk]:
        """The records in chunks of at most `size`; the file's blocks of lines are not read again."""
        del blocks
        pairs = (
            (line, record if isinstance(record, dict) else f"expected a JSON object, got {_named(record)}")
            for line, record in zip(self.lines, self.records, strict=True)
        )
        yield from rows_of(self.layout, pairs, bad, size)


def open_document(name: str, text: str) -> tuple[Document, list[str]]:
    """Return the records of a JSON document, and notes on its shape.

    Raises `InputError`, with the line, when it is no JSON, or its shape is not one of rows.
    """
    values, starts = _values(name, text)
    if not values:
        raise InputError(f"{name}: expected rows of data, got a file without any; check that it was saved.")
    notes: list[str] = []
    is_list = text.lstrip()[:1] == "[" and len(values) == 1
    if is_list:
        if not values[0]:
            raise InputError(f"{name}: expected a list of JSON objects, got an empty list; check that it was saved.")
        records = values[0]
        lines = _lines(text, _starts_in_list(text))
    elif len(values) == 1:
        records, notes = _records_of(name, values[0])
        lines = [] if records is not values[0] else [1]
        if records == [values[0]]:
            lines = _lines(text, starts)
    else:
        records, lines = values, _lines(text, starts)
    records = [_paired(record) for record in records]
    objects = [record for record in records[:NUM_RECORDS] if isinstance(record, dict) and record]
    if not objects:
        first = records[0]
        more = "; give each list as an object with names, or save the table as CSV" if isinstance(first, list) else ""
        raise InputError(f"{name}: expected JSON objects with keys, one for each row, got {_named(first)}{more}.")
    if len(set(lines)) != len(records):
        lines = list(range(1, len(records) + 1))
        notes.append("Where a line is named, the number of the row is meant.")
    layout, more_notes = layout_of(name, objects)
    return Document(layout, lines, records), notes + more_notes


def is_document(value: Any) -> bool:
    """Whether the only object of a file is not a row but holds rows: columns as lists, or records below a key."""
    if not isinstance(value, dict):
        return isinstance(value, list)
    return _as_table(value) is not None or bool(_lists_of_records(value)) or _inner(value) is not None


def _values(name: str, text: str) -> tuple[list[Any], list[int]]:
    """All values of a text, one after another, and where each of them starts."""
    decoder, values, starts = json.JSONDecoder(), [], []
    place, end = 0, len(text)
    while True:
        while place < end and text[place] in _SPACES:
            place += 1
        if place == end:
            return values, starts
        try:
            value, after = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{name}, line {error.lineno}: not valid JSON ({error.msg} at column {error.colno}); correct it there."
            ) from None
        except RecursionError:
            raise InputError(f"{name}: the JSON is nested too deeply.") from None
        except ValueError as error:  # a number with thousands of digits
            raise InputError(f"{name}: not readable JSON ({str(error).split(';')[0]}).") from None
        values.append(value)
        starts.append(place)
        place = after


def _starts_in_list(text: str) -> list[int]:
    """Where each entry of a list starts, by going through it once more."""
    decoder, starts = json.JSONDecoder(), []
    place = text.index("[") + 1
    while True:
        while text[place] in _SPACES:
            place += 1
        if text[place] == "]":
            return starts
        starts.append(place)
        place = decoder.raw_decode(text, place)[1]


def _lines(text: str, starts: list[int]) -> list[int]:
    lines, line, before = [], 1, 0
    for start in starts:
        line += text.count("\n", before, start)
        lines.append(line)
        before = start
    return lines


def _records_of(name: str, value: Any, depth: int = 0) -> tuple[list[Any], list[str]]:
    """The rows inside of one object, and a note on where they were; the object itself if it is a row."""
    if not isinstance(value, dict):
        return [value], []
    table = _as_table(value)
    if table is not None:
        return table
    lists = _lists_of_records(value)
    if len(lists) > 1:
        raise InputError(
            f"{name}: expected one list of objects, got {len(lists)} of them under {', '.join(map(repr, lists))}; save "
            f"the one that is meant as a file of its own, for example with jq '.{lists[0]}'."
        )
    if lists:
        others = [key for key in value if key != lists[0]]
        more = f" (left out beside them: {', '.join(others[:4])})" if others else ""
        return value[lists[0]], [f"The rows are the objects under {lists[0]!r}{more}."]
    inner = _inner(value)
    if inner is not None and depth < _MAX_WRAPPERS:
        return _records_of(name, value[inner], depth + 1)
    return [value], []


def _inner(value: dict[str, Any]) -> str | None:
    """The only key below which there are objects that hold rows."""
    found = [
        key
        for key, one in value.items()
        if isinstance(one, dict) and (_as_table(one) is not None or _lists_of_records(one))
    ]
    return found[0] if len(found) == 1 and len(value) == 1 else None


def _lists_of_records(value: dict[str, Any]) -> list[str]:
    """The keys below which there are lists of objects, which are no values of a row such as spans or messages.

    An object with several plain values beside the list is a row itself.
    """
    found = [
        key
        for key, one in value.items()
        if isinstance(one, list)
        and len(one) > 0
        and isinstance(_paired(one[0]), dict)
        and (len(one) > 1 or len(value) == 1)
    ]
    found = [key for key in found if not (span_of(value[key][0]) or {"role", "from"} & set(_paired(value[key][0])))]
    texts = [key for key, one in value.items() if isinstance(one, str) and key in ("text", "content", "sentence")]
    return [] if texts else found


def _as_table(value: dict[str, Any]) -> tuple[list[Any], list[str]] | None:
    """The rows of an object that holds a whole table, and a note on its form; None if it does not."""
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        names = [str(column) for column in columns]
        return [dict(zip(names, row, strict=False)) for row in data], ["The rows are lists under 'data'."]
    inner = list(value.values())
    if any(isinstance(value.get(key), list) and all(isinstance(one, str) for one in value[key]) for key in _WORDS):
        return None  # the words of one sentence
    if len(inner) > 0 and all(isinstance(one, list) for one in inner):
        lengths = set(map(len, inner))
        if len(lengths) == 1 and lengths != {0} and not any(isinstance(one[0], dict) for one in inner):
            rows = [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)]
            return rows, ["Each key is a column, with a list of its values."]
    if not inner or not all(isinstance(one, dict) and one for one in inner):
        return None
    if all(key.isdecimal() for one in inner for key in one):
        rows = list(dict.fromkeys(key for one in inner for key in one))
        return (
            [{column: values.get(row) for column, values in value.items()} for row in rows],
            ["Each key is a column, with its values by row (as pandas writes a table)."],
        )
    if len(inner) > 1 and (all(map(str.isdecimal, value)) or len({tuple(one) for one in inner}) == 1):
        return inner, ["Each key is a row, with its values by column."]
    return None


def _paired(record: Any) -> Any:
    """A pair of a text and an object, as spaCy's examples were written, as one object."""
    if isinstance(record, list) and len(record) == 2 and isinstance(record[0], str) and isinstance(record[1], dict):
        return {"text": record[0], **record[1]}
    return record


def _named(value: Any) -> str:
    names = {list: "a list", str: "a text", type(None): "null", bool: "true or false", dict: "an empty one"}
    return names.get(type(value), "a number")
