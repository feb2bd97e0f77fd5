"""Where the blocks of rows of a file begin: found in one pass, kept beside the file, and found anew when it changes."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Final, final

import numpy as np

from thalweg.data.containers.places import INDEX
from thalweg.data.files.delimited import Table
from thalweg.data.files.lines import LineReader
from thalweg.data.files.table.dialect import FIELDS
from thalweg.errors import InputError
from thalweg.storage.files import sum_of_file, write_file
from thalweg.storage.forms import many, record, text, whole

MOST_BYTES: Final = 1 << 18  # of a block, unpacked; its last row may be longer
LEAST_BYTES: Final = 1 << 12
_VERSION: Final = 2
_PIECE: Final = 1 << 20  # bytes that are read at a time
_ENDS: Final = 1 << 12  # bytes at the beginning and at the end that are compared

type_of_cut = tuple[int, int, int]  # bytes, lines and rows of a block
_UNKNOWN: Final = (0, 0, 0)


@final
@dataclass(frozen=True)
class Index:
    """Where the blocks of a file begin.

    Args:
        size: of the file on the disk, in bytes.
        mtime_ns: when it was last changed, in nanoseconds, as digits.
        ends: SHA-256 of its first and last bytes.
        reads: how its rows are told apart.
        sha256: of the whole file as it is stored.
        num_bytes: of each block, unpacked.
        num_lines: of each block.
        num_rows: of each block, those included that a task can't use; lines that are empty are none.
    """

    size: int
    mtime_ns: str
    ends: str
    reads: str
    sha256: str
    num_bytes: list[int]
    num_lines: list[int]
    num_rows: list[int]
    version: int = _VERSION

    def starts(self) -> list[int]:
        """Return the byte at which each block begins, unpacked, from 0."""
        return [0, *accumulate(self.num_bytes)][:-1]

    def first_lines(self) -> list[int]:
        """Return the line with which each block begins, from 1."""
        return [1, *accumulate(self.num_lines, initial=1)][1:-1]

    def to_plain(self) -> dict[str, Any]:
        """Return the index as JSON has it, which `of_plain` reads."""
        return asdict(self)

    @classmethod
    def of_plain(cls, value: Any) -> "Index":
        """Return an index from what `to_plain` gave; raises `ValueError` for anything else."""
        found = _INDEX(value, "index")
        if len({len(found[name]) for name in _COUNTS}) != 1 or found["version"] != _VERSION:
            raise ValueError("index has another form")
        return cls(**found)


_INDEX = record(
    size=whole(0), mtime_ns=text(), ends=text(), reads=text(), sha256=text(), num_bytes=many(whole(0)),
    num_lines=many(whole(0)), num_rows=many(whole(0)), version=whole(0),
)  # fmt: skip
_COUNTS: Final = ("num_bytes", "num_lines", "num_rows")  # of each block


def index_of(lines: LineReader, kind: str, table: Table | None) -> Index:
    """Return the index of a file: the one that was kept, or else a new one, which is kept where that is possible.

    Beside the file, or in the user's cache where its folder can't be written to.

    Args:
        lines: reads the file.
        kind: of the file.
        table: how the rows of a table are taken apart; None for another kind.

    Raises:
        InputError: when the file can't be read to its end.
    """
    path, name = lines.file, str(lines.path)
    size, mtime_ns, ends = state_of(path)
    reads = kind if table is None else f"{kind} {table.dialect}"
    expected: dict[str, Any] = {"size": size, "mtime_ns": mtime_ns, "ends": ends, "reads": reads}
    for place in places_of(path, name):
        found = _kept(place)
        if found is not None and all(getattr(found, name) == value for name, value in expected.items()):
            return found
    sums, cuts = _cut(lines, table, max(LEAST_BYTES, min(MOST_BYTES, size // 128)))
    if state_of(path) != (size, mtime_ns, ends):
        raise changed(name)
    counts: dict[str, Any] = {name: [cut[place] for cut in cuts] for place, name in enumerate(_COUNTS)}
    index = Index(**expected, sha256=sums, **counts)
    _keep(index, places_of(path, name))
    return index


def state_of(path: Path) -> tuple[int, str, str]:
    """Return size, time of change in nanoseconds, and the sum of the first and last bytes of a file."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            start = file.read(_ENDS)
            file.seek(max(0, about.st_size - _ENDS))
            return about.st_size, str(about.st_mtime_ns), hashlib.sha256(start + file.read(_ENDS)).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: the file can't be read ({error.strerror}).") from None


def changed(name: str) -> InputError:
    """Return what is to be said of a file that is another one than when its index was made."""
    return InputError(
        f"{name} has changed while it was read (its size or its time is another one); let nothing write to the data "
        "of a training, and start it again."
    )


