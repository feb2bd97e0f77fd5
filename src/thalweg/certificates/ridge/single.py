"""Newton's method for linear models in float32, from any start: the way to a loose gap, before anything is proved.

Single precision halves the time of a product, and what it leaves of the gap is far below 1e-4. The bias is put at its
optimum before each gradient, so that the gap is the squared gradient by the weights over twice the penalty.
"""

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Final, final

import torch
from torch import Tensor

from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.losses import AbstractLoss, best_bias
from thalweg.certificates.newton import backtracking, conjugate_gradients

ACCURACY: Final = 0.1  # of its residual an equation leaves, in the preconditioner's metric
ENOUGH: Final = 0.7  # of the gradient that the tolerance allows is what a solve aims at
MAX_PRODUCTS: Final = 250  # of one step
LONGEST: Final = 8.0  # steps from afar are too short, since the softmax bends less and less
MAX_BIAS_STEPS: Final = 12
UNIT: Final = 1e-2
WEAKER: Final = 4.0  # the factor between penalties on the way to a weak one
ON_THE_WAY: Final = 0.1  # relative gap there
ROUNDING: Final = 1e-6  # of a loss that is added up in float32
EXTRAPOLATED: Final = (0.25, 0.5, 0.75, 1.0, 1.5)  # lengths that are tried along the path


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Iterate:
    """Weights of a linear model in float32, with their predictions."""

    weight: Tensor  # M, [num_features, outputs]
    bias: Tensor  # b, [outputs]
    z: Tensor  # X M + b

    def on_line(self, before: "Iterate", length: float) -> "Iterate":
        """Return the point `length` times as far from this one as this is from the one before."""
        return Iterate(*(torch.add(b, b - a, alpha=length) for a, b in zip(_parts(before), _parts(self), strict=True)))


def _parts(point: Iterate) -> tuple[Tensor, Tensor, Tensor]:
    return point.weight, point.bias, point.z


@final
class SingleRidge:
    """A linear model's problem in float32; the penalty may change, so that features and loss are converted once."""

    def __init__(self, problem: Head) -> None:
        self.features, self.intercept = problem.features, problem.intercept
        self.loss = in_float32(problem.loss)
        assert isinstance(problem.regularizer, L2)
        self.l2 = problem.regularizer.strength
        self._start = best_bias(problem.loss).float()

    def start(self) -> Iterate:
        """Return no weights, and the bias that is best without them."""
        n, d = self.features.shape
        bias = self._start if self.intercept else torch.zeros_like(self._start)
        return Iterate(bias.new_zeros(d, len(bias)), bias, bias.expand(n, -1).clone())

    def at(self, weight: Tensor, bias: Tensor) -> Iterate:
        """Return the point of given weights."""
        weight, bias = weight.float(), bias.float()
        return Iterate(weight, bias, self.features.times(weight) + bias)

    def extrapolated(self, point: Iterate, before: Iterate) -> Iterate:
        """Return the best point on the line from the point before through this one, under the present penalty."""
        products = [(self.l2 * float((a * b).sum())) for a, b in (
            (point.weight, point.weight), (point.weight, point.weight - before.weight),
            (point.weight - before.weight, point.weight - before.weight),
        )]  # fmt: skip
        change = point.z - before.z
        values = {0.0: float(self.loss.value(point.z)) + 0.5 * products[0]}
        for length in EXTRAPOLATED:
            value = float(self.loss.value(torch.add(point.z, change, alpha=length)))
            values[length] = value + 0.5 * products[0] + length * (products[1] + 0.5 * length * products[2])
        best = min(values, key=lambda length: values[length])
        return point.on_line(before, best) if best else point

    def descend(self, tolerance: float) -> tuple[Iterate, float, int]:
        """Return what `approach` returns, from no weights, through optima under stronger penalties.

        Newton steps from afar under a weak one throw labels with few examples out to where nothing bends any more.
        """
        wanted, now, before = self.l2, self.start(), None
        first = self.features.adjoint(self.loss.residual(now.z))
        reach = float(self.features.times(first).abs().amax())  # of the predictions, with the gradient as weights
        penalty, total = max(wanted, 0.5 * reach), 0
        while True:
            self.l2 = wanted if penalty < WEAKER * wanted else penalty
            begin = now if before is None else self.extrapolated(now, before)
            before, (now, gap, products) = now, self.approach(begin, tolerance if self.l2 == wanted else ON_THE_WAY)
            total += products
            if self.l2 == wanted:
                return now, gap, total
            penalty /= WEAKER

    def approach(self, point: Iterate, tolerance: float, *, max_steps: int = 40) -> tuple[Iterate, float, int]:
        """Take Newton steps until the relative gap is about `tolerance`; return the point, its gap and the products.

        What is returned is an estimate: only float64 proves a gap.
        """
        products, gap = 0, math.inf
        for steps in range(max_steps + 1):
            if self.intercept:
                bias = balanced_bias(self.loss, point.z, point.bias)
                point = Iterate(point.weight, bias, point.z + (bias - point.bias))
            value, residual = self.loss.value_and_residual(point.z)
            slope = torch.add(self.l2 * point.weight, self.features.adjoint(residual), alpha=-1.0)
            total = float(value) + 0.5 * self.l2 * float(point.weight.square().sum())
            size = float(torch.linalg.vector_norm(slope))
            new_gap = size * size / (2.0 * self.l2) / total if total > 0.0 else 0.0
            stuck = steps > 0 and not new_gap < 0.999 * gap and new_gap < 1e-4
            gap = new_gap
            if gap <= tolerance or steps == max_steps or stuck or not math.isfinite(gap):
                break
            wanted = ENOUGH * math.sqrt(tolerance / gap)
            point, used = self._step(point, slope, -residual.sum(0), size, total, wanted)
            products += used
            if not used:
                break
        return point, gap, products

    def _step(
        self, point: Iterate, slope: Tensor, slope_bias: Tensor, size: float, total: float, wanted: float
    ) -> tuple[Iterate, int]:
        """Return the point a truncated Newton step further, and the products; none where no step lowers the loss."""
        curvature, number = self.loss.curvature(point.z), slope.numel()
        diagonal, free = curvature.diagonal, float(self.intercept)
        sums = self.features.square_sums(diagonal.mean(1)).unsqueeze(1)
        of_matrix = (1.0 / (self.l2 + sums)).expand_as(slope).reshape(-1)
        # The bias is counted in small units, so that its part of the residual, which the gap does not see, is small.
        inverse = torch.cat([of_matrix, free / (UNIT * UNIT * diagonal.sum(0)).clamp_min(1e-12)])
        right = torch.cat([slope.reshape(-1), (free * UNIT) * slope_bias]).mul_(-1.0 / size)

        def multiply(flat: Tensor) -> tuple[Tensor, Tensor]:
            matrix, bias = flat[:number].view_as(slope), UNIT * flat[number:]
            change = self.features.times(matrix).add_(bias)
            weighted, product = curvature.product(change), torch.empty_like(flat)
            back = product[:number].view_as(slope)
            torch.add(self.features.adjoint(weighted), matrix, alpha=self.l2, out=back)
            torch.mul(weighted.sum(0), free * UNIT, out=product[number:])
            return product, change

        solved = conjugate_gradients(
            multiply, right, inverse, accuracy=ACCURACY, max_products=MAX_PRODUCTS, residual=wanted
        )
        if solved.image is None:
            return point, 0
        moved = Iterate(solved.solution[:number].view_as(slope), UNIT * solved.solution[number:], solved.image)
        descent = size * float((slope * moved.weight).sum() + (slope_bias * moved.bias).sum())
        inner, square = float((point.weight * moved.weight).sum()), float(moved.weight.square().sum())
        penalty = 0.5 * self.l2 * float(point.weight.square().sum())

        def attempt(length: float) -> tuple[float, float]:
            far = length * size
            value = float(self.loss.value(torch.add(point.z, moved.z, alpha=far)))
            return value + penalty + self.l2 * far * (inner + 0.5 * far * square), length * descent

        length = best_length(attempt, total)
        if length is None:
            return point, 0
        parts = zip(_parts(point), _parts(moved), strict=True)
        return Iterate(*(torch.add(a, b, alpha=length * size) for a, b in parts)), solved.products


