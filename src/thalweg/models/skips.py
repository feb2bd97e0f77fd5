"""Ways around a layer: none, residual, pre-norm residual, highway, ReZero; one signature for all.

A skip gets the input and the sublayer as a function, so that it decides what the sublayer sees and how its output
joins the input: `skip(x, sublayer)`.
"""

import abc
from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor, nn

Sublayer = Callable[[Tensor], Tensor]


class AbstractSkip(nn.Module, abc.ABC):
    """How the output of a sublayer joins its input; both have the same shape `[..., width]`.

    Attributes:
        normalizes: whether sublayers see a normalized input while the sum itself is never normalized; the model then
            ends in one more LayerNorm.
    """

    normalizes: ClassVar[bool] = False

    @abc.abstractmethod
    def forward(self, x: Tensor, sublayer: Sublayer) -> Tensor:
        """Return the new hidden state, the shape of `x`."""


SkipFactory = Callable[[int], AbstractSkip]


@final
class NoSkip(AbstractSkip):
    """The sublayer alone: f(x).

    Args:
        width: size of the last dimension (not used; every skip has it).

    Example:
        >>> NoSkip(2)(torch.ones(2), lambda x: 3 * x)
        tensor([3., 3.])
    """

    def __init__(self, width: int) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()

    def forward(self, x: Tensor, sublayer: Sublayer) -> Tensor:
        """Return f(x)."""
        return sublayer(x)


@final
class Residual(AbstractSkip):
    """The input added: x + f(x).

    Args:
        width: size of the last dimension (not used; every skip has it).

    Example:
        >>> Residual(2)(torch.ones(2), lambda x: 3 * x)
        tensor([4., 4.])

    Source: He, Zhang, Ren and Sun (2016), Deep Residual Learning for Image Recognition. The sum grows with depth: in a
    deep transformer take `PreNorm`, or this one together with T-Fixup.
    """

    def __init__(self, width: int) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()

    def forward(self, x: Tensor, sublayer: Sublayer) -> Tensor:
        """Return x + f(x)."""
        return x + sublayer(x)


@final
class PreNorm(AbstractSkip):
    """The input added, the sublayer's own input normalized: x + f(LayerNorm(x)).

    Args:
        width: size of the last dimension, which is normalized.

    Source: Xiong et al. (2020), On Layer Normalization in the Transformer Architecture.
    """

    normalizes: ClassVar[bool] = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, sublayer: Sublayer) -> Tensor:
        """Return x + f(LayerNorm(x))."""
        return x + sublayer(self.norm(x))


@final
class Highway(AbstractSkip):
    """A learned gate between sublayer and input: t f(x) + (1 - t) x with t = sigmoid(W x + b), W and b learned.

    b starts at -2, so that a new network mostly carries its input through.

    Args:
        width: size of the last dimension.

    Source: Srivastava, Greff and Schmidhuber (2015), Training Very Deep Networks.
    """

    start_bias: ClassVar[float] = -2.0

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, self.start_bias)

    def forward(self, x: Tensor, sublayer: Sublayer) -> Tensor:
        """Return t f(x) + (1 - t) x."""
        return x + torch.sigmoid(self.gate(x)) * (sublayer(x) - x)


@final
class ReZero(AbstractSkip):
    """The sublayer scaled by one learned number that starts at zero: x + alpha f(x).

    Every new layer is the identity, so that depth costs nothing at the start. In the very first step only `alpha` gets
    a gradient.

    Args:
        width: size of the last dimension (not used; every skip has it).

    Source: Bachlechner et al. (2020), ReZero is All You Need: Fast Convergence at Large Depth.
    """

    def __init__(self, width: int) -> None:  # noqa: ARG002 - one signature for all
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, sublayer: Sublayer) -> Tensor:
        """Return x + alpha f(x)."""
        return x + self.alpha * sublayer(x)
