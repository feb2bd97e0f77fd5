"""Vectors of tokens: the table that recurrent networks and transformers start with."""

import math
from typing import final

from torch import Tensor, nn

PADDING = 0


def token_table(vocabulary_size: int, width: int) -> nn.Embedding:
    """Return a table of token vectors with entries N(0, 1/width), so that each vector has length about one.

    That is the scale at which the same table can serve as the weight of a softmax head (Press and Wolf, 2017, Using the
    Output Embedding to Improve Language Models). Padding (id 0) has the zero vector, and keeps it.
    """
    if vocabulary_size < 1 or width < 1:
        raise ValueError(f"token_table(vocabulary_size, width) needs both at least 1; got {vocabulary_size}, {width}.")
    table = nn.Embedding(vocabulary_size, width, padding_idx=PADDING)
    reset_token_table(table)
    return table


def token_tables(source_size: int, target_size: int, width: int, shared: bool) -> tuple[nn.Embedding, nn.Embedding]:
    """Return the tables of the two sides of a translation; one for both where they are shared.

    Source of sharing: Press and Wolf (2017), Using the Output Embedding to Improve Language Models (three-way tying).

    Example:
        >>> source, target = token_tables(10, 10, 4, True)
        >>> source is target
        True
    """
    if shared and source_size != target_size:
        raise ValueError(
            f"one table of token vectors for both sides takes one vocabulary; got {source_size} and {target_size} "
            "entries. Give --no-tie-source."
        )
    source = token_table(source_size, width)
    return source, source if shared else token_table(target_size, width)


def reset_token_table(table: nn.Embedding, scale: float = 1.0) -> None:
    """Draw the table again: entries N(0, scale^2 / width), zeros for padding."""
    nn.init.normal_(table.weight, std=scale * table.embedding_dim**-0.5)
    if table.padding_idx is not None:
        nn.init.zeros_(table.weight.data[table.padding_idx])


@final
class ScaledEmbedding(nn.Module):
    """Token vectors times the square root of their size, so that entries are of size one while the table's are small.

    The table is shared, so that a head can be tied to it. Source: Vaswani et al. (2017), section 3.4.
    """

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.table = table
        self.factor = math.sqrt(table.embedding_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return vectors `[..., width]` for ids `[...]`."""
        return self.table(tokens) * self.factor
