"""Bags of features: each feature a vector, a text the weighted sum of its features' vectors."""

from typing import final

import torch
from torch import Tensor, nn

from thalweg.errors import require
from thalweg.models.dropout import Dropout
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
        self.dropout = Dropout(dropout)
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


@final
class LinearBag(nn.Module):
    r"""A linear model on a bag of features: the hidden states are the scores themselves.

    $$z = \sum_i w_i M_{t_i} + b$$

    with features $t$ (`tokens`), weights $w$, a table $M$ and a bias $b$, all of which start at zero. Under a head
    without a layer (`Softmax(None, outputs)`) this is logistic regression.

    Args:
        num_features: rows of the table.
        outputs: number of scores.

    Attributes:
        width: the number of scores.

    Raises:
        ValueError: for sizes below 1.

    Example:
        >>> import torch
        >>> model = LinearBag(10, 2)
        >>> model(torch.tensor([3, 5, 7]), torch.tensor([0, 2])).tolist()  # two texts: [3, 5] and [7]
        [[0.0, 0.0], [0.0, 0.0]]

    When not to use it: where many labels have few examples each, `Bag` under a layer learns what they share.
    """

    def __init__(self, num_features: int, outputs: int) -> None:
        super().__init__()
        if num_features < 1 or outputs < 1:
            raise ValueError(f"LinearBag(num_features, outputs) needs both at least 1; got {num_features}, {outputs}.")
        self.table = nn.EmbeddingBag(num_features, outputs, mode="sum")
        nn.init.zeros_(self.table.weight)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.width = outputs

    def forward(self, tokens: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return scores `[batch, outputs]`; arguments as for `Bag`, and an empty text gets the bias alone."""
        if weights is not None:
            weights = weights.to(self.table.weight.dtype)
        return self.table(tokens, offsets, weights) + self.bias
