"""Descent: a direction and a step size composed into one `torch.optim.Optimizer`."""

import copy
import dataclasses
import math
from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg import vectors
from thalweg.errors import require
from thalweg.objective import Objective
from thalweg.optim.base import (
    AbstractDirection,
    AbstractStepSize,
    ClippedModel,
    ModelAlongLine,
    Point,
    Recovery,
    Requires,
    SearchDirection,
    SearchResult,
    State,
    StepInfo,
    name_of,
)
from thalweg.optim.clipping import AbstractClip, ClipUpdate
from thalweg.optim.evaluation import Closure, Evaluation, LineEvaluator, Problem, flatten_gradients
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.line_search import Armijo
from thalweg.status import Status

MAX_PROPOSALS = 12
COUNTS = ("steps", "fallbacks", "restarts", "rejected", "values", "gradients")


@final
@dataclasses.dataclass(frozen=True)
class StepReport:
    """What the last step did.

    Args:
        status: how it ended.
        multiple: how far it went along its direction, 0 where it stayed; 1 for a trust region's step.
        value: the loss where it ended; None where it was not computed.
        gain: decrease of the loss over that predicted by the direction's model; None where either is not known.
        num_trials: points that the step size looked at.
    """

    status: Status
    multiple: float = 0.0
    value: float | None = None
    gain: float | None = None
    num_trials: int = 0


