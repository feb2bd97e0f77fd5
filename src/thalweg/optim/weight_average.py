"""Running averages of an optimizer's weights: exponential, or of the last part of the steps so far."""

import abc
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from thalweg.errors import require
from thalweg.optim.averaging import AbstractAveraging, wide

STEPS = "averaging_steps"


class AbstractRunningAverage(AbstractAveraging):
    """Steps another optimizer as it is, and moves an average of its weights towards the new ones after each step."""

    @abc.abstractmethod
    def _share(self, steps: int) -> float:
        """Return how much of the average the new weights make after so many steps, in (0, 1]."""

    @override
    def _advance(self) -> None:
        moved = [[p for p in group["params"] if p.grad is not None or p in self.state] for group in self.param_groups]
        for parameter in [p for parameters in moved for p in parameters if p not in self.state]:
            self.state[parameter]["average"] = parameter.detach().to(wide(parameter.dtype), copy=True)
        self.optimizer.step()
        for group, parameters in zip(self.param_groups, moved, strict=True):
            group[STEPS] = group.get(STEPS, 0) + 1
            if not parameters:
                continue
            averages = [self.state[parameter]["average"] for parameter in parameters]
            weights = [parameter.detach().to(mean.dtype) for parameter, mean in zip(parameters, averages, strict=True)]
            torch._foreach_lerp_(averages, weights, self._share(group[STEPS]))

    @override
    def _average(self, parameter: Tensor, memory: dict[str, Any]) -> Tensor:
        return memory["average"]


@final
class ExponentialAverage(AbstractRunningAverage):
    r"""Steps another optimizer as it is, and keeps the exponential average of its weights w.

    $$x_k = a_k x_{k-1} + (1 - a_k) w_k, \qquad a_k = \min\left(d, \frac{1 + k}{10 + k}\right)$$

    Early on the average forgets faster, so that it does not hang on to the start. Memory: one number for each
    parameter, in at least single precision.

    Args:
        optimizer: of `torch.optim`, `Combined`, or another package; not one that evaluates the loss itself.
        decay: d, in [0, 1); about the last `1 / (1 - d)` steps count.

    Raises:
        ValueError: a decay out of range; an optimizer such as L-BFGS or `Descent`.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = ExponentialAverage(torch.optim.SGD([w], lr=1.0), decay=0.5)
        >>> for _ in range(3):
        ...     w.grad = torch.tensor([-1.0])
        ...     optimizer.step()
        >>> with optimizer.averaged():
        ...     round(w.item(), 4)
        2.6014
        >>> w.item()
        3.0

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging" (1992); the growing decay is
    that of TensorFlow's `ExponentialMovingAverage`.

    Statistics of batch normalization are not averaged: run some training batches through the model inside `averaged()`,
    in training mode. Not together with a rate that decays to zero, where the last weights are an average already.
    """

    def __init__(self, optimizer: Optimizer, decay: float = 0.99) -> None:
        require(0.0 <= decay < 1.0, "ExponentialAverage(decay=...) must lie in [0, 1)", decay)
        self.decay = decay
        super().__init__(optimizer)

    @override
    def _share(self, steps: int) -> float:
        return 1.0 - min(self.decay, (1 + steps) / (10 + steps))


@final
class LastAverage(AbstractRunningAverage):
    r"""Steps another optimizer as it is, and keeps an average of the weights w of the last part of its steps.

    $$x_k = x_{k-1} + \frac{\eta + 1}{\eta + k} (w_k - x_{k-1})$$

    Weights of step j count about as $(j / k)^\eta$: with $\eta = 7$ half the sum comes from the last 8 % of the steps
    and nine tenths from the last quarter, as when the last checkpoints of a training are averaged, but at any moment
    and without keeping them. Memory: one number for each parameter, in at least single precision.

    Args:
        optimizer: of `torch.optim`, `Combined`, or another package; not one that evaluates the loss itself.
        power: eta, at least 0; 0 counts all steps alike.

    Raises:
        ValueError: a power out of range; an optimizer such as L-BFGS or `Descent`.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = LastAverage(torch.optim.SGD([w], lr=1.0), power=0.0)
        >>> for _ in range(3):
        ...     w.grad = torch.tensor([-1.0])
        ...     optimizer.step()
        >>> with optimizer.averaged():
        ...     w.item()  # of 1, 2 and 3
        2.0

    Source: Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization" (2013): polynomial-decay
    averaging.

    Statistics of batch normalization are not averaged, as with `ExponentialAverage`.
    """

    def __init__(self, optimizer: Optimizer, power: float = 7.0) -> None:
        require(0.0 <= power < float("inf"), "LastAverage(power=...) must be zero or positive", power)
        self.power = power
        super().__init__(optimizer)

    @override
    def _share(self, steps: int) -> float:
        return (self.power + 1.0) / (self.power + steps)
