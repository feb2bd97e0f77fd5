"""Examples of a batch as tensors: padded rows, flat bags, windows of a series, chunks of a long text."""

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from thalweg.data.arrays.ragged import Ragged, flat_positions


def pad(
    ragged: Ragged,
    indices: np.ndarray,
    *,
    max_length: int | None = None,
    dtype: DTypeLike = np.int64,
    padding: float = 0,
) -> tuple[Tensor, Tensor]:
    """Return some sequences (`indices`, int [batch]) as rows of one length, and which entries are real.

    Sequences are cut after `max_length` values, and rows are filled with `padding`. Both results are `[batch,
    longest]`, the mask bool; the longest is taken as 1 if all are empty.
    """
    starts, lengths = ragged.spans(indices)
    if max_length is not None:
        lengths = np.minimum(lengths, max_length)
    longest = max(1, int(lengths.max(initial=0)))
    mask = np.arange(longest) < lengths[:, None]
    values = np.full(mask.shape, padding, dtype=dtype)
    values[mask] = ragged.values[flat_positions(starts, lengths)]
    return torch.from_numpy(values), torch.from_numpy(mask)


def flat(
    tokens: Ragged, weights: Ragged | None, indices: np.ndarray, *, max_length: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return some bags of tokens (`indices`, int [batch]) one after the other, as `torch.nn.EmbeddingBag` reads them.

    Texts are cut after `max_length` tokens. The results are tokens int64 `[total]`, where each text begins int64
    `[batch]`, and weights `[total]` (float32 ones where `weights` is None). All texts in their order are not copied:
    their tokens, and where they begin, are then in the type that the tokens have.
    """
    whole = max_length is None and weights is not None and np.array_equal(indices, np.arange(len(tokens)))
    if whole and tokens.offsets[0] == 0 and tokens.offsets[-1] <= np.iinfo(tokens.values.dtype).max:
        assert weights is not None
        begins = torch.from_numpy(tokens.offsets[:-1].astype(tokens.values.dtype))
        return _writable(tokens.values), begins, _writable(weights.values)
    starts, lengths = tokens.spans(indices)
    if max_length is not None:
        lengths = np.minimum(lengths, max_length)
    positions = flat_positions(starts, lengths)
    ids = torch.from_numpy(tokens.values[positions].astype(np.int64))
    offsets = torch.from_numpy(np.cumsum(lengths) - lengths)
    if weights is None:
        return ids, offsets, torch.ones(len(positions))
    return ids, offsets, torch.from_numpy(np.asarray(weights.values[positions]))


def _writable(values: np.ndarray) -> Tensor:
    """Return an array as a tensor with the same memory, or a copy of one that is mapped from a file to be read only."""
    return torch.from_numpy(values if values.flags.writeable else np.array(values))


def windows(array: np.ndarray, starts: np.ndarray, lags: int, *, dtype: DTypeLike | None = None) -> Tensor:
    """Return the stretches of a series `[time, columns]` from these `starts` on, as `[batch, lags, columns]`."""
    return torch.from_numpy(
        array[np.asarray(starts)[:, None] + np.arange(lags)].astype(dtype or array.dtype, copy=False)
    )


def contiguous(values: np.ndarray, indices: np.ndarray, length: int) -> tuple[Tensor, Tensor]:
    """Return some chunks of one long text: chunk `i` holds the `length` targets after token `i * length`.

    The chunks are int64 `[batch, length + 1]`; each begins with the token that the chunk before it ended with, so that
    `chunks[:, :-1]` are inputs and `chunks[:, 1:]` targets, and every token but the first is a target exactly once. The
    mask, bool `[batch, length]`, is False where the last chunk's targets are padding (0) because the text has ended.
    The order is `Order(num_chunks(len(values), length), batch_size, seed=...)`.
    """
    positions = np.asarray(indices, dtype=np.int64)[:, None] * length + np.arange(length + 1)
    real = positions < len(values)
    chunks = np.zeros(positions.shape, dtype=np.int64)
    chunks[real] = values[positions[real]]
    return torch.from_numpy(chunks), torch.from_numpy(np.ascontiguousarray(real[:, 1:]))
