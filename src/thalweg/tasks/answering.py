"""Running a network for its answers only."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def answering(*networks: nn.Module) -> Iterator[torch.Tensor]:
    """Switch networks to evaluation mode and gradients off; afterwards each has the mode it had.

    Yields:
        One of the parameters, whose device and type the inputs should have.

    Example:
        >>> layer = nn.Linear(2, 1).train()
        >>> with answering(layer) as parameter:
        ...     layer.training, layer(torch.zeros(1, 2).to(parameter)).requires_grad
        (False, False)
        >>> layer.training
        True
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    try:
        with torch.inference_mode():
            for network in networks:
                network.eval()
            yield next(parameter for network in networks for parameter in network.parameters())
    finally:
        for module, mode in modes:
            module.training = mode
