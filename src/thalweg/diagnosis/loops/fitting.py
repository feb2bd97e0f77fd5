"""The loss that a loop tells: which of PyTorch's common ones it is, and how its targets lie beside the output."""

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
from typing import Final, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.diagnosis.loops.seen import Call, Kept, answering, own_loss
from thalweg.errors import InputError
from thalweg.heads.adapt import as_head
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax

SAME: Final = 1e-3  # relative difference up to which a loss is taken to be the loop's, of types that are so precise
_ROUNDINGS: Final = 2.0  # of a type that is less precise
NUM_TRIED: Final = 3  # batches on which a loss is looked for
LAST_CHECKED: Final = 128  # batch on which one that was found has to be the loop's; before it 2, 4, 8 ...
_MOST_PAIRS: Final = 2**24  # of an output and a target that are compared
_IGNORED: Final = -100  # the id that PyTorch's cross-entropy leaves out

Layout = Callable[[Tensor, Sequence[int]], Tensor | None]


@final
@dataclasses.dataclass(frozen=True)
class Fit:
    """A loss, and how targets are laid out for it.

    Args:
        head: the loss.
        layout: from targets as they are told, and the shape of the output, to those that the head reads; None where
            they do not fit.
    """

    head: AbstractHead
    layout: Layout

    def gives(self, call: Call, loss: Tensor | float, targets: Tensor) -> bool:
        """Whether this loss of a call is the number that was told."""
        if call.output is None or (laid := self.layout(targets, call.output.shape)) is None:
            return False
        try:
            with torch.no_grad():
                exact = call.output if call.output.dtype == torch.float64 else call.output.float()
                total, count = self.head.loss_from_hidden(exact, laid)
                value = float(total / self.head.divisor(count.to(total.dtype)))
        except (RuntimeError, ValueError, IndexError, InputError):
            return False
        types = {x.dtype for x in (call.output, loss) if isinstance(x, Tensor) and x.is_floating_point()}
        return _is_same(value, loss, types)


def _is_same(value: float, loss: Tensor | float, types: Collection[torch.dtype]) -> bool:
    """Whether a loss is the number that was told, up to the rounding of these types."""
    rounding = max((torch.finfo(one).eps for one in types), default=0.0)
    return abs(value - float(loss)) <= max(SAME, _ROUNDINGS * rounding) * max(abs(float(loss)), 1e-6)


def fitting(call: Call, loss: Tensor | float, targets: Tensor) -> Fit | None:
    """Return the loss among PyTorch's common ones, as a mean or a sum, that gives this number for a call.

    Cross-entropy is tried with the classes in dimension 1 and in the last one, each place compared with its own target
    or with the one after it; squared error and binary cross-entropy with targets of the output's shape or in its order.
    """
    if call.output is None or not call.is_complete:
        return None
    for reduction in ("mean", "sum"):
        by_place = Softmax(None, None, ignore_index=_IGNORED)
        by_place.averages = reduction == "mean"
        candidates = [Fit(as_head(nn.CrossEntropyLoss(reduction=reduction)), _as_told)]
        candidates += [Fit(by_place, layout) for layout in (_at_places, _up_to_the_last, _of_the_next)]
        for kind in (nn.MSELoss, nn.BCEWithLogitsLoss):
            candidates += [Fit(as_head(kind(reduction=reduction)), layout) for layout in (_as_told, _as_output)]
        for fit in candidates:
            if fit.gives(call, loss, targets):
                return fit
    return None


def is_of_all_pairs(call: Call, loss: Tensor | float, targets: Tensor) -> bool:
    """Whether a loss compares each output with the targets of other examples, too, as `[n, 1]` and `[n]` broadcast.

    Squared, absolute and Huber's error with PyTorch's defaults are tried, as a mean and a sum.
    """
    output = call.output
    if output is None or output.shape == targets.shape:
        return False
    try:
        pairs = torch.broadcast_shapes(output.shape, targets.shape)
    except RuntimeError:
        return False
    if not max(output.numel(), targets.numel()) < math.prod(pairs) <= _MOST_PAIRS:
        return False
    exact = output if output.dtype == torch.float64 else output.float()
    types = {x.dtype for x in (output, loss) if isinstance(x, Tensor) and x.is_floating_point()}
    wide = exact.expand(pairs), targets.to(exact).expand(pairs)
    own = (exact, laid.to(exact)) if (laid := _as_output(targets, output.shape)) is not None else None
    for error in (F.mse_loss, F.l1_loss, F.smooth_l1_loss):
        for reduction in ("mean", "sum"):
            if own is not None and _is_same(float(error(*own, reduction=reduction)), loss, types):
                return False
            if _is_same(float(error(*wide, reduction=reduction)), loss, types):
                return True
    return False


def _as_told(targets: Tensor, shape: Sequence[int]) -> Tensor | None:
    del shape
    return targets


def _as_output(targets: Tensor, shape: Sequence[int]) -> Tensor | None:
    """Numbers in the order of the output's, such as `[batch]` of an output `[batch, 1]`."""
    return targets.reshape(tuple(shape)) if targets.numel() == math.prod(shape) else None


