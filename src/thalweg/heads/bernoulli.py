"""Several labels for each example: an independent yes or no for each class."""

import dataclasses
import functools
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from thalweg.errors import require
from thalweg.heads.base import AbstractHead, ConvexLoss, LinearForm, masked, top_k, upcast
from thalweg.heads.numeric import broadcasts, count_numbers, form_of_numbers, match, setting_over, with_outputs


@final
class Bernoulli(AbstractHead):
    """A linear layer that gives each class its own probability, with the binary cross-entropy as loss.

    With the logit `z` and the target `y` in [0, 1] of one class, its loss is
    `-pos_weight * y log s(z) - (1 - y) log(1 - s(z))`, `s` the logistic function. The sum goes over examples and
    classes and the count is examples times classes, so that sum / count is `nn.BCEWithLogitsLoss`. The curvature is
    diagonal: `(pos_weight * y + 1 - y) p (1 - p)` with `p = s(z)`.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the logits.
        num_classes: number of classes, at least 1 (only used with a layer).
        label_smoothing: `a` in [0, 1): targets `y` become `y (1 - a) + a / 2`.
        bias: whether the layer has one.
        pos_weight: weight of the positive answers, broadcast over `[..., num_classes]`; above 1 favors recall.
        factor: factor of each loss, broadcast over `[..., num_classes]`, without any effect on the count: the `weight`
            of `nn.BCEWithLogitsLoss`.

    Shapes: prediction `[..., num_classes]`; targets the same, bool or numbers in [0, 1] (or `[...]` for one class);
    mask and weights `[...]` (whole examples) or `[..., num_classes]` (single answers). Without a layer, hidden states
    `[batch]` are the prediction `[batch, 1]`.

    Raises:
        ValueError: an argument out of range; in `loss`: targets of another shape than the prediction.

    Example:
        >>> head = Bernoulli(None, 3)
        >>> total, count = head.loss(torch.zeros(1, 3), torch.tensor([[True, False, True]]))
        >>> round(total.item(), 4), count.item()
        (2.0794, 3.0)

    Not for classes of which exactly one is right: use `Softmax`.
    """

    pos_weight: Tensor | None
    factor: Tensor | None

    def __init__(
        self,
        width: int | None,
        num_classes: int = 1,
        *,
        label_smoothing: float = 0.0,
        bias: bool = True,
        pos_weight: Tensor | None = None,
        factor: Tensor | None = None,
    ) -> None:
        super().__init__()
        require(num_classes >= 1, "Bernoulli(num_classes=...) must be at least 1", num_classes)
        require(0.0 <= label_smoothing < 1.0, "Bernoulli(label_smoothing=...) must lie in [0, 1)", label_smoothing)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.output = nn.Identity() if width is None else nn.Linear(width, num_classes, bias=bias)
        # The caller's settings, not learned: a run's weights need not carry them.
        self.register_buffer("pos_weight", pos_weight, persistent=False)
        self.register_buffer("factor", factor, persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the logits `[..., num_classes]`."""
        return self.output(hidden) if isinstance(self.output, nn.Linear) else with_outputs(self.output(hidden))

    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed binary cross-entropy and the number of examples times classes."""
        given = targets
        prediction, targets, mask, weights = match(prediction, targets, mask, weights, "Bernoulli")
        count = count_numbers(prediction, mask, weights)
        pos_weight, factor = self._settings(prediction, given)
        if weights is not None:
            factor = weights if factor is None else weights * factor
        cross_entropy = functools.partial(F.binary_cross_entropy_with_logits, pos_weight=pos_weight)
        if mask is None and weights is None:
            return cross_entropy(prediction, self._smooth(targets), weight=factor, reduction="sum"), count
        if mask is not None:
            prediction, targets = masked(mask, prediction), masked(mask, targets)
        each = cross_entropy(prediction, self._smooth(targets), reduction="none")
        each = each if factor is None else factor * each
        return (each if mask is None else masked(mask, each)).sum(), count

    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the diagonal curvature times `v`."""
        diagonal, v = self._curvature(prediction, targets, mask, v, weights)
        return diagonal * v

    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return the square root of the diagonal curvature times `v`."""
        diagonal, v = self._curvature(prediction, targets, mask, v, weights)
        return diagonal.sqrt() * v

    @override
    def linear_form(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> LinearForm | None:
        # Smoothing and the weights of positive answers go into the targets.
        if not isinstance(self.output, nn.Linear):
            hidden = self(hidden)
        outputs = self.output.out_features if isinstance(self.output, nn.Linear) else hidden.shape[-1]
        for setting in (self.pos_weight, self.factor):
            if setting is not None and not broadcasts(setting.shape, torch.Size([outputs])):
                return None  # a weight for each example would have to be cut into rows as well
        form = form_of_numbers(ConvexLoss.LOGISTIC, "Bernoulli", self.output, hidden, targets, mask, weights)
        y = self._smooth(form.targets)
        positive, factor = self._settings(y, y)
        if positive is None and factor is None:
            return dataclasses.replace(form, targets=y)
        positive = torch.ones_like(y) if positive is None else positive
        total = positive * y + (1.0 - y)  # in this order no digit is lost, however small the weight
        each = total if factor is None else total * factor
        each = each if form.weights is None else each * form.weights
        y = torch.where(total > 0.0, positive * y / total.clamp_min(1e-300), y)
        return dataclasses.replace(form, targets=y, weights=each)

    def decode(self, prediction: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the `k` most probable classes and the log-probability of each, `log s(z)`.

        The classes are independent, so that the probabilities don't add up to 1: every one above `log 0.5` is a yes.
        """
        return top_k(F.logsigmoid(upcast(prediction)), k)

    def _smooth(self, targets: Tensor) -> Tensor:
        if not self.label_smoothing:
            return targets
        return torch.lerp(targets, 0.5 * torch.ones_like(targets), self.label_smoothing)

    def _settings(self, prediction: Tensor, given: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The weight of positive answers and the factor, as they fit the prediction and the targets as given."""
        positive = setting_over(self.pos_weight, prediction, given, "Bernoulli(pos_weight=...)")
        return positive, setting_over(self.factor, prediction, given, "Bernoulli(factor=...)")

    def _curvature(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The diagonal, and `v` without what is masked."""
        given = targets
        prediction, targets, mask, weights = match(prediction, targets, mask, weights, "Bernoulli")
        p = torch.sigmoid(masked(mask, prediction))
        diagonal = p * (1.0 - p)
        pos_weight, factor = self._settings(prediction, given)
        if pos_weight is not None:
            y = self._smooth(masked(mask, targets))
            diagonal = diagonal * (pos_weight * y + 1.0 - y)
        for each in (factor, weights):
            diagonal = diagonal if each is None else diagonal * each
        return masked(mask, diagonal), masked(mask, v)
