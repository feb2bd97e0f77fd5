"""A file or several, cut into blocks of rows: what there is, and the rows of some blocks as a source."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, final

import numpy as np
from typing_extensions import override

from thalweg import distributed
from thalweg.data.blocks.index import Index, changed, index_of, state_of
from thalweg.data.containers.several import JoinedSource, LineIn
from thalweg.data.files.base import AbstractSource, Chunk
from thalweg.data.files.sources import FileSource
from thalweg.errors import InputError

_RUN: Final = 16  # blocks of a packed file that are read in one go
_PIECE: Final = 1 << 20


def parts_of(source: AbstractSource) -> tuple[FileSource, ...]:
    """Return the files that a source reads one after the other; none where it reads something else."""
    parts = source.parts if isinstance(source, JoinedSource) else (source,)
    return tuple(part for part in parts if isinstance(part, FileSource)) if _are_files(parts) else ()


def _are_files(parts: Sequence[AbstractSource]) -> bool:
    return all(isinstance(part, FileSource) for part in parts)


def why_not(source: AbstractSource) -> str:
    """Return why data can't be read in blocks, as a sentence; "" where they can."""
    parts = parts_of(source)
    if not parts:
        return f"{source.name} is {source.kind}, which can't be read in blocks."
    return next((f"{part.name} {part.uncut}, so it can't be read in blocks." for part in parts if part.uncut), "")


@final
class Shards:
    """Files that are cut into blocks of rows, one after the other.

    Args:
        source: what `thalweg.data.open_source` has made of them; see `why_not`.
        columns: those that will be read, which each file must have.

    Attributes:
        num_bytes: of each block, unpacked, int64 `[blocks]`.
        num_rows: of each block, likewise.
        units: never falling; blocks with one number are read in one go, since their file is packed.
        files: the SHA-256 sum of each file, by its name.

    Raises:
        InputError: on every process, if one of them can't read a file to its end, or a file lacks a column.
    """

    def __init__(self, source: AbstractSource, columns: Sequence[str] = ()) -> None:
        self._source, self._parts = source, parts_of(source)
        for part in self._parts:
            if missing := [name for name in columns if name not in part.columns]:
                raise InputError(
                    f"{part.name}: expected columns {', '.join(map(repr, columns))} as in the other files, got none "
                    f"called {missing[0]!r} ({', '.join(map(repr, part.columns[:10]))}); correct it, or move it away."
                )
        self._indexes = _indexes(self._parts)
        counts = [len(index.num_bytes) for index in self._indexes]
        self._part = np.repeat(np.arange(len(counts)), counts)
        self._starts = np.array([start for index in self._indexes for start in index.starts()], dtype=np.int64)
        self._lines = np.array([line for index in self._indexes for line in index.first_lines()], dtype=np.int64)
        self.num_bytes = np.array([size for index in self._indexes for size in index.num_bytes], dtype=np.int64)
        self.num_rows = np.array([size for index in self._indexes for size in index.num_rows], dtype=np.int64)
        packed = np.array([part.lines.is_packed for part in self._parts])[self._part]
        within = np.arange(len(self._part)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.units = np.cumsum(~packed | (within % _RUN == 0))
        self.files = {part.name: index.sha256 for part, index in zip(self._parts, self._indexes, strict=True)}

    def __len__(self) -> int:
        return len(self._part)

    def source_of(self, blocks: np.ndarray) -> AbstractSource:
        """Return the rows of these blocks (int, in rising order), read from the files at each pass."""
        name = self._source.name
        if len(chosen := np.unique(self._part[blocks])) == 1:
            name = self._parts[int(chosen[0])].name
        return BlockSource(self._source, name, lambda: self._read(blocks))

    def each(self, blocks: np.ndarray) -> Iterator[AbstractSource]:
        """Yield the rows of each of these blocks (int, in rising order) as a source, for which they are read once."""
        for part, piece in self._read(blocks):
            rows = [(part, piece)]
            yield BlockSource(self._source, part.name, lambda rows=rows: iter(rows), keeps=True)

    def _read(self, blocks: np.ndarray) -> Iterator[tuple[FileSource, FileSource]]:
        """Yield the file of each block, and its rows; an InputError names a file that has changed since."""
        for number in np.unique(self._part[blocks]).tolist():
            part, index = self._parts[number], self._indexes[number]
            if state_of(part.lines.file) != (index.size, index.mtime_ns, index.ends):
                raise changed(part.name)
            with part.lines.told(), part.lines.opened() as file:
                place = 0
                for block in blocks[self._part[blocks] == number].tolist():
                    start, size = int(self._starts[block]), int(self.num_bytes[block])
                    if file.seekable():
                        place = file.seek(start)
                    while place < start:
                        place += len(file.read(min(_PIECE, start - place))) or start
                    piece = _exactly(file, size)
                    place += len(piece)
                    if len(piece) < size:
                        raise changed(part.name)
                    is_end = block + 1 == len(self._part) or self._part[block + 1] != number
                    yield part, part.on(piece, int(self._lines[block]), start, is_end=is_end)


def _exactly(file: Any, size: int) -> bytes:
    """Return the next bytes, as many as wanted unless the file ends before."""
    found = bytearray()
    while len(found) < size and (more := file.read(size - len(found))):
        found += more
    return bytes(found)


@final
class BlockSource(AbstractSource):
    """Rows of some blocks, with the columns of all files; where they are few (`keeps`), they are read once."""

    def __init__(
        self,
        whole: AbstractSource,
        name: str,
        read: Callable[[], Iterator[tuple[FileSource, FileSource]]],
        *,
        keeps: bool = False,
    ) -> None:
        self.name, self.kind, self.columns, self.notes = name, whole.kind, whole.columns, whole.notes
        self._read_blocks, self._keeps = read, keeps
        self._kept: list[Chunk] | None = None

    @override
    def chunks(self, size: int = 4096) -> Iterator[Chunk]:
        if self._keeps and self._kept is None:
            self._kept = list(self._chunks(size))
        yield from self._chunks(size) if self._kept is None else self._kept

    def _chunks(self, size: int) -> Iterator[Chunk]:
        bad = self._begin(skip=True)  # each block counts its own, and refuses too many
        for part, rows in self._read_blocks():
            for chunk in rows.chunks(size):
                missing: list[None] = [None] * len(chunk)
                values = tuple(chunk.column(name) if name in chunk.columns else missing for name in self.columns)
                yield Chunk(self.columns, [self._line(line, part) for line in chunk.lines], values)
            for row in rows.bad_rows:
                bad.add(self._line(row.line, part), row.reason)
            bad.count += rows.num_bad_rows - len(rows.bad_rows)

    def _line(self, line: int, part: FileSource) -> int:
        return line if self.name == part.name else LineIn.of(line, 0, part.name)


def _indexes(parts: Sequence[FileSource]) -> list[Index]:
    """Return the index of each file; each process makes some of them, and all get all."""
    own: list[Any] = []
    problem = ""
    for number in range(distributed.rank(), len(parts), distributed.world_size()):
        try:
            own.append([number, index_of(parts[number].lines, parts[number].kind, parts[number].table).to_plain()])
        except InputError as error:
            problem = problem or str(error)
    everyone = distributed.gather({"found": own, "problem": problem})
    for one in everyone:
        if one["problem"]:
            raise InputError(one["problem"])
    found = {number: Index.of_plain(plain) for one in everyone for number, plain in one["found"]}
    return [found[number] for number in range(len(parts))]
