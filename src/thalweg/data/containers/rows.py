"""A source of rows that come from a function, with the checks that every source makes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, final

from thalweg.data.files.base import AbstractSource, BadRows, Chunk
from thalweg.errors import InputError

MAX_CELL: Final = 10_000_000  # characters of one text; a longer one makes a bad row

Columns = tuple[list[Any], ...]
Read = Callable[[BadRows, int], Iterator[tuple[Sequence[int], Columns]]]  # bad rows, a chunk's size -> lines and values


@final
class RowSource(AbstractSource):
    """Rows from the function `read`, which begins anew at every call."""

    def __init__(
        self, name: str, kind: str, columns: Sequence[str], notes: list[str], read: Read, *, skip_bad_rows: bool
    ) -> None:
        self.name = name
        self.kind = kind
        self.columns = tuple(columns)
        self.notes = notes
        self._read = read
        self._skip = skip_bad_rows

    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """All rows from the beginning, at most `size` at a time.

        Raises `InputError` when the rest can't be read, more than 1 % of the rows are bad, or there is no row at all.
        """
        bad = self._begin(skip=self._skip)
        num_rows = 0
        for lines, values in self._read(bad, size):
            lines, values = _short_enough(lines, values, bad)
            if not lines:
                continue
            num_rows += len(lines)
            bad.check(num_rows=num_rows, at_end=False)
            yield Chunk(self.columns, lines, values)
        bad.check(num_rows=num_rows, at_end=True)
        if not num_rows and not (bad.waiting is not None and bad.count):
            raise InputError(f"{self.name}: expected rows of data, got none that can be read; check the file.")


def _short_enough(lines: Sequence[int], values: Columns, bad: BadRows) -> tuple[Sequence[int], Columns]:
    """Leave out the rows with a text that is too long."""
    long = {
        place
        for column in values
        for place, value in enumerate(column)
        if isinstance(value, str) and len(value) > MAX_CELL
    }
    if not long:
        return lines, values
    for place in sorted(long):
        bad.add(lines[place], f"a text is longer than {MAX_CELL:,} characters")
    kept = [place for place in range(len(lines)) if place not in long]
    return [lines[place] for place in kept], tuple([column[place] for place in kept] for column in values)


def require_distinct(name: str, columns: Sequence[str]) -> None:
    """Raise `InputError` when two columns have one name."""
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise InputError(f"{name}: expected a different name for each column, got {repeated[0]!r} twice; rename one.")
