"""Preconditioners for conjugate gradients on a curvature matrix; Jacobi's is its diagonal."""

import abc
import dataclasses
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.curvature.diagonal import gauss_newton_diagonal
from thalweg.curvature.operators import AbstractOperator, Diagonal
from thalweg.optim.base import Point


class AbstractPreconditioner(abc.ABC):
    """Makes an approximate inverse of a damped curvature matrix."""

    @abc.abstractmethod
    def diagonal(self, point: Point) -> Tensor | None:
        """Return a flat estimate of the diagonal of the curvature at a point, or None where it makes none."""

    @abc.abstractmethod
    def inverse(self, diagonal: Tensor | None, damping: float) -> AbstractOperator | None:
        """Return an operator on flat vectors that stands for the inverse of curvature plus damping."""


@final
@dataclasses.dataclass(frozen=True)
class NoPreconditioner(AbstractPreconditioner):
    """None: plain conjugate gradients."""

    @override
    def diagonal(self, point: Point) -> Tensor | None:
        return None

    @override
    def inverse(self, diagonal: Tensor | None, damping: float) -> AbstractOperator | None:
        return None


@final
@dataclasses.dataclass(frozen=True)
class Jacobi(AbstractPreconditioner):
    r"""The diagonal of the Gauss-Newton matrix, $(\operatorname{diag}(G) + \mu)^{-\text{power}}$.

    It makes conjugate gradients independent of how inputs and parameters are scaled one by one, at the price of about
    one gradient a step. See `gauss_newton_diagonal` for where it is exact.

    Args:
        power: in (0, 1]; 1 is the inverse itself, 0.75 trusts a noisy estimate less.
        num_samples: random vectors a batch, at least 1; more make the estimate less noisy.

    Raises:
        ValueError: an argument out of range.

    Source: Martens, "Deep learning via Hessian-free optimization" (2010), section 4.7, for the power.
    """

    power: float = 1.0
    num_samples: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.power <= 1.0:
            raise ValueError(f"Jacobi(power=...) must lie in (0, 1]; got {self.power!r}.")
        if self.num_samples < 1:
            raise ValueError(f"Jacobi(num_samples=...) must be at least 1; got {self.num_samples!r}.")

    @override
    def diagonal(self, point: Point) -> Tensor | None:
        assert point.objective is not None
        return gauss_newton_diagonal(point.objective, point.parameters, self.num_samples)

    @override
    def inverse(self, diagonal: Tensor | None, damping: float) -> AbstractOperator | None:
        assert diagonal is not None
        # Parameters that the loss does not depend on here must not get infinite weight.
        least = 1e-10 * diagonal.amax().clamp(min=torch.finfo(diagonal.dtype).tiny)
        return Diagonal((diagonal + damping).clamp(min=least).pow(-self.power))
