"""Lists of tensors treated as one vector.

A model's parameters are a list of tensors; optimization thinks of one long vector. These functions keep the list (no
copy into one buffer) and use PyTorch's `_foreach` kernels, so that they cost a few launches however many tensors
there are, and never wait for a device.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

Vector = Sequence[Tensor]


def dot(left: Vector, right: Vector) -> Tensor:
    """Return the inner product, a 0-dim tensor."""
    if not left:
        return torch.zeros(())
    products = [torch.linalg.vecdot(x.reshape(-1), y.reshape(-1)) for x, y in zip(left, right, strict=True)]
    return torch.stack(products).sum()


def norm(vector: Vector) -> Tensor:
    """Return the Euclidean norm, a 0-dim tensor (0 for an empty list)."""
    if not vector:
        return torch.zeros(())
    return torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(list(vector)))))


def add_(vector: Vector, other: Vector, scale: float = 1.0) -> None:
    """Add `scale * other` to `vector` in place."""
    if vector:
        torch._foreach_add_(list(vector), list(other), alpha=scale)


def copy_(vector: Vector, other: Vector) -> None:
    """Overwrite `vector` in place with `other`."""
    if vector:
        torch._foreach_copy_(list(vector), list(other))


def clone(vector: Vector) -> list[Tensor]:
    """Return a copy that shares no memory and no graph with `vector`."""
    return [tensor.detach().clone() for tensor in vector]


def flatten(vector: Vector) -> Tensor:
    """Return one flat tensor of shape `[total]`."""
    return torch.cat([tensor.reshape(-1) for tensor in vector]) if vector else torch.zeros(0)


def split(flat: Tensor, like: Vector) -> list[Tensor]:
    """Cut a flat tensor into views with the shapes of `like`, the inverse of `flatten`; refuse other lengths."""
    sizes = [tensor.numel() for tensor in like]
    if flat.numel() != sum(sizes):
        raise ValueError(f"split(flat, like) needs {sum(sizes)} numbers for these shapes; got {flat.numel()}.")
    return [part.view(tensor.shape) for part, tensor in zip(flat.split(sizes), like, strict=True)]


def split_rows(rows: Tensor, like: Vector) -> list[Tensor]:
    """Cut `k` flat vectors, rows `[k, n]`, into tensors `[k, *shape]`."""
    parts = rows.split([tensor.numel() for tensor in like], dim=1)
    return [part.reshape(len(rows), *tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def flatten_rows(stacks: Vector) -> Tensor:
    """Join tensors `[k, *shape]` to rows `[k, n]`; the inverse of `split_rows`."""
    return torch.cat([stack.reshape(len(stack), -1) for stack in stacks], dim=1)


def trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters that ask for a gradient, each once (tied ones are not repeated)."""
    seen: dict[int, Tensor] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            seen.setdefault(id(parameter), parameter)
    return list(seen.values())
