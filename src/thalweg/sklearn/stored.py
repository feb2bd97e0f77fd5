"""A run whose folder lives as long as the estimator that has trained it, and goes where the estimator is copied to."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, final

from thalweg.errors import InputError
from thalweg.storage.ledger import MANIFEST
from thalweg.training.folder.run import Run
from thalweg.training.integrity.run_files import REPORT


@final
class Folder:
    """A folder for runs: one that was named and stays, or a temporary one that is removed with this object."""

    def __init__(self, named: str | os.PathLike[str] | None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="thalweg-") if named is None else named)
        if named is None:
            weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, process: int) -> None:
    if os.getpid() == process:  # a forked process has a copy of the object, and leaves the folder alone
        shutil.rmtree(path, ignore_errors=True)


def contents_of(run: Run) -> dict[str, bytes]:
    """Return the files of a run that answering reads, by name, and the ledger of all; the report stays behind.

    Raises:
        InputError: if one is missing or damaged.
    """
    ledger = run.ledger
    files = {name: ledger.read(name) for name in ledger.sums if name != REPORT}
    return files | {MANIFEST: (run.folder / MANIFEST).read_bytes()}


def unpacked(files: dict[str, Any], folder: Folder) -> Run:
    """Write what `contents_of` gave into a folder, and return the run there.

    Raises:
        InputError: if these are not the files of a run.
    """
    for name, content in files.items():
        if Path(name).name != name or not isinstance(content, bytes):
            raise InputError(f"Expected the files of a run, got the name {name!r}.")
        (folder.path / name).write_bytes(content)
    return Run(folder.path)
