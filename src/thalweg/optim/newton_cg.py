"""Newton-CG (Hessian-free): Newton's equation by conjugate gradients, without a matrix."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.hessian import Hessian
from thalweg.curvature.operators import AbstractOperator
from thalweg.curvature.solve import conjugate_gradients
from thalweg.errors import require
from thalweg.optim.base import (
    AbstractDirection,
    AbstractModel,
    Groups,
    ModelStep,
    Point,
    Recovery,
    Requires,
    SearchDirection,
    State,
    StepInfo,
)
from thalweg.optim.damping import Damping
from thalweg.optim.matrix import ESCAPE_FRACTION, CurvatureFactory, cauchy_radius, curvature_at, size_of
from thalweg.optim.preconditioner import AbstractPreconditioner, Jacobi

NEARLY_STILL = 1e-4
NUM_PROBES = 30


@final
@dataclasses.dataclass(frozen=True)
class NewtonCG(AbstractDirection):
    r"""A Newton step from products alone: $(B + \mu I) d = -g$ by preconditioned conjugate gradients.

    The solve ends when the residual is small relative to the gradient (a forcing term that tightens as the gradient
    falls, so that convergence is superlinear), when the quadratic model improves too little, or at negative curvature:
    then the last direction is followed as far as its absolute curvature says, and where the gradient is nearly zero a
    random probe looks for a way out of a saddle. Within a `TrustRegion` the solve ends at the edge of the ball, whose
    norm is that of the preconditioner, made from all steps so far.

    Args:
        curvature: `GaussNewton`, which is never negative, or `Hessian`. Where the residuals stay large at the minimum,
            the first converges slowly (linearly), and so does `LevenbergMarquardt`: take the second.
        preconditioner: `Jacobi()`, `KroneckerFactored()` or `NoPreconditioner()`.
        damping: adapts mu to the gain ratio; None: no damping, right for convex losses.
        tolerance: largest forcing term, in (0, 1).
        progress: least relative improvement of the model an iteration, such as 5e-4; None: not looked at.
        warm_start: fraction of the last solution to start from, in [0, 1].
        max_iterations: products a step, at least 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> from thalweg.objective import Objective
        >>> from thalweg.optim.descent import Descent
        >>> x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [0.0]])
        >>> model = torch.nn.Linear(1, 1)
        >>> objective = Objective(model, torch.nn.BCEWithLogitsLoss(), x, y, l2=0.01)
        >>> optimizer = Descent(model.parameters(), NewtonCG(damping=None))
        >>> for _ in range(8):
        ...     loss = optimizer.step(objective)
        >>> bool(objective.value_and_gradient()[1][0].abs() < 1e-5)
        True

    Source: Martens, "Deep learning via Hessian-free optimization" (2010); Eisenstat and Walker, "Choosing the forcing
    terms in an inexact Newton method" (1996); Steihaug, "The conjugate gradient method and trust regions in large scale
    optimization" (1983).

    Not for small batches: the curvature of one batch is not that of the next. A few hundred examples times a solve of
    ten products is the least that makes sense.
    """

    curvature: CurvatureFactory = GaussNewton
    preconditioner: AbstractPreconditioner = Jacobi()  # noqa: RUF009  (frozen)
    damping: Damping | None = Damping()  # noqa: RUF009  (frozen)
    tolerance: float = 0.5
    progress: float | None = 5e-4
    warm_start: float = 0.0
    max_iterations: int = 250
    requires: ClassVar[Requires] = Requires.GRADIENT | Requires.CURVATURE | Requires.END_VALUE

    def __post_init__(self) -> None:
        require(0.0 < self.tolerance < 1.0, "NewtonCG(tolerance=...) must lie in (0, 1)", self.tolerance)
        progress = self.progress
        require(progress is None or progress > 0.0, "NewtonCG(progress=...) must be positive or None", progress)
        require(0.0 <= self.warm_start <= 1.0, "NewtonCG(warm_start=...) must lie in [0, 1]", self.warm_start)
        require(self.max_iterations >= 1, "NewtonCG(max_iterations=...) must be at least 1", self.max_iterations)

    @override
    def start(self, groups: Groups) -> State:
        return {"checked": False, "solution": None, "escapes": True, "num_steps": 0}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        matrix, inverse, damping = self._equation(point, state)
        damped = matrix.damped(damping) if damping > 0.0 else matrix
        right = -point.clipped
        warm = state["solution"]
        # For a right-hand side of length 1: in single precision the squares of small numbers are zero.
        unit = point.clipped.norm().clamp(min=torch.finfo(right.dtype).tiny)
        solve = conjugate_gradients(
            damped,
            right / unit,
            start=None if warm is None or self.warm_start == 0.0 else (self.warm_start / unit) * warm,
            preconditioner=inverse,
            tolerance=self._forcing(point, state),
            progress=self.progress,
            max_iterations=self.max_iterations,
        )
        step, negative = unit * solve.solution, solve.negative_curvature
        if self.warm_start > 0.0:
            state["solution"] = step
        predicted, length, size, unit = torch.stack([right @ step, step.norm(), size_of(point), unit]).tolist()
        curvature = 2.0 * (unit * unit * solve.model + predicted) - damping * length * length
        if negative is not None:
            return self._along(negative, step, matrix, right)
        if length <= NEARLY_STILL * (1.0 + size) and self._probes(state):
            state["num_steps"] += 1
            escape = _probe(matrix, right, state["num_steps"])
            if escape is not None:
                state["escaping"] = True
                escape *= ESCAPE_FRACTION * (1.0 + size)
                return SearchDirection(escape, curvature=_form(matrix, escape).item(), negative_curvature=True)
        return SearchDirection(step, curvature=curvature)

    @override
    def model(self, point: Point, state: State) -> AbstractModel:
        matrix, inverse, _ = self._equation(point, state, within_ball=True)
        again = functools.partial(curvature_at, self.curvature, point, state)
        escape = None
        nearly_zero = point.clipped.norm() <= NEARLY_STILL * (matrix @ point.clipped).norm()
        if self._probes(state) and bool(nearly_zero):
            state["num_steps"] += 1
            escape = _probe(matrix, -point.clipped, state["num_steps"])
        forcing = self._forcing(point, state)
        return WithinBall(matrix, again, inverse, point.clipped, forcing, self.max_iterations, escape)

    @override
    def learn(self, info: StepInfo, state: State) -> None:
        if self.damping is not None and not state.pop("escaping", False):
            self.damping.learn(state, info.gain)
        state["escapes"] = True

    @override
    def on_failure(self, state: State) -> Recovery:
        if state.pop("escaping", False):
            state["escapes"] = False
            return Recovery.DAMP
        warm, state["solution"] = state["solution"], None
        if self.damping is not None:
            self.damping.increase(state)
            return Recovery.DAMP
        return Recovery.NONE if warm is None else Recovery.RESTART

    def _equation(
        self, point: Point, state: State, *, within_ball: bool = False
    ) -> tuple[AbstractOperator, AbstractOperator | None, float]:
        """Return the curvature on flat vectors, the preconditioner and mu."""
        matrix = curvature_at(self.curvature, point, state)
        estimate = self._of_every_step(point, state) if within_ball else self.preconditioner.estimate(point, 0)
        damping = 0.0
        if self.damping is not None and not within_ball:
            if "damping" not in state:
                known = self.preconditioner.largest(estimate)
                self.damping.value(state, _curvature_along(matrix, point.clipped) if known is None else known)
            damping = self.damping.value(state, 1.0)
        return matrix, self.preconditioner.inverse(estimate, point, damping), damping

    def _of_every_step(self, point: Point, state: State) -> State:
        """Return what the estimates so far say together, each from other random signs: the ball keeps its shape."""
        state["num_balls"] = state.get("num_balls", 0) + 1
        found = self.preconditioner.estimate(point, state["num_balls"])
        state["estimate"] = self.preconditioner.joined(state.get("estimate"), found)
        return state["estimate"]

    def _forcing(self, point: Point, state: State) -> float:
        """Return how small the residual is to become, relative to the gradient: the smaller, the faster that falls."""
        size = point.gradient.norm().item()
        before, last = state.get("gradient_norm", math.inf), state.get("forcing", self.tolerance)
        forcing = 0.9 * (size / before) ** 2 if before < math.inf and before > 0.0 else self.tolerance
        if 0.9 * last * last > 0.1:  # a single good step says little
            forcing = max(forcing, 0.9 * last * last)
        forcing = min(max(forcing, 1e-8), self.tolerance)
        state["gradient_norm"], state["forcing"] = size, forcing
        return forcing

    def _probes(self, state: State) -> bool:
        return state["escapes"] and self.curvature is Hessian

    def _along(self, negative: Tensor, step: Tensor, matrix: AbstractOperator, right: Tensor) -> SearchDirection:
        """Return the solve's step and, from there, as far along negative curvature as its absolute value says."""
        numbers = torch.stack([_form(matrix, negative), right @ negative, negative @ negative])
        curvature, slope, size = numbers.tolist()
        least = max(abs(curvature), torch.finfo(negative.dtype).eps * size)
        further = step + (slope / least) * negative if least > 0.0 else step
        curvature = _form(matrix, further).item()
        return SearchDirection(further, curvature=curvature, negative_curvature=curvature < 0.0)


