"""A model as it was before the first step that is watched."""

import copy
from typing import Final, final

import torch
from torch import Tensor, nn

MOST: Final = 2**28  # numbers of a model whose start is kept, a gigabyte of float32


@final
class Start:
    """A copy of a model's weights and buffers in the memory of the CPU; of very large models there is none."""

    def __init__(self, model: nn.Module) -> None:
        tensors = _named(model)
        is_kept = sum(tensor.numel() for tensor in tensors.values()) <= MOST
        self._kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items() if is_kept}

    def network(self, model: nn.Module) -> nn.Module | None:
        """Return a copy of the model with these weights; None where it cannot be copied or is another one by now."""
        if not self._kept:
            return None
        try:
            found = copy.deepcopy(model)
        except Exception:  # a model may hold whatever it wants
            return None
        tensors = _named(found)
        if {name: tensor.shape for name, tensor in tensors.items()} != {
            name: tensor.shape for name, tensor in self._kept.items()
        }:
            return None
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(self._kept[name])
        return found


def _named(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
