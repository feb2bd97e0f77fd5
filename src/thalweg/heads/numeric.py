"""For heads whose targets are one number for each output: everything is brought to the prediction's shape."""

import torch
from torch import Tensor, nn

from thalweg.heads.base import ConvexLoss, LinearForm, expand_to, masked, real_rows, upcast


def match(
    prediction: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor | None, head: str
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return prediction `[..., outputs]` and targets in one floating type, and all four in the prediction's shape.

    Targets `[...]` fit a prediction `[..., 1]`. Everything else must agree exactly: broadcasting `[batch]` against
    `[batch, 1]` would silently compare each example with all the others.
    """
    if (*targets.shape, 1) == prediction.shape:
        targets = targets.unsqueeze(-1)
    if targets.shape != prediction.shape:
        raise ValueError(
            f"{head}: the targets must have the shape of the prediction, {list(prediction.shape)}"
            f"{' (without the last 1)' if prediction.shape[-1:] == (1,) else ''}; got {list(targets.shape)}."
        )
    prediction = upcast(prediction)
    return prediction, targets.to(prediction.dtype), *expand_over(prediction, mask, weights)


def expand_over(prediction: Tensor, mask: Tensor | None, weights: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Return mask and weights in the prediction's shape, weights zero where masked and in the prediction's type."""
    if mask is not None:
        mask = expand_to(mask, prediction.shape, "mask")
    if weights is not None:
        weights = masked(mask, expand_to(weights.to(prediction.dtype), prediction.shape, "weights"))
    return mask, weights


def count_numbers(prediction: Tensor, mask: Tensor | None, weights: Tensor | None) -> Tensor:
    """Return how many numbers count, or the sum of their weights (arguments as `expand_over` returns them)."""
    if weights is not None:
        return weights.sum()
    if mask is not None:
        return mask.sum().to(prediction.dtype)
    return torch.full((), float(prediction.numel()), dtype=prediction.dtype, device=prediction.device)


def form_of_numbers(
    loss: ConvexLoss,
    head: str,
    output: nn.Module,
    hidden: Tensor,
    targets: Tensor,
    mask: Tensor | None,
    weights: Tensor | None,
    *,
    factor: float = 0.5,
) -> LinearForm:
    """Return the form of a head with the layer `output` (or none); arguments as for `AbstractHead.linear_form`."""
    layer = output if isinstance(output, nn.Linear) else None
    outputs = hidden.shape[-1] if layer is None else layer.out_features
    like = hidden.new_empty((*hidden.shape[:-1], outputs), dtype=torch.float64)
    like, numbers, mask, weights = match(like, targets, mask, weights, head)
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
