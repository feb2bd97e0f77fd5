"""Newton's method for linear models under an L2 penalty: a certified optimum in a few steps, from any start."""

import dataclasses
import math
from typing import Final, final

import torch
from torch import Tensor

from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.polish import convex_point
from thalweg.certificates.losses import best_bias
from thalweg.certificates.ridge.single import SingleRidge, balanced_bias
from thalweg.status import Status

MAX_PRODUCTS: Final = 250  # of one step, with the curvature
MOST: Final = 0.25  # of its residual an equation leaves, at most
FAR: Final = 0.5  # a gap from which it is quicker, and safe, to begin anew
FINE: Final = 2e-5  # a gap that float32 is good for
LEVELS: Final = (1e-2, 1e-4)  # gaps that a step in float32 brings one below, where no tolerance is given
AIM: Final = 0.8  # of what is wanted is aimed at, since the gap in float32 is an estimate


@final
@dataclasses.dataclass
class RidgeState:
    """What the method remembers between two steps; plain numbers, so that a run can be resumed."""

    steps: int = 0  # taken
    first: float = 0.0  # size of the first gradient in float64, for the accuracy of the solves
    products: int = 0  # with the curvature, so far


def start(problem: Head) -> HeadPoint:
    """Return where training starts: no weights, and the bias that is best without them."""
    shape = problem.features.shape[1], problem.loss.num_outputs
    zeros = torch.zeros(shape, dtype=torch.float64, device=problem.features.device)
    return problem.at(zeros, best_bias(problem.loss) if problem.intercept else None)


def at_best_bias(problem: Head, weight: Tensor, bias: Tensor) -> HeadPoint:
    """Return the point of weights in float64, the bias being the best one for them, nearly."""
    weight, bias = weight.double(), bias.double()
    z = problem.features.times(weight).add_(bias)
    if problem.intercept:
        best = balanced_bias(problem.loss, z, bias)
        bias, z = best, z.add_(best - bias)
    return problem.after(weight, bias, z)


def step(
    problem: Head, point: HeadPoint, state: RidgeState, *, tolerance: float = 0.0, single: SingleRidge | None = None
) -> tuple[HeadPoint, Status]:
    """Take one step and return the new point; the loss never rises, and `state` is changed in place.

    Where the gap is wide, these are as many truncated Newton steps in float32 as bring it to the `tolerance`, or down a
    level; and one in float64 where it is narrow. `single` is the problem in float32, where it is at hand.
    """
    state.steps += 1
    before, gap = point.total, problem.relative_gap(point)
    if gap > FINE:
        single = SingleRidge(problem) if single is None else single
        level = tolerance if tolerance > 0.0 else next((level for level in LEVELS if gap > level), FINE)
        aim = max(AIM * level, 0.5 * FINE)
        if gap > FAR:
            near, _, products = single.descend(aim)
        else:
            near, _, products = single.approach(single.at(point.weight, point.bias), aim)
        state.products += products
        new = at_best_bias(problem, near.weight, near.bias)
        if products and new.total < before:
            return new, Status.STEPPED
    return _in_float64(problem, point, state, math.sqrt(tolerance / gap) if gap > 0.0 else 1.0)


def solve(
    problem: Head,
    *,
    tolerance: float = 1e-6,
    max_steps: int = 100,
    point: HeadPoint | None = None,
) -> tuple[HeadPoint, Status, RidgeState]:
    """Train from a point (None: `start`) until the relative gap to the global optimum is proved to be small enough.

    The status is CONVERGED, NO_STEP (rounding allows no more) or OUT_OF_ITERATIONS.
    """
    point, state, single = start(problem) if point is None else point, RidgeState(), SingleRidge(problem)
    for _ in range(max_steps):
        if problem.relative_gap(point) <= tolerance:
            return point, Status.CONVERGED, state
        point, status = step(problem, point, state, tolerance=tolerance, single=single)
        if status is not Status.STEPPED:
            return point, Status.NO_STEP, state
    done = problem.relative_gap(point) <= tolerance
    return point, Status.CONVERGED if done else Status.OUT_OF_ITERATIONS, state


def _in_float64(problem: Head, point: HeadPoint, state: RidgeState, wanted: float) -> tuple[HeadPoint, Status]:
    """Take one truncated Newton step that shrinks the gradient by the factor `wanted`, if need be, and no further."""
    convex = convex_point(problem, point)
    size = convex.size()
    state.first = max(state.first, size)
    if not size > 0.0:
        return point, Status.STATIONARY
    accuracy = max(min(MOST, math.sqrt(size / state.first)), 0.1 * wanted)
    weight, bias, products = convex.step(accuracy, MAX_PRODUCTS, residual=0.3 * wanted)
    state.products += products
    if weight is None:
        return point, Status.NO_STEP
    return at_best_bias(problem, weight, point.bias + bias), Status.STEPPED
