"""Feed-forward networks, with sparse wiring and an input-to-output skip."""

import itertools
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.errors import require
from thalweg.models.activations import ActivationFactory
from thalweg.models.dropout import Dropout
from thalweg.models.skips import NoSkip, SkipFactory


@final
class MaskedLinear(nn.Module):
    r"""A linear layer that lacks some connections: $y = (M \odot W) x + b$ with a fixed 0/1 matrix $M$.

    The parameter `stored` starts with zeros where the mask is zero and never gets a gradient there, so that every
    optimizer that treats coordinates one by one (with momentum, weight decay, curvature pairs or not) leaves them
    zero. Methods that mix coordinates or add noise may write into them; the network still reads `weight`, the product,
    where they are exactly zero whatever happens.

    Args:
        mask: 0/1 (or bool) matrix `[outputs, inputs]`: 1 where there is a connection.
        bias: whether b is there.

    Attributes:
        stored: the parameter W.
        weight: M * W, the weight in use.

    Raises:
        ValueError: if the mask is not a matrix of zeros and ones.

    Example:
        >>> layer = MaskedLinear(torch.tensor([[1, 0], [0, 1]]), bias=False)
        >>> bool(layer(torch.tensor([0.0, 1.0]))[0] == 0)
        True
    """

    mask: Tensor
    bias: nn.Parameter | None

    def __init__(self, mask: Tensor, *, bias: bool = True) -> None:
        super().__init__()
        if mask.dim() != 2 or not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("MaskedLinear(mask) needs a matrix [outputs, inputs] of zeros and ones.")
        self.out_features, self.in_features = mask.shape
        dense = nn.Linear(self.in_features, self.out_features, bias=bias)
        self.register_buffer("mask", mask.detach().to(dense.weight, copy=True))
        self.stored = dense.weight
        self.register_parameter("bias", dense.bias)
        self.clear_()

    @property
    def weight(self) -> Tensor:
        """The weight in use `[outputs, inputs]`, exactly zero wherever the mask is."""
        return self.stored * self.mask

    @torch.no_grad()
    def clear_(self) -> None:
        """Set the stored values without a connection to zero (after they were drawn again)."""
        self.stored.mul_(self.mask)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., outputs]` for `[..., inputs]`."""
        return F.linear(x, self.weight, self.bias)


@final
class MLP(nn.Module):
    r"""A feed-forward network: hidden layers with an activation, then a linear one.

    With activation $\sigma$, $h_0 = x$ and $h_i = \sigma(W_i h_{i-1} + b_i)$, the output is
    $W_n h_{n-1} + b_n$, plus $S x$ with `input_skip`.

    Args:
        sizes: units of input, hidden layers and output, at least two numbers.
        activation: makes the activation after every layer but the last.
        skip: makes the way around a hidden layer, given its width; used where a hidden layer follows another of the
            same width.
        bias: whether the layers have biases.
        dropout: dropout probability of each hidden layer's outputs, in [0, 1).
        input_skip: whether a linear map without bias leads from the input straight to the output.
        masks: sparse wiring: for each weight matrix in order, the input skip's last, a 0/1 matrix `[outputs, inputs]`
            or None for full wiring.
        output_activation: makes an activation after the last layer, before the input skip is added; None: that layer
            is linear too.

    Attributes:
        width: `sizes[-1]`.
        layers: the weight matrices' modules, `nn.Linear` or `MaskedLinear`.
        shortcut: the input skip's module, or None.

    Raises:
        ValueError: for fewer than two sizes, a size below one, a dropout outside [0, 1), or masks of the wrong number
            or shape.

    Example:
        >>> model = MLP([2, 8, 8, 1], activation=nn.Tanh)
        >>> model(torch.zeros(5, 2)).shape
        torch.Size([5, 1])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: ActivationFactory,
        skip: SkipFactory = NoSkip,
        bias: bool = True,
        dropout: float = 0.0,
        input_skip: bool = False,
        masks: Sequence[Tensor | None] | None = None,
        output_activation: ActivationFactory | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"MLP(sizes) needs at least two sizes of at least 1, input first; got {list(sizes)!r}.")
        require(0.0 <= dropout < 1.0, "MLP(dropout=...) must lie in [0, 1)", dropout)
        shapes = [(outputs, inputs) for inputs, outputs in itertools.pairwise(sizes)]
        num_layers = len(shapes)
        if input_skip:
            shapes.append((sizes[-1], sizes[0]))
        wiring = [None] * len(shapes) if masks is None else list(masks)
        if len(wiring) != len(shapes):
            raise ValueError(f"MLP(masks=...) needs {len(shapes)} entries, one per weight matrix; got {len(wiring)}.")
        for shape, mask in zip(shapes, wiring, strict=True):
            if mask is not None and tuple(mask.shape) != shape:
                raise ValueError(f"MLP(masks=...) needs a mask of shape {shape} here; got {tuple(mask.shape)}.")
        self.width = sizes[-1]
        self.layers = nn.ModuleList(
            _linear(shape, mask, bias) for shape, mask in zip(shapes[:num_layers], wiring[:num_layers], strict=True)
        )
        self.shortcut = _linear(shapes[-1], wiring[-1], bias=False) if input_skip else None
        self.activation = activation()
        self.output_activation = nn.Identity() if output_activation is None else output_activation()
        self.dropout = Dropout(dropout)
        self.skips = nn.ModuleList(
            skip(outputs) if 0 < i < num_layers - 1 and inputs == outputs else NoSkip(outputs)
            for i, (outputs, inputs) in enumerate(shapes[: num_layers - 1])
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `[..., sizes[-1]]` for `[..., sizes[0]]`."""
        hidden = x
        *inner, last = self.layers
        for layer, skip in zip(inner, self.skips, strict=True):
            hidden = skip(hidden, lambda h, layer=layer: self.dropout(self.activation(layer(h))))
        output = self.output_activation(last(hidden))
        return output if self.shortcut is None else output + self.shortcut(x)


def random_mask(outputs: int, inputs: int, sparsity: float) -> Tensor:
    """Draw sparse wiring: a 0/1 matrix `[outputs, inputs]` with the same number of ones in each row.

    Args:
        outputs: rows.
        inputs: columns.
        sparsity: fraction of zeros, in [0, 1); each row keeps at least one connection.

    Raises:
        ValueError: if `sparsity` lies outside [0, 1).

    Example:
        >>> random_mask(3, 10, 0.8).sum(1)
        tensor([2., 2., 2.])
    """
    require(0.0 <= sparsity < 1.0, "random_mask(sparsity=...) must lie in [0, 1)", sparsity)
    num_kept = max(1, round((1.0 - sparsity) * inputs))
    kept = torch.rand(outputs, inputs).topk(num_kept, dim=1).indices
    return torch.zeros(outputs, inputs).scatter_(1, kept, 1.0)


def _linear(shape: tuple[int, int], mask: Tensor | None, bias: bool) -> nn.Linear | MaskedLinear:
    if mask is not None:
        return MaskedLinear(mask, bias=bias)
    outputs, inputs = shape
    return nn.Linear(inputs, outputs, bias=bias)
