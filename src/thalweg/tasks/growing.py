"""A task begun from another: which of its words, features and labels the other has, and where they are now."""

import dataclasses
from collections.abc import Callable
from typing import final

import numpy as np

from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import counted


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Growth:
    """Entries of a kind, each of which has a row in the weights.

    Args:
        what: what one is called.
        old: how many there were.
        new: how many there are.
        rows: where each of the old ones is now, int64 `[old]`.
    """

    what: str
    old: int
    new: int
    rows: np.ndarray

    @property
    def told(self) -> str:
        """How many are new, in words; "" for none.

        Example:
            >>> grown("word", 8, 10).told, grown("label", 2, 2).told
            ('2 of 10 words', '')
        """
        return f"{self.new - self.old:,} of {counted(self.new, self.what)}" if self.new > self.old else ""


def grown(what: str, old: int, new: int) -> Growth:
    """Return the growth where new entries come after the old ones."""
    return Growth(what, old, new, np.arange(old))


def tokenizer_from(old: Tokenizer | None, train: Callable[[], Tokenizer], limit: int) -> Tokenizer:
    """Return the tokenizer that `train` makes of new data, or an old one with the new words after its own.

    Args:
        old: None where there is no old one.
        train: makes one of the new data alone.
        limit: maximum vocabulary size; new words have the room that the old ones leave. Tokenizers of other kinds than
            words read any text, and are kept as they are.
    """
    if old is None:
        return train()
    if not old.has_words or limit <= old.vocabulary_size:
        return old
    return old.with_words(train().entries, limit)


def names_from(old: tuple[str, ...] | None, found: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that were found, after the old ones where there are some.

    Example:
        >>> names_from(("no", "yes"), ("maybe", "yes")), names_from(None, ("a", "b"))
        (('no', 'yes', 'maybe'), ('a', 'b'))
    """
    return tuple(dict.fromkeys([*(old or ()), *found]))
