"""Bounds on parameters: the box that steps stay in, and which of them it holds back."""

from typing import Any, final

import torch
from torch import Tensor

from thalweg import vectors


@final
class Box:
    """Lowest and highest values of the parameters, flat `[n]`, infinite where there are none."""

    def __init__(self, lower: Tensor, upper: Tensor) -> None:
        self.lower, self.upper = lower, upper

    def project_(self, parameters: list[Tensor]) -> None:
        """Move the parameters to the nearest place in the box; those inside stay as they are, to the last bit."""
        for tensor, low, high in zip(parameters, *(vectors.split(b, parameters) for b in self._sides), strict=True):
            torch.clamp(tensor, low, high, out=tensor)

    def free(self, place: Tensor, gradient: Tensor) -> Tensor:
        """Return 1 where a step against the gradient can be taken, 0 at a bound that it would only run into."""
        held = ((place <= self.lower) & (gradient > 0.0)) | ((place >= self.upper) & (gradient < 0.0))
        return (~held).to(gradient.dtype)

    def inward(self, place: Tensor, vector: Tensor) -> Tensor:
        """Return a direction without what would leave the box at once."""
        leaves = ((place <= self.lower) & (vector < 0.0)) | ((place >= self.upper) & (vector > 0.0))
        return torch.where(leaves, 0.0, vector)

    def moving(self, place: Tensor, vector: Tensor, t: float) -> Tensor:
        """Return 1 where a step of t along a direction has not yet run into a bound, else 0."""
        end = torch.add(place, vector, alpha=t)
        return ((end > self.lower) & (end < self.upper)).to(vector.dtype)

    @property
    def _sides(self) -> tuple[Tensor, Tensor]:
        return self.lower, self.upper


def box_of(groups: list[dict[str, Any]], parameters: list[Tensor]) -> Box | None:
    """Return the box that the groups' entries `lower` and `upper` describe; None where no group has any."""
    if all(group.get("lower") is None and group.get("upper") is None for group in groups):
        return None
    entries = {id(parameter): group for group in groups for parameter in group["params"]}
    sides = [
        [_side(entries[id(parameter)].get(name), parameter, default) for parameter in parameters]
        for name, default in (("lower", -torch.inf), ("upper", torch.inf))
    ]
    return Box(*(vectors.flatten(side) for side in sides))


def check_bounds(group: dict[str, Any]) -> None:
    """Refuse a group whose bounds have other shapes than its parameters, are no numbers, or leave no room."""
    for parameter in group["params"]:
        try:
            low, high = (_side(group.get(n), parameter, d) for n, d in (("lower", -torch.inf), ("upper", torch.inf)))
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                "A group's bounds 'lower' and 'upper' are numbers, or tensors that fit each of its parameters "
                f"{list(parameter.shape)}; got {group.get('lower')!r} and {group.get('upper')!r}."
            ) from error
        if not bool((low <= high).all()) or bool((low == torch.inf).any()) or bool((high == -torch.inf).any()):
            raise ValueError(
                "A group's bounds need lower <= upper with room for a finite number between them; got "
                f"{group.get('lower')!r} and {group.get('upper')!r}."
            )


def _side(value: object, parameter: Tensor, default: float) -> Tensor:
    side = torch.as_tensor(default if value is None else value, dtype=parameter.dtype, device=parameter.device)
    return side.expand(parameter.shape)
