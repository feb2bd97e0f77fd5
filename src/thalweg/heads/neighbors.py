"""The best words for predictions, exactly: all words once, in blocks of the vocabulary, with normalized scores.

A head's scores are unnormalized log-probabilities. The search keeps the best of them and the normalizer, so memory is
bounded whatever the size of the vocabulary.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from thalweg.heads.base import upcast

MAX_SCORES = 2**22  # scores held at once: 4 million, 16 MB in float32

Block = Callable[[int, int], Tensor]


def block_size(num_rows: int, most: int = MAX_SCORES) -> int:
    """Return how many words may be scored at once for so many predictions.

    Example:
        >>> block_size(1024), block_size(10**9)
        (4096, 1)
    """
    return max(1, most // max(1, num_rows))


def rank(block: Block, num: int, k: int, size: int) -> tuple[Tensor, Tensor]:
    r"""Return the ids `[n, k]` of the `k` best of all words and their log-probabilities $s_w - \log\sum_v e^{s_v}$.

    Args:
        block: `block(start, stop)` gives the scores `[n, stop - start]` of the words from `start` up to `stop`.
        num: number of words.
        k: how many are wanted, at least 1; all where there are fewer.
        size: words scored at once.

    Raises:
        ValueError: `k` or `size` is below 1, or `num` is.

    Example:
        >>> scores = torch.tensor([[0.0, 2.0, 1.0, -1.0]])
        >>> ids, log_probabilities = rank(lambda start, stop: scores[:, start:stop], 4, 2, 3)
        >>> ids, torch.allclose(log_probabilities, scores.log_softmax(-1)[:, [1, 2]])
        (tensor([[1, 2]]), True)
    """
    best: Tensor | None = None
    ids: Tensor | None = None
    total: Tensor | None = None
    for start, scores in _blocks(block, num, k, size):
        part = scores.logsumexp(-1)
        values, places = scores.topk(min(k, scores.shape[-1]), dim=-1)
        places = places + start
        if best is None or ids is None or total is None:
            best, ids, total = values, places, part
            continue
        total = torch.logaddexp(total, part)
        best, order = torch.cat([best, values], -1).topk(min(k, best.shape[-1] + values.shape[-1]), dim=-1)
        ids = torch.cat([ids, places], -1).gather(-1, order)
    assert best is not None and ids is not None and total is not None  # noqa: PT018 - at least one block
    return ids, best - total.unsqueeze(-1)


def log_normalizer(block: Block, num: int, size: int) -> Tensor:
    r"""Return $\log\sum_w e^{s_w}$ over all words, `[n]`, in blocks; arguments as for `rank`.

    Example:
        >>> scores = torch.zeros(1, 10)
        >>> log_normalizer(lambda start, stop: scores[:, start:stop], 10, 4).exp()
        tensor([10.])
    """
    total: Tensor | None = None
    for _, scores in _blocks(block, num, 1, size):
        part = scores.logsumexp(-1)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return total


def _blocks(block: Block, num: int, k: int, size: int) -> Iterator[tuple[int, Tensor]]:
    if k < 1 or size < 1 or num < 1:
        raise ValueError(f"A search needs at least 1 word, 1 answer and blocks of 1; got {num}, {k} and {size}.")
    for start in range(0, num, size):
        yield start, upcast(block(start, min(start + size, num)))
