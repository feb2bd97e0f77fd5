"""Margins: the target's vector must be nearer than a wrong one, found in the batch or made from the prediction."""

import math
from typing import Unpack, final

import torch
from torch import Tensor

from thalweg.errors import require
from thalweg.heads.base import masked
from thalweg.heads.candidates import NOTHING, distinct, everyones
from thalweg.heads.continuous import AbstractContinuous, ContinuousOptions
from thalweg.heads.directional import AbstractDirectional, PlaneCurvature, length_of
from thalweg.heads.neighbors import block_size
from thalweg.heads.targets import Targets


@final
class MaxMargin(AbstractDirectional):
    r"""Hinge on the difference of two cosines, against the one word that violates the margin most informatively.

    $$\ell = \max\big(0,\; \gamma + \cos(e, u_n) - \cos(e, u_y)\big) - \gamma, \qquad
    n = \arg\max_{w \ne y}\; \cos(e, u_w) - \cos(u_y, u_w)$$

    It is 0 where both are equally far, and $-\gamma$ where nothing is left to learn. The wrong word is taken from the
    batch's own targets, which costs as much as contrast; the published search of the whole vocabulary (`everywhere`)
    reads every word at each step, at about a fifth of a softmax's cost (V = 32k).

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors.
        margin: $\gamma > 0$.
        everywhere: whether the wrong word is searched in the whole vocabulary, a block at a time.
        **options: see `AbstractContinuous`; scores are $c \cos\theta_w + \beta \log p_w$.

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range, shapes that don't fit, ids out of range.

    Unless `everywhere`, the loss of a batch is not the sum of the losses of its parts, which have fewer wrong words.
    `curvature_product` gives the semidefinite part, for the wrong words as they are.

    Example:
        >>> head = MaxMargin(None, Targets(torch.eye(4)), margin=0.5)
        >>> head.loss(torch.eye(4)[:2], torch.tensor([0, 1]))[0].item()
        -1.0

    Source: Lazaridou, Dinu, Baroni (2015), Hubness and Pollution; Kumar, Tsvetkov (2019), Von Mises-Fisher Loss
    for Training Sequence to Sequence Models with Continuous Outputs.
    """

    is_likelihood = False

    def __init__(
        self,
        width: int | None,
        targets: Targets,
        *,
        margin: float = 0.5,
        everywhere: bool = False,
        **options: Unpack[ContinuousOptions],
    ) -> None:
        super().__init__(width, targets, **options)
        _check_margin(margin, "MaxMargin")
        self.margin = margin
        self.everywhere = everywhere

    def potential(self, square: Tensor, dot: Tensor) -> Tensor:
        """Return the loss of each row from $q$ and $t$."""
        return (self.margin + dot / length_of(square)).clamp_min(0.0) - self.margin

    def _against(self, prediction: Tensor, ids: Tensor, real: Tensor | None) -> Tensor:
        own = self.targets(ids).to(prediction.dtype)
        with torch.no_grad():
            unit = prediction / length_of(prediction.square().sum(-1, keepdim=True))
            query = unit - own
        if self.everywhere:
            wrong, found = _farthest_everywhere(self.targets, query, ids)
        else:
            wrong, found = _farthest_in_batch(self.targets, query, ids, real)
        return masked(found.unsqueeze(1), self.targets(wrong).to(prediction.dtype) - own)

    def _scores(self, dots: Tensor, square: Tensor) -> Tensor:
        return dots / length_of(square)


@final
class SyntheticMargin(AbstractDirectional):
    r"""Hinge against a wrong vector that is made from the prediction, so that no word has to be searched.

    By projection the wrong vector is the part of the prediction orthogonal to the target, by difference it is the way
    from the target to the prediction (unit lengths). Both make the loss a function of the angle alone:

    $$\ell = \max(0,\; \lambda + \sin\theta - \cos\theta) - (\lambda + 1) \quad\text{or}\quad
    \max\big(0,\; \lambda + \sin\tfrac\theta2 - \cos\theta\big) - \big(\lambda + \tfrac1{\sqrt2}\big),$$

    0 for orthogonal vectors, smallest where the angle is small enough. Value and gradient belong together: published
    code detaches the wrong vector, which changes no gradient by projection, and by difference doubles the sine's part.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors, frozen as a rule: nothing in this loss keeps learned ones apart.
        margin: $\lambda > 0$.
        difference: whether the wrong vector is made by difference.
        **options: see `AbstractContinuous`; scores are $c \cos\theta_w + \beta \log p_w$.

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range, shapes that don't fit, ids out of range.

    The loss is not convex in the prediction: `curvature_product` gives the semidefinite part.

    Example:
        >>> head = SyntheticMargin(None, Targets(torch.eye(4)), margin=0.5)
        >>> [head.loss(torch.eye(4)[:1], torch.tensor([y]))[0].item() for y in (0, 1)]
        [-1.5, 0.0]

    Source: Bhat, Kumar, Tsvetkov (2019), A Margin-based Loss with Synthetic Negative Samples for Continuous-output
    Machine Translation.
    """

    is_likelihood = False

    def __init__(
        self,
        width: int | None,
        targets: Targets,
        *,
        margin: float = 0.5,
        difference: bool = False,
        **options: Unpack[ContinuousOptions],
    ) -> None:
        super().__init__(width, targets, **options)
        _check_margin(margin, "SyntheticMargin")
        self.margin = margin
        self.difference = difference

    def potential(self, square: Tensor, dot: Tensor) -> Tensor:
        """Return the loss of each row from $q$ and $t$."""
        cosine = dot / length_of(square)
        squared = 0.5 * (1.0 - cosine) if self.difference else 1.0 - cosine.square()
        wrong = torch.sqrt(squared.clamp_min(1e-8))
        orthogonal = math.sqrt(0.5) if self.difference else 1.0
        return (self.margin + wrong - cosine).clamp_min(0.0) - (self.margin + orthogonal)

    def _scores(self, dots: Tensor, square: Tensor) -> Tensor:
        return dots / length_of(square)


