"""Newton's method for linear models in two factors: a certified optimum in tens of steps."""

import dataclasses
import math
from typing import Final, final

import torch
from torch import Tensor

from thalweg.certificates.factored.problem import Factored, FactoredPoint
from thalweg.certificates.factored.start import balance, grow, start
from thalweg.certificates.newton import ConvexPoint, conjugate_gradients, dot
from thalweg.status import Status

MAX_PRODUCTS: Final = 200  # curvature products of one step
MAX_PRODUCTS_ONE_FACTOR: Final = 8
ONE_FACTOR_ACCURACY: Final = 0.3
LITTLE: Final = 0.03  # a step of one factor that gains a smaller fraction than this is the last one of its kind
LARGEST_GROWTH: Final = 3.0


@final
@dataclasses.dataclass
class NewtonState:
    """What the method remembers between two steps; plain numbers, so that a run can be resumed."""

    steps: int = 0  # taken
    radius: float = 0.0  # of the trust region; 0 before the first joint step
    first: float = 0.0  # size of the first gradient, for the accuracy of the solves
    one_factor: bool = True  # whether the next step moves the embeddings alone
    products: int = 0  # with the curvature, so far


def step(problem: Factored, point: FactoredPoint, state: NewtonState) -> tuple[FactoredPoint, Status]:
    """Take one step from a point and return the new one; the loss never rises, and `state` is changed in place.

    First the embeddings alone move, where the problem is convex; then both factors together, in a trust region, until
    the gap is closed at Newton's rate. After each step the factors are balanced, which keeps their product and lowers
    the penalty to its least.
    """
    point = grow(problem, balance(problem, point))
    before = point.total
    if not bool(point.weight.any()):
        return point, Status.STATIONARY  # zero is a stationary point that nothing grows from: it is the optimum
    if state.one_factor:
        new = _one_factor_step(problem, point, state)
        state.one_factor = before - new.total > LITTLE * before
        moved = new.total < before
    else:
        new, moved = _joint_step(problem, point, state)
        state.one_factor = not moved and state.steps < 30
    state.steps += 1
    if not moved:
        return point, Status.NO_STEP
    return balance(problem, new), Status.STEPPED


def solve(
    problem: Factored, width: int, *, tolerance: float = 1e-6, max_steps: int = 200, point: FactoredPoint | None = None
) -> tuple[FactoredPoint, Status]:
    """Train from a point (None: `start`) until the relative gap to the global optimum is proved to be small enough.

    Below the rank of the best solution for the `width` the gap cannot close. The status is CONVERGED, NO_STEP
    (rounding, or the width, allows no more) or OUT_OF_ITERATIONS.
    """
    point = start(problem, width) if point is None else point
    state, stuck = NewtonState(), 0
    for _ in range(max_steps):
        if problem.relative_gap(point) <= tolerance:
            return point, Status.CONVERGED
        point, status = step(problem, point, state)
        stuck = 0 if status is Status.STEPPED else stuck + 1
        if stuck >= 4:
            return point, Status.NO_STEP
    done = problem.relative_gap(point) <= tolerance
    return point, Status.CONVERGED if done else Status.OUT_OF_ITERATIONS


# ---- steps ----


def _one_factor_step(problem: Factored, point: FactoredPoint, state: NewtonState) -> FactoredPoint:
    """Move embeddings and bias by a truncated Newton step; the problem in them is convex."""
    slope = torch.addmm(problem.l2 * point.embedding, point.gradient, point.weight, alpha=-1.0)
    slope_bias = -float(problem.intercept) * point.residual.sum(0)
    convex = ConvexPoint(
        problem.loss, problem.features, problem.l2, problem.intercept, point.embedding, point.weight.float(), point.z,
        slope, slope_bias, point.total, point.penalty,
    )  # fmt: skip
    embedding, bias, products = convex.step(ONE_FACTOR_ACCURACY, MAX_PRODUCTS_ONE_FACTOR)
    state.products += products
    if embedding is None:
        return point
    new = problem.at(embedding, point.weight, point.bias + bias)
    return new if new.total < point.total else point


