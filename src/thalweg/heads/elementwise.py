"""Targets that are one number for each output: shapes, masks and weights brought to the prediction's shape."""

import torch
from torch import Tensor

from thalweg.heads.base import spread, summable


def match_targets(prediction: Tensor, targets: Tensor, head: str) -> tuple[Tensor, Tensor]:
    """Return prediction and targets in one shape and one floating type.

    Targets `[...]` fit a prediction `[..., 1]`. Everything else must agree exactly: broadcasting `[batch]` against
    `[batch, 1]` would silently compare each example with all the others.

    Args:
        prediction: `[..., outputs]`.
        targets: `[..., outputs]`, or `[...]` where there is one output; numbers or booleans.
        head: name of the head in the message.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> match_targets(torch.zeros(2, 1), torch.tensor([True, False]), "Bernoulli")[1]
        tensor([[1.],
                [0.]])
    """
    if (*targets.shape, 1) == prediction.shape:
        targets = targets.unsqueeze(-1)
    if targets.shape != prediction.shape:
        raise ValueError(
            f"{head}: the targets must have the shape of the prediction, {list(prediction.shape)}"
            f"{' (without the last 1)' if prediction.shape[-1:] == (1,) else ''}; got {list(targets.shape)}."
        )
    prediction = summable(prediction)
    return prediction, targets.to(prediction.dtype)


def spread_over(prediction: Tensor, mask: Tensor | None, weights: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return mask and weights in the prediction's shape, weights zero where masked and in the prediction's type."""
    if mask is not None:
        mask = spread(mask, prediction.shape, "mask")
    if weights is not None:
        weights = spread(weights.to(prediction.dtype), prediction.shape, "weights")
        weights = weights if mask is None else torch.where(mask, weights, 0.0)
    return mask, weights


def count_numbers(prediction: Tensor, mask: Tensor | None, weights: Tensor | None) -> Tensor:
    """Return how many numbers count, or the sum of their weights (arguments as `spread_over` returns them)."""
    if weights is not None:
        return weights.sum()
    if mask is not None:
        return mask.sum().to(prediction.dtype)
    return torch.full((), float(prediction.numel()), dtype=prediction.dtype, device=prediction.device)
