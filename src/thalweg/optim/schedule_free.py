"""Schedule-free learning around any optimizer: averaging takes the place of a decaying rate."""

import contextlib
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from thalweg.errors import require
from thalweg.optim.averaging import AbstractAveraging, wide

STEPS, LARGEST_RATE, WEIGHTS = "averaging_steps", "averaging_largest_rate", "averaging_weights"


@final
class ScheduleFree(AbstractAveraging):
    r"""Steps another optimizer from gradients that are taken between its iterates and their average.

    With the inner optimizer's step $\Delta$ from its own iterate z, the gradient being taken at y,

    $$y_k = (1 - \beta) z_k + \beta x_k, \qquad z_{k+1} = z_k + \Delta(\nabla f(y_k)), \qquad
      x_{k+1} = (1 - c_k) x_k + c_k z_{k+1},$$

    where $c_k$ is the step's weight $(k+1)^r \gamma_{\max}^p$, with the largest rate so far $\gamma_{\max}$, over the
    sum of the weights. No horizon has to be known: x is as good, at any time, as if the rate had been decaying towards
    it. The rate stays constant after a warmup, which a schedule gives, such as `constant_with_warmup`.

    The parameters hold y, and `averaged()` puts x into them: **evaluate and save the model inside that block**. Memory:
    one number for each parameter, for z. Of parameters in half precision y is kept, too, and the inner optimizer
    steps in single precision, with its state in it.

    Args:
        optimizer: of `torch.optim`, `Combined`, or another package; not one that evaluates the loss itself. This
            class has the momentum, so give Adam `betas=(0.0, 0.999)` and SGD none; Muon keeps its own.
        momentum: beta, in (0, 1].
        weight_decay: decoupled decay at y, in units of the rate, >= 0; the inner optimizer's own acts on z.
        power: r of the weights, >= 0; above 0 later steps count more.
        rate_power: p of the weights, >= 0.

    Raises:
        ValueError: a number out of range; an optimizer such as L-BFGS or `Descent`; a step while the parameters hold x.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([4.0]))
        >>> optimizer = ScheduleFree(torch.optim.SGD([w], lr=0.5))
        >>> for _ in range(20):
        ...     optimizer.zero_grad()
        ...     (0.5 * w.square()).sum().backward()
        ...     optimizer.step()
        >>> with optimizer.averaged():
        ...     bool(w.abs() < 0.2)
        True

    Source: Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, "The Road Less Scheduled" (2024).

    Statistics of batch normalization are those at y: run some training batches through the model inside `averaged()`,
    in training mode. Not with a schedule that decays.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        momentum: float = 0.9,
        *,
        weight_decay: float = 0.0,
        power: float = 0.0,
        rate_power: float = 2.0,
    ) -> None:
        require(0.0 < momentum <= 1.0, "ScheduleFree(momentum=...) must lie in (0, 1]", momentum)
        for name, value in (("weight_decay", weight_decay), ("power", power), ("rate_power", rate_power)):
            require(value >= 0.0, f"ScheduleFree({name}=...) must be zero or positive", value)
        self.momentum, self.weight_decay, self.power, self.rate_power = momentum, weight_decay, power, rate_power
        super().__init__(optimizer)

    @override
    def _advance(self) -> None:
        beta = self.momentum
        moved = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        for parameter in [p for parameters in moved for p in parameters if "z" not in self.state[p]]:
            self.state[parameter]["z"] = parameter.detach().to(wide(parameter.dtype), copy=True)
            if wide(parameter.dtype) != parameter.dtype:
                self.state[parameter]["y"] = self.state[parameter]["z"].clone()
        places = [[self._y(parameter) for parameter in parameters] for parameters in moved]
        iterates = [[self.state[parameter]["z"] for parameter in parameters] for parameters in moved]
        for group, x, z in zip(self.param_groups, places, iterates, strict=True):
            if x:
                torch._foreach_lerp_(x, z, 1.0 - 1.0 / beta)  # from y
                if decay := float(group["lr"]) * self.weight_decay:
                    torch._foreach_mul_(z, 1.0 - decay * (1.0 - beta))
                    torch._foreach_add_(z, x, alpha=-decay * beta)
        weights = [0.0] * len(places)  # where the inner step raises, x stays
        try:
            with self._inside():
                self.optimizer.step()
            weights = [self._weight(group) for group in self.param_groups]
        finally:
            for x, z, weight in zip(places, iterates, weights, strict=True):
                if x:
                    torch._foreach_lerp_(x, z, 1.0 - beta * (1.0 - weight))  # to the new y
        for parameter, memory in self._remembered():
            if "y" in memory:
                parameter.copy_(memory["y"])

    @override
    def _average(self, parameter: Tensor, memory: dict[str, Any]) -> Tensor:
        return torch.lerp(memory.get("y", parameter.detach()), memory["z"], 1.0 - 1.0 / self.momentum)

    @override
    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """Let the parameters be the iterates z for a while, without a copy: gradients in their type."""
        kept = [(p, p.data, p.grad, memory["z"]) for p, memory in self._remembered()]
        for parameter, _, gradient, z in kept:
            parameter.grad = None
            parameter.data = z
            parameter.grad = None if gradient is None else gradient.to(z.dtype)
        try:
            yield
        finally:
            for parameter, data, gradient, _ in kept:
                parameter.grad = None
                parameter.data = data
                parameter.grad = gradient

    def _y(self, parameter: Tensor) -> Tensor:
        """Return the weights that the gradient was taken at, in the precision that they are kept in."""
        y: Tensor | None = self.state[parameter].get("y")
        if y is None:
            return parameter.detach()
        y.copy_(torch.where(y.to(parameter.dtype) == parameter, y, parameter.to(y.dtype)))  # others may have moved it
        return y

    def _weight(self, group: dict[str, Any]) -> float:
        """Return c of the step that was taken."""
        group[STEPS] = steps = group.get(STEPS, 0) + 1
        group[LARGEST_RATE] = largest = max(group.get(LARGEST_RATE, 0.0), float(group["lr"]))
        weight = steps**self.power * largest**self.rate_power
        group[WEIGHTS] = total = group.get(WEIGHTS, 0.0) + weight
        return weight / total if total > 0.0 else 0.0
