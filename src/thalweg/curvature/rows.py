"""Several vectors at once: rows of one matrix, or for each tensor a stack `[k, *shape]`."""

import torch
from torch import Tensor

from thalweg.vectors import Vector


def split_rows(rows: Tensor, like: Vector) -> list[Tensor]:
    """Cut rows `[k, n]` into tensors `[k, *shape]`."""
    parts = rows.split([tensor.numel() for tensor in like], dim=1)
    return [part.reshape(len(rows), *tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def flatten_rows(stacks: Vector) -> Tensor:
    """Join tensors `[k, *shape]` to rows `[k, n]`; the inverse of `split_rows`."""
    return torch.cat([stack.reshape(len(stack), -1) for stack in stacks], dim=1)
