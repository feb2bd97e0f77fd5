"""Newton's method for bags as a `torch.optim.Optimizer` that knows how far from the best possible it is."""

import dataclasses
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.certificates.factored.bags import factored_problem, factors_of
from thalweg.certificates.factored.newton import NewtonState, step
from thalweg.certificates.factored.problem import Factored, FactoredPoint
from thalweg.certificates.factored.start import start
from thalweg.certificates.solver import AbstractSolver
from thalweg.objective import Objective
from thalweg.status import Status


@final
class FactoredNewton(AbstractSolver):
    """Trains an embedding bag under a linear head to its certified global optimum.

    `step(objective)` takes one step: the first goes to the best point on a proximal step from zero, where that is
    better than the weights it finds; the next ones are Newton steps in the embeddings, then in all weights at once.
    The loss never rises. After each step `relative_gap` says how far the loss may be above the global optimum, over
    all widths.

    Everything is computed in float64.

    Args:
        params: all parameters of model and head.

    Attributes:
        status: how the last step ended; `Status.RUNNING` before the first.
        relative_gap: of the weights as they are now, as a fraction of the loss; None before the first step.
        bound: the lower bound of the loss that goes with it.

    Example:
        >>> from thalweg.heads.softmax import Softmax
        >>> from thalweg.models.bag import Bag
        >>> model, head = Bag(4, 2).double(), Softmax(2, 2).double()
        >>> inputs = {"tokens": torch.arange(4), "offsets": torch.arange(4)}
        >>> objective = Objective(model, head, inputs, torch.tensor([0, 1, 0, 1]), l2=0.01)
        >>> optimizer = FactoredNewton([*model.parameters(), *head.parameters()])
        >>> for _ in range(12):
        ...     loss = optimizer.step(objective)
        >>> optimizer.relative_gap < 1e-4
        True

    When not to use it: for models with a network on the bag, with dropout, without L2 in the loss, on mini-batches, or
    where features times outputs do not fit into memory.
    """

    name = "factored-newton"

    @override
    def _problem_of(self, objective: Objective) -> Factored:
        return factored_problem(objective)

    @override
    def _tensors_of(self, objective: Objective) -> tuple[Tensor | None, ...]:
        return factors_of(objective)

    @override
    def _gradients(self, problem: Factored, point: FactoredPoint) -> tuple[Tensor, ...]:
        l2 = problem.l2
        by_embedding = torch.addmm(l2 * point.embedding, point.gradient, point.weight, alpha=-1.0)
        by_weight = torch.addmm(l2 * point.weight, point.gradient.T, point.embedding, alpha=-1.0)
        return by_embedding, by_weight, -point.residual.sum(0)

    @override
    def _weights(self, point: FactoredPoint) -> tuple[Tensor, ...]:
        return point.embedding, point.weight, point.bias

    @override
    def _move(self, problem: Factored, point: FactoredPoint, memory: dict[str, Any]) -> tuple[FactoredPoint, Status]:
        state = NewtonState(**memory) if memory else NewtonState()
        if state.steps:
            new, status = step(problem, point, state)
        else:
            first = start(problem, point.embedding.shape[1])
            new, status = (first if first.total < point.total else point), Status.STEPPED
            state.steps = 1
        memory.update(dataclasses.asdict(state))
        return new, status
