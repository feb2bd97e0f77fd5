"""Copies of a module in another type."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def copied(module: Module, dtype: torch.dtype) -> Module:
    """Return a copy of a module in another type; tied tensors stay tied, those that share memory still do.

    What is done to the copy leaves the original alone.
    """
    with torch.no_grad():  # else a copy of what TorchScript compiled is no leaf, and cannot be trained
        other = copy.deepcopy(module, _computed(module))
        other.to(dtype)
    for mine, tensor in zip(other.parameters(), module.parameters(), strict=True):
        mine.requires_grad_(tensor.requires_grad)
    _share_again([*module.parameters(), *module.buffers()], [*other.parameters(), *other.buffers()])
    return other


def _computed(network: nn.Module) -> dict[int, Tensor]:
    """Return the tensors that a network has computed from its parameters and keeps, which `deepcopy` refuses."""
    kept = [value for module in network.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return {id(value): value.detach().clone() for value in kept if value.grad_fn is not None}


def _share_again(originals: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
    """Let copies share memory where the originals do, which neither `deepcopy` nor a change of type keeps."""
    groups: dict[int, list[int]] = {}
    for place, tensor in enumerate(originals):
        if tensor.layout == torch.strided and tensor.numel():
            groups.setdefault(tensor.untyped_storage().data_ptr(), []).append(place)
    for group in groups.values():
        size = {originals[place].element_size() for place in group}
        if len(group) < 2 or len(size) > 1 or len({copies[place].dtype for place in group}) > 1:
            continue
        first = originals[group[0]]
        memory = copies[group[0]].new_zeros(first.untyped_storage().nbytes() // first.element_size())
        for place in group:
            original = originals[place]
            view = memory.as_strided(original.shape, original.stride(), original.storage_offset())
            view.copy_(copies[place].detach())
            copies[place].data = view
