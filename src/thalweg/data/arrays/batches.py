"""Examples column by column, and which of them make up a batch, as a stateless function."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np

from thalweg.data.arrays.ragged import Ragged

KEYS = "keys"  # the column of a 64-bit number for each example, equal where the normalized texts are
# Batches whose examples are sorted by length together; more: less padding, less random batches. Where two lengths have
# to fit, as in a translation, there must be more to choose from.
_WINDOW_BATCHES, _WINDOW_OF_PAIRS = 64, 512


class Batches(Protocol):
    """Which examples are in which batch of an epoch; see `Order`."""

    num_batches: int

    def batch(self, epoch: int, index: int) -> np.ndarray:
        """Return what this process's examples of a batch are called, int64."""
        ...


class Rows(Protocol):
    """Examples that batches are made of, in memory (`Examples`) or not (`thalweg.data.blocks.streamed.Streamed`)."""

    @property
    def lengths(self) -> np.ndarray | None:
        """Length of each example; None where it plays no part, or nobody knows it."""
        ...

    def __len__(self) -> int: ...

    def order(
        self, batch_size: int, *, seed: int, shuffle: bool, rank: int, world_size: int, batch_tokens: int = 0
    ) -> Batches:
        """Return which examples are in which batch."""
        ...

    def rows(self, indices: np.ndarray) -> "tuple[Examples, np.ndarray]":
        """Return examples in memory, and the places in them of what a batch of the order has called `indices`."""
        ...


@final
@dataclass(frozen=True)
class Examples:
    """The examples of a task, column by column, as numbers.

    Args:
        columns: for each name one entry an example: sequences (`Ragged`) or an array `[num_examples, ...]`.
        raw: the texts as they came, for messages and reports; None where they are not kept.
        sort_by: the columns whose lengths say which examples go together in a batch, so that there is little padding;
            None: all that are ragged; (): none, for a layout without padding.

    Raises:
        ValueError: if the columns have different lengths.

    Example:
        >>> examples = Examples({"tokens": Ragged.from_lists([[4, 5], [6]]), "label": np.array([0, 1])})
        >>> len(examples), examples.lengths.tolist()
        (2, [2, 1])
    """

    columns: dict[str, Ragged | np.ndarray]
    raw: list[str] | None = None
    sort_by: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        counts = {name: len(column) for name, column in self.columns.items()}
        if self.raw is not None:
            counts["raw"] = len(self.raw)
        if len(set(counts.values())) != 1:
            raise ValueError(f"Examples(columns=...) needs columns of one length; got {counts}.")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def lengths(self) -> np.ndarray | None:
        """Length of each example, int64 (of its longest sequence); None without sequences to sort by."""
        lengths = self._all_lengths()
        return np.max(lengths, axis=0) if lengths else None

    def _all_lengths(self) -> list[np.ndarray]:
        columns = self.columns if self.sort_by is None else {name: self.columns[name] for name in self.sort_by}
        return [column.lengths for column in columns.values() if isinstance(column, Ragged)]

    def ragged(self, name: str) -> Ragged:
        """Return a column of sequences.

        Raises:
            TypeError: if the column holds one number per example.
        """
        column = self.columns[name]
        if not isinstance(column, Ragged):
            raise TypeError(f"Examples.ragged({name!r}) needs a column of sequences; that column is an array.")
        return column

    def take(self, indices: np.ndarray | Sequence[int]) -> "Examples":
        """Return a copy of the examples with these indices (int)."""
        chosen = np.asarray(indices, dtype=np.int64)
        columns: dict[str, Ragged | np.ndarray] = {
            name: column.take(chosen) if isinstance(column, Ragged) else column[chosen]
            for name, column in self.columns.items()
        }
        raw = None if self.raw is None else [self.raw[index] for index in chosen.tolist()]
        return Examples(columns, raw, self.sort_by)

    def followed_by(self, *others: "Examples") -> "Examples":
        """Return these examples and then those of `others`, which have the same columns; without their texts."""
        columns: dict[str, Ragged | np.ndarray] = {}
        for name, column in self.columns.items():
            if isinstance(column, Ragged):
                columns[name] = column.followed_by(*(other.ragged(name) for other in others))
            else:
                columns[name] = np.concatenate([column, *(np.asarray(other.columns[name]) for other in others)])
        return Examples(columns, None, self.sort_by)

    def order(
        self, batch_size: int, *, seed: int, shuffle: bool, rank: int, world_size: int, batch_tokens: int = 0
    ) -> "Order":
        """Return which examples are in which batch; see `Order`."""
        lengths = np.stack(self._all_lengths(), 1) if self.sort_by else self.lengths
        return Order(
            len(self),
            batch_size or len(self),
            seed=seed,
            lengths=lengths,
            batch_tokens=batch_tokens,
            shuffle=shuffle,
            rank=rank,
            world_size=world_size,
        )

    def rows(self, indices: np.ndarray) -> tuple["Examples", np.ndarray]:
        """Return these, and the places in them, which are what an order calls them."""
        return self, indices


