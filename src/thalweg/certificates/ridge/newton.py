"""Newton's method for linear models under an L2 penalty: a certified optimum in a few steps, from any start."""

import dataclasses
import math
from typing import Final, final

import torch

from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.polish import convex_point
from thalweg.certificates.losses import best_bias
from thalweg.status import Status

MAX_PRODUCTS: Final = 250  # of one step, with the curvature
MOST: Final = 0.25  # of its residual an equation leaves, at most
ENOUGH: Final = 0.3  # of the gradient that the tolerance allows: with a free bias the gap is more than its square


@final
@dataclasses.dataclass
class RidgeState:
    """What the method remembers between two steps; plain numbers, so that a run can be resumed."""

    steps: int = 0  # taken
    first: float = 0.0  # size of the first gradient, for the accuracy of the solves
    products: int = 0  # with the curvature, so far


def start(problem: Head) -> HeadPoint:
    """Return where training starts: no weights, and the bias that is best without them."""
    shape = problem.features.shape[1], problem.loss.num_outputs
    zeros = torch.zeros(shape, dtype=torch.float64, device=problem.features.device)
    return problem.at(zeros, best_bias(problem.loss) if problem.intercept else None)


def step(problem: Head, point: HeadPoint, state: RidgeState, *, wanted: float = 0.0) -> tuple[HeadPoint, Status]:
    """Take one truncated Newton step and return the new point; the loss never rises, `state` is changed in place.

    The equation is solved no further than it takes to shrink the gradient by the factor `wanted`.
    """
    convex = convex_point(problem, point)
    size = convex.size()
    state.first, state.steps = max(state.first, size), state.steps + 1
    if not size > 0.0:
        return point, Status.STATIONARY
    accuracy = max(min(MOST, math.sqrt(size / state.first)), 0.1 * wanted)
    weight, bias, products = convex.step(accuracy, MAX_PRODUCTS, residual=ENOUGH * wanted)
    state.products += products
    if weight is None:
        return point, Status.NO_STEP
    return problem.at(weight, point.bias + bias), Status.STEPPED


def solve(
    problem: Head, *, tolerance: float = 1e-6, max_steps: int = 100, point: HeadPoint | None = None
) -> tuple[HeadPoint, Status, RidgeState]:
    """Train from a point (None: `start`) until the relative gap to the global optimum is proved to be small enough.

    The status is CONVERGED, NO_STEP (rounding allows no more) or OUT_OF_ITERATIONS.
    """
    point, state = start(problem) if point is None else point, RidgeState()
    for _ in range(max_steps):
        gap = problem.relative_gap(point)
        if gap <= tolerance:
            return point, Status.CONVERGED, state
        point, status = step(problem, point, state, wanted=math.sqrt(tolerance / gap))
        if status is not Status.STEPPED:
            return point, Status.NO_STEP, state
    done = problem.relative_gap(point) <= tolerance
    return point, Status.CONVERGED if done else Status.OUT_OF_ITERATIONS, state
