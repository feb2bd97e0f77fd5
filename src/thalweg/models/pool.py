"""From one state per token to one state per text: functions of hidden `[batch, time, width]` and mask `[batch, time]`.

The mask is True at real tokens; None means that all are. What lies at padding has no influence, and a text without any
token gets zeros.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Pooling = Callable[[Tensor, Tensor | None], Tensor]


def every(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Keep one state per token, zeros at padding: `[batch, time, width]`."""
    return hidden if mask is None else hidden.masked_fill(~mask.unsqueeze(-1), 0.0)


def first(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return the state at the first token, `[batch, width]`: that of `[CLS]`, where texts begin with it."""
    return hidden[:, 0] if mask is None else hidden[:, 0].masked_fill(~mask.any(1, keepdim=True), 0.0)


def mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return the average over real tokens, `[batch, width]`.

    Example:
        >>> mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    if mask is None:
        return hidden.mean(1)
    return every(hidden, mask).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def maximum(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return the largest value of each unit over real tokens, `[batch, width]`."""
    if mask is None:
        return hidden.amax(1)
    lowest = torch.finfo(hidden.dtype).min
    highest = hidden.masked_fill(~mask.unsqueeze(-1), lowest).amax(1)
    return highest.masked_fill(~mask.any(1, keepdim=True), 0.0)


def last(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return the state at the last real token, `[batch, width]`; padding is on the right.

    In a network that reads in both directions that is the *first* step of the backward half: take `both_ends` there.
    """
    if mask is None:
        return hidden[:, -1]
    length = mask.sum(1)
    index = (length - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, index).squeeze(1).masked_fill((length == 0).unsqueeze(1), 0.0)


def both_ends(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Return the two final states of a network in both directions, `[batch, width]`.

    The first half of the units is taken at the last real token, the second half at the first token.
    """
    forward, backward = hidden.chunk(2, -1)
    first = backward[:, 0] if mask is None else backward[:, 0].masked_fill(~mask.any(1, keepdim=True), 0.0)
    return torch.cat([last(forward, mask), first], -1)
