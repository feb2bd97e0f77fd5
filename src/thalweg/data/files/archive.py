"""Packed files, and one file inside a zip or tar archive: unpacked as they are read, within limits, never to disk."""

import bz2
import contextlib
import gzip
import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast, final

from typing_extensions import override

from thalweg.errors import InputError

COMPRESSED: Final = (".xz", ".gz", ".bz2", ".zst")
ARCHIVES: Final = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tbz2", ".txz")
PART: Final = "#"  # between an archive and the file inside it that is read
SMALL_PIECE: Final = 1 << 12  # bytes at a time of zip's rarer compressions, which `zipfile` unpacks without a limit
NO_DATA: Final = re.compile(r"(^|/)(__MACOSX/|\.[^/]*$|(readme|license|licence|copying|changes|citation)[^/]*$)", re.I)
# The table of limits.
MAX_RATIO: Final = 500  # of the unpacked to the packed size; regular logs reach 100 to 300 by xz
RATIO_FROM: Final = 100_000_000  # unpacked bytes from which the ratio counts
MAX_BYTES: Final = 1 << 40  # unpacked
MAX_ENTRIES: Final = 100_000  # in an archive
MAX_TABLE: Final = 10_000_000  # bytes of an archive's table of contents, or of what stands before one file in it

PIECE: Final = 1 << 20  # bytes that are unpacked at a time
XZ, GZIP, ZSTD, BZIP2 = b"\xfd7zXZ\x00", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh"
BZIP2_GOES_ON: Final = (b"1AY&SY", b"\x17rE8P\x90")  # behind the level: "BZh" may also be the start of a text


def is_zip(start: bytes) -> bool:
    """Whether a file with these first bytes is a zip archive, as the files of office programs are, too."""
    return start.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_archive(path: Path, start: bytes) -> bool:
    """Whether a file with these first bytes is an archive by content (zip) or by ending (tar)."""
    return is_zip(start) or path.name.lower().endswith(ARCHIVES[1:])


def part_of(path: Path) -> tuple[Path, str | None]:
    """Return the container and the name of what is read in it, of a path such as `data.zip#train.csv`; else the path.

    Example:
        >>> part_of(Path("no-such-file.zip#a.csv"))[1] is None
        True
    """
    place = str(path)
    if PART in place and not exists(path):
        for match in re.finditer(PART, place):
            container = Path(place[: match.start()])
            if match.start() and exists(container):
                return container, place[match.end() :]
    return path, None


def exists(path: Path) -> bool:
    """Whether there is a file or folder of exactly this name."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def data_files(path: Path) -> list[str]:
    """Return the names of the files in an archive that may hold data: no hidden files, and no notes on them."""
    return [name for name in all_files(path) if not NO_DATA.search(name)]


def all_files(path: Path) -> list[str]:
    """Return the names of all files in an archive, without folders; raise `InputError` when it can't be read."""
    try:
        if _is_zip(path):
            names = [entry.filename for entry in zip_entries(path) if not entry.is_dir()]
        else:
            names = []
            with _Tar(path) as archive:
                for number, entry in enumerate(archive):
                    _require(path, number < MAX_ENTRIES, f"it has more than {MAX_ENTRIES:,} entries")
                    names += [entry.name] if entry.isreg() else []
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise InputError(f"{path}: the archive is damaged or can't be read ({error}).") from None
    _require(path, len(names) <= MAX_ENTRIES, f"it has more than {MAX_ENTRIES:,} entries")
    return names


def open_part(path: Path, part: str) -> IO[bytes]:
    """Open one file inside an archive for reading; an InputError tells of one that is missing, encrypted or a bomb."""
    if not is_archive(path, _start(path)):
        raise InputError(f"{path}{PART}{part}: there is no such file, and {path} is no archive with a {part!r} in it.")
    try:
        if _is_zip(path):
            return _from_zip(path, part)
        with contextlib.ExitStack() as stack:
            archive = stack.enter_context(_Tar(path))
            entry = next((one for one in archive if _same(one.name, part) and one.isreg()), None)
            if entry is None:
                raise _missing(path, part)
            require_plausible(f"{path}{PART}{part}", entry.size, path.stat().st_size)
            stack.pop_all()
            return _FromTar(archive, entry)
    except NotImplementedError as error:
        raise InputError(f"{path}: {part} can't be read ({error}); pack it again, or unpack it.") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(f"{path}: the archive is damaged or can't be read ({error}).") from None


def zip_entries(path: Path | IO[bytes]) -> list[zipfile.ZipInfo]:
    """Return what the table of contents of a zip archive says; raises what `zipfile` does, and `InputError`."""
    with ShortReads(path) if isinstance(path, Path) else path as file, zipfile.ZipFile(file) as archive:
        return archive.infolist()