@final
class Descent(Optimizer):
    r"""Goes from x to x + t d: a direction d and a step size t, each an object of its own.

    `step(objective)` takes one step and returns the loss where it started, as PyTorch's optimizers do. Of each group,
    `lr` multiplies the direction (with `Update`, it is the inner optimizer's rate), so schedulers drive it as usual.

    Where the loss or its gradient is not finite, or no step lowers the loss, the parameters are left exactly as they
    were, and `status` says so. Where a direction does not lead downhill, or its search fails, its memory is started
    again and, if that doesn't help, a step along steepest descent is taken; `counts` tells how often.

    Args:
        params: parameters or groups, as for every optimizer. Those without `requires_grad` are left alone; those
            without a gradient count as having gradient zero.
        direction: default `LBFGS()`.
        step_size: default `Armijo()`.
        clip: clips the gradient that the direction is made from; slopes and curvature pairs use it as it is.
        clip_update: limits how far one step moves an entry; a line search then goes no further than that.
        tolerance: norm of the gradient at which no step is taken any more: the status is then `CONVERGED`. >= 0.

    Attributes:
        status: how the last step ended; `Status.RUNNING` before the first.
        report: `StepReport` of the last step.
        counts: `steps` taken; `fallbacks` to a fresh memory or steepest descent; `restarts` of the memory;
            steps `rejected` (parameters left); evaluations of `values` and of `gradients`.

    Raises:
        ValueError: for parts that don't fit: what the step size needs and the direction has not; a tolerance below 0.

    Example:
        >>> from thalweg.objective import Objective
        >>> from thalweg.optim.wolfe import StrongWolfe
        >>> x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
        >>> model = torch.nn.Linear(1, 1)
        >>> objective = Objective(model, torch.nn.MSELoss(), x, y)
        >>> optimizer = Descent(model.parameters(), direction=LBFGS(memory=5), step_size=StrongWolfe())
        >>> for _ in range(10):
        ...     loss = optimizer.step(objective)
        >>> bool(loss < 1e-8)
        True
    """

    def __init__(
        self,
        params: Iterable[Any],
        direction: AbstractDirection | None = None,
        step_size: AbstractStepSize | None = None,
        *,
        clip: AbstractClip | None = None,
        clip_update: ClipUpdate | None = None,
        tolerance: float = 0.0,
    ) -> None:
        require(tolerance >= 0.0, "Descent(tolerance=...) must be zero or positive", tolerance)
        self.tolerance = tolerance
        self.direction = LBFGS() if direction is None else direction
        self.step_size = Armijo() if step_size is None else step_size
        self.clip = clip
        self.clip_update = clip_update
        _check_fit(self.direction, self.step_size, clip_update)
        self.report = StepReport(Status.RUNNING)
        self._cache: tuple[Objective, Tensor, Evaluation] | None = None
        defaults = {"lr": 1.0, **self.direction.defaults()}
        super().__init__(params, {**defaults, "lr": self.step_size.rate * defaults["lr"]})

    @property
    def status(self) -> Status:
        """How the last step ended."""
        return self.report.status

    @property
    def counts(self) -> dict[str, int]:
        """Steps, fallbacks, restarts, rejected steps, evaluations of values and gradients; saved with the state."""
        return dict(self._memory()["counts"])

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step.

        Args:
            closure: an `Objective`, or any closure of PyTorch where the direction needs no curvature. Without one the
                gradients must be there already, which is enough for `Gradient` and `Update` with `Fixed`.

        Returns:
            The loss where the step started; None without a closure.

        Raises:
            ValueError: the parts need more than was given.
        """
        parameters = self._parameters()
        problem = Problem(closure, parameters)
        self._check_given(problem)
        memory = self._memory()
        if memory["size"] != _size(parameters):
            memory["direction"] = self.direction.resize(memory["direction"], self.param_groups)
            memory["size"] = _size(parameters)
            memory["counts"]["restarts"] += 1
        start = self._evaluate_start(problem)
        ended = _not_finite(start) or (Status.CONVERGED if 0.0 < start.size <= self.tolerance else None)
        self.report = StepReport(ended, value=start.value) if ended else self._descend(problem, start, memory)
        counts = memory["counts"]
        counts["steps" if self.report.multiple != 0.0 else "rejected"] += 1
        counts["values"] += problem.num_values
        counts["gradients"] += problem.num_gradients
        return start.loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; a memory of curvature, which knows the old parameters only, is started again."""
        super().add_param_group(param_group)
        self._cache = None

    def state_dict(self) -> dict[str, Any]:
        """Return groups and memory: tensors, lists and plain values only."""
        self._memory()
        saved = super().state_dict()
        memory = saved["state"][0]
        packed = {**memory, "direction": self.direction.pack(memory["direction"])}
        return {**saved, "state": {**saved["state"], 0: packed}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, bit for bit (nothing is cast to the type of the parameters).

        Raises:
            ValueError: the saved groups are not those of this optimizer, or were saved with other parts.
        """
        saved = dict(state_dict["state"].get(0, {}))
        if saved and saved["parts"] != self._parts():
            raise ValueError(
                f"Descent.load_state_dict: saved with {' and '.join(saved['parts'])}; this one has "
                f"{' and '.join(self._parts())}."
            )
        super().load_state_dict({**state_dict, "state": {}})
        self._cache = None
        if saved:
            first = self.param_groups[0]["params"][0]
            memory = copy.deepcopy(saved)
            memory["direction"] = self.direction.unpack(memory["direction"], self.param_groups)
            self.state[first] = memory

    def __getstate__(self) -> dict[str, Any]:
        own = ("direction", "step_size", "clip", "clip_update", "tolerance", "report")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}, "_cache": None}

    # ---- one step ----

    def _descend(self, problem: Problem, start: Evaluation, memory: State) -> StepReport:
        """Propose and search until a step is found; the parameters end there, or where they were."""
        searches = Requires.VALUES in self.step_size.requires
        stationary = searches and start.size == 0.0
        if stationary and Requires.CURVATURE not in self.direction.requires:
            return StepReport(Status.STATIONARY, value=start.value)
        point = self._point(problem, start)
        origin = vectors.clone(problem.parameters)
        status, steepest, num_trials = Status.STEPPED, False, 0
        for left in reversed(range(MAX_PROPOSALS)):
            line = self._line(problem, origin, start, point, memory["direction"], steepest)
            result = SearchResult(0.0)
            if line.is_descent or not self.step_size.requires_descent:
                result = self.step_size.search(line, memory["step_size"])
            num_trials += result.num_trials
            if result.multiple != 0.0:
                value, gain = self._take(line, result, point, memory["direction"])
                return StepReport(status, result.multiple, value, gain, num_trials)
            line.restore()
            if steepest or stationary:
                break
            recovery = self.direction.on_failure(memory["direction"]) if left > 1 else Recovery.NONE
            steepest = recovery is Recovery.NONE
            if recovery is not Recovery.DAMP:
                memory["counts"]["fallbacks"] += 1
                memory["counts"]["restarts"] += recovery is Recovery.RESTART
                status = Status.SEARCHED_AGAIN if line.is_descent else Status.TURNED_DOWNHILL
        return StepReport(Status.STATIONARY if stationary else Status.NO_STEP, value=start.value, num_trials=num_trials)

    def _take(
        self, line: LineEvaluator, result: SearchResult, point: Point, state: State
    ) -> tuple[float | None, float | None]:
        """Leave the parameters where the search ended, and let the direction learn; return the loss and the gain."""
        problem, requires = line.problem, self.direction.requires
        ended = line.settle(result.multiple, result.step)
        if ended is None and Requires.END_GRADIENT in requires:
            ended = problem.evaluate()
        value = result.value if ended is None else ended.value
        if value is None and Requires.END_VALUE in requires:
            value = problem.value()[0]
        gain = line.gain_of(result, value)
        if ended is not None or requires & (Requires.END_GRADIENT | Requires.END_VALUE):
            after = vectors.flatten([parameter.detach() for parameter in problem.parameters])
            if ended is not None and problem.objective is not None:
                self._cache = problem.objective, after, ended
            step = after - vectors.flatten(line.origin)
            change = ended.flat - point.gradient if ended is not None else None
            multiple = line.scale * result.multiple if line.scale is not None else None
            self.direction.learn(StepInfo(point, step, change, multiple, gain), state)
        return value, gain

    def _line(
        self, problem: Problem, origin: list[Tensor], start: Evaluation, point: Point, state: State, steepest: bool
    ) -> LineEvaluator:
        """Return the line to search: along the direction's proposal, or along steepest descent."""
        limit = math.inf if self.clip_update is None else self.clip_update.limit
        factor = 1.0 if self.direction.uses_rate else _factor(self.param_groups)
        downhill = SearchDirection(-point.clipped, well_scaled=False)
        if Requires.MODEL in self.step_size.requires:
            model = ModelAlongLine(downhill, start.flat) if steepest else self.direction.model(point, state)
            if limit < math.inf or not (isinstance(factor, float) and factor == 1.0):
                model = ClippedModel(model, factor, limit)
            return LineEvaluator(problem, origin, start, None, model)
        direction = _scaled(downhill if steepest else self.direction.propose(point, state), factor)
        largest, clamped = math.inf, False
        if limit < math.inf:
            clamped = direction.well_scaled or Requires.VALUES not in self.step_size.requires
            if clamped:
                direction = _clamped(direction, origin, limit)
            longest = direction.vector.abs().max().item()
            largest = limit / longest if longest > 0.0 else math.inf
            largest = max(largest, 1.0) if clamped else largest
        scale = None if steepest or clamped or isinstance(factor, Tensor) else factor
        return LineEvaluator(problem, origin, start, direction, largest=largest, scale=scale)

    def _evaluate_start(self, problem: Problem) -> Evaluation:
        """Evaluate where the step starts, unless the last step ended there and has done so."""
        cache, self._cache = self._cache, None
        if cache is None or cache[0] is not problem.objective:
            return problem.evaluate()
        _, place, evaluation = cache
        if not torch.equal(place, vectors.flatten([parameter.detach() for parameter in problem.parameters])):
            return problem.evaluate()
        gradients = vectors.split(evaluation.flat.clone(), problem.parameters)
        for parameter, gradient, had in zip(problem.parameters, gradients, evaluation.gradients, strict=True):
            parameter.grad = gradient if had is not None else None
        return evaluation

    def _point(self, problem: Problem, start: Evaluation) -> Point:
        clipped = start.flat
        if self.clip is not None:
            self.clip(problem.parameters)
            clipped = flatten_gradients([parameter.grad for parameter in problem.parameters], problem.parameters)
        return Point(start.flat, clipped, problem.parameters, self.param_groups, problem.objective, start.value)

    # ---- what is kept ----

    def _parameters(self) -> list[Tensor]:
        return vectors.trainable(parameter for group in self.param_groups for parameter in group["params"])

    def _parts(self) -> list[str]:
        return [name_of(self.direction), name_of(self.step_size)]

    def _memory(self) -> State:
        memory: State = self.state[self.param_groups[0]["params"][0]]
        if not memory:
            memory.update(parts=self._parts(), size=_size(self._parameters()), counts=dict.fromkeys(COUNTS, 0))
            memory.update(direction=self.direction.start(self.param_groups), step_size=self.step_size.start())
        return memory

    def _check_given(self, problem: Problem) -> None:
        """Check that the closure gives what the parts require."""
        direction, size = name_of(self.direction), name_of(self.step_size)
        if Requires.CURVATURE in self.direction.requires and problem.objective is None:
            got = "nothing" if problem.closure is None else type(problem.closure).__name__
            raise ValueError(
                f"{direction} needs second derivatives: step(objective) with a thalweg.objective.Objective; got {got}."
            )
        if problem.closure is None:
            for name, requires in ((size, self.step_size.requires), (direction, self.direction.requires)):
                if requires & ~(Requires.GRADIENT | Requires.MODEL):
                    raise ValueError(
                        f"{name} evaluates the loss itself: step(objective) or step(closure) is expected; got no "
                        "closure. Without one use Gradient() or Update(...) with Fixed()."
                    )


def _check_fit(direction: AbstractDirection, step_size: AbstractStepSize, clip_update: ClipUpdate | None) -> None:
    if Requires.MODEL in step_size.requires and not direction.has_model:
        raise ValueError(
            f"Descent: {name_of(step_size)} needs a direction with a quadratic model of the loss, and "
            f"{name_of(direction)} has none; use Fixed, Armijo, StrongWolfe or StochasticArmijo with it."
        )
    if clip_update is not None and not isinstance(clip_update, ClipUpdate):
        raise ValueError(f"Descent(clip_update=...) must be a ClipUpdate; got {type(clip_update).__name__}.")


def _not_finite(start: Evaluation) -> Status | None:
    if start.loss is not None and not math.isfinite(start.value):
        return Status.LOSS_NOT_FINITE
    return None if math.isfinite(start.size) else Status.GRADIENT_NOT_FINITE


def _size(parameters: list[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _factor(groups: list[dict[str, Any]]) -> float | Tensor:
    """The groups' rates: one number where they are equal, else one an entry of the flat vector."""
    rates = [float(group["lr"]) for group in groups]
    if len(set(rates)) == 1:
        return rates[0]
    by_parameter = {id(p): rate for rate, group in zip(rates, groups, strict=True) for p in group["params"]}
    parameters = vectors.trainable(parameter for group in groups for parameter in group["params"])
    return vectors.flatten([torch.full_like(parameter, by_parameter[id(parameter)]) for parameter in parameters])


def _scaled(direction: SearchDirection, factor: float | Tensor) -> SearchDirection:
    if isinstance(factor, float) and factor == 1.0:
        return direction
    curvature = None
    if direction.curvature is not None and isinstance(factor, float):
        curvature = factor * factor * direction.curvature
    negative = direction.negative_curvature and curvature is not None
    return SearchDirection(factor * direction.vector, direction.well_scaled, curvature, negative_curvature=negative)


def _clamped(direction: SearchDirection, origin: list[Tensor], limit: float) -> SearchDirection:
    endpoint = direction.endpoint
    if endpoint is not None:
        endpoint = [torch.clamp(end, old - limit, old + limit) for end, old in zip(endpoint, origin, strict=True)]
    return SearchDirection(direction.vector.clamp(-limit, limit), direction.well_scaled, endpoint=endpoint)
