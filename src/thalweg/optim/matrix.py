"""Curvature matrices at the point where a step starts."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from thalweg.curvature.point import AbstractCurvature
from thalweg.objective import Objective
from thalweg.optim.base import Point, State


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