@final
class Order:
    """Which examples are in which batch: a function of (seed, epoch, index) and of nothing that was asked before.

    The examples are permuted again for each epoch. With `lengths`, the examples of 64 consecutive batches (of 512 where
    an example has several lengths) are then sorted by length and cut into batches again, and the batches of the epoch
    are permuted: little padding, and each example still exactly once per epoch. With `batch_tokens`, all examples are
    sorted, and a batch has as many as fit.

    Args:
        num_examples: number of examples, at least 1.
        batch_size: examples of a batch over all processes together, at least `world_size`; where it is `num_examples`
            or more there is one batch.
        seed: seed of the order, 0 or more.
        lengths: length of each example, int `[num_examples]`, or several of each, `[num_examples, n]`, to put examples
            of similar length together; the last one counts most.
        batch_tokens: in place of `batch_size`, the longest length in a batch times its number of examples is at most
            this, and as near to it as can be; 0: there are `batch_size` examples.
        shuffle: False keeps the examples as they are, and leaves `lengths` unused.
        drop_last: leave out the last batch of an epoch if it is not full (other examples in each epoch).
        rank: this process.
        world_size: number of processes. Each gets its share of every batch, the shares differing by one example at
            most; none is ever empty: a rest smaller than `world_size` joins the batch before it.

    Attributes:
        num_batches: batches of an epoch.

    Raises:
        ValueError: for an argument out of range.

    Example:
        >>> order = Order(10, 4, seed=0)
        >>> order.num_batches, sorted(np.concatenate([order.batch(0, index) for index in range(3)]).tolist())
        (3, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        >>> np.array_equal(Order(10, 4, seed=0).batch(7, 1), order.batch(7, 1))
        True

    Source: Salmon, Moraes, Dror and Shaw (2011), Parallel Random Numbers: As Easy as 1, 2, 3 (Philox, the generator
    that is keyed by seed and epoch).
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        *,
        seed: int,
        lengths: np.ndarray | None = None,
        batch_tokens: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if num_examples < 1:
            raise ValueError(f"Order(num_examples=...) must be at least 1; got {num_examples}.")
        if not 0 <= rank < world_size:
            raise ValueError(f"Order(rank=...) must lie in [0, world_size); got {rank} of {world_size}.")
        if min(batch_size, num_examples) < world_size:
            raise ValueError(
                f"Order(batch_size=..., num_examples=...) must be at least the number of processes, {world_size}; "
                f"got {batch_size} and {num_examples}."
            )
        if seed < 0:
            raise ValueError(f"Order(seed=...) must be 0 or more; got {seed}.")
        if lengths is not None and len(lengths) != num_examples:
            raise ValueError(f"Order(lengths=...) needs one length an example, {num_examples}; got {len(lengths)}.")
        if batch_tokens and (lengths is None or drop_last or not shuffle):
            raise ValueError("Order(batch_tokens=...) needs lengths, and the default shuffle and drop_last.")
        self._num_examples = num_examples
        self._seed = seed
        self._lengths = lengths if shuffle else None
        self._fills = batch_tokens > 0
        self._shuffle = shuffle
        self._rank = rank
        self._world_size = world_size
        num_full, rest = divmod(num_examples, batch_size)
        drop_last = drop_last and num_full > 0
        self._num_used = num_full * batch_size if drop_last else num_examples
        starts = np.arange(0, num_full * batch_size if rest < world_size or drop_last else num_examples, batch_size)
        self._starts = starts if len(starts) else np.zeros(1, dtype=np.int64)
        several = lengths is not None and lengths.size > num_examples
        self._window = (_WINDOW_OF_PAIRS if several else _WINDOW_BATCHES) * batch_size
        if batch_tokens and lengths is not None:
            longest = np.sort(lengths.reshape(num_examples, -1).max(1))
            self._starts, self._window = _filled(longest, batch_tokens, least=world_size), num_examples
        self.num_batches = len(self._starts)
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None

    def batch(self, epoch: int, index: int) -> np.ndarray:
        """Return this process's examples of a batch, int64.

        Args:
            epoch: 0 or more.
            index: in [0, num_batches).

        Raises:
            IndexError: if there is no such batch.
        """
        if not 0 <= index < self.num_batches or epoch < 0:
            raise IndexError(
                f"Order has {self.num_batches} batches per epoch; there is no batch {index} in epoch {epoch}."
            )
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, *self._plan(epoch))
        _, examples, batches = self._epoch
        number = int(batches[index])
        start = int(self._starts[number])
        stop = self._num_used if number == self.num_batches - 1 else int(self._starts[number + 1])
        return examples[start + self._rank : stop : self._world_size].copy()

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the epoch's examples, and the order of its batches."""
        if not self._shuffle:
            return np.arange(self._num_used), np.arange(self.num_batches)
        generator = np.random.Generator(np.random.Philox(key=[self._seed, epoch]))
        examples = generator.permutation(self._num_examples)[: self._num_used]
        if self._lengths is None or self.num_batches == 1:
            return examples, np.arange(self.num_batches)
        columns = self._lengths.reshape(self._num_examples, -1).T
        if self._fills:  # what says how many fit is what batches are cut by
            columns = np.concatenate([columns, columns.max(0, keepdims=True)])
        for start in range(0, len(examples), self._window):
            part = examples[start : start + self._window]
            part[:] = part[np.lexsort(columns[:, part])]
        return examples, generator.permutation(self.num_batches)


