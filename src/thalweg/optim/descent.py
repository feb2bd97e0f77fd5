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
    Point,
    Requires,
    State,
    name_of,
)
from thalweg.optim.bounds import box_of, check_bounds
from thalweg.optim.clipping import AbstractClip, ClipUpdate
from thalweg.optim.closures import Closure, ObjectiveSource, resolve
from thalweg.optim.evaluation import Evaluation, Problem, checked_norm, flatten_gradients
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.line_search import Armijo
from thalweg.optim.saving import flat_dtype, is_state, placed
from thalweg.optim.search import Search, StepReport
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status

COUNTS = ("steps", "fallbacks", "restarts", "rejected", "values", "gradients")


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
            thawed or frozen between steps; those without a gradient count as having gradient zero. The entries `lower`
            and `upper` of a group, numbers or tensors of its parameters' shape, are bounds that they keep to, for
            `LBFGS`, the BFGS family and `Gradient`: what a bound holds back is left out of step and memory, and the
            search bends along the bounds (Bertsekas, "Projected Newton methods for optimization problems with simple
            constraints", 1982).
        direction: default `LBFGS()`.
        step_size: default `StrongWolfe()` for directions that learn from pairs of gradients, else `Armijo()`.
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
        if step_size is None:
            step_size = StrongWolfe() if Requires.END_GRADIENT in self.direction.requires else Armijo()
        self.step_size = step_size
        self.clip = clip
        self.clip_update = clip_update
        _check_fit(self.direction, self.step_size, clip_update)
        searches = Requires.VALUES in self.step_size.requires
        self._moves_itself = self.direction.moves_itself and not searches
        self._searches = searches
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
    def evaluates(self) -> bool:
        """Whether a step evaluates the loss itself, so that it needs an objective or a closure."""
        return bool((self.direction.requires | self.step_size.requires) & ~(Requires.GRADIENT | Requires.MODEL))

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
        memory = self._memory()
        counts = memory["counts"]
        problem = Problem(closure, parameters, together=self._wants_end)
        if self._moves_itself and self.clip_update is None:
            loss = self._move(problem, memory["direction"])
        else:
            loss = self._search(problem, memory)
        counts["steps" if self.report.multiple != 0.0 else "rejected"] += 1
        counts["values"] += problem.num_values
        counts["gradients"] += problem.num_gradients
        return loss

    @torch.no_grad()
    def evaluate(self, objective: Objective) -> Tensor:
        """Return the loss where the parameters are, and leave its gradient on them.

        The next step on this objective starts from this evaluation instead of one of its own, unless the parameters
        have moved: for loops that want to know loss and gradient before the step is taken.
        """
        parameters = self._parameters()
        problem = Problem(objective, parameters)
        found = problem.evaluate()
        self._memory()["counts"]["gradients"] += problem.num_gradients
        self._cache = objective, vectors.flatten([parameter.detach() for parameter in parameters]), found
        assert found.loss is not None
        return found.loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; a memory of curvature, which knows the old parameters only, is started again."""
        super().add_param_group(param_group)
        self._cache = None
        try:
            self._check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()  # what is refused must not be trained
            raise

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
            first = self._every()[0]
            saved_type, own_type = saved.get("type"), self._type()
            cast = None if saved_type in (None, own_type) else (flat_dtype(saved_type), flat_dtype(own_type))
            memory = placed(copy.deepcopy(dict(saved)), first.device, cast)
            memory["type"] = own_type
            memory = {"progress": {}, "layout": self._layout(), **memory}
            memory["direction"] = self.direction.unpack(memory["direction"], self.param_groups)
            self.state[first] = memory

    def __getstate__(self) -> dict[str, Any]:
        own = ("direction", "step_size", "clip", "clip_update", "tolerance", "objective", "report")
        own = (*own, "_moves_itself", "_searches", "_ends_by_itself", "_wants_end")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}, "_cache": None}

    # ---- one step ----

    def _move(self, problem: Problem, state: State) -> Tensor | None:
        """Let the direction take its own step in place, where loss and gradient are finite: nothing is searched."""
        loss = None
        if problem.closure is not None:
            self._refuse_scaler()
            known = None if self._cache is None else self._evaluate_start(problem).loss
            loss = problem.loss() if known is None else known
            if not math.isfinite(value := loss.item()):
                self.report = StepReport(Status.LOSS_NOT_FINITE, value=value)
                return loss
        gradients = self._unscaled(problem)
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
        if memory["layout"] != self._layout():
            memory["direction"] = self.direction.resize(memory["direction"], self.param_groups)
            memory["layout"], memory["progress"] = self._layout(), {}
            memory["counts"]["restarts"] += 1
        box, before = box_of(self.param_groups, problem.parameters), vectors.clone(problem.parameters)
        origin = before
        if box is not None:
            box.project_(problem.parameters)
            origin = vectors.clone(problem.parameters)
        start = self._evaluate_start(problem)
        if box is not None:
            place = vectors.flatten([parameter.detach() for parameter in problem.parameters])
            free = box.free(place, start.flat)
            inner = free * start.flat
            start = dataclasses.replace(start, size=checked_norm(inner.norm().item(), inner), free=free)
        ended = self._ended(start, memory["progress"])
        if ended:
            if not (math.isfinite(start.value) and math.isfinite(start.size)):
                vectors.copy_(problem.parameters, before)
            self.report = StepReport(ended, value=start.value, gradient_norm=start.size)
            return start.loss
        point = self._point(problem, start)
        search = Search(self.direction, self.step_size, self.clip_update, problem, start, point, box)
        try:
            self.report = dataclasses.replace(search.run(origin, memory), gradient_norm=start.size)
        except BaseException:  # a closure that raises, no memory left, Ctrl-C
            vectors.copy_(problem.parameters, before)
            raise
        if search.ended is not None and problem.objective is not None:
            self._cache = problem.objective, *search.ended
        return start.loss

    def _ended(self, start: Evaluation, memory: State) -> Status | None:
        """Return why no step is taken, if none is."""
        if start.loss is not None and not math.isfinite(start.value):
            return Status.LOSS_NOT_FINITE
        if not math.isfinite(start.size):
            return Status.GRADIENT_NOT_FINITE
        if 0.0 < start.size <= self.tolerance:
            return Status.CONVERGED
        if self._searches and start.size > 0.0 and not any(group["lr"] for group in self.param_groups):
            return Status.NO_STEP
        if not self._ends_by_itself or start.loss is None:
            return None
        rates = [float(group["lr"]) for group in self.param_groups]
        return progress.at_rest(memory, start.value, start.size, start.loss.dtype, rates)

    def _evaluate_start(self, problem: Problem) -> Evaluation:
        """Evaluate where the step starts, unless the last step ended there and has done so."""
        if problem.closure is None:
            self._unscaled(problem)
        cache, self._cache = self._cache, None
        if cache is None or cache[0] is not problem.objective:
            return problem.evaluate()
        _, place, evaluation = cache
        if not torch.equal(place, vectors.flatten([parameter.detach() for parameter in problem.parameters])):
            return problem.evaluate()
        if evaluation.is_on(problem.parameters):
            return evaluation
        gradients = vectors.split(evaluation.flat.clone(), problem.parameters)
        for parameter, gradient, had in zip(problem.parameters, gradients, evaluation.gradients, strict=True):
            parameter.grad = gradient if had is not None else None
        return evaluation

    def _point(self, problem: Problem, start: Evaluation) -> Point:
        clipped = start.flat
        if self.clip is not None:
            self.clip(problem.parameters)
            clipped = flatten_gradients([parameter.grad for parameter in problem.parameters], problem.parameters)
        if start.free is not None:
            clipped = clipped * start.free
        groups, objective = self.param_groups, problem.objective
        return Point(start.flat, clipped, problem.parameters, groups, objective, start.value, start.free)

    # ---- what is kept ----

    def _every(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _parameters(self) -> list[Tensor]:
        return vectors.trainable(self._every())

    def _layout(self) -> list[int]:
        """How many numbers of each parameter are trained: what a memory of curvature is about."""
        return [parameter.numel() * parameter.requires_grad for parameter in self._every()]

    def _parts(self) -> list[str]:
        return [name_of(self.direction), name_of(self.step_size)]

    def _memory(self) -> State:
        memory: State = self.state[self._every()[0]]
        if not memory:
            memory.update(parts=self._parts(), layout=self._layout(), counts=dict.fromkeys(COUNTS, 0))
            memory.update(type=self._type(), progress={})
            memory.update(direction=self.direction.start(self.param_groups), step_size=self.step_size.start())
        return memory

    def _type(self) -> str:
        """The type of flat vectors, by its name."""
        return str(vectors.flat_type(self._every())).removeprefix("torch.")

    def _check_group(self, group: dict[str, Any]) -> None:
        """Refuse what the parts can't train."""
        if self._searches and group.get("maximize"):
            raise ValueError(
                f"{name_of(self.step_size)} looks for a lower loss, and maximize=True goes up; use Fixed() with it, or "
                "minimize the negative loss."
            )
        if not self._moves_itself and any(p.is_complex() for p in group["params"]):
            raise ValueError(
                "Descent searches over real parameters, and one of them is complex: make it a real tensor of real and "
                "imaginary parts, and torch.view_as_complex of that in the model."
            )
        if group.get("lower") is None and group.get("upper") is None:
            return
        check_bounds(group)
        unfit = Requires.CURVATURE in self.direction.requires or self.direction.moves_itself
        if unfit or Requires.MODEL in self.step_size.requires:
            raise ValueError(
                "Bounds ('lower' and 'upper' of a group) are kept by LBFGS, the BFGS family and Gradient, with Armijo, "
                f"StrongWolfe or Fixed; got {' and '.join(self._parts())}."
            )

    def _unscaled(self, problem: Problem) -> list[Tensor]:
        """Return the gradients that are there, divided by a GradScaler's factor."""
        gradients = problem.gradients()
        if (scale := getattr(self, "grad_scale", None)) is not None and gradients:
            torch._foreach_mul_(gradients, 1.0 / scale)
        return gradients

    def _refuse_scaler(self) -> None:
        if getattr(self, "grad_scale", None) is not None:
            raise ValueError(
                f"Descent evaluates the loss itself here ({' with '.join(self._parts())}), so that a GradScaler's "
                "factor would be in some of its numbers and not in others; use bfloat16 autocast, which needs no "
                "scaler."
            )

    def _check_given(self, problem: Problem) -> None:
        """Check that the closure gives what the parts require."""
        if problem.closure is not None:
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
