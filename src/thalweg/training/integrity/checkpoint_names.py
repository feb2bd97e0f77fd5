"""Which checkpoints there are, by the names of their folders, and whether one is whole; what is in one is not read."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from thalweg.errors import InputError, is_out_of_memory
from thalweg.storage.files import Sum
from thalweg.storage.forms import record, text, whole
from thalweg.storage.ledger import MANIFEST, Ledger

CHECKPOINTS: Final = "checkpoints"  # the folder of a run's
_NAME: Final = re.compile("step-[0-9]{8,}")


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint under `folder`, or None when there is none."""
    found = steps(folder)
    return found[-1] if found else None


def ledger_of(checkpoint: Path) -> Ledger:
    """Return the ledger of a checkpoint; an InputError tells of damage, and names an older one that is whole."""
    return Ledger(checkpoint, remedy=lambda: f"it is not used; {_instead_of(checkpoint)}")


def _instead_of(checkpoint: Path) -> str:
    """Return what to do about a checkpoint that is damaged."""
    older = [path for path in steps(checkpoint.parent) if path.name < checkpoint.name and _is_whole(path)]
    if not older:
        return "start again with --overwrite"
    if checkpoint.parent.name == CHECKPOINTS:
        return f"give --resume-from {older[-1]} to go on from there"
    return f"remove {checkpoint} to go on from {older[-1].name}"  # a stream's model, which has nothing but checkpoints


def _is_whole(checkpoint: Path) -> bool:
    try:
        Ledger(checkpoint).verify()
    except InputError:
        return False
    return True


@contextlib.contextmanager
def sound(path: Path) -> Iterator[None]:
    """Tell of a file that does not hold what was saved there, whatever is wrong with it; `path` is in a checkpoint."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if (
            isinstance(error, InputError)
            or is_out_of_memory(error)
            or (isinstance(error, RuntimeError) and type(error) not in (RuntimeError, RecursionError))
        ):
            raise  # an error that says itself what it is, such as one of second derivatives or of no memory
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = ledger_of(path.parent).remedy
        raise InputError(
            f"{path} is damaged, or from another model or optimizer ({type(error).__name__}: {reason}); {remedy}."
        ) from None


_HISTORY_OF: Final = record(num_bytes=whole(0), sha256=text())


def history_of(checkpoint: Path) -> Sum:
    """Return the sum of what a run's history held when a checkpoint was written; an InputError tells of damage."""
    with sound(checkpoint / MANIFEST):
        known = _HISTORY_OF(ledger_of(checkpoint).about.get("history"), "about.history")
    return Sum(known["num_bytes"], known["sha256"])


def steps(folder: Path) -> list[Path]:
    """Return the checkpoints under a folder, the oldest first; what has another name, such as a copy, is none."""
    found = (path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir())
    return sorted(found, key=lambda path: int(path.name[5:]))


def is_online(folder: Path) -> bool:
    """Whether a folder holds a model that learns from a stream: its checkpoints, and no recipe, nor those of a run."""
    return run_with(folder) is None and latest(folder) is not None


def run_with(folder: Path) -> Path | None:
    """Return the run that a folder is, or is inside of (its checkpoints, or one of these); None: no run."""
    places = (folder, *(place.parent for place in (folder, folder.parent) if place.name == CHECKPOINTS))
    return next((place for place in places if (place / "recipe.toml").is_file()), None)
