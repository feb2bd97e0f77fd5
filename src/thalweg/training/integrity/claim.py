"""The right to a run's folder, before it is there and until the work on it is done."""

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import final

from thalweg.errors import InputError
from thalweg.storage.files import leftovers, make_folder, remove
from thalweg.storage.lock import Lock


@final
class Claim:
    """The right to make, change or replace the folder of a run; given back at the end of a `with`.

    With it, what a killed process has left unfinished beside the folder is removed, and a run that was put aside for
    one that never appeared comes back.

    Args:
        folder: the run's folder, there or not.
        work: what is done with it, as another process is told.

    Raises:
        InputError: if another process has it, or nothing can be written there.
    """

    def __init__(self, folder: Path, work: str = "trained") -> None:
        self.folder = folder
        parent = _named(folder).parent
        self._made = [one for one in (parent, *parent.parents) if not one.exists()]
        try:
            make_folder(parent)
        except OSError as error:
            self._remove_parents()
            raise InputError(f"The run cannot be written under {parent} ({error.strerror}); give --out.") from None
        try:
            self.lock = Lock(folder, work)
        except BaseException:
            self._remove_parents()
            raise
        for path in leftovers_beside(folder):
            with contextlib.suppress(OSError):
                remove(path)
        if not folder.exists() and aside(folder).exists():
            aside(folder).rename(folder)

    def release(self) -> None:
        """Give the right back; nothing happens if that was done."""
        self.lock.release()
        self._remove_parents()

    def __enter__(self) -> "Claim":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _remove_parents(self) -> None:
        with contextlib.suppress(OSError):  # something is in one by now
            for folder in self._made:
                folder.rmdir()


def aside(folder: Path) -> Path:
    """Return where a run is that another one of its name replaces, until that one has finished."""
    folder = _named(folder)
    return folder.with_name(f".{folder.name}.replaced")


def leftovers_beside(folder: Path) -> list[Path]:
    """Return what killed processes have left beside a run's folder, unfinished or half removed."""
    folder = _named(folder)
    return [path for name in (folder.name, aside(folder).name) for path in leftovers(folder.parent, name)]


def _named(folder: Path) -> Path:
    """Return a folder by its name, which "." and ".." have not."""
    if folder.name in ("", ".."):
        folder = Path(os.path.abspath(folder))
    if not folder.name:
        raise InputError(f"{folder} is no folder that a run can have; give one such as runs/reviews.")
    return folder
