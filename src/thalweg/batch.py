"""One batch: what the model reads, what it should answer, and which answers count."""

import dataclasses
from collections.abc import Callable
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
        aside: numbers that no model reads, for whoever measures its answers (see `thalweg.tasks.base.AbstractMeter`).
        keys: a number for each example, int64 `[batch]`, that its dropout masks depend on; None: they depend on its
            place in the batch.

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
    aside: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    keys: Tensor | None = None

    @property
    def num_examples(self) -> int:
        """Number of rows."""
        return len(self.targets)

    @property
    def num_targets(self) -> int:
        """Number of real targets (waits for the device when the mask is on one)."""
        return self.targets.numel() if self.mask is None else int(self.mask.sum())

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> "Batch":
        """Return the batch on `device`, numbers that are not whole in `dtype` (itself where that is so already)."""
        tensors = [*self.inputs.values(), self.targets, self.mask, self.weights, self.keys, *self.aside.values()]
        wanted = torch.device(device)
        if all(tensor is None or (tensor.device == wanted and _fits(tensor, dtype)) for tensor in tensors):
            return self

        def move(tensor: Tensor) -> Tensor:
            kind = tensor.dtype if _fits(tensor, dtype) else dtype
            return tensor.to(wanted, kind, non_blocking=True)

        return self.changed(move)

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the batch with every tensor changed by a function."""
        inputs = {name: change(tensor) for name, tensor in self.inputs.items()}
        mask, weights, keys = (None if one is None else change(one) for one in (self.mask, self.weights, self.keys))
        aside = {name: change(tensor) for name, tensor in self.aside.items()}
        return Batch(inputs, change(self.targets), mask, weights, aside, keys)


def _fits(tensor: Tensor, dtype: torch.dtype) -> bool:
    return tensor.dtype == dtype or not tensor.is_floating_point()
