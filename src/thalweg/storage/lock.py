"""One process at a time: a lock that dies with its owner."""

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Final, final

from filelock import FileLock, Timeout

from thalweg.errors import InputError


class HeldError(InputError):
    """Another process has the lock."""


_WITHOUT_LOCKS: Final = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EROFS}


@final
class Lock:
    """The right to change a folder, whether it is there yet or not (its parent is); given back at the end of a `with`.

    It is a lock of the operating system on the file `.NAME.lock` beside the folder (inside it, where nothing can be
    written beside it), so that it ends with its process, however that ends. Where a file system has no locks, there is
    none.

    Args:
        folder: what is to be changed.
        work: what is done with it, as the other process is told ("trained").
        waits: whether to wait until another process gives it back, which is for work of a moment.

    Raises:
        HeldError: if another process has it, or another thread; the message has the process's number.

    Example:
        >>> folder = getfixture("tmp_path") / "run"
        >>> with Lock(folder):
        ...     pass
    """

    def __init__(self, folder: Path, work: str = "changed", *, waits: bool = False) -> None:
        named, folder = folder, Path(os.path.realpath(folder))  # of a link to itself, too
        named = folder if named.name in ("", "..") else named
        self._file = folder.with_name(f".{folder.name}.lock")
        if not os.access(folder.parent, os.W_OK) and folder.is_dir():
            self._file = folder / ".lock"
        if self._file.is_symlink():  # nobody's lock, and what it leads to is not to be written
            self._file.unlink()
        self._lock: FileLock | None = FileLock(self._file, blocking=waits, fallback_to_soft=False)
        try:
            self._lock.acquire()
            self._file.write_text(f"{os.getpid()} {work}\n")
        except Timeout:
            raise HeldError(
                f"{named} is being {self._holder()}; wait until that ends, or choose another --name."
            ) from None
        except (NotImplementedError, PermissionError):  # no locks here, or nothing can be changed anyway
            self._lock = None
        except OSError as error:
            if self._lock.is_locked:  # a full disk: there is no room for a number
                return
            if error.errno not in _WITHOUT_LOCKS:
                raise
            self._lock = None

    def release(self) -> None:
        """Give the right back; nothing happens if that was done."""
        if self._lock is not None and self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> "Lock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _holder(self) -> str:
        try:
            number, _, work = self._file.read_text().strip().partition(" ")
            return f"{work or 'changed'} by process {int(number)}"
        except (OSError, ValueError):
            return "changed by another process"
