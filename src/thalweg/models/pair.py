"""Two texts through one encoder, for questions about the pair."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from thalweg.errors import require


@final
class UnitPair(nn.Module):
    r"""Both texts through the same encoder, their states u and v scaled to length one.

    $$\text{hidden} = [u, v, |u - v|, \sqrt d\, u \odot v]$$

    The sum of the product's entries is the cosine of the two states, which is what sentence encoders are trained for.
    Inputs as those of `Pair`.

    Args:
        encoder: model with one hidden state per text, of width d.

    Attributes:
        width: four times the encoder's.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.width: int = 4 * encoder.width  # type: ignore[operator,assignment]

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return hidden states `[batch, 4 * encoder.width]`; arguments as for `Pair`."""
        u, v = (functional.normalize(self.encoder(**one), dim=-1) for one in _both(inputs))
        return torch.cat([u, v, (u - v).abs(), u.shape[-1] ** 0.5 * u * v], -1)


@final
class Pair(nn.Module):
    r"""Both texts through the same encoder: hidden = $[u, v, u - v, s\, u \odot v]$.

    The second text's inputs are those of the first with `other_` before their names, so that every layout works:
    `tokens`, `mask`, `other_tokens`, `other_mask`.

    Args:
        encoder: model with one hidden state per text.
        product_scale: s, above 0. The entries of states of length about one are about 1/sqrt(width), so those of their
            product are sqrt(width) times smaller than all others, and learned late; s = sqrt(width) mends that.

    Attributes:
        width: four times the encoder's.

    Raises:
        ValueError: if the encoder has no attribute `width`, or the scale is not above 0.

    Source: Conneau et al. (2017), Supervised Learning of Universal Sentence Representations from Natural Language
    Inference Data, with the signed difference, so that the order of the texts can be told.
    """

    def __init__(self, encoder: nn.Module, product_scale: float = 1.0) -> None:
        super().__init__()
        width = getattr(encoder, "width", None)
        if width is None:
            raise ValueError("Pair(encoder) needs an encoder with an attribute `width`, the size of its hidden states.")
        require(product_scale > 0.0, "Pair(product_scale=...) must be above 0", product_scale)
        self.encoder = encoder
        self.product_scale = product_scale
        self.width: int = 4 * width

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return hidden states `[batch, 4 * encoder.width]`.

        Args:
            **inputs: the encoder's inputs for the first text, and with `other_` before the name for the second.

        Raises:
            ValueError: if the two texts do not have the same inputs.
        """
        first, second = _both(inputs)
        u, v = self.encoder(**first), self.encoder(**second)
        return torch.cat([u, v, u - v, self.product_scale * u * v], -1)


def _both(inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the inputs of both texts, under the same names."""
    first = {name: tensor for name, tensor in inputs.items() if not name.startswith("other_")}
    second = {name.removeprefix("other_"): tensor for name, tensor in inputs.items() if name.startswith("other_")}
    if first.keys() != second.keys():
        raise ValueError(
            f"Pair needs the same inputs for both texts; got {sorted(first)} for the first and {sorted(second)} "
            "(after `other_`) for the second."
        )
    return first, second
