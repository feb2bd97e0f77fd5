"""A run by its folder and the checksum of its weights, as a recipe names the one that it begins with."""

import re
from pathlib import Path
from typing import Final

from thalweg.errors import InputError
from thalweg.storage.ledger import Ledger
from thalweg.training.folder.run import Run
from thalweg.training.integrity.run_files import WEIGHTS

DIGITS: Final = 16  # of the checksum of the weights, in the recipe: `runs/a#0123456789abcdef`


def run_named(reference: str) -> Run:
    """Return the run that a reference (a folder, and a checksum of its weights or none) means.

    An InputError tells of one that is missing, damaged, without weights, or has changed.
    """
    folder, expected = _parts(reference)
    run = Run(folder)
    run.verify()
    run.require_weights()
    if expected not in ("", found := _checksum(folder)):
        raise InputError(
            f"{folder} has changed: its weights have the checksum {found}, and the recipe starts from {expected}; "
            f"restore that run, or give --start-from {folder} for the weights that are there now."
        )
    return run


def reference_to(run: Run) -> str:
    """Return the folder of a run with the checksum of its weights."""
    return f"{run.folder}#{_checksum(run.folder)}"


def _parts(reference: str) -> tuple[Path, str]:
    """Return the folder that a reference names, and the checksum of its weights, "" where it names none."""
    match = re.fullmatch(rf"(.*)#([0-9a-f]{{{DIGITS}}})", reference, flags=re.S)
    return (Path(match[1]), match[2]) if match else (Path(reference), "")


def _checksum(folder: Path) -> str:
    return Ledger(folder).sums[WEIGHTS].sha256[:DIGITS]
