"""The whole loop: from a start to a minimum, with stopping rules, a history, and what it has cost."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.errors import InputError, counted, require
from thalweg.functions import Function, FunctionModel, Variables, as_objective
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, AbstractStepSize, Requires
from thalweg.optim.bounds import box_of
from thalweg.optim.descent import Descent
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.line_search import Armijo, Fixed
from thalweg.optim.quasi_newton import BFGS
from thalweg.optim.wolfe import StrongWolfe
from thalweg.status import Status

MAX_DENSE = 500  # variables up to which the products with BFGS's matrix cost next to nothing


@final
@dataclasses.dataclass(frozen=True)
class Iteration:
    """One point of a search.

    Args:
        number: of the point, 0 at the start.
        value: the function there.
        gradient_norm: Euclidean norm of its gradient there; with bounds, of the part that they don't hold back.
        multiple: of its direction that the step from there took; 0 at the last point.
    """

    number: int
    value: float
    gradient_norm: float
    multiple: float


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Minimum:
    """What `minimize` has found.

    Args:
        status: how it ended, as a sentence.
        x: the variables there, in the form of the start; of an `Objective` of a model, its parameters by name.
        value: the function at x; NaN where it was interrupted in the first step.
        gradient_norm: Euclidean norm of its gradient at x; with bounds, of the part that they don't hold back.
        best: number of x in the history. It is the last point unless one before was lower, as may be with step sizes
            that do not insist on descent.
        num_steps: steps taken.
        num_values: evaluations of the function alone.
        num_gradients: evaluations of function and gradient together.
        num_products: products with a Hessian or a Gauss-Newton matrix.
        history: every point with its value and gradient.
    """

    status: Status
    x: Variables
    value: float
    gradient_norm: float
    best: int
    num_steps: int
    num_values: int
    num_gradients: int
    num_products: int
    history: tuple[Iteration, ...]

    @property
    def success(self) -> bool:
        """Whether the tolerance or the precision of the numbers ended it, and no limit."""
        return self.status in {Status.CONVERGED, Status.STATIONARY, Status.NO_PROGRESS}

    def __str__(self) -> str:
        """Return the status with the figures."""
        names = {"gradient": self.num_gradients, "value": self.num_values, "product": self.num_products}
        costs = ", ".join(counted(number, name) for name, number in names.items() if number)
        text = f"{self.status.value}\nvalue {self.value:.6g}, gradient norm {self.gradient_norm:.3g}, "
        text += f"{counted(self.num_steps, 'step')}, {costs}"
        return text if self.best + 1 >= len(self.history) else f"{text}; x is the best point, number {self.best}"


def minimize(
    function: Objective | Function,
    start: Variables = None,
    *,
    direction: AbstractDirection | None = None,
    step_size: AbstractStepSize | None = None,
    lower: Any = None,
    upper: Any = None,
    tolerance: float = 1e-6,
    max_steps: int = 10_000,
    max_evaluations: int | None = None,
    seconds: float | None = None,
    callback: Callable[[Iteration, Variables], object] | None = None,
) -> Minimum:
    r"""Find a minimum of a function of tensors, or of an objective.

    It takes steps of a `Descent` until $\lVert \nabla f(x) \rVert_2 \le$ `tolerance`, no step gets any further in the
    precision of the numbers, or a limit is reached; limits are looked at between steps. Ctrl-C ends it, too, and what
    is there is returned.

    Args:
        function: returns one number, a real tensor, for variables in the form of `start` (see `as_objective`); or an
            `Objective`, of a model, whose parameters are then moved, or one that `as_objective` made, such as of
            residuals.
        start: a tensor, a list, tuple or dictionary of tensors; or NumPy arrays or numbers. It is not changed. None
            with an `Objective`, which starts where its parameters are.
        direction: None: `BFGS()` for up to 500 numbers, else `LBFGS()`.
        step_size: None: `StrongWolfe()` with quasi-Newton directions, `Fixed()` with `Update`, else `Armijo()`.
        lower: lower bounds, with quasi-Newton directions: a number, or in the form of the variables (None where there
            is none); of an `Objective` of a model a dictionary by names of parameters.
        upper: upper bounds, likewise.
        tolerance: >= 0; 0: as far as the precision of the numbers goes.
        max_steps: the most steps, >= 0.
        max_evaluations: of values and gradients together, at least 1.
        seconds: of wall time, positive.
        callback: called after each step with the `Iteration` that it started from, and the variables there (copies);
            something true ends the search.

    Returns:
        The lowest point seen.

    Raises:
        ValueError: an argument out of range, no start or one too many, bounds of another form; what `as_objective` and
            `Descent` raise.

    Example:
        >>> def rosenbrock(x):
        ...     return 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2
        >>> found = minimize(rosenbrock, [-1.2, 1.0])
        >>> found.success, found.x
        (True, tensor([1.0000, 1.0000], dtype=torch.float64))
        >>> minimize(rosenbrock, [-1.2, 1.0], upper=[0.5, math.inf]).x
        tensor([0.5000, 0.2500], dtype=torch.float64)

    Not for losses that are another function at each step, as on mini-batches: `Descent`, or any optimizer, in a loop.
    """
    _check(direction, step_size, max_steps, max_evaluations, seconds)
    objective = _objective(function, start)
    before = (objective.num_values, objective.num_gradients, objective.num_products)
    if not isinstance(function, Objective):
        before = (0, 0, 0)
    form = _Form(objective)
    if direction is None:
        direction = BFGS() if sum(tensor.numel() for tensor in form.tensors) <= MAX_DENSE else LBFGS()
    if step_size is None:
        learns = Requires.END_GRADIENT in direction.requires
        step_size = StrongWolfe() if learns else Fixed() if direction.moves_itself else Armijo()
    groups = form.groups(lower, upper)
    search = _Search(objective, Descent(groups, direction, step_size, tolerance=tolerance), form.tensors)
    deadline = math.inf if seconds is None else time.perf_counter() + seconds
    budget = math.inf if max_evaluations is None else max_evaluations
    status = None
    try:
        while status is None:
            if len(search.history) >= max_steps:
                status = Status.OUT_OF_ITERATIONS
            elif objective.num_values + objective.num_gradients - before[0] - before[1] >= budget:
                status = Status.OUT_OF_EVALUATIONS
            elif time.perf_counter() >= deadline:
                status = Status.OUT_OF_TIME
            else:
                status = search.step()
                if callback is not None and status is None and callback(search.history[-1], form.of(search.here)):
                    status = Status.STOPPED_BY_CALLBACK
        if search.moved:
            search.look()
    except KeyboardInterrupt:
        status = Status.BROKEN_OFF
        search.go_back()
    point = search.settle()
    return Minimum(
        status,
        form.of([tensor.detach() for tensor in form.tensors]),
        point.value,
        point.gradient_norm,
        best=point.number,
        num_steps=sum(iteration.multiple != 0.0 for iteration in search.history),
        num_values=objective.num_values - before[0],
        num_gradients=objective.num_gradients - before[1],
        num_products=objective.num_products - before[2],
        history=tuple(search.history),
    )


@final
class _Search:
    """The steps with the points that they start from, and the lowest of these."""

    def __init__(self, objective: Objective, optimizer: Descent, tensors: list[Tensor]) -> None:
        self._objective, self._optimizer, self._tensors = objective, optimizer, tensors
        box = box_of(optimizer.param_groups, tensors)
        if box is not None:  # the start is a point of the history, which every step moves into the box
            with torch.no_grad():
                box.project_(tensors)
        self.history: list[Iteration] = []
        self.here = vectors.clone(tensors)  # where the last step started
        self.moved = True  # whether nothing is known of where the tensors are now
        self._best: tuple[Iteration, list[Tensor]] | None = None
        self._last: tuple[Iteration, list[Tensor]] | None = None

    def step(self) -> Status | None:
        """Take a step; return why it was the last one, if it was."""
        self.here, self.moved = vectors.clone(self._tensors), True
        loss = self._optimizer.step(self._objective)
        assert loss is not None
        report = self._optimizer.report
        status = None if report.status.continues else report.status
        norm, multiple = report.gradient_norm, report.multiple
        if math.isnan(norm):  # an update in place has looked at nothing else than the gradients
            norm = float(vectors.norm([p.grad for p in self._tensors if p.grad is not None]))
            if status is None and norm <= self._optimizer.tolerance:
                status, multiple = Status.CONVERGED, 0.0
                self.go_back()
        self._note(float(loss), norm, multiple)
        self.moved = multiple != 0.0
        return status

    def look(self) -> None:
        """Evaluate where the last step ended."""
        self.here = vectors.clone(self._tensors)
        loss, gradient = self._objective.value_and_gradient()
        flat, box = vectors.flatten(gradient), box_of(self._optimizer.param_groups, self._tensors)
        if box is not None:
            flat = flat * box.free(vectors.flatten(self.here), flat)
        self._note(float(loss), float(flat.norm()), 0.0)

    def go_back(self) -> None:
        """Go back to where the last step started."""
        with torch.no_grad():
            vectors.copy_(self._tensors, self.here)

    def settle(self) -> Iteration:
        """Leave the tensors at the lowest point, and return it; rounding errors are no reason to leave the last one."""
        if self._last is None:
            return Iteration(0, math.nan, math.nan, 0.0)
        (point, place), last = self._best or self._last, self._last
        rounding = 10.0 * max(torch.finfo(tensor.dtype).eps for tensor in self._tensors) * abs(point.value)
        if last[0].value <= point.value + rounding:
            point, place = last
        with torch.no_grad():
            vectors.copy_(self._tensors, place)
        return point

    def _note(self, value: float, norm: float, multiple: float) -> None:
        self._last = Iteration(len(self.history), value, norm, multiple), self.here
        self.history.append(self._last[0])
        if math.isfinite(value) and (self._best is None or value <= self._best[0].value):
            self._best = self._last


@final
class _Form:
    """The variables of an objective: as a list of tensors for the optimizer, and in the form that users see."""

    def __init__(self, objective: Objective) -> None:
        named = objective.named_parameters()
        self.tensors, self._names = [tensor for _, tensor in named], [name for name, _ in named]
        model = objective.model
        # With a head's own parameters, or some that are frozen, they are told by their names.
        is_whole = isinstance(model, FunctionModel) and set(self._names) == set(model.variable_names)
        self._model = model if isinstance(model, FunctionModel) and is_whole else None
        self._kind = dict if self._model is None else self._model.form

    def of(self, tensors: list[Tensor]) -> Variables:
        """Return tensors in the form of the variables."""
        named = dict(zip(self._names, tensors, strict=True))
        if self._model is None:
            return named
        return self._model.formed([named[name] for name in self._model.variable_names])  # modules have another order

    def groups(self, lower: Any, upper: Any) -> list[dict[str, Any]]:
        """Return the variables with their bounds as parameter groups: one where no tensor has any of its own."""
        if lower is None and upper is None:
            return [{"params": self.tensors}]
        sides = {"lower": self._by_name(lower, "lower"), "upper": self._by_name(upper, "upper")}
        return [
            {"params": [tensor], **{side: values[name] for side, values in sides.items()}}
            for name, tensor in zip(self._names, self.tensors, strict=True)
        ]

    def _by_name(self, bounds: Any, side: str) -> dict[str, Any]:
        if bounds is None or isinstance(bounds, int | float) or self._kind is Tensor:
            return dict.fromkeys(self._names, bounds)
        found: dict[str, Any] = {}
        if self._kind is dict and isinstance(bounds, Mapping):
            found = dict(bounds)
        elif self._kind is not dict and isinstance(bounds, list | tuple) and len(bounds) == len(self._names):
            found = dict(zip(self._names, bounds, strict=True))
        if not found or not set(found) <= set(self._names):
            raise InputError(
                f"minimize({side}=...) must be a number, or have the form of the variables ({', '.join(self._names)}); "
                f"got {bounds!r}."
            )
        return {name: found.get(name) for name in self._names}


def _objective(function: Objective | Function, start: Variables) -> Objective:
    if isinstance(function, Objective):
        if start is not None:
            raise ValueError("minimize(objective) starts where the objective's parameters are; leave start out.")
        return function
    if not callable(function):
        raise ValueError(
            f"minimize(function, start) takes a function or an Objective; got a {type(function).__name__}."
        )
    if start is None:
        raise ValueError("minimize(function, start) needs a start: a tensor, or a list or dictionary of tensors.")
    return as_objective(function, start)


def _check(
    direction: object, step_size: object, max_steps: int, max_evaluations: int | None, seconds: float | None
) -> None:
    if direction is not None and not isinstance(direction, AbstractDirection):
        raise ValueError(f"minimize(direction=...) must be an object such as LBFGS() or Newton(); got {direction!r}.")
    if step_size is not None and not isinstance(step_size, AbstractStepSize):
        raise ValueError(f"minimize(step_size=...) must be an object such as StrongWolfe(); got {step_size!r}.")
    require(max_steps >= 0, "minimize(max_steps=...) must be at least 0", max_steps)
    if max_evaluations is not None:
        require(max_evaluations >= 1, "minimize(max_evaluations=...) must be at least 1", max_evaluations)
    if seconds is not None:
        require(seconds > 0.0, "minimize(seconds=...) must be positive", seconds)
