"""Rows from a stream such as standard input, each as soon as its line has come in."""

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import IO, Any, final

from thalweg.data.files.base import AbstractSource, BadRows, Chunk, Row
from thalweg.data.files.delimited import REPEATED_HEADER
from thalweg.data.files.jsonl import decoded
from thalweg.data.files.lines import MAX_LINE_LENGTH
from thalweg.data.files.table.dialect import separator_line
from thalweg.data.files.table.header import read_header
from thalweg.errors import InputError

_STREAM_KINDS = ("csv", "tsv", "jsonl")


@final
@dataclass(eq=False, repr=False)
class StreamSource(AbstractSource):
    """Rows that come in over time; made by `open_stream`.

    It has the interface of a file's source, but a row is given once: every call of `rows` or `chunks` continues where
    the last one stopped, and each chunk holds one row, so that nothing waits.
    """

    name: str
    kind: str  # csv, tsv or jsonl
    columns: tuple[str, ...]
    notes: list[str]
    _values: Iterator[tuple[int, list[Any]]]  # the line and the values of each row, as they come
    _bad: BadRows | None
    _ahead: list[tuple[int, list[Any]]] = field(default_factory=list)
    _num_rows: int = 0

    def chunks(self, size: int = 1) -> Iterator[Chunk]:
        """The rows as they come, one in each chunk (`size` is not used: a stream must not wait).

        Raises `InputError` when more than 1 % of the rows are bad (and over 1,000), or there is no row at all.
        """
        del size
        bad = self._bad
        assert bad is not None
        while True:
            row = self._ahead.pop(0) if self._ahead else next(self._values, None)
            if row is None:
                break
            self._num_rows += 1
            bad.check(num_rows=self._num_rows, at_end=False)
            yield Chunk(self.columns, (row[0],), tuple([value] for value in row[1]))
        if not self._num_rows:
            bad.check(num_rows=0, at_end=True)
            raise InputError(f"{self.name}: expected rows of data, got none that can be read.")

    def head(self, num_rows: int = 1000) -> list[Row]:
        """The next row, which `rows` will give again; one only, since waiting for more would delay its answer."""
        if num_rows > 0 and not self._ahead and (row := next(self._values, None)):
            self._ahead.append(row)
        return [Row(line, tuple(values)) for line, values in self._ahead[:num_rows]]


def open_stream(
    file: IO[Any],
    kind: str | None = None,
    *,
    name: str = "standard input",
    skip_bad_rows: bool = False,
    max_line_length: int = MAX_LINE_LENGTH,
) -> StreamSource:
    """Read rows from an open stream, best ``sys.stdin.buffer``; the text is UTF-8.

    This waits for the first line, which tells the columns: the header of CSV and TSV, or the keys of the first object
    of JSON Lines; also the `kind` (jsonl, csv, tsv) where that is None. Rows that can't be read, or have lines of more
    than `max_line_length` characters, are bad; with `skip_bad_rows` there may be any number of them. Raises
    `InputError` when the stream ends before a first row, or the first line tells no columns; `ValueError` for another
    `kind`.
    """
    if kind is not None and kind not in _STREAM_KINDS:
        raise ValueError(f"open_stream(kind=...) must be one of {', '.join(_STREAM_KINDS)}; got {kind!r}.")
    bad = BadRows(name, skip=skip_bad_rows)
    # A text layer would decode (and fail) on its own; the bytes below it tell which line is bad.
    lines = _lines(file.buffer if isinstance(file, io.TextIOWrapper) else file, bad, max_line_length)
    first = next((pair for pair in lines if pair[1].strip()), None)
    if first is None:
        raise InputError(f"{name}: expected rows of data, got an empty stream; check the command before the pipe.")
    if kind is None:
        kind = "jsonl" if first[1].lstrip().startswith("{") else "tsv" if "\t" in first[1] else "csv"
    if kind == "jsonl":
        return _json_stream(name, first, lines, bad)
    return _table_stream(name, kind, first, lines, bad)


def _lines(file: IO[Any], bad: BadRows, max_length: int) -> Iterator[tuple[int, str]]:
    """Line number and text of each line as it comes, with a line feed; what can't be read is an empty line."""
    number = 0
    while line := file.readline(max_length + 1):
        number += 1
        if len(line) > max_length and line[-1:] not in ("\n", b"\n"):
            while line and line[-1:] not in ("\n", b"\n"):
                line = file.readline(1 << 20)
            bad.add(number, f"the line is longer than {max_length:,} characters")
            yield number, "\n"
            continue
        if isinstance(line, bytes):
            try:
                line = line.removeprefix(codecs.BOM_UTF8).decode() if number == 1 else line.decode()
            except UnicodeDecodeError as error:
                bad.add(number, f"expected UTF-8 text, got the byte 0x{line[error.start]:02x}")
                line = "\n"
        if "\0" in line:
            bad.add(number, "the line has a NUL byte")
            line = "\n"
        yield number, line.rstrip("\r\n") + "\n"


def _json_stream(name: str, first: tuple[int, str], lines: Iterator[tuple[int, str]], bad: BadRows) -> StreamSource:
    row = decoded(first[1])
    if not isinstance(row, dict) or not row:
        problem = "got an empty one" if isinstance(row, dict) else row
        raise InputError(f"{name}, line {first[0]}: expected one JSON object on each line; {problem}.")
    columns = tuple(row)

    def values() -> Iterator[tuple[int, list[Any]]]:
        for line, text in chain([first], lines):
            row = decoded(text)
            if isinstance(row, dict):
                yield line, [row.get(column) for column in columns]
            elif row is not None:
                bad.add(line, row)

    return StreamSource(name, "jsonl", columns, [], values(), bad)


def _table_stream(
    name: str, kind: str, first: tuple[int, str], lines: Iterator[tuple[int, str]], bad: BadRows
) -> StreamSource:
    number, text = first
    delimiter = separator_line(text.rstrip("\n"))
    if delimiter is not None:
        number, text = first = next((pair for pair in lines if pair[1].strip()), first)
    delimiter = delimiter or ("\t" if kind == "tsv" else max(",;|\t", key=text.count))
    quoting = csv.QUOTE_MINIMAL if kind == "csv" else csv.QUOTE_NONE
    texts = (text for _, text in chain([first], lines))
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_LENGTH))
    reader = csv.reader(texts, delimiter=delimiter, quoting=quoting)
    before = number - 1  # empty lines before the first row were read past the reader

    def records() -> Iterator[tuple[int, list[str]]]:
        while True:
            line = before + reader.line_num + 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise InputError(f"{name}, line {line}: the row can't be read ({error}).") from None
            if row is None:
                return
            if row:
                yield line, row

    rows = records()
    header = next(rows, (number, [""]))
    # One row is all that may be waited for, so it holds names unless it looks like data by itself.
    found = read_header(name, [header], is_tsv=kind == "tsv", header=None)
    columns = found.columns
    if found.row is None:
        rows = chain([header], rows)

    def values() -> Iterator[tuple[int, list[Any]]]:
        for line, row in rows:
            if row == found.row:
                bad.leave_out(line, REPEATED_HEADER)
            elif len(row) == len(columns) or (len(row) > len(columns) and not any(row[len(columns) :])):
                yield line, row[: len(columns)]
            else:
                bad.add(line, f"expected {len(columns)} columns, got {len(row)}")

    return StreamSource(name, kind, columns, found.notes, values(), bad)
