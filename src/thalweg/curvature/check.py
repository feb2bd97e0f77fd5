"""Checks that refuse a wrong second derivative.

Several operations have a second derivative that is missing, and some have one that is silently wrong. Neither may
reach an eigenvalue or a Newton step. The reference is a difference of two *first* derivatives (or two predictions),
and of two values, taken in float64 whatever the model's own type. The formulas are compared with it there, and what
the matrix gives in its own type is compared with the formulas.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, final

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.curvature.agreement import (
    DOUBLE,
    SINGLE,
    Agreement,
    Verdict,
    compare,
    directions,
    scales,
    settled,
)
from thalweg.curvature.culprit import UNCHECKED, CurvatureError, UncheckedWarning
from thalweg.curvature.precise import Nearby
from thalweg.objective import Objective
from thalweg.vectors import Vector

_TOLERANCES = {torch.float64: 1e-5, torch.float32: 2e-3}
_HALF_TOLERANCE = 5e-2
# How far from the parameters, relative to them, the formulas are looked at: exactly there a number may lie on a kink.
_OFFSETS = (0.0, 1e-4, 1e-3, 1e-2)
Result = TypeVar("Result")
_LOOK = "Set check=False only to look at it."


def check_hessian(
    objective: Objective,
    parameters: Sequence[Tensor],
    frozen: Sequence[Tensor | None],
    product: Callable[[Vector], Vector],
    where: Callable[[int], str],
) -> None:
    """Refuse a Hessian that is not the difference of two gradients, or whose gradient is not that of two values.

    What is `frozen` does not move.
    """
    place = _Place(objective, parameters, frozen)
    names = {id(tensor): name for name, tensor in objective.named_parameters()}
    own = product(place.vector(0))
    exact = place.if_possible(lambda near: near.hessian_product(place.shift(0), place.direction(0)))

    def exactly(attempt: int) -> tuple[Tensor, list[Tensor], Vector]:
        if exact is None:
            return *place.nearby.value_and_gradient(place.shift(attempt)), product(place.vector(attempt))
        return exact if attempt == 0 else place.nearby.hessian_product(place.shift(attempt), place.direction(attempt))

    def attempts() -> Iterator[Agreement]:
        for attempt in range(len(_OFFSETS)):
            shift, direction = place.shift(attempt), place.direction(attempt)
            value, gradient, second = exactly(attempt)
            along = sum(float((g * v).sum()) for g, v in zip(gradient, direction, strict=True))
            size = max(float(vectors.norm(place.scaled(gradient))), 1e-300)

            def difference(
                step: float, shift: Vector = shift, direction: Vector = direction, size: float = size
            ) -> list[Tensor]:
                (high, up), (low, down) = (
                    place.nearby.value_and_gradient(_moved(shift, direction, sign * step)) for sign in (1.0, -1.0)
                )
                parts = [(a - b) / (2.0 * step) for a, b in zip(up, down, strict=True)]
                return [*place.scaled(parts), ((high - low) / (2.0 * step)).double().reshape(1) / size]

            first = torch.tensor([along / size], dtype=torch.float64, device=second[0].device)
            noise = [10.0 * place.eps * float(part.norm()) for part in place.scaled(gradient)]
            noise.append(100.0 * place.eps * abs(float(value)) / size)
            yield compare([*place.scaled(second), first], difference, place.precision, noise, alone=1)

    verdict, worst, error = settled(attempts())
    if verdict is Verdict.WRONG and worst == len(parameters):
        raise CurvatureError(
            f"The derivative of the loss differs from a difference of losses by {error:.1e} of its size, so a first "
            f"derivative is wrong{where(1) or where(2)}. {_LOOK}"
        )
    if verdict is Verdict.WRONG:
        raise CurvatureError(
            f"A product with the Hessian differs from a difference of gradients by {error:.1e} of its size, most "
            f"in '{names[id(parameters[worst])]}': a second derivative is wrong{where(2)}. {_LOOK}"
        )
    if verdict is Verdict.UNCLEAR:
        _tell()
    worst, error = (0, 0.0) if exact is None else place.differs(own, exact[2], exact[1])
    if error:
        raise CurvatureError(
            f"A product with the Hessian differs in its own type from one in float64 by {error:.1e} of its size, most "
            f"in '{names[id(parameters[worst])]}': a second derivative is wrong{where(2)}. {_LOOK}"
        )


def check_jacobian(
    objective: Objective,
    parameters: Sequence[Tensor],
    frozen: Sequence[Tensor | None],
    predictions: Sequence[Tensor],
    forward: Callable[[Vector], Sequence[Tensor]],
    backward: Callable[[Sequence[Tensor]], Vector],
    where: Callable[[int], str],
) -> None:
    """Refuse a Jacobian of the predictions that is not the difference of two predictions, or has a wrong transpose.

    `forward` maps a vector v to J v, one tensor for each micro-batch, and `backward` such tensors u to J^T u. What is
    `frozen` does not move; `predictions` are those at the parameters.
    """
    place = _Place(objective, parameters, frozen)
    direction = place.vector(0)
    slopes = forward(direction)
    noise = [_random(slope) for slope in slopes]
    there, back = vectors.dot(noise, slopes), vectors.dot(backward(noise), direction)
    size = float(vectors.norm(noise) * vectors.norm(slopes)) / max(sum(t.numel() for t in noise), 1) ** 0.5
    if not abs(float(there - back)) <= 10.0 * place.tolerance * size + 1e-30:
        raise CurvatureError(
            "The Jacobian of this model and its transpose disagree by "
            f"{abs(float(there - back)) / max(size, 1e-300):.1e} of their size{where(2)}. {_LOOK}"
        )
    rows = _matters(objective, predictions)

    def counted(tensors: Sequence[Tensor]) -> list[Tensor]:
        return [torch.where(row, tensor.double(), 0.0) for row, tensor in zip(rows, tensors, strict=True)]

    exact = place.if_possible(lambda near: near.jacobian_product(place.shift(0), place.direction(0)))

    def exactly(attempt: int) -> Sequence[Tensor]:
        if exact is None:
            return forward(place.vector(attempt))
        return exact if attempt == 0 else place.nearby.jacobian_product(place.shift(attempt), place.direction(attempt))

    def attempts() -> Iterator[Agreement]:
        for attempt in range(len(_OFFSETS)):
            shift, direction = place.shift(attempt), place.direction(attempt)
            product = counted(exactly(attempt))

            def difference(step: float, shift: Vector = shift, direction: Vector = direction) -> list[Tensor]:
                up, down = (place.nearby.predictions(_moved(shift, direction, sign * step)) for sign in (1.0, -1.0))
                parts = counted([a.double() - b.double() for a, b in zip(up, down, strict=True)])
                return [part / (2.0 * step) for part in parts]

            sizes = [100.0 * place.eps * float(part.norm()) for part in counted(predictions)]
            yield compare(product, difference, place.precision, sizes)

    verdict, _, error = settled(attempts())
    if verdict is Verdict.WRONG:
        raise CurvatureError(
            f"The derivative of the predictions differs from a difference of predictions by {error:.1e} of its size"
            f"{where(1) or where(2)}. {_LOOK}"
        )
    if verdict is Verdict.UNCLEAR:
        _tell()
    if exact is None:
        return
    gap = [a - b for a, b in zip(counted(slopes), counted(exact), strict=True)]
    error = float(vectors.norm(gap) / vectors.norm(counted(exact)).clamp(min=1e-300))
    if not (error <= place.tolerance or error <= place.own_error()):
        raise CurvatureError(
            f"The derivative of the predictions differs in its own type from one in float64 by {error:.1e} of its size"
            f"{where(1) or where(2)}. {_LOOK}"
        )


@final
class _Place:
    """Where and along what an objective is looked at, and how precisely that can be done."""

    def __init__(self, objective: Objective, parameters: Sequence[Tensor], frozen: Sequence[Tensor | None]) -> None:
        self._objective, self._parameters, self._frozen = objective, list(parameters), frozen
        tolerance = max(_TOLERANCES.get(tensor.dtype, _HALF_TOLERANCE) for tensor in parameters)
        self.tolerance = tolerance if objective.autocast is None else _HALF_TOLERANCE
        self.nearby, self.precision, self.eps = Nearby(objective, parameters), DOUBLE, torch.finfo(torch.float64).eps
        self._scales = scales(parameters)
        self._offsets = _OFFSETS
        self._directions: dict[int, list[Tensor]] = {}

    def if_possible(self, evaluate: Callable[[Nearby], Result]) -> Result | None:
        """Return a product by the plain formula, in float64 or else in the types that the parameters have.

        None if the formula is missing, or takes too much memory. Then differences are compared with products of the
        matrix itself, which are known at the parameters only.
        """
        with contextlib.suppress(Exception):
            return evaluate(self.nearby)
        with contextlib.suppress(Exception):
            # What it computes with inside is fixed to another type than float64.
            nearby = Nearby(self._objective, self._parameters, double=False)
            result = evaluate(nearby)
            self.nearby, self.precision = nearby, SINGLE
            self.eps = max(torch.finfo(tensor.dtype).eps for tensor in self._parameters)
            return result
        self._offsets = (0.0,) * len(_OFFSETS)
        self.precision = self.precision._replace(tolerance=max(self.precision.tolerance, self.tolerance))
        return None

    def direction(self, attempt: int) -> list[Tensor]:
        """Return a random direction, float64."""
        if attempt not in self._directions:
            self._directions[attempt] = directions(self._parameters, self._scales, self._frozen, 2 * attempt)
        return self._directions[attempt]

    def vector(self, attempt: int) -> list[Tensor]:
        """Return the same direction in the types of the parameters."""
        return [part.to(tensor) for part, tensor in zip(self.direction(attempt), self._parameters, strict=True)]

    def shift(self, attempt: int) -> list[Tensor]:
        """Return how far from the parameters it is looked at, float64."""
        if not self._offsets[attempt]:
            return [torch.zeros((), dtype=torch.float64, device=tensor.device) for tensor in self._parameters]
        parts = directions(self._parameters, self._scales, self._frozen, 2 * attempt + 1)
        return [self._offsets[attempt] * part for part in parts]

    def scaled(self, gradient: Vector) -> list[Tensor]:
        """Return a gradient in units of the parameters' own sizes, float64."""
        return [size * part.double() for size, part in zip(self._scales, gradient, strict=True)]

    def differs(self, own: Vector, exact: Vector, gradient: Vector) -> tuple[int, float]:
        """Return where a product in the objective's own type is off by too much, and by how much; or an error of 0."""
        ours, theirs = self.scaled(own), self.scaled(exact)
        whole = float(vectors.norm(theirs))
        worst, allowed = (0, 0.0), None
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            size = max(float(b.norm()), 0.1 * whole)
            error = float((a - b).norm()) / max(size, 1e-300)
            if error <= self.tolerance or size == 0.0:
                continue
            allowed = self.own_error(gradient) if allowed is None else allowed
            if not error <= allowed:
                worst = max(worst, (i, math.inf if math.isnan(error) else error), key=lambda pair: pair[1])
        return worst

    def own_error(self, exact: Vector | None = None) -> float:
        """Return how far off derivatives may be because the objective's own type cannot resolve its gradient."""
        wide = self.nearby.value_and_gradient(self.shift(0))[1] if exact is None else exact
        narrow = Nearby(self._objective, self._parameters, double=False).value_and_gradient(self.shift(0))[1]
        gap = vectors.norm(self.scaled([a.double() - b.double() for a, b in zip(narrow, wide, strict=True)]))
        return 100.0 * float(gap / vectors.norm(self.scaled(wide)).clamp(min=1e-300))


@torch.no_grad()
def _matters(objective: Objective, predictions: Sequence[Tensor]) -> list[Tensor]:
    """Return for each micro-batch where a prediction has curvature, `[..., 1]`; padding has none."""
    rows = []
    for batch, prediction in zip(objective.batches, predictions, strict=True):
        noise = _random(prediction)
        product = objective.head.curvature_product(prediction, batch.targets, batch.mask, noise, batch.weights)
        rows.append((product != 0).any(-1, keepdim=True))
    return rows


def _moved(shift: Vector, direction: Vector, step: float) -> list[Tensor]:
    return [place + step * part for place, part in zip(shift, direction, strict=True)]


def _random(like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)


def _tell() -> None:
    warnings.warn(f"{UNCHECKED} They are used unchecked.", UncheckedWarning, stacklevel=2)
