"""CSV and TSV: rows in chunks, from the dialect and the header that the first lines show."""

import csv
import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Final, final

from thalweg.data.files.base import BadRows, Chunk
from thalweg.data.files.table.dialect import FIELDS, Dialect, choose_dialect, separator_line
from thalweg.data.files.table.footer import Below, Footer
from thalweg.data.files.table.header import Header, read_header
from thalweg.data.files.table.word_rows import WordRows, words_in_rows
from thalweg.errors import InputError

MAX_COLUMNS: Final = 100_000
# A line after the last one. NUL bytes never come through the line reader, so a field that ends with this one is a
# quoted field that was never closed.
_AFTER_LAST: Final = "\0end"
BOM: Final = "\ufeff"  # at the beginning of a file, and of one that was put behind it
EXTRA_FIELDS: Final = "fields after the last column are ignored"
REPEATED_HEADER: Final = "the header comes again, left out"


@final
@dataclass(frozen=True)
class Table:
    """How the rows of a delimited file are read."""

    name: str  # of the file, for messages
    header: Header
    dialect: Dialect
    drops_extra: bool  # a row with too many fields keeps the first ones; otherwise it is a bad row
    max_field_length: int  # in characters
    footer: Footer
    sentences: WordRows | None = None  # where each row is a word of a sentence

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self.header.columns

    def goes_on(self) -> "Table":
        """Return how rows are read that others follow, so that none of them stands below the table."""
        return replace(self, footer=Footer((), 0))

    def parse(self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int) -> Iterator[Chunk]:
        """Blocks of whole lines (see `LineReader.blocks`) -> chunks of at most `size` rows."""
        batches = ((chunk.lines, chunk.values) for chunk in self._chunks(blocks, bad, size))
        chunks = (Chunk(self.columns, *batch) for batch in self.footer.without(batches, bad))
        return chunks if self.sentences is None else self.sentences.chunks(chunks, bad, size)

    def _chunks(self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int) -> Iterator[Chunk]:
        batches = self._quoted(blocks, bad, size) if self.dialect.has_quotes else self._plain(blocks, size)
        width, names, first, columns = self.header.width, self.header.row, self.header.line, self.header.columns
        is_before, below = True, Below()
        for lines, rows in batches:
            if is_before:
                place = bisect_left(lines, first)
                is_before = place == len(lines)
                lines, rows = lines[place:], rows[place:]
            if names is not None and (names in rows or BOM in "".join([row[0] for row in rows if row])):
                lines, rows = self._without_header(lines, rows, bad)
            if set(map(len, rows)) != {width}:
                lines, rows = self._regular(lines, rows, bad, below)
            elif rows:
                below.goes_on(bad.add)
            if not rows:
                continue
            values = tuple(map(list, zip(*rows, strict=True)))
            if len(columns) < width and any(values[-1]):
                yield from self._without_tail(lines, rows, bad)
            else:
                yield Chunk(columns, lines, values[: len(columns)])
        below.end(bad)

    def _without_header(
        self, lines: Sequence[int], rows: list[list[str]], bad: BadRows
    ) -> tuple[Sequence[int], list[list[str]]]:
        kept_lines, kept_rows = [], []
        header = self.header.row
        folded = [cell.strip(BOM).casefold() for cell in header or ()]
        for line, row in zip(lines, rows, strict=True):
            is_marked = bool(row) and row[0][:1] == BOM
            if row == header or (is_marked and [cell.strip(BOM).casefold() for cell in row] == folded):
                bad.leave_out(line, REPEATED_HEADER)
            else:
                kept_lines.append(line)
                kept_rows.append(row)
        return kept_lines, kept_rows

    def _without_tail(self, lines: Sequence[int], rows: list[list[str]], bad: BadRows) -> Iterator[Chunk]:
        """Leave out rows that have a value in the last field, which has no name."""
        columns = self.columns
        kept = [(line, row) for line, row in zip(lines, rows, strict=True) if not row[-1]]
        for line, row in zip(lines, rows, strict=True):
            if row[-1]:
                bad.add(line, f"expected {len(columns)} columns, got {len(row)}")
        if kept:
            yield Chunk(
                columns,
                [line for line, _ in kept],
                tuple(map(list, zip(*(row[: len(columns)] for _, row in kept), strict=True))),
            )

    def _regular(
        self, lines: Sequence[int], rows: list[list[str]], bad: BadRows, below: Below
    ) -> tuple[Sequence[int], list[list[str]]]:
        """Leave out empty rows, bad ones, those below the table; an empty field after the last column is no value."""
        width, num_columns = self.header.width, len(self.columns)
        good_lines, good_rows = [], []
        for line, row in zip(lines, rows, strict=True):
            if len(row) == width or (len(row) > width and (self.drops_extra or not any(row[width:]))):
                good_lines.append(line)
                good_rows.append(row[:width])
                if any(row[width:]):
                    bad.leave_out(line, EXTRA_FIELDS)
            elif len(row) == num_columns < width:
                good_lines.append(line)
                good_rows.append([*row, ""])
            elif not row and width == num_columns == 1:
                bad.empty_line(line)
            elif not any(cell.strip() for cell in row):
                below.gap()
                continue
            else:
                reason = f"expected {num_columns} columns, got {len(row)}"
                if not below.takes(line, row, reason):
                    bad.add(line, reason)
                continue
            below.goes_on(bad.add)
        return good_lines, good_rows

    def _plain(self, blocks: Iterator[tuple[int, str]], size: int) -> Iterator[tuple[Sequence[int], list[list[str]]]]:
        start, blocks = _first_line(blocks)
        lines = chain.from_iterable(text[:-1].split("\n") for _, text in blocks)
        while batch := list(islice(lines, size)):
            yield range(start, start + len(batch)), self.dialect.fields(batch)
            start += len(batch)

    def _quoted(
        self, blocks: Iterator[tuple[int, str]], bad: BadRows, size: int
    ) -> Iterator[tuple[Sequence[int], list[list[str]]]]:
        start, blocks = _first_line(blocks)
        texts = chain.from_iterable(io.StringIO(text) for _, text in blocks)
        reader = self.dialect.reader(chain(texts, [_AFTER_LAST]))
        while True:
            before = start - 1 + reader.line_num
            try:
                with FIELDS.up_to(self.max_field_length):
                    rows = list(islice(reader, size))
            except csv.Error as error:
                raise InputError(
                    f"{self.name}, line {start - 1 + reader.line_num}: a row that begins at or before this line can't "
                    f"be read ({error}); look for a quotation mark that is never closed."
                ) from None
            if not rows:
                return
            lines: Sequence[int] = range(before + 1, before + 1 + len(rows))
            if start - 1 + reader.line_num != before + len(rows):  # some rows have line ends inside quotes
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
        mark = self.dialect.quote
        if not bad.skip:
            raise InputError(
                f"{self.name}, line {line}: this row opens a quotation mark that is never closed; close it, or double "
                f"it ({mark}{mark}) if it belongs to the text."
            )
        bad.add(line, "a quotation mark is never closed")


