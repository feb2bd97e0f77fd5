"""The folder of a new run: it appears as a whole, and what it replaces stays until it has finished."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import final

from thalweg.errors import InputError
from thalweg.storage.files import remove_folder, sync_folder, temporary_name
from thalweg.storage.ledger import MANIFEST, Ledger
from thalweg.training.integrity.checkpoint_names import CHECKPOINTS, latest
from thalweg.training.integrity.claim import aside
from thalweg.training.integrity.replaced import drop


@final
class NewFolder:
    """A folder that appears as a whole, and goes again without a trace if the run never takes a step.

    The caller has its `Claim`.

    Args:
        folder: where it appears.
        files: what is in it.
        mark: the file by which the folder of a run is known.
        gives_way: whether a run that is there and has not finished makes room for good, if it replaces one that has.

    Raises:
        InputError: if something else than a run is there.
        OSError: if it cannot be written.
    """

    def __init__(self, folder: Path, files: Mapping[str, bytes], mark: str, *, gives_way: bool) -> None:
        self._folder = folder
        is_there = folder.exists() or folder.is_symlink()
        is_run = any((folder / name).is_file() for name in (mark, MANIFEST)) or latest(folder / CHECKPOINTS) is not None
        if is_there and not is_run:
            if not folder.exists():
                raise InputError(f"{folder} is a link that leads nowhere; remove it, or choose another --name.")
            raise InputError(
                f"{folder} is not a run folder (it has no {mark}), so --overwrite leaves it alone; choose a --name."
            )
        temporary = temporary_name(folder)
        try:
            temporary.mkdir()
            Ledger.create(temporary, files)
            if is_there and gives_way and aside(folder).exists():
                drop(folder, temporary)
            elif is_there:
                drop(aside(folder), folder)
                folder.rename(aside(folder))
            os.rename(temporary, folder)
            sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def discard(self) -> None:
        """The run never began: its folder goes, and what it replaced comes back."""
        remove_folder(self._folder)
        if aside(self._folder).exists():
            aside(self._folder).rename(self._folder)