@final
@dataclasses.dataclass(eq=False)
class WithinBall(AbstractModel):
    """The quadratic model of a curvature matrix, minimized by conjugate gradients in a ball of the preconditioner."""

    matrix: AbstractOperator | None  # for the first radius
    again: Callable[[], AbstractOperator]  # makes it for the next one: in between the parameters have been elsewhere
    inverse: AbstractOperator | None
    gradient: Tensor
    tolerance: float
    max_iterations: int
    escape: Tensor | None  # a unit vector of negative curvature to follow where the gradient says nothing

    @override
    def first_radius(self) -> float:
        assert self.matrix is not None
        down = self.gradient if self.inverse is None else self.inverse @ self.gradient
        slope = (self.gradient @ down).sqrt()  # the length of `down` in the ball's norm
        return cauchy_radius(*torch.stack([slope, _form(self.matrix, down / slope)]).tolist())

    @override
    def within(self, radius: float) -> ModelStep:
        matrix, self.matrix = self.matrix or self.again(), None
        if self.escape is not None:
            step = radius * self.escape
            slope, curvature = torch.stack([self.gradient @ step, _form(matrix, step)]).tolist()
            return ModelStep(step, -(slope + 0.5 * curvature), radius)
        unit = max(self.gradient.norm().item(), torch.finfo(self.gradient.dtype).tiny)
        solve = conjugate_gradients(
            matrix,
            -self.gradient / unit,
            preconditioner=self.inverse,
            tolerance=self.tolerance,
            radius=radius / unit,
            max_iterations=self.max_iterations,
        )
        assert solve.length is not None
        return ModelStep(unit * solve.solution, -unit * unit * solve.model, unit * solve.length)


def _probe(matrix: AbstractOperator, right: Tensor, seed: int) -> Tensor | None:
    """Look for negative curvature by solving for a random vector; return a unit vector that leads downhill, or None."""
    noise = torch.randn(right.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    solve = conjugate_gradients(matrix, noise.to(right), tolerance=1e-4, max_iterations=NUM_PROBES)
    if solve.negative_curvature is None:
        return None
    direction = solve.negative_curvature / solve.negative_curvature.norm()
    curvature, slope = torch.stack([_form(matrix, direction), right @ direction]).tolist()
    return (direction if slope >= 0.0 else -direction) if curvature < 0.0 else None


def _form(matrix: AbstractOperator, vector: Tensor) -> Tensor:
    """Return `v' A v`."""
    return vector @ (matrix @ vector)


def _curvature_along(matrix: AbstractOperator, vector: Tensor) -> float:
    curvature, size = torch.stack([_form(matrix, vector), vector @ vector]).tolist()
    return abs(curvature) / size if size > 0.0 else 1.0
