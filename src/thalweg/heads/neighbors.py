"""The best words for predictions: exact in blocks of the vocabulary, or among candidates, with normalized scores.

A head's scores are unnormalized log-probabilities. Exact search reads all words once, a block at a time, and keeps the
best of them and the normalizer, so that memory is bounded whatever the size of the vocabulary. Candidates (a shortlist
of frequent words, an approximate index, or both) make it cheaper; what the normalizer then lacks is a tail that the
head knows.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from thalweg.errors import InputError

MAX_SCORES = 2**22  # scores held at once: 4 million, 16 MB in float32

Block = Callable[[int, int], Tensor]


@final
@dataclasses.dataclass(frozen=True)
class Ranking:
    """The best words for each prediction.

    Args:
        ids: int64 `[n, k]`, best first.
        log_probabilities: `[n, k]`.
        log_normalizer: `[n]`, the logarithm of the sum of the exponentials of all scores (or its estimate).
    """

    ids: Tensor
    log_probabilities: Tensor
    log_normalizer: Tensor


def block_size(num_rows: int, most: int = MAX_SCORES) -> int:
    """Return how many words may be scored at once for so many predictions.

    Example:
        >>> block_size(1024), block_size(10**9)
        (4096, 1)
    """
    return max(1, most // max(1, num_rows))


def rank(block: Block, num: int, k: int, size: int) -> Ranking:
    r"""Return the `k` best of all words and their exact log-probabilities $s_w - \log\sum_v e^{s_v}$.

    Args:
        block: `block(start, stop)` gives the scores `[n, stop - start]` of the words from `start` up to `stop`.
        num: number of words.
        k: how many are wanted, at least 1; all where there are fewer.
        size: words scored at once.

    Raises:
        ValueError: `k` or `size` is below 1, or `num` is.

    Example:
        >>> scores = torch.tensor([[0.0, 2.0, 1.0, -1.0]])
        >>> found = rank(lambda start, stop: scores[:, start:stop], 4, 2, 3)
        >>> found.ids, torch.allclose(found.log_probabilities, scores.log_softmax(-1)[:, [1, 2]])
        (tensor([[1, 2]]), True)
    """
    _check(k, size, num)
    best: Tensor | None = None
    ids: Tensor | None = None
    total: Tensor | None = None
    for start in range(0, num, size):
        scores = block(start, min(start + size, num))
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        part = scores.logsumexp(-1)
        values, places = scores.topk(min(k, scores.shape[-1]), dim=-1)
        places = places + start
        if best is None or ids is None or total is None:
            best, ids, total = values, places, part
            continue
        total = torch.logaddexp(total, part)
        best, order = torch.cat([best, values], -1).topk(min(k, best.shape[-1] + values.shape[-1]), dim=-1)
        ids = torch.cat([ids, places], -1).gather(-1, order)
    assert best is not None
    assert ids is not None
    assert total is not None
    return Ranking(ids, best - total.unsqueeze(-1), total)


def log_normalizer(block: Block, num: int, size: int) -> Tensor:
    r"""Return $\log\sum_w e^{s_w}$ over all words, `[n]`, in blocks; arguments as for `rank`.

    Example:
        >>> scores = torch.zeros(1, 10)
        >>> log_normalizer(lambda start, stop: scores[:, start:stop], 10, 4).exp()
        tensor([10.])
    """
    _check(1, size, num)
    total: Tensor | None = None
    for start in range(0, num, size):
        scores = block(start, min(start + size, num))
        part = (scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores).logsumexp(-1)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return total


def rank_candidates(ids: Tensor, scores: Tensor, k: int, log_tail: Tensor | None = None) -> Ranking:
    r"""Return the `k` best of some candidates; the words that are none count as the tail.

    $$\log p_w = s_w - \log\Big(\sum_{c \in C} e^{s_c} + e^{t}\Big)$$

    Args:
        ids: candidates of each prediction, `[n, candidates]`; one that comes twice counts once.
        scores: theirs, `[n, candidates]`.
        k: how many are wanted, at least 1; all candidates where there are fewer.
        log_tail: $t$, `[n]`: the logarithm of the sum over all other words, as a head estimates it; None: there is
            nothing else, so that the probabilities of the candidates add up to 1.

    Raises:
        ValueError: `k` is below 1.

    Example:
        >>> found = rank_candidates(torch.tensor([[5, 9, 5]]), torch.zeros(1, 3), 2, torch.tensor([0.6931]))
        >>> found.ids, found.log_probabilities.exp()
        (tensor([[5, 9]]), tensor([[0.2500, 0.2500]]))
    """
    _check(k, 1, 1)
    order = ids.argsort(dim=-1, stable=True)
    ids, scores = ids.gather(-1, order), scores.gather(-1, order)
    again = torch.zeros_like(ids, dtype=torch.bool)
    again[..., 1:] = ids[..., 1:] == ids[..., :-1]
    scores = scores.masked_fill(again, -torch.inf)
    total = scores.logsumexp(-1)
    if log_tail is not None:
        total = torch.logaddexp(total, log_tail)
    values, places = scores.topk(min(k, scores.shape[-1]), dim=-1)
    return Ranking(ids.gather(-1, places), values - total.unsqueeze(-1), total)


@final
class ApproximateIndex:
    """Words near a prediction without looking at all of them: an index of the `faiss` library (extra `ann`).

    An inverted file: vectors are put into cells by k-means, and only the cells nearest to a query are searched. It is
    built on the CPU, once for a table; for a table that has changed build it again.

    Args:
        table: unit vectors `[num, width]`.
        num_cells: cells; 0: about `4 sqrt(num)`.
        num_probes: cells that a query looks into, at least 1; more is slower and misses less.
        seed: of the k-means.

    Raises:
        InputError: `faiss` is not installed.
        ValueError: a number out of its range.

    Not below some ten thousand words, where exact search is as fast.

    Source: Douze et al. (2024), The Faiss library; Sivic and Zisserman (2003), Video Google (inverted files).
    """

    def __init__(self, table: Tensor, *, num_cells: int = 0, num_probes: int = 16, seed: int = 0) -> None:
        if num_cells < 0 or num_probes < 1:
            raise ValueError(
                f"ApproximateIndex needs num_cells >= 0 and num_probes >= 1; got {num_cells!r} and {num_probes!r}."
            )
        faiss = _faiss()
        vectors = table.detach().float().cpu().contiguous().numpy()
        cells = min(num_cells or max(1, round(4 * len(vectors) ** 0.5)), len(vectors))
        quantizer = faiss.IndexFlatIP(vectors.shape[1])
        self._index: Any = faiss.IndexIVFFlat(quantizer, vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = seed
        self._index.cp.min_points_per_centroid = 1  # fewer than its 39 is no reason for a warning
        self._index.train(vectors)
        self._index.add(vectors)
        self._index.nprobe = min(num_probes, cells)
        self.num = len(vectors)

    def __call__(self, queries: Tensor, k: int) -> Tensor:
        """Return the ids of about the `k` vectors of largest inner product with each query `[n, width]`, `[n, k]`.

        Where the cells looked into hold fewer than `k` vectors, the best one stands in the places left.
        """
        _check(k, 1, 1)
        _, ids = self._index.search(queries.detach().float().cpu().contiguous().numpy(), min(k, self.num))
        found = torch.from_numpy(ids).to(queries.device)
        return torch.where(found < 0, found[:, :1].clamp_min(0), found)


def _faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise InputError(
            "An approximate index needs the faiss library; pip install 'thalweg[ann]', or search exactly."
        ) from None


def _check(k: int, size: int, num: int) -> None:
    if k < 1 or size < 1 or num < 1:
        raise ValueError(f"A search needs at least 1 word, 1 answer and blocks of 1; got {num}, {k} and {size}.")
