"""What an optimizer's saved state looks like, and how it comes back to other devices and types."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def is_state(state_dict: dict[str, Any]) -> bool:
    """Whether this has the form of an optimizer's state, and at most one memory, as a `Descent` has."""
    return {"state", "param_groups"} <= set(state_dict) and set(state_dict["state"]) <= {0}


def flat_dtype(name: str) -> torch.dtype:
    """Return a type of flat vectors by the name that it is saved under."""
    types = (torch.float32, torch.float64, torch.complex64, torch.complex128)
    return {str(dtype).removeprefix("torch."): dtype for dtype in types}[name]


def placed(tree: Any, device: torch.device, cast: tuple[torch.dtype, torch.dtype] | None) -> Any:
    """Return a tree of lists and dictionaries with its tensors on a device, those of one type cast to another."""
    if isinstance(tree, Tensor):
        return tree.to(device, cast[1] if cast is not None and tree.dtype == cast[0] else tree.dtype)
    if isinstance(tree, dict):
        return {key: placed(value, device, cast) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(placed(value, device, cast) for value in tree)
    return tree


def before_saving(optimizer: Optimizer) -> None:
    """Run PyTorch's hooks before a `state_dict` that is not PyTorch's own."""
    for hook in optimizer._optimizer_state_dict_pre_hooks.values():
        hook(optimizer)


def saved(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return what the hooks after it make of a state that is saved."""
    for hook in optimizer._optimizer_state_dict_post_hooks.values():
        made = hook(optimizer, state_dict)
        state_dict = state_dict if made is None else made
    return state_dict


def before_loading(optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return what the hooks before loading make of a state, which stays as it is."""
    state_dict = state_dict.copy()
    for hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        made = hook(optimizer, state_dict)
        state_dict = state_dict if made is None else made
    return state_dict


def after_loading(optimizer: Optimizer) -> None:
    """Run PyTorch's hooks after a `load_state_dict` that is not PyTorch's own."""
    for hook in optimizer._optimizer_load_state_dict_post_hooks.values():
        hook(optimizer)
