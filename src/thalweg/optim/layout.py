"""How a parameter is seen as matrices: gates and packed projections apart, big axes in blocks."""

import dataclasses
import math
from collections.abc import Sequence
from typing import final

from torch import Tensor
from torch.nn import functional as F


@final
@dataclasses.dataclass(frozen=True)
class Layout:
    """A parameter as a stack of matrices of one shape, `[count, rows, columns]`.

    Everything after the first axis is one axis, as for a convolution's kernels: a matrix `[outputs, inputs]`. It may
    hold several matrices one below the other, and each of them may be cut into blocks; what does not divide evenly is
    filled up with zeros, which stay zero under every method here.

    Args:
        shape: of the parameter, at least two axes.
        pieces: number of equal matrices along the first axis: 4 for an LSTM's weights, 3 for packed attention.
        transposed: whether the matrix is `[inputs, outputs]`.
        block_size: longest axis of a block; 0: no blocks.
        largest_axis: longest axis that is cut into blocks; 0: any.

    Example:
        >>> layout = Layout((16, 6), pieces=4, block_size=3)
        >>> layout.matrix, layout.blocks, layout.stacked
        ((4, 6), (2, 2), (16, 2, 3))
        >>> import torch
        >>> weight = torch.randn(16, 6)
        >>> torch.equal(layout.merge(layout.split(weight)), weight)
        True
    """

    shape: Sequence[int]
    pieces: int = 1
    transposed: bool = False
    block_size: int = 0
    largest_axis: int = 0

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of each matrix."""
        rows, columns = self.shape[0], math.prod(self.shape[1:])
        if self.transposed:
            rows, columns = columns, rows
        return rows // self.pieces, columns

    @property
    def blocks(self) -> tuple[int, int]:
        """Number of blocks along the rows and the columns of each matrix."""
        sizes = [self.block_size if self.reaches(size) else 0 for size in self.matrix]
        return _number_of_blocks(self.matrix[0], sizes[0]), _number_of_blocks(self.matrix[1], sizes[1])

    def reaches(self, size: int) -> bool:
        """Whether an axis of a matrix is at most the largest."""
        return not self.largest_axis or size <= self.largest_axis

    @property
    def stacked(self) -> tuple[int, int, int]:
        """Shape of the stack."""
        (rows, columns), (down, across) = self.matrix, self.blocks
        return self.pieces * down * across, -(-rows // down), -(-columns // across)

    def split(self, tensor: Tensor) -> Tensor:
        """Return `[count, rows, columns]` of a tensor of the parameter's shape; a view where that is possible."""
        (rows, columns), (down, across) = self.matrix, self.blocks
        flat = tensor.reshape(self.shape[0], -1)
        flat = flat.mT if self.transposed else flat
        stack = flat.reshape(self.pieces, rows, columns)
        if down == across == 1:
            return stack
        count, height, width = self.stacked
        stack = F.pad(stack, (0, across * width - columns, 0, down * height - rows))
        return stack.view(self.pieces, down, height, across, width).transpose(2, 3).reshape(count, height, width)

    def merge(self, stack: Tensor) -> Tensor:
        """Return a tensor of the parameter's shape for what `split` returned."""
        (rows, columns), (down, across) = self.matrix, self.blocks
        if not down == across == 1:
            _, height, width = self.stacked
            stack = stack.view(self.pieces, down, across, height, width).transpose(2, 3)
            stack = stack.reshape(self.pieces, down * height, across * width)[:, :rows, :columns]
        flat = stack.reshape(self.pieces * rows, columns)
        return (flat.mT if self.transposed else flat).reshape(tuple(self.shape))


def _number_of_blocks(size: int, block_size: int) -> int:
    """The smallest number that divides evenly, if it is at most twice as many as needed; else as many as needed."""
    if not block_size or size <= block_size:
        return 1
    needed = -(-size // block_size)
    return next((number for number in range(needed, 2 * needed + 1) if size % number == 0), needed)
