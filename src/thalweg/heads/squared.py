"""Squared error: the targets are numbers."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from thalweg.errors import require
from thalweg.heads.base import AbstractHead, ConvexLoss, LinearForm, masked
from thalweg.heads.numeric import broadcasts, count_numbers, expand_over, form_of_numbers, match, with_outputs


@final
class Squared(AbstractHead):
    """A linear layer that predicts numbers, with the squared error as loss.

    The loss of the target numbers `y` is the sum of `factor * (y - prediction)^2`; with the factor 1/2 it is the
    negative log-likelihood of a Gaussian with variance 1, up to a constant. The count is the number of real target
    numbers (of all outputs), so that sum / count is the mean over numbers. The curvature is `2 * factor` times the
    identity.

    Args:
        width: width of the hidden states; None: there is no layer, the hidden states are the prediction.
        outputs: numbers for each example, at least 1 (only used with a layer).
        bias: whether the layer has one.
        factor: factor of each square, positive; 1 gives the values of `nn.MSELoss`.
        broadcast: whether targets are repeated over the prediction, as by `nn.MSELoss`; a prediction never is.

    Shapes: prediction `[..., outputs]`; targets `[..., outputs]`, or `[...]` where there is one output; mask and
    weights `[...]` (whole examples) or `[..., outputs]` (single numbers). Without a layer, hidden states `[batch]` are
    the prediction `[batch, 1]`.

    Raises:
        ValueError: an argument out of range; in `loss`: targets of another shape than the prediction.

    Example:
        >>> head = Squared()
        >>> total, count = head.loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 0.0]))
        >>> total.item(), count.item()
        (5.0, 2.0)

    Not for targets with outliers: one of them outweighs all others.
    """

    def __init__(
        self,
        width: int | None = None,
        outputs: int = 1,
        *,
        bias: bool = True,
        factor: float = 0.5,
        broadcast: bool = False,
    ) -> None:
        super().__init__()
        require(outputs >= 1, "Squared(outputs=...) must be at least 1", outputs)
        require(factor > 0, "Squared(factor=...) must be positive", factor)
        self.outputs = outputs
        self.factor = factor
        self.broadcast = broadcast
        self.output = nn.Identity() if width is None else nn.Linear(width, outputs, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the predicted numbers `[..., outputs]`."""
        return self.output(hidden) if isinstance(self.output, nn.Linear) else with_outputs(self.output(hidden))

    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of `factor * (y - prediction)^2` and the number of real target numbers."""
        targets = self._repeated(prediction, targets)
        prediction, targets, mask, weights = match(prediction, targets, mask, weights, "Squared")
        count = count_numbers(prediction, mask, weights)
        if mask is None and weights is None:
            return self.factor * F.mse_loss(prediction, targets, reduction="sum"), count
        square = masked(mask, prediction - targets).square()
        return self.factor * (square if weights is None else weights * square).sum(), count

    @override
    def loss_from_hidden(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        prediction = self(hidden)
        shape = prediction.shape if isinstance(self.output, nn.Linear) else hidden.shape
        if self.broadcast and not broadcasts(targets.shape, shape):
            raise ValueError(
                f"nn.MSELoss would repeat the prediction, {list(shape)}, over targets {list(targets.shape)} and "
                "compare each with many; give both the same shape (unsqueeze, squeeze)."
            )
        return self.loss(prediction, targets, mask, weights)

    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return `2 * factor * weight * v`, zero where masked."""
        del targets
        mask, weights = expand_over(prediction, mask, weights)
        v = 2.0 * self.factor * masked(mask, v)
        return v if weights is None else weights * v

    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return `sqrt(2 * factor * weight) * v`, zero where masked."""
        del targets
        mask, weights = expand_over(prediction, mask, weights)
        v = (2.0 * self.factor) ** 0.5 * masked(mask, v)
        return v if weights is None else weights.sqrt() * v

    @override
    def linear_form(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> LinearForm | None:
        squared, factor = ConvexLoss.SQUARED, self.factor
        if not isinstance(self.output, nn.Linear):
            hidden = self(hidden)
            targets = self._repeated(hidden, targets)
        elif self.broadcast:
            targets = self._repeated(hidden.new_empty(()).expand(*hidden.shape[:-1], self.output.out_features), targets)
        return form_of_numbers(squared, "Squared", self.output, hidden, targets, mask, weights, factor=factor)

    def _repeated(self, prediction: Tensor, targets: Tensor) -> Tensor:
        """Targets in the prediction's shape where `nn.MSELoss` would repeat them."""
        if not self.broadcast or (*targets.shape, 1) == prediction.shape:
            return targets
        return targets.expand(prediction.shape) if broadcasts(targets.shape, prediction.shape) else targets

    def decode(self, prediction: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Return the numbers themselves (there are no ids) and zeros: a point estimate carries no probability.

        Args:
            prediction: `[..., outputs]`.
            k: must be 1: there is only one best number.

        Returns:
            The prediction `[..., outputs]` and zeros of its shape.

        Raises:
            ValueError: `k` is not 1.
        """
        if k != 1:
            raise ValueError(f"Squared.decode(k=...) must be 1, a number has no second-best answer; got {k!r}.")
        return prediction, torch.zeros_like(prediction)
