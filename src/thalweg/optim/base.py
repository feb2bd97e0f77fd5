"""What a direction and a step size are, and what they tell each other.

A direction turns what is known at a point into a `SearchDirection`; a step size looks along it on a `Line` and answers
with how far to go (`SearchResult`); afterwards the direction learns from what happened (`StepInfo`). Both are frozen
settings; what they remember is a plain dictionary that `Descent` keeps, so that a saved optimizer is nothing but
tensors, lists and plain values.
"""

import abc
import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, final, runtime_checkable

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.objective import Objective
from thalweg.status import Status

State = dict[str, Any]
Groups = list[dict[str, Any]]


class Requires(enum.Flag):
    """What a part requires of the problem, or of the part it is composed with.

    Args:
        GRADIENT: the gradient where the step starts.
        VALUES: the loss at other points.
        SLOPES: the gradient at other points.
        END_VALUE: the loss where the step ends.
        END_GRADIENT: the gradient where the step ends, on the same batch.
        CURVATURE: products with second derivatives, so an `Objective`.
        MODEL: a quadratic model of the loss, which a direction has or has not.
    """

    GRADIENT = enum.auto()
    VALUES = enum.auto()
    SLOPES = enum.auto()
    END_VALUE = enum.auto()
    END_GRADIENT = enum.auto()
    CURVATURE = enum.auto()
    MODEL = enum.auto()


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """What is known where a step starts.

    Args:
        gradient: flat gradient of the loss, as it is.
        clipped: flat gradient after clipping, which directions are made from (the same tensor where nothing clips).
        parameters: the trainable tensors, in the order of the flat vectors, with their `.grad` clipped.
        groups: the optimizer's parameter groups.
        objective: the objective, or None where the step was given a closure that is none.
        value: the loss; NaN where no closure was given.
        free: 1 where no bound holds a parameter, else 0; None without bounds. `clipped` is 0 where it is held.
    """

    gradient: Tensor
    clipped: Tensor
    parameters: list[Tensor]
    groups: Groups
    objective: Objective | None
    value: float
    free: Tensor | None = None


@final
@dataclasses.dataclass(frozen=True, eq=False)
class SearchDirection:
    """Where a direction wants to go: from x to x + vector.

    Args:
        vector: flat, `[n]`.
        well_scaled: whether step 1 is a good first guess (a Newton step); False: the vector's length means nothing.
        curvature: second derivative of the direction's own model along the vector, `d' B d`; None: it has no model.
        minimizes_model: whether step 1 is the lowest point of that model along the vector, so that `d' B d = -g'd`.
        negative_curvature: whether the curvature was measured as negative, so that a step may lower the loss without a
            slope.
        endpoint: the parameters at step 1 to the last bit, where another optimizer has computed them.
    """

    vector: Tensor
    well_scaled: bool = True
    curvature: float | None = None
    minimizes_model: bool = False
    negative_curvature: bool = False
    endpoint: list[Tensor] | None = None

    def model_curvature(self, slope: float) -> float | None:
        """Return the second derivative of the direction's model along the vector; None without a model.

        Args:
            slope: the loss's derivative along the vector.
        """
        return -slope if self.minimizes_model else self.curvature


@final
@dataclasses.dataclass(frozen=True, eq=False)
class StepInfo:
    """What a step did, for the direction to learn from.

    Args:
        point: where it started.
        step: flat, by how much the parameters moved.
        change: flat change of the gradient on the same batch; None unless asked for by END_GRADIENT.
        multiple: the t for which `step = t * vector`, where vector is what the direction had proposed; None where that
            was clipped, scaled by group or replaced.
        gain: decrease of the loss over that predicted by the direction's model; None where either is not known.
    """

    point: Point
    step: Tensor
    change: Tensor | None
    multiple: float | None
    gain: float | None


class Recovery(enum.Enum):
    """What a direction does after a proposal that failed."""

    NONE = enum.auto()  # nothing: the next proposal would be the same
    DAMP = enum.auto()  # the next proposal comes from the same model, with more damping
    RESTART = enum.auto()  # the memory was started again


