"""Whether a loop drives the loss that it tells down or up."""

from typing import Any, Final, final

import torch
from torch import Tensor
from torch.optim import Optimizer

LOOKS: Final = 20  # losses at the start at which is looked


@final
class Uphill:
    """Sees the sign of what the first backward passes bring to the loss: below zero, its negative is minimized.

    An optimizer that maximizes turns the sign. A loss that is told after its backward pass says nothing.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._turns = any(group.get("maximize") for group in optimizer.param_groups)
        self._brought: list[Tensor] = []
        self._looks = 0

    def listen(self, loss: Tensor | float) -> None:
        """Look at a loss before its backward pass."""
        if self._looks < LOOKS and isinstance(loss, Tensor) and loss.requires_grad and loss.grad_fn is not None:
            self._looks += 1
            loss.register_hook(self._take)

    def _take(self, gradient: Tensor) -> None:
        self._brought.append(gradient.detach().sum())

    def figures(self) -> dict[str, Any]:
        """Return how many losses were looked at, and how many were driven up (waits for the device)."""
        signs = [float(torch.sign(brought)) for brought in self._brought]
        up = 1.0 if self._turns else -1.0
        return {"losses_looked_at": len(signs) - signs.count(0.0), "driven_up": signs.count(up)}
