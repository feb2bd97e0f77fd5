"""Convex losses of single numbers, each prediction on its own: logistic, squared, squared hinge, hinge."""

import abc
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.certificates.losses import (
    TINY,
    AbstractCurvature,
    AbstractLoss,
    as_type,
    diagonal_blocks,
    full_like,
    sigmoid,
    softplus,
    times_log,
)


class AbstractNumberLoss(AbstractLoss):
    r"""A loss of single numbers: $\phi(z)$, its dual variable $a(z)$ with the residual $r(a) = -\phi'(z)$, and so on.

    Args:
        targets: $t$, `[num_examples, outputs]`.
        weights: `[num_examples]` or `[num_examples, outputs]`, not negative; None: all one.
        count: what the sum is divided by; None: the sum of the weights of all numbers.
    """

    def __init__(self, targets: Tensor, weights: Tensor | None, count: float | None) -> None:
        super().__init__(targets, weights, count, targets.shape[-1])
        self.duals: Tensor | None = None  # kept ones, in place of those of the predictions

    @abc.abstractmethod
    def each(self, z: Tensor) -> Tensor:
        r"""Return $\phi(z)$, the shape of `z`."""

    @abc.abstractmethod
    def each_second(self, z: Tensor) -> Tensor:
        r"""Return $\phi''(z)$."""

    @abc.abstractmethod
    def each_dual(self, z: Tensor) -> Tensor:
        """Return $a(z)$."""

    @abc.abstractmethod
    def each_residual(self, dual: Tensor) -> Tensor:
        """Return $r(a)$."""

    @abc.abstractmethod
    def each_dual_value(self, dual: Tensor) -> Tensor:
        r"""Return $-\phi^*(-r(a))$."""

    @abc.abstractmethod
    def balanced(self, dual: Tensor) -> Tensor:
        """Return a dual point nearby whose weighted residuals sum to zero in each column."""

    @override
    def value(self, z: Tensor) -> Tensor:
        return (self.factor * self.each(z)).sum()

    @override
    def residual(self, z: Tensor) -> Tensor:
        return self.dual_residual(self.each_dual(z))

    @override
    def value_and_residual(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.value(z), self.residual(z)

    @override
    def curvature(self, z: Tensor) -> AbstractCurvature:
        return _Diagonal(as_type(z, self.factor) * self.each_second(z))

    @override
    def dual_point(self, z: Tensor, *, balanced: bool) -> Tensor:
        dual = self.each_dual(z) if self.duals is None else self.duals
        return self.balanced(dual) if balanced else dual

    @override
    def dual_residual(self, dual: Tensor) -> Tensor:
        return self.factor * self.each_residual(dual)

    @override
    def dual_value(self, dual: Tensor) -> float:
        return float((self.factor * self.each_dual_value(dual)).sum())


@final
class LogisticLoss(AbstractNumberLoss):
    r"""Binary cross-entropy of a logit: $\phi(z) = \log(1 + e^z) - t z$.

    Args:
        targets: $t$ in [0, 1], `[num_examples, outputs]`.
        weights: `[num_examples]` or `[num_examples, outputs]`, not negative; None: all one.
        count: what the sum is divided by; None: the sum of the weights of all numbers.

    Raises:
        ValueError: if a target lies outside [0, 1], or a weight is negative.

    Example:
        >>> loss = LogisticLoss(torch.tensor([[1.0], [0.0]]))
        >>> round(loss.value(torch.zeros(2, 1, dtype=torch.float64)).item(), 4)
        0.6931
    """

    name = "logistic"
    unit = "nats"

    def __init__(self, targets: Tensor, weights: Tensor | None = None, count: float | None = None) -> None:
        super().__init__(targets, weights, count)
        if bool((self.targets < 0.0).any()) or bool((self.targets > 1.0).any()):
            raise ValueError("LogisticLoss(targets) must lie in [0, 1].")
        self.zero_dual = self.targets

    @override
    def each(self, z: Tensor) -> Tensor:
        return softplus(z) - self.targets * z

    @override
    def each_second(self, z: Tensor) -> Tensor:
        q = sigmoid(z)
        return q * (1.0 - q)

    @override
    def each_dual(self, z: Tensor) -> Tensor:
        return sigmoid(z)

    @override
    def each_residual(self, dual: Tensor) -> Tensor:
        return self.targets - dual

    @override
    def each_dual_value(self, dual: Tensor) -> Tensor:
        return -times_log(dual) - times_log(1.0 - dual)

    @override
    def balanced(self, dual: Tensor) -> Tensor:
        """Return the probabilities with the side that is too heavy scaled down."""
        factor = self.factor.expand_as(dual)
        wanted, sums = (factor * self.targets).sum(0), (factor * dual).sum(0)
        rest, others = (factor * (1.0 - self.targets)).sum(0), (factor * (1.0 - dual)).sum(0)
        lower = dual * (wanted / sums.clamp_min(TINY))
        higher = 1.0 - (1.0 - dual) * (rest / others.clamp_min(TINY))
        return torch.where(sums > wanted, lower, higher).clamp(0.0, 1.0)


@final
class SquaredLoss(AbstractNumberLoss):
    r"""Squared error: $\phi(z) = a (z - t)^2$.

    Args:
        targets: $t$, `[num_examples, outputs]`.
        weights: `[num_examples]` or `[num_examples, outputs]`, not negative; None: all one.
        count: what the sum is divided by; None: the sum of the weights of all numbers.
        scale: $a > 0$; a half for ridge regression, one for `nn.MSELoss`.

    Raises:
        ValueError: if a weight is negative, or the scale is not positive.

    Example:
        >>> loss = SquaredLoss(torch.tensor([[1.0], [3.0]]))
        >>> loss.value(torch.zeros(2, 1, dtype=torch.float64)).item()
        2.5
    """

    name = "squared"
    unit = "squared error"
    largest_scale = float("inf")

    def __init__(
        self, targets: Tensor, weights: Tensor | None = None, count: float | None = None, *, scale: float = 0.5
    ) -> None:
        super().__init__(targets, weights, count)
        if not scale > 0.0:
            raise ValueError(f"SquaredLoss(scale=...) must be above zero; got {scale!r}.")
        self.scale = scale

    @override
    def each(self, z: Tensor) -> Tensor:
        return self.scale * (z - self.targets) ** 2

    @override
    def each_second(self, z: Tensor) -> Tensor:
        return full_like(z, 2.0 * self.scale)

    @override
    def each_dual(self, z: Tensor) -> Tensor:
        return 2.0 * self.scale * (self.targets - z)

    @override
    def each_residual(self, dual: Tensor) -> Tensor:
        return dual

    @override
    def each_dual_value(self, dual: Tensor) -> Tensor:
        return dual * self.targets - dual**2 / (4.0 * self.scale)

    @override
    def balanced(self, dual: Tensor) -> Tensor:
        """Return the slopes less their weighted mean."""
        factor = self.factor.expand_as(dual)
        return dual - (factor * dual).sum(0) / factor.sum(0).clamp_min(TINY)


class _AbstractSignLoss(AbstractNumberLoss):
    """A loss of the margin $t z$ for targets that are signs."""

    def __init__(self, targets: Tensor, weights: Tensor | None = None, count: float | None = None) -> None:
        super().__init__(targets, weights, count)
        if not bool((self.targets.abs() == 1.0).all()):
            raise ValueError(f"{type(self).__name__}(targets) must be -1 or 1.")

    @override
    def each_residual(self, dual: Tensor) -> Tensor:
        return self.targets * dual

    @override
    def balanced(self, dual: Tensor) -> Tensor:
        """Scale down the heavier of the two signs in each output, so that their weighted sums are equal."""
        weighted, positive = self.factor * dual, self.targets > 0.0
        up, down = torch.where(positive, weighted, 0.0).sum(0), torch.where(positive, 0.0, weighted).sum(0)
        least = torch.minimum(up, down)
        return dual * torch.where(positive, least / up.clamp_min(TINY), least / down.clamp_min(TINY))


@final
class SquaredHingeLoss(_AbstractSignLoss):
    r"""Squared hinge: $\phi(z) = \max(1 - t z, 0)^2$.

    Args:
        targets: $t$, -1 or 1, `[num_examples, outputs]`.
        weights: `[num_examples]` or `[num_examples, outputs]`, not negative; None: all one.
        count: what the sum is divided by; None: the sum of the weights of all numbers.

    Raises:
        ValueError: if a target is neither -1 nor 1.

    Example:
        >>> loss = SquaredHingeLoss(torch.tensor([[1.0], [-1.0]]))
        >>> loss.value(torch.full((2, 1), 0.5, dtype=torch.float64)).item()
        1.25
    """

    name = "squared_hinge"
    unit = "squared hinge"
    largest_scale = float("inf")

    @override
    def each(self, z: Tensor) -> Tensor:
        return (1.0 - self.targets * z).clip(min=0.0) ** 2

    @override
    def each_second(self, z: Tensor) -> Tensor:
        return full_like(z, 2.0) * (self.targets * z < 1.0)

    @override
    def each_dual(self, z: Tensor) -> Tensor:
        return 2.0 * (1.0 - self.targets * z).clip(min=0.0)

    @override
    def each_dual_value(self, dual: Tensor) -> Tensor:
        return dual - dual**2 / 4.0


@final
class HingeLoss(_AbstractSignLoss):
    r"""Hinge: $\phi(z) = \max(1 - t z, 0)$.

    At a kink the predictions do not determine the dual point, so bounds from predictions alone are loose even at the
    optimum; `duals` takes those that a solver has kept.

    Args:
        targets: $t$, -1 or 1, `[num_examples, outputs]`.
        weights: `[num_examples]` or `[num_examples, outputs]`, not negative; None: all one.
        count: what the sum is divided by; None: the sum of the weights of all numbers.
        duals: kept dual variables in [0, 1] before weighting (LIBLINEAR's, divided by C), the targets' shape; None:
            those of the predictions.

    Raises:
        ValueError: if a target is neither -1 nor 1, or a dual lies outside [0, 1].

    Example:
        >>> loss = HingeLoss(torch.tensor([[1.0], [-1.0]]))
        >>> loss.value(torch.full((2, 1), 0.5, dtype=torch.float64)).item()
        1.0
    """

    name = "hinge"
    unit = "hinge"

    def __init__(
        self,
        targets: Tensor,
        weights: Tensor | None = None,
        count: float | None = None,
        *,
        duals: Tensor | None = None,
    ) -> None:
        super().__init__(targets, weights, count)
        self.duals = None if duals is None else duals.detach().double().reshape(self.targets.shape)
        if self.duals is not None and not bool(((self.duals >= 0.0) & (self.duals <= 1.0)).all()):
            raise ValueError("HingeLoss(duals) must lie in [0, 1]; divide those of a solver by its C.")

    @override
    def each(self, z: Tensor) -> Tensor:
        return (1.0 - self.targets * z).clip(min=0.0)

    @override
    def each_second(self, z: Tensor) -> Tensor:
        """Return zero: so it is everywhere but at the kinks, where there is no second derivative."""
        return full_like(z, 0.0)

    @override
    def each_dual(self, z: Tensor) -> Tensor:
        margin = self.targets * z
        return full_like(margin, 1.0) * (margin < 1.0) + full_like(margin, 0.5) * (margin == 1.0)

    @override
    def each_dual_value(self, dual: Tensor) -> Tensor:
        return dual


@final
class _Diagonal(AbstractCurvature):
    """A second derivative that does not couple the predictions."""

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal

    @override
    def product(self, v: Tensor) -> Tensor:
        return self.diagonal * v

    @override
    def blocks(self) -> Tensor:
        return diagonal_blocks(self.diagonal)

    @override
    def summed(self) -> Tensor:
        return torch.diag(self.diagonal.sum(0))
