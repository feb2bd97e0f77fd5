"""Newton's method with the exact, dense curvature matrix, and what can be done with its eigenvalues."""

import abc
import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.curvature.hessian import Hessian
from thalweg.curvature.operators import MAX_DENSE_BYTES
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
from thalweg.optim.matrix import (
    ESCAPE_FRACTION,
    CurvatureFactory,
    cauchy_radius,
    curvature_at,
    require_room,
    running_scale,
    size_of,
)


class AbstractEigenvalues(abc.ABC):
    """Makes eigenvalues positive, so that `-H^-1 g` leads downhill."""

    @abc.abstractmethod
    def positive(self, values: Tensor) -> Tensor:
        """Return positive eigenvalues for eigenvalues `[n]` in ascending order."""


@final
@dataclasses.dataclass(frozen=True)
class Absolute(AbstractEigenvalues):
    r"""Saddle-free: $|\lambda|$, so that the step leaves saddles along negative curvature.

    Args:
        least: smallest result as a fraction of the largest $|\lambda|$, in (0, 1).

    Source: Dauphin and others, "Identifying and attacking the saddle point problem in high-dimensional non-convex
    optimization" (2014).
    """

    least: float = 1e-8

    def __post_init__(self) -> None:
        require(0.0 < self.least < 1.0, "Absolute(least=...) must lie in (0, 1)", self.least)

    @override
    def positive(self, values: Tensor) -> Tensor:
        return _at_least(values.abs(), values, self.least)


@final
@dataclasses.dataclass(frozen=True)
class Floor(AbstractEigenvalues):
    r"""Modified Newton: $\max(\lambda, \text{least} \cdot \max|\lambda|)$.

    Args:
        least: fraction of the largest absolute eigenvalue, in (0, 1). The smaller, the longer the steps along
            negative and zero curvature.

    Source: Nocedal and Wright, "Numerical Optimization" (2006), section 3.4.
    """

    least: float = 1e-3

    def __post_init__(self) -> None:
        require(0.0 < self.least < 1.0, "Floor(least=...) must lie in (0, 1)", self.least)

    @override
    def positive(self, values: Tensor) -> Tensor:
        return _at_least(values, values, self.least)


@final
@dataclasses.dataclass(frozen=True)
class Shift(AbstractEigenvalues):
    r"""Moves all eigenvalues up until the smallest is not negative, $\lambda - \min(0, \lambda_\min)$.

    To be used with a `Damping`, which adds the rest.

    Args:
        least: smallest result as a fraction of the largest $|\lambda|$, in (0, 1).
    """

    least: float = 1e-12

    def __post_init__(self) -> None:
        require(0.0 < self.least < 1.0, "Shift(least=...) must lie in (0, 1)", self.least)

    @override
    def positive(self, values: Tensor) -> Tensor:
        return _at_least(values - values.min().clamp(max=0.0), values, self.least)


def _at_least(changed: Tensor, values: Tensor, fraction: float) -> Tensor:
    tiny = torch.finfo(values.dtype).tiny
    return torch.maximum(changed, (fraction * values.abs().max()).clamp(min=tiny))


