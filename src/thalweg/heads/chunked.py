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
class TargetsOfLogits:
    """What the logits of some targets are compared with; no gradient flows to it."""

    ids: Tensor  # int64 [targets]
    factor: Tensor | None  # weight of each target, [targets]
    class_weights: Tensor | None  # [classes]
    label_smoothing: float
    ignore_index: int

    def part(self, rows: slice) -> "TargetsOfLogits":
        """The same for some rows."""
        factor = None if self.factor is None else self.factor[rows]
        return dataclasses.replace(self, ids=self.ids[rows], factor=factor)

    def columns(self) -> Tensor:
        """Where each target's own logit is, `[targets, 1]`; anywhere for one that doesn't count."""
        return torch.where(self.ids == self.ignore_index, 0, self.ids).unsqueeze(-1)

    def weights(self, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight of each target's own class, and with which the smoothing term counts; None without smoothing."""
        real = self.ids != self.ignore_index
        rows = real.to(like.dtype) if self.factor is None else torch.where(real, self.factor.to(like.dtype), 0.0)
        own = rows
        if self.class_weights is not None:
            own = rows * self.class_weights[self.columns().squeeze(-1)].to(like.dtype)
        if not self.label_smoothing:
            return own, None
        return (1.0 - self.label_smoothing) * own, self.label_smoothing * rows

    def logits_gradient(self, log_p: Tensor, own: Tensor, smooth: Tensor | None) -> Tensor:
        """The derivative of the summed loss with respect to the logits, `(sum q) p - q` row by row."""
        if smooth is None:
            gradient = log_p.exp() * own.unsqueeze(-1)
            return gradient.scatter_add(-1, self.columns(), -own.unsqueeze(-1))
        u = torch.ones_like(log_p[0]) if self.class_weights is None else self.class_weights.to(log_p.dtype)
        gradient = log_p.exp() * (own + smooth * u.mean()).unsqueeze(-1)
        gradient = gradient.scatter_add(-1, self.columns(), -own.unsqueeze(-1))
        return gradient - smooth.unsqueeze(-1) * (u / log_p.shape[-1])


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: TargetsOfLogits, chunk: int
) -> Tensor:
    """Return the summed cross-entropy of the logits `hidden @ weight.T + bias`; `chunk` targets have logits at once.

    Twice differentiable in reverse mode with respect to hidden `[targets, width]`, weight `[classes, width]` and bias.
    """
    differentiate = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (hidden, weight, bias))
    return _ChunkedCrossEntropy.apply(hidden, weight, bias, targets, chunk, differentiate)  # type: ignore[no-any-return]


@final
class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: TargetsOfLogits,
        chunk: int,
        differentiate: bool,
    ) -> Tensor:
        sum_type = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        total = torch.zeros((), dtype=sum_type, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if differentiate else None
        d_weight = torch.zeros_like(weight, dtype=sum_type) if differentiate else None
        d_bias = torch.zeros_like(bias, dtype=sum_type) if differentiate and bias is not None else None
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            logits = F.linear(hidden[rows], weight, bias)
            log_p = torch.log_softmax(logits.to(total.dtype), dim=-1)
            del logits
            part = targets.part(rows)
            own, smooth = part.weights(total)
            total -= (log_p.gather(-1, part.columns()).squeeze(-1) * own).sum()
            if smooth is not None:
                u = targets.class_weights
                mean = log_p.mean(-1) if u is None else (log_p * u.to(total.dtype)).mean(-1)
                total -= (mean * smooth).sum()
            if d_hidden is not None and d_weight is not None:
                # Under autocast the products are taken in the lower precision, as in an ordinary backward pass.
                d_logits = part.logits_gradient(log_p, own, smooth).to(weight.dtype)
                d_hidden[rows] = d_logits @ weight
                d_weight += d_logits.T @ hidden[rows].to(weight.dtype)
                if d_bias is not None:
                    d_bias += d_logits.sum(0)
        ctx.save_for_backward(hidden, weight, bias, d_hidden, d_weight, d_bias)
        ctx.targets, ctx.chunk = targets, chunk
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, d_hidden, d_weight, d_bias = ctx.saved_tensors
        (scale,) = outer
        if torch.is_grad_enabled():
            # The gradient itself is to be differentiated: say it in operations that autograd can follow.
            d_hidden, d_weight, d_bias = _gradients(hidden, weight, bias, ctx.targets, ctx.chunk)
        return (
            (d_hidden * scale).to(hidden.dtype),
            (d_weight * scale).to(weight.dtype),
            None if d_bias is None else (d_bias * scale).to(bias.dtype),
            *(None, None, None),
        )


def _gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: TargetsOfLogits, chunk: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The derivatives of hidden, weight and bias as differentiable functions of them."""
    hidden = hidden.to(weight.dtype)
    d_hidden, d_weight, d_bias = [], torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias)
    for start in range(0, len(hidden), chunk):
        rows = slice(start, start + chunk)
        log_p = torch.log_softmax(F.linear(hidden[rows], weight, bias), dim=-1)
        part = targets.part(rows)
        d_logits = part.logits_gradient(log_p, *part.weights(log_p))
        d_hidden.append(d_logits @ weight)
        d_weight = d_weight + d_logits.T @ hidden[rows]
        d_bias = None if d_bias is None else d_bias + d_logits.sum(0)
    return torch.cat(d_hidden), d_weight, d_bias
