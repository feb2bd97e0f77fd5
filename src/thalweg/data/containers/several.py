"""Several files as one source: one after another, or two of them line by line."""

from collections.abc import Iterator, Sequence
from typing import Final, final

from typing_extensions import override

from thalweg.data.containers.places import BESIDE, THEN, sides_of
from thalweg.data.files.base import NUM_LISTED, AbstractSource, BadRow, BadRows, Chunk
from thalweg.errors import InputError, counted

_SPARSE: Final = "jsonl"  # the kind of file whose rows may lack columns
_NUM_NAMED: Final = 8  # files whose names are all in that of the whole


@final
class LineIn(int):
    """A line of one of several files: a number that grows through all files, shown as the file's own line.

    Example:
        >>> line = LineIn.of(3, 100, "b.csv")
        >>> f"line {line}", line > 100
        ('line 3 of b.csv', True)
    """

    own: str

    @classmethod
    def of(cls, line: int, before: int, name: str) -> "LineIn":
        """Return line `line` of the file `name`, where `before` lines are those of earlier files."""
        made = cls(before + line)
        made.own = f"{line} of {name}"
        return made

    @override
    def __str__(self) -> str:
        return self.own

    @override
    def __format__(self, spec: str) -> str:
        return self.own


@final
class JoinedSource(AbstractSource):
    """Files with the same columns, read one after another."""

    def __init__(self, parts: Sequence[AbstractSource]) -> None:
        first = parts[0]
        kinds = {part.kind for part in parts}
        self.name = THEN.join(part.name for part in parts)
        if len(parts) > _NUM_NAMED:
            self.name = f"{first.name}{THEN}{len(parts) - 1:,} more"
        self.kind = first.kind if len(kinds) == 1 else "several"
        self.columns = first.columns
        if kinds == {_SPARSE}:
            self.columns = tuple(dict.fromkeys(column for part in parts for column in part.columns))
        else:
            for part in parts[1:]:
                _require_same_columns(first, part)
        self.notes = [f"{counted(len(parts), 'file')} are read one after another: {_listed(parts)}."]
        self.notes += dict.fromkeys(note for part in parts for note in part.notes)
        self.parts = tuple(parts)

    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """All rows of all files in order, at most `size` at a time; raises `InputError` as each file's source does."""
        bad = self._begin(skip=True)  # each file counts its own, and refuses too many
        before = 0
        for part in self.parts:
            waiting = part._waiting = [] if bad.waiting is not None else None
            last = 0
            for chunk in part.chunks(size):
                last = chunk.lines[-1]
                if waiting:
                    self._take(waiting, before, part.name, bad)
                lines = [LineIn.of(line, before, part.name) for line in chunk.lines]
                missing: list[None] = [None] * len(chunk)
                values = tuple(chunk.column(name) if name in chunk.columns else missing for name in self.columns)
                yield Chunk(self.columns, lines, values)
            if waiting is None:
                self._take(part.bad_rows, before, part.name, bad)
                bad.count += part.num_bad_rows - NUM_LISTED if part.num_bad_rows > NUM_LISTED else 0
            else:
                self._take(waiting, before, part.name, bad)
                part._waiting = None
            bad.said += part.remarks
            before += last

    def _take(self, rows: list[BadRow], before: int, name: str, bad: BadRows) -> None:
        """Count the bad rows of one file as this source's."""
        for row in rows:
            bad.add(LineIn.of(row.line, before, name), row.reason)
        rows.clear()


@final
class ParallelSource(AbstractSource):
    """Two texts whose lines belong together."""

    def __init__(self, first: AbstractSource, second: AbstractSource) -> None:
        self.name = f"{first.name}{BESIDE}{second.name}"
        self.kind = "parallel"
        self.columns = sides_of(first.name, second.name) or ("source", "target")
        self.notes = [
            f"{first.name} and {second.name} are read line by line, as the columns {' and '.join(self.columns)}."
        ]
        self._pair = first, second

    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        """All pairs of lines, at most `size` at a time; raises `InputError` when one file is longer."""
        sides = [part.chunks(size) for part in self._pair]
        bad = self._begin(skip=True)
        left: list[str] = []
        right: list[str] = []
        line = 1
        is_open = [True, True]
        while any(is_open):
            for place, held in enumerate((left, right)):
                while is_open[place] and len(held) < size:
                    chunk = next(sides[place], None)
                    is_open[place] = chunk is not None
                    held += [] if chunk is None else chunk.values[0]
            count = min(len(left), len(right), size)
            if count:
                yield Chunk(self.columns, range(line, line + count), (left[:count], right[:count]))
            del left[:count], right[:count]
            line += count
            if not count or (not all(is_open) and not (left and right)):
                break
        more = [len(held) + sum(map(len, side)) for held, side in zip((left, right), sides, strict=True)]
        if any(more):
            first, second = (f"{line - 1 + number:,}" for number in more)
            raise InputError(
                f"{self._pair[0].name} has {first} lines and {self._pair[1].name} has {second}; line by line they must "
                "have as many. Find where one of them lost or gained a line."
            )
        for part in self._pair:
            for row in part.bad_rows:
                bad.add(row.line, f"{row.reason} in {part.name}")


def _require_same_columns(first: AbstractSource, other: AbstractSource) -> None:
    mine, theirs = set(first.columns), set(other.columns)
    if mine == theirs:
        return
    differences = [
        f"{holder.name} alone has {', '.join(map(repr, sorted(only)[:5]))}"
        for holder, only in ((first, mine - theirs), (other, theirs - mine))
        if only
    ]
    raise InputError(
        f"Several files must have the same columns, in any order; {' and '.join(differences)}. Train on one of them, "
        "or give them the same names of columns."
    )


def _listed(parts: Sequence[AbstractSource]) -> str:
    names = [part.name for part in parts]
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]} ... {names[-1]}"
