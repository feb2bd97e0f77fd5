"""Lists of tensors treated as one vector.

A model's parameters are a list of tensors; optimization thinks of one long vector. These functions keep the list (no
copy into one buffer) and use PyTorch's `_foreach` kernels, so that they cost a few launches however many tensors
there are, and never wait for a device.

Where tensors have several types, the flat vector has the widest of them, and at least single precision: half the digits
of a bfloat16 are not enough to add up products, and no solver knows the type.
"""

import cmath
import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from thalweg import sharded

Vector = Sequence[Tensor]
_HALF = (torch.bfloat16, torch.float16)


def dot(left: Vector, right: Vector) -> Tensor:
    """Return the inner product, a 0-dim tensor."""
    if not left:
        return torch.zeros(())
    if sharded.any_divided(left):
        of, left, right = left, [*map(sharded.own, left)], [*map(sharded.own, right)]
        return sharded.added(_products(left, right), of).sum()
    return _products(left, right).sum()


def _products(left: Vector, right: Vector) -> Tensor:
    return torch.stack([torch.linalg.vecdot(x.reshape(-1), y.reshape(-1)) for x, y in zip(left, right, strict=True)])


def norm(vector: Vector) -> Tensor:
    """Return the Euclidean norm, a 0-dim tensor (0 for an empty list)."""
    if not vector:
        return torch.zeros(())
    if sharded.any_divided(vector):
        norms = torch.stack(list(torch._foreach_norm([*map(sharded.own, vector)])))
        return sharded.added(norms.double().square(), vector).sum().sqrt().to(norms.dtype)
    return torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(list(vector)))))


def is_finite(vector: Vector) -> bool:
    """Whether every number is finite, from one pass that only reads; waits for the device."""
    if not vector:
        return True
    # A sum with a number in it that is not finite is not finite; the other way round it may only have overflowed.
    sums = [tensor.sum() for tensor in vector]
    waits = any(not total.is_cpu for total in sums)
    if cmath.isfinite(torch.stack(sums).sum().item()) if waits else all(cmath.isfinite(s.item()) for s in sums):
        return True
    return bool(torch.stack([tensor.isfinite().all() for tensor in vector]).all())


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


def flat_type(vector: Vector) -> torch.dtype:
    """Return the type of the flat vector: the widest of the tensors', and at least single precision."""
    return functools.reduce(torch.promote_types, {tensor.dtype for tensor in vector} or {torch.float32}, torch.float32)


def flatten(vector: Vector) -> Tensor:
    """Return one flat tensor of shape `[total]`, of `flat_type`."""
    if not vector:
        return torch.zeros(0)
    # What PyTorch's own buckets of gradients are made with; of a single tensor it would be a view.
    flat = _flatten_dense_tensors(vector) if len(vector) > 1 else torch.cat([vector[0].reshape(-1)])
    return flat.float() if flat.dtype in _HALF else flat


def split(flat: Tensor, like: Vector) -> list[Tensor]:
    """Cut a flat tensor into parts with the shapes and types of `like`, the inverse of `flatten`.

    Parts of the flat tensor's own type are views. Refuses other lengths.
    """
    size = sum([tensor.numel() for tensor in like])
    if flat.numel() != size:
        raise ValueError(f"split(flat, like) needs {size} numbers for these shapes; got {flat.numel()}.")
    parts = _unflatten_dense_tensors(flat, like)
    return [
        part if part.dtype == tensor.dtype else part.to(tensor.dtype) for part, tensor in zip(parts, like, strict=True)
    ]


def split_rows(rows: Tensor, like: Vector) -> list[Tensor]:
    """Cut `k` flat vectors, rows `[k, n]`, into tensors `[k, *shape]` of the types of `like`."""
    parts = rows.split([tensor.numel() for tensor in like], dim=1)
    return [part.reshape(len(rows), *tensor.shape).to(tensor.dtype) for part, tensor in zip(parts, like, strict=True)]


def flatten_rows(stacks: Vector) -> Tensor:
    """Join tensors `[k, *shape]` to rows `[k, n]`; the inverse of `split_rows`."""
    rows = torch.cat([stack.reshape(len(stack), -1) for stack in stacks], dim=1)
    return rows.float() if rows.dtype in _HALF else rows


def trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Return the parameters that ask for a gradient, each once (tied ones are not repeated)."""
    seen: dict[int, Tensor] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            seen.setdefault(id(parameter), parameter)
    return list(seen.values())
