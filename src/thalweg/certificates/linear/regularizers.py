"""What a linear head pays for its weights, with the conjugate that a dual bound needs."""

import abc
from collections.abc import Callable
from typing import ClassVar, Final, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.certificates.losses import AbstractLoss

GOLDEN: Final = (5.0**0.5 - 1.0) / 2.0


class AbstractRegularizer(abc.ABC):
    """A convex function of the weights `[num_features, outputs]`; a bias is free."""

    name: ClassVar[str]

    @abc.abstractmethod
    def penalty(self, weight: Tensor) -> Tensor:
        """Return its value at the weights, 0-dim."""

    @abc.abstractmethod
    def bound(self, loss: AbstractLoss, dual: Tensor, gradient: Tensor, rounding: float) -> tuple[float, float]:
        r"""Return the best lower bound from a dual point scaled down, and the scale that gives it.

        The gradient is $X^\top R$ for the residual $R$ of the dual point; an entry or norm of it may be off by
        `rounding`.
        """

    @abc.abstractmethod
    def settings(self) -> dict[str, float]:
        """Return its numbers by their names in a certificate's evidence."""


@final
class L2(AbstractRegularizer):
    r"""$\frac{\lambda}{2} \lVert W \rVert^2$.

    Args:
        strength: $\lambda > 0$; scikit-learn's C on n examples is $\lambda = 1 / (C n)$.
    """

    name = "l2"

    def __init__(self, strength: float) -> None:
        self.strength = _positive(strength, "L2(strength)")

    @override
    def penalty(self, weight: Tensor) -> Tensor:
        return 0.5 * self.strength * weight.square().sum()

    @override
    def bound(self, loss: AbstractLoss, dual: Tensor, gradient: Tensor, rounding: float) -> tuple[float, float]:
        del rounding  # G is used as it is
        square = float(gradient.square().sum()) / (2.0 * self.strength)
        return best_scale(lambda s: loss.value_of_scaled(dual, s) - s * s * square)

    @override
    def settings(self) -> dict[str, float]:
        return {"l2": self.strength}


@final
class L1(AbstractRegularizer):
    r"""$\lambda \lVert W \rVert_1$.

    Args:
        strength: $\lambda > 0$.
    """

    name = "l1"

    def __init__(self, strength: float) -> None:
        self.strength = _positive(strength, "L1(strength)")

    @override
    def penalty(self, weight: Tensor) -> Tensor:
        return self.strength * weight.abs().sum()

    @override
    def bound(self, loss: AbstractLoss, dual: Tensor, gradient: Tensor, rounding: float) -> tuple[float, float]:
        largest, allowed = float(gradient.abs().amax()), max(0.0, self.strength * (1.0 - 1e-13) - rounding)
        limit = 1.0 if largest <= allowed else allowed / largest
        return best_scale(lambda s: loss.value_of_scaled(dual, s), limit)

    @override
    def settings(self) -> dict[str, float]:
        return {"l1": self.strength}


@final
class ElasticNet(AbstractRegularizer):
    r"""$\lambda_1 \lVert W \rVert_1 + \frac{\lambda_2}{2} \lVert W \rVert^2$.

    Args:
        l1: $\lambda_1 > 0$.
        l2: $\lambda_2 > 0$.
    """

    name = "elastic"

    def __init__(self, l1: float, l2: float) -> None:
        self.l1, self.l2 = _positive(l1, "ElasticNet(l1)"), _positive(l2, "ElasticNet(l2)")

    @override
    def penalty(self, weight: Tensor) -> Tensor:
        return self.l1 * weight.abs().sum() + 0.5 * self.l2 * weight.square().sum()

    @override
    def bound(self, loss: AbstractLoss, dual: Tensor, gradient: Tensor, rounding: float) -> tuple[float, float]:
        del rounding
        sizes = gradient.abs()

        def value(scale: float) -> float:
            excess = (scale * sizes - self.l1).clamp_min(0.0).square().sum()
            return loss.value_of_scaled(dual, scale) - float(excess) / (2.0 * self.l2)

        return best_scale(value)

    @override
    def settings(self) -> dict[str, float]:
        return {"l1": self.l1, "l2": self.l2}


@final
class Ball(AbstractRegularizer):
    r"""No penalty, but only weights with $\lVert W \rVert \le$ `radius`: "no head of this norm is better".

    The statement for decay that is not part of the loss, and for none at all. Its gap is Frank and Wolfe's.

    Args:
        radius: of the ball, at least 0; usually the norm that the weights have.
    """

    name = "ball"

    def __init__(self, radius: float) -> None:
        if not 0.0 <= radius < float("inf"):
            raise ValueError(f"Ball(radius) must be zero or positive; got {radius!r}.")
        self.radius = radius

    @override
    def penalty(self, weight: Tensor) -> Tensor:
        return weight.new_zeros(())

    @override
    def bound(self, loss: AbstractLoss, dual: Tensor, gradient: Tensor, rounding: float) -> tuple[float, float]:
        del rounding
        size = self.radius * float(torch.linalg.vector_norm(gradient))
        return best_scale(lambda s: loss.value_of_scaled(dual, s) - s * size)

    @override
    def settings(self) -> dict[str, float]:
        return {"radius": self.radius}


def _positive(value: float, call: str) -> float:
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{call} must be above zero; got {value!r}.")
    return value


def best_scale(value: Callable[[float], float], limit: float = 1.0) -> tuple[float, float]:
    """Return the highest value of a concave function of a dual point's scale in [0, limit], nearly, and the scale."""
    at_limit = value(limit)
    if limit <= 0.0 or at_limit >= value(limit * (1.0 - 1e-4)):
        return at_limit, limit
    low, high = 0.0, limit
    left, right = (1.0 - GOLDEN) * limit, GOLDEN * limit
    at_left, at_right = value(left), value(right)
    while high - low >= 1e-4 * limit:  # of the two values inside, one is that of the next step as well
        if at_left < at_right:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = value(right)
        else:
            high, right, at_right = right, left, at_left
            left = low + (1.0 - GOLDEN) * (high - low)
            at_left = value(left)
    return max((at_left, left), (at_right, right), (at_limit, limit))
