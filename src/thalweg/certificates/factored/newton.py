"""Newton's method for linear models in two factors: a certified optimum in tens of steps."""

import dataclasses
import math
from typing import Final, final

import torch
from torch import Tensor

from thalweg.certificates.factored.problem import Factored, FactoredPoint
from thalweg.certificates.factored.start import balance, grow, start
from thalweg.status import Status

MAX_PRODUCTS: Final = 200  # curvature products of one step
MAX_PRODUCTS_ONE_FACTOR: Final = 8
LITTLE: Final = 0.03  # a step of one factor that gains less than this share is the last one of its kind
LARGEST_GROWTH: Final = 3.0


@final
@dataclasses.dataclass
class NewtonState:
    """What the method remembers between two steps; plain numbers, so that a run can be resumed.

    Args:
        steps: steps taken.
        radius: of the trust region; 0 before the first joint step.
        first: size of the first gradient, for the accuracy of the solves.
        one_factor: whether the next step moves the embeddings alone.
        products: curvature products so far.
    """

    steps: int = 0
    radius: float = 0.0
    first: float = 0.0
    one_factor: bool = True
    products: int = 0


def step(problem: Factored, point: FactoredPoint, state: NewtonState) -> tuple[FactoredPoint, Status]:
    """Take one step; the loss never rises.

    First the embeddings alone move, where the problem is convex; then both factors together, in a trust region, until
    the gap is closed at Newton's rate. After each step the factors are balanced, which keeps their product and lowers
    the penalty to its least.

    Args:
        problem: the problem.
        point: where to start from.
        state: changed in place.

    Returns:
        The new point and how the step ended.
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
    """Train until the relative gap to the global optimum is proved to be at most the tolerance.

    Args:
        problem: the problem.
        width: columns of the factors; below the rank of the best solution the gap cannot close.
        tolerance: relative gap.
        max_steps: steps at most.
        point: where to start from; None: `start`.

    Returns:
        The point, and CONVERGED, NO_STEP (rounding, or the width, allows no more) or OUT_OF_ITERATIONS.

    Example:
        >>> from thalweg.certificates.losses import SoftmaxLoss
        >>> from thalweg.certificates.linear.matrices import Features
        >>> labels = torch.tensor([0, 1, 2] * 4)
        >>> x = Features(torch.nn.functional.one_hot(labels, 5).double() + 0.1)
        >>> problem = Factored(x, SoftmaxLoss.of_labels(labels, 3), l2=1e-2, intercept=True)
        >>> point, status = solve(problem, width=3)
        >>> status.name, problem.relative_gap(point) <= 1e-6
        ('CONVERGED', True)
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
    """Move embeddings and bias by a truncated Newton step with a backtracking search; the problem in them is convex."""
    features, l2, weight = problem.features, problem.l2, point.weight.float()
    curvature = problem.loss.curvature(point.z.float())
    diagonal = curvature.diagonal
    free = 1.0 if problem.intercept else 0.0
    by_embedding = torch.addmm(l2 * point.embedding, point.gradient, point.weight, alpha=-1.0)
    by_bias = -free * point.residual.sum(0)
    unit = max(float(torch.maximum(by_embedding.abs().amax(), by_bias.abs().amax())), 1e-300)
    sums = features.square_sums(diagonal.mean(1).double()).float()
    inverse = 1.0 / (l2 + sums[:, None] * weight.square().sum(0))
    inverse_bias = free / diagonal.sum(0).clamp_min(1e-12)
    right, right_bias = (-by_embedding / unit).float(), (-by_bias / unit).float()
    z, z_bias = inverse * right, inverse_bias * right_bias
    along, along_bias = z.clone(), z_bias.clone()
    moved, moved_bias, moved_z = torch.zeros_like(z), torch.zeros_like(z_bias), torch.zeros_like(diagonal)
    size = first = _dot(right, z) + _dot(right_bias, z_bias)
    slope = 0.0
    for _ in range(MAX_PRODUCTS_ONE_FACTOR):
        state.products += 1
        change = features.times(along @ weight.T) + along_bias
        bent = curvature.product(change)
        product = torch.addmm(l2 * along, features.adjoint(bent), weight)
        product_bias = free * bent.sum(0)
        bend = _dot(along, product) + _dot(along_bias, product_bias)
        if not bend > 0.0:
            break
        length = size / bend
        moved.add_(along, alpha=length)
        moved_bias.add_(along_bias, alpha=length)
        moved_z.add_(change, alpha=length)
        right.add_(product, alpha=-length)
        right_bias.add_(product_bias, alpha=-length)
        slope -= length * size
        z, z_bias = inverse * right, inverse_bias * right_bias
        new = _dot(right, z) + _dot(right_bias, z_bias)
        if not new > 0.09 * first:
            break
        along.mul_(new / size).add_(z)
        along_bias.mul_(new / size).add_(z_bias)
        size = new
    return _search(problem, point, (moved.double() * unit, moved_bias.double() * unit, moved_z * unit), slope * unit**2)


