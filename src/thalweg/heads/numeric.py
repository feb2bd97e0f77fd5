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
    if (*targets.shape, 1) == prediction.shape or (targets.dim() == 0 and prediction.numel() == 1):
        targets = targets.reshape(prediction.shape)
    if targets.shape != prediction.shape:
        raise ValueError(
            f"{head}: the targets must have the shape of the prediction, {list(prediction.shape)}"
            f"{' (without the last 1)' if prediction.shape[-1:] == (1,) else ''}; got {list(targets.shape)}."
        )
    prediction = upcast(prediction)
    return prediction, targets.to(prediction.dtype), *expand_over(prediction, mask, weights)


def with_outputs(hidden: Tensor) -> Tensor:
    """Return hidden states that are the prediction, those without a dimension for outputs with one: `[batch, 1]`."""
    return hidden if hidden.dim() > 1 else hidden.reshape(-1, 1)


def setting_over(setting: Tensor | None, prediction: Tensor, targets: Tensor, name: str) -> Tensor | None:
    """Return a setting of a loss in the prediction's type and in a shape that broadcasts over it.

    A setting `[batch]` fits a prediction `[batch, 1]` if the targets are `[batch]`, as all three are for PyTorch.
    """
    if setting is None:
        return None
    setting = setting.to(prediction.dtype)
    if broadcasts(setting.shape, prediction.shape):
        return setting
    if targets.shape != prediction.shape and broadcasts(setting.shape, prediction.shape[:-1]):
        return setting.unsqueeze(-1)
    raise ValueError(
        f"{name} must have a shape that broadcasts over the prediction, {list(prediction.shape)}; got "
        f"{list(setting.shape)}."
    )


def broadcasts(shape: torch.Size, over: torch.Size) -> bool:
    """Return whether a tensor of this shape broadcasts over another one without making that larger.

    Example:
        >>> broadcasts(torch.Size([3]), torch.Size([2, 3])), broadcasts(torch.Size([2]), torch.Size([2, 1]))
        (True, False)
    """
    return len(shape) <= len(over) and all(
        mine in (1, other) for mine, other in zip(reversed(shape), reversed(over), strict=False)
    )


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
