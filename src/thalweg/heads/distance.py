"""Distances and angles to a word's vector: L2, cosine, and the power spherical distribution."""

import math
from typing import Unpack, final

import torch
from torch import Tensor

from thalweg.heads.continuous import ContinuousOptions
from thalweg.heads.directional import AbstractDirectional, length_of
from thalweg.heads.targets import Targets


@final
class L2(AbstractDirectional):
    r"""Distance between the prediction and the target's vector.

    Squared, the loss is $\frac12\lVert e - u_y\rVert^2 - \frac12$; not squared, as published, $\lVert e - u_y\rVert -
    1$. Both are 0 for a prediction of zero and smallest for $e = u_y$. The squared one is minimized by the mean of the
    plausible words' vectors, so it leads to short predictions where many are plausible.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors, frozen as a rule: nothing in this loss keeps learned ones apart.
        squared: whether the distance is squared.
        **options: see `AbstractContinuous`; scores are $c\, e \cdot u_w + \beta \log p_w$. Label smoothing $a$ makes
            the squared distance one to $(1 - a) u_y$, the mean over smoothed targets if the vectors' mean is zero.

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range, shapes that don't fit, ids out of range.

    The curvature is the identity, or the semidefinite part of that of a distance.

    Example:
        >>> head = L2(None, Targets(torch.eye(4)))
        >>> head.loss(torch.eye(4)[:2], torch.tensor([0, 1]))[0].item()
        -1.0

    Source: Kumar, Tsvetkov (2019), Von Mises-Fisher Loss for Training Sequence to Sequence Models with Continuous
    Outputs, where it is behind all other losses.

    Not where words must be told apart: use `Cosine` or better.
    """

    is_likelihood = False
    takes_smoothing = True

    def __init__(
        self, width: int | None, targets: Targets, *, squared: bool = True, **options: Unpack[ContinuousOptions]
    ) -> None:
        super().__init__(width, targets, **options)
        if self.label_smoothing and not squared:
            raise ValueError(
                "L2(label_smoothing=...) has no meaning for a distance that is not squared; leave it at 0."
            )
        self.squared = squared

    def potential(self, square: Tensor, dot: Tensor) -> Tensor:
        """Return the loss of each row from $q$ and $t$."""
        if self.squared:
            return 0.5 * square - (1.0 - self.label_smoothing) * dot
        return length_of((square - 2.0 * dot + 1.0).clamp_min(0.0)) - 1.0


@final
class Cosine(AbstractDirectional):
    r"""The angle between the prediction and the target's vector: $\ell = -\cos\theta$.

    That is the published $1 - \cos\theta$ minus 1: 0 for an orthogonal prediction, -1 for the best. The length of
    the prediction means nothing.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors, frozen as a rule: nothing in this loss keeps learned ones apart.
        **options: see `AbstractContinuous`; scores are $c \cos\theta_w + \beta \log p_w$. Label smoothing $a$
            multiplies the loss by $1 - a$, the mean over smoothed targets if the vectors' mean is zero.

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range, shapes that don't fit, ids out of range.

    The loss is not convex in the prediction: `curvature_product` gives the semidefinite part.

    Example:
        >>> head = Cosine(None, Targets(torch.eye(4)))
        >>> head.loss(3 * torch.eye(4)[:2], torch.tensor([0, 1]))[0].item()
        -2.0

    Source: Li, Chen, Hsieh, Chang (2019), Efficient Contextual Representation Learning With Continuous Outputs;
    Tokarchuk, Niculae (2024), The Unreasonable Effectiveness of Random Target Embeddings.

    Not where probabilities matter: use `AnalyticSoftmax`.
    """

    is_likelihood = False
    takes_smoothing = True

    def potential(self, square: Tensor, dot: Tensor) -> Tensor:
        """Return the loss of each row from $q$ and $t$."""
        return (self.label_smoothing - 1.0) * dot / length_of(square)

    def _scores(self, dots: Tensor, square: Tensor) -> Tensor:
        return dots / length_of(square)


@final
class PowerSpherical(AbstractDirectional):
    r"""Negative log-likelihood under the power spherical distribution, relative to the uniform one.

    Its density is proportional to $(1 + \cos\theta)^\kappa$, so that no Bessel function is needed:

    $$\ell = \kappa \log 2 + \log\frac{\Gamma(\beta + \kappa)}{\Gamma(\beta)} -
    \log\frac{\Gamma(2\beta + \kappa)}{\Gamma(2\beta)} - \kappa \log(1 + \cos\theta), \qquad \beta = \frac{m-1}2,$$

    with $\kappa$ the prediction's length. It is 0 for a prediction of zero and negative for a better one.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        targets: the words' vectors, frozen as a rule: nothing in this loss keeps learned ones apart.
        **options: see `AbstractContinuous`; scores are $c\,\kappa \log(1 + \cos\theta_w) + b \log p_w$, $b$ the prior.

    Shapes: prediction `[..., m]`; targets int `[...]`; mask and weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range, shapes that don't fit, ids out of range.

    The loss is not convex in the prediction: `curvature_product` gives the semidefinite part.

    Example:
        >>> head = PowerSpherical(None, Targets(torch.eye(16)))
        >>> head.loss(9 * torch.eye(16)[:1], torch.tensor([0]))[0].item() < -2.0
        True

    Source: De Cao, Aziz (2020), The Power Spherical distribution.

    Not for comparing its likelihood with that of `VonMisesFisher`: they are two distributions.
    """

    def potential(self, square: Tensor, dot: Tensor) -> Tensor:
        """Return the loss of each row from $q$ and $t$."""
        kappa = length_of(square)
        beta = 0.5 * (self.targets.width - 1)
        normalizer = torch.lgamma(beta + kappa) - torch.lgamma(2.0 * beta + kappa)
        at_zero = math.lgamma(beta) - math.lgamma(2.0 * beta)
        return kappa * math.log(2.0) + (normalizer - at_zero) - kappa * _log_one_plus(dot / kappa)

    def _scores(self, dots: Tensor, square: Tensor) -> Tensor:
        kappa = length_of(square)
        return kappa * _log_one_plus(dots / kappa)


def _log_one_plus(cosine: Tensor) -> Tensor:
    """The logarithm of 1 + cos, finite also at the opposite pole."""
    return torch.log1p(cosine.clamp_min(-1.0 + 1e-6))