@final
class Triplet(AbstractContinuous):
    r"""Hinge on the difference of two distances: to the target's vector, and to the nearest wrong one of the batch.

    $$\ell = \max\big(0,\; \gamma + \lVert e - u_y\rVert - \lVert e - u_n\rVert\big) - \gamma, \qquad
    n = \arg\min_{w \in B,\, w \ne y} \lVert e - u_w\rVert$$

    It is 0 where both are equally far, and $-\gamma$ where nothing is left to learn. The prediction keeps its length.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors.
        margin: $\gamma > 0$.
        **options: see `AbstractContinuous`; scores are $c\, e \cdot u_w + \beta \log p_w$.

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range, shapes that don't fit, ids out of range.

    The loss of a batch is not the sum of the losses of its parts, which have fewer wrong words. `curvature_product`
    gives the semidefinite part, for the wrong words as they are.

    Example:
        >>> head = Triplet(None, Targets(torch.eye(4)), margin=0.5)
        >>> round(head.loss(torch.eye(4)[:2], torch.tensor([0, 1]))[0].item(), 3)
        -1.0

    Source: Schroff, Kalenichenko, Philbin (2015), FaceNet; Hermans, Beyer, Leibe (2017), In Defense of the Triplet Loss
    (hardest negative of the batch).
    """

    is_likelihood = False

    def __init__(
        self, width: int | None, targets: Targets, *, margin: float = 0.5, **options: Unpack[ContinuousOptions]
    ) -> None:
        super().__init__(width, targets, **options)
        _check_margin(margin, "Triplet")
        self.margin = margin

    def _losses(self, prediction: Tensor, ids: Tensor, real: Tensor | None) -> Tensor:
        *_, near, far, found = self._ways(prediction, ids, real)
        return masked(found, (self.margin + near - far).clamp_min(0.0) - self.margin)

    @torch.no_grad()
    def _curvature(self, prediction: Tensor, ids: Tensor, real: Tensor | None, v: Tensor, root: bool) -> Tensor:
        right, wrong, near, far, found = self._ways(prediction, ids, real)
        active = ((self.margin + near - far > 0.0) & found).to(v.dtype)
        identity, zero = active * (1.0 / near - 1.0 / far), torch.zeros_like(near)
        return PlaneCurvature(right, wrong, identity, -active * near**-3, zero, active * far**-3).apply(v, root)

    def _ways(self, prediction: Tensor, ids: Tensor, real: Tensor | None) -> tuple[Tensor, ...]:
        """From the right and the wrong vector to the prediction, `[n, m]`, their lengths, and whether one is wrong."""
        wrong, found = _farthest_in_batch(self.targets, prediction, ids, real)
        ways = [prediction - self.targets(words).to(prediction.dtype) for words in (ids, wrong)]
        return (*ways, *(length_of(way.square().sum(-1)) for way in ways), found)


@torch.no_grad()
def _farthest_in_batch(targets: Targets, query: Tensor, ids: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
    """The batch's word of largest inner product with each query, not the row's own; and whether there is one."""
    words, there = distinct(*everyones(ids, real, targets), targets.num)
    if not len(words):
        return ids, torch.zeros_like(ids, dtype=torch.bool)
    dots = query @ targets(words).to(query.dtype).T
    dots.masked_fill_(ids.unsqueeze(1) == words, NOTHING)
    if there is not None:
        dots.masked_fill_(~there, NOTHING)
    values, places = dots.max(1)
    return words[places], values > 0.5 * NOTHING


@torch.no_grad()
def _farthest_everywhere(targets: Targets, query: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The same among all words, in blocks of the vocabulary."""
    best, wrong = torch.full_like(query[:, 0], NOTHING), torch.zeros_like(ids)
    size = block_size(len(ids))
    for start in range(0, targets.num, size):
        stop = min(start + size, targets.num)
        dots = query @ targets.block(start, stop).to(query.dtype).T
        words = torch.arange(start, stop, device=ids.device)
        values, places = dots.masked_fill_(ids.unsqueeze(1) == words, NOTHING).max(1)
        wrong = torch.where(values > best, places + start, wrong)
        best = torch.maximum(values, best)
    return wrong, best > 0.5 * NOTHING


def _check_margin(margin: float, head: str) -> None:
    require(0.0 < margin < math.inf, f"{head}(margin=...) must be positive and finite", margin)
