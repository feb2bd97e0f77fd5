"""Search directions under the groups' rates and the limit of an update."""

from typing import Any

import torch
from torch import Tensor

from thalweg import vectors
from thalweg.optim.base import SearchDirection


def factor_of(groups: list[dict[str, Any]]) -> float | Tensor:
    """Return the groups' rates: one number where they are equal, else one an entry of the flat vector."""
    rates = [float(group["lr"]) for group in groups]
    if len(set(rates)) == 1:
        return rates[0]
    by_parameter = {id(p): rate for rate, group in zip(rates, groups, strict=True) for p in group["params"]}
    parameters = vectors.trainable(parameter for group in groups for parameter in group["params"])
    return vectors.flatten([torch.full_like(parameter, by_parameter[id(parameter)]) for parameter in parameters])


def schedule_of(groups: list[dict[str, Any]]) -> float:
    """Return the rates over their peak that a schedule has set, in (0, 1]: of the group that is nearest to its own."""
    peaks = [(float(group["lr"]), float(group.get("max_lr", group.get("initial_lr", group["lr"])))) for group in groups]
    shares = [rate / peak for rate, peak in peaks if rate > 0.0 and peak > 0.0]
    return min(max(shares, default=1.0), 1.0)


def scaled(direction: SearchDirection, factor: float | Tensor) -> SearchDirection:
    """Return a direction multiplied by the groups' rates; one that was turned by them has no model any more."""
    if isinstance(factor, float) and factor == 1.0:
        return direction
    curvature = None
    if direction.curvature is not None and isinstance(factor, float):
        curvature = factor * factor * direction.curvature
    negative = direction.negative_curvature and curvature is not None
    return SearchDirection(factor * direction.vector, direction.well_scaled, curvature, negative_curvature=negative)


def clamped(direction: SearchDirection, origin: list[Tensor], limit: float, gradient: Tensor) -> SearchDirection:
    """Return a direction of which no entry moves farther than the limit from where it starts.

    Where cutting its longest entries would turn it uphill, it is shortened as a whole.
    """
    vector, endpoint = direction.vector.clamp(-limit, limit), direction.endpoint
    if endpoint is None and bool((gradient @ vector >= 0.0) & (gradient @ direction.vector < 0.0)):
        vector = direction.vector * (limit / direction.vector.abs().max())
    if endpoint is not None:
        endpoint = [torch.clamp(end, old - limit, old + limit) for end, old in zip(endpoint, origin, strict=True)]
    return SearchDirection(vector, direction.well_scaled, endpoint=endpoint)
