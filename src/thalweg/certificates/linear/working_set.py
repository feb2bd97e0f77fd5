"""Newton steps for a head with an L1 penalty, on a working set: the few features that matter."""

import dataclasses
import math
from collections.abc import Callable
from typing import Final, final

import torch
from torch import Tensor

from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.matrices import Columns
from thalweg.certificates.linear.regularizers import L1, ElasticNet
from thalweg.certificates.newton import backtracking, conjugate_gradients, dot

GROWTH: Final = 2  # the working set holds so many times the features in use
LEAST: Final = 100  # features of the first working set
LARGEST_DENSE: Final = 1000  # unknowns whose products with each other are kept as a matrix
LARGEST_SOLVED: Final = 300  # unknowns whose linear equation is solved directly
ROUNDS: Final = 10  # of the quadratic model's minimization
SWEEPS: Final = 10  # proximal gradient steps a round
STEEPEST: Final = 1e100  # where the diagonal is one
MAX_PRODUCTS: Final = 100
RIDGE: Final = 1e-7  # added to a curvature whose diagonal is one: its rounding in float32
FAR: Final = 0.05  # relative: where derivatives exceed the penalty by more, the gap is far from closed


@final
class WorkingSet:
    """Newton steps under an L1 or elastic-net penalty, on the few weights that matter."""

    def __init__(self, head: Head, regularizer: L1 | ElasticNet) -> None:
        self.head, self.products, self.size = head, 0, LEAST
        self.l1 = regularizer.strength if isinstance(regularizer, L1) else regularizer.l1
        self.l2 = 0.0 if isinstance(regularizer, L1) else regularizer.l2

    def step(self, point: HeadPoint, wanted: float, end: float) -> HeadPoint | None:
        """Return the next point, or None where rounding allows no decrease."""
        del wanted, end  # the quadratic model is minimized exactly, and small
        used = int((point.weight != 0.0).sum())
        self.size = min(len(point.weight), max(self.size, GROWTH * used))
        # The features in use, and those whose derivatives come nearest to the penalty.
        nearness = torch.where(point.weight != 0.0, math.inf, point.gradient.abs() / self.l1).squeeze(1)
        return self._step(point, torch.topk(nearness, self.size).indices.sort().values)

    def is_far(self, point: HeadPoint) -> bool:
        """Whether derivatives exceed the penalty by so much that the gap need not be computed."""
        slope = point.gradient if not self.l2 else point.gradient - self.l2 * point.weight
        return float(slope.abs().amax()) > (1.0 + FAR) * self.l1

    def _step(self, point: HeadPoint, chosen: Tensor) -> HeadPoint | None:
        """Go a Newton step in the chosen weights and the bias, the last of the unknowns."""
        head, l1, l2, free = self.head, self.l1, self.l2, int(self.head.intercept)
        second = head.loss.curvature(point.z.float()).diagonal[:, 0]  # a few digits are enough, as for predictions
        curvature = _Curvature(head.features.columns(chosen), second, l2, free)
        weight = torch.cat([point.weight[chosen, 0], point.bias[:free]])
        penalty = torch.full_like(weight, l1)
        penalty[len(chosen) :] = 0.0
        slope = torch.cat([l2 * point.weight[chosen, 0] - point.gradient[chosen, 0], -point.slope_bias[:free]])
        moved = curvature.minimizer(slope, penalty, weight) - weight
        self.products += curvature.products
        if not bool(torch.isfinite(moved).all()):  # no curvature at all, or numbers beyond float32
            return None
        along = curvature.predictions(moved).double().unsqueeze(1)
        expected = dot(slope, moved) + float((penalty * ((weight + moved).abs() - weight.abs())).sum())

        def after(length: float) -> Tensor:
            full = point.weight.clone()
            full[chosen, 0] += length * moved[: len(chosen)]
            return full

        def attempt(length: float) -> tuple[float, float]:
            value = head.loss.value(point.z + length * along) + head.regularizer.penalty(after(length))
            return float(value), length * expected

        length = backtracking(attempt, point.total, slack=1e-15 * abs(point.total))
        if length is None:
            return None
        bias = point.bias + length * moved[len(chosen) :] if free else point.bias
        return head.at(after(length), bias)


