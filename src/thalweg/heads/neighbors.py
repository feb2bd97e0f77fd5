"""The best words for predictions, exactly: all words once, in blocks of the vocabulary, with normalized scores.

A head's scores are unnormalized log-probabilities. The search keeps the best of them and the normalizer, so memory is
bounded whatever the size of the vocabulary.
"""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from thalweg.heads.base import upcast

MAX_SCORES = 2**22  # scores held at once: 4 million, 16 MB in float32

Block = Callable[[int, int], Tensor]


def block_size(num_rows: int) -> int:
    """Return how many words may be scored at once for so many predictions."""
    return max(1, MAX_SCORES // max(1, num_rows))


def rank(block: Block, num: int, k: int, size: int) -> tuple[Tensor, Tensor]:
    r"""Return the ids `[n, k]` of the `k` best of all words and their log-probabilities $s_w - \log\sum_v e^{s_v}$.

    `block(start, stop)` gives the scores `[n, stop - start]` of the words from `start` up to `stop`, `size` at once. Of
    fewer than `k` words all are returned.
    """

    def best_of(start: int, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, places = scores.topk(min(k, scores.shape[-1]), dim=-1)
        return values, places + start, scores.logsumexp(-1)

    def merged(a: tuple[Tensor, Tensor, Tensor], b: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        values = torch.cat([a[0], b[0]], -1)
        values, order = values.topk(min(k, values.shape[-1]), dim=-1)
        return values, torch.cat([a[1], b[1]], -1).gather(-1, order), torch.logaddexp(a[2], b[2])

    best, ids, total = functools.reduce(merged, (best_of(*each) for each in _blocks(block, num, k, size)))
    return ids, best - total.unsqueeze(-1)


def log_normalizer(block: Block, num: int, size: int) -> Tensor:
    r"""Return $\log\sum_w e^{s_w}$ over all words, `[n]`, in blocks; arguments as for `rank`."""
    return functools.reduce(torch.logaddexp, (scores.logsumexp(-1) for _, scores in _blocks(block, num, 1, size)))


def _blocks(block: Block, num: int, k: int, size: int) -> Iterator[tuple[int, Tensor]]:
    if k < 1 or size < 1 or num < 1:
        raise ValueError(f"A search needs at least 1 word, 1 answer and blocks of 1; got {num}, {k} and {size}.")
    for start in range(0, num, size):
        yield start, upcast(block(start, min(start + size, num)))