def best_length(attempt: Callable[[float], tuple[float, float]], start: float) -> float | None:
    """Return the length of a step that lowers a convex function enough: 1, or longer while that is better, or shorter.

    Arguments as for `backtracking`.
    """
    first = backtracking(attempt, start, slack=ROUNDING * abs(start))
    if first != 1.0:
        return first
    length, value = 1.0, attempt(1.0)[0]
    while length < LONGEST and (longer := attempt(2.0 * length)[0]) < value - ROUNDING * abs(start):
        length, value = 2.0 * length, longer
    return length


def balanced_bias(loss: AbstractLoss, z: Tensor, bias: Tensor) -> Tensor:
    """Return the bias in predictions that is best with all else as it is, nearly, by Newton's method."""
    now, best, least = bias, bias, math.inf
    wanted = 1e-10 if z.dtype == torch.float64 else 1e-6
    mass = (loss.factor * loss.targets.abs()).sum(0)
    inverse = torch.where(mass > 0.0, 1.0 / mass.clamp_min(1e-30), 0.0)  # what no example has is best at -infinity
    for _ in range(MAX_BIAS_STEPS):
        at = z + (now - bias)
        curvature = loss.curvature(at)
        slope = loss.residual(at).sum(0)
        size = float((slope.abs() * inverse).amax())
        if not size < 0.9 * least:
            break
        best, least = now, size
        if size <= wanted:
            break
        matrix = curvature.summed().double()
        matrix.diagonal().add_(1e-9 * float(matrix.diagonal().amax()) + 1e-300)
        now = now + torch.linalg.solve(matrix, slope.double()).clamp(-2.0, 2.0).to(z.dtype)
    return best


def in_float32(loss: AbstractLoss) -> AbstractLoss:
    """Return a loss whose tensors are in float32."""
    twin = copy.copy(loss)
    small = {k: v.float() for k, v in vars(loss).items() if isinstance(v, Tensor) and v.is_floating_point()}
    vars(twin).update(small)
    return twin
