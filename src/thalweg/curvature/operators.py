"""Square matrices that are only ever multiplied with: on lists of tensors, on flat vectors, on several columns.

A model's parameters are a list of tensors, so a vector is such a list, or one flat tensor `[n]`; a flat matrix `[n, k]`
is `k` columns at once. What goes in comes out: `H @ list` is a list, `H @ flat` is flat.
"""

import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, final, overload

import torch
from torch import Tensor
from typing_extensions import override

from thalweg import vectors
from thalweg.errors import InputError
from thalweg.vectors import Vector

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

MAX_DENSE_BYTES = 8 * 2**30  # half of what a laptop has
_MULTIPLYING = "a method that only multiplies with it (Newton-CG, L-BFGS, Lanczos), or a block of fewer parameters"


class AbstractOperator(abc.ABC):
    """A square matrix given by its products.

    A matrix of your own subclasses this class and writes `like` and `product` (and `adjoint`, if it is not symmetric).
    Sums, multiples, products, blocks, the dense matrix and the solvers then work with it.

    Example:
        >>> matrix = Matrix(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))
        >>> (2 * matrix).damped(0.5) @ torch.tensor([1.0, 0.0])
        tensor([4.5000, 2.0000])
    """

    @property
    @abc.abstractmethod
    def like(self) -> list[Tensor]:
        """Tensors with the shapes, type and device of the vectors."""

    @abc.abstractmethod
    def product(self, vector: Vector) -> list[Tensor]:
        """Return the matrix times one vector; both are lists with the shapes of `like`."""

    def products(self, stacks: Vector) -> list[Tensor]:
        """Return the matrix times `k` vectors; both are lists of tensors `[k, *shape]`."""
        results = [self.product(list(vector)) for vector in zip(*stacks, strict=True)]
        return [torch.stack(parts) for parts in zip(*results, strict=True)]

    @property
    def adjoint(self) -> "AbstractOperator":
        """The transposed matrix; the matrix itself where it is symmetric."""
        return self

    @property
    def columns_at_once(self) -> int:
        """How many columns are worth multiplying together."""
        return 1

    @property
    def size(self) -> int:
        """Number of rows and of columns."""
        return sum(tensor.numel() for tensor in self.like)

    @property
    def shape(self) -> tuple[int, int]:
        """`(size, size)`."""
        return self.size, self.size

    @property
    def dtype(self) -> torch.dtype:
        """Type of flat vectors: the widest of the tensors', and at least single precision."""
        return vectors.flat_type(self.like)

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""
        return self.like[0].device

    @overload
    def __matmul__(self, other: "AbstractOperator") -> "AbstractOperator": ...
    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...
    @overload
    def __matmul__(self, other: Vector) -> list[Tensor]: ...
    def __matmul__(self, other: "AbstractOperator | Tensor | Vector") -> "AbstractOperator | Tensor | list[Tensor]":
        """Multiply with a list of tensors, a flat vector `[n]`, a matrix `[n, k]` or another operator."""
        if isinstance(other, AbstractOperator):
            return Product(self, other)
        if isinstance(other, Tensor):
            self._check_flat(other)
            if other.dim() == 1:
                return vectors.flatten(self.product(vectors.split(other, self.like)))
            return self._multiply_columns(other)
        self._check_list(other)
        return self.product(other)

    def dense(self, *, max_bytes: int = MAX_DENSE_BYTES) -> Tensor:
        """Return the matrix itself, `[n, n]`.

        Args:
            max_bytes: memory that the matrix may take.

        Raises:
            InputError: if it would take more.
        """
        require_memory(f"{type(self).__name__}.dense()", self.size, self.size, self.dtype, max_bytes, _MULTIPLYING)
        return self._dense()

    def to_scipy(self) -> "LinearOperator":
        """Return the matrix as SciPy's `LinearOperator`, for `scipy.sparse.linalg`."""
        from scipy.sparse.linalg import LinearOperator  # only here: importing it takes as long as half of torch

        def through(operator: AbstractOperator) -> Callable[[Any], Any]:
            def multiply(columns: Any) -> Any:
                flat = torch.as_tensor(columns).to(dtype=self.dtype, device=self.device)
                return (operator @ flat.reshape(self.size, -1)).cpu().numpy().reshape(columns.shape)

            return multiply

        dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        there, back = through(self), through(self.adjoint)
        return LinearOperator(self.shape, matvec=there, rmatvec=back, matmat=there, rmatmat=back, dtype=dtype)  # pyright: ignore[reportCallIssue]

    def restricted(self, positions: Sequence[int]) -> "AbstractOperator":
        """Return the block of rows and columns that belong to some tensors of `like`, given by position."""
        return Restricted(self, positions)

    def damped(self, damping: float) -> "AbstractOperator":
        """Return the matrix plus `damping` times the identity."""
        return Sum([(1.0, self), (damping, Identity(self.like))])

    def __add__(self, other: "AbstractOperator") -> "AbstractOperator":
        return Sum([(1.0, self), (1.0, other)])

    def __sub__(self, other: "AbstractOperator") -> "AbstractOperator":
        return Sum([(1.0, self), (-1.0, other)])

    def __mul__(self, factor: float) -> "AbstractOperator":
        return Sum([(float(factor), self)])

    __rmul__ = __mul__

    def __neg__(self) -> "AbstractOperator":
        return Sum([(-1.0, self)])

    def _dense(self) -> Tensor:
        return self @ torch.eye(self.size, dtype=self.dtype, device=self.device)

    def _multiply_columns(self, columns: Tensor) -> Tensor:
        result = torch.empty_like(columns)
        for first in range(0, columns.shape[1], self.columns_at_once):
            some = slice(first, first + self.columns_at_once)
            result[:, some] = vectors.flatten_rows(self.products(vectors.split_rows(columns[:, some].T, self.like))).T
        return result

    def _check_flat(self, flat: Tensor) -> None:
        if flat.dim() not in (1, 2) or flat.shape[0] != self.size or flat.dtype != self.dtype:
            raise ValueError(
                f"A matrix of this size multiplies [{self.size}] or [{self.size}, k] numbers of type {self.dtype}; "
                f"got {list(flat.shape)} of type {flat.dtype}."
            )

    def _check_list(self, vector: Vector) -> None:
        got, expected = [list(tensor.shape) for tensor in vector], [list(tensor.shape) for tensor in self.like]
        if got != expected:
            raise ValueError(f"A vector of this matrix is a list of tensors of the shapes {expected}; got {got}.")


