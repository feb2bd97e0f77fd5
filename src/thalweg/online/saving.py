"""Saving while a stream goes on: again and again, whether rows come or not, and without making them wait."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, final

from thalweg.errors import InputError
from thalweg.online.base import save_state
from thalweg.online.progress import Progress

_SHORTEST: Final = 0.01  # seconds between two looks at whether there is something to save


@final
class Saver:
    """Saves what is learned from a stream in a thread of its own, every so many seconds if rows have come.

    What is written is a copy, which is taken between two rows: the model changes only where `changing` is held. A save
    that fails (on a full disk, say) is told and tried again.

    Args:
        folder: where it is saved.
        snapshot: returns what is to be saved; called with `changing` held.
        progress: counts the rows.
        seconds: between two saves.
        say: takes the sentence about a save that fails.
        replaces: whether what is in the folder already is of another model; it goes with the first save, which waits
            until something has been learned.
    """

    def __init__(
        self,
        folder: Path,
        snapshot: Callable[[], Mapping[str, Any]],
        progress: Progress,
        *,
        seconds: float,
        say: Callable[[str], None],
        replaces: bool = False,
    ) -> None:
        self.changing = threading.Lock()
        self.problem = ""  # why the latest save has failed
        self._folder, self._snapshot, self._progress, self._say = folder, snapshot, progress, say
        self._seconds, self._replaces = max(seconds, _SHORTEST), replaces
        self._known_rows = progress.num_rows  # that are saved, or were there before
        self._has_saved = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="thalweg-saver", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """End the thread, and save what it has not; `changing` is not held."""
        self._ending.set()
        self._thread.join()
        if (not self._has_saved or self._progress.num_rows != self._known_rows) and not self._waits:
            self._save()

    def _run(self) -> None:
        while not self._ending.wait(self._seconds):
            if self._progress.num_rows == self._known_rows or self._waits:
                continue
            try:
                self._save()
                self.problem = ""
            except (OSError, InputError, MemoryError) as error:
                if not self.problem:
                    self._say(f"What was learned can't be saved now ({error}); it will be tried again.")
                self.problem = str(error)

    @property
    def _waits(self) -> bool:
        return self._replaces and not self._progress.num_learned

    def _save(self) -> None:
        with self.changing:
            num_rows, state = self._progress.num_rows, self._snapshot()
        save_state(self._folder, state, keep=1 if self._replaces else 2)
        self._known_rows, self._has_saved, self._replaces = num_rows, True, False