def _at_places(targets: Tensor, shape: Sequence[int]) -> Tensor | None:
    """A class for each place of an output `[..., classes]`."""
    fits = not targets.is_floating_point() and targets.numel() == math.prod(shape[:-1])
    return targets.reshape(tuple(shape[:-1])) if fits else None


def _up_to_the_last(targets: Tensor, shape: Sequence[int]) -> Tensor | None:
    """A class for each place of an output `[batch, time, classes]` but the last, whose answer nobody knows."""
    if targets.is_floating_point() or len(shape) != 3 or targets.numel() != shape[0] * (shape[1] - 1):
        return None
    return F.pad(targets.reshape(shape[0], shape[1] - 1), (0, 1), value=_IGNORED)


def _of_the_next(targets: Tensor, shape: Sequence[int]) -> Tensor | None:
    """The classes of the next places of an output `[batch, time, classes]`, told for each place."""
    if targets.is_floating_point() or len(shape) != 3 or tuple(targets.shape) != tuple(shape[:-1]):
        return None
    return F.pad(targets[:, 1:], (0, 1), value=_IGNORED)


@final
class LoopLoss:
    """The loss of a loop as far as it is known, and the batches on which it can be evaluated again.

    Args:
        head: the loss of the model's output; None: it is looked for on the first batches.
    """

    def __init__(self, head: AbstractHead | None) -> None:
        self._given = head
        self._fit: Fit | None = None
        self._number, self._is_part, self._was_wrong = 0, False, False
        self._odd = {"told": 0, "of_all_pairs": 0, "negative": 0}  # first losses, and which of them are no usual ones
        self.has_own = False  # whether the model computes it
        self.num_classes: int | None = None
        self.train, self.valid = Kept(), Kept()
        self.unknown = "no targets were told: watch.loss(loss, targets)"  # why it cannot be evaluated again

    @property
    def head(self) -> AbstractHead | None:
        """The loss of the model's output, where it is known."""
        return self._given if self._fit is None else self._fit.head

    @property
    def reads_outputs(self) -> bool:
        """Whether outputs of further calls are still needed."""
        last = NUM_TRIED if self._fit is None else LAST_CHECKED
        return self._number < last and not self._was_wrong

    def figures(self) -> dict[str, int]:
        """Return the number of first losses, of those over all pairs, and of those that are a usual one's negative."""
        return {f"losses_{name}": number for name, number in self._odd.items()}

    def networks(self, model: nn.Module) -> tuple[nn.Module, AbstractHead | None]:
        """Return what gives the loss of a model; None for the head where it is not known."""
        if self.head is None:
            return own_loss(model) if self.has_own else (model, None)
        return answering(model) if self._is_part else model, self.head

    def take(self, call: Call, loss: Tensor | float, targets: Tensor | None) -> Batch | None:
        """Keep a call with what its answer was compared with, and return it as a batch, if the loss is known."""
        if not call.is_complete:
            self.unknown = "the model is called with other things than tensors by name"
            return None
        batch = None
        if targets is not None and self._is_known(call, loss, targets):
            batch = self.batch(call, targets)
        elif self.head is None and self.has_own and call.loss is not None:
            batch = call.batch(torch.ones(1, device=call.loss.device))
        if batch is not None:
            self.train.offer(batch)
        return batch

    def batch(self, call: Call, targets: Tensor) -> Batch | None:
        """Return a call with targets as the head reads them."""
        laid = targets if self._fit is None or call.shape is None else self._fit.layout(targets, call.shape)
        return call.batch(laid) if call.is_complete and laid is not None else None

    def _is_known(self, call: Call, loss: Tensor | float, targets: Tensor) -> bool:
        # A loss that is not finite is no loss's value, so it speaks neither for nor against one.
        if self.reads_outputs and call.output is not None and math.isfinite(float(loss)):
            self._number += 1
            if self._given is None and self._fit is None:
                self._fit, self._is_part = fitting(call, loss, targets), call.is_part
                self.train = self.train if self._fit is None else Kept()
            elif self._fit and self._number & (self._number - 1) == 0 and not self._fit.gives(call, loss, targets):
                self._fit, self._was_wrong = None, True  # it was so by chance
                self.train, self.valid = Kept(), Kept()
            if self._number <= NUM_TRIED:
                self._odd["told"] += 1
                if self._fit is None:
                    self._odd["of_all_pairs"] += is_of_all_pairs(call, loss, targets)
                    self._odd["negative"] += fitting(call, -loss, targets) is not None
        head, shape = self.head, call.shape
        if head is None:
            self.unknown = (
                "the loss told is none of nn.CrossEntropyLoss, nn.MSELoss and nn.BCEWithLogitsLoss of the model's "
                "output and the targets told; say which it is by Watch(..., head=...)"
            )
        elif isinstance(head, Softmax) and not targets.is_floating_point() and shape is not None:
            has_classes_second = len(shape) == 2 or (head.class_dim == 1 and len(shape) > 2)
            self.num_classes = list(shape)[1] if has_classes_second else None
        return head is not None