def _joint_step(problem: Factored, point: FactoredPoint, state: NewtonState) -> tuple[FactoredPoint, bool]:
    """Move both factors and the bias together, within the trust region; return the point and whether it moved."""
    used = point.weight.any(0)
    joint = _Joint(problem, point, used)
    size = joint.size()
    if not size > 0.0:
        return point, False
    state.first = max(state.first, size)
    radius = state.radius or math.inf
    accuracy = min(0.3, 0.5 * math.sqrt(size / state.first))
    moved, predicted, length = joint.solve(radius, accuracy, state)
    new = joint.moved(moved)
    gain = (new.total - point.total) / predicted if predicted < 0.0 and math.isfinite(new.total) else -1.0
    if abs(new.total - point.total) <= 1e-13 * abs(point.total):
        gain = 1.0  # below rounding the gradient is the better judge
        if _Joint(problem, new, used).size() >= size:
            gain = -1.0
    if gain < 0.25:
        state.radius = (0.3 if gain > 0.0 else 0.15) * length
    elif gain > 0.75:
        state.radius = LARGEST_GROWTH * length if math.isinf(radius) else max(radius, LARGEST_GROWTH * length)
    return (new, True) if gain > 1e-4 else (point, False)


@final
class _Joint:
    """The quadratic model in both factors and the bias, as one flat vector; the solve runs in float32."""

    def __init__(self, problem: Factored, point: FactoredPoint, used: Tensor) -> None:
        self.problem, self.point, self.used = problem, point, used
        e, w, l2 = point.embedding[:, used], point.weight[:, used], problem.l2
        self.free = 1.0 if problem.intercept else 0.0
        by_e = torch.addmm(l2 * e, point.gradient, w, alpha=-1.0)
        by_w = torch.addmm(l2 * w, point.gradient.T, e, alpha=-1.0)
        self.gradient = _join(by_e, by_w, -self.free * point.residual.sum(0))
        self.e, self.w, self.g = e.float(), w.float(), point.gradient.float()
        self.curvature = problem.loss.curvature(point.z.float())
        diagonal = self.curvature.diagonal
        sums = problem.features.square_sums(diagonal.mean(1).double()).float()
        for_e = l2 + sums[:, None] * self.w.square().sum(0)
        for_w = l2 + diagonal.T @ problem.features.times(self.e).square()
        self.scale = _join(for_e, for_w, diagonal.sum(0) + 1e-12)

    def part(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the parts of a flat vector for embedding, weight and bias."""
        first, second = self.e.numel(), self.e.numel() + self.w.numel()
        return flat[:first].view_as(self.e), flat[first:second].view_as(self.w), flat[second:]

    def size(self) -> float:
        """Return the size of the gradient in the metric of the curvature's diagonal."""
        return math.sqrt(dot(self.gradient, self.gradient / self.scale))

    def product(self, flat: Tensor) -> Tensor:
        """Return the Hessian times a vector: two products with the features."""
        e, w, b = self.part(flat)
        l2, features = self.problem.l2, self.problem.features
        weighted = self.curvature.product(features.times(torch.addmm(e @ self.w.T, self.e, w.T)) + b)
        back = features.adjoint(weighted)
        by_e = torch.addmm(back @ self.w, self.g, w, alpha=-1.0).add_(e, alpha=l2)
        by_w = torch.addmm(back.T @ self.e, self.g.T, e, alpha=-1.0).add_(w, alpha=l2)
        return _join(by_e, by_w, self.free * weighted.sum(0))

    def solve(self, radius: float, accuracy: float, state: NewtonState) -> tuple[Tensor, float, float]:
        """Minimize the model by conjugate gradients until the edge of the region or a direction that bends down.

        Returns the step in float64, the change it predicts, and its length in the metric.
        """
        unit = self.size()
        solved = conjugate_gradients(
            lambda flat: (self.product(flat), None),
            (-self.gradient / unit).float(),
            1.0 / self.scale,
            accuracy=accuracy,
            max_products=MAX_PRODUCTS,
            radius=radius / unit,
        )
        state.products += solved.products
        return solved.solution.double() * unit, solved.predicted * unit * unit, solved.length * unit

    def moved(self, flat: Tensor) -> FactoredPoint:
        """Return the point a step further."""
        e, w, b = self.part(flat)
        columns = self.used.nonzero().squeeze(1)
        embedding = self.point.embedding.index_add(1, columns, e)
        weight = self.point.weight.index_add(1, columns, w)
        return self.problem.at(embedding, weight, self.point.bias + b)


def _join(e: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.cat([e.reshape(-1), w.reshape(-1), b])
