"""How much memory the methods with dense matrices need, and the refusal where it is too much."""

import torch

from thalweg.errors import InputError

# What a dense method may use unless told otherwise: half of what a laptop has.
DENSE_BYTES = 8 * 2**30


def matrix_bytes(rows: int, columns: int, dtype: torch.dtype = torch.float32, *, copies: float = 1.0) -> int:
    """Return the bytes of a dense matrix.

    Args:
        rows: of the matrix.
        columns: of the matrix.
        dtype: of its numbers.
        copies: how many of them a method holds at once.

    Example:
        >>> matrix_bytes(1000, 1000, torch.float64)
        8000000
    """
    return int(copies * rows * columns * torch.finfo(dtype).bits // 8)


def as_text(num_bytes: float) -> str:
    """Return a size in the unit that a person would use.

    Example:
        >>> as_text(4e14), as_text(2_500_000)
        ('400 TB', '2.5 MB')
    """
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"


def check_dense(
    method: str,
    rows: int,
    columns: int,
    dtype: torch.dtype,
    *,
    copies: float = 1.0,
    limit: float = DENSE_BYTES,
    instead: str,
) -> None:
    """Refuse a dense matrix that does not fit.

    Args:
        method: who needs it, in the message.
        rows: of the matrix.
        columns: of the matrix.
        dtype: of its numbers.
        copies: how many of them the method holds at once.
        limit: bytes that it may use.
        instead: what to use instead, in the message.

    Raises:
        InputError: it needs more than the limit.
    """
    needed = matrix_bytes(rows, columns, dtype, copies=copies)
    if needed > limit:
        raise InputError(
            f"{method} keeps a dense matrix of {rows:,} x {columns:,}, which takes {as_text(needed)} here; at most "
            f"{as_text(limit)} is allowed. Use {instead}; as options, --optimizer newton-cg or --optimizer lbfgs "
            "--line-search wolfe."
        )
