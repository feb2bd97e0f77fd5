"""PyTorch's own loss modules wherever a head is expected."""

from torch import nn

from thalweg.heads.base import AbstractHead
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared


def as_head(loss: object) -> AbstractHead:
    """Return a head for a loss: the head itself, or one without a layer that computes what the PyTorch module does.

    The model's output is then the prediction. Sum / count over a whole batch equals the module's mean, with its class
    weights, `ignore_index`, `label_smoothing` and `pos_weight`; layouts are those of the heads, with classes in the
    *last* dimension also for sequences, and nothing is broadcast.

    Args:
        loss: an `AbstractHead`, or `nn.CrossEntropyLoss`, `nn.MSELoss`, `nn.BCEWithLogitsLoss` with reduction "mean".

    Raises:
        ValueError: any other loss, or another reduction. A sum cannot be divided once over micro-batches and
            processes; multiply the learning rate instead.

    Example:
        >>> import torch
        >>> head = as_head(nn.MSELoss())
        >>> total, count = head.loss(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]]))
        >>> (total / count).item()
        5.0
    """
    if isinstance(loss, AbstractHead):
        return loss
    # Exactly these classes: a subclass may compute anything.
    if type(loss) is nn.CrossEntropyLoss:
        _check_reduction(loss.reduction, "CrossEntropyLoss")
        return Softmax(
            None, None, label_smoothing=loss.label_smoothing, ignore_index=loss.ignore_index, class_weights=loss.weight
        )
    if type(loss) is nn.MSELoss:
        _check_reduction(loss.reduction, "MSELoss")
        return Squared(factor=1.0)
    if type(loss) is nn.BCEWithLogitsLoss:
        _check_reduction(loss.reduction, "BCEWithLogitsLoss")
        return Bernoulli(None, pos_weight=loss.pos_weight, factor=loss.weight)
    got = loss.__name__ if isinstance(loss, type) else type(loss).__name__
    raise ValueError(
        "A head is expected: thalweg's own, or an nn.CrossEntropyLoss(), nn.MSELoss() or nn.BCEWithLogitsLoss(); got "
        f"{got}. For a loss of your own subclass thalweg.AbstractHead and write forward, loss, "
        "curvature_product, curvature_root and decode."
    )


def _check_reduction(reduction: str, name: str) -> None:
    if reduction != "mean":
        raise ValueError(
            f"nn.{name}(reduction=...) must be 'mean' here: the objective sums over micro-batches and divides once by "
            f"the count; got {reduction!r}."
        )
