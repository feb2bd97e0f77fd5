"""From a head's linear form to a convex loss on features."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.losses import AbstractLoss, SoftmaxLoss
from thalweg.certificates.number_losses import LogisticLoss, SquaredLoss
from thalweg.errors import InputError
from thalweg.heads.base import ConvexLoss, LinearForm
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
            with _Uses(layer) as uses:
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


_NUMBERS: Final = frozenset(  # functions that return what a tensor holds, and no tensor
    ("item", "tolist", "numpy", "__array__", "__float__", "__int__", "__index__", "__bool__", "equal", "allclose")
)


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
            own = name == "to" and len(args) > 1  # x.to(w) takes type and device of w alone
            given = _tensors(args[:1] if own else (*args, *kwargs.values()))
            has_numbers = name in _NUMBERS or any(True for _ in _tensors([result]))
            if has_numbers and not (name.endswith(("_like", "_as")) or name.startswith("new_")):
                self.found = any(overlap(tensor, mine) for tensor in given for mine in self._own)
        return result


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
    if one.untyped_storage().data_ptr() != other.untyped_storage().data_ptr():
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
