"""Entries of a training in anyone's loop, as `history.jsonl` has them; numbers are fetched when they are asked for."""

import math
from collections import Counter
from typing import Any, Final, final

from torch import Tensor

from thalweg.training.integrity.history import finite

MAX_ENTRIES: Final = 5000  # plain steps; of longer trainings every second, fourth ... is kept
FEWEST_CLIPPED: Final = 3
SAME: Final = 1e-5  # of norms that were clipped to one bound, relative


@final
class Record:
    """Entries in order; those of plain steps are thinned out where there are many."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._num_plain, self._every = 0, 1

    def add(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Append an entry; its 0-dim tensors become numbers later."""
        is_plain = _is_plain(entry)
        if is_plain and entry["step"] % self._every:
            return entry
        self._entries.append(entry)
        self._num_plain += is_plain
        if self._num_plain > MAX_ENTRIES:
            self._every *= 2
            self._entries = [one for one in self._entries if not _is_plain(one) or one["step"] % self._every == 0]
            self._num_plain = sum(map(_is_plain, self._entries))
        return entry

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries as plain values (waits for the device); numbers that are not finite are None.

        A step whose loss was not told has that of the next one whose was: loops tell the mean of several steps, too.
        """
        found, later = [], None
        for entry in reversed(self._entries):
            for key, value in entry.items():
                if isinstance(value, Tensor):
                    entry[key] = float(value)
            plain = dict(entry)
            if isinstance(losses := entry.get("loss"), list):  # as long as it may be told more
                losses[:] = map(float, losses)
                later = sum(losses) / len(losses) if losses else later
                plain["loss"] = later
                if later is None:  # nobody has told it yet
                    del plain["loss"]
            found.append(plain)
        found.reverse()
        norm = clipping_norm(found)
        if norm is not None:
            for entry in found:
                if entry["event"] == "step":
                    entry["clipped"] = abs(entry["grad_norm"] - norm) <= SAME * norm
        return [finite(entry) for entry in found]


def clipping_norm(entries: list[dict[str, Any]]) -> float | None:
    """Return the norm to which gradients were clipped before the step, or None.

    Where clipping is on, no norm is larger than its bound and several are equal to it up to rounding, while the loss
    changes.
    """
    steps = [entry for entry in entries if entry["event"] == "step"]
    norms = [norm for entry in steps if (norm := entry["grad_norm"]) and math.isfinite(norm)]
    losses = Counter(entry.get("loss") for entry in steps)
    largest = max(norms, default=0.0)
    equal = sum(largest - norm <= SAME * largest for norm in norms)
    return largest if equal >= FEWEST_CLIPPED and len(losses) > len(steps) // 2 else None


def _is_plain(entry: dict[str, Any]) -> bool:
    return entry["event"] == "step" and "layers" not in entry and "where" not in entry
