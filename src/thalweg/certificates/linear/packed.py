"""Sparse rows that are too many for copies: kept once, in the type they came in, and multiplied a block at a time."""

import functools
import warnings
from collections.abc import Iterator
from typing import Any, Final, final

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

LEAST: Final = 2**23  # entries; fewer are multiplied in copies of several types and orders, which is somewhat quicker
BLOCK: Final = 2**20  # entries at a time
FEW: Final = 4  # columns that are gathered one by one; for more of them a transposed copy is quicker
_LONGEST_INT32: Final = 2**31 - 1


@final
class Packed:
    """A sparse matrix by rows on the CPU, each entry once.

    Products are computed in the type of the other factor, from blocks of rows that are turned into that type: so single
    precision is kept in four bytes, and read without rounding where double precision is computed.

    Args:
        matrix: `csr_array` with int32 indices, float32 or float64.
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix

    def times(self, right: Tensor) -> Tensor:
        """Return the matrix times `right`, `[num_rows, outputs]`."""
        product = right.new_empty(self.matrix.shape[0], right.shape[1])
        return _times(self.matrix, right, product)

    def adjoint(self, right: Tensor) -> Tensor:
        """Return the transpose times `right`, `[num_columns, outputs]`."""
        if right.shape[1] > FEW:
            return _times(self.turned, right, right.new_empty(self.matrix.shape[1], right.shape[1]))
        columns = [np.ascontiguousarray(column) for column in right.numpy().T]
        sums = [np.zeros(self.matrix.shape[1], dtype=column.dtype) for column in columns]
        for rows, block in _blocks(self.matrix, columns[0].dtype):
            for total, column in zip(sums, columns, strict=True):
                total += block.T @ column[rows]
        return torch.from_numpy(np.stack(sums, axis=1))

    def square_sums(self, weights: np.ndarray) -> np.ndarray:
        """Return the sums of each column's squares, weighted by row."""
        total = np.zeros(self.matrix.shape[1], dtype=weights.dtype)
        for rows, block in _blocks(self.matrix, weights.dtype, squared=True):
            total += block.T @ weights[rows]
        return total

    def row_norms(self) -> np.ndarray:
        """Return the length of each row, float64."""
        norms = np.empty(self.matrix.shape[0])
        for rows, block in _blocks(self.matrix, np.dtype(np.float64), squared=True):
            norms[rows] = np.sqrt(block @ np.ones(block.shape[1]))
        return norms

    def most_in_a_column(self) -> int:
        """Return how many entries the fullest column has."""
        counts = np.zeros(max(1, self.matrix.shape[1]), dtype=np.int64)
        for start in range(0, self.matrix.nnz, BLOCK):
            counts += np.bincount(self.matrix.indices[start : start + BLOCK], minlength=len(counts))
        return int(counts.max())

    @functools.cached_property
    def turned(self) -> Any:
        """The transpose by rows, in the type of the matrix."""
        return self.matrix.tocsc().T


def _times(matrix: Any, right: Tensor, product: Tensor) -> Tensor:
    kind = right.numpy().dtype
    for rows, block in _blocks(matrix, kind):
        if right.shape[1] == 1:
            product[rows, 0] = torch.from_numpy(block @ right[:, 0].numpy())
        else:
            product[rows] = as_tensor(block) @ right
    return product


def _blocks(matrix: Any, kind: np.dtype, *, squared: bool = False) -> Iterator[tuple[slice, Any]]:
    """Yield the rows, some at a time, with their entries (or the squares of them) in a type."""
    starts, num_rows, first = matrix.indptr, matrix.shape[0], 0
    while first < num_rows:
        last = int(np.searchsorted(starts, starts[first] + BLOCK, side="right")) - 1
        last = min(max(last, first + 1), first + BLOCK, num_rows)
        part = slice(int(starts[first]), int(starts[last]))
        values = matrix.data[part].astype(kind, copy=False)
        values = np.square(values) if squared else values
        block = (values, matrix.indices[part], starts[first : last + 1] - starts[first])
        yield slice(first, last), sparse.csr_array(block, shape=(last - first, matrix.shape[1]))
        first = last


def as_tensor(matrix: Any) -> Tensor:
    """Return a SciPy matrix by rows as a PyTorch one, with the same memory where its places are int32 already."""
    kind = np.int32 if max(matrix.nnz, *matrix.shape) <= _LONGEST_INT32 else np.int64
    starts, places = (np.ascontiguousarray(part, dtype=kind) for part in (matrix.indptr, matrix.indices))
    parts = map(torch.from_numpy, (starts, places, np.ascontiguousarray(matrix.data)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)  # "beta state"
        return torch.sparse_csr_tensor(*parts, size=matrix.shape)
