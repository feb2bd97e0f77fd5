"""Endless input: a share of it for each process, shuffled within a buffer, and resumable from one number."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar, final

Item = TypeVar("Item")


def share_of(items: Iterable[Item], rank: int, world_size: int) -> Iterator[Item]:
    """Yield the items of one process: number `rank`, `rank + world_size` and so on.

    Raises:
        ValueError: unless 0 <= rank < world_size.

    Example:
        >>> list(share_of("abcde", 1, 2))
        ['b', 'd']
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"share_of(rank=...) must lie in [0, world_size); got {rank} of {world_size}.")
    return (item for number, item in enumerate(items) if number % world_size == rank)


@final
class ShuffleBuffer(Generic[Item]):
    """Shuffles items within a buffer: each output is drawn from `size` items, and the next input takes its place.

    The `k`-th draw is a function of (seed, k) alone. So the state is one number, how many items have been given out,
    and a new buffer over the same items with `consumed` set gives what the first would have given next.

    Args:
        items: the items, finite or not; read as they are needed, at most `size` ahead.
        size: items held, at least 1; 1 keeps the order.
        seed: seed of the draws.
        consumed: outputs to leave out, to resume. Their items are read again, and not kept.

    Attributes:
        consumed: outputs given so far, those that were left out included.

    Raises:
        ValueError: if `size` or `consumed` is out of range.

    Example:
        >>> first = ShuffleBuffer(range(8), 4, seed=0)
        >>> given = [next(first) for _ in range(3)]
        >>> list(ShuffleBuffer(range(8), 4, seed=0, consumed=first.consumed)) == list(first)
        True

    When not to use it: where the number of items is known; `thalweg.data.batches.Order` shuffles all of them.
    """

    def __init__(self, items: Iterable[Item], size: int, *, seed: int, consumed: int = 0) -> None:
        if size < 1:
            raise ValueError(f"ShuffleBuffer(size=...) must be at least 1; got {size}.")
        if consumed < 0:
            raise ValueError(f"ShuffleBuffer(consumed=...) must be 0 or more; got {consumed}.")
        self._items = iter(items)
        self._buffer: list[Item] = []
        self._size = size
        self._seed = seed
        self._left_out = consumed
        self.consumed = 0

    def __iter__(self) -> "ShuffleBuffer[Item]":
        return self

    def __next__(self) -> Item:
        while self.consumed < self._left_out:
            self._draw()
        return self._draw()

    def _draw(self) -> Item:
        buffer = self._buffer
        while len(buffer) < self._size:
            try:
                buffer.append(next(self._items))
            except StopIteration:
                break
        if not buffer:
            raise StopIteration
        place = _place(self._seed, self.consumed, len(buffer))
        item = buffer[place]
        buffer[place] = buffer[-1]
        buffer.pop()
        self.consumed += 1
        return item


def _place(seed: int, number: int, size: int) -> int:
    """Return a number in [0, size), a function of the arguments alone."""
    digest = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") * size >> 64
