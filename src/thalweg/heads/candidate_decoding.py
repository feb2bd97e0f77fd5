"""Answers of a head with continuous outputs from few words: a shortlist, an approximate index, or both."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from thalweg.heads.base import AbstractHead
from thalweg.heads.continuous import AbstractContinuous
from thalweg.heads.neighbors import rank_candidates

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

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the head's prediction."""
        return self.head(hidden)

    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the head's loss."""
        return self.head.loss(prediction, targets, mask, weights)

    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the head's curvature times `v`."""
        return self.head.curvature_product(prediction, targets, mask, v, weights)

    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the root of the head's curvature times `v`."""
        return self.head.curvature_root(prediction, targets, mask, v, weights)

    def log_probability(self, prediction: Tensor, targets: Tensor) -> Tensor:
        """Return the head's exact log-probabilities."""
        return self.head.log_probability(prediction, targets)

    def decode(self, prediction: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the `k` best candidates and their log-probabilities, best first; fewer where there are fewer."""
        flat = prediction.reshape(-1, prediction.shape[-1])
        ids = self.shortlist.expand(len(flat), -1)
        if self.search is not None:
            ids = torch.cat([ids, self.search(flat, max(self.num_near, k))], 1)
        found = rank_candidates(ids, self.head.scores(flat, ids), k, self._log_tail(flat, ids))
        shape = (*prediction.shape[:-1], found.ids.shape[-1])
        return found.ids.reshape(shape), found.log_probabilities.reshape(shape)

    def _log_tail(self, prediction: Tensor, ids: Tensor) -> Tensor:
        """The logarithm of the sum over all words that are no candidates, `[n]`, from the sample."""
        order = ids.sort(-1).values
        places = torch.searchsorted(order, self.sample.expand(len(ids), -1).contiguous())
        is_candidate = order.gather(1, places.clamp(max=order.shape[1] - 1)) == self.sample
        scores = self.head.scores(prediction, self.sample.expand(len(ids), -1)).masked_fill(is_candidate, -torch.inf)
        num_candidates = 1 + (order[:, 1:] != order[:, :-1]).sum(-1)
        others = (self.head.targets.num - num_candidates).to(scores.dtype)
        sampled = (~is_candidate).sum(-1).to(scores.dtype)
        return scores.logsumexp(-1) + torch.log(others / sampled.clamp_min(1.0))
