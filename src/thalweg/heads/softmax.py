"""One class of many: logits, negative log-likelihood, label smoothing, large vocabularies in chunks."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from thalweg.errors import require
from thalweg.heads.base import AbstractHead, ConvexLoss, LinearForm, expand_to, masked, real_rows, top_k, upcast
from thalweg.heads.chunked import TargetsOfLogits, chunked_cross_entropy

# Logits held at once before the loss is computed in chunks: 16 million, 64 MB in float32.
MAX_LOGITS = 2**24


@final
class Softmax(AbstractHead):
    r"""A linear layer and the softmax over classes, with the negative log-likelihood as loss.

    With the logits `z` of one target, `p = softmax(z)`, `C = num_classes` and the class weights `u` (all 1 unless
    given), the loss of class `y` is the cross-entropy `-sum_c q_c log p_c` where
    `q_c = u_c ((1 - a) [c = y] + a / C)` and `a = label_smoothing`: the values of `nn.CrossEntropyLoss`. The curvature
    is `(sum_c q_c) (diag(p) - p p^T)`; without class weights the sum is 1, so that smoothing doesn't change it.

    The count is the number of real targets, or the sum of `u_y` times their weights.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the logits.
        num_classes: number of classes `C`, at least 1; None only without a layer: as many as there are logits.
        label_smoothing: `a` in [0, 1).
        tied: an embedding or parameter `[num_classes, width]` that serves as the layer's weight as well.
        bias: whether the layer has one.
        ignore_index: target that counts as masked.
        chunk: targets whose logits are held at once by `loss_from_hidden`, at least 1; None: as many as make 16
            million logits. At least the number of targets turns chunks off.
        class_weights: `u`, shape `[num_classes]`, not negative.
        class_dim: which dimension of the hidden states and of probabilities holds the classes, without a layer: -1, or
            1 as in `nn.CrossEntropyLoss`, `[batch, C, ...]`. The prediction has them last either way.

    Shapes: prediction `[..., C]`; targets int `[...]`, or probabilities `[..., C]` in place of `[c = y]`; mask and
    weights `[...]` or only its first dimensions.

    Raises:
        ValueError: an argument out of range, or shapes that don't fit.

    Example:
        >>> head = Softmax(None, 2)
        >>> total, count = head.loss(torch.zeros(3, 2), torch.tensor([0, 1, -100]))
        >>> round(total.item(), 4), count.item()
        (1.3863, 2.0)

    Label smoothing: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer
    Vision" (2016). Tied weights: Press, Wolf, "Using the Output Embedding to Improve Language Models" (2017).

    Not for several right classes at once: use `Bernoulli`.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        width: int | None,
        num_classes: int | None,
        *,
        label_smoothing: float = 0.0,
        tied: nn.Embedding | nn.Parameter | None = None,
        bias: bool = True,
        ignore_index: int = -100,
        chunk: int | None = None,
        class_weights: Tensor | None = None,
        class_dim: int = -1,
    ) -> None:
        super().__init__()
        require(0.0 <= label_smoothing < 1.0, "Softmax(label_smoothing=...) must lie in [0, 1)", label_smoothing)
        if num_classes is not None:
            require(num_classes >= 1, "Softmax(num_classes=...) must be at least 1", num_classes)
        if chunk is not None:
            require(chunk >= 1, "Softmax(chunk=...) must be at least 1", chunk)
        if class_dim != -1 and (class_dim != 1 or width is not None):
            raise ValueError(f"Softmax(class_dim=...) must be -1, or 1 without a layer; got {class_dim!r}.")
        self.num_classes = num_classes
        self.class_dim = class_dim
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self.chunk = chunk
        self.output = _layer(width, num_classes, tied, bias)
        # The caller's setting, not learned: a run's weights need not carry it.
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    @override
    def most_rows(self) -> int | None:
        if self.num_classes is None or self.class_dim != -1:
            return None
        return self.chunk or max(1, MAX_LOGITS // self.num_classes)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits `[..., C]`."""
        return self._classes_last(self.output(hidden))

    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood and the number of real targets."""
        targets = self._arranged(targets)
        self._check(prediction, targets)
        shape = prediction.shape[:-1]
        if mask is not None:
            mask = expand_to(mask, shape, "mask")
            prediction = masked(mask.unsqueeze(-1), prediction)
        if weights is not None:
            weights = expand_to(weights, shape, "weights")
        return self._loss_of_finite(prediction, targets, mask, weights)

    def loss_from_hidden(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss without holding the logits of all targets at once.

        Same value and gradients as `loss(self(hidden), ...)`. Where there are more than `chunk` targets the logits are
        made and dropped chunk by chunk; double backward works, forward-mode differentiation does not.
        """
        if self.class_dim == 1 and hidden.dim() != 2:
            return self.loss(self(hidden), targets, mask, weights)
        shape = hidden.shape[:-1]
        layer = self.output
        soft = targets.is_floating_point()
        if not soft:
            self._check_shape(shape, targets.shape)
        if weights is not None:
            weights = expand_to(weights, shape, "weights")
        if mask is not None:
            mask = expand_to(mask, shape, "mask")
            if hidden.device.type == "cpu" and not soft:
                # Here the masked rows can be left out without waiting for a device.
                rows = mask.reshape(-1).nonzero().squeeze(1)
                hidden = hidden.reshape(-1, hidden.shape[-1]).index_select(0, rows)
                targets = targets.reshape(-1).index_select(0, rows)
                weights = None if weights is None else weights.reshape(-1).index_select(0, rows)
                mask = None
            else:
                # Zero rows in, finite logits out: cheaper than clearing the logits, which are wider.
                hidden = masked(mask.unsqueeze(-1), hidden)
        chunk = self.chunk or max(1, MAX_LOGITS // (self.num_classes or 1))
        if soft or not isinstance(layer, nn.Linear) or targets.numel() <= chunk:
            prediction = self(hidden)
            self._check(prediction, targets)
            return self._loss_of_finite(prediction, targets, mask, weights)
        targets = self._ids(targets, mask)
        factor = None if weights is None else weights.reshape(-1)
        settings = self.class_weights, self.label_smoothing, self.ignore_index
        compared = TargetsOfLogits(targets.reshape(-1), factor, *settings)
        total = chunked_cross_entropy(hidden.reshape(-1, hidden.shape[-1]), layer.weight, layer.bias, compared, chunk)
        return total, self._count(targets, weights, total)

    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return `(p * v - p (p . v))` times the weight of each target."""
        p, factor, v = self._curvature(prediction, targets, mask, v, weights)
        return factor * (p * v - p * (p * v).sum(-1, keepdim=True))

    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return `(r * v - p (r . v))` with `r = sqrt(p)`, times the root of the weight of each target."""
        p, factor, v = self._curvature(prediction, targets, mask, v, weights)
        r = p.sqrt()
        return factor.sqrt() * (r * v - p * (r * v).sum(-1, keepdim=True))

    @override
    def linear_form(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> LinearForm | None:
        if self.class_dim == 1 and hidden.dim() != 2:
            return None
        shape, soft = hidden.shape[:-1], targets.is_floating_point()
        mask = None if mask is None else expand_to(mask, shape, "mask")
        flat = targets.reshape(-1, targets.shape[-1]) if soft else self._ids(targets, mask).reshape(-1)
        rows = mask if soft else flat != self.ignore_index
        rows = None if rows is None or bool(rows.all()) else rows.reshape(-1)
        if weights is not None:
            weights = expand_to(weights, shape, "weights").reshape(-1, 1).double()
            weights = real_rows(weights, rows).squeeze(1)
        real = flat if rows is None else flat[rows]
        count = torch.full((), float(len(real)), dtype=torch.float64, device=real.device)
        if self.class_weights is not None and not soft:
            each = self.class_weights.double()[real]
            count = (each if weights is None else each * weights).sum()
        elif weights is not None:
            count = weights.sum()
        layer = self.output if isinstance(self.output, nn.Linear) else None
        features, smoothing, u = real_rows(hidden.detach(), rows), self.label_smoothing, self.class_weights
        return LinearForm(ConvexLoss.SOFTMAX, layer, features, real, count, weights, smoothing, u, rows=rows)

    def decode(self, prediction: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the `k` most probable classes and their log-probabilities, best first."""
        return top_k(torch.log_softmax(upcast(prediction), dim=-1), k)

    @override
    def log_probabilities(self, prediction: Tensor) -> Tensor:
        return torch.log_softmax(upcast(prediction), dim=-1)

    @override
    def best_ids(self, prediction: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        return prediction.argmax(-1)

    @override
    def log_probability(self, prediction: Tensor, targets: Tensor) -> Tensor:
        targets = self._arranged(targets)
        self._check(prediction, targets)
        logits = upcast(prediction)
        ids = targets.long().clamp(0, logits.shape[-1] - 1)
        each = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids.reshape(-1), reduction="none")
        return -each.view(ids.shape)

    def _loss_of_finite(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        logits = upcast(prediction)
        logits = logits.reshape(-1, logits.shape[-1])
        if targets.is_floating_point():
            return self._loss_of_probabilities(logits, targets, mask, weights)
        ids = self._ids(targets, mask).reshape(-1)
        u = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        reduction, smoothing = "sum" if weights is None else "none", self.label_smoothing
        each = F.cross_entropy(
            logits, ids, u, ignore_index=self.ignore_index, reduction=reduction, label_smoothing=smoothing
        )
        if weights is None:
            return each, self._count(ids, None, each)
        weights = torch.where(ids == self.ignore_index, 0.0, weights.reshape(-1).to(each.dtype))
        total = (each * weights).sum()
        return total, self._count(ids, weights, total)

    def _loss_of_probabilities(
        self, logits: Tensor, targets: Tensor, mask: Tensor | None, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        probabilities = targets.to(logits.dtype).reshape(logits.shape)
        mask = None if mask is None else mask.reshape(-1)
        if mask is not None:
            probabilities = masked(mask.unsqueeze(-1), probabilities)
        u = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        each = F.cross_entropy(logits, probabilities, weight=u, reduction="none", label_smoothing=self.label_smoothing)
        weights = torch.ones_like(each) if weights is None else weights.reshape(-1).to(each.dtype)
        weights = masked(mask, weights)
        return (each * weights).sum(), weights.sum()

    def _ids(self, targets: Tensor, mask: Tensor | None) -> Tensor:
        ids = targets.long()
        return ids if mask is None else ids.masked_fill(~mask, self.ignore_index)

    def _count(self, ids: Tensor, weights: Tensor | None, total: Tensor) -> Tensor:
        """The number of real targets, or the sum of their weights, in the type of the sum."""
        real = ids != self.ignore_index
        if weights is None and self.class_weights is None:
            return real.sum().to(total.dtype)
        weights = real.to(total.dtype) if weights is None else torch.where(real, weights.to(total.dtype), 0.0)
        if self.class_weights is not None:
            weights = weights * self.class_weights.to(total.dtype)[torch.where(real, ids, 0)]
        return weights.sum()

    def _curvature(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities `[..., C]`, factor of each target `[..., 1]` (0 where masked) and `v` without masked rows."""
        targets = self._arranged(targets)
        self._check(prediction, targets)
        prediction = upcast(prediction)
        shape, num_classes = prediction.shape[:-1], prediction.shape[-1]
        mask = None if mask is None else expand_to(mask, shape, "mask")
        rows = None if mask is None else mask.unsqueeze(-1)
        u = prediction.new_ones(num_classes) if self.class_weights is None else self.class_weights.to(prediction.dtype)
        smoothing = self.label_smoothing / num_classes * u.sum()
        if targets.is_floating_point():
            factor = (masked(rows, targets.to(prediction.dtype)) * u).sum(-1)
            real = mask
        else:
            ids = self._ids(targets, mask)
            real = ids != self.ignore_index
            factor = u[torch.where(real, ids, 0)]
        factor = (1.0 - self.label_smoothing) * factor + smoothing
        if weights is not None:
            factor = factor * expand_to(weights.to(prediction.dtype), shape, "weights")
        return torch.softmax(masked(rows, prediction), dim=-1), masked(real, factor).unsqueeze(-1), masked(rows, v)

    def _classes_last(self, tensor: Tensor) -> Tensor:
        if self.class_dim == -1:
            return tensor
        if tensor.dim() == 0:
            raise ValueError("Softmax(class_dim=1): a dimension of classes is expected; got a single number.")
        return tensor.unsqueeze(0) if tensor.dim() == 1 else tensor.movedim(1, -1)

    def _arranged(self, targets: Tensor) -> Tensor:
        """Targets as the prediction is arranged: a batch first, classes last."""
        if self.class_dim == -1:
            return targets
        if targets.is_floating_point():
            return self._classes_last(targets)
        return targets.reshape(1) if targets.dim() == 0 else targets

    def _check(self, prediction: Tensor, targets: Tensor) -> None:
        if self.num_classes not in (None, prediction.shape[-1]):
            raise ValueError(
                f"Softmax: expected {self.num_classes} logits in the last dimension; got {prediction.shape[-1]}."
            )
        if self.class_weights is not None and self.class_weights.shape != prediction.shape[-1:]:
            raise ValueError(
                f"Softmax: there must be one class weight for each of {prediction.shape[-1]} classes; got the shape "
                f"{list(self.class_weights.shape)}."
            )
        if not targets.is_floating_point():
            self._check_shape(prediction.shape[:-1], targets.shape)
        elif targets.shape != prediction.shape:
            raise ValueError(
                f"Softmax: class probabilities must have the shape of the prediction, {list(prediction.shape)}; "
                f"got {list(targets.shape)}; class ids must be integers."
            )

    def _check_shape(self, expected: torch.Size, got: torch.Size) -> None:
        if got != expected:
            layout = "; outputs are [batch, classes, ...], or take Softmax(None, None) for classes last"
            raise ValueError(
                f"Softmax: class ids must have the shape {list(expected)}; got {list(got)}"
                f"{layout if self.class_dim == 1 else ''}."
            )


def _layer(
    width: int | None, num_classes: int | None, tied: nn.Embedding | nn.Parameter | None, bias: bool
) -> nn.Linear | nn.Identity:
    if width is None:
        if tied is not None:
            raise ValueError("Softmax(tied=...) needs a width: without a layer there is no weight to tie.")
        return nn.Identity()
    if num_classes is None:
        raise ValueError("Softmax(num_classes=...) must be given with a width.")
    layer = nn.Linear(width, num_classes, bias=bias)
    if tied is not None:
        weight = tied.weight if isinstance(tied, nn.Embedding) else tied
        if weight.shape != (num_classes, width):
            raise ValueError(
                f"Softmax(tied=...) must have the shape [{num_classes}, {width}]; got {list(weight.shape)}."
            )
        # The new parameter goes on the device of the shared one.
        layer.to(device=weight.device, dtype=weight.dtype)
        layer.weight = weight
    return layer
