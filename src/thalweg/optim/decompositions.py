"""Eigenvectors of stacks of symmetric matrices, from scratch and from those of a moment before."""

from typing import Final

import torch
from torch import Tensor

TILT: Final = 1e-8  # of the mean eigenvalue


def eigh(stack: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, ascending, and eigenvectors of symmetric matrices `[count, n, n]`.

    Where the routine fails it is tried again on each matrix in double precision; a matrix for which that fails, too,
    or that is not finite, has NaN for both.
    """
    try:
        return tuple(torch.linalg.eigh(stack))  # pyright: ignore[reportReturnType]
    except torch.linalg.LinAlgError:
        pairs = [_one(matrix) for matrix in stack.unbind()]
        return torch.stack([values for values, _ in pairs]), torch.stack([vectors for _, vectors in pairs])


def _one(matrix: Tensor) -> tuple[Tensor, Tensor]:
    try:
        values, vectors = torch.linalg.eigh(matrix.double())
    except torch.linalg.LinAlgError:
        values, vectors = torch.full_like(matrix[0], torch.nan), torch.full_like(matrix, torch.nan)
    return values.to(matrix.dtype), vectors.to(matrix.dtype)


def basis(stack: Tensor, before: Tensor | None) -> Tensor:
    """Return eigenvectors `[count, n, n]`, those of the largest eigenvalues first.

    With the ones of a moment before it is one step of orthogonal iteration: a product and a QR decomposition, for a
    fraction of the price. Their order stays as it is. Matrices for which it fails keep what they had: the former
    vectors, or the unit matrix.

    What a matrix does not decide, such as the vectors of an eigenvalue zero that it has several times, a tilt of 1e-8
    does, so that it is not up to rounding, which is another with other numbers of processes.
    """
    num = stack.shape[-1]
    tilt = torch.linspace(TILT, 0.0, num, dtype=stack.dtype, device=stack.device)
    level = stack.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    stack = stack + torch.diag_embed(tilt * level)
    if before is None:
        found = eigh(stack)[1].flip(-1)
        before = torch.eye(stack.shape[-1], dtype=stack.dtype, device=stack.device).expand_as(stack)
    else:
        moved = stack @ before
        order = torch.linalg.vecdot(before, moved, dim=-2).argsort(-1, descending=True).unsqueeze(-2).expand_as(moved)
        turned = torch.linalg.qr(moved.gather(-1, order))[0]
        found = torch.empty_like(turned).scatter_(-1, order, turned)
    return torch.where(found.isfinite().all(-1, keepdim=True).all(-2, keepdim=True), found, before)


def inverse_root(stack: Tensor, exponent: float, floor: float) -> Tensor:
    """Return `(S + floor * largest * I)^(-1/exponent)` for symmetric `[count, n, n]`, zero eigenvalues included.

    A matrix that is zero or for which the decomposition fails has the unit matrix.
    """
    values, vectors = eigh(stack)
    largest = values[..., -1:]
    powers = (values.clamp(min=0.0) + floor * largest).pow(-1.0 / exponent)
    root = (vectors * powers.unsqueeze(-2)) @ vectors.mT
    unit = torch.eye(stack.shape[-1], dtype=stack.dtype, device=stack.device)
    return torch.where(root.isfinite().all(-1, keepdim=True).all(-2, keepdim=True), root, unit)
