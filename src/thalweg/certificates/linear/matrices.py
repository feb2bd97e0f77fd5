"""Feature matrices that are only multiplied: dense or sparse rows, with their transpose at hand."""

import functools
import warnings
from collections.abc import Iterator
from typing import Any, Final, final

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from thalweg.certificates.linear import packed
from thalweg.certificates.linear.packed import Packed
from thalweg.certificates.linear.stored import Stored, blocks

DENSE_IS_QUICKER: Final = 100  # products of a dense matrix in the time of one of a sparse one


@final
class Features:
    r"""A matrix $X$ of features, one row an example: `times` is $X M$, `adjoint` is $X^\top R$.

    Sparse matrices are kept by rows. Products with several columns go by rows of the transpose, too, several times
    quicker than by columns on any device; for one column on the CPU the rows alone are as quick, and the transpose is
    not even built. The matrix is not copied where it has the right type already. One of more than 2^23 entries on the
    CPU is kept as it is, float32 too, and no copies are made of it (see `Packed`).

    Args:
        matrix: `[num_examples, num_features]`: a tensor (dense, or sparse in any layout), a NumPy array, a SciPy
            sparse matrix, or a `Stored` one in float64. Entries must be finite.
        device: where to compute; None: where the matrix is.

    Attributes:
        shape: (num_examples, num_features).

    Raises:
        ValueError: for anything else than a matrix of finite numbers.

    Example:
        >>> features = Features(sparse.csr_array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]))
        >>> features.times(torch.ones(2, 1, dtype=torch.float64)).flatten().tolist()
        [1.0, 2.0, 3.0]
        >>> features.adjoint(torch.ones(3, 1, dtype=torch.float64)).flatten().tolist()
        [4.0, 2.0]
    """

    def __init__(self, matrix: Any, device: torch.device | str | None = None) -> None:
        self._stored = {matrix.rows.dtype: matrix} if isinstance(matrix, Stored) else None
        matrix = matrix.rows if isinstance(matrix, Stored) else matrix
        if device is None:
            device = matrix.device if isinstance(matrix, Tensor) else "cpu"
        self._sparse = _as_scipy(matrix, torch.device(device))
        self._packed: Packed | None = None
        if self._sparse is not None:
            if self._sparse.nnz > packed.LEAST and torch.device(device).type == "cpu":
                self._packed = Packed(self._sparse)
            self._rows = packed.as_tensor(self._sparse).to(device)
            finite = bool(np.isfinite(self._sparse.data).all())
        else:
            self._rows = torch.as_tensor(matrix).detach().to(device, torch.float64)
            if self._rows.ndim != 2:
                raise ValueError(f"Features(matrix) must have two dimensions; got the shape {list(self._rows.shape)}.")
            finite = all(bool(torch.isfinite(self._rows[part]).all()) for part in self._parts(torch.float64))
        if not finite:
            raise ValueError("Features(matrix) must hold finite numbers; there is NaN or infinity among them.")
        self.shape: tuple[int, int] = (int(self._rows.shape[0]), int(self._rows.shape[1]))

    @property
    def device(self) -> torch.device:
        """Where products are computed."""
        return self._rows.device

    @property
    def is_sparse(self) -> bool:
        """Whether only entries other than zero are kept."""
        return self._sparse is not None

    @property
    def is_stored(self) -> bool:
        """Whether the matrix is in a file, since it is large."""
        return self._stored is not None

    def times(self, right: Tensor) -> Tensor:
        """Return $X M$, `[num_examples, outputs]`, for $M$ `[num_features, outputs]`, float64 or float32."""
        if self._packed is not None:
            return self._packed.times(right)
        rows = self._rows if right.dtype == torch.float64 else self._rows_in_float32
        if self.is_sparse and right.shape[1] == 1:
            return (rows @ right[:, 0]).unsqueeze(1)
        if self._stored is None:
            return rows @ right
        product = right.new_empty(len(rows), right.shape[1])
        for part in self._parts(right.dtype):
            torch.mm(rows[part], right, out=product[part])
        return product

    def adjoint(self, right: Tensor) -> Tensor:
        r"""Return $X^\top R$, `[num_features, outputs]`, for $R$ `[num_examples, outputs]`."""
        if self._packed is not None:
            return self._packed.adjoint(right)
        double = right.dtype == torch.float64
        if self._sparse is None:
            rows = self._rows if double else self._rows_in_float32
            if self._stored is None:
                return rows.T @ right
            product = right.new_zeros(rows.shape[1], right.shape[1])
            for part in self._parts(right.dtype):
                product.addmm_(rows[part].T, right[part])
            return product
        if right.shape[1] == 1 and right.device.type == "cpu":
            packed = self._transpose if double else self._transpose_in_float32
            return torch.from_numpy(packed @ right[:, 0].numpy()).unsqueeze(1)
        return (self._columns if double else self._columns_in_float32) @ right

    def adjoint_of_parts(self, parts: Iterator[tuple[slice, Tensor]]) -> Tensor:
        r"""Return $X^\top R$ for a float64 R that comes some rows at a time, all of them in order."""
        if self.is_sparse:
            return self.adjoint(torch.cat([right for _, right in parts]))
        product: Tensor | None = None
        for rows, right in parts:
            part = self._rows[rows].T @ right
            product = part if product is None else product.add_(part)
            if self._stored is not None:
                self._stored[torch.float64].release()
        assert product is not None
        return product

    def columns(self, chosen: Tensor) -> "Columns":
        """Return some columns, in float32."""
        if self._sparse is None:
            return Columns(self._rows[:, chosen].float(), self.device)
        part = self._by_columns[:, chosen.cpu().numpy()]
        return Columns(_in_place_of(part, part.data.astype(np.float32)), self.device)

    def square_sums(self, weights: Tensor) -> Tensor:
        r"""Return $\sum_i w_i x_{ij}^2$ for each feature $j$, `[num_features]`, in the type of the weights.

        Args:
            weights: $w$, `[num_examples]`, float64 or float32.
        """
        if self._packed is not None:
            return torch.from_numpy(self._packed.square_sums(weights.numpy()))
        double = weights.dtype == torch.float64
        if self._sparse is None:
            rows = self._rows if double else self._rows_in_float32
            sums = weights.new_zeros(self.shape[1])
            for part in self._parts(weights.dtype):
                sums.addmv_(rows[part].square().T, weights[part])
            return sums
        squares = self._squares if double else self._squares_in_float32
        return torch.from_numpy(squares @ weights.cpu().numpy()).to(weights.device)

    @functools.cached_property
    def most_terms(self) -> int:
        r"""How many numbers at most are added up for an entry of $X^\top R$."""
        if self._packed is not None:
            return self._packed.most_in_a_column()
        return self.shape[0] if self._sparse is None else int(np.bincount(self._sparse.indices, minlength=1).max())

    def row_norms(self) -> Tensor:
        """Return the Euclidean length of each row, `[num_examples]`."""
        return self._row_norms

    def _parts(self, dtype: torch.dtype) -> Iterator[slice]:
        """Yield slices of the rows of a dense matrix of this type."""
        return blocks(*self._rows.shape) if self._stored is None else self._stored[dtype].blocks()

    # ---- other forms of the matrix, each made when it is first needed ----

    @functools.cached_property
    def _row_norms(self) -> Tensor:
        if self._packed is not None:
            return torch.from_numpy(self._packed.row_norms())
        if self._sparse is None:
            return torch.cat([torch.linalg.vector_norm(self._rows[part], dim=1) for part in self._parts(torch.float64)])
        return torch.from_numpy(np.sqrt(self._squares.T @ np.ones(self.shape[1]))).to(self.device)

    @functools.cached_property
    def _by_columns(self) -> Any:
        return self._sparse.tocsc() if self._packed is None else self._packed.turned.T

    @functools.cached_property
    def _columns(self) -> Tensor:
        return packed.as_tensor(self._by_columns.T).to(self.device)

    @functools.cached_property
    def _columns_in_float32(self) -> Tensor:
        return _like(self._columns, self._columns.values().float())

    @functools.cached_property
    def _rows_in_float32(self) -> Tensor:
        """The matrix in half the memory, for products that need few digits."""
        if self._stored is not None:
            stored = self._stored[torch.float32] = Stored(*self.shape, torch.float32)
            for part in self._parts(torch.float64):
                stored.rows[part] = self._rows[part]
                stored.release()
            return stored.rows
        if self._sparse is None:
            return self._rows.float()
        return _like(self._rows, torch.from_numpy(self._transpose_in_float32.data).to(self.device))

    @functools.cached_property
    def _transpose(self) -> Any:
        return self._sparse.T

    @functools.cached_property
    def _transpose_in_float32(self) -> Any:
        return _in_place_of(self._transpose, self._transpose.data.astype(np.float32))

    @functools.cached_property
    def _squares(self) -> Any:
        return _in_place_of(self._transpose, np.square(self._transpose.data))

    @functools.cached_property
    def _squares_in_float32(self) -> Any:
        return _in_place_of(self._transpose, np.square(self._transpose_in_float32.data))

    def arrays(self) -> dict[str, np.ndarray | int]:
        """Return the matrix as the evidence of a certificate holds it: "X", or the "X_..." of packed rows."""
        if self._sparse is None:
            return {"X": self._rows.cpu().numpy()}
        matrix = self._sparse
        return {
            "X_values": np.asarray(matrix.data, dtype=np.float64),
            "X_columns": np.asarray(matrix.indices, dtype=np.int32),
            "X_starts": np.asarray(matrix.indptr, dtype=np.int64),
            "X_width": int(matrix.shape[1]),
        }


