"""A module evaluated with other tensors instead of its own."""

from collections.abc import Callable, Sequence
from typing import TypeVar, final

import torch
from torch import Tensor, nn

Result = TypeVar("Result")


def exchanged(module: nn.Module, pairs: Sequence[tuple[Tensor, Tensor]], evaluate: Callable[[], Result]) -> Result:
    """Return what `evaluate()` returns while other tensors replace some of a module's parameters and buffers.

    Each pair is a tensor of the module and what replaces it wherever it is used; `evaluate` calls the module.
    """
    if not pairs:
        return evaluate()
    others = {id(tensor): other for tensor, other in pairs}
    # One name for each owner. PyTorch finds tied tensors itself, but does not put them all back where one module has
    # two names.
    places = {
        f"module.{prefix}.{name}" if prefix else f"module.{name}": others[id(tensor)]
        for prefix, owner in module.named_modules()
        for name, tensor in [
            *owner.named_parameters(recurse=False, remove_duplicate=False),
            *owner.named_buffers(recurse=False, remove_duplicate=False),
        ]
        if id(tensor) in others
    }
    return torch.func.functional_call(_Evaluation(module), places, (evaluate,), tie_weights=False)


@final
class _Evaluation(nn.Module):
    """A module around another whose forward pass is whatever it is given."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, evaluate: Callable[[], Result]) -> Result:
        """Return what the function returns."""
        return evaluate()
