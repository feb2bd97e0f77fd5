"""Feature matrices that are only multiplied: dense or sparse rows, with their transpose at hand."""

import warnings
from typing import Any, Final, final

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

_LONGEST_INT32: Final = 2**31 - 1


@final
class Features:
    r"""A matrix $X$ of features, one row an example: `times` is $X M$, `adjoint` is $X^\top R$.

    Sparse matrices are kept by rows twice, as they are and transposed, because a product by rows is several times
    quicker than one by columns, on any device.

    Args:
        matrix: `[num_examples, num_features]`: a tensor (dense, or sparse in any layout), a NumPy array or a SciPy
            sparse matrix. Entries must be finite.
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
        self._sparse = _as_scipy(matrix)
        if device is None:
            device = matrix.device if isinstance(matrix, Tensor) else "cpu"
        if self._sparse is not None:
            self._rows = _as_rows(self._sparse, device)
            self._columns = _as_rows(self._sparse.T.tocsr(), device)
            values = self._rows.values()
        else:
            values = torch.as_tensor(matrix).detach().to(device, torch.float64)
            if values.ndim != 2:
                raise ValueError(f"Features(matrix) must have two dimensions; got the shape {list(values.shape)}.")
            self._rows, self._columns = values, values.T
        self._by_columns: Any = None
        self._squares: Tensor | None = None
        self._single: tuple[Tensor, Tensor] | None = None
        if not bool(torch.isfinite(values).all()):
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

    def times(self, right: Tensor) -> Tensor:
        """Return $X M$, `[num_examples, outputs]`, for $M$ `[num_features, outputs]`, float64 or float32."""
        return (self._rows if right.dtype == torch.float64 else self._in_float32()[0]) @ right

    def adjoint(self, right: Tensor) -> Tensor:
        r"""Return $X^\top R$, `[num_features, outputs]`, for $R$ `[num_examples, outputs]`."""
        return (self._columns if right.dtype == torch.float64 else self._in_float32()[1]) @ right

    def columns(self, chosen: Tensor) -> Tensor:
        """Return some columns as a dense matrix, `[num_examples, len(chosen)]`."""
        if self._sparse is None:
            return self._rows[:, chosen]
        if self._by_columns is None:
            self._by_columns = self._sparse.tocsc()
        part = self._by_columns[:, chosen.cpu().numpy()].toarray(order="F")
        return torch.from_numpy(part.T).T.to(self.device)

    def square_sums(self, weights: Tensor) -> Tensor:
        r"""Return $\sum_i w_i x_{ij}^2$ for each feature $j$, `[num_features]`.

        Args:
            weights: $w$, `[num_examples]`.
        """
        if not self.is_sparse:
            return self._columns.square() @ weights
        if self._squares is None:
            self._squares = _like(self._columns, self._columns.values().square())
        return self._squares @ weights

    def row_norms(self) -> Tensor:
        """Return the Euclidean length of each row, `[num_examples]`."""
        if not self.is_sparse:
            return torch.linalg.vector_norm(self._rows, dim=1)
        ones = torch.ones(self.shape[1], dtype=torch.float64, device=self.device)
        return (_like(self._rows, self._rows.values().square()) @ ones).sqrt()

    def _in_float32(self) -> tuple[Tensor, Tensor]:
        """Return the matrix and its transpose in half the memory, for products that need few digits."""
        if self._single is None:
            if self.is_sparse:
                rows, columns = (_like(one, one.values().float()) for one in (self._rows, self._columns))
            else:
                rows = self._rows.float()
                columns = rows.T
            self._single = rows, columns
        return self._single

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


def from_bags(tokens: Tensor, offsets: Tensor, weights: Tensor | None, num_features: int) -> Features:
    """Return the matrix that an `nn.EmbeddingBag` multiplies its table of `num_features` rows with.

    The tokens are the features of all texts, one after the other (one that comes twice in a text is added up), and the
    offsets say where each text begins; weights of None are all one.
    """
    ids = tokens.detach().cpu().numpy()
    values = np.ones(len(ids)) if weights is None else weights.detach().cpu().double().numpy()
    indptr = np.append(offsets.detach().cpu().numpy(), len(ids))
    matrix = sparse.csr_array((values, ids, indptr), shape=(len(offsets), num_features))
    if not matrix.has_canonical_format:
        matrix = matrix.copy()  # the tensors' own memory stays as it is
        matrix.sum_duplicates()
    return Features(matrix, tokens.device)


def _as_scipy(matrix: Any) -> Any:
    """Return a sparse matrix by rows, or None for a dense one."""
    if sparse.issparse(matrix):
        return sparse.csr_array(matrix).astype(np.float64)
    if isinstance(matrix, Tensor) and matrix.layout != torch.strided:
        coo = matrix.detach().to_sparse_coo().coalesce().cpu()
        if coo.ndim != 2 or coo.values().ndim != 1:
            raise ValueError(f"Features(matrix) must have two dimensions; got the shape {list(matrix.shape)}.")
        rows, columns = coo.indices().unbind()
        return sparse.csr_array((coo.values().double().numpy(), (rows, columns)), shape=tuple(coo.shape))
    return None


def _as_rows(matrix: Any, device: torch.device | str) -> Tensor:
    kind = np.int32 if max(matrix.nnz, *matrix.shape) <= _LONGEST_INT32 else np.int64
    starts, places = (
        torch.from_numpy(np.ascontiguousarray(part, dtype=kind)) for part in (matrix.indptr, matrix.indices)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)  # "beta state"
        return torch.sparse_csr_tensor(
            starts, places, torch.from_numpy(np.ascontiguousarray(matrix.data)), size=matrix.shape
        ).to(device)


def _like(matrix: Tensor, values: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)
        return torch.sparse_csr_tensor(matrix.crow_indices(), matrix.col_indices(), values, size=matrix.shape)
