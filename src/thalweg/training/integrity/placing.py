"""Which folder a run has: that of an unfinished run of the same recipe, or a new one of the next free name."""

import contextlib
import re
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final, final

from thalweg.data.containers.places import short_name
from thalweg.errors import InputError, shown
from thalweg.storage.lock import HeldError
from thalweg.training.folder import run
from thalweg.training.folder.resuming import is_ending
from thalweg.training.integrity import checkpoint_names
from thalweg.training.integrity.checkpoint_names import CHECKPOINTS
from thalweg.training.integrity.claim import Claim
from thalweg.training.recipe.recipe import Recipe

LONGEST_NAME: Final = 200  # bytes of a folder's name: beside it are hidden ones, which are longer
_ENDINGS: Final = "csv|t(?:sv|ab|xt|mx|oml|ar|gz)|jsonl?|ndjson|conllu?|parquet|arrow|feather|xls[xm]|zip|xz|gz|bz2|zst"

WAITS: Final = 100  # for a folder that another process is about to make
SECONDS_OF_WAIT: Final = 0.05


@final
@dataclass(frozen=True)
class Wanted:
    """A run that is to have a folder."""

    out: Path  # holds runs
    recipe: Recipe
    is_timed: bool  # whether a time limit sets the number of steps
    overwrite: bool  # whether a run of the same name makes room
    resume: Path | None  # the run that is to go on; None: whichever fits

    def look(self) -> tuple[Path, bool]:
        """Return the folder as it is now, and whether the unfinished run in it goes on; nothing is written."""
        if self.resume is not None:
            return self.resume, True
        for folder in self._folders():
            if self.overwrite or not folder.exists():
                return folder, False
            if self._goes_on(folder):
                return folder, True
        raise AssertionError("the numbers have no end")

    def claim(self) -> tuple[Claim, bool, str]:
        """Claim the folder; return the claim, whether the run in it goes on, and what to tell about that.

        An InputError says that another process is training this run.
        """
        if self.resume is not None:
            return Claim(self.resume), True, ""
        wanted = self.out / self.recipe.run.name
        for folder in self._folders():
            try:
                claim = _claimed(folder)
            except HeldError:
                if self.overwrite or not folder.exists() or self._goes_on(folder):
                    raise
                continue  # another run, which is being trained
            if self.overwrite or not folder.exists():
                kept = f"{wanted} is kept; the new run is {folder} (--overwrite to replace the old one)."
                return claim, False, "" if folder == wanted else kept
            if self._goes_on(folder):
                return claim, True, f"Resuming the unfinished run {folder} (--overwrite to start over)."
            claim.release()
        raise AssertionError("the numbers have no end")

    def _folders(self) -> Iterator[Path]:
        name = self.recipe.run.name
        return (self.out / (name if number == 1 else f"{name}-{number}") for number in count(1))

    def _goes_on(self, folder: Path) -> bool:
        """Whether a folder holds an unfinished run of the same recipe.

        An InputError tells of one that has begun and cannot be read, since it may be this one.
        """
        try:
            existing = run.Run(folder)
            is_finished = existing.finished and not is_ending(existing)
            return not is_finished and _same(existing.recipe, self.recipe, self.is_timed)
        except InputError as error:
            if checkpoint_names.latest(folder / CHECKPOINTS) is None:
                return False
            raise InputError(f"{error} Or give another --name, or start over with --overwrite.") from None


def folder_name(text: str, also: str = "") -> str:
    """Return a text as the name of a folder: letters, digits, dots, dashes, underscores, and what is allowed `also`.

    Example:
        >>> folder_name("../../my run"), folder_name(".x.lock"), folder_name("..")
        ('my-run', 'x.lock', 'run')
    """
    name = re.sub(rf"[^\w.{re.escape(also)}-]+", "-", unicodedata.normalize("NFC", text)).strip("-.")
    return name.encode()[:LONGEST_NAME].decode(errors="ignore").rstrip("-.") or "run"


def run_name(source: str) -> str:
    """Return what the run on a source is called, where it has no name.

    Example:
        >>> run_name("data/reviews.csv.gz")
        'reviews'
    """
    return folder_name(re.sub(rf"\.({_ENDINGS})\b", "", short_name(source), flags=re.IGNORECASE))


def renamed(name: str) -> list[str]:
    """Return a sentence about a name that was given and cannot be that of a folder; none where it can."""
    if not name or folder_name(name) == name:
        return []
    return [
        f"--name {shown(name)} is {shown(folder_name(name))} as the name of a folder: letters, digits, dots, dashes "
        f"and underscores, at most {LONGEST_NAME} bytes."
    ]


def _claimed(folder: Path) -> Claim:
    """Claim a folder; where another process is about to make it, wait until it is there and shows what run it is."""
    for _ in range(WAITS):
        with contextlib.suppress(HeldError):
            return Claim(folder)
        if folder.exists():
            break
        time.sleep(SECONDS_OF_WAIT)
    return Claim(folder)


def _same(left: Recipe, right: Recipe, timed: bool) -> bool:
    """Whether two recipes are the same, apart from the number of steps where a time limit sets it."""
    sections = [recipe.to_dict() for recipe in (left, right)]
    chosen = [section["training"]["select"] for section in sections]
    for section in sections:
        section["run"].pop("name")
        section["training"].pop("log")  # changes nothing that is computed
        if chosen[0] == chosen[1] != "none":
            for part, name in (("training", "l2"), ("training", "optimizer"), ("model", "model")):
                section[part].pop(name)
        if timed:
            section["training"].pop("steps")
            section["training"].pop("epochs")
    return sections[0] == sections[1]
