"""Polishing a linear head by Newton's method, down to a proved relative gap."""

import dataclasses
import math
import time
from typing import Final, final

import torch

from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.regularizers import L1, L2, ElasticNet
from thalweg.certificates.linear.working_set import WorkingSet
from thalweg.certificates.losses import best_bias
from thalweg.certificates.newton import ConvexPoint
from thalweg.certificates.number_losses import HingeLoss
from thalweg.status import Status

MAX_PRODUCTS: Final = 250


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Polished:
    """What polishing gave."""

    point: HeadPoint  # the improved head
    status: Status  # CONVERGED, OUT_OF_ITERATIONS, OUT_OF_TIME or NO_STEP
    bound: float  # a lower bound of the best head's loss, the best that was found on the way
    excess: float  # by how much the head from before is above the polished one: at least so much it was not the best
    products: int  # with the curvature
    gradients: int


def polish(
    head: Head,
    point: HeadPoint | None = None,
    *,
    tolerance: float = 1e-6,
    max_steps: int = 100,
    seconds: float = math.inf,
) -> Polished:
    """Improve a head until its relative gap is proved to be at most the tolerance.

    With an `L2` penalty these are truncated Newton steps, by conjugate gradients. With an `L1` or `ElasticNet` penalty
    each step looks at all features once, takes the most promising ones into a working set, and goes a Newton step on
    them: the quadratic model with the penalty is minimized by accelerated proximal gradients, which find the weights
    that stay zero, and conjugate gradients in the others. Curvature products are computed in float32 and everything
    that counts in float64.

    Args:
        head: a problem with an `L2`, `L1` or `ElasticNet` penalty (the latter two for one output) and a loss that has
            second derivatives, or nearly (squared hinge).
        point: where to start; None: zero.
        tolerance: relative gap.
        max_steps: Newton steps at most.
        seconds: a limit: no step begins later, and a Newton equation is solved no further; the best head so far and its
            bound are returned. One step costs some passes over the features at least.

    Raises:
        ValueError: for another regularizer, a hinge loss, an L1 penalty with several outputs, or seconds that are NaN.

    Example:
        >>> from thalweg.certificates.losses import SoftmaxLoss
        >>> from thalweg.certificates.linear.matrices import Features
        >>> labels = torch.tensor([0, 1, 0, 1])
        >>> head = Head(Features(torch.eye(4)), SoftmaxLoss.of_labels(labels, 2), L2(0.1), intercept=True)
        >>> polished = polish(head)
        >>> polished.status.name, head.relative_gap(polished.point) <= 1e-6
        ('CONVERGED', True)

    Source: Massias, Gramfort and Salmon (2018), Celer: a Fast Solver for the Lasso with Dual Extrapolation (working
    sets); Yuan, Ho and Lin (2012), An Improved GLMNET for L1-regularized Logistic Regression (Newton steps).
    """
    if not isinstance(head.regularizer, L2 | L1 | ElasticNet) or isinstance(head.loss, HingeLoss):
        raise ValueError(
            "polish(head) needs an L2, L1 or elastic-net penalty and a loss with second derivatives (a hinge has "
            f"none); got {type(head.regularizer).__name__} and {type(head.loss).__name__}."
        )
    if not isinstance(head.regularizer, L2) and head.loss.num_outputs != 1:
        raise ValueError(f"polish(head) with an L1 penalty is for one output; got {head.loss.num_outputs}.")
    if math.isnan(seconds):
        raise ValueError("polish(seconds=...) must be a number of seconds; got NaN.")
    end = time.perf_counter() + seconds
    zeros = torch.zeros(head.features.shape[1], head.loss.num_outputs, dtype=torch.float64, device=head.features.device)
    now = head.at(zeros, best_bias(head.loss) if head.intercept else None) if point is None else point
    before, best = now.total, -math.inf
    solver = _Newton(head) if isinstance(head.regularizer, L2) else WorkingSet(head, head.regularizer)
    status, gradients = None, 0
    while status is None:
        gradients, late, gap = gradients + 1, time.perf_counter() >= end, math.inf
        if late or gradients > max_steps or not solver.is_far(now):
            gap = head.gap(now, search=not isinstance(head.regularizer, L2))
            best = max(best, now.total - gap)
        if now.total - best <= tolerance * abs(now.total):
            status = Status.CONVERGED
        elif gradients > max_steps:
            status = Status.OUT_OF_ITERATIONS
        elif late:
            status = Status.OUT_OF_TIME
        else:
            new = solver.step(now, math.sqrt(tolerance * abs(now.total) / gap) if gap > 0.0 else 1.0, end)
            status, now = (Status.NO_STEP, now) if new is None else (None, new)
    if math.isinf(best):
        best = now.total - head.gap(now)
    return Polished(now, status, best, before - now.total, solver.products, gradients)


def convex_point(head: Head, point: HeadPoint) -> ConvexPoint:
    """Return a point of a head with an `L2` penalty, ready for a Newton step."""
    assert isinstance(head.regularizer, L2)
    strength = head.regularizer.strength
    slope = torch.add(strength * point.weight, point.gradient, alpha=-1.0)
    slope_bias = -float(head.intercept) * point.slope_bias
    return ConvexPoint(
        head.loss, head.features, strength, head.intercept, point.weight, None, point.z, slope, slope_bias,
        point.total, point.penalty,
    )  # fmt: skip


@final
class _Newton:
    """Truncated Newton steps under an L2 penalty."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.products = 0
        self.first: float | None = None

    def is_far(self, point: HeadPoint) -> bool:
        """Whether the gap need not be computed; here it costs next to nothing."""
        del point
        return False

    def step(self, point: HeadPoint, wanted: float, end: float) -> HeadPoint | None:
        """Return the next point, or None where rounding allows no decrease.

        For the gap asked for the gradient has to shrink by the factor `wanted`. `end` is when to end, on the clock
        `time.perf_counter`.
        """
        head = self.head
        convex = convex_point(head, point)
        size = convex.size()
        self.first = self.first or size
        accuracy = max(min(0.25, (size / self.first) ** 0.5), 0.1 * wanted) if self.first else 0.25
        enough = (0.3 if head.intercept else 0.7) * wanted  # a free bias is not under the penalty, and weighs more
        weight, bias, products = convex.step(accuracy, MAX_PRODUCTS, residual=enough, end=end)
        self.products += products
        return None if weight is None else head.at(weight, point.bias + bias)