@final
class Columns:
    """Some columns of a matrix of features, in float32; vectors in and out, in float32 as well.

    Args:
        matrix: `[num_examples, num_columns]`, a tensor or a SciPy matrix by columns.
        device: of the vectors.
    """

    def __init__(self, matrix: Any, device: torch.device) -> None:
        self._matrix, self._device = matrix, device
        self._rows = matrix.tocsr() if sparse.issparse(matrix) else None

    def times(self, right: Tensor) -> Tensor:
        """Return the columns times a vector, `[num_examples]`."""
        return self._matrix @ right if self._rows is None else self._product(self._rows, right)

    def adjoint(self, right: Tensor) -> Tensor:
        """Return the transpose times a vector, `[num_columns]`."""
        return self._matrix.T @ right if self._rows is None else self._product(self._matrix.T, right)

    def square_sums(self, weights: Tensor) -> Tensor:
        r"""Return $\sum_i w_i x_{ij}^2$ for each column, `[num_columns]`."""
        if self._rows is None:
            return self._matrix.T.square() @ weights
        return self._product(_in_place_of(self._matrix, np.square(self._matrix.data)).T, weights)

    def gram(self, weights: Tensor) -> Tensor:
        r"""Return $X^\top \mathrm{diag}(w) X$ for $w \ge 0$, `[num_columns, num_columns]`, in float64."""
        if self._rows is None:
            return (self._matrix.T @ (weights[:, None] * self._matrix)).double()
        roots = weights.cpu().sqrt().numpy()
        scaled = _in_place_of(self._matrix, self._matrix.data * roots[self._matrix.indices])
        by_rows = np.diff(self._rows.indptr).astype(np.float64)
        if DENSE_IS_QUICKER * float(by_rows @ by_rows) > len(by_rows) * scaled.shape[1] ** 2:
            dense = torch.from_numpy(scaled.T.toarray())
            return (dense @ dense.T).double().to(self._device)
        return torch.from_numpy((scaled.T @ scaled.tocsr()).toarray()).double().to(self._device)

    def _product(self, matrix: Any, right: Tensor) -> Tensor:
        return torch.from_numpy(matrix @ right.cpu().numpy()).to(self._device)


