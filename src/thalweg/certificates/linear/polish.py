"""Polishing a linear head: Newton's method with conjugate gradients, down to a proved relative gap."""

import math
from typing import Final, final

import torch
from torch import Tensor

from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.losses import best_bias
from thalweg.certificates.number_losses import HingeLoss
from thalweg.status import Status

MAX_PRODUCTS: Final = 250


@final
class Polished:
    """What polishing gave.

    Attributes:
        point: the improved head.
        status: CONVERGED, OUT_OF_ITERATIONS or NO_STEP.
        bound: a lower bound of the best head's loss, the best that was found on the way.
        excess: by how much the head from before is above the polished one: at least so much it was not the best.
        products: curvature products.
        gradients: gradients.
    """

    def __init__(
        self, point: HeadPoint, status: Status, bound: float, excess: float, products: int, gradients: int
    ) -> None:
        self.point, self.status, self.bound, self.excess = point, status, bound, excess
        self.products, self.gradients = products, gradients


def polish(head: Head, point: HeadPoint | None = None, *, tolerance: float = 1e-6, max_steps: int = 100) -> Polished:
    """Improve a head until its relative gap is proved to be at most the tolerance.

    Curvature products are computed in float32 and everything that counts in float64.

    Args:
        head: a problem with an `L2` penalty and a loss that has second derivatives, or nearly (squared hinge).
        point: where to start; None: zero.
        tolerance: relative gap.
        max_steps: Newton steps at most.

    Raises:
        ValueError: for another regularizer or a hinge loss.

    Example:
        >>> from thalweg.certificates.losses import SoftmaxLoss
        >>> from thalweg.certificates.linear.matrices import Features
        >>> labels = torch.tensor([0, 1, 0, 1])
        >>> head = Head(Features(torch.eye(4)), SoftmaxLoss.of_labels(labels, 2), L2(0.1), intercept=True)
        >>> polished = polish(head)
        >>> polished.status.name, head.relative_gap(polished.point) <= 1e-6
        ('CONVERGED', True)
    """
    if not isinstance(head.regularizer, L2) or isinstance(head.loss, HingeLoss):
        raise ValueError("polish(head) needs an L2 penalty and a loss with second derivatives; a hinge has none.")
    strength = head.regularizer.strength
    zeros = torch.zeros(head.features.shape[1], head.loss.num_outputs, dtype=torch.float64, device=head.features.device)
    point = head.at(zeros, best_bias(head.loss) if head.intercept else None) if point is None else point
    before, best = point.total, -math.inf
    solver = _Solver(head, strength)
    for count in range(max_steps + 1):
        gap = head.gap(point, search=False)
        best = max(best, point.total - gap)
        if point.total - best <= tolerance * abs(point.total):
            return Polished(point, Status.CONVERGED, best, before - point.total, solver.products, count + 1)
        if count == max_steps:
            break
        wanted = math.sqrt(tolerance * abs(point.total) / gap) if gap > 0.0 else 1.0
        new = solver.step(point, wanted)
        if new is None:
            return Polished(point, Status.NO_STEP, best, before - point.total, solver.products, count + 1)
        point = new
    return Polished(point, Status.OUT_OF_ITERATIONS, best, before - point.total, solver.products, max_steps)


@final
class _Solver:
    """Truncated Newton steps with a search along each, on which the predictions move in a line."""

    def __init__(self, head: Head, strength: float) -> None:
        self.head, self.strength = head, strength
        self.products = 0
        self.first: float | None = None

    def step(self, point: HeadPoint, wanted: float) -> HeadPoint | None:
        """Return the next point, or None where rounding allows no decrease.

        Args:
            point: where to start.
            wanted: by which factor the gradient has to shrink for the gap asked for.
        """
        head, strength = self.head, self.strength
        free = 1.0 if head.intercept else 0.0
        slope = torch.add(strength * point.weight, point.gradient, alpha=-1.0)
        slope_bias = -free * point.residual.sum(0)
        size = float(slope.square().sum() + slope_bias.square().sum()) ** 0.5
        if not size > 0.0:
            return None
        self.first = self.first or size
        accuracy = max(min(0.25, (size / self.first) ** 0.5), 0.5 * wanted)
        moved, bias, along = self._solve(point, slope / size, slope_bias / size, min(accuracy, 0.5), free)
        moved, bias, along = moved.double() * size, bias.double() * size, along.double() * size
        descent = float((slope * moved).sum() + (slope_bias * bias).sum())
        squares = torch.stack([(point.weight * moved).sum(), moved.square().sum()]).tolist()
        length = 1.0
        for _ in range(30):
            value = float(head.loss.value(point.z + length * along))
            value += point.penalty + strength * length * (squares[0] + 0.5 * length * squares[1])
            if value <= point.total + 1e-4 * length * descent + 1e-15 * abs(point.total):
                return head.at(point.weight + length * moved, point.bias + length * bias)
            length *= 0.5
        return None

    def _solve(
        self, point: HeadPoint, slope: Tensor, slope_bias: Tensor, accuracy: float, free: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Solve the Newton equation by preconditioned conjugate gradients; also return how the predictions move."""
        head, strength = self.head, self.strength
        curvature = head.loss.curvature(point.z.float())
        diagonal = curvature.diagonal
        inverse = 1.0 / (strength + head.features.square_sums(diagonal.mean(1).double()).float().unsqueeze(1))
        inverse_bias = free / diagonal.sum(0).clamp_min(1e-12)
        r, r_bias = -slope.float(), -slope_bias.float()
        x, x_bias, x_z = torch.zeros_like(r), torch.zeros_like(r_bias), torch.zeros_like(diagonal)
        z, z_bias = inverse * r, inverse_bias * r_bias
        d, d_bias = z.clone(), z_bias.clone()
        size = first = _dot(r, z) + _dot(r_bias, z_bias)
        for _ in range(MAX_PRODUCTS):
            self.products += 1
            change = head.features.times(d)
            if free:
                change = change + d_bias
            bent = curvature.product(change)
            product = head.features.adjoint(bent).add_(d, alpha=strength)
            product_bias = free * bent.sum(0)
            bend = _dot(d, product) + _dot(d_bias, product_bias)
            if not bend > 0.0:
                break
            length = size / bend
            x.add_(d, alpha=length)
            x_bias.add_(d_bias, alpha=length)
            x_z.add_(change, alpha=length)
            r.add_(product, alpha=-length)
            r_bias.add_(product_bias, alpha=-length)
            z, z_bias = inverse * r, inverse_bias * r_bias
            new = _dot(r, z) + _dot(r_bias, z_bias)
            if not new > accuracy * accuracy * first:
                break
            d.mul_(new / size).add_(z)
            d_bias.mul_(new / size).add_(z_bias)
            size = new
        return x, x_bias, x_z


def _dot(left: Tensor, right: Tensor) -> float:
    return torch.dot(left.reshape(-1), right.reshape(-1)).item()
