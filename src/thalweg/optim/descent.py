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
from thalweg.objective import Objective
from thalweg.optim.base import (
    AbstractDirection,
    AbstractStepSize,
    AlongMove,
    Found,
    Limited,
    Move,
    Needs,
    Point,
    State,
    Taken,
    Way,
    name_of,
)
from thalweg.optim.clipping import AbstractClip, ClipUpdate
from thalweg.optim.evaluation import Along, Closure, Evaluation, Problem, flatten_gradients
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
        if not tolerance >= 0.0:
            raise ValueError(f"Descent(tolerance=...) must be zero or positive; got {tolerance!r}.")
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
        searches = Needs.VALUES in self.step_size.needs
        stationary = searches and start.size == 0.0
        if stationary and Needs.CURVATURE not in self.direction.needs:
            return StepReport(Status.STATIONARY, value=start.value)
        point = self._point(problem, start)
        origin = vectors.clone(problem.parameters)
        status, steepest, num_trials = Status.STEPPED, False, 0
        for left in reversed(range(MAX_PROPOSALS)):
            line, scale = self._line(problem, origin, start, point, memory, steepest)
            found = Found(0.0)
            if line.leads_down or not self.step_size.needs_downhill:
                found = self.step_size.search(line, memory["step_size"])
            num_trials += found.num_trials
            if found.multiple != 0.0:
                return self._take(line, found, point, memory, status, num_trials, scale)
            line.restore()
            if steepest or stationary:
                break
            way = self.direction.give_way(memory["direction"]) if left > 1 else Way.NONE
            steepest = way is Way.NONE
            if way is not Way.CAUTION:
                memory["counts"]["fallbacks"] += 1
                memory["counts"]["restarts"] += way is Way.RESTART
                status = Status.SEARCHED_AGAIN if line.leads_down else Status.TURNED_DOWNHILL
        return StepReport(Status.STATIONARY if stationary else Status.NO_STEP, value=start.value, num_trials=num_trials)

    def _take(
        self,
        line: Along,
        found: Found,
        point: Point,
        memory: State,
        status: Status,
        num_trials: int,
        scale: float | None,
    ) -> StepReport:
        """Leave the parameters where the search ended, and let the direction learn from the step."""
        problem, needs = line.problem, self.direction.needs
        ended = line.settle(found.multiple, found.step)
        if ended is None and Needs.END_GRADIENT in needs:
            ended = problem.evaluate()
        value = found.value if ended is None else ended.value
        if value is None and Needs.END_VALUE in needs:
            value = problem.value()[0]
        gain = line.gain_of(found, value)
        if ended is not None or needs & (Needs.END_GRADIENT | Needs.END_VALUE):
            after = vectors.flatten([parameter.detach() for parameter in problem.parameters])
            if ended is not None and problem.objective is not None:
                self._cache = problem.objective, after, ended
            step = after - vectors.flatten(line.origin)
            change = ended.flat - point.gradient if ended is not None else None
            multiple = scale * found.multiple if scale is not None else None
            self.direction.learn(Taken(point, step, change, multiple, gain), memory["direction"])
        return StepReport(status, found.multiple, value, gain, num_trials)

    def _line(
        self,
        problem: Problem,
        origin: list[Tensor],
        start: Evaluation,
        point: Point,
        memory: State,
        steepest: bool,
    ) -> tuple[Along, float | None]:
        """Return the line to search, and which multiple of the direction's own proposal it is (None: it is another)."""
        limit = math.inf if self.clip_update is None else self.clip_update.limit
        factor = 1.0 if self.direction.uses_rate else _factor(self.param_groups)
        downhill = Move(-point.clipped, natural=False)
        if Needs.MODEL in self.step_size.needs:
            state = memory["direction"]
            model = AlongMove(downhill, start.flat) if steepest else self.direction.model(point, state)
            if limit < math.inf or not (isinstance(factor, float) and factor == 1.0):
                model = Limited(model, factor, limit)
            return Along(problem, origin, start, None, model, math.inf), None
        proposed = downhill if steepest else self.direction.propose(point, memory["direction"])
        move = _scaled(proposed, factor)
        largest, clamped = math.inf, False
        if limit < math.inf:
            clamped = move.natural or Needs.VALUES not in self.step_size.needs
            if clamped:
                move = _clamped(move, origin, limit)
            longest = move.vector.abs().max().item()
            largest = limit / longest if longest > 0.0 else math.inf
            largest = max(largest, 1.0) if clamped else largest
        scale = None if steepest or clamped or isinstance(factor, Tensor) else factor
        return Along(problem, origin, start, move, None, largest), scale

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
            memory["parts"] = self._parts()
            memory["size"] = _size(self._parameters())
            memory["counts"] = dict.fromkeys(COUNTS, 0)
            memory["direction"] = self.direction.start(self.param_groups)
            memory["step_size"] = self.step_size.start()
        return memory

    def _check_given(self, problem: Problem) -> None:
        """Check that the closure gives what the parts need."""
        direction, size = name_of(self.direction), name_of(self.step_size)
        if Needs.CURVATURE in self.direction.needs and problem.objective is None:
            got = "nothing" if problem.closure is None else type(problem.closure).__name__
            raise ValueError(
                f"{direction} needs second derivatives: step(objective) with a thalweg.objective.Objective; got {got}."
            )
        if problem.closure is None:
            for name, needs in ((size, self.step_size.needs), (direction, self.direction.needs)):
                if needs & ~(Needs.GRADIENT | Needs.MODEL):
                    raise ValueError(
                        f"{name} evaluates the loss itself: step(objective) or step(closure) is expected; got no "
                        "closure. Without one use Gradient() or Update(...) with Fixed()."
                    )


def _check_fit(direction: AbstractDirection, step_size: AbstractStepSize, clip_update: ClipUpdate | None) -> None:
    if Needs.MODEL in step_size.needs and not direction.has_model:
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


def _scaled(move: Move, factor: float | Tensor) -> Move:
    if isinstance(factor, float) and factor == 1.0:
        return move
    curvature = None
    if move.curvature is not None and isinstance(factor, float):
        curvature = factor * factor * move.curvature
    negative = move.negative and curvature is not None
    return Move(factor * move.vector, move.natural, curvature, negative=negative)


def _clamped(move: Move, origin: list[Tensor], limit: float) -> Move:
    endpoint = move.endpoint
    if endpoint is not None:
        endpoint = [torch.clamp(end, old - limit, old + limit) for end, old in zip(endpoint, origin, strict=True)]
    vector = move.vector.clamp(-limit, limit)
    return dataclasses.replace(move, vector=vector, endpoint=endpoint, curvature=None, minimizes=False, negative=False)
