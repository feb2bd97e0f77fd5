"""JSON Lines: one object per line."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final, final

from thalweg.data.files.base import BadRows, Chunk
from thalweg.data.files.nested.documents import is_document
from thalweg.data.files.nested.records import Layout, layout_of, rows_of
from thalweg.errors import InputError

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")


@final
@dataclass(frozen=True)
class JsonLines:
    """Reads these keys of JSON Lines as columns; an object that lacks one gives None."""

    layout: Layout

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self.layout.columns

    def parse(self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int) -> Iterator[Chunk]:
        """Blocks of whole lines (see `LineReader.blocks`) -> chunks of at most `size` rows."""
        lines = chain.from_iterable(enumerate(text[:-1].split("\n"), start=first) for first, text in blocks)
        objects = ((line, found) for line, text in lines if (found := decoded(text)) is not None)
        return rows_of(self.layout, objects, bad, size)


def decoded(text: str) -> dict[str, Any] | str | None:
    """The object on a line of JSON Lines, or what is wrong with the line as half a sentence; None for an empty line."""
    if not text or text.isspace():
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return f"not valid JSON ({error.msg} at column {error.colno})"
    except RecursionError:
        return "the JSON is nested too deeply"
    except ValueError as error:  # a number with thousands of digits
        return f"not readable JSON ({str(error).split(';')[0]})"
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")
        return f"expected a JSON object, got {kind}"
    if "\\u" in text and _SURROGATE_ESCAPE.search(text):
        return _without_surrogates(value)
    return value


def _without_surrogates(value: Any) -> Any:
    """Halves of surrogate pairs cannot be encoded again by anyone; they become the replacement character."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(one) for one in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(one) for key, one in value.items()}
    return value


def open_json_lines(name: str, sample: str, *, is_whole: bool) -> tuple[JsonLines, list[str]]:
    """Return a reader of the keys in the first 1,000 lines, in order of appearance, and notes on what it found.

    The `sample` is the first (whole) lines; `is_whole` says that there are no more. Raises `InputError` when no line of
    the sample is an object with keys.
    """
    lines = list(islice((line for line in sample.split("\n") if line and not line.isspace()), 1000))
    if not lines:
        raise InputError(f"{name}: expected rows of data, got a file without any; check that it was saved.")
    rows = [decoded(line) for line in lines]
    objects = [row for row in rows if isinstance(row, dict)]
    if not any(objects):
        if objects:
            raise InputError(f"{name}, line 1: expected JSON objects with keys, got only empty ones.")
        spread = " (one object over several lines must be put on one: jq -c .)" if lines[0].strip() == "{" else ""
        raise InputError(f"{name}, line 1: expected one JSON object on each line; {rows[0]}{spread}.")
    layout, notes = layout_of(name, [row for row in objects if row])
    sparse = [
        key for key in dict.fromkeys(key for row in objects for key in row) if any(key not in row for row in objects)
    ]
    if sparse:
        notes.append(f"Some objects lack {', '.join(map(repr, sparse[:5]))}; what is missing is read as null.")
    if not is_whole and len(objects) < len(rows):
        notes.append(f"{len(rows) - len(objects)} of the first {len(rows):,} lines are not JSON objects.")
    return JsonLines(layout), notes


def is_one_document(sample: str) -> bool:
    """Whether the only line of a file is an object that holds rows, and no row."""
    return "\n" not in sample.strip() and is_document(decoded(sample))
