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
from thalweg.optim import progress
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
from thalweg.optim.closures import Closure, ObjectiveSource, resolve
from thalweg.optim.evaluation import Evaluation, LineEvaluator, Problem, flatten_gradients
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.limits import clamped, factor_of, scaled
from thalweg.optim.line_search import Armijo
from thalweg.optim.saving import flat_dtype, is_state, placed
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


_MOVED = StepReport(Status.STEPPED, 1.0)


@final
class Descent(Optimizer):
    r"""Goes from x to x + t d: a direction d and a step size t, each an object of its own.

    `step(objective)` takes one step and returns the loss where it started, as PyTorch's optimizers do. Of each group,
    `lr` multiplies the direction (with `Update`, it is the inner optimizer's rate), so schedulers drive it as usual.

    Where the loss or its gradient is not finite, or no step lowers the loss, the parameters are left exactly as they
    were, and `status` says so. Where a direction does not lead downhill, or its search fails, its memory is started
    again and, if that doesn't help, a step along steepest descent is taken; `counts` tells how often. A search ends by
    itself where neither loss nor gradient falls any more in the precision of their type, so that
    `while optimizer.status.continues: optimizer.step(objective)` ends.

    Args:
        params: parameters or groups, as for every optimizer. Those without `requires_grad` are left alone, and may be
            thawed or frozen between steps; those without a gradient count as having gradient zero.
        direction: default `LBFGS()`.
        step_size: default `Armijo()`.
        lr: of the groups that have none of their own, not negative; None: that of the step size (`Fixed`) and of the
            direction (`Update`).
        objective: what `step()` without an argument is about, or a function that returns the objective of the present
            batch: for training loops that hand on closures of their own or none at all. A closure that such a loop
            passes is called first, once.
        clip: clips the gradient that the direction is made from; slopes and curvature pairs use it as it is.
        clip_update: limits how far one step moves an entry; a line search then goes no further than that.
        tolerance: norm of the gradient at which no step is taken any more: the status is then `CONVERGED`. >= 0.

    Attributes:
        status: how the last step ended; `Status.RUNNING` before the first.
        report: `StepReport` of the last step.
        counts: `steps` taken; `fallbacks` to a fresh memory or steepest descent; `restarts` of the memory;
            steps `rejected` (parameters left); evaluations of `values` and of `gradients`.

    Raises:
        ValueError: for parts that don't fit: what the step size needs and the direction has not; a tolerance or a rate
            below 0; complex parameters.

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

    # A GradScaler then tells its factor before it calls `step`, instead of dividing gradients that a search replaces.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Iterable[Any],
        direction: AbstractDirection | None = None,
        step_size: AbstractStepSize | None = None,
        *,
        lr: float | Tensor | None = None,
        objective: ObjectiveSource | None = None,
        clip: AbstractClip | None = None,
        clip_update: ClipUpdate | None = None,
        tolerance: float = 0.0,
    ) -> None:
        require(tolerance >= 0.0, "Descent(tolerance=...) must be zero or positive", tolerance)
        require(lr is None or 0.0 <= float(lr) < math.inf, "Descent(lr=...) must be finite and not negative", lr)
        self.tolerance = tolerance
        self.objective = objective
        self.direction = LBFGS() if direction is None else direction
        self.step_size = Armijo() if step_size is None else step_size
        self.clip = clip
        self.clip_update = clip_update
        _check_fit(self.direction, self.step_size, clip_update)
        searches = Requires.VALUES in self.step_size.requires
        self._moves_itself = self.direction.moves_itself and not searches
        self._ends_by_itself = searches and self.step_size.requires_descent
        self._wants_end = Requires.END_GRADIENT in self.direction.requires
        self.report = StepReport(Status.RUNNING)
        self._cache: tuple[Objective, Tensor, Evaluation] | None = None
        defaults = {"lr": 1.0, **self.direction.defaults()}
        super().__init__(params, {**defaults, "lr": self.step_size.rate * defaults["lr"] if lr is None else lr})

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
        closure = resolve(closure, self.objective)
        parameters = self._parameters()
        if not parameters:
            raise ValueError(
                "Descent has nothing to train: all of its parameters are frozen; set requires_grad on some of them."
            )
        memory, counts = self._memory(), self._memory()["counts"]
        problem = Problem(closure, parameters, together=self._wants_end)
        if self._moves_itself and self.clip_update is None:
            loss = self._move(problem, memory["direction"])
        else:
            loss = self._search(problem, memory)
        counts["steps" if self.report.multiple != 0.0 else "rejected"] += 1
        counts["values"] += problem.num_values
        counts["gradients"] += problem.num_gradients
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; a memory of curvature, which knows the old parameters only, is started again."""
        super().add_param_group(param_group)
        self._cache = None
        if not self._moves_itself and any(p.is_complex() for p in self.param_groups[-1]["params"]):
            raise ValueError(
                "Descent searches over real parameters, and one of them is complex: make it a real tensor of real and "
                "imaginary parts, and torch.view_as_complex of that in the model."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return groups and memory: tensors, lists and plain values only."""
        self._memory()
        saved = super().state_dict()
        memory = saved["state"][0]
        packed = {**memory, "direction": self.direction.pack(memory["direction"])}
        return {**saved, "state": {**saved["state"], 0: packed}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, bit for bit; into parameters of another type its numbers are cast.

        Raises:
            ValueError: it is no state of a `Descent`, its groups are not those of this optimizer, or it was saved with
                other parts.
        """
        saved = state_dict["state"].get(0, {}) if is_state(state_dict) else None
        if saved is None or (saved and not {"parts", "direction", "step_size", "counts"} <= set(saved)):
            raise ValueError(
                "Descent.load_state_dict takes what Descent.state_dict returned, {'state': {0: ...}, 'param_groups': "
                "[...]}; this is the state of another optimizer."
            )
        if saved and saved["parts"] != self._parts():
            raise ValueError(
                f"Descent.load_state_dict: saved with {' and '.join(saved['parts'])}; this one has "
                f"{' and '.join(self._parts())}."
            )
        super().load_state_dict({**state_dict, "state": {}})
        self._cache = None
        if saved:
            first = self.param_groups[0]["params"][0]
            saved_type, own_type = saved.get("type"), self._type()
            cast = None if saved_type in (None, own_type) else (flat_dtype(saved_type), flat_dtype(own_type))
            memory = placed(copy.deepcopy(dict(saved)), first.device, cast)
            memory["type"] = own_type
            memory.setdefault("progress", {})
            memory["direction"] = self.direction.unpack(memory["direction"], self.param_groups)
            self.state[first] = memory

    def __getstate__(self) -> dict[str, Any]:
        own = ("direction", "step_size", "clip", "clip_update", "tolerance", "objective", "report")
        own = (*own, "_moves_itself", "_ends_by_itself", "_wants_end")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}, "_cache": None}

    # ---- one step ----

    def _move(self, problem: Problem, state: State) -> Tensor | None:
        """Let the direction take its own step in place, where loss and gradient are finite: nothing is searched."""
        loss = None
        if problem.closure is not None:
            self._refuse_scaler()
            loss = problem.loss()
            if not math.isfinite(value := loss.item()):
                self.report = StepReport(Status.LOSS_NOT_FINITE, value=value)
                return loss
        gradients = problem.gradients()
        if (scale := getattr(self, "grad_scale", None)) is not None and gradients:
            torch._foreach_mul_(gradients, 1.0 / scale)
        if not vectors.is_finite(gradients):
            self.report = StepReport(Status.GRADIENT_NOT_FINITE)
            return loss
        if self.clip is not None:
            self.clip(problem.parameters)
        self.direction.move(self.param_groups, state)
        self.report = _MOVED
        return loss

    def _search(self, problem: Problem, memory: State) -> Tensor | None:
        """Take a step that is proposed and searched for, or find out why there is none."""
        self._check_given(problem)
        if memory["size"] != _size(problem.parameters):
            memory["direction"] = self.direction.resize(memory["direction"], self.param_groups)
            memory["size"], memory["progress"] = _size(problem.parameters), {}
            memory["counts"]["restarts"] += 1
        start = self._evaluate_start(problem)
        ended = self._ended(start, memory["progress"])
        self.report = StepReport(ended, value=start.value) if ended else self._descend(problem, start, memory)
        return start.loss

    def _ended(self, start: Evaluation, memory: State) -> Status | None:
        """Return why no step is taken, if none is."""
        if start.loss is not None and not math.isfinite(start.value):
            return Status.LOSS_NOT_FINITE
        if not math.isfinite(start.size):
            return Status.GRADIENT_NOT_FINITE
        if 0.0 < start.size <= self.tolerance:
            return Status.CONVERGED
        if not self._ends_by_itself or start.loss is None:
            return None
        return progress.at_rest(memory, start.value, start.size, start.loss.dtype)

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
                progress.remember(memory["progress"], result.value, line.promised(result.multiple))
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
        if stationary or start.loss is None:
            status = Status.STATIONARY if stationary else Status.NO_STEP
        else:
            status = progress.no_step(memory["progress"], start.value, start.loss.dtype)
        return StepReport(status, value=start.value, num_trials=num_trials)

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
        factor = 1.0 if self.direction.uses_rate else factor_of(self.param_groups)
        downhill = SearchDirection(-point.clipped, well_scaled=False)
        if Requires.MODEL in self.step_size.requires:
            model = ModelAlongLine(downhill, start.flat) if steepest else self.direction.model(point, state)
            if limit < math.inf or not (isinstance(factor, float) and factor == 1.0):
                model = ClippedModel(model, factor, limit)
            return LineEvaluator(problem, origin, start, None, model)
        direction = scaled(downhill if steepest else self.direction.propose(point, state), factor)
        largest, is_clamped = math.inf, False
        if limit < math.inf:
            is_clamped = direction.well_scaled or Requires.VALUES not in self.step_size.requires
            if is_clamped:
                direction = clamped(direction, origin, limit)
            longest = direction.vector.abs().max().item()
            largest = limit / longest if longest > 0.0 else math.inf
            largest = max(largest, 1.0) if is_clamped else largest
        scale = None if steepest or is_clamped or isinstance(factor, Tensor) else factor
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
            memory.update(type=self._type(), progress={})
            memory.update(direction=self.direction.start(self.param_groups), step_size=self.step_size.start())
        return memory

    def _type(self) -> str:
        """The type of flat vectors, by its name."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        return str(vectors.flat_type(parameters)).removeprefix("torch.")

    def _refuse_scaler(self) -> None:
        if getattr(self, "grad_scale", None) is not None:
            raise ValueError(
                f"Descent evaluates the loss itself here ({' with '.join(self._parts())}), so that a GradScaler's "
                "factor would be in some of its numbers and not in others; use bfloat16 autocast, which needs no "
                "scaler."
            )

    def _check_given(self, problem: Problem) -> None:
        """Check that the closure gives what the parts require."""
        self._refuse_scaler()
        direction, size = name_of(self.direction), name_of(self.step_size)
        if Requires.CURVATURE in self.direction.requires and problem.objective is None:
            got = "nothing" if problem.closure is None else type(problem.closure).__name__
            raise ValueError(
                f"{direction} needs second derivatives: step(objective) with a thalweg.Objective, or "
                f"Descent(..., objective=...); got {got}."
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


def _size(parameters: list[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)
