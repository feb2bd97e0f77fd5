"""Newton's method for linear models as a `torch.optim.Optimizer` that knows how far from the best possible it is."""

import dataclasses
from typing import Any, final

from torch import Tensor
from typing_extensions import override

from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.polish import convex_point
from thalweg.certificates.ridge.newton import RidgeState, start, step
from thalweg.certificates.ridge.problem import linear_problem, weights_of
from thalweg.certificates.solver import AbstractSolver
from thalweg.objective import Objective
from thalweg.status import Status


@final
class LinearNewton(AbstractSolver):
    """Trains a linear model of features to its certified global optimum.

    `step(objective)` takes one truncated Newton step, the first one from zero weights where those are better than the
    weights it finds. The problem is convex and the loss never rises. After each step `relative_gap` says how far the
    loss may be above the global optimum.

    Args:
        params: all parameters of model and head.

    Attributes:
        status: how the last step ended; `Status.RUNNING` before the first.
        relative_gap: of the weights as they are now, as a fraction of the loss; None before the first step.
        bound: the lower bound of the loss that goes with it.

    Example:
        >>> import torch
        >>> from thalweg.heads.softmax import Softmax
        >>> from thalweg.models.bag import LinearBag
        >>> model, head = LinearBag(4, 2).double(), Softmax(None, 2)
        >>> inputs = {"tokens": torch.arange(4), "offsets": torch.arange(4)}
        >>> objective = Objective(model, head, inputs, torch.tensor([0, 1, 0, 1]), l2=0.01)
        >>> optimizer = LinearNewton(model.parameters())
        >>> for _ in range(6):
        ...     loss = optimizer.step(objective)
        >>> optimizer.relative_gap < 1e-4
        True

    When not to use it: for models with a layer on the features, without L2 in the loss, on mini-batches, or where
    features times outputs do not fit into memory.
    """

    name = "linear-newton"

    @override
    def _problem_of(self, objective: Objective) -> Head:
        return linear_problem(objective)

    @override
    def _tensors_of(self, objective: Objective) -> tuple[Tensor, ...]:
        return weights_of(objective)

    @override
    def _gradients(self, problem: Head, point: HeadPoint) -> tuple[Tensor, ...]:
        convex = convex_point(problem, point)
        return convex.slope, convex.slope_bias

    @override
    def _weights(self, point: HeadPoint) -> tuple[Tensor, ...]:
        return point.weight, point.bias

    @override
    def _move(self, problem: Head, point: HeadPoint, memory: dict[str, Any]) -> tuple[HeadPoint, Status]:
        state = RidgeState(**memory) if memory else RidgeState()
        if not state.steps:
            first = start(problem)
            point = first if first.total < point.total else point
        new, status = step(problem, point, state)
        memory.update(dataclasses.asdict(state))
        return new, status
