"""One multi-head attention for all uses: to itself or to a memory, causal or not, whole or step by step."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    r"""Return $\operatorname{softmax}(s\, Q K^\top + M) V$, with zeros where there is nothing to attend to.

    Q is `[batch, heads, time, size]`; K and V have the memory's length in place of time, and V may have a size of its
    own. M is minus infinity where `mask` `[batch, memory]` is False and, if causal, at memory after time t. $s$ is
    `scale`; None: one over the root of `size`.

    Source: Vaswani et al. (2017), Attention Is All You Need.
    """
    if mask is None:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=causal, scale=scale)
    seen = mask[:, None, None, :]
    if causal:
        seen = seen & torch.ones(queries.shape[-2], keys.shape[-2], dtype=torch.bool, device=seen.device).tril()
    # A row that sees nothing has no softmax: let it see everything, and then take zero for its result.
    something = seen.any(-1, keepdim=True)
    result = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen | ~something, scale=scale)
    return result.masked_fill(~something, 0.0)


def shares_of(queries: Tensor, keys: Tensor, mask: Tensor, *, scale: float | None = None) -> Tensor:
    r"""Return the weights of `attend`, $\operatorname{softmax}(s\, Q K^\top + M)$, `[batch, heads, time, memory]`."""
    scores = queries @ keys.transpose(-2, -1) * (queries.shape[-1] ** -0.5 if scale is None else scale)
    return scores.masked_fill(~mask[:, None, None, :], -torch.inf).softmax(-1)


@final
class Attention(nn.Module):
    """Multi-head attention with its four linear maps.

    Args:
        width: size of inputs and outputs.
        heads: number of heads; must divide `width`.

    Attributes:
        query, key, value, output: the linear maps, each from `width` to `width`.

    Raises:
        ValueError: if `heads` does not divide `width`.

    Example:
        >>> Attention(8, 2)(torch.zeros(3, 5, 8)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"Attention(width, heads) needs heads that divide width; got {width}, {heads}.")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Attend from `x` to `memory`.

        Args:
            x: `[batch, time, width]`.
            memory: `[batch, memory, width]`; None: `x` itself.
            mask: True at the real places of the memory `[batch, memory]`; None: all are.
            causal: whether time t sees the memory only up to t.

        Returns:
            `[batch, time, width]`.
        """
        keys, values = self.remember(x if memory is None else memory)
        return self.recall(x, keys, values, mask, causal=causal)

    def remember(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of a memory, `[batch, heads, memory, size]` each; what a cache keeps."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def recall(
        self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Attend from `x` `[batch, time, width]` to remembered keys and values; returns `[batch, time, width]`."""
        result = attend(self._split(self.query(x)), keys, values, mask, causal=causal)
        return self.output(result.transpose(1, 2).flatten(2))

    def shares(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Return how much each of `x` looks at each of the memory, `[batch, time, memory]`, the mean over the heads."""
        return shares_of(self._split(self.query(x)), self._split(self.key(memory)), mask).mean(1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