def _search(
    problem: Factored, point: FactoredPoint, step: tuple[Tensor, Tensor, Tensor], slope: float
) -> FactoredPoint:
    """Go along a step of one factor as far as it lowers the loss enough; the predictions move on a line."""
    moved, bias, moved_z = step
    squares = [_dot(point.embedding, point.embedding), _dot(point.embedding, moved), _dot(moved, moved)]
    fixed = 0.5 * problem.l2 * _dot(point.weight, point.weight)
    length = 1.0
    for _ in range(30):
        penalty = 0.5 * problem.l2 * (squares[0] + 2.0 * length * squares[1] + length * length * squares[2]) + fixed
        value = float(problem.loss.value(point.z + length * moved_z))
        if value + penalty <= point.total + 1e-4 * length * slope:
            new = problem.at(point.embedding + length * moved, point.weight, point.bias + length * bias)
            return new if new.total < point.total else point
        length *= 0.5
    return point


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
        return math.sqrt(_dot(self.gradient, self.gradient / self.scale))

    def product(self, flat: Tensor) -> Tensor:
        """Return the Hessian times a vector: two products with the features."""
        e, w, b = self.part(flat)
        l2, features = self.problem.l2, self.problem.features
        bent = self.curvature.product(features.times(torch.addmm(e @ self.w.T, self.e, w.T)) + b)
        back = features.adjoint(bent)
        by_e = torch.addmm(back @ self.w, self.g, w, alpha=-1.0).add_(e, alpha=l2)
        by_w = torch.addmm(back.T @ self.e, self.g.T, e, alpha=-1.0).add_(w, alpha=l2)
        return _join(by_e, by_w, self.free * bent.sum(0))

    def solve(self, radius: float, accuracy: float, state: NewtonState) -> tuple[Tensor, float, float]:
        """Minimize the model by conjugate gradients until the edge of the region or a direction that bends down.

        Returns:
            The step in float64, the change it predicts, and its length in the metric.
        """
        unit = self.size()
        right = (-self.gradient / unit).float()
        radius = radius / unit
        x, r = torch.zeros_like(right), right.clone()
        z = r / self.scale
        d = z.clone()
        size = first = _dot(r, z)
        xx, xd, dd = 0.0, 0.0, size
        for count in range(MAX_PRODUCTS):
            state.products += 1
            product = self.product(d)
            bend = _dot(d, product)
            length = size / bend if bend > 0.0 else math.inf
            if bend <= 0.0 and math.isinf(radius):
                if count:
                    break
                radius = math.sqrt(first)
            if not xx + 2.0 * length * xd + length * length * dd < radius * radius:
                length = (math.sqrt(max(0.0, xd * xd + dd * (radius * radius - xx))) - xd) / dd
                x.add_(d, alpha=length)
                r.add_(product, alpha=-length)
                xx = radius * radius
                break
            x.add_(d, alpha=length)
            r.add_(product, alpha=-length)
            xx += 2.0 * length * xd + length * length * dd
            z = r / self.scale
            new = _dot(r, z)
            if not new > accuracy * accuracy * first:
                break
            share, size = new / size, new
            xd, dd = share * (xd + length * dd), new + share * share * dd
            d.mul_(share).add_(z)
        predicted = -0.5 * (_dot(x, right) + _dot(x, r))
        return x.double() * unit, predicted * unit * unit, math.sqrt(max(xx, 0.0)) * unit

    def moved(self, flat: Tensor) -> FactoredPoint:
        """Return the point a step further."""
        e, w, b = self.part(flat)
        columns = self.used.nonzero().squeeze(1)
        embedding = self.point.embedding.index_add(1, columns, e)
        weight = self.point.weight.index_add(1, columns, w)
        return self.problem.at(embedding, weight, self.point.bias + b)


def _join(e: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return torch.cat([e.reshape(-1), w.reshape(-1), b])


def _dot(left: Tensor, right: Tensor) -> float:
    return torch.dot(left.reshape(-1), right.reshape(-1)).item()
