"""A long text cut into chunks, each with what stands before it in the text; and batches of them."""

import dataclasses
from collections.abc import Iterable
from typing import Final, final

import numpy as np
import torch

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.collate import pad
from thalweg.data.arrays.ragged import IN_MEMORY, Ragged, RaggedBuilder, Spill, flat_positions

TOKENS: Final = "tokens"  # column of the chunks, each with what stands before it
BEFORE: Final = "before"  # of how many tokens of a chunk only the state after them counts (a recurrent network's)
SEEN: Final = "seen"  # of how many tokens of a window the predictions do not count


@final
@dataclasses.dataclass(frozen=True)
class Cut:
    """How a text is cut.

    Args:
        step: targets of a chunk, at least 1; the last one has fewer.
        context: tokens before the first of a chunk that it brings along, 0 or more; at the beginning of the text there
            are fewer.
        column: what these are: `BEFORE` or `SEEN`; "": there are none.

    Example: chunks of two targets, each with the two tokens before its own first one.
        >>> examples = Cut(step=2, context=2, column=SEEN).examples([np.array([0, 1, 2, 3]), np.array([4, 5])])
        >>> [row.tolist() for row in examples.ragged(TOKENS)], examples.columns[SEEN].tolist()
        ([[0, 1, 2], [0, 1, 2, 3, 4], [2, 3, 4, 5]], [0, 2, 2])
    """

    step: int
    context: int = 0
    column: str = ""

    def examples(self, parts: Iterable[np.ndarray], spill: Spill = IN_MEMORY) -> Examples:
        """Return the chunks of a text that comes in parts, ids int `[any]`; its first token is given, not predicted.

        A chunk has one token more than targets: the one that the chunk before ended with.
        """
        chunks, contexts = RaggedBuilder(np.int32, spill), []
        rest, first = np.zeros(0, dtype=np.int32), 0  # what no chunk has ended with, the next one begins at `first`
        for part in parts:
            rest = np.concatenate([rest, part.astype(np.int32, copy=False)])
            num_full = max(0, len(rest) - first - 1) // self.step
            starts = first + np.arange(num_full) * self.step
            known = np.minimum(starts, self.context)
            lengths = known + self.step + 1
            chunks.extend_flat(rest[flat_positions(starts - known, lengths)], lengths)
            contexts.append(known)
            first += num_full * self.step
            begin = max(0, first - self.context)
            rest, first = rest[begin:].copy(), first - begin
        if len(rest) - first > 1:
            chunks.append(rest)
            contexts.append(np.array([first]))
        columns: dict[str, Ragged | np.ndarray] = {TOKENS: chunks.finish()}
        if self.column:
            columns[self.column] = np.concatenate([np.zeros(0, dtype=np.int32), *contexts]).astype(np.int32)
        return Examples(columns, sort_by=())


def num_before(examples: Examples) -> np.ndarray:
    """Return how many tokens of each chunk stand before its own, int `[num_chunks]`."""
    for name in (BEFORE, SEEN):
        if name in examples.columns:
            return np.asarray(examples.columns[name])
    return np.zeros(len(examples), dtype=np.int32)


def num_targets(examples: Examples) -> int:
    """Return how many tokens are predicted in all chunks together."""
    return len(examples.ragged(TOKENS).values) - len(examples) - int(num_before(examples).sum())


def targets(examples: Examples) -> np.ndarray:
    """Return the tokens that are predicted, one chunk after the other, int `[num_targets]`."""
    chunks = examples.ragged(TOKENS)
    is_target = np.ones(int(chunks.offsets[-1]), dtype=bool)
    is_target[flat_positions(chunks.offsets[:-1], num_before(examples) + 1)] = False
    return chunks.values[: len(is_target)][is_target]


def batch_of(examples: Examples, indices: np.ndarray, length: int) -> Batch:
    """Return the tokens of some chunks, int64 `[batch, time]`, and as targets the token after each.

    Of windows the targets that another one has are masked. What stands before a chunk is in `before`, int64 `[batch,
    chunks, length]`, with the mask `is_before`, bool `[batch, chunks]`: whole chunks of `length` tokens, those that are
    missing at the beginning of a text first.
    """
    tokens, mask = pad(examples.ragged(TOKENS), indices)
    inputs: dict[str, torch.Tensor] = {}
    if SEEN in examples.columns:
        seen = torch.from_numpy(np.asarray(examples.columns[SEEN])[indices].astype(np.int64))
        mask &= torch.arange(mask.shape[1]) > seen[:, None]
    elif BEFORE in examples.columns:
        before = torch.from_numpy(np.asarray(examples.columns[BEFORE])[indices].astype(np.int64))
        sizes = mask.sum(1) - before
        longest = int(sizes.max()) if len(sizes) else 1
        num_chunks = -(-int(before.max()) // length) if len(before) else 0
        places = before[:, None] - num_chunks * length + torch.arange(num_chunks * length)
        kept = tokens.gather(1, places.clamp(min=0)).masked_fill(places < 0, 0).unflatten(1, (num_chunks, length))
        if num_chunks:
            inputs = {"before": kept, "is_before": (places >= 0).unflatten(1, (num_chunks, length))[:, :, 0]}
        places = before[:, None] + torch.arange(longest)
        mask = torch.arange(longest) < sizes[:, None]
        tokens = tokens.gather(1, places.clamp(max=tokens.shape[1] - 1)).masked_fill(~mask, 0)
    inputs = {TOKENS: tokens[:, :-1].contiguous(), **inputs}
    return Batch(inputs, tokens[:, 1:].contiguous(), mask[:, 1:].contiguous())
