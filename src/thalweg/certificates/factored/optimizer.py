"""Newton's method for bags as a `torch.optim.Optimizer` that knows how far from the best possible it is."""

import dataclasses
import operator
from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.batch import Batch
from thalweg.certificates.factored.bags import factored_problem, factors_of
from thalweg.certificates.factored.newton import NewtonState, step
from thalweg.certificates.factored.problem import Factored, FactoredPoint, relative_gap
from thalweg.certificates.factored.start import start
from thalweg.errors import InputError
from thalweg.objective import Objective
from thalweg.status import Status


@final
class FactoredNewton(Optimizer):
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

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, {"lr": 1.0})
        self.status = Status.RUNNING
        self.relative_gap: float | None = None
        self.bound: float | None = None
        self._problem: tuple[list[Batch], Factored] | None = None

    @torch.no_grad()
    def step(self, closure: Objective | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step and return the loss where it started.

        Args:
            closure: an `Objective` on all the data, the same at every step.

        Raises:
            ValueError: without an objective.
            InputError: where its loss is not a factored problem.
        """
        if not isinstance(closure, Objective):
            raise ValueError(
                "FactoredNewton.step(objective) needs a thalweg Objective; a closure or none is not enough."
            )
        problem = self._problem_of(closure)
        embedding, weight, bias = factors_of(closure)
        point = problem.at(embedding, weight, bias)
        loss = torch.tensor(point.total, dtype=torch.float64)
        _set_gradients(problem, point, (embedding, weight, bias))
        memory = self.state[self.param_groups[0]["params"][0]]
        state = NewtonState(**memory) if memory else NewtonState()
        new = self._move(problem, point, state)
        closure.num_gradients += 1
        closure.num_products += state.products - memory.get("products", 0)
        memory.update(dataclasses.asdict(state))
        if new is not point:
            self._put(problem, new, (embedding, weight, bias))
        return loss

    def _move(self, problem: Factored, point: FactoredPoint, state: NewtonState) -> FactoredPoint:
        if state.steps:
            new, self.status = step(problem, point, state)
        else:
            first = start(problem, point.embedding.shape[1])
            new, self.status = (first if first.total < point.total else point), Status.STEPPED
            state.steps = 1
        self._judge(problem, new)
        return new

    def _judge(self, problem: Factored, point: FactoredPoint) -> None:
        self.bound = problem.bound(point)[0]
        self.relative_gap = relative_gap(point.total, self.bound)

    def _put(self, problem: Factored, new: FactoredPoint, tensors: tuple[Tensor, Tensor, Tensor | None]) -> None:
        """Write the point into the parameters; where they are rounded, the gap is that of the rounded ones."""
        embedding, weight, bias = tensors
        embedding.copy_(new.embedding)
        weight.copy_(new.weight)
        if bias is not None:
            bias.copy_(new.bias)
        if embedding.dtype != torch.float64:
            self._judge(problem, problem.at(embedding, weight, bias))

    def _problem_of(self, objective: Objective) -> Factored:
        if self._problem is not None:
            known, problem = self._problem
            if len(known) == len(objective.batches) and all(map(operator.is_, known, objective.batches)):
                return problem
            raise InputError(
                "--optimizer factored-newton looks at all the data in every step; give --batch-size full and "
                "--accumulate 1."
            )
        problem = factored_problem(objective)
        self._problem = list(objective.batches), problem
        return problem

    def __getstate__(self) -> dict[str, Any]:
        own = {"status": self.status, "relative_gap": self.relative_gap, "bound": self.bound, "_problem": None}
        return {**super().__getstate__(), **own}


def _set_gradients(problem: Factored, point: FactoredPoint, tensors: tuple[Tensor, Tensor, Tensor | None]) -> None:
    """Leave the gradient in `.grad`, as PyTorch's optimizers do, for whatever watches the run."""
    embedding, weight, bias = tensors
    l2 = problem.l2
    embedding.grad = torch.addmm(l2 * point.embedding, point.gradient, point.weight, alpha=-1.0).to(embedding.dtype)
    weight.grad = torch.addmm(l2 * point.weight, point.gradient.T, point.embedding, alpha=-1.0).to(weight.dtype)
    if bias is not None:
        bias.grad = -point.residual.sum(0).to(bias.dtype)
