"""What a head must provide: the output layer, its loss, the curvature of that loss, and the answers.

These belong together because each follows from one choice, the distribution that the network predicts: softmax for one
class of many, Bernoulli for several labels, a Gaussian for numbers. Code that needs a loss, a Gauss-Newton product or
an answer asks the head, so a new family is one new class and nothing else changes.

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
import dataclasses
import enum
from typing import final

import torch
from torch import Tensor, nn

from thalweg.errors import require

# Sums over thousands of targets lose their last digits in these types.
HALF_PRECISION = (torch.float16, torch.bfloat16)
ALL = 2**31 - 1  # answers of a head: more than there are ids


class ConvexLoss(enum.Enum):
    """Losses of a linear prediction z that are convex; the value says what one target adds."""

    SOFTMAX = "log sum exp(z) - t.z, t a distribution over classes"
    LOGISTIC = "log(1 + exp(z)) - t z, t in [0, 1]"
    SQUARED = "factor (z - t)^2"


@final
@dataclasses.dataclass(frozen=True)
class LinearForm:
    r"""A head's loss on one batch as a function of its linear layer alone, the hidden states being fixed.

    $$f(W, b) = \frac1N \sum_i \omega_i\, \phi_{t_i}(W h_i + b)$$

    with the hidden states $h_i$ of the real targets. It is the head's sum over its count, exactly. Certificates of the
    head and floors are made from it.

    Args:
        loss: which $\phi$.
        layer: the linear layer; None: the hidden states are the prediction.
        features: $h$, `[n, width]`.
        targets: softmax: class ids int `[n]`, or distributions `[n, outputs]`; else numbers float64 `[n, outputs]`.
        count: $N$, 0-dim float64; it adds up over batches.
        weights: $\omega$, float64 `[n]` or `[n, outputs]`; None: all one.
        smoothing: fraction of each target that is spread over all classes (softmax; elsewhere the targets have it).
        class_weights: `[outputs]`, factor of each class's part of a target's cross-entropy (softmax).
        factor: of the squares.
        rows: bool, one entry for each position of the batch: which have a real target; None: all.
    """

    loss: ConvexLoss
    layer: nn.Linear | None
    features: Tensor
    targets: Tensor
    count: Tensor
    weights: Tensor | None = None
    smoothing: float = 0.0
    class_weights: Tensor | None = None
    factor: float = 0.5
    rows: Tensor | None = None


class AbstractHead(nn.Module, abc.ABC):
    """One family of outputs: layer, loss, curvature in output space, decoding.

    A head of your own subclasses this class and writes the five abstract methods; everything in the library then works
    with it. `loss` returns a sum and a count, never a mean: only the caller knows over which micro-batches and
    processes to divide.

    Attributes:
        averages: whether an objective divides the sum by the count; False (`reduction="sum"` of PyTorch's losses) makes
            the sum itself the objective, over all micro-batches and processes.
    """

    averages: bool = True

    @property
    def most_rows(self) -> int | None:
        """Predictions that should be there at once; None: they are small, or the loss compares them with each other.

        A head whose predictions are as wide as a vocabulary says how many of them fit; who only measures makes no more.
        """
        return None

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

    def divisor(self, count: Tensor) -> Tensor:
        """Return what the sum over everything is divided by, given the count of everything."""
        return count if self.averages else torch.ones_like(count)

    def loss_from_hidden(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what `loss(self(hidden), ...)` returns; a head overrides it where it can do so with less memory."""
        return self.loss(self(hidden), targets, mask, weights)

    def linear_form(
        self, hidden: Tensor, targets: Tensor, mask: Tensor | None = None, weights: Tensor | None = None
    ) -> LinearForm | None:
        """Return the loss as a convex function of a linear layer; None for a head that is not one.

        A head that returns its form can be certified: how far its layer is from the best one for these hidden states.
        Arguments as for `loss_from_hidden`. No gradient flows through the result by intent.
        """
        del hidden, targets, mask, weights

    def log_probability(self, prediction: Tensor, targets: Tensor) -> Tensor:
        """Return the exact log-probability of each target, normalized over all answers, without label smoothing.

        Perplexity is made of it, so every family is measured in the same unit.

        Args:
            prediction: `[..., outputs]`.
            targets: ids `[...]`; what is not an id (a masked target, -100) gives any finite number.

        Returns:
            `[...]`, float32 at least.

        Raises:
            ValueError: for a head whose targets are not ids.
        """
        del prediction, targets
        raise ValueError(f"{type(self).__name__} gives no probabilities to ids, so there is no perplexity.")

    @final
    def log_probability_from_hidden(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return `log_probability(self(hidden), targets)`; no more than `most_rows` predictions exist at once.

        Where the targets depend on their places in a row (`hidden` `[batch, time, width]`), rows stay whole.
        """
        most = self.most_rows
        if most is None or hidden.shape[:-1].numel() <= most or not len(hidden):
            return self.log_probability(self(hidden), targets)
        size = max(1, most // hidden[0, ..., 0].numel())
        parts = zip(hidden.split(size), targets.split(size), strict=True)
        return torch.cat([self.log_probability(self(rows), ids) for rows, ids in parts])

    def best_ids(self, prediction: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the most probable answer of each prediction, ids `[...]`.

        `mask`, as for `loss`, is for heads whose answers at one place depend on the others.
        """
        del mask
        return self.decode(prediction, 1)[0].squeeze(-1)

    def probabilities(self, prediction: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the probability of every id at each place, `[..., ids]`, for heads whose targets are ids."""
        del mask
        ids, found = self.decode(prediction, prediction.shape[-1])
        return torch.zeros_like(found).scatter(-1, ids, found.exp())

    def log_probabilities(self, prediction: Tensor) -> Tensor:
        """Return the log-probability of every id, `[..., ids]`, for heads whose targets are ids; float32 at least."""
        ids, found = self.decode(prediction, ALL)
        return torch.zeros_like(found).scatter(-1, ids, found)

    def prefer(self, offset: Tensor) -> bool:
        """Add an offset `[ids]` to the scores where `best_ids` seeks the best answers; return whether the head can.

        Probabilities and the loss stay as they are. By default it cannot.
        """
        del offset
        return False

    def after_step(self) -> None:
        """Called by the training loop after each optimizer step; for heads that track something."""

    def calibrate(self, prediction: Tensor, targets: Tensor, mask: Tensor | None = None) -> float | None:
        """Fit the number that turns scores into probabilities, where the loss leaves it open; by default nothing to do.

        Args:
            prediction: `[..., outputs]` of training data.
            targets: ids `[...]`.
            mask: True where a target is real.

        Returns:
            The number, or None.
        """
        del prediction, targets, mask
        return None

    def figures(self) -> dict[str, float]:
        """Return figures about the head itself, by name, for a run's history; nothing by default."""
        return {}

    def notes(self) -> list[str]:
        """Return sentences about the head that a user should read, such as a warning; none by default."""
        return []


def expand_to(tensor: Tensor, shape: torch.Size, name: str) -> Tensor:
    """Return a mask or weights as a view of the given shape, repeated over the dimensions they don't have.

    Args:
        tensor: its shape must be the beginning of `shape`: `[batch]` or `[batch, time]` for `[batch, time]`.
        shape: the shape wanted.
        name: what the tensor is called in the message.

    Raises:
        ValueError: the tensor's shape is not the beginning of `shape`.

    Example:
        >>> expand_to(torch.tensor([True, False]), torch.Size([2, 3]), "mask").shape
        torch.Size([2, 3])
    """
    if tensor.shape != shape[: tensor.ndim]:
        raise ValueError(f"{name} must have the shape {list(shape)} or its first dimensions; got {list(tensor.shape)}.")
    return tensor.reshape(tensor.shape + (1,) * (len(shape) - tensor.ndim)).expand(shape)


def masked(mask: Tensor | None, values: Tensor) -> Tensor:
    """Return `values` with exact zeros where the mask is False (`mask`: the shape of `values` or of its last dims).

    Example:
        >>> masked(torch.tensor([True, False]), torch.tensor([1.0, float("nan")]))
        tensor([1., 0.])
    """
    return values if mask is None else torch.where(mask, values, 0.0)


def upcast(prediction: Tensor) -> Tensor:
    """Return the prediction in a type in which sums over many targets are safe (float32 at least).

    Example:
        >>> upcast(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return prediction.float() if prediction.dtype in HALF_PRECISION else prediction


def top_k(log_probabilities: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the ids and values of the `k` largest entries of the last dimension, largest first.

    Where there are fewer than `k` entries, all of them are returned.

    Raises:
        ValueError: `k` is below 1.

    Example:
        >>> top_k(torch.tensor([0.1, 0.7, 0.2]), 2)
        (tensor([1, 2]), tensor([0.7000, 0.2000]))
    """
    require(k >= 1, "decode(k=...) must be at least 1", k)
    values, ids = log_probabilities.topk(min(k, log_probabilities.shape[-1]), dim=-1)
    return ids, values


def real_rows(values: Tensor, rows: Tensor | None) -> Tensor:
    """Return a batch's values `[..., width]` as rows `[n, width]`, those of real targets only."""
    flat = values.reshape(-1, values.shape[-1])
    return flat if rows is None else flat[rows]
