"""Curvature matrices at the point where a step starts."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from thalweg.curvature.operators import require_memory
from thalweg.curvature.point import AbstractCurvature
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, Point, State, name_of

ESCAPE_FRACTION = 0.01  # how far a step out of a saddle goes, relative to the parameters' size


class CurvatureFactory(Protocol):
    """Makes a curvature matrix of an objective at the present point: `Hessian`, `GaussNewton`."""

    def __call__(self, objective: Objective, parameters: Sequence[Tensor], *, check: bool) -> AbstractCurvature:
        """Return the matrix over the parameters given."""
        ...


def curvature_at(factory: CurvatureFactory, point: Point, state: State) -> AbstractCurvature:
    """Return the curvature at a point over the optimizer's parameters; it checks itself at the first step only."""
    assert point.objective is not None
    matrix = factory(point.objective, point.parameters, check=not state.get("checked", False))
    state["checked"] = True
    return matrix


def require_room(
    direction: AbstractDirection, shape: tuple[int, int], vector: Tensor, max_bytes: float, instead: str, copies: int
) -> None:
    """Refuse a method whose dense matrices, of the type of `vector`, would take more memory than allowed."""
    instead += "; as options, --optimizer newton-cg or --optimizer lbfgs --line-search wolfe"
    require_memory(name_of(direction), *shape, vector.dtype, max_bytes, instead, copies=copies)


def size_of(point: Point) -> Tensor:
    """Return the Euclidean norm of all parameters together."""
    return torch.stack([parameter.detach().norm() for parameter in point.parameters]).norm()
