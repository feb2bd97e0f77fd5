"""Sophia: averaged gradients over an averaged diagonal of the curvature, clipped entry by entry."""

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.curvature.diagonal import gauss_newton_diagonal
from thalweg.curvature.hessian import Hessian
from thalweg.errors import require
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, Groups, Point, Requires, SearchDirection, State


@final
@dataclasses.dataclass(frozen=True)
class Sophia(AbstractDirection):
    r"""The averaged gradient m divided by an averaged diagonal h of the curvature, no entry longer than 1.

    $$m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad h \leftarrow \beta_2 h + (1 - \beta_2) \hat h, \qquad
      d = -\operatorname{clip}\left(\frac{m}{\max(\rho h, \epsilon)}, 1\right)$$

    with $\hat h$, every `every` steps, the diagonal of the Gauss-Newton matrix of the step's batch through the head's
    own root (the published label sampling, for every head, with less noise), or of the Hessian, by random signs. Where
    the curvature is small, or negative, the step is that of the sign of m; the groups' `lr` is how far that goes.

    Args:
        momentum: beta_1, in [0, 1).
        decay: beta_2, in [0, 1).
        rho: how much h counts, positive: the smaller, the more entries are clipped.
        every: steps between estimates of the diagonal, at least 1.
        hessian: estimate the diagonal of the Hessian (two more gradients each time) in place of Gauss-Newton's.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> from thalweg.objective import Objective
        >>> from thalweg.optim.descent import Descent
        >>> from thalweg.optim.line_search import Fixed
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(2, 1)
        >>> objective = Objective(model, torch.nn.MSELoss(), torch.eye(2), torch.ones(2, 1))
        >>> optimizer = Descent(model.parameters(), Sophia(), Fixed(0.02))
        >>> for _ in range(300):
        ...     loss = optimizer.step(objective)
        >>> bool(loss < 1e-2)
        True

    Source: Liu, Li, Hall, Liang, Ma, "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model
    Pre-training" (2023), where h is this one over the number of targets.

    With a diagonal only, it cannot turn the gradient: `KFAC` can. Not with a line search: the clipped step is no
    minimum of a model, and its length is chosen by `lr`.
    """

    momentum: float = 0.96
    decay: float = 0.99
    rho: float = 0.04
    every: int = 10
    hessian: bool = False
    requires: ClassVar[Requires] = Requires.GRADIENT | Requires.CURVATURE
    has_model: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("momentum", "decay"):
            require(0.0 <= getattr(self, name) < 1.0, f"Sophia({name}=...) must lie in [0, 1)", getattr(self, name))
        require(self.rho > 0.0, "Sophia(rho=...) must be positive", self.rho)
        require(self.every >= 1, "Sophia(every=...) must be at least 1", self.every)

    @override
    def start(self, groups: Groups) -> State:
        return {"num_steps": 0, "average": None, "diagonal": None}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        assert point.objective is not None
        step, average = state["num_steps"], state["average"]
        if step % self.every == 0:
            found = self._diagonal(point.objective, point.parameters, step)
            state["diagonal"] = found if state["diagonal"] is None else state["diagonal"].lerp(found, 1.0 - self.decay)
        average = point.clipped.clone() if average is None else average.lerp(point.clipped, 1.0 - self.momentum)
        state.update(num_steps=step + 1, average=average)
        curvature = (self.rho * state["diagonal"]).clamp(min=torch.finfo(average.dtype).tiny)
        return SearchDirection(-(average / curvature).clamp(-1.0, 1.0))

    def _diagonal(self, objective: Objective, parameters: list[Tensor], seed: int) -> Tensor:
        if not self.hessian:
            return gauss_newton_diagonal(objective, parameters, seed=seed)
        operator = Hessian(objective, parameters, check=False)
        signs = torch.randint(0, 2, (operator.size,), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
        vector = signs.to(dtype=operator.dtype, device=operator.device) * 2.0 - 1.0
        return vector * (operator @ vector)
