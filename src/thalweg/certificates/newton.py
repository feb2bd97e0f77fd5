"""What the Newton methods of all certificates share: conjugate gradients, a backtracking search, and a convex step."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Final, final

import torch
from torch import Tensor

from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.losses import AbstractLoss

ARMIJO: Final = 1e-4  # the fraction of what the slope promises that a step must gain
MAX_HALVINGS: Final = 30


@final
@dataclasses.dataclass(frozen=True)
class Solved:
    """What conjugate gradients found."""

    solution: Tensor  # x
    image: Tensor | None  # what the operator returned beside its products, summed along with the solution
    predicted: float  # the value of the quadratic model at x
    length: float  # of x in the metric of the preconditioner
    products: int  # with the matrix


def conjugate_gradients(
    multiply: Callable[[Tensor], tuple[Tensor, Tensor | None]],
    right: Tensor,
    inverse: Tensor,
    *,
    accuracy: float,
    max_products: int,
    residual: float = 0.0,
    radius: float = math.inf,
    end: float = math.inf,
) -> Solved:
    r"""Minimize $\frac12 x^\top H x - b^\top x$ from zero, until the preconditioned residual has shrunk by `accuracy`.

    It ends, too, where the plain residual is no longer than `residual`, and past `end`, on the clock
    `time.perf_counter`, after the first product. Where H bends down, and at the edge of the trust region (`radius`, in
    the preconditioner's metric), it ends on the edge; with an infinite radius it ends before a direction that bends
    down (if that is the first, after one step of the residual's length). `multiply` returns H v, and something linear
    in v that is wanted for x as well (None: nothing). `inverse` is the diagonal of the preconditioner, not negative;
    entries of x stay zero where it is zero.

    `thalweg.curvature.solve.conjugate_gradients` judges by the plain residual and keeps the model's value at every
    iterate, which costs several more passes over x; here x is as large as the data, and H cheap.

    Source: Steihaug (1983), The Conjugate Gradient Method and Trust Regions in Large Scale Optimization.
    """
    x, r = torch.zeros_like(right), right.clone()
    z = inverse * r
    d, image, products = z.clone(), None, 0
    size = first = dot(r, z)
    xx, xd, dd = 0.0, 0.0, size
    while products < max_products and size > 0.0:
        products += 1
        product, change = multiply(d)
        curvature = dot(d, product)
        length = size / curvature if curvature > 0.0 else math.inf
        if math.isinf(length) and math.isinf(radius):
            if products > 1:
                break
            radius = math.sqrt(first)
        inside = xx + 2.0 * length * xd + length * length * dd < radius * radius
        if not inside:
            length = (math.sqrt(max(0.0, xd * xd + dd * (radius * radius - xx))) - xd) / dd
        x.add_(d, alpha=length)
        r.add_(product, alpha=-length)
        if change is not None:
            image = length * change if image is None else image.add_(change, alpha=length)
            del change  # as large as the data
        xx = xx + 2.0 * length * xd + length * length * dd if inside else radius * radius
        if not inside:
            break
        z = inverse * r
        new = dot(r, z)
        if not new > accuracy * accuracy * first or (residual > 0.0 and dot(r, r) <= residual * residual):
            break
        if time.perf_counter() >= end:
            break
        ratio, size = new / size, new
        xd, dd = ratio * (xd + length * dd), new + ratio * ratio * dd
        d.mul_(ratio).add_(z)
    predicted = -0.5 * (dot(x, right) + dot(x, r))
    return Solved(x, image, predicted, math.sqrt(max(xx, 0.0)), products)


def backtracking(
    attempt: Callable[[float], tuple[float, float]],
    start: float,
    *,
    slack: float = 0.0,
    longest: float = 1.0,
    max_halvings: int = MAX_HALVINGS,
) -> float | None:
    """Return the first of `longest`, half of it, ... at which a function falls enough; None where it never does.

    `attempt` maps a length to the value there and the change that the slope promises (not positive); `start` is the
    value at zero, and a rise of the size of `slack` counts as rounding.

    Source: Armijo (1966), Minimization of Functions Having Lipschitz Continuous First Partial Derivatives.
    """
    length = longest
    for _ in range(max_halvings):
        value, promised = attempt(length)
        if value <= start + ARMIJO * promised + slack:
            return length
        length *= 0.5
    return None


@final
@dataclasses.dataclass(frozen=True)
class ConvexPoint:
    r"""A point of $L(X M V^\top + b) + \frac\lambda2 \lVert M \rVert^2$ + a constant, convex in $M$ and $b$."""

    loss: AbstractLoss  # L
    features: Features  # X
    l2: float  # lambda > 0
    intercept: bool  # whether b moves
    matrix: Tensor  # M, [num_features, width]
    factor: Tensor | None  # V, [outputs, width], in float32; None: the identity
    z: Tensor  # predictions
    slope: Tensor  # the derivative by M
    slope_bias: Tensor  # the derivative by b; zeros without intercept
    total: float  # the value here
    penalty: float  # everything in it but the loss

    def size(self) -> float:
        """Return the length of the gradient."""
        return float(self.slope.square().sum() + self.slope_bias.square().sum()) ** 0.5

    def step(
        self, accuracy: float, max_products: int, *, residual: float = 0.0, end: float = math.inf
    ) -> tuple[Tensor | None, Tensor, int]:
        """Return the next M (None: no step lowers the value), the change of b, and the products that it took.

        The Newton equation is solved in float32, to the accuracy given, or until the residual is no longer than that
        fraction of the gradient; past `end`, on the clock `time.perf_counter`, it is solved no further. The predictions
        move on a line, so the search along it needs no more products. What counts is computed in float64.
        """
        size = self.size()
        if not size > 0.0:
            return None, self.slope_bias, 0
        multiply, right, inverse = self._equation(size)
        solved = conjugate_gradients(
            multiply, right, inverse, accuracy=accuracy, max_products=max_products, residual=residual, end=end
        )
        if solved.image is None:  # not one product: numbers beyond float32
            return None, self.slope_bias, solved.products
        moved, along = solved.solution.double() * size, solved.image
        bias = moved[self.slope.numel() :]
        moved = moved[: self.slope.numel()].view_as(self.slope)
        descent = float((self.slope * moved).sum() + (self.slope_bias * bias).sum())
        inner, square = torch.stack([(self.matrix * moved).sum(), moved.square().sum()]).tolist()

        def attempt(length: float) -> tuple[float, float]:
            value = self.penalty
            for rows, loss in self.loss.parts():
                value += float(loss.value(self.z[rows] + (length * size) * along[rows].double()))
            return value + self.l2 * length * (inner + 0.5 * length * square), length * descent

        length = backtracking(attempt, self.total, slack=1e-15 * abs(self.total))
        if length is None:
            return None, bias, solved.products
        return self.matrix + length * moved, length * bias, solved.products

    def _equation(self, size: float) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor]], Tensor, Tensor]:
        """Return the Newton equation for the gradient divided by its size: products, right side, preconditioner.

        The unknowns are M row by row, then b.
        """
        curvature = self.loss.curvature(self.z.float())
        diagonal, factor, free = curvature.diagonal, self.factor, float(self.intercept)
        sums = self.features.square_sums(diagonal.mean(1)).unsqueeze(1)
        widths = diagonal.new_ones(self.slope.shape[1]) if factor is None else factor.square().sum(0)
        of_matrix, of_bias = 1.0 / (self.l2 + sums * widths), free / diagonal.sum(0).clamp_min(1e-12)
        inverse = torch.cat([of_matrix.reshape(-1), of_bias])
        right = torch.cat([self.slope.reshape(-1), self.slope_bias]).mul_(-1.0 / size).float()

        def multiply(flat: Tensor) -> tuple[Tensor, Tensor]:
            matrix, bias = flat[: self.slope.numel()].view_as(self.slope), flat[self.slope.numel() :]
            change = self.features.times(matrix if factor is None else matrix @ factor.T)
            change = change.add_(bias) if free else change
            weighted = curvature.product(change)
            product = torch.empty_like(flat)
            by_matrix = product[: self.slope.numel()].view_as(self.slope)
            back = self.features.adjoint(weighted)
            torch.add(back if factor is None else back @ factor, matrix, alpha=self.l2, out=by_matrix)
            torch.mul(weighted.sum(0), free, out=product[self.slope.numel() :])
            return product, change

        return multiply, right, inverse


def dot(left: Tensor, right: Tensor) -> float:
    """Return the inner product of two tensors of one size."""
    return torch.dot(left.reshape(-1), right.reshape(-1)).item()
