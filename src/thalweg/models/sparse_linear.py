"""A linear model over many sparse features: the scores of a word are the sum of the weights of its features."""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.errors import require


@final
class SparseLinear(nn.Module):
    r"""Scores for each word of sentences, each the sum of the weights of the word's features.

    $$h_i = \sum_{f \in F_i} W_f$$

    with a table $W$ that starts at zero. Under a convex head, such as `Softmax(None, C)` or `CRF(None, C)`, the loss is
    a convex function of it: there is no local minimum.

    Args:
        num_features: rows of the table, at least 1.
        width: scores of a word: the number of tags.

    Attributes:
        width: as given.
        gives_scores: True: the hidden states are the scores, and a head needs no layer.

    Raises:
        ValueError: for sizes below 1.

    Example:
        >>> model = SparseLinear(5, 2)
        >>> features, offsets = torch.tensor([0, 4, 1]), torch.tensor([0, 2])  # two words: [0, 4] and [1]
        >>> model(features, offsets, *transposed(features, offsets, 5), torch.tensor([[True, True]])).shape
        torch.Size([1, 2, 2])

    Source: Lafferty, McCallum and Pereira (2001), Conditional Random Fields, for what it is used for here.

    Not for features with values other than one.
    """

    gives_scores = True

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        require(num_features >= 1, "SparseLinear(num_features=...) must be at least 1", num_features)
        require(width >= 1, "SparseLinear(width=...) must be at least 1", width)
        self.weight = nn.Parameter(torch.zeros(num_features, width))
        self.width = width

    def forward(self, features: Tensor, offsets: Tensor, words: Tensor, starts: Tensor, mask: Tensor) -> Tensor:
        """Return scores `[batch, time, width]`, zeros at padding.

        Args:
            features: of all words, one after the other, int `[total]`.
            offsets: where each word begins in `features`, int `[words]`.
            words: the same the other way: the words that have a feature, feature by feature, int `[total]`.
            starts: where each feature begins in `words`, int `[num_features]`; both from `transposed`.
            mask: True at the words, which come row by row, bool `[batch, time]`.
        """
        sums = _Sums.apply(self.weight, features, offsets, words, starts)
        assert isinstance(sums, Tensor)
        places = mask.flatten().nonzero().squeeze(1)
        return sums.new_zeros(mask.numel(), self.width).index_copy(0, places, sums).view(*mask.shape, self.width)


def transposed(features: Tensor, offsets: Tensor, num_features: int) -> tuple[Tensor, Tensor]:
    """Return the words of each feature, from the features of each word: see `SparseLinear.forward`.

    Example:
        >>> transposed(torch.tensor([0, 2, 0]), torch.tensor([0, 2]), 3)  # two words: [0, 2] and [0]
        (tensor([0, 1, 0]), tensor([0, 2, 2]))
    """
    ends = torch.cat([offsets[1:], offsets.new_tensor([len(features)])])
    words = torch.repeat_interleave(torch.arange(len(offsets), dtype=features.dtype), (ends - offsets).long())
    order = torch.argsort(features, stable=True)
    counts = torch.bincount(features, minlength=num_features).to(features.dtype)
    return words[order], (counts.cumsum(0) - counts).to(features.dtype)


class _Sums(torch.autograd.Function):
    """Sums of rows of a table, whose derivative is a sum of rows as well: by the transposed lists, without sorting."""

    @staticmethod
    def forward(table: Tensor, ids: Tensor, offsets: Tensor, back_ids: Tensor, back_offsets: Tensor) -> Tensor:
        del back_ids, back_offsets
        return F.embedding_bag(ids, table, offsets, mode="sum")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del output
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ids, offsets, back_ids, back_offsets = ctx.saved_tensors
        return _Sums.apply(gradients[0].contiguous(), back_ids, back_offsets, ids, offsets), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Sums.apply(tangents[0], *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Tensor) -> tuple[Any, int]:
        del info
        assert all(dim is None for dim in in_dims[1:])
        table, *lists = inputs
        columns = table.movedim(in_dims[0], 1)  # [rows, batch, width]
        sums = _Sums.apply(columns.flatten(1), *lists)
        return sums.unflatten(1, columns.shape[1:]), 1