def _first_line(blocks: Iterator[tuple[int, str]]) -> tuple[int, Iterator[tuple[int, str]]]:
    """Return the number of the first line of blocks, and the same blocks."""
    first = next(blocks, None)
    return (1, blocks) if first is None else (first[0], chain([first], blocks))


def open_table(
    name: str, sample: str, *, is_tsv: bool, header: bool | None, max_field_length: int
) -> tuple[Table, list[str]]:
    """Return how a delimited file is read, judged by its first (whole) lines, and notes on the choices made.

    With `is_tsv`, tabs and no quoting; otherwise the delimiter is the one of ``, ; tab |`` that fits best. `header`
    says whether the first row holds the names of the columns; None detects it. Raises `InputError` when there is no
    row.
    """
    dialect, notes = choose_dialect(sample, is_tsv=is_tsv)
    rows = dialect.rows(sample)
    if not is_tsv and separator_line(sample) is not None:
        rows = [(line, row) for line, row in rows if line > 1]
    if not rows:
        raise InputError(f"{name}: expected rows of data, got a file without any; check that it was saved.")
    line, widest = max(((line, len(row)) for line, row in rows), key=lambda found: found[1])
    if widest > MAX_COLUMNS:
        raise InputError(
            f"{name}, line {line}: expected at most {MAX_COLUMNS:,} columns, got {widest:,}; select those to read."
        )
    has_names = True if dialect.has_sides is not None and header is None else header
    found = read_header(rows, is_tsv=not dialect.has_quotes, header=has_names)
    if found.row is not None and not found.line:
        raise InputError(f"{name}: expected rows after the header on line {rows[-1][0]}, got none; check the file.")
    drops_extra = not dialect.has_quotes and found.row is None
    more = [*found.notes]
    sentences = words_in_rows(found.columns, [row for line, row in rows if line >= found.line])
    if sentences is not None:
        more.append(f"Each row is a word; those with one {found.columns[sentences.sentence]!r} are read as a sentence.")
    footer = Footer((row for line, row in rows if line >= found.line), len(found.columns))
    return Table(name, found, dialect, drops_extra, max_field_length, footer, sentences), notes + more
