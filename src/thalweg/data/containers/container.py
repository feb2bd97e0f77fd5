"""What a path holds that is no single text file: which container it is, by its first bytes, and the source of it."""

import io
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

from thalweg.data.containers.arrow import kind_of_arrow, open_arrow, pyarrow_for
from thalweg.data.containers.folder import open_folder
from thalweg.data.containers.places import is_side, joined, several_of, sides_of
from thalweg.data.containers.several import JoinedSource, ParallelSource
from thalweg.data.containers.spreadsheet import OLE, XLSX, office_kind, open_sheet
from thalweg.data.files.archive import PART, all_files, data_files, is_archive, is_zip, open_part, part_of
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError

OpenFile = Callable[..., AbstractSource]  # a path, and perhaps its `kind`
NUM_LISTED: Final = 10  # names in a message
_BESIDE_TEXTS: Final = (".xml", ".ids", ".scores")  # how the lines of two texts were aligned
MAX_IN_MEMORY: Final = 1 << 30  # bytes of a Parquet file or a workbook inside an archive


def open_container(
    path: str | Path, open_file: OpenFile, *, header: bool | None = None, skip_bad_rows: bool = False
) -> AbstractSource | None:
    """Open what is no single text file; None where it is one, or is not there.

    Args:
        path: as the user wrote it.
        open_file: opens any other file, with the options of `open_source`.
        header: as in `open_source`.
        skip_bad_rows: as in `open_source`.

    Raises:
        InputError: for a container that can't be read, or holds several files of which none is named.
    """
    several = several_of(str(path))
    if several is not None:
        if several.is_parallel:
            first, second = (open_file(one, kind="text") for one in several.places)
            return ParallelSource(first, second)
        parts = [open_file(one) for one in several.places]
        return parts[0] if len(parts) == 1 else JoinedSource(parts)
    container, part = part_of(Path(path))
    if container.is_dir():
        return open_folder(container, part, open_file, skip_bad_rows=skip_bad_rows)
    start = _first_bytes(container)
    if start is None:
        return None
    stored, name = _Stored(container, None), str(container)
    office = office_kind(all_files(container)) if is_zip(start) else ""
    if not office and is_archive(container, start):
        if part is None:
            return _only_file(container, open_file)
        inner, _, part = part.partition(PART)
        stored, name, part = _Stored(container, inner), f"{container}{PART}{inner}", part or None
        start = stored.first_bytes()
        office = office_kind(stored.entries()) if is_zip(start) else ""
    if start.startswith(OLE):
        raise InputError(
            f"{name}: this is a workbook of Excel before 2007 (.xls), another old document, or a new one with a "
            "password; save it as .xlsx without one, or as CSV."
        )
    if office == XLSX:
        return open_sheet(name, stored.opened, part, header=header, skip_bad_rows=skip_bad_rows)
    if office:
        raise InputError(f"{name}: expected a file of data, got {office}.")
    kind = kind_of_arrow(start, name)
    if kind is not None and part is None:
        return open_arrow(name, kind, stored.for_arrow, skip_bad_rows=skip_bad_rows)
    return None


@final
class _Stored:
    """A file on disk, or one inside an archive, which is held in memory."""

    def __init__(self, path: Path, part: str | None) -> None:
        self._path, self._part = path, part
        self._content: bytes | None = None

    def first_bytes(self) -> bytes:
        """The beginning of the file."""
        if self._part is None:
            return _first_bytes(self._path) or b""
        try:
            with open_part(self._path, self._part) as file:
                return file.read(16)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise _damaged(self._path, self._part, error) from None

    def entries(self) -> list[str]:
        """The names in the file, which is an archive itself."""
        try:
            with zipfile.ZipFile(self.opened()) as archive:
                return archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError):
            return []

    def opened(self) -> Any:
        """The path, or the file in memory."""
        return self._path if self._part is None else io.BytesIO(self._bytes())

    def for_arrow(self) -> Any:
        """The same for pyarrow."""
        return self._path if self._part is None else pyarrow_for(str(self._path)).BufferReader(self._bytes())

    def _bytes(self) -> bytes:
        if self._content is None:
            assert self._part is not None
            try:
                with open_part(self._path, self._part) as file:
                    self._content = file.read(MAX_IN_MEMORY + 1)
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
                raise _damaged(self._path, self._part, error) from None
            if len(self._content) > MAX_IN_MEMORY:
                raise InputError(f"{self._path}: {self._part} is larger than {MAX_IN_MEMORY:,} bytes; unpack it.")
        return self._content


def _damaged(path: Path, part: str, error: BaseException) -> InputError:
    return InputError(f"{path}{PART}{part}: the compressed file is damaged or truncated ({error}).")


def _first_bytes(path: Path) -> bytes | None:
    """The beginning of a regular file; None for anything else, which the reader of text files tells of."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            return file.read(16)
    except (OSError, ValueError):
        return None


def _only_file(path: Path, open_file: OpenFile) -> AbstractSource:
    """The source of the one file that an archive holds."""
    names = data_files(path)
    if not names:
        raise InputError(f"{path}: expected an archive with a file of data, got one that holds none.")
    sides = [name for name in names if is_side(Path(name))]
    if len(sides) == 2 and sides_of(*sides) and all(name.endswith(_BESIDE_TEXTS) for name in {*names} - {*sides}):
        return open_file(joined([f"{path}{PART}{name}" for name in sides]))
    if len(names) > 1:
        raise InputError(
            f"{path}: the archive holds {len(names):,} files ({_listed(names)}); name the one to be read, such as "
            f"'{path}#{names[0]}'."
        )
    source = open_file(f"{path}#{names[0]}")
    source.notes.insert(0, f"The archive holds one file of data, {names[0]}.")
    return source


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NUM_LISTED]) + (" ..." if len(names) > NUM_LISTED else "")
