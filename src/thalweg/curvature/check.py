"""Checks that refuse a wrong second derivative.

Several operations have a second derivative that is missing, and some have one that is silently wrong. Neither may
reach an eigenvalue or a Newton step. The reference is a difference of two *first* derivatives (or two predictions),
taken in float64 whatever the model's own type: in float32 the step would have to be so large that it steps over the
kinks of a ReLU network.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg import distributed, vectors
from thalweg.batch import Batch
from thalweg.curvature.culprit import CurvatureError
from thalweg.curvature.differentiable import uncompiled
from thalweg.objective import Objective
from thalweg.vectors import Vector

_TOLERANCES = {torch.float64: 1e-6, torch.float32: 2e-3}
_HALF_TOLERANCE = 5e-2
# Relative to the parameters. Small enough to meet few kinks; tried one after the other, with new directions.
_STEPS = (1e-7, 1e-8, 1e-6)
# For models that compute in float32 inside, whatever their type, as many language models' normalizations do.
_COARSE_STEPS = (1e-4, 1e-3, 1e-5)
_COARSE_TOLERANCE = 2e-2
_COARSE_NOISE = 4.0 * torch.finfo(torch.float32).eps
_LOOK = "Set check=False only to look at it."


def check_hessian(
    objective: Objective, parameters: Sequence[Tensor], product: Callable[[Vector], Vector], where: Callable[[], str]
) -> None:
    """Refuse a Hessian that is not symmetric, or is not the difference of two gradients."""
    name, error = "", 0.0
    for attempt, step, noise, tolerance in _attempts(objective, parameters):
        left, right = (_direction(parameters, 2 * attempt + i) for i in range(2))
        product_left, product_right = product(left), product(right)
        gap = abs(float(vectors.dot(left, product_right) - vectors.dot(right, product_left)))
        # For independent directions both sides are about this large.
        size = float(vectors.norm(left) * vectors.norm(product_right)) / sum(t.numel() for t in parameters) ** 0.5
        if not gap <= tolerance * size * 10.0 + 1e-30:
            raise CurvatureError(
                f"The Hessian of this model is not symmetric (by {gap / max(size, 1e-300):.1e} of its size), so its "
                f"second derivative is wrong{where()}. {_LOOK}"
            )
        up, down = (_gradient(objective, parameters, left, sign * step) for sign in (1.0, -1.0))
        difference = [(a - b) / (2.0 * step) for a, b in zip(up, down, strict=True)]
        rounding = noise / step * float(vectors.norm(up)) + 1e-30
        name, error = _worst(objective, parameters, product_left, difference, tolerance, rounding)
        if error == 0.0:
            return
    raise CurvatureError(
        f"A product with the Hessian differs from a difference of gradients by {error:.1e} of its size, most "
        f"in '{name}': a second derivative is wrong{where()}. {_LOOK}"
    )


def check_jacobian(
    objective: Objective,
    parameters: Sequence[Tensor],
    forward: Callable[[Vector], Sequence[Tensor]],
    backward: Callable[[Sequence[Tensor]], Vector],
    where: Callable[[], str],
) -> None:
    """Refuse a Jacobian of the predictions that is not the difference of two predictions, or has a wrong transpose.

    `forward` maps a vector v to J v, one tensor for each micro-batch, and `backward` such tensors u to J^T u.
    """
    error = 0.0
    for attempt, step, _, tolerance in _attempts(objective, parameters):
        direction = _direction(parameters, attempt)
        slopes = forward(direction)
        noise = _like(slopes, attempt)
        there, back = vectors.dot(noise, slopes), vectors.dot(backward(noise), direction)
        size = float(vectors.norm(noise) * vectors.norm(slopes)) / max(sum(t.numel() for t in noise), 1) ** 0.5
        if not abs(float(there - back)) <= tolerance * size * 10.0 + 1e-30:
            raise CurvatureError(
                "The Jacobian of this model and its transpose disagree by "
                f"{abs(float(there - back)) / max(size, 1e-300):.1e} of their size{where()}. {_LOOK}"
            )
        predictions = _difference_of_predictions(objective, parameters, direction, step)
        pairs = zip(slopes, predictions, _matters(objective), strict=True)
        rows = [(row * (slope.double() - other), row * other) for slope, other, row in pairs]
        gap, size = (vectors.norm([row[i] for row in rows]) for i in range(2))
        error = float(gap / size.clamp(min=1e-30))
        if error <= tolerance:
            return
    raise CurvatureError(
        f"The derivative of the predictions differs from a difference of predictions by {error:.1e} of its size"
        f"{where()}. {_LOOK}"
    )


def _attempts(objective: Objective, parameters: Sequence[Tensor]) -> Iterator[tuple[int, float, float, float]]:
    """Yield number, step, relative rounding error and tolerance of one comparison after another."""
    tolerance = max(_TOLERANCES.get(tensor.dtype, _HALF_TOLERANCE) for tensor in parameters)
    tolerance = tolerance if objective.autocast is None else _HALF_TOLERANCE
    for attempt, step in enumerate(_STEPS):
        yield attempt, step, 1e-14, tolerance
    if _is_coarse(objective, parameters):
        for attempt, step in enumerate(_COARSE_STEPS, len(_STEPS)):
            yield attempt, step, _COARSE_NOISE, max(tolerance, _COARSE_TOLERANCE)


def _worst(
    objective: Objective,
    parameters: Sequence[Tensor],
    product: Vector,
    reference: Vector,
    tolerance: float,
    rounding: float,
) -> tuple[str, float]:
    """Return the parameter where two vectors differ most, and by how much of its size: 0 where all agree."""
    names = {id(tensor): name for name, tensor in objective.named_parameters()}
    whole = float(vectors.norm(reference))
    worst = "", 0.0
    for parameter, ours, theirs in zip(parameters, product, reference, strict=True):
        gap = float((ours.double() - theirs).norm())
        size = max(float(theirs.norm()), 0.1 * whole)
        if not gap <= tolerance * size + rounding:
            relative = gap / max(size, 1e-300)
            relative = math.inf if math.isnan(relative) else relative
            worst = max(worst, (names[id(parameter)], relative), key=lambda mismatch: mismatch[1])
    return worst


def _is_coarse(objective: Objective, parameters: Sequence[Tensor]) -> bool:
    """Whether the model computes in less than float64 even in float64: gradients jump where they should be linear."""
    direction = _direction(parameters, 0)
    up, down, here = (_gradient(objective, parameters, direction, step) for step in (1e-9, -1e-9, 0.0))
    second = vectors.norm([a + b - 2.0 * c for a, b, c in zip(up, down, here, strict=True)])
    return bool(second > 1e-12 * vectors.norm(here))


def _difference_of_predictions(
    objective: Objective, parameters: Sequence[Tensor], direction: Vector, step: float
) -> list[Tensor]:
    sides = []
    with torch.no_grad(), uncompiled():
        for sign in (1.0, -1.0):
            place, _ = _moved(objective, parameters, direction, sign * step)
            batches = [doubled(batch) for batch in objective.batches]
            sides.append(objective.exchange(place, lambda batches=batches: [objective.prediction(b) for b in batches]))
    return [(a - b) / (2.0 * step) for a, b in zip(*sides, strict=True)]


@torch.no_grad()
def _matters(objective: Objective) -> list[Tensor]:
    """Return for each micro-batch 1 where a prediction has curvature, else 0, `[..., 1]`.

    Padding has none. An embedding's padding row has no gradient either, by PyTorch's design, and yet predictions at
    padded places move with it: there, and nowhere else, their difference is not their derivative.
    """
    rows = []
    with uncompiled():
        for batch in objective.batches:
            prediction = objective.prediction(batch)
            noise = _like([prediction], 0)[0]
            product = objective.head.curvature_product(prediction, batch.targets, batch.mask, noise, batch.weights)
            rows.append((product != 0).any(-1, keepdim=True).double())
    return rows


def _gradient(objective: Objective, parameters: Sequence[Tensor], direction: Vector, step: float) -> list[Tensor]:
    """Return the gradient at the parameters plus `step` times a direction, in float64."""
    objective.num_gradients += 1
    place, moved = _moved(objective, parameters, direction, step)

    def sums() -> list[Tensor]:
        total = [torch.zeros_like(tensor) for tensor in [*moved, moved[0].sum()]]
        for batch in objective.batches:
            loss, count = objective.sum_and_count(doubled(batch))
            parts = torch.autograd.grad(loss, moved, allow_unused=True) if loss.requires_grad else [None] * len(moved)
            parts = [*parts, count.detach()]
            total = [a if b is None else a + b.to_dense() for a, b in zip(total, parts, strict=True)]
        return total

    with torch.enable_grad(), uncompiled():
        *total, count = distributed.sum_over_ranks(objective.exchange(place, sums))
    count = objective.head.divisor(count)
    penalties = objective.penalties(parameters)
    return [a / count + penalty * b.detach() for a, b, penalty in zip(total, moved, penalties, strict=True)]


def _moved(
    objective: Objective, parameters: Sequence[Tensor], direction: Vector, step: float
) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Return all tensors of the model with what stands for them: in float64, some of them moved; and these alone."""
    moved = [
        (_double(parameter) + step * part.double()).requires_grad_()
        for parameter, part in zip(parameters, direction, strict=True)
    ]
    others = {id(parameter): other for parameter, other in zip(parameters, moved, strict=True)}
    every = [tensor for tensors in objective.every_tensor() for tensor in tensors]
    return [(t, others[id(t)] if id(t) in others else _double(t)) for t in every], moved


def doubled(batch: Batch) -> Batch:
    """Return the batch with its real numbers in float64."""
    inputs: dict[str, Any] = {n: _double(t) if isinstance(t, Tensor) else t for n, t in batch.inputs.items()}
    weights = None if batch.weights is None else _double(batch.weights)
    return Batch(inputs, _double(batch.targets), batch.mask, weights)


def _double(tensor: Tensor) -> Tensor:
    # A copy in any case: buffers may be written to.
    return tensor.detach().to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True)


def _direction(parameters: Sequence[Tensor], seed: int) -> list[Tensor]:
    """Return random numbers of each parameter's own size, so that one step suits all of them."""
    noise = _like(parameters, seed)
    total = max(sum(tensor.numel() for tensor in parameters), 1)
    every = float(vectors.norm([tensor.detach() for tensor in parameters])) / total**0.5 or 1.0
    sizes = [float(tensor.detach().norm()) / max(tensor.numel(), 1) ** 0.5 or every for tensor in parameters]
    return [size * part for size, part in zip(sizes, noise, strict=True)]


def _like(tensors: Sequence[Tensor], seed: int) -> list[Tensor]:
    # A generator of its own: checking must not change what the caller draws next.
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t) for t in tensors]
