"""Convex losses of single numbers, each prediction on its own: logistic, squared, squared hinge, hinge."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.certificates.losses import TINY, AbstractCurvature, AbstractLoss, DualPoint


@final
class LogisticLoss(AbstractLoss):
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
        super().__init__(targets, weights, count, targets.shape[-1])
        if bool((self.targets < 0.0).any()) or bool((self.targets > 1.0).any()):
            raise ValueError("LogisticLoss(targets) must lie in [0, 1].")

    def value(self, z: Tensor) -> Tensor:
        """See `AbstractLoss.value`."""
        return (self.factor * (F.softplus(z, threshold=1e9) - self.targets * z)).sum()

    def value_and_residual(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `AbstractLoss.value_and_residual`."""
        return self.value(z), (self.targets - torch.sigmoid(z)).mul_(self.factor)

    def curvature(self, z: Tensor) -> AbstractCurvature:
        """See `AbstractLoss.curvature`."""
        q = torch.sigmoid(z)
        return Diagonal(self.factor.to(z.dtype) * q * (1.0 - q))

    def dual_point(self, z: Tensor, *, balanced: bool) -> DualPoint:
        """See `AbstractLoss.dual_point`; balanced: the probabilities of the side that is too heavy are scaled down."""
        q = torch.sigmoid(z)
        factor = self.factor.expand_as(q)
        if balanced:
            wanted, sums = (factor * self.targets).sum(0), (factor * q).sum(0)
            rest, others = (factor * (1.0 - self.targets)).sum(0), (factor * (1.0 - q)).sum(0)
            lower = q * (wanted / sums.clamp_min(TINY))
            higher = 1.0 - (1.0 - q) * (rest / others.clamp_min(TINY))
            q = torch.where(sums > wanted, lower, higher).clamp(0.0, 1.0)

        def scaled(scale: float) -> Tensor:
            return q if scale == 1.0 else torch.lerp(self.targets, q, scale)

        def value(scale: float) -> float:
            mixed = scaled(scale)
            entropy = torch.special.xlogy(mixed, mixed) + torch.special.xlogy(1.0 - mixed, 1.0 - mixed)
            return float(-(self.factor * entropy).sum())

        return DualPoint(q, (self.targets - q) * self.factor, value, scaled)


