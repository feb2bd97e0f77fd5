"""Training examples that stay in their files: the blocks of one window at a time are read and become numbers."""

from collections.abc import Callable, Iterable
from typing import Final, final

import numpy as np

from thalweg.data.arrays.batches import Examples
from thalweg.data.blocks.windows import Windows

_PLACES: Final = 1 << 32  # that a block may have; an example is called `block * _PLACES + place`


@final
class Streamed:
    """The examples of some blocks of files, of which those of one window are in memory; used as `Examples` by a feed.

    Args:
        sizes: about how many examples each block has, int `[blocks]`, each at least 1.
        units: a number for each block; see `Windows`.
        read: yields the examples of each of some blocks, int in rising order, all with the same columns.
        spare: an example or more; the first stands in a process's share of a batch that would be empty, and counts for
            nothing.
    """

    def __init__(
        self,
        sizes: np.ndarray,
        units: np.ndarray,
        read: Callable[[np.ndarray], Iterable[Examples]],
        spare: Examples,
    ) -> None:
        self._sizes, self._units, self._read, self._spare = sizes, units, read, spare
        self._held: tuple[np.ndarray, np.ndarray, Examples] | None = None  # blocks, where each begins, examples

    @property
    def lengths(self) -> None:
        """None: examples are not sorted by length, since nobody knows the lengths of all."""

    def __len__(self) -> int:
        """About how many examples there are."""
        return int(self._sizes.sum())

    def order(
        self, batch_size: int, *, seed: int, shuffle: bool, rank: int, world_size: int, batch_tokens: int = 0
    ) -> "StreamedOrder":
        """Return which examples are in which batch of `batch_size`; they are always shuffled."""
        assert shuffle, "only all data at once are not shuffled"
        assert not batch_tokens, "lengths are not known"
        windows = Windows(self._sizes, batch_size, seed=seed, units=self._units, rank=rank, world_size=world_size)
        return StreamedOrder(self, windows)

    def rows(self, indices: np.ndarray) -> tuple[Examples, np.ndarray]:
        """Return examples in memory, and the places in them of those that the order has just called `indices`."""
        if not len(indices) or self._held is None:
            return self._spare, np.zeros(len(indices) or 1, dtype=np.int64)
        blocks, starts, examples = self._held
        return examples, starts[np.searchsorted(blocks, indices // _PLACES)] + indices % _PLACES

    def hold(self, blocks: np.ndarray) -> np.ndarray:
        """Read these blocks, int in rising order, in place of those before; return how many examples each has."""
        if self._held is not None and np.array_equal(self._held[0], blocks):
            return np.diff(self._held[1], append=len(self._held[2]))
        self._held = None  # before others are read: one window is in memory, not two
        parts = list(self._read(blocks))
        counts = np.array([len(part) for part in parts], dtype=np.int64)
        joined = self._spare.take([]).followed_by(*parts)
        self._held = blocks, np.cumsum(counts) - counts, joined
        return counts


@final
class StreamedOrder:
    """Which examples of `Streamed` are in which batch; see `Windows`. It has what `thalweg.data.arrays.Order` has."""

    def __init__(self, streamed: Streamed, windows: Windows) -> None:
        self._streamed, self._windows, self.num_batches = streamed, windows, windows.num_batches
        self._window: tuple[tuple[int, int], np.ndarray, np.ndarray] | None = None

    def batch(self, epoch: int, index: int) -> np.ndarray:
        """Return this process's examples of a batch, int64, after reading what they are in; there may be none."""
        window, number = self._windows.place(epoch, index)
        blocks = self._windows.blocks(epoch, window)
        counts = self._streamed.hold(blocks)
        if self._window is None or self._window[0] != (epoch, window):
            pairs = list(zip(blocks.tolist(), counts.tolist(), strict=True))
            names = [block * _PLACES + np.arange(count) for block, count in pairs]
            dealt = [self._windows.dealt(epoch, window, block, count) for block, count in pairs]
            batches = np.concatenate([np.zeros(0, dtype=np.int64), *dealt])
            order = np.argsort(batches, kind="stable")
            called = np.concatenate([np.zeros(0, dtype=np.int64), *names])[order]
            self._window = (epoch, window), called, batches[order]
        _, called, batches = self._window
        return called[np.searchsorted(batches, number) : np.searchsorted(batches, number, side="right")]
