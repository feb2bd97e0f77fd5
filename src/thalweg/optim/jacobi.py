"""Preconditioners for conjugate gradients on a curvature matrix; Jacobi's is its diagonal."""

import abc
import dataclasses
from typing import final

import torch
from torch import Tensor

from thalweg import distributed, vectors
from thalweg.batch import Batch
from thalweg.curvature.differentiable import twice_differentiable
from thalweg.curvature.linear_calls import LinearCall, linear_calls
from thalweg.curvature.operators import AbstractOperator, Diagonal
from thalweg.objective import Objective
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

    def diagonal(self, point: Point) -> Tensor | None:
        """Return None."""
        del point

    def inverse(self, diagonal: Tensor | None, damping: float) -> AbstractOperator | None:
        """Return None."""
        del diagonal, damping


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
        """Check the arguments."""
        if not 0.0 < self.power <= 1.0:
            raise ValueError(f"Jacobi(power=...) must lie in (0, 1]; got {self.power!r}.")
        if self.num_samples < 1:
            raise ValueError(f"Jacobi(num_samples=...) must be at least 1; got {self.num_samples!r}.")

    def diagonal(self, point: Point) -> Tensor | None:
        """Return the flat diagonal."""
        assert point.objective is not None
        return gauss_newton_diagonal(point.objective, point.parameters, self.num_samples)

    def inverse(self, diagonal: Tensor | None, damping: float) -> AbstractOperator | None:
        """Return the inverse of diagonal plus damping, to the power."""
        assert diagonal is not None
        # Parameters that the loss does not depend on here must not get infinite weight.
        least = 1e-10 * diagonal.amax().clamp(min=torch.finfo(diagonal.dtype).tiny)
        return Diagonal((diagonal + damping).clamp(min=least).pow(-self.power))


def gauss_newton_diagonal(
    objective: Objective, parameters: list[Tensor], num_samples: int = 1, seed: int = 0
) -> Tensor:
    r"""Estimate the diagonal of the Gauss-Newton matrix from backward passes.

    With random signs $\varepsilon$ in output space and the head's root S of the output curvature, the vector
    $\delta = J_l^\top S \varepsilon$ at the output of a linear layer l gives $\sum_n \delta_n^2 x_n^2$ for its weights,
    example by example. That is unbiased where each example passes the layer once, and exact there for one output; where
    many tokens of one example pass it, what they have in common is left out. Other parameters get the square of their
    whole $J^\top S \varepsilon$, which is unbiased and noisier.

    Args:
        objective: the function.
        parameters: the tensors wanted, in the order of the result.
        num_samples: random vectors, at least 1.
        seed: of the signs.

    Returns:
        Flat tensor `[n]`, the penalty included.

    Source: Dangel, Kunstner, Hennig, "BackPACK: Packing more into backprop" (2020).
    """
    generator = torch.Generator().manual_seed(seed)
    diagonal = {id(tensor): torch.zeros_like(tensor) for tensor in parameters}
    count = torch.zeros(())
    for batch in objective.batches:
        with torch.enable_grad(), twice_differentiable(), linear_calls(objective, diagonal) as calls:
            prediction = objective.prediction(batch)
        own = _add_squares(objective, batch, prediction, calls, diagonal, parameters, num_samples, generator)
        count = count.to(own) + own
    flat = vectors.flatten([diagonal[id(tensor)] for tensor in parameters]) / num_samples
    flat, count = distributed.sum_over_ranks([flat])[0], distributed.sum_over_ranks([count])[0]
    penalized = {id(tensor) for tensor in objective.penalized}
    shares = [torch.full_like(p, objective.l2 if id(p) in penalized else 0.0) for p in parameters]
    return flat / count + vectors.flatten(shares)


def _add_squares(
    objective: Objective,
    batch: Batch,
    prediction: Tensor,
    calls: list[LinearCall],
    diagonal: dict[int, Tensor],
    parameters: list[Tensor],
    num_samples: int,
    generator: torch.Generator,
) -> Tensor:
    """Add one micro-batch's squares to the diagonal; return its count."""
    fixed = prediction.detach()
    count = objective.head.loss(fixed, batch.targets, batch.mask, batch.weights)[1]
    within = {id(tensor) for layer, _, _ in calls for tensor in (layer.weight, layer.bias) if tensor is not None}
    others = [tensor for tensor in parameters if id(tensor) not in within]
    outputs = [output for _, _, output in calls]
    for sample in range(num_samples):
        signs = torch.randint(0, 2, fixed.shape, generator=generator).to(fixed) * 2.0 - 1.0
        root = objective.head.curvature_root(fixed, batch.targets, batch.mask, signs, batch.weights)
        keep = sample < num_samples - 1
        found = torch.autograd.grad(prediction, [*outputs, *others], root, retain_graph=keep, allow_unused=True)
        for (layer, x, _), delta in zip(calls, found, strict=False):
            if delta is None:
                continue
            square = delta.reshape(-1, delta.shape[-1]).square()
            if id(layer.weight) in diagonal:
                diagonal[id(layer.weight)] += square.T @ x.reshape(-1, x.shape[-1]).square().to(square)
            if layer.bias is not None and id(layer.bias) in diagonal:
                diagonal[id(layer.bias)] += square.sum(0)
        for tensor, slope in zip(others, found[len(outputs) :], strict=True):
            if slope is not None:
                diagonal[id(tensor)] += slope.square()
    return count
