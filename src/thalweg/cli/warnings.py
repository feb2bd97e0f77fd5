"""Warnings while a run trains: each trouble that its history shows, said once."""

from collections.abc import Callable
from typing import Any, Final, final

MAX_KEPT: Final = 2000  # entries that are looked at, the newest


@final
class LiveWarnings:
    """Takes history entries, and says what is new when a measured step, an evaluation or a rejected step comes.

    Args:
        say: takes a sentence, above the progress bar.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._entries: list[dict[str, Any]] = []
        self._said: set[str] = set()

    def take(self, entry: dict[str, Any]) -> None:
        """Take the next entry."""
        from thalweg.diagnosis.live import warnings_of

        self._entries.append(entry)
        if len(self._entries) > MAX_KEPT:  # the first steps say where the loss has started
            del self._entries[MAX_KEPT // 4 : MAX_KEPT // 2]
        if "sites" not in entry and entry["event"] not in {"evaluation", "rejected"}:
            return
        for name, sentence in warnings_of(self._entries).items():
            if name not in self._said:
                self._said.add(name)
                self._say(f"Warning: {sentence}")
