"""Rows from a stream such as standard input, each as soon as its line has come in."""

import codecs
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import IO, Any, Final, cast, final

from thalweg.data.columns.role_names import ALL_NAMES, normalized
from thalweg.data.files.base import AbstractSource, BadRows, Chunk, Row
from thalweg.data.files.delimited import REPEATED_HEADER
from thalweg.data.files.jsonl import decoded
from thalweg.data.files.lines import COMPRESSIONS, MAX_LINE_LENGTH, NUM_START, refuse_foreign, require_end, unmarked
from thalweg.data.files.nested.annotations import REJECTED, is_rejected, unwrapped
from thalweg.data.files.nested.records import flattened, holds_objects
from thalweg.data.files.table.dialect import FIELDS, separator_line
from thalweg.data.files.table.header import read_header
from thalweg.errors import InputError

_STREAM_KINDS = ("csv", "tsv", "jsonl")
PEEKED: Final = 4096  # bytes that are looked at for the encoding, as far as they have come
_ROWS_AHEAD: Final = 8  # of a table, to tell whether its first row holds names; none where these are usual ones
_MAX_COLUMNS: Final = 1000  # keys of JSON objects that are listed as columns
_LONGEST_NAME: Final = 1000  # characters of such a key
# UTF-32 before UTF-16, whose mark its own begins with.
_WIDE_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


@final
@dataclass(eq=False, repr=False)
class StreamSource(AbstractSource):
    """Rows that come in over time; made by `open_stream`.

    It has the interface of a file's source, but a row is given once: every call of `rows` or `chunks` continues where
    the last one stopped, and each chunk holds one row, so that nothing waits. The columns of a chunk are those of its
    row; `columns` are all that have come so far, which grow with the keys of JSON objects.
    """

    name: str
    kind: str  # csv, tsv or jsonl
    columns: tuple[str, ...]
    notes: list[str]
    _values: Iterator[tuple[int, dict[str, Any]]]  # the line and the values of each row, as they come
    _bad: BadRows | None
    _ahead: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

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
            bad.num_rows += 1
            line, values = row
            if self.kind == "jsonl" and len(self.columns) < _MAX_COLUMNS:
                names = (name for name in values if len(name) <= _LONGEST_NAME)
                self.columns = tuple(dict.fromkeys([*self.columns, *names]))[:_MAX_COLUMNS]
            yield Chunk(tuple(values), (line,), tuple([value] for value in values.values()))
        if not bad.num_rows:
            bad.check(num_rows=0, at_end=True)
            raise InputError(f"{self.name}: expected rows of data, got none that can be read.")

    def head(self, num_rows: int = 1000) -> list[Row]:
        """The next row, which `rows` will give again; one only, since waiting for more would delay its answer."""
        if num_rows > 0 and not self._ahead and (row := next(self._values, None)):
            self._ahead.append(row)
        return [Row(line, tuple(values.values())) for line, values in self._ahead[:num_rows]]


def open_stream(
    file: IO[Any],
    kind: str | None = None,
    *,
    name: str = "standard input",
    header: bool | None = None,
    skip_bad_rows: bool = False,
    max_line_length: int = MAX_LINE_LENGTH,
) -> StreamSource:
    """Read rows from an open stream, best ``sys.stdin.buffer``; the text is UTF-8, or UTF-16 or -32 with its mark.

    This waits for the first line, which tells the `kind` (jsonl, csv, tsv) where that is None, and the columns of CSV
    and TSV; a first line whose names are none of the usual ones is compared with the next few, unless `header` says
    whether it holds names. Each JSON object has the keys that it has. Rows that can't be read, or have lines of more
    than `max_line_length` characters, are bad; with `skip_bad_rows` there may be any number of them. Raises
    `InputError` when the stream ends before a first row, is a JSON list or of another `kind`.
    """
    if kind is not None and kind not in _STREAM_KINDS:
        raise InputError(
            f"{name}: a stream is {', '.join(_STREAM_KINDS[:-1])} or {_STREAM_KINDS[-1]}; got --kind {kind}."
        )
    bad = BadRows(name, skip=skip_bad_rows, is_stream=True)
    lines = _lines(_decoding(file, name), name, bad, max_line_length)
    first = next((pair for pair in lines if pair[1].strip()), None)
    if first is None:
        if bad.count:
            bad.check(num_rows=0, at_end=True)
        raise InputError(f"{name}: expected rows of data, got an empty stream; check the command before the pipe.")
    start = first[1].lstrip()
    if kind is None:
        kind = "jsonl" if start.startswith("{") else "tsv" if "\t" in first[1] else "csv"
    if start.startswith("[") and kind != "tsv" and (kind == "jsonl" or start[1:].lstrip()[:1] in ("", "{", "[")):
        raise InputError(
            f"{name}, line {first[0]}: expected one JSON object on each line, got a JSON list; take it apart before "
            "the pipe, for example with jq -c '.[]'."
        )
    if kind == "jsonl":
        return StreamSource(name, "jsonl", (), [], _objects(chain([first], lines), bad), bad)
    return _table_stream(name, kind, first, lines, bad, has_header=header)


