"""Everything in a folder compared with what was written, and repaired where that is possible."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from thalweg.errors import InputError, counted
from thalweg.storage.files import TEMPORARY, leftovers, remove
from thalweg.storage.ledger import MANIFEST, Ledger
from thalweg.training.folder.resuming import has_result
from thalweg.training.folder.run import Run
from thalweg.training.integrity import checkpoint_names
from thalweg.training.integrity.checkpoint_names import CHECKPOINTS
from thalweg.training.integrity.claim import Claim, aside, leftovers_beside
from thalweg.training.integrity.history import damage, damaged_line
from thalweg.training.integrity.replaced import drop
from thalweg.training.integrity.run_files import HISTORY, WEIGHTS

WHOLE: Final = "whole"


@final
@dataclass(frozen=True)
class Found:
    """What was found about a folder: for each file "whole" or what is wrong with it, and what was repaired."""

    folder: Path
    files: dict[str, str]
    repairs: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        found = {"run": str(self.folder), "whole": self.is_whole, "files": self.files}
        return found | {"repairs": list(self.repairs), "notes": list(self.notes)}

    @property
    def is_whole(self) -> bool:
        """Whether no file is missing or damaged."""
        return all(state == WHOLE for state in self.files.values())


def verify(folder: str | Path) -> Found:
    """Compare every file of a run (or a stream's model) and of its checkpoints with what was written.

    A change that a crash has interrupted is completed, what it left unfinished is removed, and a run that was put aside
    for one that never appeared comes back.

    Raises:
        InputError: if there is no such folder, or another process is at work on it.
    """
    folder = Path(folder)
    repairs: list[str] = []
    with _claimed(folder, repairs):
        if not folder.is_dir():
            raise InputError(f"There is no run folder {folder}; expected one that `thalweg train` made.")
        is_run = (folder / MANIFEST).exists() or (folder / "recipe.toml").exists()
        places = checkpoint_names.steps(folder / CHECKPOINTS if is_run else folder)
        if not is_run and not places:
            raise InputError(f"{folder} is no run folder: it has no {MANIFEST}; give one that `thalweg train` made.")
        files: dict[str, str] = {}
        if is_run:
            files |= _states(folder, "", repairs)
            files |= _history(folder, places, files)
        for place in places:
            files |= _states(place, f"{place.relative_to(folder)}/", repairs)
        for path in (*leftovers(folder), *leftovers(folder / CHECKPOINTS)):
            remove(path)
            repairs.append(f"removed {path.relative_to(folder)}, which was left unfinished")
        notes = tuple(_about_replaced(folder, repairs)) + tuple(_about_run(folder, files) if is_run else ())
    return Found(folder, files, tuple(repairs), notes)


@contextlib.contextmanager
def _claimed(folder: Path, repairs: list[str]) -> Iterator[None]:
    """Claim a folder, and tell what that repairs; what cannot be written is looked at all the same."""
    before = set(leftovers_beside(folder))
    was_there = folder.exists()
    if not folder.exists() and not folder.parent.is_dir():
        raise InputError(f"There is no run folder {folder}; expected one that `thalweg train` made.")
    with Claim(folder, "verified"):
        repairs += [f"removed {path}, which was left unfinished" for path in sorted(before) if not path.exists()]
        if folder.exists() and not was_there:
            repairs.append(f"put {aside(folder)} back, for which no other run has appeared")
        yield


def _states(folder: Path, where: str, repairs: list[str]) -> dict[str, str]:
    """Return the state of every file in a folder's ledger."""
    try:
        ledger = Ledger(folder, remedy="")
    except InputError as error:
        return {f"{where}{MANIFEST}": _short(error, folder / MANIFEST)}
    for name in ledger.complete():
        unfinished = name.endswith(TEMPORARY)
        repairs.append(
            f"removed {where}{name}, which was left unfinished"
            if unfinished
            else f"completed the change of {where}{name}"
        )
    states = {f"{where}{MANIFEST}": WHOLE}
    for name in sorted(ledger.sums):
        try:
            ledger.path(name)
            states[f"{where}{name}"] = WHOLE
        except InputError as error:
            states[f"{where}{name}"] = _short(error, folder / name)
    return states


def _history(folder: Path, places: list[Path], known: dict[str, str]) -> dict[str, str]:
    """Return the state of the history of a run that has not finished, as its newest whole checkpoint knows it."""
    path = folder / HISTORY
    if HISTORY in known:
        line = None if known[HISTORY] == WHOLE else damaged_line(path)
        return {} if line is None else {HISTORY: f"damaged in line {line:,}"}
    for place in reversed(places):
        with contextlib.suppress(InputError, KeyError, TypeError):
            from_then = checkpoint_names.history_of(place)
            return {HISTORY: damage(path, from_then).removeprefix("is ") or WHOLE}
    return {}


def _about_replaced(folder: Path, repairs: list[str]) -> Iterator[str]:
    """Remove what a finished run replaces; tell of what waits for one that has not finished."""
    old = aside(folder)
    if not old.exists():
        return
    if has_result(folder):
        drop(old, folder)
        repairs.append(f"removed {old}, which {folder} has replaced")
    else:
        yield (
            f"{old} is the run that {folder} replaces; it goes when {folder} has finished. To have it back, remove "
            f"{folder} and verify again."
        )


def _about_run(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    """Tell whether a run has finished, and where it goes on; nothing of one that does not, whose files say why."""
    try:
        run = Run(folder)
        places = checkpoint_names.steps(folder / CHECKPOINTS)
        damaged = {name.rpartition("/")[0] for name, state in files.items() if state != WHOLE and name != WEIGHTS}
        whole = [place for place in places if str(place.relative_to(folder)) not in damaged]
        if run.finished:
            yield run.status.value
        elif "" in damaged:
            return
        elif not places:
            yield "The run has not begun: it has no checkpoint; the same command begins it."
        elif whole:
            same = whole[-1] == places[-1]
            how = "by the same command" if same else f"with thalweg train --resume-from {whole[-1]}"
            yield f"The run goes on behind {counted(int(whole[-1].name.rpartition('-')[2]), 'step')} {how}."
    except (InputError, ValueError, KeyError):
        return  # its files say why


def _short(error: InputError, path: Path) -> str:
    """Return what is wrong with a file, without its name and without a remedy."""
    said = str(error).removeprefix(f"{path} ").rpartition("; ")[0]
    return said.removeprefix("is ").partition(", so that")[0]