def from_bags(tokens: Tensor, offsets: Tensor, weights: Tensor | None, num_features: int) -> Features:
    """Return the matrix that an `nn.EmbeddingBag` multiplies its table of `num_features` rows with.

    The tokens are the features of all texts, one after the other (one that comes twice in a text is added up), and the
    offsets say where each text begins; weights of None are all one.
    """
    ids = tokens.detach().cpu().numpy()
    values = np.ones(len(ids)) if weights is None else weights.detach().cpu().numpy()
    indptr = np.append(offsets.detach().cpu().numpy(), len(ids))
    if len(ids) == len(offsets) * num_features and bool(
        (ids.reshape(len(offsets), -1) == np.arange(num_features)).all()
    ):
        return Features(values.reshape(len(offsets), num_features), tokens.device)  # every text has all of them
    return Features(sparse.csr_array((values, ids, indptr), shape=(len(offsets), num_features)), tokens.device)


def _as_scipy(matrix: Any, device: torch.device) -> Any:
    """Return a sparse matrix by rows, each entry once, or None for a dense one; in float64, or packed as it is."""
    if sparse.issparse(matrix):
        rows: Any = sparse.csr_array(matrix)
        as_it_is = rows.nnz > packed.LEAST and device.type == "cpu" and rows.dtype == np.float32
        if not (as_it_is and rows.has_canonical_format):
            rows = rows.astype(np.float64, copy=False)
    elif isinstance(matrix, Tensor) and matrix.layout != torch.strided:
        coo = matrix.detach().to_sparse_coo().coalesce().cpu()
        if coo.ndim != 2 or coo.values().ndim != 1:
            raise ValueError(f"Features(matrix) must have two dimensions; got the shape {list(matrix.shape)}.")
        places, columns = coo.indices().unbind()
        rows = sparse.csr_array((coo.values().double().numpy(), (places, columns)), shape=tuple(coo.shape))
    else:
        return None
    if not rows.has_canonical_format:
        rows = rows.copy()  # the caller's own memory stays as it is
        rows.sum_duplicates()
    return rows


def _in_place_of(matrix: Any, data: np.ndarray) -> Any:
    """Return a matrix with other values in the same places; these are not copied."""
    return sparse.csc_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _like(matrix: Tensor, values: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
        return torch.sparse_csr_tensor(matrix.crow_indices(), matrix.col_indices(), values, size=matrix.shape)
