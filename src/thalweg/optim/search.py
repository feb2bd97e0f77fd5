"""One step of a search: a direction proposes, a step size looks along it, and the direction learns what happened."""

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from thalweg import vectors
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
)
from thalweg.optim.bounds import Box
from thalweg.optim.clipping import ClipUpdate
from thalweg.optim.evaluation import Evaluation, LineEvaluator, Problem
from thalweg.optim.limits import clamped, factor_of, scaled, schedule_of
from thalweg.status import Status

MAX_PROPOSALS = 12


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
        gradient_norm: Euclidean norm of the gradient where it started, with bounds of the part that they don't hold
            back; NaN for updates in place, which don't need it.
    """

    status: Status
    multiple: float = 0.0
    value: float | None = None
    gain: float | None = None
    num_trials: int = 0
    gradient_norm: float = math.nan


@final
class Search:
    """The proposals from one point and what they are searched with; `ended` is known where the step ended there."""

    def __init__(
        self,
        direction: AbstractDirection,
        step_size: AbstractStepSize,
        clip_update: ClipUpdate | None,
        problem: Problem,
        start: Evaluation,
        point: Point,
        box: Box | None,
    ) -> None:
        self.direction, self.step_size, self.clip_update = direction, step_size, clip_update
        self._problem, self._start, self._point, self._box = problem, start, point, box
        self.ended: tuple[Tensor, Evaluation] | None = None  # the place, flat, and what is known of it

    def run(self, origin: list[Tensor], memory: State) -> StepReport:
        """Propose and search until a step is found; the parameters end there, or at `origin`, where they are."""
        start = self._start
        searches = Requires.VALUES in self.step_size.requires
        stationary = searches and start.size == 0.0
        if stationary and Requires.CURVATURE not in self.direction.requires:
            return StepReport(Status.STATIONARY, value=start.value)
        status, steepest, num_trials = Status.STEPPED, False, 0
        for left in reversed(range(MAX_PROPOSALS)):
            line = self._line(origin, memory["direction"], steepest)
            result = SearchResult(0.0)
            if line.is_descent or not self.step_size.requires_descent:
                result = self.step_size.search(line, memory["step_size"])
            num_trials += result.num_trials
            if result.multiple != 0.0:
                progress.remember(memory["progress"], result.value, line.promised(result.multiple))
                value, gain = self._take(line, result, memory["direction"])
                return StepReport(status, result.multiple, value, gain, num_trials)
            line.restore()
            if steepest or stationary or self._is_steepest(line):
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
            status = progress.no_step(memory["progress"], start.value, start.size, start.loss.dtype)
        return StepReport(status, value=start.value, num_trials=num_trials)

    def _is_steepest(self, line: LineEvaluator) -> bool:
        """Whether the direction had proposed steepest descent itself, so that searching it again would be the same."""
        direction = line.direction
        return (
            direction is not None
            and not direction.well_scaled
            and torch.equal(
                direction.vector, scaled(SearchDirection(-self._point.clipped), factor_of(self._point.groups)).vector
            )
        )

    def _take(self, line: LineEvaluator, result: SearchResult, state: State) -> tuple[float | None, float | None]:
        """Leave the parameters where the search ended, and let the direction learn; return the loss and the gain."""
        problem, point, requires = self._problem, self._point, self.direction.requires
        ended = line.settle(result.multiple, result.step)
        if ended is None and Requires.END_GRADIENT in requires:
            ended = problem.evaluate()
        value = result.value if ended is None else ended.value
        if value is None and Requires.END_VALUE in requires:
            value = problem.value()[0]
        gain = line.gain_of(result, value)
        if ended is not None or requires & (Requires.END_GRADIENT | Requires.END_VALUE):
            after = vectors.flatten([parameter.detach() for parameter in problem.parameters])
            self.ended = None if ended is None else (after, ended)
            step = after - vectors.flatten(line.origin)
            change = ended.flat - point.gradient if ended is not None else None
            multiple = line.scale * result.multiple if line.scale is not None else None
            if point.free is not None and change is not None:  # curvature along what is held at a bound is no use
                change = torch.where((point.free > 0.0) | (step != 0.0), change, 0.0)
            self.direction.learn(StepInfo(point, step, change, multiple, gain), state)
        return value, gain

    def _line(self, origin: list[Tensor], state: State, steepest: bool) -> LineEvaluator:
        """Return the line to search: along the direction's proposal, or along steepest descent."""
        problem, start, point, box = self._problem, self._start, self._point, self._box
        limit = math.inf if self.clip_update is None else self.clip_update.limit
        factor = 1.0 if self.direction.uses_rate and not steepest else factor_of(point.groups)
        downhill = SearchDirection(-point.clipped, well_scaled=False)
        if Requires.MODEL in self.step_size.requires:
            model = ModelAlongLine(downhill, start.flat) if steepest else self.direction.model(point, state)
            if limit < math.inf or not (isinstance(factor, float) and factor == 1.0):
                model = ClippedModel(model, factor, limit)
            return LineEvaluator(problem, origin, start, None, model)
        direction = scaled(downhill if steepest else self.direction.propose(point, state), factor)
        if box is not None and point.free is not None:
            inside = box.inward(vectors.flatten(origin), point.free * direction.vector)
            direction = SearchDirection(inside, direction.well_scaled)
        largest, is_clamped = math.inf, False
        if limit < math.inf:
            is_clamped = direction.well_scaled or Requires.VALUES not in self.step_size.requires
            if is_clamped:
                direction = clamped(direction, origin, limit, start.flat)
            longest = direction.vector.abs().max().item()
            largest = limit / longest if longest > 0.0 else math.inf
            largest = max(largest, 1.0) if is_clamped else largest
        scale = None if steepest or is_clamped or box is not None or isinstance(factor, Tensor) else factor
        limits, schedule = {"largest": largest, "scale": scale}, schedule_of(point.groups)
        return LineEvaluator(problem, origin, start, direction, **limits, box=box, schedule=schedule)