def _filled(longest: np.ndarray, tokens: int, least: int) -> np.ndarray:
    """Return where the batches of examples with rising lengths begin; each has `least` examples or more."""
    starts, start = [], 0
    while start < len(longest):
        starts.append(start)
        some = longest[start : start + max(tokens, least)]
        fits = some * np.arange(1, len(some) + 1) <= tokens
        start += max(least, len(some) if fits.all() else int(np.argmin(fits)))
    if len(starts) > 1 and (last := len(longest) - least) < starts[-1]:
        starts[-1] = last
        if last - starts[-2] < least:
            starts.pop()
    return np.array(starts, dtype=np.int64)


def cut_by_length(lengths: np.ndarray, *, share: float = 0.15, least: int = 2**16) -> list[np.ndarray]:
    """Return the places of sequences in parts of like lengths, so that little is padding.

    Args:
        lengths: of the sequences, int `[n]`, n at least 1.
        share: padding of a part, as a fraction of its real entries.
        least: entries of a rectangle that is small enough whatever its padding.

    Returns:
        Places, each in one part: one part with all of them in order where that has little padding, else sorted.

    Example:
        >>> cut_by_length(np.array([9, 1, 1, 9]), least=4)
        [array([1, 2]), array([0, 3])]
    """
    limit = max(least, int((1.0 + share) * lengths.sum()))
    if len(lengths) * int(lengths.max()) <= limit:
        return [np.arange(len(lengths))]
    order = np.argsort(lengths, kind="stable")
    totals, parts, start = np.cumsum(lengths[order]), [], 0
    while start < len(order):
        longest = lengths[order[start:]].astype(np.int64)
        real = totals[start:] - (totals[start - 1] if start else 0)
        fits = longest * np.arange(1, len(longest) + 1) <= np.maximum(least, (1.0 + share) * real)
        size = len(fits) if fits.all() else max(1, int(np.argmin(fits)))
        parts.append(order[start : start + size])
        start += size
    return parts


def num_chunks(num_values: int, length: int) -> int:
    """Return how many chunks of `length` targets a text of `num_values` tokens has; all tokens but one are targets."""
    return max(0, -(-(num_values - 1) // length))