def _from_zip(path: Path, part: str) -> IO[bytes]:
    """One file inside a zip archive, which gives no more bytes than the table of contents says, as was checked."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(ShortReads(path))
        archive = stack.enter_context(zipfile.ZipFile(file))
        entry = next((one for one in archive.infolist() if _same(one.filename, part)), None)
        if entry is None or entry.is_dir():
            raise _missing(path, part)
        _require(path, not entry.flag_bits & 1, f"{part} is encrypted; unpack it with its password")
        name, packed = f"{path}{PART}{part}", min(entry.compress_size, path.stat().st_size)
        require_plausible(name, entry.file_size, packed)
        is_usual = entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        opened = stack.enter_context(archive.open(entry))
        before = file.num_read
        closing, piece = stack.pop_all(), PIECE if is_usual else SMALL_PIECE
        return cast(BinaryIO, Unpacked(opened, name, lambda: file.num_read - before, closing.close, piece))


class _Tar(tarfile.TarFile):
    """A tar archive, whatever it is compressed by, that is read from its beginning within the limits."""

    def __init__(self, path: Path) -> None:
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            start = file.read(16)
            file.seek(0)
            self.consumed = file.tell
            self._bytes = unpacked(file, start, str(path)) or file
            if isinstance(self._bytes, Unpacked):
                self._bytes.largest = MAX_TABLE
            super().__init__(fileobj=self._bytes)
            stack.pop_all()

    def is_found(self) -> None:
        """From here on the bytes of an entry are read, in pieces of any size."""
        if isinstance(self._bytes, Unpacked):
            self._bytes.largest = None

    @override
    def close(self) -> None:
        super().close()
        self._bytes.close()


class _FromTar(io.BufferedReader):
    """A file inside a tar archive, which is closed with it."""

    def __init__(self, archive: _Tar, entry: tarfile.TarInfo) -> None:
        archive.is_found()
        opened = archive.extractfile(entry)
        assert isinstance(opened, io.BufferedReader), "only regular files are opened"
        super().__init__(opened.detach())
        self._archive, self.consumed = archive, archive.consumed

    @override
    def close(self) -> None:
        super().close()
        self._archive.close()


def _is_zip(path: Path) -> bool:
    return is_zip(_start(path))


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError as error:
        raise InputError(f"{path}: the file can't be opened ({error.strerror}).") from None


def _same(name: str, wanted: str) -> bool:
    return name.removeprefix("./") == wanted.removeprefix("./")


def _missing(path: Path, part: str) -> InputError:
    found = data_files(path)
    listed = ", ".join(found[:10]) + (" ..." if len(found) > 10 else "")
    return InputError(f"{path}: there is no file {part!r} in this archive; it holds {listed or 'no files'}.")


def _require(path: Path, holds: bool, problem: str) -> None:
    if not holds:
        raise InputError(f"{path}: the archive can't be read: {problem}.")


def require_plausible(name: str, size: int, packed: int, way_out: str = "unpack it yourself if you trust it") -> None:
    """Raise an `InputError` where data of a packed size would grow as no data does.

    Args:
        name: of what is packed.
        size: to which it grows, in bytes.
        packed: its size as it is stored.
        way_out: what to do about it.
    """
    if size > MAX_BYTES or (size > RATIO_FROM and size > MAX_RATIO * max(packed, 1)):
        raise InputError(
            f"{name}: it would grow from {packed:,} to {size:,} bytes or more, which no data does (at most "
            f"{MAX_RATIO} times its size); {way_out}."
        )


@final
class Unpacked(io.RawIOBase):
    """A file that is unpacked as it is read, up to the limits; beyond them reading raises an `InputError`.

    Args:
        file: gives the unpacked bytes.
        name: for messages.
        consumed: tells how many bytes of the file on disk have been read for that.
        close: closes everything that is open behind it.
        piece: bytes that are asked of `file` at a time.

    Attributes:
        largest: bytes that may be asked for at once; None: any number.
    """

    def __init__(
        self,
        file: IO[bytes],
        name: str,
        consumed: Callable[[], int],
        close: Callable[[], None],
        piece: int = PIECE,
    ) -> None:
        super().__init__()
        self._file, self._name, self.consumed, self._close, self._piece = file, name, consumed, close, piece
        self._place = 0
        self.largest: int | None = None

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._place

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        wanted = MAX_BYTES if size is None or size < 0 else size
        if self.largest is not None and wanted > self.largest:
            raise InputError(f"{self._name}: the archive can't be read: an entry has a head of {wanted:,} bytes.")
        pieces: list[bytes] = []
        while wanted and (piece := self._file.read(min(wanted, self._piece))):
            pieces.append(piece)
            wanted -= len(piece)
            self._place += len(piece)
            require_plausible(self._name, self._place, self.consumed())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @override
    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        assert whence == io.SEEK_SET
        if offset < self._place:
            self._file.seek(offset)
            self._place = offset
        largest, self.largest = self.largest, None
        while self._place < offset and self.read(min(PIECE, offset - self._place)):
            pass
        self.largest = largest
        return self._place

    @override
    def close(self) -> None:
        if not self.closed:
            super().close()
            self._close()


def unpacked(file: BinaryIO, start: bytes, name: str) -> BinaryIO | None:
    """Return the unpacked bytes of an open file that begins with `start`, within the limits; None if it is not packed.

    The file may be one inside an archive. It is closed with what is returned.
    """
    opened: Any
    if start.startswith(XZ):
        opened = lzma.LZMAFile(file)  # noqa: SIM115  (closed with what is returned)
    elif start.startswith(GZIP):
        opened = gzip.GzipFile(fileobj=file)
    elif start.startswith(BZIP2) and start[4:10] in BZIP2_GOES_ON:
        opened = bz2.BZ2File(file)
    elif start.startswith(ZSTD):
        opened = _zstd(file, name)
    else:
        return None

    def close() -> None:
        opened.close()
        file.close()

    consumed = getattr(file, "consumed", file.tell)  # of the archive that it is in
    return cast(BinaryIO, Unpacked(opened, name, consumed, close))


@final
class ShortReads(io.FileIO):
    """A zip archive that is read in pieces of some MB, so that no table of contents fills the memory."""

    num_read = 0  # bytes

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_TABLE:
            raise InputError(
                f"{self.name}: the archive can't be read: its table of contents has {size:,} bytes, and at most "
                f"{MAX_TABLE:,} are read; unpack it yourself if you trust it."
            )
        data = super().read(size)
        self.num_read += len(data)
        return data


def _zstd(file: BinaryIO, name: str) -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise InputError(
            f"{name}: reading zstd needs pyarrow; install it with pip install 'thalweg[files]', or unpack it."
        ) from None
    return pa.CompressedInputStream(file, "zstd")
