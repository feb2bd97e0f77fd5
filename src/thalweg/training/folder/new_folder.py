"""The folder of a new run: it appears as a whole, and two runs that begin at once get one each."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import final

from thalweg.errors import InputError


@final
class NewFolder:
    """A folder that appears as a whole, and goes again without a trace if the run never takes a step.

    Args:
        folder: where it appears.
        fill: writes the files into the folder it is given.
        mark: the file by which the folder of a run is known.
        replaces: whether a run that is there already is put aside, to come back if this one is discarded.

    Raises:
        InputError: if it cannot be written, or something else than a run is there.
        FileExistsError: if a run is there that this one does not replace, such as one that has just begun.
    """

    def __init__(self, folder: Path, fill: Callable[[Path], None], mark: str, *, replaces: bool) -> None:
        self._folder = folder
        self._aside = folder.with_name(f".{folder.name}.replaced")
        self._made_parent = not folder.parent.exists()
        if folder.exists() and not replaces:
            raise _taken(folder)
        if folder.exists() and not (folder / mark).is_file():
            raise InputError(
                f"{folder} is not a run folder (it has no {mark}), so --overwrite leaves it alone; choose a --name."
            )
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
        except OSError as error:
            where = folder.parent
            raise InputError(f"The run cannot be written under {where} ({error.strerror}); give --out.") from None
        try:
            fill(temporary)
            if replaces and folder.exists():
                shutil.rmtree(self._aside, ignore_errors=True)
                folder.rename(self._aside)
            _rename(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def keep(self) -> None:
        """The run is under way: what it replaces is removed."""
        shutil.rmtree(self._aside, ignore_errors=True)

    def discard(self) -> None:
        """The run never began: its folder goes, and what it replaced comes back."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._aside.exists():
            self._aside.rename(self._folder)
        elif self._made_parent:
            with contextlib.suppress(OSError):
                self._folder.parent.rmdir()


def _rename(temporary: Path, folder: Path) -> None:
    """Give a folder its name; a FileExistsError says that another one has it, whatever the system calls that."""
    try:
        os.rename(temporary, folder)
    except OSError:
        if folder.exists():
            raise _taken(folder) from None
        raise


def _taken(folder: Path) -> FileExistsError:
    return FileExistsError(f"{folder} is there already.")
