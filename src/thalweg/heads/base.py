"""What a head must provide: the output layer, its loss, the curvature of that loss, and the answers.

These belong together because each follows from one choice, the distribution that the network is to predict: softmax
for one class of many, independent coins for several labels, a Gaussian for numbers. Code that needs a loss, a
Gauss-Newton product or an answer asks the head, so that a new family is one new class and nothing else changes.

Conventions (`...` stands for the leading dimensions, `[batch]` or `[batch, time]`):

=============  ======================  ===============================================================
hidden         `[..., width]`          what the model returns
prediction     `[..., outputs]`        what `head(hidden)` returns
targets        `[...]`                 class ids; or `[..., outputs]`: numbers, 0/1 rows
mask           `[...]`, bool           True where a target is real; or only the first of these dimensions
weights        `[...]`                 weight of each target; or only the first of these dimensions
=============  ======================  ===============================================================

A masked position adds exactly nothing to the sum, the count, the gradient and the curvature, whatever its prediction
and its target hold, even NaN.
"""

import abc

import torch
from torch import Tensor, nn

from thalweg.heads.linear_form import LinearForm

# Sums over thousands of targets lose their last digits in these types.
HALF_PRECISION = (torch.float16, torch.bfloat16)


class AbstractHead(nn.Module, abc.ABC):
    """One family of outputs: layer, loss, curvature in output space, decoding.

    A head of your own subclasses this class and writes the five abstract methods; everything in the library then works
    with it. `loss` returns a sum and a count, never a mean: only the caller knows over which micro-batches and
    processes to divide.
    """

    @abc.abstractmethod
    def forward(self, hidden: Tensor) -> Tensor:
        """Return the prediction `[..., outputs]` for hidden states `[..., width]`."""

    @abc.abstractmethod
    def loss(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss and what to divide it by, both 0-dim tensors of one type.

        Both add up over parts of a batch. The count is the number of real targets, or the sum of their weights.
        """

    @abc.abstractmethod
    def curvature_product(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return `H v`, where `H` is the second derivative of the summed loss with respect to the prediction.

        Args:
            prediction: `[..., outputs]`; no gradient flows through the result by intent.
            targets: as for `loss`.
            mask: as for `loss`.
            v: `[..., outputs]`; more dimensions in front are so many vectors at once.
            weights: as for `loss`.

        Returns:
            The shape of `v`.
        """

    @abc.abstractmethod
    def curvature_root(
        self, prediction: Tensor, targets: Tensor, mask: Tensor | None, v: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Return `S v` for a square root `S` of the curvature, `S S^T = H`; arguments as for `curvature_product`."""

    @abc.abstractmethod
    def decode(self, prediction: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the `k` best answers, best first: ids int64 `[..., k]` and their log-probabilities `[..., k]`."""

    def loss_from_hidden(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what `loss(self(hidden), ...)` returns; a head overrides it where it can do so with less memory."""
        return self.loss(self(hidden), targets, mask, weights)

    def linear_form(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> LinearForm | None:
        """Return the loss as a convex function of a linear layer; None for a head that is none.

        A head that returns its form can be certified: how far its layer is from the best one for these hidden states.
        Arguments as for `loss_from_hidden`. No gradient flows through the result by intent.
        """
        del hidden, targets, mask, weights

    def log_probability(self, prediction: Tensor, targets: Tensor) -> Tensor:
        """Return the exact log-probability of each target, normalized over all answers, without label smoothing.

        This is what perplexity is made of, so that every family is measured in the same unit.

        Args:
            prediction: `[..., outputs]`.
            targets: ids `[...]`; whatever is no id (a masked target, -100) gives any finite number.

        Returns:
            `[...]`, float32 at least.

        Raises:
            ValueError: for a head whose targets are no ids.
        """
        del prediction, targets
        raise ValueError(f"{type(self).__name__} gives no probabilities to ids, so there is no perplexity.")

    def best_ids(self, prediction: Tensor) -> Tensor:
        """Return the most probable answer of each prediction, ids `[...]`."""
        return self.decode(prediction, 1)[0].squeeze(-1)

    def after_step(self) -> None:
        """Called by the training loop after each step of the optimizer; for heads with something that follows."""

    def calibrate(self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None) -> float | None:
        """Fit what turns scores into probabilities, where the loss says nothing about it; nothing to do by default.

        Args:
            prediction: `[..., outputs]` of training data.
            targets: ids `[...]`.
            mask: True where a target is real.

        Returns:
            What was found, or None.
        """
        del prediction, targets, mask
        return None

    def figures(self) -> dict[str, float]:
        """Return figures about the head itself, by name, for a run's history; nothing by default."""
        return {}

    def notes(self) -> list[str]:
        """Return sentences about the head that a user should read, such as a warning; none by default."""
        return []


def spread(tensor: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Return a mask or weights as a view of the given shape, repeated over the dimensions they don't have.

    Args:
        tensor: its shape must be the beginning of `shape`: `[batch]` or `[batch, time]` for `[batch, time]`.
        shape: the shape wanted.
        name: what the tensor is called in the message.

    Raises:
        ValueError: the shape is no beginning of `shape`.

    Example:
        >>> spread(torch.tensor([True, False]), torch.Size([2, 3]), "mask").shape
        torch.Size([2, 3])
    """
    if tensor.shape != shape[: tensor.ndim]:
        raise ValueError(f"{name} must have the shape {list(shape)} or its first dimensions; got {list(tensor.shape)}.")
    return tensor.reshape(tensor.shape + (1,) * (len(shape) - tensor.ndim)).expand(shape)


def keep(mask: Tensor | None, values: Tensor) -> Tensor:
    """Return `values` with exact zeros where the mask is False (`mask`: the shape of `values` or of its last dims).

    Example:
        >>> keep(torch.tensor([True, False]), torch.tensor([1.0, float("nan")]))
        tensor([1., 0.])
    """
    return values if mask is None else torch.where(mask, values, 0.0)


def summable(prediction: Tensor) -> Tensor:
    """Return the prediction in a type in which sums over many targets are safe (float32 at least)."""
    return prediction.float() if prediction.dtype in HALF_PRECISION else prediction


def check_share(value: float, call: str) -> None:
    """Raise ValueError unless `value` lies in [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{call} must lie in [0, 1); got {value!r}.")


def check_positive(value: int, call: str) -> None:
    """Raise ValueError unless `value` is at least 1."""
    if value < 1:
        raise ValueError(f"{call} must be at least 1; got {value!r}.")


def best(log_probabilities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ids and values of the `k` largest entries of the last dimension, largest first.

    Where there are fewer than `k` entries, all of them are returned.

    Raises:
        ValueError: `k` is below 1.

    Example:
        >>> best(torch.tensor([0.1, 0.7, 0.2]), 2)
        (tensor([1, 2]), tensor([0.7000, 0.2000]))
    """
    check_positive(k, "decode(k=...)")
    values, ids = log_probabilities.topk(min(k, log_probabilities.shape[-1]), dim=-1)
    return ids, values
