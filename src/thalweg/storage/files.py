"""One file: written as a whole or not at all, and its checksum, which is that of what was meant to be written."""

import contextlib
import glob
import hashlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

TEMPORARY: Final = ".thalweg-tmp"  # how the hidden names of files and folders end that are not finished


@final
@dataclass(frozen=True)
class Sum:
    """Length and SHA-256 of a file's content."""

    num_bytes: int
    sha256: str


def sum_of(data: bytes) -> Sum:
    """Return the sum of some bytes.

    Example:
        >>> sum_of(b"").num_bytes
        0
    """
    return Sum(len(data), hashlib.sha256(data).hexdigest())


def sum_of_file(path: Path) -> Sum:
    """Return the sum of a file as it is on the disk."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Sum(file.tell(), digest)


def write_file(path: Path, data: bytes | str) -> Sum:
    """Write a file, so that after a crash at any moment it is there as a whole or as it was before; return its sum.

    A link is replaced, never followed. An OSError (no space, no right to write) leaves everything as it was.
    """
    data = data.encode() if isinstance(data, str) else data
    temporary = temporary_name(path)
    try:
        write_new(temporary, data)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
        raise
    sync_folder(path.parent)
    return sum_of(data)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, and wait until it is on the disk."""
    try:
        with open(path, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.filename is None and error.errno is not None:  # such as no space; opening names the file itself
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
        raise


def temporary_name(path: Path) -> Path:
    """Return a name beside a file or a folder that nothing has."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}")


def leftovers(folder: Path, name: str | None = None) -> list[Path]:
    """Return what a process that was killed has left unfinished in a folder, of one name in it or of all."""
    pattern = ".*" if name is None else f".{glob.escape(name)}.{'[0-9a-f]' * 8}"
    return sorted(folder.glob(pattern + TEMPORARY)) if folder.is_dir() else []


def remove_folder(folder: Path) -> None:
    """Remove a folder: for others it is there as a whole or not at all."""
    gone = temporary_name(folder)
    try:
        os.rename(folder, gone)
    except FileNotFoundError:
        return
    sync_folder(folder.parent)
    with contextlib.suppress(OSError):
        remove(gone)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link, which never reaches what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are not there, and wait until their names are on the disk."""
    made = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in reversed(made):
        sync_folder(one.parent)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
