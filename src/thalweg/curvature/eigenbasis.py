"""Kronecker blocks in the eigenvectors of their factors, where a damped inverse is a division."""

import dataclasses
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg import distributed, vectors
from thalweg.curvature.kronecker import Block, WholeSlopes, matrix_of, parts_of, passes
from thalweg.curvature.layers import AbstractUse, DenseUse, TableUse
from thalweg.curvature.operators import AbstractOperator
from thalweg.objective import Objective
from thalweg.vectors import Vector

_CHUNK_NUMBERS = 2**24  # of gradients of examples that are made at once


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Eigenbasis:
    r"""A block $L \otimes R$ by the eigenvalues and eigenvectors of its factors.

    Args:
        members: positions of the parameters.
        left_values: of L, `[m]`.
        left_vectors: of L, one a column, `[m, m]`; None: the unit vectors.
        right_values: of R, `[n]`.
        right_vectors: of R, likewise.
        moments: the block's true diagonal in that basis, `[m, n]`, in place of the products of eigenvalues; None: not
            measured.
    """

    members: tuple[int, ...]
    left_values: Tensor
    left_vectors: Tensor | None
    right_values: Tensor
    right_vectors: Tensor | None
    moments: Tensor | None = None

    @staticmethod
    def of(block: Block) -> "Eigenbasis":
        """Decompose a block."""
        left, right = _decomposed(block.left), _decomposed(block.right)
        return Eigenbasis(block.members, *left, *right)

    @staticmethod
    def unpacked(packed: dict[str, Any]) -> "Eigenbasis":
        """Return what `packed` was made of."""
        return Eigenbasis(**{**packed, "members": tuple(packed["members"])})

    def packed(self) -> dict[str, Any]:
        """Return it as tensors and plain values, such as a saved file can hold."""
        return {**vars(self), "members": list(self.members)}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix of parameters."""
        return len(self.left_values), len(self.right_values)

    @property
    def diagonal(self) -> Tensor:
        """The block in this basis, `[m, n]`."""
        return torch.outer(self.left_values, self.right_values) if self.moments is None else self.moments

    def into(self, matrix: Tensor) -> Tensor:
        """Return a matrix of parameters in this basis."""
        matrix = matrix if self.left_vectors is None else self.left_vectors.T @ matrix
        return matrix if self.right_vectors is None else matrix @ self.right_vectors

    def out_of(self, matrix: Tensor) -> Tensor:
        """Return a matrix from this basis as parameters; the inverse of `into`."""
        matrix = matrix if self.left_vectors is None else self.left_vectors @ matrix
        return matrix if self.right_vectors is None else matrix @ self.right_vectors.T

    def damped(self, damping: float) -> Tensor:
        r"""Return the eigenvalues of the damped block, `[m, n]`.

        Those of a product get the damping split over both factors by the mean of their eigenvalues, as
        $(L + \pi \sqrt\mu I) \otimes (R + \sqrt\mu / \pi\, I)$; those measured, and of one factor only, get it added.
        """
        if self.moments is not None or 1 in self.shape:
            return self.diagonal + damping
        means = torch.stack([self.left_values.mean(), self.right_values.mean()])
        least = torch.finfo(means.dtype).tiny
        ratio = (means[0].clamp(min=least) / means[1].clamp(min=least)).sqrt()
        root = damping**0.5
        return torch.outer(self.left_values + ratio * root, self.right_values + root / ratio)

    def solve(self, matrix: Tensor, damping: float) -> Tensor:
        """Return the damped block's inverse times a matrix of parameters; zero where both are zero."""
        values = self.damped(damping)
        return self.out_of(torch.where(values > 0.0, self.into(matrix) / values, 0.0))


