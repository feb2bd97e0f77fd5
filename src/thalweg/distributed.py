"""Ranks and sums; every function returns its input on one process."""

import torch
import torch.distributed as dist
from torch import Tensor


def is_active() -> bool:
    """Whether several processes work together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of this process, 0 on one process."""
    return dist.get_rank() if is_active() else 0


def world_size() -> int:
    """Number of processes, 1 on one process."""
    return dist.get_world_size() if is_active() else 1


def sum_over_ranks(tensors: list[Tensor]) -> list[Tensor]:
    """Return each tensor's sum over all processes, by one message; the tensors, of one dtype and device, stay as is."""
    if not is_active() or not tensors:
        return tensors
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]