def places_of(path: Path, name: str) -> list[Path]:
    """Return where the index of a file may be kept, the best place first; `name` also says which part of it is read."""
    beside = path.with_name(f".{Path(name).name if path.name in name else path.name}{INDEX}")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thalweg"
    return [beside, cache / f"{hashlib.sha256(os.path.abspath(name).encode()).hexdigest()[:32]}{INDEX}"]


def _kept(place: Path) -> Index | None:
    """Return the index in a file; None where there is none, or it is damaged or something else."""
    try:
        total, _, content = place.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != total:
            return None
        return Index.of_plain(json.loads(content))
    except (OSError, ValueError, RecursionError):
        return None


def _keep(index: Index, places: list[Path]) -> None:
    content = json.dumps(index.to_plain()).encode()
    for place in places:
        try:
            if place != places[0]:
                place.parent.mkdir(parents=True, exist_ok=True)
            write_file(place, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
            return
        except OSError:  # no right to write there, or no room: the next place, or none
            continue


def _cut(lines: LineReader, table: Table | None, size: int) -> tuple[str, list[type_of_cut]]:
    """Return the SHA-256 sum of a file and its blocks of at least `size` bytes."""
    quote = table.dialect.quote.encode() if table is not None and table.dialect.has_quotes else b""
    with lines.told(), lines.opened() as file:
        summed = _Summed(file)
        found = list(_at_lines(summed, size, quote))
    if table is not None and _UNKNOWN in found:
        with lines.told(), lines.opened() as file:
            found = list(_at_rows(file, size, table))
        return sum_of_file(lines.file).sha256, found
    return sum_of_file(lines.file).sha256 if lines.is_packed else summed.digest.hexdigest(), found


@final
class _Summed:
    """A file whose sum is found as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        found = self._file.read(size)
        self.digest.update(found)
        return found


def _at_lines(file: _Summed, size: int, quote: bytes) -> Iterator[type_of_cut]:
    """Yield blocks that end with lines.

    Yields `_UNKNOWN`, and stops, where a line has an odd number of `quote`s, so that a row may be longer than its line.
    """
    pending = b""
    while piece := file.read(_PIECE):
        pending += piece
        while len(pending) > size and (end := pending.find(b"\n", size - 1) + 1):
            block, pending = pending[:end], pending[end:]
            if quote and quote in block and _are_odd(block, quote):
                yield _UNKNOWN
                return
            yield _counts(block)
    if pending:
        yield _UNKNOWN if quote and _are_odd(pending, quote) else _counts(pending)


def _counts(block: bytes) -> type_of_cut:
    num = block.count(b"\n") + (not block.endswith(b"\n"))
    if b"\r" in block:
        num += block.count(b"\r") - block.count(b"\r\n")
    if b"\n\n" not in block and b"\n\r\n" not in block:
        return len(block), num, num
    values = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(values == ord("\n"))
    lengths = np.diff(ends, prepend=-1) - 1
    num_empty = np.count_nonzero((lengths == 0) | ((lengths == 1) & (values[ends - 1] == ord("\r"))))
    return len(block), num, num - int(num_empty)


def _are_odd(block: bytes, quote: bytes) -> bool:
    """Whether a line of a block has an odd number of quotation marks."""
    values = np.frombuffer(block, dtype=np.uint8)
    lines = np.searchsorted(np.flatnonzero(values == ord("\n")), np.flatnonzero(values == ord(quote)))
    return bool((np.bincount(lines) % 2).any())


def _at_rows(file: BinaryIO, size: int, table: Table) -> Iterator[type_of_cut]:
    """Yield blocks that end with rows, which may have line ends inside of quotation marks."""
    taken, is_whole = 0, True

    def lines() -> Iterator[str]:
        nonlocal taken, is_whole
        for line in io.BufferedReader(file, _PIECE) if isinstance(file, io.RawIOBase) else file:
            taken += len(line)
            *others, last = io.StringIO(line.decode(errors="replace").replace("\0", " "), newline=None)
            is_whole = False  # lines that end with a carriage return, before one with a line feed
            yield from others
            is_whole = True
            yield last

    reader = table.dialect.reader(lines())
    before, line, num_rows = 0, 0, 0
    try:
        with FIELDS.up_to(table.max_field_length):
            for row in reader:
                num_rows += bool(row)
                if is_whole and taken - before >= size:
                    yield taken - before, reader.line_num - line, num_rows
                    before, line, num_rows = taken, reader.line_num, 0
    except csv.Error as error:
        raise InputError(
            f"{table.name}, line {reader.line_num}: a row that begins at or before this line can't be read ({error}); "
            "look for a quotation mark that is never closed."
        ) from None
    if taken > before:
        yield taken - before, reader.line_num - line, num_rows
