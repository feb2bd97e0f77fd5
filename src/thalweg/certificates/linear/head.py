"""The last layer on features that stay as they are: a convex problem, whose optimum is bounded from both sides."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from thalweg.certificates.certificate.interval import Certificate
from thalweg.certificates.certificate.proved import proved_certificate
from thalweg.certificates.exact import exact_dual
from thalweg.certificates.linear.dual_bound import bound_of
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.regularizers import L2, AbstractRegularizer
from thalweg.certificates.losses import AbstractLoss
from thalweg.certificates.number_losses import HingeLoss

SMALL: Final = 0.01  # a relative gap above this is worth the search for a better dual point


@final
class Head:
    r"""The problem of a linear layer on given features.

    $$\min_{W, b} L(X W + b) + r(W) \;\ge\; -L^*(-R) - r^*(X^\top R)$$

    for every dual point $R$; with a free $b$ its columns sum to zero. With an L2 penalty $\frac\lambda2 \lVert W
    \rVert^2$ and the dual point of the predictions, the difference of the two sides is
    $\lVert \nabla \rVert^2 / (2 \lambda)$: a gap costs no more than a gradient, and is computed that way, without
    taking the difference of two close numbers.

    Args:
        features: $X$, `[num_examples, num_features]`.
        loss: $L$, of predictions `[num_examples, outputs]`.
        regularizer: $r$: `L2`, `L1`, `ElasticNet` or `Ball`.
        intercept: whether there is a $b$; it is not penalized.
        about: words for the certificate's scope: "examples" says which data these are; None: training examples.
        whole: whether the features are what the data are, so that the bound is one for every training of the model.

    Raises:
        ValueError: if the numbers of examples differ.

    Example:
        >>> from thalweg.certificates.losses import SoftmaxLoss
        >>> x, labels = torch.eye(4, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
        >>> head = Head(Features(x), SoftmaxLoss.of_labels(labels, 2), L2(0.1), intercept=False)
        >>> level = head.certificate(head.at(torch.zeros(4, 2)))
        >>> round(level.loss, 4), level.bound < level.loss, level.whole
        (0.6931, True, False)

    Source: Rockafellar (1970), Convex Analysis; Shalev-Shwartz and Zhang (2013), Stochastic Dual Coordinate Ascent
    Methods; Jaggi (2013), Revisiting Frank-Wolfe.
    When not to use it: for a layer whose weight is tied to the embedding: changing it changes the features.
    """

    def __init__(
        self,
        features: Features,
        loss: AbstractLoss,
        regularizer: AbstractRegularizer,
        *,
        intercept: bool,
        about: Mapping[str, str] | None = None,
        whole: bool = False,
    ) -> None:
        if features.shape[0] != loss.num_examples:
            raise ValueError(
                f"Head(features, loss): {features.shape[0]} rows of features, but {loss.num_examples} targets."
            )
        self.features, self.loss, self.regularizer, self.intercept = features, loss, regularizer, intercept
        self.about, self.whole = dict(about or {}), whole
        self._rounding = loss.dual_rounding(features.row_norms())

    def at(self, weight: Tensor, bias: Tensor | None = None) -> "HeadPoint":
        """Return loss and derivative at a point.

        Args:
            weight: $W$, `[num_features, outputs]` (the transpose of a layer's weight).
            bias: $b$, `[outputs]`; None: zero.

        Raises:
            ValueError: if the shapes do not fit, or a weight is NaN or infinite.
        """
        w = weight.detach().double()
        b = w.new_zeros(w.shape[-1]) if bias is None else bias.detach().double()
        if tuple(w.shape) != (self.features.shape[1], self.loss.num_outputs) or b.shape != w.shape[1:]:
            raise ValueError(
                f"Head.at(weight, bias) needs [{self.features.shape[1]}, {self.loss.num_outputs}] and its columns; got "
                f"{list(w.shape)} and {list(b.shape)}."
            )
        if not bool(torch.isfinite(w.sum() + b.sum())):
            raise ValueError("Head.at(...): the weights hold NaN or infinity.")
        return self.after(w, b, self.features.times(w).add_(b))

    def after(self, weight: Tensor, bias: Tensor, z: Tensor) -> "HeadPoint":
        """Return what `at` returns, with the predictions `z` known already, all of them in float64."""
        w, b = weight, bias
        value, slope_bias = z.new_zeros(()), torch.zeros_like(b)

        def residuals() -> Iterator[tuple[slice, Tensor]]:
            for rows, loss in self.loss.parts():
                part, residual = loss.value_and_residual(z[rows])
                value.add_(part)
                slope_bias.add_(residual.sum(0))
                yield rows, residual

        gradient = self.features.adjoint_of_parts(residuals())
        loss, penalty = torch.stack([value, self.regularizer.penalty(w)]).tolist()
        return HeadPoint(w, b, z, slope_bias, gradient, loss, penalty)

    def gap(self, point: "HeadPoint", *, search: bool = True) -> float:
        """Return how far the point may be above the optimum; not negative.

        Args:
            point: from `at`.
            search: where the gap is large, look for a better dual point on the way to zero.
        """
        by_slope = self._by_slope(point)
        if by_slope is not None and (by_slope <= SMALL * abs(point.total) or not search):
            return by_slope
        return self._gap(point)

    def relative_gap(self, point: "HeadPoint") -> float:
        """Return the gap as a fraction of the loss with its penalty; 0 for a loss of 0."""
        return self.gap(point) / point.total if point.total > 0.0 else 0.0

    def _by_slope(self, point: "HeadPoint") -> float | None:
        """Return the gap as the squared gradient over twice the penalty, where that is what it is."""
        regularizer = self.regularizer
        if not isinstance(regularizer, L2) or self.intercept or isinstance(self.loss, HingeLoss):
            return None
        slope = torch.add(point.gradient, point.weight, alpha=-regularizer.strength)
        return float(torch.linalg.vector_norm(slope)) ** 2 / (2.0 * regularizer.strength)

    def _gap(self, point: "HeadPoint") -> float:
        """Return the gap by the dual point of the predictions, scaled as suits it best."""
        loss, dual = self.loss, self.loss.dual_point(point.z, balanced=self.intercept)
        by_slope = self._by_slope(point)
        gradient = point.gradient
        if by_slope is None:
            residuals = ((rows, part.dual_residual(dual[rows])) for rows, part in loss.parts())
            gradient = self.features.adjoint_of_parts(residuals)
        plain = self._plain_gap(point, dual, gradient)
        if plain <= SMALL * abs(point.total):
            return max(0.0, plain)
        bound, _ = self.regularizer.bound(loss, dual, gradient, self._rounding)
        return max(0.0, point.total - bound)

    def _plain_gap(self, point: "HeadPoint", dual: Tensor, gradient: Tensor) -> float:
        """Return the gap by a dual point as it is, where an L2 penalty allows that: near the optimum it is the best."""
        if not isinstance(self.regularizer, L2):
            return math.inf
        square = float(gradient.square().sum()) / (2.0 * self.regularizer.strength)
        return point.total - (self.loss.value_of_scaled(dual, 1.0) - square)

    def certificate(self, point: "HeadPoint", *, offset: float = 0.0, evidence: bool = True) -> Certificate:
        """Return the certificate of a point, with all rounding accounted for.

        Args:
            point: from `at`.
            offset: what the rest adds to loss and bound, such as the penalty of the layers below.
            evidence: keep what `thalweg.certificates.checker.check` needs, as large as the data.
        """
        begin = time.perf_counter()
        dual = self.loss.dual_point(point.z, balanced=self.intercept)
        kept: dict[str, np.ndarray | float | int | str] = {
            "rule": "linear" if self.whole else "head",
            "regularizer": self.regularizer.name,
            **self.regularizer.settings(),
            **self.loss.evidence(),
            **exact_dual(self.loss, dual, balanced=self.intercept),
            **self.about,
            "offset": offset,
        }
        found = bound_of(kept, self.features, self._scale(point, dual))
        kept |= self.features.arrays()
        kept["W"] = point.weight.cpu().numpy()
        if self.intercept:
            kept["b"] = point.bias.cpu().numpy()
        size = point.total + float(point.z.abs().amax()) + abs(offset)
        return proved_certificate(
            kept,
            loss=point.total + offset,
            found=found._replace(size=size),
            seconds=time.perf_counter() - begin,
            keep=evidence,
        )

    def _scale(self, point: "HeadPoint", dual: Tensor) -> Callable[[Tensor, float], float]:
        """Return what finds the best scale of a dual point for a gradient that is off by `off`."""

        def best(gradient: Tensor, off: float) -> float:
            if self._plain_gap(point, dual, gradient) <= SMALL * abs(point.total):
                return 1.0
            return self.regularizer.bound(self.loss, dual, gradient, off)[1]

        return best


@final
@dataclasses.dataclass(frozen=True, eq=False)
class HeadPoint:
    """Loss and derivative of a `Head` at one point."""

    weight: Tensor  # W
    bias: Tensor  # b
    z: Tensor  # predictions
    slope_bias: Tensor  # minus the loss's gradient by the bias, whether it is free or not
    gradient: Tensor  # minus the loss's gradient by W
    value: float  # the loss without the penalty
    penalty: float

    @property
    def total(self) -> float:
        """Loss and penalty."""
        return self.value + self.penalty
