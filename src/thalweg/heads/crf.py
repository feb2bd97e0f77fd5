"""Tags of a sequence that depend on each other: a linear-chain conditional random field."""

from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from thalweg.errors import require
from thalweg.heads import chain
from thalweg.heads.base import AbstractHead, expand_to, masked, top_k, upcast

# Score of a step that is ruled out: exp of it is 0 in every type, and a sum of thousands of them is still finite.
RULED_OUT = -1e4
NOT_GIVEN = -2  # in place of the id of a tag that is unknown


@final
class CRF(AbstractHead):
    r"""A linear layer, a score for each pair of neighboring tags, and the softmax over whole sequences of tags.

    With the scores `e_t = W h_t + b` of the tags at place t and the transitions `A`, a path y has the score and the
    probability

        s(y) = sum_t e_t[y_t] + sum_{t > 0} A[y_{t-1}, y_t],   p(y) = exp(s(y)) / sum over all paths of exp(s)

    and the loss of a sequence is `-log p(y)`, exactly, by the forward algorithm. The count is the number of its places,
    so that sum / count compares with a softmax that tags each word by itself. The prediction holds the score of every
    pair, `e_t[k]` in row 0 (first place) and `A[j, k] + e_t[k]` in row 1 + j: the loss is a function of it alone, and
    its second derivative is the covariance of the pairs, exact as product and as square root.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the scores of the tags.
        num_tags: number of tags `C`, at least 1.
        allowed: bool `[1 + C, C]`: which tags may come first (row 0), and which may follow tag j (row 1 + j); what
            is not allowed has the probability zero, and a target that needs it a loss of 10,000. None: all.
        ends: bool `[C]`: which tags may come last; None: all.
        bias: whether the layer has one.

    A target of -2 is a tag that is not given, wherever in its sequence and whatever the mask says there: the loss is
    -log of the probability of all paths with the given tags, which counts these places only. It is no convex function
    then; the second derivative is that of its convex part, as if all tags were given.

    Shapes: hidden `[..., time, width]`; prediction `[..., time, (1 + C) C]`; targets ids `[..., time]`; mask the same,
    True from the left up to the end of each sequence, or only its first dimensions; weights one for each sequence:
    `[...]`, or `[..., time]` with equal ones in a sequence. What is ruled out must leave at least one path.

    Attributes:
        preference: `[C]`, added to the scores of the tags where the best path is sought, and nowhere else; zeros.

    Raises:
        ValueError: an argument out of range, a shape that does not fit, or a mask with a hole.

    Example:
        >>> head = CRF(None, 2)
        >>> total, count = head.loss(head(torch.zeros(1, 3, 2)), torch.tensor([[0, 1, 1]]))
        >>> round(total.item(), 4), count.item()  # one of eight paths
        (2.0794, 3.0)

    Source: Lafferty, McCallum, Pereira, "Conditional Random Fields: Probabilistic Models for Segmenting and Labeling
    Sequence Data" (2001).

    Not for hundreds of tags: time and memory grow with `C^2`. Use `Softmax`.
    """

    forbidden: Tensor
    forbidden_ends: Tensor
    preference: Tensor

    def __init__(
        self,
        width: int | None,
        num_tags: int,
        *,
        allowed: Tensor | None = None,
        ends: Tensor | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        require(num_tags >= 1, "CRF(num_tags=...) must be at least 1", num_tags)
        self.num_tags = num_tags
        self.output = nn.Identity() if width is None else nn.Linear(width, num_tags, bias=bias)
        self.transitions = nn.Parameter(torch.zeros(num_tags, num_tags))
        for name, given, shape in (
            ("forbidden", allowed, (1 + num_tags, num_tags)),
            ("forbidden_ends", ends, (num_tags,)),
        ):
            if given is not None and given.shape != shape:
                raise ValueError(f"CRF: expected a mask of shape {list(shape)}; got {list(given.shape)}.")
            ruled_out = torch.zeros(shape) if given is None else RULED_OUT * (~given.bool()).float()
            # The caller's setting, not learned: a run's weights need not carry it.
            self.register_buffer(name, ruled_out, persistent=False)
        self.register_buffer("preference", torch.zeros(num_tags))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the scores of pairs `[..., time, (1 + C) C]`."""
        return (self.output(hidden).unsqueeze(-2) + self._matrix()).flatten(-2)

    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood of whole sequences, and the number of their places."""
        whole, given = _known(mask, targets)
        psi, whole = self._chain(prediction, whole)
        given = whole if given is None else given.reshape(whole.shape)
        tags = self._ids(targets, given)
        # Where all tags are given, that is the score of one path.
        if given is whole:
            scores = chain.path_scores(psi, tags, whole)
        else:
            scores = chain.log_partition(chain.through(psi, tags, given), whole)
        return _sums(chain.log_partition(psi, whole) - scores, given, weights, prediction)

    @override
    def loss_from_hidden(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if _known(mask, targets)[1] is not None:
            return self.loss(self(hidden), targets, mask, weights)
        mask = _places(mask, targets.shape, targets.device)
        hidden = masked(mask.unsqueeze(-1), hidden.reshape(*mask.shape, -1))
        scores = self.output(hidden)
        tags = self._ids(targets, mask)
        exact = _exact(scores)
        matrix = self._matrix().to(exact)
        each = chain.packed_losses(scores.to(exact), matrix, self.forbidden_ends.to(exact), tags, mask)
        return _sums(each, mask, weights, scores)

    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the covariance of the pairs times `v`, times the weight of each sequence."""
        found, factor, rows = self._marginals(prediction, _known(mask, targets)[0], weights, v)
        return (chain.covariance_product(found, rows) * factor).reshape(v.shape).to(v.dtype)

    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return `S v`, with `S S^T` the covariance of the pairs, times the root of the weight of each sequence."""
        found, factor, rows = self._marginals(prediction, _known(mask, targets)[0], weights, v)
        return (chain.covariance_root(found, rows) * factor.sqrt()).reshape(v.shape).to(v.dtype)

    def decode(self, prediction: Tensor, k: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the `k` most probable tags at each place and their log-probabilities, over all paths, best first."""
        psi, mask = self._chain(prediction, mask)
        found = chain.marginals(psi, mask).tags.log().to(upcast(prediction).dtype)
        return top_k(found.reshape(*prediction.shape[:-1], self.num_tags), k)

    @override
    def best_ids(self, prediction: Tensor, mask: Tensor | None = None) -> Tensor:
        psi, mask = self._chain(prediction, mask)
        return self._best(psi, mask).reshape(prediction.shape[:-1])

    @override
    def probabilities(self, prediction: Tensor, mask: Tensor | None = None) -> Tensor:
        psi, mask = self._chain(prediction, mask)
        return chain.marginals(psi, mask).tags.reshape(*prediction.shape[:-1], -1).to(upcast(prediction).dtype)

    @override
    def prefer(self, offset: Tensor) -> bool:
        self.preference.copy_(offset)
        return True

    @override
    def notes(self) -> list[str]:
        if not bool(self.preference.any()):
            return []
        amount = float(self.preference.abs().max())
        return [f"Spans are preferred: the score of being outside is lowered by {amount:g}, as is best on validation."]

    def best_path(self, prediction: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the most probable sequence of tags, ids `[..., time]`, and its log-probability `[...]`.

        With a `preference` it is the path that is best with it, and its probability without.

        Args:
            prediction: `[..., time, (1 + C) C]`.
            mask: as for `loss`; ids are 0 where it is False.
        """
        psi, mask = self._chain(prediction, mask)
        path = self._best(psi, mask)
        found = chain.path_scores(psi, path, mask) - chain.log_partition(psi, mask)
        shape = prediction.shape[:-1]
        return path.reshape(shape), found.reshape(shape[:-1]).to(upcast(prediction).dtype)

    def _best(self, psi: Tensor, mask: Tensor) -> Tensor:
        return chain.best_path(psi + self.preference.to(psi), mask)[0]

    def _matrix(self) -> Tensor:
        """What is added to the scores of tags: `[1 + C, C]`."""
        return torch.cat([torch.zeros_like(self.transitions[:1]), self.transitions]) + self.forbidden

    def _chain(self, prediction: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores of pairs `[batch, time, 1 + C, C]` with the ends that are ruled out, and the mask `[batch, time]`."""
        num, size = self.num_tags, (1 + self.num_tags) * self.num_tags
        if prediction.ndim < 2 or prediction.shape[-1] != size:
            raise ValueError(f"CRF: expected a prediction [..., time, {size}]; got {list(prediction.shape)}.")
        mask = _places(mask, prediction.shape[:-1], prediction.device)
        psi = prediction.reshape(*mask.shape, 1 + num, num).to(_exact(prediction))
        after = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1)
        psi = torch.where(mask[..., None, None], psi, 0.0)
        return psi + (mask & ~after)[..., None, None] * self.forbidden_ends.to(psi), mask

    def _ids(self, targets: Tensor, mask: Tensor) -> Tensor:
        return targets.long().reshape(mask.shape).masked_fill(~mask, 0)

    def _marginals(
        self, prediction: Tensor, mask: Tensor | None, weights: Tensor | None, v: Tensor
    ) -> tuple[chain.Marginals, Tensor, Tensor]:
        """The chain's probabilities, the weight of each sequence to multiply with, and `v` as pairs."""
        psi, mask = self._chain(prediction.detach(), mask)
        factor = _by_sequence(weights, mask, psi)[:, None, None, None]
        leading = v.shape[: v.ndim - prediction.ndim]
        rows = masked(mask[..., None, None], v.reshape(*leading, *psi.shape).to(psi.dtype))
        return chain.marginals(psi, mask), factor, rows


def _exact(like: Tensor) -> torch.dtype:
    """The type for sums over paths: a small probability in the middle of a sequence may matter at its end."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def _places(mask: Tensor | None, shape: torch.Size, device: torch.device) -> Tensor:
    """The mask `[batch, time]` for targets of some shape; a ValueError where it has holes."""
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=device).reshape(-1, shape[-1])
    mask = expand_to(mask, shape, "mask").reshape(-1, shape[-1])
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("CRF: the mask must be True from the left up to the end of each sequence; it has a hole.")
    return mask


def _known(mask: Tensor | None, targets: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The mask of whole sequences, and that of the given tags; None for it where all are given."""
    unknown = targets == NOT_GIVEN
    if not bool(unknown.any()):
        return mask, None
    full = torch.ones_like(unknown) if mask is None else expand_to(mask, targets.shape, "mask")
    return full | unknown, full & ~unknown


def _by_sequence(weights: Tensor | None, mask: Tensor, like: Tensor) -> Tensor:
    """One weight for each sequence, `[batch]`."""
    if weights is None:
        return like.new_ones(len(mask))
    if weights.numel() == len(mask):
        return weights.reshape(-1).to(like.dtype)
    if weights.numel() != mask.numel():
        raise ValueError(
            f"CRF: expected one weight for each of {len(mask)} sequences; got the shape {list(weights.shape)}."
        )
    rows = weights.reshape(mask.shape).to(like.dtype)
    if bool(((rows != rows[:, :1]) & mask).any()):
        raise ValueError("CRF: the weights of one sequence must be equal, for its loss is no sum over places.")
    return rows[:, 0]


def _sums(each: Tensor, mask: Tensor, weights: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of sequences `[batch]` -> their weighted sum and the weighted number of places."""
    factor = _by_sequence(weights, mask, each)
    dtype = upcast(like).dtype
    return (each * factor).sum().to(dtype), (mask.sum(-1) * factor).sum().to(dtype)
