"""Targets that are one number for each output: shapes, masks and weights brought to the prediction's shape."""

import torch
from torch import Tensor, nn

from thalweg.heads.base import spread, summable
from thalweg.heads.linear_form import ConvexLoss, LinearForm, real_rows


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


def numbers_form(
    loss: ConvexLoss,
    head: str,
    layer: nn.Linear | None,
    hidden: Tensor,
    targets: Tensor,
    mask: Tensor | None,
    weights: Tensor | None,
    *,
    factor: float = 0.5,
) -> LinearForm:
    """Return the form of a head with one number as target of each output.

    Args:
        loss: of one number.
        head: name of the head in messages.
        layer: its linear layer, or None.
        hidden: as for `AbstractHead.loss_from_hidden`.
        targets: likewise.
        mask: likewise.
        weights: likewise.
        factor: of the squares.
    """
    outputs = hidden.shape[-1] if layer is None else layer.out_features
    like = hidden.new_empty((*hidden.shape[:-1], outputs), dtype=torch.float64)
    like, numbers = match_targets(like, targets, head)
    mask, weights = spread_over(like, mask, weights)
    count = count_numbers(like, mask, weights)
    numbers = numbers.reshape(-1, outputs)
    weights = None if weights is None else weights.reshape(-1, outputs)
    rows = None
    if mask is not None:
        mask = mask.reshape(-1, outputs)
        rows = mask.any(1)
        numbers = torch.where(mask, numbers, 0.0)[rows]
        weights = mask.double()[rows] if weights is None else weights[rows]
    return LinearForm(loss, layer, real_rows(hidden.detach(), rows), numbers, count, weights, factor=factor, rows=rows)