@final
class SpectralModel(AbstractModel):
    r"""A quadratic model in the basis of its eigenvectors, minimized within a ball exactly.

    With eigenvalues `[k]` in ascending order and vectors `[n, k]`, whose span holds all of the gradient `[n]`, the
    step is $-(\Lambda + \sigma I)^{-1} \hat g$, with the smallest $\sigma \ge \max(0, -\lambda_\min)$ for which it is
    no longer than the radius; where even that is too short (the hard case), it goes on along the first eigenvector.

    With a scale `[n]`, values, vectors and gradient are those of parameters multiplied by it, in which the ball is
    round; steps are in the parameters as they are.

    Source: More and Sorensen, "Computing a trust region step" (1983).
    """

    def __init__(self, values: Tensor, basis: Tensor, gradient: Tensor, scale: Tensor | None = None) -> None:
        self.values, self.basis, self.scale = values, basis, scale
        along = basis.T @ gradient
        # Rounding errors of the gradient must not be divided by eigenvalues that are nearly zero.
        noise = 20.0 * torch.finfo(gradient.dtype).eps * gradient.norm()
        self.coordinates = torch.where(along.abs() > noise, along, 0.0)

    @override
    def first_radius(self) -> float:
        slope = self.coordinates.norm()
        down = self.coordinates / slope
        return cauchy_radius(*torch.stack([slope, (self.values * down) @ down]).tolist())

    @override
    def within(self, radius: float) -> ModelStep:
        lowest, largest = self.values[0].item(), self.values.abs().max().item()
        rounding = 10.0 * torch.finfo(self.values.dtype).eps * largest
        low = max(0.0, -lowest) + (rounding if lowest <= rounding else 0.0)
        step = self._step(low)
        length = step.norm().item()
        if length > radius:
            step = self._step(self._shift(radius, low))
        elif lowest < -rounding:  # the hard case: the gradient has nothing along the most negative curvature
            along = step[0].item()
            rest = math.sqrt(max(along * along + radius * radius - length * length, 0.0))
            step[0] = -math.copysign(rest, self.coordinates[0].item())
        predicted = -(self.coordinates @ step + 0.5 * (self.values * step) @ step)
        measured = torch.stack([predicted, step.norm()]).tolist()
        return ModelStep(self.unscaled(self.basis @ step), measured[0], measured[1])

    def unscaled(self, step: Tensor) -> Tensor:
        """Return a step in the parameters as they are."""
        return step if self.scale is None else step / self.scale

    def _step(self, shift: float) -> Tensor:
        return -self.coordinates / (self.values + shift).clamp(min=torch.finfo(self.values.dtype).tiny)

    def _shift(self, radius: float, low: float) -> float:
        """Return the shift that gives a step as long as the radius, by Newton's method on 1/length in a bracket."""
        high = low + self.coordinates.norm().item() / radius
        shift = low
        for _ in range(60):
            step = self._step(shift)
            length, curvature = torch.stack([step.norm(), (step * step / (self.values + shift)).sum()]).tolist()
            if abs(length - radius) <= 1e-8 * radius:
                break
            low, high = (shift, high) if length > radius else (low, shift)
            shift += length * length * (length - radius) / (radius * curvature) if curvature > 0.0 else 0.0
            if not low < shift < high:
                shift = 0.5 * (low + high)
        return shift


def spectral_model(dense: Tensor, gradient: Tensor, scale: Tensor | None = None) -> SpectralModel:
    """Return the model of a symmetric matrix and a gradient.

    Entries that neither know of (missing connections, units that are never active) are left out before the eigenvalues
    are computed, so that they stay where they are to the last bit.
    """
    known = (dense != 0.0).any(1) | (gradient != 0.0)
    if bool(known.all()) or not bool(known.any()):
        values, basis = torch.linalg.eigh(dense)
        return SpectralModel(values, basis, gradient, scale)
    values, inner = torch.linalg.eigh(dense[known][:, known])
    basis = dense.new_zeros(len(gradient), len(values))
    basis[known] = inner
    return SpectralModel(values, basis, gradient, scale)


