"""The loss at a point and along a line, evaluated through an objective or any PyTorch closure."""

import dataclasses
import math
from typing import final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.objective import Objective
from thalweg.optim.base import AbstractModel, ModelStep, SearchDirection, SearchResult, gain_ratio
from thalweg.optim.bounds import Box
from thalweg.optim.closures import Closure, evaluated


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Loss and gradient at one point."""

    value: float
    loss: Tensor | None  # as the closure returned it; None where there was no closure
    gradients: list[Tensor | None]
    flat: Tensor  # the gradient as one vector, zeros where a parameter has none
    size: float  # its Euclidean norm, without what bounds hold
    free: Tensor | None = None  # 1 where no bound holds a parameter, else 0; None without bounds
    versions: tuple[int, ...] = ()  # how often each gradient had been written to

    def is_on(self, parameters: list[Tensor]) -> bool:
        """Whether the parameters still have these gradients, and nobody has written to them since."""
        same = all(p.grad is gradient for p, gradient in zip(parameters, self.gradients, strict=True))
        return same and self.versions == _versions(self.gradients)


@final
class Problem:
    """One step's closure over the parameters that are to move; None where the gradients are already there.

    With `together`, a loss is never evaluated without its gradient: the gradient where the step ends is wanted anyway.
    """

    def __init__(self, closure: Closure | None, parameters: list[Tensor], *, together: bool = False) -> None:
        self.closure = closure
        self.parameters = parameters
        self.objective = closure if isinstance(closure, Objective) else None
        self.together = together
        self.num_values = 0
        self.num_gradients = 0

    def loss(self) -> Tensor:
        """Evaluate the closure: the gradients are on the parameters afterwards."""
        assert self.closure is not None
        self.num_gradients += 1
        loss = evaluated(self.closure)
        if all(parameter.grad is None for parameter in self.parameters):
            raise ValueError(self._no_gradient())
        return loss

    def gradients(self) -> list[Tensor]:
        """Return the numbers of the gradients that are on the parameters."""
        found = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        return [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in found]

    def evaluate(self) -> Evaluation:
        """Return loss and gradient where the parameters are."""
        loss = None if self.closure is None else self.loss()
        gradients = [parameter.grad for parameter in self.parameters]
        flat = flatten_gradients(gradients, self.parameters)
        norm = torch.linalg.vector_norm(flat)
        if loss is None:
            return Evaluation(math.nan, None, gradients, flat, norm.item())
        wide = torch.promote_types(loss.dtype, norm.dtype)
        value, size = torch.stack([loss.to(norm.device, wide).reshape(()), norm.to(wide)]).tolist()
        size = checked_norm(size, flat)
        return Evaluation(value, loss, gradients, flat, size, versions=_versions(gradients))

    def value(self) -> tuple[float, Evaluation | None]:
        """Return the loss where the parameters are, and all else that this evaluation gave."""
        if self.objective is not None and not self.together:
            self.num_values += 1
            return float(self.objective.value()), None
        evaluation = self.evaluate()
        return evaluation.value, evaluation

    def _no_gradient(self) -> str:
        """Say why no parameter has got a gradient."""
        if self.objective is None:
            return (
                "The closure has left no gradient on any of the optimizer's parameters; it must call backward on a "
                "loss that depends on them."
            )
        known = {id(parameter) for parameter in self.objective.parameters}
        if not any(id(parameter) in known for parameter in self.parameters):
            return (
                "The objective is about other parameters than the optimizer's: give both the same model, such as "
                "Descent(model.parameters(), ...) and Objective(model, ...)."
            )
        return "The loss does not depend on any of the optimizer's parameters."


@final
class LineEvaluator:
    """The loss along a search direction from `origin`, or over the steps of a trust region's model.

    It goes no further than `largest` times the direction, which is `scale` times the one proposed (None: another one),
    and keeps the evaluation at the last place it looked. With a `box` it bends where it runs into a bound.
    `schedule` is the part of their peak that the groups' rates are at.
    """

    def __init__(
        self,
        problem: Problem,
        origin: list[Tensor],
        start: Evaluation,
        direction: SearchDirection | None,
        model: AbstractModel | None = None,
        *,
        largest: float = math.inf,
        scale: float | None = None,
        box: Box | None = None,
        schedule: float = 1.0,
    ) -> None:
        self.problem, self.origin, self.direction, self._model = problem, origin, direction, model
        # A multiple has to be a number of the parameters' own type.
        self.largest = min(largest, *(torch.finfo(tensor.dtype).max for tensor in origin))
        self.value, self.scale, self.schedule, self._box = start.value, scale, schedule, box
        precision = torch.float32 if start.loss is None else start.loss.dtype
        # The loss is a sum of many rounded terms: differences below this are noise.
        self.rounding = 10.0 * torch.finfo(precision).eps * abs(start.value)
        self.well_scaled = direction is not None and direction.well_scaled
        self.slope, self.length, self.curvature = math.nan, math.nan, 0.0
        if direction is not None:
            self.slope, self.length = torch.stack(
                [start.flat @ direction.vector, torch.linalg.vector_norm(direction.vector)]
            ).tolist()
            if direction.negative_curvature and direction.curvature is not None:
                self.curvature = direction.curvature
        self._predicted = 0.0  # by the model, for the last of its steps
        self._evaluated: tuple[float | Tensor, Evaluation] | None = None
        self._place: float | Tensor | None = None  # where the parameters are; None: where they started

    @property
    def is_descent(self) -> bool:
        """Whether the loss falls along the direction, by its slope or by measured negative curvature."""
        if self.direction is None:
            return True  # a model's steps lead down by themselves
        if not (math.isfinite(self.slope) and math.isfinite(self.length)) or self.length == 0.0:
            return False
        return self.slope < 0.0 or (self.slope == 0.0 and self.curvature < 0.0)

    @property
    def shortest(self) -> float:
        """The step below which no parameter moves by more than its rounding; 0 where a zero is to move."""
        assert self.direction is not None
        places = vectors.flatten(self.origin).abs()
        farthest = (self.direction.vector.abs() / places).nan_to_num(nan=0.0, posinf=math.inf).amax().item()
        return 2.0 * torch.finfo(self.origin[0].dtype).eps / farthest if farthest > 0.0 else math.inf

    def value_at(self, t: float) -> float:
        """Return the loss at step t."""
        self._go(t)
        return self._value(t)

    def value_and_slope_at(self, t: float) -> tuple[float, float]:
        """Return the loss at step t and its derivative along the direction."""
        assert self.direction is not None
        self._go(t)
        evaluation = self.problem.evaluate()
        self._evaluated = t, evaluation
        vector = self.direction.vector
        if self._box is not None:  # what has run into a bound does not move any more
            vector = vector * self._box.moving(vectors.flatten(self.origin), vector, t)
        return evaluation.value, (evaluation.flat @ vector).item()

    def first_radius(self) -> float:
        """Return the radius to begin with, in the model's own norm."""
        assert self._model is not None
        return self._model.first_radius()

    def within(self, radius: float) -> ModelStep:
        """Return the model's best step no longer than the radius in its own norm."""
        assert self._model is not None
        if self._place is not None:  # a model may have to differentiate again where the step starts
            self.restore()
        found = self._model.within(radius)
        self._predicted = found.predicted
        return found

    def promised(self, multiple: float) -> float:
        """Return by how much the step that was taken was to lower the loss: by its slope, or by its model."""
        return self._predicted if self.direction is None else -multiple * self.slope

    def value_of(self, step: Tensor) -> float:
        """Return the loss after a flat step."""
        self._move(step, 1.0)
        return self._value(step)

    def settle(self, multiple: float, step: Tensor | None) -> Evaluation | None:
        """Leave the parameters where the search ended; return the evaluation there, where it is known."""
        if step is not None and self._place is not step:
            self._move(step, 1.0)
        elif step is None and not (isinstance(self._place, float) and self._place == multiple):
            self._go(multiple)
        if self._evaluated is None:
            return None
        place, evaluation = self._evaluated
        here = place is step if step is not None else isinstance(place, float) and place == multiple
        return evaluation if here else None

    def gain_of(self, found: SearchResult, value: float | None) -> float | None:
        """Return the decrease of the loss over that predicted by the direction's model, where both are known.

        A shortened step is measured against the whole one's predicted decrease: that it had to be shortened counts
        against the model.
        """
        curvature = None if self.direction is None else self.direction.model_curvature(self.slope)
        if found.gain is not None or value is None or curvature is None:
            return found.gain
        t = max(found.multiple, 1.0)
        predicted = -(t * self.slope + 0.5 * t * t * curvature)
        return gain_ratio(self.value - value, predicted, self.rounding)

    def restore(self) -> None:
        """Put the parameters back, to the last bit."""
        vectors.copy_(self.problem.parameters, self.origin)
        self._place = None

    def _value(self, place: float | Tensor) -> float:
        value, evaluation = self.problem.value()
        if evaluation is not None:
            self._evaluated = place, evaluation
        return value

    def _go(self, t: float) -> None:
        assert self.direction is not None
        if t == 1.0 and self.direction.endpoint is not None:
            vectors.copy_(self.problem.parameters, self.direction.endpoint)
        else:
            self._move(self.direction.vector, t)
        self._place = t

    def _move(self, step: Tensor, scale: float) -> None:
        parameters, self._place = self.problem.parameters, step
        vectors.copy_(parameters, self.origin)
        vectors.add_(parameters, vectors.split(step, parameters), scale=scale)
        if self._box is not None:
            self._box.project_(parameters)


def _versions(gradients: list[Tensor | None]) -> tuple[int, ...]:
    return tuple([-1 if gradient is None else gradient._version for gradient in gradients])


def checked_norm(norm: float, flat: Tensor) -> float:
    """Return the Euclidean norm of a vector, again where it is 0 or not finite: perhaps only its squares are."""
    if norm != 0.0 and math.isfinite(norm):
        return norm
    largest = flat.abs().amax().item() if flat.numel() else 0.0
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * torch.linalg.vector_norm(flat / largest).item()


def flatten_gradients(gradients: list[Tensor | None], parameters: list[Tensor]) -> Tensor:
    """Return one flat gradient, zeros for parameters that have none."""
    dense = [
        torch.zeros_like(parameter) if gradient is None else gradient.to_dense() if gradient.is_sparse else gradient
        for gradient, parameter in zip(gradients, parameters, strict=True)
    ]
    return vectors.flatten(dense).detach()
