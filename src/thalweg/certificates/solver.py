"""Solvers as `torch.optim.Optimizer`s that know how far from the best possible they are."""

import abc
import operator
from collections.abc import Iterable
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.batch import Batch
from thalweg.errors import InputError
from thalweg.objective import Objective
from thalweg.status import Status


class AbstractSolver(Optimizer, abc.ABC):
    """Trains one kind of model to its certified global optimum, all data in every step, in float64.

    Args:
        params: all parameters of model and head.

    Attributes:
        status: how the last step ended; `Status.RUNNING` before the first.
        relative_gap: of the weights as they are now, as a fraction of the loss; None before the first step.
        bound: the lower bound of the loss that goes with it.
    """

    name: ClassVar[str]  # of `thalweg.names.SOLVERS`

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, {"lr": 1.0})
        self.status = Status.RUNNING
        self.relative_gap: float | None = None
        self.bound: float | None = None
        self._problem: tuple[list[Batch], Any] | None = None

    @abc.abstractmethod
    def _problem_of(self, objective: Objective) -> Any:
        """Return the problem of an objective; an InputError says why it has none."""

    @abc.abstractmethod
    def _tensors_of(self, objective: Objective) -> tuple[Tensor | None, ...]:
        """Return the parameters, as the problem's `at` takes them."""

    @abc.abstractmethod
    def _gradients(self, problem: Any, point: Any) -> tuple[Tensor, ...]:
        """Return the gradient at a point, in the same order."""

    @abc.abstractmethod
    def _weights(self, point: Any) -> tuple[Tensor, ...]:
        """Return the weights of a point, in the same order."""

    @abc.abstractmethod
    def _move(self, problem: Any, point: Any, memory: dict[str, Any]) -> tuple[Any, Status]:
        """Return the next point and how the step ended; `memory` holds plain numbers, "products" among them."""

    @final
    @torch.no_grad()
    def step(self, closure: Objective | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step and return the loss where it started.

        Args:
            closure: an `Objective` on all the data, the same at every step.

        Raises:
            ValueError: without an objective.
            InputError: where its loss is not a problem of this kind.
        """
        if not isinstance(closure, Objective):
            raise ValueError(
                f"{type(self).__name__}.step(objective) needs a thalweg Objective; a closure or none is not enough."
            )
        problem, tensors = self._known_problem(closure), self._tensors_of(closure)
        point = problem.at(*tensors)
        loss = torch.tensor(point.total, dtype=torch.float64)
        for tensor, gradient in zip(tensors, self._gradients(problem, point), strict=True):
            if tensor is not None:  # for whatever watches the run
                tensor.grad = gradient.to(tensor.dtype)
        memory = self.state[self.param_groups[0]["params"][0]]
        before = memory.get("products", 0)
        new, self.status = self._move(problem, point, memory)
        closure.num_gradients += 1
        closure.num_products += memory["products"] - before
        if new is not point:
            rounded = False
            for tensor, weight in zip(tensors, self._weights(new), strict=True):
                if tensor is not None:
                    tensor.copy_(weight)
                    rounded = rounded or tensor.dtype != torch.float64
            new = problem.at(*tensors) if rounded else new
        gap = problem.relative_gap(new)
        self.relative_gap, self.bound = gap, new.total * (1.0 - gap)
        return loss

    def _known_problem(self, objective: Objective) -> Any:
        if self._problem is not None:
            known, problem = self._problem
            if len(known) == len(objective.batches) and all(map(operator.is_, known, objective.batches)):
                return problem
            raise InputError(
                f"--optimizer {self.name} looks at all the data in every step; give --batch-size full and "
                "--accumulate 1."
            )
        problem = self._problem_of(objective)
        self._problem = list(objective.batches), problem
        return problem

    @final
    def __getstate__(self) -> dict[str, Any]:
        own = {"status": self.status, "relative_gap": self.relative_gap, "bound": self.bound, "_problem": None}
        return {**super().__getstate__(), **own}
