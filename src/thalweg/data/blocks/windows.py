"""Which examples of data in blocks are in which batch: a stateless function, of which each process reads its share."""

import math
from collections.abc import Sequence
from typing import Final, final

import numpy as np

WINDOW: Final = 128  # blocks whose rows are shuffled together; each belongs to one process
_LEAST_BATCHES: Final = 8  # of a window
_BLOCK_ORDER, _SLOTS, _ROWS = 1, 2, 3  # what is drawn: streams of random numbers that never meet


@final
class Windows:
    """The order of an epoch: blocks are permuted and read in windows of 128, and the examples of a window are mixed.

    The examples of each block are dealt out evenly over all batches of its window, in a random order. So a batch holds
    examples of all blocks of a window, its size differs from the others' by about one, and each example is in exactly
    one batch of an epoch. Which one it is depends on seed, epoch, and the sizes of the blocks, not on the processes:
    process `r` of `n` reads blocks `r, r + n, ...` of each window, and its share of a batch is what they have in it.

    Args:
        sizes: about how many examples each block has, int `[blocks]`, each at least 1.
        batch_size: examples of a batch over all processes together, at least 1.
        seed: seed of the order, 0 or more.
        units: a number for each block, never falling; blocks of one number are next to each other in every epoch, since
            they can be read one after the other only. None: each block by itself.
        rank: this process.
        world_size: number of processes, at most 128.

    Attributes:
        num_batches: batches of an epoch.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> windows = Windows([3, 2, 4], 3, seed=0)
        >>> windows.num_batches, sorted(windows.blocks(0, 0).tolist())
        (3, [0, 1, 2])
        >>> dealt = [windows.dealt(0, 0, block, size) for block, size in enumerate([3, 2, 4])]
        >>> np.bincount(np.concatenate(dealt)).tolist()
        [3, 3, 3]

    Source: Salmon, Moraes, Dror and Shaw (2011), Parallel Random Numbers: As Easy as 1, 2, 3 (Philox, the generator
    that is keyed by seed and epoch).
    """

    def __init__(
        self,
        sizes: Sequence[int] | np.ndarray,
        batch_size: int,
        *,
        seed: int,
        units: np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._sizes = np.asarray(sizes, dtype=np.int64)
        if not len(self._sizes) or self._sizes.min() < 1 or batch_size < 1 or seed < 0:
            raise ValueError("Windows(sizes=..., batch_size=..., seed=...) needs sizes of 1 or more, and a seed of 0.")
        if not 0 <= rank < world_size <= WINDOW:
            raise ValueError(f"Windows(rank=...) must lie in [0, world_size), at most {WINDOW}; got {rank}.")
        units = np.arange(len(self._sizes)) if units is None else units
        self._begins = np.flatnonzero(np.diff(units, prepend=units[0] - 1))  # of each unit
        self._seed, self._rank, self._world_size = seed, rank, world_size
        self.num_batches = math.ceil(int(self._sizes.sum()) / batch_size)
        self._num_windows = max(1, min(math.ceil(len(self._sizes) / WINDOW), self.num_batches // _LEAST_BATCHES))
        self._epoch: tuple[int, list[np.ndarray], np.ndarray] | None = None
        self._dealt: tuple[tuple[int, int], dict[int, np.ndarray]] | None = None

    def place(self, epoch: int, index: int) -> tuple[int, int]:
        """Return the window of a batch, and the batch's number in it.

        Raises:
            IndexError: if there is no such batch.
        """
        if not 0 <= index < self.num_batches or epoch < 0:
            raise IndexError(f"Windows has {self.num_batches} batches per epoch; there is no {index} in epoch {epoch}.")
        _, ends = self._plan(epoch)
        window = int(np.searchsorted(ends, index, side="right"))
        return window, index - (int(ends[window - 1]) if window else 0)

    def blocks(self, epoch: int, window: int) -> np.ndarray:
        """Return this process's blocks of a window, int64, in the order in which they are read."""
        return np.sort(self._plan(epoch)[0][window][self._rank :: self._world_size])

    def dealt(self, epoch: int, window: int, block: int, num_examples: int) -> np.ndarray:
        """Return the batch of its window that each example of a block is in, int64 `[num_examples]`.

        `num_examples` are those that the block turned out to have.
        """
        slots = self._slots(epoch, window)[block]
        order = self._generator(epoch, _ROWS, block).permutation(num_examples)
        found = np.empty(num_examples, dtype=np.int64)
        found[order] = slots[np.arange(num_examples) * len(slots) // max(1, num_examples)]
        return found

    def _slots(self, epoch: int, window: int) -> dict[int, np.ndarray]:
        """Return for each block of a window the batches that its examples are dealt to."""
        if self._dealt is None or self._dealt[0] != (epoch, window):
            parts, ends = self._plan(epoch)
            blocks, num_batches = parts[window], int(ends[window] - (ends[window - 1] if window else 0))
            sizes = self._sizes[blocks]
            starts = np.cumsum(sizes) - sizes
            within = np.arange(int(sizes.sum())) - np.repeat(starts, sizes)
            times = (within + self._generator(epoch, _SLOTS, window).random(len(within))) / np.repeat(sizes, sizes)
            batches = np.empty(len(within), dtype=np.int64)
            batches[np.argsort(times, kind="stable")] = np.arange(len(within)) * num_batches // len(within)
            shares = {int(block): batches[a : a + n] for block, a, n in zip(blocks, starts, sizes, strict=True)}
            self._dealt = (epoch, window), shares
        return self._dealt[1]

    def _plan(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the blocks of each window of an epoch, and the batch after its last one."""
        if self._epoch is None or self._epoch[0] != epoch:
            order = self._generator(epoch, _BLOCK_ORDER, 0).permutation(len(self._begins))
            units = np.split(np.arange(len(self._sizes)), self._begins[1:])
            blocks = np.concatenate([units[unit] for unit in order])
            counts = np.array([len(unit) for unit in units])[order]
            window = np.repeat((np.cumsum(counts) - counts) * self._num_windows // len(blocks), counts)
            parts = [part for number in range(self._num_windows) if len(part := blocks[window == number])]
            totals = np.cumsum([int(self._sizes[part].sum()) for part in parts])
            last = np.maximum(np.rint(totals * (self.num_batches / totals[-1])), np.arange(1, len(parts) + 1))
            last = np.minimum(last, self.num_batches - np.arange(len(parts))[::-1]).astype(np.int64)
            self._epoch = epoch, parts, last
        return self._epoch[1], self._epoch[2]

    def _generator(self, epoch: int, what: int, number: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self._seed, epoch], counter=[0, 0, number, what]))
