"""Linear models in two factors, such as an embedding bag under a softmax: their global optimum, bounded by a dual."""

import dataclasses
import time
from collections.abc import Mapping
from typing import final

import numpy as np
import torch
from torch import Tensor

from thalweg.certificates.certificate.interval import Certificate
from thalweg.certificates.certificate.proved import proved_certificate
from thalweg.certificates.exact import exact_dual
from thalweg.certificates.linear.dual_bound import bound_of
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.regularizers import best_scale
from thalweg.certificates.losses import AbstractLoss

# A singular value from a Gram matrix in float64 is too low by no more than this fraction.
_SPECTRAL_SLACK = 1e-13


@final
class Factored:
    r"""The problem of a linear model whose matrix is a product of two, with L2 on both.

    $$\min_{E, W, b} L(X E W^\top + b) + \frac{\lambda}{2} (\lVert E \rVert^2 + \lVert W \rVert^2)
    \;\ge\; \min_{M, b} L(X M + b) + \lambda \lVert M \rVert_*$$

    with equality as soon as the width (columns of $E$) is the rank of the best $M$ or more. The right side is convex in
    $M$, so every dual point $R$ with $\sigma_{\max}(X^\top R) \le \lambda$ bounds the left side from below, for any
    width and whatever the training did. An intercept is not penalized.

    Source: Srebro, Rennie and Jaakkola (2004), Maximum-Margin Matrix Factorization (the identity of the two penalties);
    Haeffele and Vidal (2015), Global Optimality in Tensor Factorization, Deep Learning, and Beyond.
    When not to use it: with dropout, a layer in between that is not linear, or decay outside the loss.
    """

    def __init__(
        self,
        features: Features,
        loss: AbstractLoss,
        l2: float,
        *,
        intercept: bool,
        about: Mapping[str, str] | None = None,
    ) -> None:
        if not 0.0 < l2 < float("inf"):
            raise ValueError(f"Factored(l2=...) must be above zero; got {l2!r}.")
        if features.shape[0] != loss.num_examples:
            raise ValueError(
                f"Factored(features, loss): {features.shape[0]} rows of features, but {loss.num_examples} targets."
            )
        self.features, self.loss, self.l2, self.intercept = features, loss, l2, intercept
        self.about = dict(about or {})  # words for the certificate's scope: "features", "examples"
        self._rounding = loss.dual_rounding(features.row_norms())

    def at(self, embedding: Tensor, weight: Tensor, bias: Tensor | None = None) -> "FactoredPoint":
        """Return loss and derivatives at $E$ `[num_features, width]`, $W$ `[outputs, width]` and $b$ (None: zero).

        It raises a ValueError if the shapes do not fit, or a weight is NaN or infinite.
        """
        e, w = embedding.detach().double(), weight.detach().double()
        b = w.new_zeros(len(w)) if bias is None else bias.detach().double()
        expected = self.features.shape[1], self.loss.num_outputs
        if (e.shape[0], w.shape[0]) != expected or e.shape[1] != w.shape[1]:
            raise ValueError(
                f"Factored.at(embedding, weight) needs [{expected[0]}, width] and [{expected[1]}, width]; got "
                f"{list(e.shape)} and {list(w.shape)}."
            )
        if not bool(torch.isfinite(torch.stack([e.sum(), w.sum(), b.sum()])).all()):
            raise ValueError("Factored.at(...): the weights hold NaN or infinity.")
        return self.after(e, w, b, self.features.times(e @ w.T) + b)

    def after(self, embedding: Tensor, weight: Tensor, bias: Tensor, z: Tensor) -> "FactoredPoint":
        """Return what `at` returns, with the predictions `z` known already."""
        loss, residual = self.loss.value_and_residual(z)
        gradient = self.features.adjoint(residual)
        squares = embedding.square().sum() + weight.square().sum()
        value, penalty = torch.stack([loss, 0.5 * self.l2 * squares]).tolist()
        return FactoredPoint(embedding, weight, bias, z, residual, gradient, value, penalty)

    def bound(self, point: "FactoredPoint") -> tuple[float, Tensor]:
        """Return a lower bound of the whole problem, and the feasible dual point that proves it.

        Never below what the zero network's residuals or no residuals at all prove.
        """
        loss, dual = self.loss, self.loss.dual_point(point.z, balanced=self.intercept)
        largest = spectral_norm(self.features.adjoint(loss.dual_residual(dual)))
        allowed = max(0.0, self.l2 - self._rounding)
        limit = 1.0 if largest <= allowed else allowed / largest
        bound, scale = best_scale(lambda scale: loss.dual_value(loss.scaled(dual, scale)), limit)
        return bound, loss.scaled(dual, scale)

    def relative_gap(self, point: "FactoredPoint") -> float:
        """Return how far the point may be above the optimum, as a fraction of its loss; 0 for a loss of 0."""
        return relative_gap(point.total, self.bound(point)[0])

    def certificate(self, point: "FactoredPoint", *, evidence: bool = True) -> Certificate:
        """Return the certificate of a point; its evidence, which can be left out, is as large as the data."""
        start = time.perf_counter()
        loss, dual = self.loss, self.loss.dual_point(point.z, balanced=self.intercept)
        kept: dict[str, np.ndarray | float | int | str] = {
            "rule": "factored",
            "regularizer": "nuclear",
            "l2": self.l2,
            **loss.evidence(),
            **exact_dual(loss, dual, balanced=self.intercept),
            **self.about,
            "offset": 0.0,
        }

        def scale(gradient: Tensor, off: float) -> float:
            largest, allowed = spectral_norm(gradient), max(0.0, self.l2 * (1.0 - 1e-13) - off)
            limit = 1.0 if largest <= allowed else allowed / largest
            return best_scale(lambda scale: loss.dual_value(loss.scaled(dual, scale)), limit)[1]

        found = bound_of(kept, self.features, scale)
        kept |= self.features.arrays()
        kept |= {"E": point.embedding.cpu().numpy(), "W": point.weight.T.cpu().numpy()}
        if self.intercept:
            kept["b"] = point.bias.cpu().numpy()
        size = point.total + float(point.z.abs().amax())
        return proved_certificate(
            kept,
            loss=point.total,
            found=found._replace(size=size),
            seconds=time.perf_counter() - start,
            keep=evidence,
        )


@final
@dataclasses.dataclass(frozen=True, eq=False)
class FactoredPoint:
    """Loss and derivatives of a `Factored` problem at one point."""

    embedding: Tensor  # E
    weight: Tensor  # W
    bias: Tensor  # b
    z: Tensor  # predictions
    residual: Tensor  # minus the loss's gradient by the predictions
    gradient: Tensor  # minus the loss's gradient by the product of the factors, [num_features, outputs]
    value: float  # the loss without the penalty
    penalty: float

    @property
    def total(self) -> float:
        """Loss and penalty."""
        return self.value + self.penalty


def relative_gap(total: float, bound: float) -> float:
    """Return how far a loss may be above the optimum by its lower bound, as a fraction; 0 for a loss of 0."""
    return max(0.0, total - bound) / total if total > 0.0 else 0.0


def spectral_norm(matrix: Tensor) -> float:
    """Return the largest singular value of a tall float64 matrix, rounded up.

    The rounding error of the small Gram matrix's largest eigenvalue is bounded by a fraction of its trace.
    """
    small = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    largest, trace = torch.stack([torch.linalg.eigvalsh(small)[-1], small.trace()]).tolist()
    return (max(largest, 0.0) + _SPECTRAL_SLACK * trace) ** 0.5