@final
class SquaredLoss(AbstractLoss):
    r"""Squared error: $\phi(z) = a (z - t)^2$.

    Args:
        targets: $t$, `[num_examples, outputs]`.
        weights: `[num_examples]` or `[num_examples, outputs]`, not negative; None: all one.
        count: what the sum is divided by; None: the sum of the weights of all numbers.
        scale: $a > 0$; a half for ridge regression, one for `nn.MSELoss`.

    Example:
        >>> loss = SquaredLoss(torch.tensor([[1.0], [3.0]]))
        >>> loss.value(torch.zeros(2, 1, dtype=torch.float64)).item()
        2.5
    """

    name = "squared"
    unit = "squared error"

    def __init__(
        self, targets: Tensor, weights: Tensor | None = None, count: float | None = None, *, scale: float = 0.5
    ) -> None:
        super().__init__(targets, weights, count, targets.shape[-1])
        if not scale > 0.0:
            raise ValueError(f"SquaredLoss(scale=...) must be above zero; got {scale!r}.")
        self._scale = scale

    @property
    def scale(self) -> float:
        """See `AbstractLoss.scale`."""
        return self._scale

    def value(self, z: Tensor) -> Tensor:
        """See `AbstractLoss.value`."""
        return self._scale * (self.factor * (z - self.targets).square()).sum()

    def value_and_residual(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `AbstractLoss.value_and_residual`."""
        difference = self.targets - z
        residual = 2.0 * self._scale * self.factor * difference
        return 0.5 * (residual * difference).sum(), residual

    def curvature(self, z: Tensor) -> AbstractCurvature:
        """See `AbstractLoss.curvature`."""
        return Diagonal((2.0 * self._scale * self.factor.to(z.dtype)).expand_as(z))

    def dual_point(self, z: Tensor, *, balanced: bool) -> DualPoint:
        """See `AbstractLoss.dual_point`; balanced: the weighted mean is subtracted."""
        a = 2.0 * self._scale * (self.targets - z)
        factor = self.factor.expand_as(a)
        if balanced:
            a = a - (factor * a).sum(0) / factor.sum(0).clamp_min(TINY)

        def value(scale: float) -> float:
            return float((factor * (scale * a * self.targets - (scale * a).square() / (4.0 * self._scale))).sum())

        return DualPoint(a, a * factor, value, lambda scale: scale * a)


@final
class SquaredHingeLoss(AbstractLoss):
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

    def __init__(self, targets: Tensor, weights: Tensor | None = None, count: float | None = None) -> None:
        super().__init__(targets, weights, count, targets.shape[-1])
        check_signs(self.targets, "SquaredHingeLoss")

    def value(self, z: Tensor) -> Tensor:
        """See `AbstractLoss.value`."""
        return (self.factor * (1.0 - self.targets * z).clamp_min(0.0).square()).sum()

    def value_and_residual(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `AbstractLoss.value_and_residual`."""
        slack = (1.0 - self.targets * z).clamp_min(0.0)
        return (self.factor * slack.square()).sum(), 2.0 * self.factor * self.targets * slack

    def curvature(self, z: Tensor) -> AbstractCurvature:
        """See `AbstractLoss.curvature`."""
        return Diagonal(torch.where(self.targets * z < 1.0, 2.0 * self.factor.expand_as(z), 0.0).to(z.dtype))

    def dual_point(self, z: Tensor, *, balanced: bool) -> DualPoint:
        """See `AbstractLoss.dual_point`; balanced: the side that is too heavy is scaled down."""
        a = 2.0 * (1.0 - self.targets * z).clamp_min(0.0)
        factor = self.factor.expand_as(a)
        if balanced:
            a = equal_sides(a, self.targets, factor)

        def value(scale: float) -> float:
            return float((factor * (scale * a - (scale * a).square() / 4.0)).sum())

        return DualPoint(a, self.targets * a * factor, value, lambda scale: scale * a)


@final
class HingeLoss(AbstractLoss):
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
        super().__init__(targets, weights, count, targets.shape[-1])
        check_signs(self.targets, "HingeLoss")
        self.duals = None if duals is None else duals.detach().double().reshape(self.targets.shape)
        if self.duals is not None and not bool(((self.duals >= 0.0) & (self.duals <= 1.0)).all()):
            raise ValueError("HingeLoss(duals) must lie in [0, 1]; divide those of a solver by its C.")

    def value(self, z: Tensor) -> Tensor:
        """See `AbstractLoss.value`."""
        return (self.factor * (1.0 - self.targets * z).clamp_min(0.0)).sum()

    def value_and_residual(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `AbstractLoss.value_and_residual`; at a kink the residual is half of what it is below."""
        margin = self.targets * z
        return self.value(z), self.targets * self.factor * _step(margin)

    def curvature(self, z: Tensor) -> AbstractCurvature:
        """See `AbstractLoss.curvature`: zero everywhere but at the kinks, where there is none."""
        return Diagonal(torch.zeros_like(z))

    def dual_point(self, z: Tensor, *, balanced: bool) -> DualPoint:
        """See `AbstractLoss.dual_point`; balanced: the side that is too heavy is scaled down."""
        a = _step(self.targets * z) if self.duals is None else self.duals
        factor = self.factor.expand_as(a)
        if balanced:
            a = equal_sides(a, self.targets, factor)

        def value(scale: float) -> float:
            return float((factor * (scale * a)).sum())

        return DualPoint(a, self.targets * a * factor, value, lambda scale: scale * a)


@final
class Diagonal(AbstractCurvature):
    """A curvature that does not couple the predictions.

    Args:
        diagonal: the shape of the predictions.
    """

    def __init__(self, diagonal: Tensor) -> None:
        self._diagonal = diagonal

    def product(self, v: Tensor) -> Tensor:
        """See `AbstractCurvature.product`."""
        return self._diagonal * v

    @property
    def diagonal(self) -> Tensor:
        """See `AbstractCurvature.diagonal`."""
        return self._diagonal


def _step(margin: Tensor) -> Tensor:
    return (margin < 1.0).double() + 0.5 * (margin == 1.0).double()


def check_signs(targets: Tensor, name: str) -> None:
    """Raise ValueError unless all targets are -1 or 1."""
    if not bool((targets.abs() == 1.0).all()):
        raise ValueError(f"{name}(targets) must be -1 or 1.")


def equal_sides(a: Tensor, signs: Tensor, factor: Tensor) -> Tensor:
    """Return dual variables not above `a`, by outputs, so that the two signs have the same weighted sum.

    Example:
        >>> ones = torch.ones(3, 1, dtype=torch.float64)
        >>> equal_sides(ones, torch.tensor([[1.0], [1.0], [-1.0]]), ones).flatten().tolist()
        [0.5, 0.5, 1.0]
    """
    positive = (factor * a * (signs > 0.0)).sum(0)
    negative = (factor * a * (signs < 0.0)).sum(0)
    least = torch.minimum(positive, negative)
    share = torch.where(signs > 0.0, least / positive.clamp_min(TINY), least / negative.clamp_min(TINY))
    return a * share
