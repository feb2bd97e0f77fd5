"""PyTorch's own loss modules wherever a head is expected."""

from torch import nn

from thalweg.heads.base import AbstractHead
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared


def as_head(loss: object) -> AbstractHead:
    """Return a head for a loss: the head itself, or one without a layer that computes what the PyTorch module does.

    The model's output, the targets and all settings are read as the module reads them: classes in dimension 1,
    probabilities as targets, `ignore_index`, `label_smoothing`, weights that broadcast, single examples. What PyTorch
    computes after a warning is refused: `nn.MSELoss` on `[batch, 1]` and `[batch]`, which compares each with all.

    With reduction "mean" an objective is sum / count over all its micro-batches and processes, the module's mean over
    the whole batch; with "sum" it is the sum over all of them, divided by nothing. An L2 penalty is added to either.

    Args:
        loss: an `AbstractHead`, or an `nn.CrossEntropyLoss`, `nn.MSELoss` or `nn.BCEWithLogitsLoss`.

    Raises:
        ValueError: any other loss, or reduction "none", which is no number to minimize.

    Example:
        >>> import torch
        >>> head, output = as_head(nn.CrossEntropyLoss()), torch.zeros(4, 2, 3)  # 2 classes at 3 places
        >>> total, count = head.loss_from_hidden(output, torch.zeros(4, 3, dtype=torch.int64))
        >>> round((total / count).item(), 4), count.item(), head(output).shape
        (0.6931, 12.0, torch.Size([4, 3, 2]))
    """
    if isinstance(loss, AbstractHead):
        return loss
    # Exactly these classes: a subclass may compute anything.
    if type(loss) is nn.CrossEntropyLoss:
        smoothing, ignored = loss.label_smoothing, loss.ignore_index
        head = Softmax(
            None, None, label_smoothing=smoothing, ignore_index=ignored, class_weights=loss.weight, class_dim=1
        )
    elif type(loss) is nn.MSELoss:
        head = Squared(factor=1.0, broadcast=True)
    elif type(loss) is nn.BCEWithLogitsLoss:
        head = Bernoulli(None, pos_weight=loss.pos_weight, factor=loss.weight)
    else:
        raise ValueError(_refusal(loss))
    if loss.reduction not in ("mean", "sum"):
        raise ValueError(
            f"nn.{type(loss).__name__}(reduction=...) must be 'mean' or 'sum' here, one number to minimize; got "
            f"{loss.reduction!r}."
        )
    head.averages = loss.reduction == "mean"
    return head


def _refusal(loss: object) -> str:
    got = loss.__name__ if isinstance(loss, type) else type(loss).__name__
    instead = _INSTEAD.get(type(loss), "")
    return (
        "A head is expected: thalweg's own, or an nn.CrossEntropyLoss(), nn.MSELoss() or nn.BCEWithLogitsLoss(); got "
        f"{got}. {instead}For a loss of your own subclass thalweg.AbstractHead and write forward, loss, "
        "curvature_product, curvature_root and decode."
    )


_INSTEAD = {
    nn.NLLLoss: "It is nn.CrossEntropyLoss of what the model has before its log_softmax: leave that out. ",
    nn.BCELoss: "It is nn.BCEWithLogitsLoss of what the model has before its sigmoid: leave that out. ",
}