@final
class _Curvature:
    r"""The second derivative $G$ of a loss by some weights and, last, by the bias where it is free.

    Few unknowns keep $G$; for many, each product goes through the data.
    """

    def __init__(self, columns: Columns, second: Tensor, l2: float, free: int) -> None:
        self.columns, self.second, self.l2, self.free = columns, second, l2, free
        self.products, self.gram = 0, None
        total = second.sum().double().reshape(1)
        diagonal = torch.cat([columns.square_sums(second).double() + l2, total[:free]])
        if len(diagonal) <= LARGEST_DENSE:
            gram = torch.diag(diagonal)
            gram[: len(gram) - free, : len(gram) - free] = columns.gram(second)
            if free:
                gram[-1, :-1] = gram[:-1, -1] = columns.adjoint(second).double()
            gram.diagonal().copy_(diagonal)
            self.gram = gram
        self.unit = diagonal.clamp_min(max(1e-30 * float(diagonal.max()), 1e-300)).rsqrt()

    def predictions(self, v: Tensor) -> Tensor:
        """Return how predictions move with the unknowns, `[num_examples]` in float32."""
        single = v.float()
        along = self.columns.times(single[: len(v) - self.free])
        return along + single[-1] if self.free else along

    def multiply(self, v: Tensor) -> Tensor:
        """Return $G v$."""
        self.products += 1
        if self.gram is not None:
            return self.gram @ v
        weighted = self.second * self.predictions(v)
        back = self.columns.adjoint(weighted).double()
        if not self.free:
            return back.add_(v, alpha=self.l2)
        return torch.cat([back.add_(v[:-1], alpha=self.l2), weighted.sum().double().reshape(1)])

    def minimizer(self, slope: Tensor, penalty: Tensor, start: Tensor) -> Tensor:
        r"""Return the minimizer of $\frac12 (w - s)^\top G (w - s) + g^\top (w - s) + \sum_j p_j |w_j|$, nearly.

        The slope $g$ is at the start $s$. Unknowns are measured so that the diagonal of $G$ is one.
        """
        unit = self.unit

        def multiply(u: Tensor) -> Tensor:
            return torch.add(unit * self.multiply(unit * u), u, alpha=RIDGE)

        matrix = None
        if self.gram is not None and len(self.gram) <= LARGEST_SOLVED:
            matrix = unit[:, None] * self.gram * unit
            matrix.diagonal().add_(RIDGE)
        return unit * _minimizer(multiply, matrix, unit * slope, unit * penalty, start / unit)


def _minimizer(
    multiply: Callable[[Tensor], Tensor], matrix: Tensor | None, slope: Tensor, penalty: Tensor, start: Tensor
) -> Tensor:
    r"""Return the minimizer $u = s + \delta$ of $\frac12 \delta^\top G \delta + g^\top \delta + \sum_j p_j |u_j|$.

    The diagonal of $G$ is one. Accelerated proximal gradient steps find which entries are zero, and the others solve a
    linear equation. Where their signs are as assumed and the zeros are optimal, that is the minimizer; else it goes on
    from the better of both. Only changes are multiplied, so that rounding shrinks along with them.
    """
    model, bend = _Model(multiply, slope, penalty, start), 1.0
    u, image = start, torch.zeros_like(start)
    for _ in range(ROUNDS):
        u, image, bend = model.sweeps(u, image, bend)
        if not bend < STEEPEST:
            return torch.full_like(u, math.nan)
        active, sign = (u != 0.0) | (penalty == 0.0), torch.sign(u)
        solved = u + _solve(multiply, matrix, -(image + slope + penalty * sign), active)
        kept = (torch.sign(solved) == sign) | (penalty == 0.0)
        candidate = torch.where(active & kept, solved, 0.0)
        of_candidate = multiply(candidate - start)
        optimal = (of_candidate + slope).abs() <= penalty * (1.0 + 1e-6)
        if bool(kept[active].all()) and bool(optimal[~active].all()):
            return candidate
        if model.value(candidate, of_candidate) < model.value(u, image):
            u, image = candidate, of_candidate
    return u


def _solve(multiply: Callable[[Tensor], Tensor], matrix: Tensor | None, right: Tensor, active: Tensor) -> Tensor:
    """Solve the linear equation in the active unknowns; the others are zero."""
    if matrix is not None:
        solution = torch.zeros_like(right)
        solution[active] = torch.linalg.solve(matrix[active][:, active], right[active])
        return solution
    mask = active.to(right.dtype)
    return conjugate_gradients(
        lambda v: (mask * multiply(v), None), mask * right, mask, accuracy=1e-6, max_products=MAX_PRODUCTS
    ).solution


@final
@dataclasses.dataclass(frozen=True)
class _Model:
    """A quadratic model with a penalty; an `image` is the product with the change since the start."""

    multiply: Callable[[Tensor], Tensor]
    slope: Tensor
    penalty: Tensor
    start: Tensor

    def value(self, u: Tensor, image: Tensor) -> float:
        """Return the model's value."""
        change = u - self.start
        return 0.5 * dot(change, image) + dot(self.slope, change) + float((self.penalty * u.abs()).sum())

    def sweeps(self, u: Tensor, image: Tensor, bend: float) -> tuple[Tensor, Tensor, float]:
        """Go some accelerated proximal gradient steps; return the point, its image, and the largest bend met."""
        ahead, of_ahead, t = u, image, 1.0
        for _ in range(SWEEPS):
            while True:
                new = _shrink(ahead - (of_ahead + self.slope) / bend, self.penalty / bend)
                of_new = self.multiply(new - self.start)
                moved = new - ahead
                bent = dot(moved, of_new - of_ahead)
                if bent <= bend * dot(moved, moved) * (1.0 + 1e-6):
                    break
                bend = 2.0 * bend if math.isfinite(bent) else math.inf
                if bend > STEEPEST:
                    return u, image, bend
            if dot(ahead - new, new - u) > 0.0:
                t = 1.0  # it turned back: the momentum begins again
            after = (1.0 + math.sqrt(1.0 + 4.0 * t * t)) / 2.0
            share = (t - 1.0) / after
            ahead, of_ahead = new + share * (new - u), of_new + share * (of_new - image)
            u, image, t = new, of_new, after
        return u, image, bend


def _shrink(values: Tensor, by: Tensor) -> Tensor:
    return torch.sign(values) * (values.abs() - by).clamp_min(0.0)