@final
class Matrix(AbstractOperator):
    """A dense matrix as an operator.

    Args:
        matrix: `[n, n]`, not necessarily symmetric.
        like: tensors with the shapes of the vectors, `n` numbers in all; None: one flat tensor.
    """

    def __init__(self, matrix: Tensor, like: Vector | None = None) -> None:
        if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"Matrix(matrix) must be square; got {list(matrix.shape)}.")
        self._matrix = matrix
        self._like = [matrix.new_empty(len(matrix))] if like is None else list(like)

    @property
    @override
    def like(self) -> list[Tensor]:
        return self._like

    @override
    def product(self, vector: Vector) -> list[Tensor]:
        return vectors.split(self._matrix @ vectors.flatten(vector), self._like)

    @property
    @override
    def adjoint(self) -> AbstractOperator:
        return Matrix(self._matrix.T, self._like)


@final
class Identity(AbstractOperator):
    """The identity on vectors of the given shapes."""

    def __init__(self, like: Vector) -> None:
        self._like = list(like)

    @property
    @override
    def like(self) -> list[Tensor]:
        return self._like

    @override
    def product(self, vector: Vector) -> list[Tensor]:
        return list(vector)

    @override
    def products(self, stacks: Vector) -> list[Tensor]:
        return list(stacks)


@final
class Diagonal(AbstractOperator):
    """A diagonal matrix, such as the inverse of an approximate curvature that preconditions a solver.

    Args:
        diagonal: the entries, a list of tensors or one flat tensor.
        like: tensors with the shapes of the vectors, when `diagonal` is flat and they aren't.
    """

    def __init__(self, diagonal: Tensor | Vector, like: Vector | None = None) -> None:
        if isinstance(diagonal, Tensor):
            self._diagonal = [diagonal] if like is None else vectors.split(diagonal, like)
        else:
            self._diagonal = list(diagonal)

    @property
    @override
    def like(self) -> list[Tensor]:
        return self._diagonal

    @override
    def product(self, vector: Vector) -> list[Tensor]:
        return [entries * part for entries, part in zip(self._diagonal, vector, strict=True)]

    @override
    def products(self, stacks: Vector) -> list[Tensor]:
        return self.product(stacks)


