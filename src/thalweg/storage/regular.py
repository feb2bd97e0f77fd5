"""Files that a user names: opened only where they are regular files, and read no further than a limit."""

import stat
from pathlib import Path
from typing import BinaryIO, Final, cast

from thalweg.errors import InputError

_KINDS: Final = (
    (stat.S_ISDIR, "a folder", "name a file inside it"),
    (stat.S_ISFIFO, "a pipe, which can be read only once", "save what it gives to a file first"),
    (stat.S_ISSOCK, "a socket", "save what it gives to a file first"),
)


def require_regular(path: str | Path, mode: int) -> None:
    """Refuse what is no regular file: it may never end, or never begin, or give something else the next time.

    Args:
        path: as the user wrote it, for the message.
        mode: of `stat`.

    Raises:
        InputError: for a folder, a pipe, a socket or a device.

    Example:
        >>> require_regular("/dev/zero", stat.S_IFCHR)
        Traceback (most recent call last):
            ...
        thalweg.errors.InputError: /dev/zero: expected a regular file, got a device; name a file.
    """
    if stat.S_ISREG(mode):
        return
    found = ((what, remedy) for test, what, remedy in _KINDS if test(mode))
    what, remedy = next(found, ("a device", "name a file"))
    raise InputError(f"{path}: expected a regular file, got {what}; {remedy}.")


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading its bytes; raises `InputError` as `require_regular` does, and `OSError`."""
    require_regular(path, Path(path).stat().st_mode)
    return cast(BinaryIO, open(path, "rb"))


def read_regular(path: str | Path, most: int) -> bytes:
    """Return the content of a regular file of at most so many bytes.

    Raises `InputError` for anything else, and `OSError` where it can't be read.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InputError(f"{path}: expected a file of at most {most:,} bytes, got a larger one; is it the right file?")
    return data
