"""Whether a loop clears its gradients before it adds new ones to them."""

from typing import Any, Final, final

import torch
from torch import Tensor
from torch.optim import Optimizer

LOOKS: Final = 20  # steps at the start on which is looked


@final
class Cleared:
    """Sees on the first steps whether the gradients of the step before were gone before new ones came.

    One small parameter stands for all. Backward passes that add up on purpose, between two steps, are no trouble: one
    of them has to find nothing.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        some = [
            parameter
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.requires_grad and parameter.is_leaf and parameter.numel()
        ]
        self._parameter = min(some, key=Tensor.numel, default=None)
        self._left: list[Tensor] = []  # numbers other than zero that backward passes since the step have found
        self._counts: list[Tensor] = []  # for each step, the fewest of them
        self._steps = 0
        self._handle = None if self._parameter is None else self._parameter.register_hook(self._found)

    def _found(self, _: Tensor) -> None:
        assert self._parameter is not None
        before = self._parameter.grad
        if before is None or before.is_sparse:
            self._left.append(torch.zeros((), dtype=torch.long))
        else:
            self._left.append(before.count_nonzero())

    def look(self) -> None:
        """Look at what the backward passes before a step have found."""
        if self._handle is None:
            return
        self._steps += 1
        if self._steps > 1 and self._left:  # before the first one there may be anything
            self._counts.append(self._left[0] if len(self._left) == 1 else torch.stack(self._left).amin())
        self._left = []
        if self._steps > LOOKS:
            self.stop()

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def figures(self) -> dict[str, Any]:
        """Return on how many steps it was looked, and on how many gradients were left over (waits for the device)."""
        return {"looked_at": len(self._counts), "left_over": sum(bool(count) for count in self._counts)}
