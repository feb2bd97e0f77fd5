"""Bags of features: each feature a vector, a text the weighted sum of its features' vectors."""

from typing import final

from torch import Tensor, nn

from thalweg.errors import require
from thalweg.models.mlp import MLP


@final
class Bag(nn.Module):
    r"""A text as a weighted sum of the vectors of its words, n-grams or hashed features.

    $$h = g\Bigl(\sum_i w_i E_{t_i}\Bigr)$$

    with features $t$ (`tokens`), weights $w$, a table $E$ with entries N(0, 1/width) and an optional body $g$: weights
    whose squares sum to one then give $h$ a length of about one. Word order is lost.

    Args:
        num_features: rows of the table.
        width: size of a vector.
        dropout: dropout probability of the sum's units, in [0, 1).
        body: network on the sum; None: the sum itself.

    Attributes:
        width: size of the hidden state: the body's where there is one.

    Raises:
        ValueError: for sizes below 1 or a dropout outside [0, 1).

    Example:
        >>> import torch
        >>> model = Bag(10, 4)
        >>> tokens, offsets = torch.tensor([3, 5, 7]), torch.tensor([0, 2])  # two texts: [3, 5] and [7]
        >>> model(tokens, offsets, torch.ones(3)).shape
        torch.Size([2, 4])

    Source: Joulin, Grave, Bojanowski and Mikolov (2017), Bag of Tricks for Efficient Text Classification.
    """

    def __init__(self, num_features: int, width: int, *, dropout: float = 0.0, body: MLP | None = None) -> None:
        super().__init__()
        if num_features < 1 or width < 1:
            raise ValueError(f"Bag(num_features, width) needs both at least 1; got {num_features}, {width}.")
        require(0.0 <= dropout < 1.0, "Bag(dropout=...) must lie in [0, 1)", dropout)
        self.embedding = nn.EmbeddingBag(num_features, width, mode="sum")
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.body = body
        self.width = width if body is None else body.width

    def forward(self, tokens: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return hidden states `[batch, width]`.

        Args:
            tokens: features of all texts, one after the other, int64 `[total]`.
            offsets: where each text begins in `tokens`, int64 `[batch]`; an empty text gets the sum zero.
            weights: weight of each feature, float `[total]`; None: all one.
        """
        if weights is not None:
            weights = weights.to(self.embedding.weight.dtype)
        hidden = self.dropout(self.embedding(tokens, offsets, weights))
        return hidden if self.body is None else self.body(hidden)
