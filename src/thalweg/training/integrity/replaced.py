"""A run that another one replaces: it goes, and files of the user's own in its folder stay."""

import contextlib
import os
from pathlib import Path

from thalweg.errors import InputError
from thalweg.storage.files import TEMPORARY, remove_folder
from thalweg.storage.ledger import MANIFEST, Ledger
from thalweg.training.integrity.checkpoint_names import CHECKPOINTS


def drop(old: Path, new: Path) -> None:
    """Remove the folder of a run, if it is there; what in it is none of the run's goes into the folder of another one.

    Where its name is taken there, it becomes `NAME.replaced`.
    """
    if not old.is_dir() or old.is_symlink():
        remove_folder(old)
        return
    own = {MANIFEST, CHECKPOINTS, ".lock"}
    with contextlib.suppress(InputError):
        own |= set(Ledger(old).sums)
    for path in sorted(old.iterdir()):
        if path.name in own or path.name.endswith(TEMPORARY):
            continue
        is_taken = (new / path.name).exists()
        if is_taken and path.name in Ledger(new).sums | {"history.jsonl": None}:
            continue  # a file that runs have, and the ledger of the old one does not know
        os.rename(path, new / f"{path.name}{'.replaced' if is_taken else ''}")
    remove_folder(old)
