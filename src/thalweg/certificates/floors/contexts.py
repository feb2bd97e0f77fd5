"""Sequences whose next symbol is predicted from those before: which positions share a context, level by level.

A context of length k + 1 is one of length k with its next symbol. So one sort a level gives both: how often each symbol
follows each context, and the contexts of the next level. Positions whose context is theirs alone are left out from then
on (no floor comes from them), so that long contexts cost little. Everything is exact: nothing is hashed.
"""

import dataclasses
from collections.abc import Iterator
from typing import final

import numpy as np


@final
@dataclasses.dataclass(frozen=True)
class Level:
    """Which symbols follow the contexts of one length; contexts that occur once are left out."""

    group: np.ndarray  # number of the context, non-decreasing, int [num_pairs]
    label: np.ndarray  # the symbol that follows, int [num_pairs]
    count: np.ndarray  # how often, int [num_pairs]
    num_targets: int  # positions that are predicted at this level, those left out as well

    def nats_and_hits(self) -> tuple[float, int]:
        """Return the least possible sum of cross-entropies, and the largest number of right guesses."""
        if not len(self.group):
            return 0.0, self.num_targets
        starts = starts_of(self.group)
        groups = np.add.reduceat(self.count, starts)
        nats = float(_n_log_n(groups).sum() - _n_log_n(self.count).sum())
        hits = int(np.maximum.reduceat(self.count, starts).sum()) + self.num_targets - int(groups.sum())
        return max(0.0, nats), hits


def window_levels(symbols: np.ndarray, longest: int) -> Iterator[Level]:
    """Yield the levels of contexts of 0, 1, ... `longest` symbols before each position of one long text.

    The first positions have shorter contexts, which the beginning of the text tells apart from all others.

    Args:
        symbols: ids, int `[time]`, not negative.
        longest: length of the longest context.

    Example:
        >>> levels = list(window_levels(np.array([0, 1, 0, 1, 0, 0]), 2))
        >>> [round(level.nats_and_hits()[0], 3) for level in levels]  # of 6 symbols: 4 log 4 + ...
        [3.819, 1.91, 1.386]
    """
    continues = np.ones(len(symbols), dtype=bool)
    continues[-1:] = False
    start = np.arange(len(symbols))
    shared = _walk(symbols, start, np.zeros(len(symbols), dtype=np.int64), continues)
    nothing = np.zeros(0, dtype=np.int64)
    for _ in range(longest + 1):
        level = next(shared, Level(nothing, nothing, nothing, 0))
        yield dataclasses.replace(level, num_targets=len(symbols))


def prefix_levels(symbols: np.ndarray, lengths: np.ndarray, first: np.ndarray) -> Iterator[Level]:
    """Yield the levels of prefixes of 0, 1, ... symbols of many sequences, at last those that nothing shares as one.

    The symbols to predict are those of all sequences, one after the other, not negative, int `[total]`. What is known
    before the first one of each is a number, `first`: equal ones where it is the same, int `[num_sequences]`.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    ends = np.cumsum(lengths)
    continues = np.ones(len(symbols), dtype=bool)
    continues[ends[lengths > 0] - 1] = False
    real = np.flatnonzero(lengths > 0)
    levels = _walk(symbols, (ends - lengths)[real], np.asarray(first, dtype=np.int64)[real], continues)
    rest = len(symbols)
    for depth, level in enumerate(levels):
        num_targets = int((lengths > depth).sum())
        rest -= num_targets
        yield dataclasses.replace(level, num_targets=num_targets)
    nothing = np.zeros(0, dtype=np.int64)
    yield Level(nothing, nothing, nothing, rest)


def chunk_levels(symbols: np.ndarray, lengths: np.ndarray, longest: int) -> Iterator[Level]:
    """Yield the levels of contexts of 0, 1, ... `longest` symbols within the chunks of a text.

    A level predicts the symbols that have as many before them in their chunk, or more, from the last of these. The
    chunks stand one after the other, int `[total]`, and `lengths` holds the symbols of each, int `[num_chunks]`.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    continues = np.ones(len(symbols), dtype=bool)
    continues[np.cumsum(lengths)[lengths > 0] - 1] = False
    shared = _walk(symbols, np.arange(len(symbols)), np.zeros(len(symbols), dtype=np.int64), continues)
    nothing = np.zeros(0, dtype=np.int64)
    for depth in range(longest + 1):
        level = next(shared, Level(nothing, nothing, nothing, 0))
        yield dataclasses.replace(level, num_targets=int(np.maximum(0, lengths - depth).sum()))


def _walk(symbols: np.ndarray, positions: np.ndarray, groups: np.ndarray, continues: np.ndarray) -> Iterator[Level]:
    """Yield one level after the other, until no context is shared.

    The first level predicts the symbols at `positions`, whose contexts are the numbers `groups`; `continues` says
    whether the position after each one is predicted next.
    """
    if len(symbols) and (symbols.dtype.kind not in "iub" or symbols.min() < 0):
        raise ValueError(f"Symbols must be whole numbers, not negative; got {symbols.dtype}, {symbols.min()} and more.")
    width = int(symbols.max(initial=0)).bit_length()
    if width + len(symbols).bit_length() > 63:
        raise ValueError(f"Symbols must be smaller than 2^{63 - len(symbols).bit_length()}; got {symbols.max()}.")
    symbols = symbols.astype(np.int64)
    while len(positions):
        keys, order = _sorted((groups << width) | symbols[positions])
        starts = starts_of(keys)
        counts = np.diff(starts, append=len(keys))
        pairs = keys[starts]
        yield Level(*_shared(pairs >> width, pairs & ((1 << width) - 1), counts), num_targets=len(positions))
        often = counts > 1
        number = np.repeat(np.arange(np.count_nonzero(often)), counts[often])
        following = positions[order[np.repeat(often, counts)]]
        alive = continues[following]
        if not alive.all():
            following, number = following[alive], number[alive]
        positions, groups = following + 1, number


def starts_of(sorted_keys: np.ndarray) -> np.ndarray:
    """Return where each run of equal keys begins."""
    return np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]])[: len(sorted_keys)])


def _shared(group: np.ndarray, label: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave out groups that hold one position only, and number the others."""
    starts = starts_of(group)
    sizes = np.diff(starts, append=len(group))
    often = np.add.reduceat(count, starts) > 1
    keep = np.repeat(often, sizes)
    return np.repeat(np.arange(np.count_nonzero(often)), sizes[often]), label[keep], count[keep]


def _sorted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys in order, and where each was; in one sort of plain numbers where both fit into 63 bits."""
    bits = max(1, len(keys) - 1).bit_length()
    if int(keys.max(initial=0)).bit_length() + bits > 63:
        order = np.argsort(keys, kind="stable")
        return keys[order], order
    # The contexts come in order, so only the symbols within each have to be sorted: what a merge sort is quick at.
    packed = np.sort((keys << bits) | np.arange(len(keys)), kind="stable")
    return packed >> bits, packed & ((1 << bits) - 1)


def _n_log_n(counts: np.ndarray) -> np.ndarray:
    counts = counts.astype(np.float64)
    return counts * np.log(np.maximum(counts, 1.0))
