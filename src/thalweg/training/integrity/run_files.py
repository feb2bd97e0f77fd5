"""The files of a run's folder, and what they say of the run without its networks."""

import contextlib
import json
import os
from abc import ABC
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.storage.files import Sum
from thalweg.storage.ledger import Ledger
from thalweg.storage.lock import HeldError
from thalweg.training.integrity.claim import Claim
from thalweg.training.integrity.contents import read_data, read_metrics
from thalweg.training.integrity.history import damage, damaged_line, finite, read_history
from thalweg.training.recipe.recipe import Recipe

RECIPE, HISTORY, METRICS, DATA = "recipe.toml", "history.jsonl", "metrics.json", "data.json"
CERTIFICATE, CERTIFICATE_ARRAYS = "certificate.json", "certificate.npz"
BEFORE_POLISH = "model.before-polish.safetensors"
WEIGHTS, REPORT = "model.safetensors", "report.html"
SELECTION, HELD_OUT, START = "selection.json", "held-out.safetensors", "start.safetensors"
TEACHER = "teacher.safetensors"  # what the run says that this one has learned from
DIAGNOSIS, DIAGNOSIS_PAGE = "diagnosis.json", "diagnosis.html"
# What answering does not read: each of these is compared with its checksum by what reads it.
_BESIDE: Final = {
    *(HISTORY, REPORT, METRICS, CERTIFICATE, CERTIFICATE_ARRAYS, BEFORE_POLISH, DIAGNOSIS, DIAGNOSIS_PAGE, TEACHER)
}


class AbstractFolder(ABC):
    """A run's folder: what its files say, whether they are whole, and the right to change them.

    Attributes:
        recipe: what the run was made from.
    """

    recipe: Recipe
    _data: dict[str, Any] | None
    _opened: dict[str, Sum]

    def _set_folder(self, folder: Path) -> None:
        self._folder, self._opened_in = folder, "" if folder.is_absolute() else os.getcwd()

    @property
    def folder(self) -> Path:
        """The run's folder as it was given; with its whole path where the working directory is another one now."""
        is_elsewhere = self._opened_in and self._opened_in != os.getcwd()
        return Path(self._opened_in, self._folder) if is_elsewhere else self._folder

    @property
    def ledger(self) -> Ledger:
        """What belongs to the folder, with the checksums of what was written, as it is on the disk."""
        return Ledger(self.folder)

    @property
    def basis(self) -> dict[str, Sum]:
        """The checksums of what its answers and figures come from, as the ledger has them now."""
        return {name: found for name, found in self.ledger.sums.items() if name not in _BESIDE}

    @contextlib.contextmanager
    def changing(self, work: str) -> Iterator[Ledger]:
        """The right to write what was found out about the run, and its ledger; `work` is what another process is told.

        An InputError says that another process has the right, or that the run is no longer what it was when it was
        opened.
        """
        with Claim(self.folder, work):
            if self.basis != self._opened:
                raise InputError(f"{self.folder} has been changed by another process meanwhile; repeat the command.")
            yield self.ledger
            self._opened = self.basis

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics on the validation data, of the weights that were kept; empty before the end."""
        return self.result.get("metrics", {})

    @property
    def result(self) -> dict[str, Any]:
        """What `metrics.json` says: status, metrics, best step, seconds ...; empty before the end."""
        ledger = self.ledger
        return read_metrics(ledger, METRICS) if METRICS in ledger else {}

    @property
    def status(self) -> Status:
        """How the run ended, or that it has not."""
        return Status[self.result.get("status", "RUNNING")]

    @property
    def finished(self) -> bool:
        """Whether the run ended by itself, so that there is nothing to resume."""
        return self.status not in {Status.RUNNING, Status.INTERRUPTED}

    @property
    def history(self) -> list[dict[str, Any]]:
        """The entries of `history.jsonl`, in order; an InputError says that a finished run's is damaged, and where."""
        if how := self.history_damage():
            raise InputError(f"{self.folder / HISTORY} {how}; restore it or train the run again.")
        return read_history(self.folder / HISTORY)

    def history_damage(self) -> str:
        """Return how the history of a finished run differs from what was written, or is damaged; "" where neither."""
        path, expected = self.folder / HISTORY, self.ledger.sums.get(HISTORY)
        if expected is None:
            return ""
        is_longer = path.is_file() and path.stat().st_size > expected.num_bytes
        if how := damage(path, expected) or (
            "has changed (there are more lines than were written)" if is_longer else ""
        ):
            return how
        line = damaged_line(path)  # with a checksum that fits it
        return "" if line is None else f"is damaged in line {line:,}"

    @property
    def data(self) -> dict[str, Any]:
        """What was read: source, checksum, columns, counts, notes."""
        if self._data is None:
            self._data = read_data(self.ledger, DATA, self.recipe.run.task)
        return self._data

    def require_weights(self) -> None:
        """Raise an InputError where the run has no weights, not yet or because none were finite."""
        if WEIGHTS in self.ledger:
            return
        if self.finished:
            raise InputError(f"{self.folder} has no weights. {self.status.value}")
        raise InputError(f"{self.folder} has no weights yet; repeat its `thalweg train` command.")

    def verify(self, *, weights: bool = True) -> None:
        """Compare what answering reads with its checksums; an InputError names a file that is missing or damaged.

        A run that goes on has its weights from a checkpoint, so without `weights` those are not compared.
        """
        ledger = self.ledger
        ledger.verify(set(ledger.sums) - _BESIDE - (set() if weights else {WEIGHTS}))

    def _complete(self) -> None:
        """Finish a change of several files that a crash has interrupted; a process that is at it does so itself."""
        try:
            with contextlib.suppress(HeldError), Claim(self.folder, "read"):
                self.ledger.complete()
        except OSError as error:
            raise InputError(
                f"{self.folder} was interrupted while its files were changed, and that cannot be completed here "
                f"({error.strerror}); run thalweg verify {self.folder} where it can be written."
            ) from None


def json_bytes(value: Any) -> bytes:
    """Return a value as the content of a JSON file; numbers that are not finite become null."""
    return (json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="replace")