@final
class ModelStep(NamedTuple):
    """A model's best step: flat, the decrease `-m(d)` that it predicts, and its length in the model's own norm."""

    vector: Tensor
    predicted: float
    length: float


class AbstractModel(abc.ABC):
    """A quadratic model of the loss around a point, `m(d) = g'd + d'Bd / 2`, minimized within a ball.

    The ball is one of the model's own norm, such as one that scales the parameters or that of a preconditioner.
    """

    @abc.abstractmethod
    def within(self, radius: float) -> ModelStep:
        """Return the best step that is no longer than the radius."""

    def first_radius(self) -> float:
        """Return the radius that a trust region begins with unless it is given one."""
        return 1.0


class AbstractDirection(abc.ABC):
    """Where to go from a point: settings only; what is remembered lies in the state dictionary.

    A direction of your own subclasses this class, declares `requires`, and writes `propose`; `learn` where it remembers
    something, `model` where it can do better within a trust region than shorten its step.
    """

    requires: ClassVar[Requires] = Requires.GRADIENT
    has_model: ClassVar[bool] = True
    uses_rate: ClassVar[bool] = False  # whether the groups' `lr` is used up inside the direction
    moves_itself: ClassVar[bool] = False  # whether it has `move`

    def defaults(self) -> dict[str, Any]:
        """Return entries that every parameter group gets unless it has them, such as a learning rate of its own."""
        return {}

    def start(self, groups: Groups) -> State:
        """Return the memory before the first step."""
        del groups
        return {}

    @abc.abstractmethod
    def propose(self, point: Point, state: State) -> SearchDirection:
        """Return a search direction; the parameters are as at the point before and after."""

    def move(self, groups: Groups, state: State) -> None:
        """Go the whole way in place, from the gradients that are there: what a step does where nothing is searched."""
        raise NotImplementedError

    def model(self, point: Point, state: State) -> AbstractModel:
        """Return the quadratic model for a trust region; by default along the proposal only."""
        return ModelAlongLine(self.propose(point, state), point.gradient)

    def learn(self, info: StepInfo, state: State) -> None:
        """Take in what the step did."""
        del info, state

    def on_failure(self, state: State) -> Recovery:
        """Change the memory after a proposal that failed, so that the next one is another."""
        del state
        return Recovery.NONE

    def resize(self, state: State, groups: Groups) -> State:
        """Return the memory after parameters were added, frozen or thawed; by default a fresh one."""
        del state
        return self.start(groups)

    def pack(self, state: State) -> State:
        """Return the memory as tensors, lists and plain values."""
        return state

    def unpack(self, packed: State, groups: Groups) -> State:
        """Return the memory from what `pack` gave, which `Descent` has put on the parameters' device."""
        del groups
        return dict(packed)


class Line(Protocol):
    """The loss along a search direction, `phi(t) = f(x + t d)`, as a step size sees it.

    Every evaluation leaves the parameters somewhere along the line; `Descent` puts them right afterwards.

    Attributes:
        value: `phi(0)`.
        slope: `phi'(0)`.
        length: Euclidean norm of d.
        well_scaled: whether t = 1 is a good first guess.
        curvature: second derivative measured along d where it is negative, else 0.
        largest: no t beyond it.
        rounding: differences of values below this are noise.
        schedule: the groups' rates, which d has in it, over their peak; in (0, 1], and 1 without a schedule.
    """

    value: float
    slope: float
    length: float
    well_scaled: bool
    curvature: float
    largest: float
    rounding: float
    schedule: float

    @property
    def shortest(self) -> float:
        """The step below which no parameter moves by more than its rounding."""
        ...

    def value_at(self, t: float) -> float:
        """Return `phi(t)`."""
        ...

    def value_and_slope_at(self, t: float) -> tuple[float, float]:
        """Return `phi(t)` and its derivative there."""
        ...

    def within(self, radius: float) -> ModelStep:
        """Return the direction's best step no longer than the radius in its model's own norm."""
        ...

    def first_radius(self) -> float:
        """Return the radius to begin with, in the same norm."""
        ...

    def value_of(self, step: Tensor) -> float:
        """Return `f(x + step)` for a flat step."""
        ...