def _decomposed(side: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return eigenvalues, none below zero, and eigenvectors of a factor; a diagonal has itself and none."""
    if side.dim() == 1:
        return side, None
    values, vectors_ = torch.linalg.eigh(side)
    # In the order in which it would be saved and loaded, so that a resumed run multiplies to the same bits.
    return values.clamp(min=0.0), vectors_.contiguous()


def second_moments(
    objective: Objective,
    parameters: Sequence[Tensor],
    bases: Sequence[Eigenbasis],
    *,
    num_samples: int | None = None,
    seed: int = 0,
) -> list[Tensor | None]:
    r"""Return the diagonal of the Gauss-Newton matrix in the eigenvectors of each block, `[m, n]`.

    $$s_{ij} = \frac1n \sum_{e, k} \Bigl(u_i^\top \sum_r \delta_{erk} a_{er}^\top v_j\Bigr)^2$$

    over examples e with their positions r. Of all diagonal matrices in the basis this is the nearest one.

    Args:
        objective: the function.
        parameters: those whose positions the bases name.
        bases: the blocks' eigenvectors.
        num_samples: as for `kronecker_factors`.
        seed: of the signs.

    Returns:
        One tensor a basis; None for a parameter of several layers, and for one that no batch has used.

    Source: George, Laurent, Bouthillier, Ballas, Vincent, "Fast Approximate Natural Gradient Descent in a
    Kronecker-factored Eigenbasis" (2018).
    """
    owners = {member: i for i, basis in enumerate(bases) for member in basis.members}
    totals = [basis.left_values.new_zeros(basis.shape) for basis in bases]
    layers: list[set[tuple[tuple[int, ...], bool]]] = [set() for _ in bases]  # that use a basis's parameters
    count, whole = totals[0].new_zeros(()), WholeSlopes(parameters, totals[0].dtype)
    for seen, slopes, others in passes(objective, parameters, num_samples, seed):
        count += seen.count
        for use, found in zip(seen.uses, slopes, strict=True):
            for place in {owners[member] for member in use.members}:
                layers[place].add((use.members, use.transposed))
                if use.members == bases[place].members:
                    for slope in found:
                        _add_squares(totals[place], bases[place], use, slope, len(seen.prediction))
        for position, found in others.items():
            place = owners[position]
            if bases[place].members == (position,) and bases[place].right_vectors is None and found:
                layers[place].add(((position,), False))
                whole.add({position: found})
    raw = distributed.sum_over_ranks([*totals, count])
    for total, basis in zip(raw, bases, strict=False):
        if len(basis.members) == 1 and basis.right_vectors is None:
            total += whole.squares(basis.members[0]).reshape(basis.shape)
    divisor = objective.head.divisor(raw[-1]) * (num_samples or 1)
    alone = [
        used in ({(basis.members, False)}, {(basis.members, True)}) for used, basis in zip(layers, bases, strict=True)
    ]
    return [total / divisor if fits else None for total, fits in zip(raw[:-1], alone, strict=True)]


def _add_squares(total: Tensor, basis: Eigenbasis, use: AbstractUse, slope: Tensor, num_examples: int) -> None:
    """Add the squares of each example's gradient in the basis."""
    if isinstance(use, TableUse):
        rows = slope.reshape(-1, slope.shape[-1]).to(total)
        rows = rows if basis.right_vectors is None else rows @ basis.right_vectors
        rows = rows.square() if use.places is None else rows.square().index_select(0, use.places)
        total.index_add_(0, use.ids, rows if use.factors is None else rows * use.factors.to(rows).square().unsqueeze(1))
        return
    assert isinstance(use, DenseUse)
    by_example = slope.dim() > 2 and len(slope) == num_examples
    left, right = use.output_rows(slope).to(total), use.input_rows()
    left = left if basis.left_vectors is None else left @ basis.left_vectors
    if right is None:
        total += _summed(left, by_example).square().sum(0).unsqueeze(1)
        return
    right = right.to(total) if basis.right_vectors is None else right.to(total) @ basis.right_vectors
    if not by_example:
        left, right = left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1])
        total.addmm_(left.square().T, right.square())
        return
    left, right = left.flatten(1, -2), right.flatten(1, -2)
    for lefts, rights in zip(*(t.split(max(1, _CHUNK_NUMBERS // total.numel())) for t in (left, right)), strict=True):
        total += (lefts.mT @ rights).square().sum(0)


def _summed(rows: Tensor, by_example: bool) -> Tensor:
    return rows.flatten(1, -2).sum(1) if by_example else rows.reshape(-1, rows.shape[-1])


@final
class KroneckerInverse(AbstractOperator):
    """The inverse of damped blocks, as a preconditioner of conjugate gradients; it multiplies one flat tensor.

    Args:
        bases: one for each block; what none of them has becomes zero.
        parameters: tensors whose positions the bases name.
        dampings: one for each parameter, what penalizes it included.
    """

    def __init__(self, bases: Sequence[Eigenbasis], parameters: Vector, dampings: Sequence[float]) -> None:
        self._bases, self._parameters, self._dampings = bases, list(parameters), dampings
        size = sum(tensor.numel() for tensor in parameters)
        self._like = [parameters[0].new_empty(size, dtype=vectors.flat_type(parameters))]

    @property
    @override
    def like(self) -> list[Tensor]:
        return self._like

    @override
    def product(self, vector: Vector) -> list[Tensor]:
        sizes = [tensor.numel() for tensor in self._parameters]
        parts = [p.reshape(t.shape) for p, t in zip(vector[0].split(sizes), self._parameters, strict=True)]
        found = [torch.zeros_like(part) for part in parts]
        for basis in self._bases:
            own = [parts[i] for i in basis.members]
            solved = basis.solve(matrix_of(basis.shape, own), self._dampings[basis.members[0]])
            for i, part in zip(basis.members, parts_of(solved, own), strict=True):
                found[i] = part
        return [torch.cat([part.reshape(-1) for part in found])]
