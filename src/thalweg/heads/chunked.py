"""Cross-entropy of a linear layer, chunk by chunk: the logits of all targets never exist at once.

Where a gradient will be wanted it is computed along with the value, so that the logits are made only once: the cost of
the ordinary way, with the memory of one chunk. The idea: Wijmans, Huval, Hertzberg, Koltun, Krähenbühl, "Cut Your
Losses in Large-Vocabulary Language Models" (2024); Hsu et al., "Liger Kernel" (2024).
"""

import dataclasses
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F


@final
@dataclasses.dataclass(frozen=True)
class _Settings:
    label_smoothing: float
    ignore_index: int
    chunk: int
    differentiate: bool


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ids: Tensor,
    factor: Tensor | None,
    *,
    class_weights: Tensor | None,
    label_smoothing: float,
    ignore_index: int,
    chunk: int,
) -> Tensor:
    """Return the summed cross-entropy of the logits `hidden @ weight.T + bias`; `chunk` targets have logits at once.

    Twice differentiable in reverse mode with respect to hidden `[targets, width]`, weight `[classes, width]` and bias;
    no gradient flows to `factor` `[targets]`, the weight of each target, nor to `class_weights`.
    """
    differentiable = any(t is not None and t.requires_grad for t in (hidden, weight, bias))
    settings = _Settings(label_smoothing, ignore_index, chunk, torch.is_grad_enabled() and differentiable)
    return _ChunkedCrossEntropy.apply(hidden, weight, bias, ids, factor, class_weights, settings)  # type: ignore[no-any-return]


def _row_weights(
    ids: Tensor, factor: Tensor | None, class_weights: Tensor | None, settings: _Settings, like: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Weight of each target's own class, and weight with which the smoothing term counts; None without smoothing."""
    real = ids != settings.ignore_index
    rows = real.to(like.dtype) if factor is None else torch.where(real, factor.to(like.dtype), 0.0)
    own = rows if class_weights is None else rows * class_weights[torch.where(real, ids, 0)].to(like.dtype)
    if not settings.label_smoothing:
        return own, None
    return (1.0 - settings.label_smoothing) * own, settings.label_smoothing * rows


def _logits_gradient(
    log_p: Tensor, ids: Tensor, own: Tensor, smooth: Tensor | None, class_weights: Tensor | None, ignore_index: int
) -> Tensor:
    """The derivative of the summed loss with respect to the logits, `(sum q) p - q` row by row."""
    num_classes = log_p.shape[-1]
    total = own
    u = None
    if smooth is not None:
        u = torch.ones_like(log_p[0]) if class_weights is None else class_weights.to(log_p.dtype)
        total = own + smooth * u.mean()
    gradient = log_p.exp() * total.unsqueeze(-1)
    columns = torch.where(ids == ignore_index, 0, ids).unsqueeze(-1)
    gradient = gradient.scatter_add(-1, columns, -own.unsqueeze(-1))
    if smooth is not None and u is not None:
        gradient = gradient - smooth.unsqueeze(-1) * (u / num_classes)
    return gradient


@final
class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        ids: Tensor,
        factor: Tensor | None,
        class_weights: Tensor | None,
        settings: _Settings,
    ) -> Tensor:
        sum_type = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        total = torch.zeros((), dtype=sum_type, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if settings.differentiate else None
        d_weight = torch.zeros_like(weight, dtype=sum_type) if settings.differentiate else None
        d_bias = torch.zeros_like(bias, dtype=sum_type) if settings.differentiate and bias is not None else None
        for start in range(0, len(hidden), settings.chunk):
            rows = slice(start, start + settings.chunk)
            logits = F.linear(hidden[rows], weight, bias)
            log_p = torch.log_softmax(logits.to(total.dtype), dim=-1)
            del logits
            own, smooth = _row_weights(
                ids[rows], None if factor is None else factor[rows], class_weights, settings, total
            )
            columns = torch.where(ids[rows] == settings.ignore_index, 0, ids[rows]).unsqueeze(-1)
            total -= (log_p.gather(-1, columns).squeeze(-1) * own).sum()
            if smooth is not None:
                mean = log_p.mean(-1) if class_weights is None else (log_p * class_weights.to(total.dtype)).mean(-1)
                total -= (mean * smooth).sum()
            if d_hidden is not None and d_weight is not None:
                # Under autocast the products are taken in the lower precision, as in an ordinary backward pass.
                d_logits = _logits_gradient(log_p, ids[rows], own, smooth, class_weights, settings.ignore_index)
                d_logits = d_logits.to(weight.dtype)
                d_hidden[rows] = d_logits @ weight
                d_weight += d_logits.T @ hidden[rows].to(weight.dtype)
                if d_bias is not None:
                    d_bias += d_logits.sum(0)
        ctx.save_for_backward(hidden, weight, bias, ids, factor, class_weights, d_hidden, d_weight, d_bias)
        ctx.settings = settings
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, ids, factor, class_weights, d_hidden, d_weight, d_bias = ctx.saved_tensors
        (scale,) = outer
        if torch.is_grad_enabled():
            # The gradient itself is to be differentiated: say it in operations that autograd can follow.
            d_hidden, d_weight, d_bias = _gradients(hidden, weight, bias, ids, factor, class_weights, ctx.settings)
        return (
            (d_hidden * scale).to(hidden.dtype),
            (d_weight * scale).to(weight.dtype),
            None if d_bias is None else (d_bias * scale).to(bias.dtype),
            *(None, None, None, None),
        )


def _gradients(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ids: Tensor,
    factor: Tensor | None,
    class_weights: Tensor | None,
    settings: _Settings,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The derivatives of hidden, weight and bias as differentiable functions of them."""
    hidden = hidden.to(weight.dtype)
    d_hidden, d_weight, d_bias = [], torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias)
    for start in range(0, len(hidden), settings.chunk):
        rows = slice(start, start + settings.chunk)
        log_p = torch.log_softmax(F.linear(hidden[rows], weight, bias), dim=-1)
        own, smooth = _row_weights(ids[rows], None if factor is None else factor[rows], class_weights, settings, log_p)
        d_logits = _logits_gradient(log_p, ids[rows], own, smooth, class_weights, settings.ignore_index)
        d_hidden.append(d_logits @ weight)
        d_weight = d_weight + d_logits.T @ hidden[rows]
        d_bias = None if d_bias is None else d_bias + d_logits.sum(0)
    return torch.cat(d_hidden), d_weight, d_bias
