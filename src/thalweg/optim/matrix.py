"""Curvature matrices at the point where a step starts."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from thalweg.curvature.operators import require_memory
from thalweg.curvature.point import AbstractCurvature
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, Point, State, name_of

ESCAPE_FRACTION = 0.01  # how far a step out of a saddle goes, relative to the parameters' size
CAUCHY_LENGTHS = 10.0  # a trust region's first radius, in lengths of the best step along steepest descent


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


def running_scale(state: State, diagonal: Tensor, *, least: float = 0.0) -> Tensor:
    r"""Return a unit for each parameter: $\max_k \sqrt{|B_k|_{ii}}$ over the steps so far.

    What is done in parameters multiplied by it does not depend on the units they came in. The maximum keeps a ball from
    growing along parameters whose curvature vanishes. Where it is zero, so that the loss has never depended on a
    parameter, the unit is the largest of all, and the parameter stays where it is.

    Args:
        state: the direction's memory, which keeps the maximum.
        diagonal: of the curvature matrix, `[n]`.
        least: part of the largest entry that counts as zero.

    Source: More, "The Levenberg-Marquardt algorithm: implementation and theory" (1978).
    """
    largest = diagonal.abs()
    if "scale" in state:
        largest = torch.maximum(largest, state["scale"])
    state["scale"] = largest
    top = largest.amax()
    known = torch.where(largest > least * top, largest, top)
    return torch.where(known > 0.0, known, 1.0).sqrt()


def cauchy_radius(slope: float, curvature: float) -> float:
    """Return a first radius from `g'd` and `d'Bd` along steepest descent d of length 1: a few times the best step."""
    radius = CAUCHY_LENGTHS * slope / abs(curvature) if curvature != 0.0 else 1.0
    return radius if 0.0 < radius < math.inf else 1.0
