"""Answers of a head with continuous outputs from few words: a shortlist, an approximate index, or both."""

import importlib
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.errors import InputError, require
from thalweg.heads.base import AbstractHead
from thalweg.heads.continuous import AbstractContinuous

Search = Callable[[Tensor, int], Tensor]
"""Predictions `[n, m]` and a number -> about so many ids of words near each, such as `ApproximateIndex`."""


@final
class CandidateDecoding(AbstractHead):
    r"""A trained head that answers from candidates; everything else is the head's own.

    Candidates of a prediction are the words of a shortlist, the same for all, and those that a search finds near it.
    Their log-probabilities are normalized over the whole vocabulary all the same: the sum over the words that are no
    candidates is estimated from a fixed random sample $R$ of them,

    $$\log p_w = s_w - \log\Big(\sum_{c \in C} e^{s_c} + \frac{V - |C|}{|R \setminus C|} \sum_{r \in R \setminus C}
    e^{s_r}\Big) ,$$

    which needs no assumption about how the vectors are spread. So beams and samples weigh words as the full softmax
    does, at a cost that doesn't grow with the vocabulary.

    Args:
        head: a trained one.
        search: finds words near predictions; None: none but the shortlist.
        shortlist: ids of words that are always candidates, such as the most frequent ones.
        num_near: words that the search is asked for, at least 1.
        num_sampled: size of $R$, at least 1 (all words where there are fewer).
        seed: of the sample.

    Raises:
        ValueError: neither search nor shortlist, an id out of range, or a number below 1.

    Example:
        >>> from thalweg.heads.targets import Targets
        >>> from thalweg.heads.vmf import VonMisesFisher
        >>> head = VonMisesFisher(None, Targets(torch.eye(8)))
        >>> fast = CandidateDecoding(head, shortlist=torch.tensor([5, 2, 3]))
        >>> ids, scores = fast.decode(4 * torch.eye(8)[2:3], 1)
        >>> ids, torch.allclose(scores, head.decode(4 * torch.eye(8)[2:3], 1)[1])
        (tensor([[2]]), True)

    Not for training, and not for exact perplexity: `loss` and `log_probability` are the head's own and see all words
    that they always see.
    """

    shortlist: Tensor
    sample: Tensor

    def __init__(
        self,
        head: AbstractContinuous,
        search: Search | None = None,
        *,
        shortlist: Tensor | None = None,
        num_near: int = 64,
        num_sampled: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if search is None and (shortlist is None or not len(shortlist)):
            raise ValueError("CandidateDecoding(search=..., shortlist=...) needs one of them; got neither.")
        if num_near < 1 or num_sampled < 1:
            raise ValueError(
                "CandidateDecoding(num_near=..., num_sampled=...) must be at least 1; got "
                f"{num_near!r} and {num_sampled!r}."
            )
        num, device = head.targets.num, head.targets.table().device
        words = torch.empty(0, dtype=torch.long) if shortlist is None else shortlist.long().unique()
        if len(words) and not 0 <= int(words[0]) <= int(words[-1]) < num:
            raise ValueError(f"CandidateDecoding(shortlist=...) must hold ids in [0, {num}).")
        self.head = head
        self.search = search
        self.num_near = num_near
        sample = torch.randperm(num, generator=torch.Generator().manual_seed(seed))[:num_sampled]
        self.register_buffer("shortlist", words.to(device), persistent=False)
        self.register_buffer("sample", sample.to(device), persistent=False)

    @override
    def forward(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    @override
    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.head.loss(prediction, targets, mask, weights)

    @override
    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        return self.head.curvature_product(prediction, targets, mask, v, weights)

    @override
    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        return self.head.curvature_root(prediction, targets, mask, v, weights)

    @override
    def log_probability(self, prediction: Tensor, targets: Tensor) -> Tensor:
        return self.head.log_probability(prediction, targets)

    def decode(self, prediction: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the `k` best candidates and their log-probabilities, best first; fewer where there are fewer."""
        flat = prediction.reshape(-1, prediction.shape[-1])
        ids = self.shortlist.expand(len(flat), -1)
        if self.search is not None:
            ids = torch.cat([ids, self.search(flat, max(self.num_near, k))], 1)
        ids, values = rank_candidates(ids, self.head.scores(flat, ids), k, self._log_tail(flat, ids))
        shape = (*prediction.shape[:-1], ids.shape[-1])
        return ids.reshape(shape), values.reshape(shape)

    def log_probabilities(self, prediction: Tensor) -> Tensor:
        """Return the log-probability of every id, minus infinity for those that are no candidates."""
        ids, found = self.decode(prediction, self.num_near + len(self.shortlist))
        shape = (*prediction.shape[:-1], self.head.targets.num)
        # An id that comes twice has minus infinity the second time.
        return found.new_full(shape, -torch.inf).scatter_reduce(-1, ids, found, "amax")

    def _log_tail(self, prediction: Tensor, ids: Tensor) -> Tensor:
        """The logarithm of the sum over all words that are not candidates, `[n]`, from the sample."""
        order = ids.sort(-1).values
        places = torch.searchsorted(order, self.sample.expand(len(ids), -1).contiguous())
        is_candidate = order.gather(1, places.clamp(max=order.shape[1] - 1)) == self.sample
        scores = self.head.scores(prediction, self.sample.expand(len(ids), -1)).masked_fill(is_candidate, -torch.inf)
        num_candidates = 1 + (order[:, 1:] != order[:, :-1]).sum(-1)
        others = (self.head.targets.num - num_candidates).to(scores.dtype)
        sampled = (~is_candidate).sum(-1).to(scores.dtype)
        return scores.logsumexp(-1) + torch.log(others / sampled.clamp_min(1.0))


def rank_candidates(ids: Tensor, scores: Tensor, k: int, log_tail: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Return ids `[n, k]` of the `k` best of some candidates and their log-probabilities; other words are the tail.

    $$\log p_w = s_w - \log\Big(\sum_{c \in C} e^{s_c} + e^{t}\Big)$$

    Ids and scores are `[n, candidates]`, where an id that comes twice counts once. `log_tail` is $t$ `[n]`, a head's
    estimate of the sum over all other words; None: the probabilities of the candidates add up to 1.
    """
    require(k >= 1, "decode(k=...) must be at least 1", k)
    order = ids.argsort(dim=-1, stable=True)
    ids, scores = ids.gather(-1, order), scores.gather(-1, order)
    again = torch.zeros_like(ids, dtype=torch.bool)
    again[..., 1:] = ids[..., 1:] == ids[..., :-1]
    scores = scores.masked_fill(again, -torch.inf)
    total = scores.logsumexp(-1)
    if log_tail is not None:
        total = torch.logaddexp(total, log_tail)
    values, places = scores.topk(min(k, scores.shape[-1]), dim=-1)
    return ids.gather(-1, places), values - total.unsqueeze(-1)


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
        require(k >= 1, "decode(k=...) must be at least 1", k)
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
