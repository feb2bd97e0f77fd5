"""What a path holds that is no single text file: which container it is, by its first bytes, and the source of it."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from thalweg.data.containers.places import several_of
from thalweg.data.containers.several import JoinedSource, ParallelSource
from thalweg.data.files.archive import data_files, is_archive, part_of
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError

OpenFile = Callable[..., AbstractSource]  # a path, and perhaps its `kind`
NUM_LISTED: Final = 10  # names in a message


def open_container(path: str | Path, open_file: OpenFile) -> AbstractSource | None:
    """Open what is no single text file; None where it is one, or is not there.

    Args:
        path: as the user wrote it.
        open_file: opens any other file, with the options of `open_source`.

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
    start = _first_bytes(container)
    if start is None:
        return None
    if part is None and is_archive(container, start):
        return _only_file(container, open_file)
    return None


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
