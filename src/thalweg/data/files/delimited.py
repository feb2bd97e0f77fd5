"""CSV and TSV: the delimiter, the header, and rows in chunks."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, final

from thalweg.data.columns.role_names import ALL_NAMES, normalized
from thalweg.data.files.base import BadRows, Chunk
from thalweg.errors import InputError

_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
# A line after the last one. NUL bytes never come through the line reader, so a field that ends with this one is a
# quoted field that was never closed.
_AFTER_LAST: Final = "\0end"
_TEXT_ENDS: Final = (".", "!", "?")


@final
@dataclass(frozen=True)
class Table:
    """How the rows of a delimited file are read."""

    name: str  # of the file, for messages
    columns: tuple[str, ...]
    delimiter: str
    has_quotes: bool  # whether `"` quotes a field (CSV) or is a character like any other (TSV)
    has_header: bool
    drops_extra: bool  # a row with too many fields keeps the first ones; otherwise it is a bad row
    max_field_length: int  # in characters

    def parse(self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int) -> Iterator[Chunk]:
        """Blocks of whole lines (see `LineReader.blocks`) -> chunks of at most `size` rows."""
        batches = self._quoted(blocks, bad, size) if self.has_quotes else self._plain(blocks, size)
        width, skip_header = len(self.columns), self.has_header
        for lines, rows in batches:
            if set(map(len, rows)) != {width}:
                lines, rows = self._regular(lines, rows, bad, width)
            if skip_header and rows:
                lines, rows, skip_header = lines[1:], rows[1:], False
            if rows:
                yield Chunk(self.columns, lines, tuple(map(list, zip(*rows, strict=True))))

    def _regular(
        self, lines: Sequence[int], rows: list[list[str]], bad: BadRows, width: int
    ) -> tuple[Sequence[int], list[list[str]]]:
        """Leave out empty rows and bad ones."""
        good_lines, good_rows = [], []
        for line, row in zip(lines, rows, strict=True):
            if len(row) == width or (len(row) > width and self.drops_extra):
                good_lines.append(line)
                good_rows.append(row[:width])
            elif row:
                bad.add(line, f"expected {width} columns, got {len(row)}")
        return good_lines, good_rows

    def _plain(self, blocks: Iterator[tuple[int, str]], size: int) -> Iterator[tuple[Sequence[int], list[list[str]]]]:
        lines = chain.from_iterable(text[:-1].split("\n") for _, text in blocks)
        start, delimiter = 1, self.delimiter
        while batch := list(islice(lines, size)):
            yield range(start, start + len(batch)), [line.split(delimiter) if line else [] for line in batch]
            start += len(batch)

    def _quoted(
        self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int
    ) -> Iterator[tuple[Sequence[int], list[list[str]]]]:
        csv.field_size_limit(max(csv.field_size_limit(), self.max_field_length))
        texts = chain.from_iterable(io.StringIO(text) for _, text in blocks)
        reader = csv.reader(chain(texts, [_AFTER_LAST]), delimiter=self.delimiter)
        while True:
            before = reader.line_num
            try:
                rows = list(islice(reader, size))
            except csv.Error as error:
                raise InputError(
                    f"{self.name}, line {reader.line_num}: a row that begins at or before this line can't be read "
                    f"({error}); look for a quotation mark that is never closed."
                ) from None
            if not rows:
                return
            lines: Sequence[int] = range(before + 1, before + 1 + len(rows))
            if reader.line_num != before + len(rows):  # some rows have line ends inside quotes
                lines, line = [], before + 1
                for row in rows:
                    lines.append(line)
                    line += 1 + sum(field.count("\n") for field in row)
            if rows[-1] and rows[-1][-1].endswith(_AFTER_LAST):
                if rows[-1] != [_AFTER_LAST]:
                    self._unclosed(lines[-1], bad)
                lines, rows = lines[:-1], rows[:-1]
            yield lines, rows

    def _unclosed(self, line: int, bad: BadRows) -> None:
        if not bad.skip:
            raise InputError(
                f"{self.name}, line {line}: this row opens a quotation mark that is never closed; close it, or double "
                'it ("") if it belongs to the text.'
            )
        bad.add(line, "a quotation mark is never closed")


def open_table(
    name: str, sample: str, *, is_tsv: bool, header: bool | None, max_field_length: int
) -> tuple[Table, list[str]]:
    """Return how a delimited file is read, judged by its first (whole) lines, and notes on the choices made.

    With `is_tsv`, tabs and no quoting; otherwise the delimiter is the one of ``, ; tab |`` that fits best. `header`
    says whether the first row holds the names of the columns; None detects it. Raises `InputError` when there is no
    row, no header where one is needed, or two columns have one name.
    """
    csv.field_size_limit(max(csv.field_size_limit(), max_field_length))
    notes: list[str] = []
    delimiter = "\t" if is_tsv else _sniff(sample)
    if not is_tsv and delimiter != ",":
        notes.append(f"The columns are separated by a {_DELIMITERS[delimiter]}.")
    first_line = sample.lstrip("\n").split("\n", 1)[0]
    if delimiter == "\t" and not is_tsv and '"' not in first_line:
        is_tsv = True
        notes.append("Quotation marks are read as part of the text, as usual with tabs.")
    rows = _split(sample, delimiter, has_quotes=not is_tsv)
    if not rows:
        raise InputError(f"{name}: expected rows of data, got a file without any; check that it was saved.")
    line = 1 + (len(sample) - len(sample.lstrip("\n")))
    columns, has_header, more = named_columns(name, line, rows, needs_header=not is_tsv, header=header)
    if has_header and len(rows) == 1:
        raise InputError(f"{name}: expected rows after the header on line {line}, got none; check the file.")
    drops_extra = is_tsv and not has_header
    if drops_extra and len(columns) > 1:
        more.append("Fields after the last column are ignored.")
    return Table(name, columns, delimiter, not is_tsv, has_header, drops_extra, max_field_length), notes + more


def named_columns(
    name: str, line: int, rows: list[list[str]], *, needs_header: bool, header: bool | None = None
) -> tuple[tuple[str, ...], bool, list[str]]:
    """Return the names of the columns (of the first row, or made up), whether that row holds them, and notes.

    `rows` are the first row, which is on `line`, and some after it, if there are any yet. Raises `InputError` when the
    first row looks like data although a header is needed, or two columns have one name.
    """
    evidence = _first_row_is_data(rows) if header is None else ""
    if evidence and needs_header:
        raise InputError(
            f"{name}, line {line}: expected the names of the columns, got what looks like data ({evidence}); add a "
            "first line with names, such as text,label."
        )
    if header is False or evidence:
        # The usual number of fields, and not that of the first row.
        width = Counter(map(len, rows)).most_common(1)[0][0]
        columns = [f"column{i + 1}" for i in range(width)]
        why = f" ({evidence})" if evidence else ""
        note = f"The first row looks like data{why}, so the columns are named {_listed(columns)}."
        return tuple(columns), False, [note]
    names = tuple(cell.strip() or f"column{i + 1}" for i, cell in enumerate(rows[0]))
    repeated, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{name}, line {line}: expected a different name for each column, got {repeated!r} {count} times; rename "
            "the others."
        )
    unnamed = [column for column, cell in zip(names, rows[0], strict=True) if not cell.strip()]
    return names, True, [f"Column {column[6:]} has no name and is called {column}." for column in unnamed]


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns) if len(columns) < 4 else f"{columns[0]}, {columns[1]} ... {columns[-1]}"


def _split(sample: str, delimiter: str, *, has_quotes: bool, num_rows: int = 1000) -> list[list[str]]:
    if has_quotes:
        try:
            return list(islice((row for row in csv.reader(io.StringIO(sample), delimiter=delimiter) if row), num_rows))
        except csv.Error:
            has_quotes = False  # told with its line when the rows are read
    return [line.split(delimiter) for line in sample.split("\n") if line][:num_rows]


def _sniff(sample: str) -> str:
    """The delimiter with which the most rows have as many fields as the first; the more fields, the better."""
    best, best_score = ",", (0.0, 0)
    for delimiter in _DELIMITERS:
        if delimiter not in sample:
            continue
        rows = _split(sample, delimiter, has_quotes=True, num_rows=100)
        width = len(rows[0]) if rows else 0
        fraction = sum(len(row) == width for row in rows) / max(len(rows), 1)
        # Texts contain commas too, so a few rows more or less don't decide; the number of fields does.
        score = (round(fraction, 1), width)
        if width > 1 and score > best_score:
            best, best_score = delimiter, score
    return best


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _first_row_is_data(rows: list[list[str]]) -> str:
    """Why the first row is not a header, as half a sentence such as "'1' is a number"; empty when it may be one."""
    first, later = rows[0], rows[1:]
    cells = [cell.strip() for cell in first]
    known = [normalized(cell) in ALL_NAMES and not cell.endswith(_TEXT_ENDS) for cell in cells]
    if len(set(cells)) == len(cells) and all(known):
        return ""
    for cell in cells:
        if len(cell) > 60 or len(cell.split()) > 6 or (cell.endswith(_TEXT_ENDS) and not any(known)):
            shown = cell if len(cell) <= 40 else cell[:37] + "..."
            return f"{shown!r} is a text"
    for i, cell in enumerate(cells):
        if cell and any(len(row) > i and row[i].strip() == cell for row in later):
            return f"{cell!r} appears again in a later row"
    for cell in cells:
        if _is_number(cell) and not any(known):
            return f"{cell!r} is a number"
    return ""
