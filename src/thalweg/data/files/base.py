"""What every source of data gives: rows, chunks of rows, and the rows that could not be read."""

import abc
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple, final

from thalweg.errors import InputError, counted

KINDS: Final = ("csv", "tsv", "jsonl", "json", "conll", "conllu", "text", "fasttext", "tmx")  # of files
MAX_BAD_FRACTION: Final = 0.01
EMPTY_LINE: Final = "an empty line in a table of one column"
NUM_LINES: Final = 3  # that are named where a reason holds for many
NUM_TOGETHER: Final = 256  # rows, where each is wanted soon: a file that breaks off loses no more of those before
NUM_LISTED: Final = 20  # bad rows that are kept with their reason; the others are only counted
EARLY_NUM_ROWS: Final = 100_000  # before the end of the data, the fraction is taken of at least so many rows


@final
class Row(NamedTuple):
    """One row of a source.

    Args:
        line: the line of the file on which the row starts, from 1.
        values: one value for each of the source's columns: str for tables, any JSON value for JSON Lines,
            a list of str for the columns of a CoNLL sentence.

    Example:
        >>> Row(2, ("a fine film", "good")).values[1]
        'good'
    """

    line: int
    values: tuple[Any, ...]


@final
@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive rows of a source, column by column: the fast way to read a large file.

    Args:
        columns: the names of the columns.
        lines: the line of the file on which each row starts, from 1.
        values: for each column the list of its values, one for each row.

    Example:
        >>> chunk = Chunk(("text", "label"), range(2, 4), (["one", "two"], ["a", "b"]))
        >>> len(chunk), chunk.column("label")
        (2, ['a', 'b'])
    """

    columns: tuple[str, ...]
    lines: Sequence[int]
    values: tuple[list[Any], ...]

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> list[Any]:
        """The values of one column, one for each row; `name` must be one of `columns`."""
        return self.values[self.columns.index(name)]


@final
class BadRow(NamedTuple):
    """A row that could not be read: its line (from 1) and the reason, as half a sentence."""

    line: int
    reason: str


@final
class BadRows:
    """Counts the rows of the file `name` that cannot be read; unless `skip` is set, over 1 % of them are an error."""

    def __init__(self, name: str, *, skip: bool, waiting: list[BadRow] | None = None, is_stream: bool = False) -> None:
        self.name = name
        self.skip = skip
        self.is_stream = is_stream  # in which no good row may ever come after the bad ones
        self.num_rows = 0  # good ones of a stream
        self.count = 0
        self.first: list[BadRow] = []
        self.waiting = waiting  # takes every bad row, for `AbstractSource.all_rows`; None: nobody asked
        self.said: list[str] = []  # remarks of the sources that this one is made of
        self._left_out: dict[str, tuple[int, list[int]]] = {}  # what, and how many rows, and the first lines

    def leave_out(self, line: int, what: str) -> None:
        """Count a row that is no bad one but is not given, or not as it stands, such as a header that comes again."""
        count, lines = self._left_out.get(what, (0, []))
        self._left_out[what] = count + 1, [*lines, line] if len(lines) < NUM_LINES else lines

    def empty_line(self, line: int) -> None:
        """Count an empty line where a row has one field: it stands for a row only where each is wanted in its place."""
        if self.waiting is None:
            self.leave_out(line, f"{EMPTY_LINE} is left out")
        elif all(row.line != line for row in self.waiting):  # a line that can't be read is an empty one
            self.waiting.append(BadRow(line, EMPTY_LINE))

    @property
    def remarks(self) -> list[str]:
        """A sentence for each reason that `leave_out` was given."""
        own = (
            f"{self.name}: {what} ({counted(count, 'row')}, line{'s' if count > 1 else ''} "
            f"{', '.join(map(str, lines))}{' ...' if count > len(lines) else ''})."
            for what, (count, lines) in self._left_out.items()
        )
        return [*self.said, *own]

    def add(self, line: int, reason: str) -> None:
        """Count one more bad row, which starts on `line`."""
        self.count += 1
        if len(self.first) < NUM_LISTED:
            self.first.append(BadRow(line, reason))
        if self.waiting is not None:
            self.waiting.append(BadRow(line, reason))
        if self.is_stream:
            self.check(num_rows=self.num_rows, at_end=False)

    def check(self, *, num_rows: int, at_end: bool) -> None:
        """Raise `InputError` when more than 1 % of the rows were bad.

        Before the end a cluster of bad rows gets the benefit of the doubt: the fraction is that of at least 100,000
        rows.
        """
        total = self.count + num_rows
        reference = total if at_end else max(total, EARLY_NUM_ROWS)
        if self.skip or self.count <= MAX_BAD_FRACTION * reference:
            return
        listed = "; ".join(f"line {row.line}: {row.reason}" for row in sorted(self.first)[:3])
        more = "; ..." if self.count > 3 else ""
        raise InputError(
            f"{self.name}: {self.count:,} of {counted(total, 'row')} can't be read ({listed}{more}), "
            "which is more than 1 %; correct them, or leave them out with --skip-bad-rows."
        )


class AbstractSource(abc.ABC):
    """Rows from somewhere, with named columns, that can be read again and again.

    A subclass gives `chunks`, and counts in `_bad` what it cannot read; everything else follows.

    Attributes:
        name: the file as the user wrote it, or the name of the built-in data set; for messages.
        kind: csv, tsv, jsonl, json, conll, conllu, fasttext, tmx, text, or sample.
        columns: the names of the columns, in order.
        notes: choices that were made while opening, one sentence each, for the user to see.
        left_out: what stands beside the columns and can't be one, such as lists of objects.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    notes: list[str]
    left_out: tuple[str, ...] = ()
    _bad: BadRows | None = None
    _waiting: list[BadRow] | None = None  # the bad rows that `all_rows` has yet to give

    @final
    def _begin(self, *, skip: bool) -> BadRows:
        """Begin a pass over the data, whose bad rows are counted from zero; every `chunks` starts with it."""
        self._bad = BadRows(self.name, skip=skip or self._waiting is not None, waiting=self._waiting)
        return self._bad

    @property
    def bad_rows(self) -> list[BadRow]:
        """The first rows (at most 20) that the latest pass over the data could not read."""
        return sorted(self._bad.first) if self._bad else []

    @property
    def num_bad_rows(self) -> int:
        """How many rows the latest pass over the data could not read."""
        return self._bad.count if self._bad else 0

    @final
    @property
    def remarks(self) -> list[str]:
        """Sentences on rows that the latest pass over the data left out or changed although they can be read."""
        return self._bad.remarks if self._bad else []

    @final
    @property
    def skips_bad_rows(self) -> bool:
        """Whether the latest pass over the data leaves bad rows out, however many there are."""
        given = getattr(self, "skip_bad_rows", None)  # a source that reads another one was told
        return given if isinstance(given, bool) else self._bad is not None and self._bad.skip

    @final
    def add_bad_row(self, line: int, reason: str) -> None:
        """Count a row of the latest pass that a reader can't use among those that can't be read."""
        if self._bad is not None:
            self._bad.add(line, reason)

    @abc.abstractmethod
    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """All rows from the beginning, `size` at a time (the last chunk may be shorter)."""

    @final
    def rows(self) -> Iterator[Row]:
        """All rows from the beginning, one at a time."""
        for chunk in self.chunks():
            for line, values in zip(chunk.lines, zip(*chunk.values, strict=True), strict=True):
                yield Row(line, values)

    @final
    def all_rows(self) -> Iterator[Row | BadRow]:
        """All rows from the beginning in their order, with those that can't be read (however many) in their places.

        Open the source with `skip_bad_rows`, or some of them are errors.
        """
        waiting: list[BadRow] = []
        self._waiting = waiting
        if self._bad is not None:
            self._bad.waiting = waiting  # a stream has begun already
        try:
            for chunk in self.chunks(NUM_TOGETHER):
                last = chunk.lines[-1] if len(chunk) else 0
                before = sorted(row for row in waiting if row.line <= last)
                waiting[:] = [row for row in waiting if row.line > last]
                rows = (Row(*row) for row in zip(chunk.lines, zip(*chunk.values, strict=True), strict=True))
                yield from heapq.merge(before, rows, key=lambda row: row.line) if before else rows
        except InputError:
            yield from sorted(waiting)
            raise
        finally:
            self._waiting = None
        yield from (row for row in sorted(waiting) if row.reason != EMPTY_LINE)  # behind the last row it is none

    def head(self, num_rows: int = 1000) -> list[Row]:
        """The first rows, at most `num_rows` of them."""
        return list(islice(self.rows(), num_rows))