@final
class Sum(AbstractOperator):
    """Operators of one size, each with a factor, added up."""

    def __init__(self, terms: Sequence[tuple[float, AbstractOperator]]) -> None:
        shapes = [[tuple(tensor.shape) for tensor in operator.like] for _, operator in terms]
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"Only operators on the same tensors can be added; got tensors of the shapes {shapes}.")
        self._terms = [
            (factor * inner, part)
            for factor, operator in terms
            for inner, part in (operator._terms if isinstance(operator, Sum) else [(1.0, operator)])
        ]

    @property
    @override
    def like(self) -> list[Tensor]:
        return self._terms[0][1].like

    @override
    def product(self, vector: Vector) -> list[Tensor]:
        return self._added([operator.product(vector) for _, operator in self._terms])

    @override
    def products(self, stacks: Vector) -> list[Tensor]:
        return self._added([operator.products(stacks) for _, operator in self._terms])

    @property
    @override
    def adjoint(self) -> AbstractOperator:
        return Sum([(factor, operator.adjoint) for factor, operator in self._terms])

    @property
    @override
    def columns_at_once(self) -> int:
        return max(operator.columns_at_once for _, operator in self._terms)

    @override
    def restricted(self, positions: Sequence[int]) -> AbstractOperator:
        return Sum([(factor, operator.restricted(positions)) for factor, operator in self._terms])

    @override
    def _dense(self) -> Tensor:
        total = self._terms[0][0] * self._terms[0][1]._dense()
        for factor, operator in self._terms[1:]:
            if isinstance(operator, Identity):
                total.diagonal().add_(factor)
            else:
                total.add_(operator._dense(), alpha=factor)
        return total

    def _added(self, parts: list[list[Tensor]]) -> list[Tensor]:
        factor = self._terms[0][0]
        total = list(torch._foreach_mul(parts[0], factor))
        for (factor, _), part in zip(self._terms[1:], parts[1:], strict=True):
            torch._foreach_add_(total, part, alpha=factor)
        return total


@final
class Product(AbstractOperator):
    """One operator after another: `Product(left, right) @ v` is `left @ (right @ v)`."""

    def __init__(self, left: AbstractOperator, right: AbstractOperator) -> None:
        if [tensor.shape for tensor in left.like] != [tensor.shape for tensor in right.like]:
            raise ValueError("Only operators on the same tensors can be multiplied with each other.")
        self._left, self._right = left, right

    @property
    @override
    def like(self) -> list[Tensor]:
        return self._right.like

    @override
    def product(self, vector: Vector) -> list[Tensor]:
        return self._left.product(self._right.product(vector))

    @override
    def products(self, stacks: Vector) -> list[Tensor]:
        return self._left.products(self._right.products(stacks))

    @property
    @override
    def adjoint(self) -> AbstractOperator:
        return Product(self._right.adjoint, self._left.adjoint)

    @property
    @override
    def columns_at_once(self) -> int:
        return max(self._left.columns_at_once, self._right.columns_at_once)


@final
class Restricted(AbstractOperator):
    """The block of an operator that belongs to some of its tensors, by multiplying with vectors zero elsewhere."""

    def __init__(self, operator: AbstractOperator, positions: Sequence[int]) -> None:
        check_positions(positions, len(operator.like))
        self._operator, self._positions = operator, list(positions)

    @property
    @override
    def like(self) -> list[Tensor]:
        return [self._operator.like[i] for i in self._positions]

    @override
    def product(self, vector: Vector) -> list[Tensor]:
        whole = [torch.zeros_like(tensor) for tensor in self._operator.like]
        for i, part in zip(self._positions, vector, strict=True):
            whole[i] = part
        result = self._operator.product(whole)
        return [result[i] for i in self._positions]

    @property
    @override
    def adjoint(self) -> AbstractOperator:
        return Restricted(self._operator.adjoint, self._positions)


def check_positions(positions: Sequence[int], num_tensors: int) -> None:
    """Raise ValueError unless the positions are different numbers in `[0, num_tensors)`, at least one."""
    if not positions or len(set(positions)) != len(positions) or not set(positions) <= set(range(num_tensors)):
        raise ValueError(
            f"restricted(positions=...) must hold different numbers from 0 to {num_tensors - 1}; got {list(positions)}."
        )


def require_real(parameters: Vector) -> None:
    """Refuse complex parameters: a loss has no matrix of second derivatives in them, only in their parts."""
    if any(tensor.is_complex() for tensor in parameters):
        raise ValueError(
            "Curvature is that of real parameters, and one of these is complex: make it a real tensor of real and "
            "imaginary parts, and torch.view_as_complex of that in the model; or choose others."
        )


def require_memory(
    what: str, rows: int, columns: int, dtype: torch.dtype, max_bytes: float, instead: str, *, copies: int = 1
) -> None:
    """Refuse a dense matrix, of which `what` holds some copies, where it would take more memory than allowed."""
    num_bytes = copies * rows * columns * dtype.itemsize
    if num_bytes > max_bytes:
        raise InputError(
            f"{what} needs a dense matrix of {rows:,} x {columns:,}, which takes {in_units(num_bytes)} here; at most "
            f"{in_units(max_bytes)} is allowed. Use {instead}."
        )


def in_units(num_bytes: float) -> str:
    """Return a number of bytes in the unit that a person would use, such as '2.5 MB'."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes / 1e3:.3g} kB"
