"""One batch: what the model reads, what it should answer, and which answers count."""

import dataclasses
from typing import final

import torch
from torch import Tensor


@final
@dataclasses.dataclass(frozen=True)
class Batch:
    """Inputs and targets of some examples.

    Args:
        inputs: tensors passed to the model as keywords.
        targets: what the head compares with: class ids, numbers or 0/1 rows, shape `[batch, ...]`.
        mask: True where a target is real; the shape of the targets' leading dimensions; None: all are.
        weights: weight of each target, the shape of `mask`; None: all one.

    Example:
        >>> batch = Batch({"tokens": torch.tensor([[5, 7, 0]])}, torch.tensor([[1, 2, 0]]),
        ...     torch.tensor([[True, True, False]]))
        >>> batch.num_examples, batch.num_targets
        (1, 2)
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    mask: Tensor | None = None
    weights: Tensor | None = None

    @property
    def num_examples(self) -> int:
        """Number of rows."""
        return len(self.targets)

    @property
    def num_targets(self) -> int:
        """Number of real targets (waits for the device when the mask is on one)."""
        return self.targets.numel() if self.mask is None else int(self.mask.sum())

    def to(self, device: torch.device | str, *, non_blocking: bool = True) -> "Batch":
        """Return the batch on `device` (itself where it is there already)."""
        if self.targets.device == torch.device(device):
            return self

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=non_blocking)

        inputs = {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.inputs.items()}
        return Batch(inputs, self.targets.to(device, non_blocking=non_blocking), move(self.mask), move(self.weights))
