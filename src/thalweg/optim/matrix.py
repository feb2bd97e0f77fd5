"""Curvature matrices of a step's objective, in the order of the optimizer's own parameters."""

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from thalweg.curvature.operators import AbstractOperator
from thalweg.curvature.point import AbstractCurvature
from thalweg.objective import Objective
from thalweg.optim.base import Point, State
from thalweg.vectors import Vector


class CurvatureFactory(Protocol):
    """Makes a curvature matrix of an objective at the present point: `Hessian`, `GaussNewton`."""

    def __call__(self, objective: Objective, parameters: Sequence[Tensor], *, check: bool) -> AbstractCurvature:
        """Return the matrix over the parameters given."""
        ...


@final
class Reordered(AbstractOperator):
    """A curvature matrix with its rows and columns in another order of the same tensors.

    Args:
        matrix: over the same tensors.
        parameters: the order wanted.
    """

    def __init__(self, matrix: AbstractCurvature, parameters: Sequence[Tensor]) -> None:
        self._matrix, self._like = matrix, list(parameters)
        places = {id(tensor): place for place, tensor in enumerate(self._like)}
        self._there = [places[id(tensor)] for tensor in matrix.like]
        back = {place: inner for inner, place in enumerate(self._there)}
        self._back = [back[place] for place in range(len(self._like))]

    @property
    def like(self) -> list[Tensor]:
        """The parameters in the order wanted."""
        return self._like

    @property
    def columns_at_once(self) -> int:
        """As the matrix itself."""
        return self._matrix.columns_at_once

    def product(self, vector: Vector) -> list[Tensor]:
        """Return the matrix times one vector."""
        result = self._matrix.product([vector[place] for place in self._there])
        return [result[inner] for inner in self._back]

    def products(self, stacks: Vector) -> list[Tensor]:
        """Return the matrix times `k` vectors."""
        result = self._matrix.products([stacks[place] for place in self._there])
        return [result[inner] for inner in self._back]

    def _dense(self) -> Tensor:
        dense = self._matrix.dense()
        sizes = [tensor.numel() for tensor in self._matrix.like]
        parts = torch.arange(sum(sizes), device=dense.device).split(sizes)
        order = torch.cat([parts[inner] for inner in self._back])
        return dense[order][:, order]


def curvature_at(factory: CurvatureFactory, point: Point, state: State) -> AbstractOperator:
    """Return the curvature at a point over the optimizer's parameters; it checks itself at the first step only.

    Args:
        factory: `Hessian` or `GaussNewton`.
        point: with an objective.
        state: the direction's memory; notes that the check was made.
    """
    assert point.objective is not None
    matrix = factory(point.objective, point.parameters, check=not state.get("checked", False))
    state["checked"] = True
    in_order = all(a is b for a, b in zip(matrix.like, point.parameters, strict=True))
    return matrix if in_order else Reordered(matrix, point.parameters)