@final
@dataclasses.dataclass(frozen=True, eq=False)
class SearchResult:
    """A step size's answer.

    Args:
        multiple: how far to go along the line; 0: no step was good enough.
        value: the loss there, where it was computed.
        step: the flat step instead of a multiple of the line's vector, from a trust region.
        gain: decrease over predicted decrease, where the step size measured it.
        num_trials: points looked at.
    """

    multiple: float
    value: float | None = None
    step: Tensor | None = None
    gain: float | None = None
    num_trials: int = 0


class AbstractStepSize(abc.ABC):
    """How far to go along a direction: settings only; what is remembered lies in the state dictionary."""

    requires: ClassVar[Requires] = Requires.VALUES
    requires_descent: ClassVar[bool] = True

    @property
    def rate(self) -> float:
        """What the groups' `lr` is multiplied with at the beginning."""
        return 1.0

    def start(self) -> State:
        """Return the memory before the first step."""
        return {}

    @abc.abstractmethod
    def search(self, line: Line, state: State) -> SearchResult:
        """Return how far to go."""


@runtime_checkable
class ReportsStatus(Protocol):
    """An optimizer whose `step(objective)` decides by itself how far to go, and says afterwards how it ended."""

    @property
    def status(self) -> Status:
        """How the last step ended; `Status.RUNNING` before the first."""
        ...


@runtime_checkable
class ReportsGap(ReportsStatus, Protocol):
    """An optimizer that also proves how far the loss may be above its global minimum."""

    @property
    def relative_gap(self) -> float | None:
        """The gap at the present parameters as a fraction of the loss; None before the first step."""
        ...


def gain_ratio(decrease: float, predicted: float, rounding: float) -> float:
    """Return decrease / predicted, close to 1 where both are below rounding errors; minus infinity for no number."""
    if not math.isfinite(decrease) or not predicted > 0.0:
        return -math.inf
    return (decrease + rounding) / (predicted + rounding)


@final
class ModelAlongLine(AbstractModel):
    """The quadratic model along one search direction only, which the trust region shortens; linear if it has none."""

    def __init__(self, direction: SearchDirection, gradient: Tensor) -> None:
        self.vector = direction.vector
        self.slope, self.length = torch.stack([gradient @ self.vector, self.vector.norm()]).tolist()
        self.curvature = direction.model_curvature(self.slope) or 0.0

    @override
    def within(self, radius: float) -> ModelStep:
        if not (self.slope < 0.0 and self.length > 0.0):  # the length of tiny numbers may underflow
            return ModelStep(torch.zeros_like(self.vector), 0.0, 0.0)
        t = radius / self.length
        if self.curvature > 0.0:
            t = min(t, -self.slope / self.curvature)
        return ModelStep(t * self.vector, -(t * self.slope + 0.5 * t * t * self.curvature), t * self.length)


@final
class ClippedModel(AbstractModel):
    """A model whose steps are multiplied by a rate and clipped entry by entry; it predicts for the step as it was."""

    def __init__(self, model: AbstractModel, factor: float | Tensor, limit: float) -> None:
        self.model, self.factor, self.limit = model, factor, limit

    @override
    def within(self, radius: float) -> ModelStep:
        step, predicted, length = self.model.within(radius)
        clipped = (self.factor * step).clamp(-self.limit, self.limit)
        before, after = torch.stack([step.norm(), clipped.norm()]).tolist()
        return ModelStep(clipped, predicted, length * after / before if before > 0.0 else 0.0)

    @override
    def first_radius(self) -> float:
        return self.model.first_radius()


def name_of(part: object) -> str:
    """Return how messages call a part: its class."""
    inner: Callable[..., Any] | None = getattr(part, "constructor", None)
    own = type(part).__name__
    return own if inner is None else f"{own}({getattr(inner, '__name__', inner)})"
