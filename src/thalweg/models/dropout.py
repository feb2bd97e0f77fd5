"""Dropout whose masks are those of the examples, whatever stands beside them and whichever process has them."""

from typing import Final, final

import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from thalweg import noise

_STEPS: Final = 2**16  # of the probability: each entry has so many bits


@final
class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, but for one thing: where the examples are known, a mask is a function of the example.

    Then one process and several, and batches padded to other lengths, drop the same units of an example. An
    `Objective` knows the examples of batches that have `keys`. Elsewhere it draws as PyTorch does.

    Args:
        p: probability that an entry is dropped, in [0, 1).

    Shapes: any, the batch first.

    Example:
        >>> import torch
        >>> layer = Dropout(0.5)
        >>> with noise.of_examples(torch.tensor([3, 4])):
        ...     layer(torch.ones(2, 5)).shape
        torch.Size([2, 5])

    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov (2014), Dropout: A Simple Way to Prevent Neural
    Networks from Overfitting.
    """

    @override
    def forward(self, input: Tensor) -> Tensor:
        return dropped(input, self.p) if self.training else input


def dropped(x: Tensor, p: float) -> Tensor:
    """Return entries of `x`, `[batch, ...]`, divided by 1 - p, and zeros with the probability p in [0, 1).

    Where the examples are known, p is taken to the nearest multiple of $2^{-16}$ below 1.
    """
    bits = noise.bits_for(x.shape) if p else None
    if bits is None:
        return F.dropout(x, p)
    num_dropped = min(round(p * _STEPS), _STEPS - 1)
    return x * (bits >= num_dropped - _STEPS // 2).to(x.dtype).mul_(_STEPS / (_STEPS - num_dropped))
