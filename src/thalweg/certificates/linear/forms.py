"""From a head's linear form to a convex loss on features."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.losses import AbstractLoss, SoftmaxLoss
from thalweg.certificates.number_losses import LogisticLoss, SquaredLoss
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead, ConvexLoss, LinearForm
from thalweg.objective import Objective


def form_on(objective: Objective, batch: Batch, layer: nn.Linear | None = None) -> tuple[Tensor, LinearForm]:
    """Return the hidden states of a batch and the head's linear form, without a graph, or raise an InputError.

    With a layer they must not depend on its weights, for any example: graph and operations are looked at, so that no
    way from them to the hidden states is missed which only some batches or rows take, differentiable or not.
    """
    with torch.no_grad():
        hidden = objective.hidden(batch) if layer is None else _hidden_above(objective, batch, layer)
        if hidden.layout is not torch.strided:
            raise InputError(
                "What the output layer is given is a sparse tensor; let the model make a dense one of it (to_dense)."
            )
        require_own_form(objective.head)
        require_mean(objective.head)
        form = objective.head.linear_form(hidden, batch.targets, batch.mask, batch.weights)
    if form is None:
        raise no_form(objective)
    return hidden, form


def _hidden_above(objective: Objective, batch: Batch, layer: nn.Linear) -> Tensor:
    """Return the hidden states of a batch, or raise an InputError if weights of the layer above are in them."""
    own = list(layer.parameters())
    trained = [(tensor, tensor.requires_grad) for tensor in (*objective.parameters, *own)]
    try:
        for tensor, _ in trained:  # so that there is a graph of nothing else
            tensor.requires_grad_(any(tensor is mine for mine in own))
        with torch.enable_grad():
            with _eager(), _Uses(layer) as uses:
                hidden = objective.hidden(batch)
            used = uses.found
            if hidden.requires_grad:
                used = used or any(
                    part is not None for part in torch.autograd.grad(hidden.sum(), own, allow_unused=True)
                )
        if used:
            raise InputError(
                "The weight of the output layer is used below it, too, if only for some examples: changing it "
                "changes the features, so no statement about the layer alone holds for this model."
            )
    finally:
        for tensor, before in trained:
            tensor.requires_grad_(before)
    return hidden.detach()


# Functions that return what a tensor holds, and no tensor.
_NUMBERS: Final = frozenset(
    ("item", "tolist", "numpy", "equal", "allclose", "is_nonzero", "__array__", "__float__", "__int__", "__index__")
) | {"__bool__", "__complex__", "__contains__", "__repr__", "__format__"}


def _eager() -> AbstractContextManager[Any]:
    """Return a context in which what is compiled runs as written, so that each operation is seen."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@final
class _Uses(TorchFunctionMode):
    """Watches for operations on the weights of a layer outside of it: on detached ones, or such as a branch asks."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.found = False
        self._own = list(layer.parameters())
        self._inside = False
        self._layer = layer

    @override
    def __enter__(self) -> "_Uses":
        def at(inside: bool) -> Any:
            def note(*call: object) -> None:
                del call
                self._inside = inside

            return note

        self._handles = self._layer.register_forward_pre_hook(at(True)), self._layer.register_forward_hook(at(False))
        super().__enter__()
        return self

    @override
    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not (self._inside or self.found):
            name = str(getattr(func, "__name__", ""))
            read = _read(name, args, kwargs, result)
            self.found = any(self._mine(tensor) for tensor in read) and not self._is_view(name, result)
        return result

    def _mine(self, tensor: Tensor) -> bool:
        return any(overlap(tensor, mine) for mine in self._own)

    def _is_view(self, name: str, result: Any) -> bool:
        """Whether nothing was read: the result is the same memory, and what reads that is seen in its turn."""
        if name.endswith("_") and not name.startswith("__"):
            return False
        given = list(_tensors([result]))
        return bool(given) and all(tensor.numel() == 0 or self._mine(tensor) for tensor in given)


def _read(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Iterator[Tensor]:
    """Yield the tensors whose numbers an operation takes, not only their type, device or shape."""
    if result is None or name.startswith("new") or name.endswith("_like"):  # the first one is written to, or a pattern
        args = args[1:]
    elif name == "to" or name.endswith("_as"):  # the others are
        args, kwargs = args[:1], {}
    elif name not in _NUMBERS and not any(True for _ in _tensors([result])):
        return
    yield from _tensors((*args, *kwargs.values()))


def _tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors use the same memory."""
    if one.numel() == 0 or other.numel() == 0 or one.layout != torch.strided or other.layout != torch.strided:
        return False
    try:
        if one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr():
            return False
    except (RuntimeError, NotImplementedError):  # a tensor within vmap or jvp has no memory of its own
        return False
    (first, last), (begin, end) = _bytes(one), _bytes(other)
    return first < end and begin < last


