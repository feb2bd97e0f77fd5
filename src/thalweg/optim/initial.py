"""What a quasi-Newton method may know of the curvature before its first pair."""

import dataclasses
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.curvature.diagonal import gauss_newton_diagonal
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.errors import require
from thalweg.objective import Objective
from thalweg.optim.base import Point, State
from thalweg.optim.lbfgs import AbstractInitial
from thalweg.optim.matrix import curvature_at


@final
@dataclasses.dataclass(frozen=True)
class InverseDiagonal(AbstractInitial):
    r"""The inverse diagonal of the damped Gauss-Newton matrix, $1 / (\operatorname{diag}(G) + \mu)$.

    For one more gradient at the beginning, the method no longer depends on how the inputs are scaled one by one.
    Needs an objective.

    Args:
        damping: mu as a fraction of the largest entry of the diagonal, positive. For a convex loss the smaller the
            better; for networks 0.1 is safer, because units that hardly react would get steps that saturate them.
        refresh: after how many pairs it is rebuilt, at least 1; None: only after a restart.

    Raises:
        ValueError: an argument out of range; in a step: there is no objective.

    Example:
        >>> InverseDiagonal(refresh=50).refresh
        50

    See `gauss_newton_diagonal` for where the diagonal is exact. To be used with a line search. `AutomaticInitial` takes
    it by itself where it is known to help.
    """

    damping: float = 1e-6
    refresh: int | None = None

    def __post_init__(self) -> None:
        _check(self.damping, self.refresh, "InverseDiagonal")

    @override
    def inverse(self, point: Point, state: State) -> Tensor | None:
        diagonal = gauss_newton_diagonal(_objective(point, "InverseDiagonal"), point.parameters)
        scale = diagonal.amax().item()
        return 1.0 / (diagonal + self.damping * scale) if 0.0 < scale < float("inf") else None


@final
@dataclasses.dataclass(frozen=True)
class InverseGaussNewton(AbstractInitial):
    r"""The inverse of the damped Gauss-Newton matrix, $(G + \mu I)^{-1}$.

    One dense matrix at the beginning spares about as many steps as there are parameters, which the pairs would need to
    find all of the curvature. Requires an objective.

    Args:
        damping: mu as a fraction of the largest diagonal entry of G, positive.
        refresh: after how many pairs it is rebuilt, at least 1; None: only after a restart.

    Raises:
        ValueError: an argument out of range; in a step: there is no objective.

    Example:
        >>> InverseGaussNewton(refresh=20).damping
        0.001

    Not above some thousands of parameters: `InverseDiagonal`.
    """

    damping: float = 1e-3
    refresh: int | None = None

    def __post_init__(self) -> None:
        _check(self.damping, self.refresh, "InverseGaussNewton")

    @override
    def inverse(self, point: Point, state: State) -> Tensor | None:
        _objective(point, "InverseGaussNewton")
        matrix = curvature_at(GaussNewton, point, state).dense()
        scale = matrix.diagonal().amax()
        matrix.diagonal().add_(self.damping * scale)
        factor, info = torch.linalg.cholesky_ex(matrix)
        if not bool((info == 0) & (scale > 0.0) & torch.isfinite(factor).all()):
            return None
        # In the order in which it would be saved and loaded, so that a resumed run multiplies to the same bits.
        return torch.cholesky_inverse(factor).contiguous()


def _objective(point: Point, name: str) -> Objective:
    if point.objective is None:
        raise ValueError(
            f"{name} needs second derivatives: step(objective) with a thalweg.objective.Objective; got another "
            "closure. Without an objective use ScaledIdentity()."
        )
    return point.objective


def _check(damping: float, refresh: int | None, name: str) -> None:
    require(damping > 0.0, f"{name}(damping=...) must be positive", damping)
    if refresh is not None:
        require(refresh >= 1, f"{name}(refresh=...) must be at least 1", refresh)
