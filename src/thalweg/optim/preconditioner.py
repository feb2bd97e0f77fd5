"""Preconditioners of Newton-CG: approximate inverses of a damped curvature matrix."""

import abc
import dataclasses
from typing import final

import torch
from typing_extensions import override

from thalweg.curvature.diagonal import gauss_newton_diagonal
from thalweg.curvature.eigenbasis import Eigenbasis, KroneckerInverse
from thalweg.curvature.kronecker import MAX_SIDE, Block, Sharing, averaged, kronecker_factors, require_samples
from thalweg.curvature.operators import AbstractOperator, Diagonal
from thalweg.errors import require
from thalweg.optim.base import Point, State


class AbstractPreconditioner(abc.ABC):
    """Makes an approximate inverse of a damped curvature matrix, from an estimate of that matrix.

    An estimate is a dictionary of tensors, lists and plain values, which is saved with an optimizer's state; an empty
    one says nothing.
    """

    @abc.abstractmethod
    def estimate(self, point: Point, seed: int) -> State:
        """Return an estimate of the curvature at a point.

        Args:
            point: where the parameters are.
            seed: of what is drawn for it.
        """

    @abc.abstractmethod
    def joined(self, before: State | None, found: State) -> State:
        """Return an estimate from all those before, or None, and one more: what a trust region measures lengths in."""

    @abc.abstractmethod
    def largest(self, estimate: State) -> float | None:
        """Return the largest diagonal entry, where the estimate knows it."""

    @abc.abstractmethod
    def inverse(self, estimate: State, point: Point, damping: float) -> AbstractOperator | None:
        """Return an operator on flat vectors that stands for the inverse of curvature plus damping; None: identity."""


@final
@dataclasses.dataclass(frozen=True)
class NoPreconditioner(AbstractPreconditioner):
    """None: plain conjugate gradients."""

    @override
    def estimate(self, point: Point, seed: int) -> State:
        return {}

    @override
    def joined(self, before: State | None, found: State) -> State:
        return {}

    @override
    def largest(self, estimate: State) -> float | None:
        return None

    @override
    def inverse(self, estimate: State, point: Point, damping: float) -> AbstractOperator | None:
        return None


@final
@dataclasses.dataclass(frozen=True)
class Jacobi(AbstractPreconditioner):
    r"""The diagonal of the Gauss-Newton matrix, $(\operatorname{diag}(G) + \mu)^{-\text{power}}$.

    It makes conjugate gradients independent of how inputs and parameters are scaled one by one, at the price of about
    one gradient a step. See `gauss_newton_diagonal` for where it is exact.

    Args:
        power: in (0, 1]; 1 is the inverse itself, 0.75 trusts a noisy estimate less.
        num_samples: random vectors a batch, from 1 to 10,000; more make the estimate less noisy.

    Raises:
        ValueError: an argument out of range.

    Source: Martens, "Deep learning via Hessian-free optimization" (2010), section 4.7, for the power.
    """

    power: float = 1.0
    num_samples: int = 1

    def __post_init__(self) -> None:
        require(0.0 < self.power <= 1.0, "Jacobi(power=...) must lie in (0, 1]", self.power)
        require_samples("Jacobi", self.num_samples)

    @override
    def estimate(self, point: Point, seed: int) -> State:
        assert point.objective is not None
        return {"diagonal": gauss_newton_diagonal(point.objective, point.parameters, self.num_samples, seed)}

    @override
    def joined(self, before: State | None, found: State) -> State:
        return found if before is None else {"diagonal": torch.maximum(found["diagonal"], before["diagonal"])}

    @override
    def largest(self, estimate: State) -> float | None:
        return estimate["diagonal"].amax().item()

    @override
    def inverse(self, estimate: State, point: Point, damping: float) -> AbstractOperator | None:
        diagonal = estimate["diagonal"]
        # Parameters that the loss does not depend on here must not get infinite weight.
        least = 1e-10 * diagonal.amax().clamp(min=torch.finfo(diagonal.dtype).tiny)
        return Diagonal((diagonal + damping).clamp(min=least).pow(-self.power))


@final
@dataclasses.dataclass(frozen=True)
class KroneckerFactored(AbstractPreconditioner):
    """K-FAC's inverse, a Kronecker product for each layer; see `kronecker_factors` for which layers have one.

    It makes conjugate gradients independent of how the units of a layer are mixed, at the price of about one gradient
    and a decomposition of the factors a step. A trust region measures lengths by the mean of all steps' factors.

    Args:
        num_samples: random vectors a batch, from 1 to 10,000; None: one for each output, without noise.
        reduce: average inputs over the positions of an example (`Sharing.REDUCE`), for one loss an example.
        least: the damping is never below this fraction of the mean eigenvalue, positive: what the product says of
            directions in which it sees no curvature is not to be trusted.
        max_side: a factor of more rows is a diagonal.

    Raises:
        ValueError: an argument out of range.

    Source: Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature" (2015).
    """

    num_samples: int | None = 1
    reduce: bool = False
    least: float = 1e-4
    max_side: int = MAX_SIDE

    def __post_init__(self) -> None:
        require_samples("KroneckerFactored", self.num_samples)
        require(self.least > 0.0, "KroneckerFactored(least=...) must be positive", self.least)
        require(self.max_side >= 1, "KroneckerFactored(max_side=...) must be at least 1", self.max_side)

    @override
    def estimate(self, point: Point, seed: int) -> State:
        assert point.objective is not None
        sharing = Sharing.REDUCE if self.reduce else Sharing.EXPAND
        options = {"num_samples": self.num_samples, "seed": seed, "sharing": sharing, "max_side": self.max_side}
        blocks = kronecker_factors(point.objective, point.parameters, **options)
        return {"blocks": [block.packed() for block in blocks], "num_steps": 1}

    @override
    def joined(self, before: State | None, found: State) -> State:
        if before is None:
            return found
        num_steps = before["num_steps"] + 1
        blocks = [Block.unpacked(packed) for packed in found["blocks"]]
        return {"blocks": averaged(before["blocks"], blocks, 1.0 / num_steps), "num_steps": num_steps}

    @override
    def largest(self, estimate: State) -> float | None:
        blocks = [Block.unpacked(packed) for packed in estimate["blocks"]]
        return torch.stack([block.diagonal.amax() for block in blocks]).amax().item()

    @override
    def inverse(self, estimate: State, point: Point, damping: float) -> AbstractOperator | None:
        assert point.objective is not None
        blocks = [Block.unpacked(packed) for packed in estimate["blocks"]]
        mean = torch.stack([block.diagonal.sum() for block in blocks]).sum().item() / point.gradient.numel()
        damping = max(damping, self.least * mean, torch.finfo(point.gradient.dtype).tiny)
        penalties = point.objective.penalties(point.parameters)
        bases = [Eigenbasis.of(block) for block in blocks]
        return KroneckerInverse(bases, point.parameters, [damping + penalty for penalty in penalties])