@final
@dataclasses.dataclass(frozen=True)
class Newton(AbstractDirection):
    r"""Newton's step with the whole Hessian, made downhill through its eigenvalues.

    With $S^{-1} H S^{-1} = V \Lambda V^\top$, the direction is
    $d = -S^{-1} V (\Lambda_+ + \mu I)^{-1} V^\top S^{-1} g$, where $\Lambda_+$ are the eigenvalues made positive by
    `eigenvalues`, mu comes from `damping`, and the diagonal S holds the roots of the largest $|H_{ii}|$ so
    far, so that the units of single parameters change nothing. Within a `TrustRegion` the exact minimizer in the ball
    of $\lVert S d \rVert$ is used instead, negative eigenvalues as they are.

    On or near a saddle, where the gradient has nearly nothing to say but an eigenvalue is negative, the step goes along
    that eigenvector.

    Args:
        eigenvalues: `Absolute()` (saddle-free), `Floor()` (modified), `Shift()` (to be damped).
        damping: adapts mu to the gain ratio; None: no damping.
        curvature: `Hessian` or `GaussNewton`.
        max_bytes: largest dense matrix allowed, three of which are needed.

    Raises:
        InputError: at the first step, where the matrix is larger than `max_bytes`, or the loss has no second
            derivative.

    Example:
        >>> from thalweg.objective import Objective
        >>> from thalweg.optim.descent import Descent
        >>> x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
        >>> model = torch.nn.Linear(1, 1)
        >>> objective = Objective(model, torch.nn.MSELoss(), x, y)
        >>> optimizer = Descent(model.parameters(), Newton())
        >>> for _ in range(2):
        ...     loss = optimizer.step(objective)
        >>> bool(loss < 1e-8)
        True

    Source: Nocedal and Wright, "Numerical Optimization" (2006), chapter 3; Dauphin and others (2014) for the absolute
    eigenvalues.

    Not above about 3,000 parameters: the eigenvalues take 10 n^3 operations a step. `NewtonCG` needs no matrix.
    """

    eigenvalues: AbstractEigenvalues = Absolute()
    damping: Damping | None = None
    curvature: CurvatureFactory = Hessian
    max_bytes: float = MAX_DENSE_BYTES
    requires: ClassVar[Requires] = Requires.GRADIENT | Requires.CURVATURE | Requires.END_VALUE

    @override
    def start(self, groups: Groups) -> State:
        return {"checked": False, "escapes": True}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        model = self._spectrum(point, state)
        values, along = model.values, model.coordinates
        positive = self.eigenvalues.positive(values)
        if self.damping is not None:
            positive = positive + self.damping.value(state, values.abs().max().item())
        step = -along / positive
        escape = model.unscaled(model.basis[:, 0])
        distance = ESCAPE_FRACTION * (1.0 + size_of(point)) / escape.norm()
        measured = torch.stack([(values * step) @ step, -(along @ step), values[0] * distance.square(), along[0]])
        curvature, predicted, lowest, slope = measured.tolist()
        if state["escapes"] and -lowest > predicted:
            state["escaping"] = True
            escape = escape * (-distance if slope > 0.0 else distance)
            return SearchDirection(escape, curvature=lowest, negative_curvature=True)
        state["escaping"] = False
        return SearchDirection(
            model.unscaled(model.basis @ step), curvature=curvature, negative_curvature=curvature < 0.0
        )

    @override
    def model(self, point: Point, state: State) -> AbstractModel:
        return self._spectrum(point, state)

    @override
    def learn(self, info: StepInfo, state: State) -> None:
        if self.damping is not None and not state.get("escaping"):
            self.damping.learn(state, info.gain)
        state["escapes"] = True
        state.pop("spectrum", None)

    @override
    def pack(self, state: State) -> State:
        return {key: value for key, value in state.items() if key != "spectrum"}

    @override
    def on_failure(self, state: State) -> Recovery:
        if state.get("escaping"):
            state.update(escapes=False, escaping=False)
            return Recovery.DAMP
        if self.damping is None:
            return Recovery.NONE
        self.damping.increase(state)
        return Recovery.DAMP

    def _spectrum(self, point: Point, state: State) -> SpectralModel:
        kept = state.get("spectrum")
        if kept is not None and kept[0] is point:
            return kept[1]
        n, dtype = point.gradient.numel(), point.gradient.dtype
        require_room(self, (n, n), point.gradient, self.max_bytes, "NewtonCG or LBFGS", copies=3)
        dense = curvature_at(self.curvature, point, state).dense()
        if not bool(torch.isfinite(dense).all()):
            dense = torch.eye(n, dtype=dtype, device=dense.device)
        diagonal = dense.diagonal()
        scale = running_scale(state, torch.where(diagonal == 0.0, dense.abs().amax(0), diagonal))
        model = spectral_model(dense / scale.outer(scale), point.clipped / scale, scale)
        state["spectrum"] = point, model
        return model