def _decoding(file: IO[Any], name: str) -> IO[Any]:
    """Return the stream as bytes, which tell the line of one that is no UTF-8; as text where it begins with a mark."""
    # A text layer would decode (and fail) on its own; the bytes below it tell which line is bad.
    file = file.buffer if isinstance(file, io.TextIOWrapper) else file
    if isinstance(file, io.BytesIO):
        file = io.BufferedReader(cast(io.RawIOBase, file))
    if not isinstance(file, io.BufferedReader):
        return file
    start = file.peek(PEEKED)[:PEEKED]
    refuse_foreign(name, start[:NUM_START])
    if start.startswith(COMPRESSIONS):
        raise InputError(f"{name}: expected text, got compressed bytes; unpack them before the pipe, as zcat does.")
    for mark, encoding in _WIDE_MARKS:
        if start.startswith(mark):
            return io.TextIOWrapper(file, encoding, errors="replace")
    encoding = unmarked(start)
    return io.TextIOWrapper(file, encoding, errors="replace") if encoding else file


def _lines(file: IO[Any], name: str, bad: BadRows, max_length: int) -> Iterator[tuple[int, str]]:
    """Line number and text of each line as it comes, with a line feed; what can't be read is an empty line."""
    number = 0
    is_wide = isinstance(file, io.TextIOWrapper)
    while line := file.readline(max_length + 1):
        number += 1
        if len(line) > max_length and line[-1:] not in ("\n", b"\n"):
            length = 0
            while line and line[-1:] not in ("\n", b"\n"):
                length += len(line)
                require_end(name, number, length)
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
            bad.add(number, "the line has a NUL byte, so this is not plain text (or UTF-16 without a byte-order mark)")
            line = "\n"
        elif is_wide and "\ufffd" in line:
            bad.add(number, f"expected {file.encoding.upper()} text, got bytes that are none")
            line = "\n"
        yield number, line.rstrip("\r\n") + "\n"


def _objects(lines: Iterator[tuple[int, str]], bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in lines:
        row = decoded(text)
        if isinstance(row, dict) and is_rejected(row):
            bad.leave_out(line, REJECTED)
        elif isinstance(row, dict) and row:
            yield line, _plain(row, line, bad)
        elif row is not None:
            bad.add(line, "the JSON object is empty" if isinstance(row, dict) else row)


def _plain(row: dict[str, Any], line: int, bad: BadRows) -> dict[str, Any]:
    """The object with dotted names in place of the objects inside of it, as in files; lists of objects are left out."""
    flat = flattened(unwrapped(row))
    held = [key for key, value in flat.items() if holds_objects(value)]
    if held:
        bad.leave_out(line, "lists of objects inside of a row are left out")
    return {key: value for key, value in flat.items() if key not in held} if held else flat


def _table_stream(
    name: str,
    kind: str,
    first: tuple[int, str],
    lines: Iterator[tuple[int, str]],
    bad: BadRows,
    *,
    has_header: bool | None,
) -> StreamSource:
    number, text = first
    delimiter = separator_line(text.rstrip("\n"))
    if delimiter is not None:
        number, text = first = next((pair for pair in lines if pair[1].strip()), first)
    delimiter = delimiter or ("\t" if kind == "tsv" else max(",;|\t", key=text.count))
    quoting = csv.QUOTE_MINIMAL if kind == "csv" else csv.QUOTE_NONE
    texts = (text for _, text in chain([first], lines))
    reader = csv.reader(texts, delimiter=delimiter, quoting=quoting)
    before = number - 1  # empty lines before the first row were read past the reader

    def records() -> Iterator[tuple[int, list[str]]]:
        while True:
            line = before + reader.line_num + 1
            try:
                with FIELDS.up_to(MAX_LINE_LENGTH):
                    row = next(reader, None)
            except csv.Error as error:
                raise InputError(f"{name}, line {line}: the row can't be read ({error}).") from None
            if row is None:
                return
            if row:
                yield line, row

    rows = records()
    header = next(rows, (number, [""]))
    is_known = has_header is not None or all(normalized(cell) in ALL_NAMES for cell in header[1])
    ahead = [] if is_known else list(islice(rows, _ROWS_AHEAD))
    found = read_header([header, *ahead], is_tsv=kind == "tsv", header=has_header)
    columns = found.columns
    rows = chain((pair for pair in [header, *ahead] if 0 < found.line <= pair[0]), rows)

    def values() -> Iterator[tuple[int, dict[str, Any]]]:
        for line, row in rows:
            if row == found.row:
                bad.leave_out(line, REPEATED_HEADER)
            elif len(row) == len(columns) or (len(row) > len(columns) and not any(row[len(columns) :])):
                yield line, dict(zip(columns, row, strict=False))
            else:
                bad.add(line, f"expected {len(columns)} columns, got {len(row)}")

    return StreamSource(name, kind, columns, found.notes, values(), bad)
