"""One file inside a zip or tar archive, read in place: nothing is ever unpacked to disk."""

import io
import re
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO, Final

from typing_extensions import override

from thalweg.errors import InputError

COMPRESSED: Final = (".xz", ".gz", ".bz2", ".zst")
ARCHIVES: Final = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tbz2", ".txz")
PART: Final = "#"  # between an archive and the file inside it that is read
MAX_ENTRIES: Final = 100_000  # in an archive
MAX_BYTES: Final = 1 << 40  # of one file inside
MAX_RATIO: Final = 300  # of its size to that in the archive; texts that people write pack to a tenth
RATIO_FROM: Final = 100_000_000  # bytes of a file from which the ratio counts
NO_DATA: Final = re.compile(r"(^|/)(__MACOSX/|\.[^/]*$|(readme|license|licence|copying|changes|citation)[^/]*$)", re.I)


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
            with zipfile.ZipFile(path) as archive:
                names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        else:
            names = []
            with tarfile.open(path) as archive:
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
            with zipfile.ZipFile(path) as archive:
                entry = next((one for one in archive.infolist() if _same(one.filename, part)), None)
                if entry is None or entry.is_dir():
                    raise _missing(path, part)
                _require(path, not entry.flag_bits & 1, f"{part} is encrypted; unpack it with its password")
                _check_size(path, part, entry.file_size, entry.compress_size)
                return archive.open(entry)  # reads no more than the size that was checked
        archive = tarfile.open(path)  # noqa: SIM115  (stays open as long as the file inside it)
        entry = next((one for one in archive if _same(one.name, part) and one.isreg()), None)
        if entry is None:
            archive.close()
            raise _missing(path, part)
        _check_size(path, part, entry.size, path.stat().st_size)
        return _FromTar(archive, entry)
    except NotImplementedError as error:
        raise InputError(f"{path}: {part} can't be read ({error}); pack it again, or unpack it.") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(f"{path}: the archive is damaged or can't be read ({error}).") from None


class _FromTar(io.BufferedReader):
    """A file inside a tar archive, which is closed with it."""

    def __init__(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        opened = archive.extractfile(entry)
        assert isinstance(opened, io.BufferedReader), "only regular files are opened"
        super().__init__(opened.detach())
        self._archive = archive

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


def _check_size(path: Path, part: str, size: int, packed: int) -> None:
    is_bomb = size > RATIO_FROM and size > MAX_RATIO * max(packed, 1)
    _require(
        path,
        size <= MAX_BYTES and not is_bomb,
        f"{part} would grow from {packed:,} to {size:,} bytes, which no data does; unpack it if you trust it",
    )


def _require(path: Path, holds: bool, problem: str) -> None:
    if not holds:
        raise InputError(f"{path}: the archive can't be read: {problem}.")
