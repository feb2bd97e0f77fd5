"""Texts that come with different labels: in which rows, and what that costs every model that reads the text alone."""

import dataclasses
import hashlib
import math
from typing import Final, NamedTuple, final

from thalweg.data.inspection.tallies import SHOWN_LENGTH

SHOWN_LABELS: Final = 5  # of one text
SHOWN_LINES: Final = 5  # of one label of it


@final
@dataclasses.dataclass(frozen=True)
class Conflict:
    """One text that comes with different labels."""

    text: str  # its beginning
    num_rows: int
    num_labels: int
    labels: tuple[str, ...]  # the most frequent ones first, at most 5
    counts: tuple[int, ...]  # rows with each of these labels
    lines: tuple[tuple[int, ...], ...]  # the lines of the first rows with each of them, at most 5
    errors: int  # so many rows get a wrong answer at least
    nats: float | None  # the sum of their cross-entropies is so large at least; None where a row has several labels


@final
@dataclasses.dataclass(frozen=True)
class Conflicts:
    """All texts that come with different labels, as sums, and the costliest of them."""

    num_texts: int
    num_rows: int
    errors: int
    nats: float | None
    worst: tuple[Conflict, ...]


@final
class Answer(NamedTuple):
    """The answer of a row: its line, a hash of its label (tags, number), and the label's beginning; None: no label."""

    line: int
    key: int
    shown: str | None

    @classmethod
    def of(cls, line: int, target: str | None) -> "Answer":
        """Return the answer of a row whose label is written like this."""
        return cls(line, 0, None) if target is None else cls(line, hash_of(target), target[:SHOWN_LENGTH])


@final
class ConflictTally:
    """Counts the labels of texts that come again; `single` says that a row has exactly one label."""

    def __init__(self, *, single: bool) -> None:
        self.single = single
        # Hash of a text -> its beginning, and for each label: label, number of rows, first lines.
        self._texts: dict[int, tuple[str, dict[int, tuple[str, int, tuple[int, ...]]]]] = {}

    def add(self, key: int, text: str, first: Answer, again: Answer) -> None:
        """Take a row whose text was on an earlier line, `first`."""
        start = {first.key: (first.shown or "", 1, (first.line,))}
        _, labels = self._texts.setdefault(key, (text[:SHOWN_LENGTH], start))
        shown, count, lines = labels.get(again.key, (again.shown or "", 0, ()))
        labels[again.key] = (shown, count + 1, (*lines, again.line) if len(lines) < SHOWN_LINES else lines)

    def result(self, num_examples: int) -> Conflicts:
        """Return what was found, with the costliest `num_examples` texts."""
        found = [self._conflict(text, labels) for text, labels in self._texts.values() if len(labels) > 1]
        found.sort(key=lambda one: (-(one.nats or 0.0), -one.errors, min(map(min, one.lines))))
        nats = math.fsum(one.nats or 0.0 for one in found) if self.single else None
        return Conflicts(
            len(found),
            sum(one.num_rows for one in found),
            sum(one.errors for one in found),
            nats,
            tuple(found[:num_examples]),
        )

    def _conflict(self, text: str, labels: dict[int, tuple[str, int, tuple[int, ...]]]) -> Conflict:
        entries = sorted(labels.values(), key=lambda entry: (-entry[1], entry[2][0]))
        counts = [count for _, count, _ in entries]
        total = sum(counts)
        nats = total * math.log(total) - math.fsum(count * math.log(count) for count in counts)
        shown = entries[:SHOWN_LABELS]
        return Conflict(
            text,
            total,
            len(entries),
            tuple(label for label, _, _ in shown),
            tuple(count for _, count, _ in shown),
            tuple(lines for _, _, lines in shown),
            total - counts[0],
            nats if self.single else None,
        )


def hash_of(text: str) -> int:
    """Return a 64-bit hash of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
