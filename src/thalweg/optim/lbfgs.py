"""L-BFGS: the inverse Hessian of the last few pairs, never written down; and what all quasi-Newton methods share."""

import abc
import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.errors import require
from thalweg.optim.base import AbstractDirection, Groups, Point, Recovery, Requires, SearchDirection, State, StepInfo


class AbstractInitial(abc.ABC):
    """Makes the inverse Hessian that a quasi-Newton method starts from.

    Attributes:
        refresh: after how many pairs the memory is started again from a new one; None: never.
    """

    refresh: int | None

    @abc.abstractmethod
    def inverse(self, point: Point, state: State) -> Tensor | None:
        """Return a positive definite matrix `[n, n]`, its diagonal `[n]`, or None: the first pair is to tell the scale.

        Args:
            point: where the memory starts.
            state: the direction's memory.
        """


@final
@dataclasses.dataclass(frozen=True)
class ScaledIdentity(AbstractInitial):
    """The identity, times `s'y / y'y` of a pair; the first step goes along the gradient.

    Source: Nocedal and Wright, "Numerical Optimization" (2006), equation 6.20.
    """

    refresh: int | None = dataclasses.field(default=None, init=False, repr=False)

    @override
    def inverse(self, point: Point, state: State) -> Tensor | None:
        return None


@final
@dataclasses.dataclass(frozen=True)
class LBFGS(AbstractDirection):
    r"""Limited-memory BFGS: `d = -H g` with the inverse that BFGS makes of the last pairs, by the two-loop recursion.

    Each pair is measured on **one** batch: the gradient where the step ends is evaluated on the batch that the step was
    made with (full overlap), so that the difference between two batches never passes for curvature. On the same
    `Objective` again, the next step starts from that evaluation, so it costs nothing; with a new batch at every step it
    costs one gradient, unless the line search has evaluated it.

    Args:
        memory: number of pairs, at least 1; 4 * memory * n multiplications a step.
        damping: for noisy gradients, as for `BFGS`; doubles the work of the recursion.
        initial: what the recursion starts from: `ScaledIdentity()`; or, with an objective, `InverseDiagonal()`, which
            pays where inputs or parameters are scaled differently; then it is multiplied by `s'y / y'H0 y`.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> LBFGS(memory=20)
        LBFGS(memory=20, damping=0.0, initial=ScaledIdentity())

    Source: Nocedal, "Updating quasi-Newton matrices with limited storage" (1980); Liu and Nocedal, "On the limited
    memory BFGS method for large scale optimization" (1989); Berahas, Nocedal, Takac, "A multi-batch L-BFGS method for
    machine learning" (2016).

    Not for small batches of a model far from fitting its data, even damped: the pairs are mostly noise.
    """

    memory: int = 20
    damping: float = 0.0
    initial: AbstractInitial = ScaledIdentity()
    requires: ClassVar[Requires] = Requires.GRADIENT | Requires.END_GRADIENT

    def __post_init__(self) -> None:
        require(self.memory >= 1, "LBFGS(memory=...) must be at least 1", self.memory)
        require(0.0 <= self.damping < 1.0, "LBFGS(damping=...) must lie in [0, 1)", self.damping)

    @override
    def start(self, groups: Groups) -> State:
        counts = {"num_pairs": 0, "num_skipped": 0, "num_learned": 0}
        return {"steps": [], "changes": [], "products": [], "scale": 1.0, "initial": None, **counts}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        refresh = self.initial.refresh
        if refresh is not None and state["num_learned"] >= refresh:
            state.update(steps=[], changes=[], products=[], num_learned=0)
        if not state["steps"]:
            state["initial"], state["scale"] = self.initial.inverse(point, state), 1.0
            if state["initial"] is None:
                return SearchDirection(-point.clipped, well_scaled=False)
        return SearchDirection(_two_loop(-point.clipped, state), minimizes_model=True)

    @override
    def learn(self, info: StepInfo, state: State) -> None:
        step, change = info.step, info.change
        assert change is not None
        sy, yy, good = curvature_condition(step, change)
        if self.damping > 0.0 and state["steps"] and math.isfinite(yy) and yy > 0.0:
            inverse_change = _two_loop(change, state)
            yhy = (change @ inverse_change).item()
            if math.isfinite(yhy) and yhy > 0.0 and sy < self.damping * yhy:
                step, sy = damped_step(step, inverse_change, sy, yhy, self.damping)
                good = True
        if not good:
            state["num_skipped"] += 1
            return
        for name, value in (("steps", step), ("changes", change), ("products", sy)):
            state[name] = [*state[name], value][-self.memory :]
        first = state["initial"]
        state["scale"] = sy / (yy if first is None else (change @ _times(first, change)).item())
        state["num_pairs"] += 1
        state["num_learned"] += 1

    @override
    def on_failure(self, state: State) -> Recovery:
        if not state["steps"]:
            return Recovery.NONE
        state.update(steps=[], changes=[], products=[], num_learned=0)
        return Recovery.RESTART


def curvature_condition(step: Tensor, change: Tensor) -> tuple[float, float, bool]:
    """Return `s'y`, `y'y`, and whether `s'y` is positive beyond rounding, however s and y are scaled."""
    sy, yy, ss = torch.stack([step @ change, change @ change, step @ step]).tolist()
    eps = 10.0 * torch.finfo(step.dtype).eps
    return sy, yy, math.isfinite(sy) and math.isfinite(yy) and sy > eps * math.sqrt(ss * yy) > 0.0


def damped_step(step: Tensor, inverse_change: Tensor, sy: float, yhy: float, damping: float) -> tuple[Tensor, float]:
    """Return the step moved towards `H y` so that `s'y = damping * y'Hy`, and `s'y`, which was less."""
    return torch.lerp(inverse_change, step, (1.0 - damping) * yhy / (yhy - sy)), damping * yhy


def _times(inverse: Tensor, vector: Tensor) -> Tensor:
    return inverse * vector if inverse.dim() == 1 else inverse @ vector


def _two_loop(vector: Tensor, state: State) -> Tensor:
    """Return the inverse Hessian's product with a vector; no number leaves the device."""
    pairs = list(zip(state["steps"], state["changes"], state["products"], strict=True))
    result = vector.clone()
    coefficients = []
    for step, change, product in reversed(pairs):
        coefficient = (step @ result) / product
        result.addcmul_(change, coefficient, value=-1.0)
        coefficients.append(coefficient)
    if state["initial"] is not None:
        result = _times(state["initial"], result)
    result *= state["scale"]
    for (step, change, product), coefficient in zip(pairs, reversed(coefficients), strict=True):
        result.addcmul_(step, coefficient - (change @ result) / product)
    return result