def _bytes(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor and the one after its last, within its storage."""
    reach = sum((int(size) - 1) * int(stride) for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    first, width = int(tensor.storage_offset()), tensor.element_size()
    return first * width, (first + reach + 1) * width


def require_own_form(head: nn.Module) -> None:
    """Raise an InputError where a class below the one that gives a head's linear form changes prediction or loss."""
    order = type(head).__mro__

    def place(name: str) -> int:
        return next(i for i, part in enumerate(order) if name in vars(part))

    form = place("linear_form")
    for name in ("forward", "loss", "loss_from_hidden"):
        if place(name) < form or name in vars(head):
            raise InputError(
                f"{type(head).__name__} has a `{name}` of its own and the `linear_form` of {order[form].__name__}, "
                "which may be that of another loss; give it its own (return None where there is none)."
            )


def require_mean(head: AbstractHead) -> None:
    """Raise an InputError for a loss that is not divided by its count: statements are about means."""
    if not head.averages:
        raise InputError('Certificates are about the mean over targets; take the loss with reduction="mean".')


def no_form(objective: Objective) -> InputError:
    """Return the error that says that a head has no linear form."""
    return InputError(
        f"{type(objective.head).__name__} is not a convex loss (softmax, logistic, squared) of a linear layer."
    )


def loss_of(form: LinearForm) -> AbstractLoss:
    """Return the loss of a linear form, its sum divided by its count."""
    count = float(form.count)
    if form.loss is ConvexLoss.LOGISTIC:
        return LogisticLoss(form.targets, form.weights, count)
    if form.loss is ConvexLoss.SQUARED:
        return SquaredLoss(form.targets, form.weights, count, scale=form.factor)
    smoothing, by_class = form.smoothing, form.class_weights
    if form.targets.is_floating_point():
        return SoftmaxLoss.of_distributions(
            form.targets, label_smoothing=smoothing, class_weights=by_class, weights=form.weights, count=count
        )
    num_classes = form.features.shape[1] if form.layer is None else form.layer.out_features
    return SoftmaxLoss.of_labels(
        form.targets, num_classes, label_smoothing=smoothing, class_weights=by_class, weights=form.weights, count=count
    )


def join_forms(forms: Sequence[LinearForm]) -> LinearForm:
    """Return the form of several batches together, of one head, at least one."""
    first = forms[0]
    if len(forms) == 1:
        return first
    if len({form.targets.is_floating_point() for form in forms}) > 1:
        raise InputError("Some batches have classes as targets and others distributions; let all have distributions.")
    weighted = any(form.weights is not None for form in forms)
    return LinearForm(
        first.loss,
        first.layer,
        torch.cat([form.features for form in forms]),
        torch.cat([form.targets for form in forms]),
        torch.stack([form.count for form in forms]).sum(),
        torch.cat([_weights(form) for form in forms]) if weighted else None,
        smoothing=first.smoothing,
        class_weights=first.class_weights,
        factor=first.factor,
    )


def _weights(form: LinearForm) -> Tensor:
    if form.weights is not None:
        return form.weights
    shape = form.targets.shape[:1] if form.loss is ConvexLoss.SOFTMAX else form.targets.shape
    return torch.ones(shape, dtype=torch.float64, device=form.targets.device)
