"""What a head is when the hidden states stay as they are: a linear layer under a convex loss."""

import dataclasses
import enum
from typing import final

from torch import Tensor, nn


class ConvexLoss(enum.Enum):
    """Losses of a linear prediction z that are convex; the value says what one target adds."""

    SOFTMAX = "log sum exp(z) - t.z, t a distribution over classes"
    LOGISTIC = "log(1 + exp(z)) - t z, t in [0, 1]"
    SQUARED = "factor (z - t)^2"


@final
@dataclasses.dataclass(frozen=True)
class LinearForm:
    r"""A head's loss on one batch, as a function of its linear layer alone.

    $$f(W, b) = \frac1N \sum_i \omega_i\, \phi_{t_i}(W h_i + b)$$

    with the hidden states $h_i$ of the real targets. It is the head's sum over its count, exactly. Certificates of the
    head and floors are made from it.

    Args:
        loss: which $\phi$.
        layer: the linear layer; None: the hidden states are the prediction.
        features: $h$, `[n, width]`.
        targets: softmax: class ids int `[n]`, or distributions `[n, outputs]`; else numbers float64 `[n, outputs]`.
        count: $N$, 0-dim float64; it adds up over batches.
        weights: $\omega$, float64 `[n]` or `[n, outputs]`; None: all one.
        smoothing: share of each target that is spread over all classes (softmax; elsewhere the targets have it).
        class_weights: `[outputs]`, what each class's part of a target's cross-entropy is multiplied with (softmax).
        factor: of the squares.
        rows: bool, one entry a position of the batch: which have a real target; None: all.
    """

    loss: ConvexLoss
    layer: nn.Linear | None
    features: Tensor
    targets: Tensor
    count: Tensor
    weights: Tensor | None = None
    smoothing: float = 0.0
    class_weights: Tensor | None = None
    factor: float = 0.5
    rows: Tensor | None = None


def real_rows(values: Tensor, rows: Tensor | None) -> Tensor:
    """Return a batch's values `[..., width]` as rows `[n, width]`, those of real targets only.

    Example:
        >>> import torch
        >>> real_rows(torch.tensor([[[1.0], [2.0]]]), torch.tensor([False, True]))
        tensor([[2.]])
    """
    flat = values.reshape(-1, values.shape[-1])
    return flat if rows is None else flat[rows]
