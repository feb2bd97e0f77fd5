"""What a stranger's recipe or run may not do by itself: name code to be imported, lead out of its folder."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from thalweg.errors import InputError

KNOWN: Final = ("torch.optim.", "thalweg.optim.")  # begin the import paths that name no code of others


def names_code(optimizer: str) -> bool:
    """Whether the name of an optimizer is an import path that leads out of PyTorch and this library.

    Example:
        >>> names_code("adamw"), names_code("torch.optim.AdamW"), names_code("pytorch_optimizer.SOAP")
        (False, False, True)
    """
    return "." in optimizer and not optimizer.startswith(KNOWN)


def require_trust(optimizer: str, given: Mapping[str, Any] | None, where: str | Path, *, trust: bool) -> None:
    """Raise an `InputError` where an optimizer is code that only a file names; importing it would run it.

    Args:
        optimizer: as the options name it that are used.
        given: the options that the user gave; what he names is his own. None: the command takes no such options.
        where: the file or the run that the others are from.
        trust: whether the user trusts who wrote it.
    """
    if not names_code(optimizer) or trust or (given or {}).get("optimizer") == optimizer:
        return
    yours = "" if given is None else f", or --optimizer {optimizer} if it is your own"
    raise InputError(
        f"{where} names code, {optimizer}, which would be imported and run: give --trust (trust=True in Python) if you "
        f"trust whoever wrote {where}{yours}."
    )


def require_inside(folder: Path) -> None:
    """Raise an `InputError` where a link in a run's folder leads out of it, since training would write there.

    Args:
        folder: of a run that goes on; it may be a link itself.
    """
    whole = os.path.realpath(folder)  # which follows a link to itself as far as it goes; `resolve` raises an error
    for path in (folder / "checkpoints", *(folder / "checkpoints").rglob("*")):  # other links are replaced
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(whole):
            raise InputError(
                f"{path} is a link that leads out of the run, and training would write there; put what it leads to in "
                "its place."
            )
