"""From a step's number to its batches: mini-batches with accumulation, or all data at once."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples, Rows, cut_by_length

MOST_AT_ONCE = 2**20  # tokens of a batch that nothing is learned from, which may be of any size
Collate = Callable[[Examples, np.ndarray], Batch]
Drawn = Callable[[Examples, np.ndarray, np.ndarray, int], Batch]
"""Examples, places in them, a number for each of these, and one for the step -> a batch drawn for the step."""


@final
class Feed:
    """The micro-batches of a step, as a stateless function of the step's number.

    Step `s` of an epoch holds the micro-batches `s * accumulate ... (s + 1) * accumulate - 1` of its order; the last
    step of an epoch may hold fewer. So the place in the data is one number, and a resumed run sees what the
    undisturbed one would have seen.

    Args:
        examples: the training examples.
        collate: `task.training_batch`.
        batch_size: examples a micro-batch; 0 takes all of them (full batch, collated once; sequences of very different
            lengths as several micro-batches, so that there is little padding).
        batch_tokens: in place of `batch_size`, where that is not 0, most tokens of a micro-batch, the padding of its
            longer side included; 0, and where examples have no lengths: `batch_size` counts.
        accumulate: micro-batches per step.
        seed: seed of the order.
        device: where the batches go.
        dtype: type of the weights; numbers among inputs and targets take it.
        as_stored: leave inputs in the types they are stored in, for a model that turns them into its own.
        drawn: in place of `collate`, where examples look different in each step; None: they don't.
    """

    def __init__(
        self,
        examples: Rows,
        collate: Collate,
        *,
        batch_size: int,
        batch_tokens: int = 0,
        accumulate: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        as_stored: bool = False,
        drawn: Drawn | None = None,
    ) -> None:
        self.examples = examples
        has_lengths = batch_size > 0 and examples.lengths is not None
        self._seed, self._batch_size, self._batch_tokens = seed, batch_size, batch_tokens if has_lengths else 0
        self.collate = collate
        self.accumulate = accumulate
        self.device = device
        self.dtype = dtype
        self.as_stored, self.drawn = as_stored, drawn
        self._order = examples.order(
            batch_size,
            seed=seed,
            shuffle=batch_size > 0,
            batch_tokens=self._batch_tokens,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        self._num_processes = distributed.world_size()
        self._is_full = batch_size == 0
        self._full: list[Batch] | None = None
        self.steps_per_epoch = max(1, math.ceil(self._order.num_batches / accumulate))

    def epoch_of(self, step: int) -> float:
        """Return how many epochs `step` steps are."""
        return step / self.steps_per_epoch

    def with_batch_size(self, batch_size: int) -> "Feed":
        """Return the same with batches of another size; itself where the size is the same."""
        if batch_size == self._batch_size:
            return self
        return Feed(
            self.examples,
            self.collate,
            batch_size=batch_size,
            batch_tokens=self._batch_tokens,
            accumulate=self.accumulate,
            seed=self._seed,
            device=self.device,
            dtype=self.dtype,
            as_stored=self.as_stored,
            drawn=self.drawn,
        )

    def __call__(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step, on the device."""
        if self._full is not None:
            return self._full
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order.num_batches == 1:
            epoch = 0  # of all data the same order in each step, whichever is the first one after a resume
        first = place * self.accumulate
        last = min(first + self.accumulate, self._order.num_batches)
        parts: Iterable[np.ndarray] = map(partial(self._order.batch, epoch), range(first, last))
        lengths = self.examples.lengths
        if self._is_full and lengths is not None:
            parts = [part[places] for part in parts for places in self._in_parts(lengths[part])]
        number = int(np.random.SeedSequence([self._seed, step]).generate_state(1)[0])
        batches = [self._collate(part, number) for part in parts]
        if self.is_fixed:
            self._full = batches
        return batches

    def _in_parts(self, lengths: np.ndarray) -> list[np.ndarray]:
        """Return this process's sequences in parts of like lengths, as many parts as each of the others has."""
        parts = cut_by_length(lengths)
        if self._num_processes == 1:
            return parts
        most = int(distributed.most([float(len(parts))])[0])
        return in_as_many(parts, min(most, len(self.examples) // self._num_processes))

    @property
    def is_fixed(self) -> bool:
        """Whether all steps have the same batches."""
        return self._order.num_batches == 1 and isinstance(self.examples, Examples) and self.drawn is None

    @property
    def is_alone(self) -> bool:
        """Whether batches are collated anew in each step, and without a word to other processes."""
        return not self.is_fixed and not self._is_full

    @property
    def most_tokens(self) -> int:
        """A bound on `num_tokens`, at once."""
        lengths = self.examples.lengths
        if lengths is None or not len(lengths):
            return 0
        if self._batch_tokens:
            return max(self._batch_tokens, distributed.world_size() * int(lengths.max()))
        return min(self._batch_size or len(lengths), len(lengths)) * int(lengths.max())

    def num_tokens(self) -> int:
        """Return how many tokens the largest micro-batch of the first epoch has, with its padding; 0 without tokens."""
        lengths = self.examples.lengths
        if lengths is None or not len(lengths):
            return 0
        parts: Iterable[np.ndarray] = map(partial(self._order.batch, 0), range(self._order.num_batches))
        if self._is_full:
            parts = (part[places] for part in parts for places in cut_by_length(lengths[part]))
        return max(len(part) * int(lengths[part].max()) for part in parts if len(part))

    def _collate(self, indices: np.ndarray, number: int) -> Batch:
        examples, places = self.examples.rows(indices)
        if self.drawn is None:
            batch = self.collate(examples, places)
        else:
            batch = self.drawn(examples, places, indices if len(indices) else np.zeros(1, dtype=np.int64), number)
        batch = dataclasses.replace(batch, keys=torch.from_numpy(indices))
        if not len(indices):  # of data in blocks this process has none here; one stands for them, and does not count
            about = batch.targets[:, 0] if batch.mask is None and batch.targets.dim() > 1 else batch.targets
            mask = torch.zeros_like(about if batch.mask is None else batch.mask, dtype=torch.bool)
            batch = dataclasses.replace(batch, mask=mask, keys=torch.zeros(1, dtype=torch.long))
        if torch.device(self.device).type == "cuda":
            batch = batch.changed(Tensor.pin_memory)  # so that the copy to the device need not be waited for
        if not self.as_stored:
            return batch.to(self.device, self.dtype)
        inputs = {name: tensor.to(self.device) for name, tensor in batch.inputs.items()}
        return dataclasses.replace(dataclasses.replace(batch, inputs={}).to(self.device, self.dtype), inputs=inputs)


@final
class Ahead:
    """The same batches, those of the next step collated by a thread while a device computes the present one.

    Args:
        feed: step -> micro-batches, a stateless function; it is called in that thread alone.
        steps: from this step on nothing is collated before it is asked for.
    """

    def __init__(self, feed: Callable[[int], list[Batch]], steps: int) -> None:
        self._feed, self._steps = feed, steps
        self._thread = ThreadPoolExecutor(1)
        self._coming: tuple[int, Future[list[Batch]]] | None = None

    def __call__(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step."""
        if self._coming is None or self._coming[0] != step:
            self._coming = step, self._thread.submit(self._feed, step)
        batches = self._coming[1].result()
        self._coming = (step + 1, self._thread.submit(self._feed, step + 1)) if step + 1 < self._steps else None
        return batches


def ahead(feed: Feed, steps: int) -> Feed | Ahead:
    """Return what collates the batches of so many steps ahead; the feed itself where that is not for a thread."""
    return Ahead(feed, steps) if feed.is_alone else feed


def in_as_many(parts: list[np.ndarray], num: int) -> list[np.ndarray]:
    """Return the same places in `num` parts: the largest are halved, or the first two joined.

    Example:
        >>> in_as_many([np.array([1, 2, 3]), np.array([0])], 3)
        [array([1, 2]), array([3]), array([0])]
        >>> in_as_many([np.array([1, 2, 3]), np.array([0])], 1)
        [array([1, 2, 3, 0])]
    """
    parts = list(parts)
    while len(parts) < num:
        place = int(np.argmax([len(part) for part in parts]))
        parts[place : place + 1] = np.array_split(parts[place], 2)
    while len(parts) > num:
        parts[:2] = [np.concatenate(parts[:2])]
    return parts


def in_order(
    examples: Examples,
    collate: Collate,
    batch_size: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Yield all examples once, in the order and batches of `parts_in_order`, with their indices."""
    for part in parts_in_order(examples, batch_size):
        yield part, collate(examples, part).to(device, dtype)


def parts_in_order(examples: Examples, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the indices of all examples once, by batches, sorted by length so that there is little padding.

    A batch has fewer of them where they are so long that it would have more than `MOST_AT_ONCE` tokens.
    """
    lengths = examples.lengths
    indices = np.arange(len(examples)) if lengths is None else np.argsort(lengths, kind="stable")
    while len(indices):
        part = indices[:batch_size]
        if lengths is not None:
            part = part[: max(1, MOST_AT_ONCE // max(1, int(lengths[part[-1]])))]
        yield part
        indices = indices[len(part) :]
