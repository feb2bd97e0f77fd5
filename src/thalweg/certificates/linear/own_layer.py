"""Whether a linear layer's weights are its own: what a statement about the layer alone, all else fixed, stands on.

A layer passes if changing its weights changes the predictions as a linear layer does, and nothing else: no
parametrization computes its weight, nothing else uses or stores it, no hook changes what it returns, and training may
change it. First the modules are looked at, so that a refusal can say what is in the way; then the layer gets other
weights for a moment, and the features below it and the predictions are compared with what must come out.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from thalweg.batch import Batch
from thalweg.certificates.linear.forms import form_on, loss_of, no_form, overlap
from thalweg.errors import InputError
from thalweg.models.bag import Bag, LinearBag
from thalweg.models.mlp import MLP, MaskedLinear
from thalweg.models.presets import FlatWindow
from thalweg.objective import Objective

ENOUGH: Final = 256  # examples that are looked at
# The classes whose `forward` is known; a subclass may compute anything.
_KNOWN = (nn.Linear, MaskedLinear, nn.EmbeddingBag, Bag, LinearBag, MLP, FlatWindow)
_TIED = "no statement about the layer alone holds for this model"


def require_plain(objective: Objective, modules: Iterable[nn.Module]) -> None:
    """Raise an InputError that names what keeps modules of an objective from being what their class says."""
    if "forward" in vars(objective.head) or _hooks(objective.head):
        raise InputError(f"The head {type(objective.head).__name__} has a forward hook, so {_TIED}.")
    for module in modules:
        name = name_of(objective, module)
        if reason := _unusual(module):
            raise InputError(f"{name} is not a plain {_class_of(module)}: {reason}, so {_TIED}.")
        mine = [tensor for tensor in module._parameters.values() if tensor is not None]
        for other, tensor in _foreign_tensors(objective, module):
            if any(tensor is own or overlap(tensor, own) for own in mine):
                raise InputError(
                    f"{name} shares its weight with '{other}' (tied), so changing it changes more than this layer: "
                    f"{_TIED}."
                )
        if not all(tensor.requires_grad for tensor in mine):
            raise InputError(
                f"{name} is frozen (requires_grad is False), so training does not change it, and a statement about "
                "the best weights of this layer would not be about this training."
            )


def require_own_layer(whole: Objective, split: Objective, layer: nn.Linear) -> None:
    """Raise an InputError unless a layer's weights can be changed without changing anything but a linear prediction.

    Args:
        whole: the objective as it was given.
        split: the same with the layer as that of its head (see `thalweg.certificates.linear.last_layer`).
        layer: the output layer.
    """
    require_plain(whole, [layer])
    modes = [(module, module.training) for part in (whole.model, whole.head) for module in part.modules()]
    kept = [parameter.detach().clone() for parameter in layer.parameters()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            for batch in _by_size(whole.batches):
                if _compare(whole, split, layer, _few(batch)):
                    break
    finally:
        with torch.no_grad():
            for parameter, before in zip(layer.parameters(), kept, strict=True):
                parameter.copy_(before)
        for module, mode in modes:
            module.training = mode


def _by_size(batches: Sequence[Batch]) -> list[Batch]:
    """Return batches in an order in which the first is one of middle size: the longest texts take the most time."""
    sizes = [max(tensor.numel() for tensor in (*batch.inputs.values(), batch.targets)) for batch in batches]
    middle = sorted(sizes)[len(sizes) // 2]
    return [batches[place] for place in sorted(range(len(sizes)), key=lambda place: abs(sizes[place] - middle))]


def name_of(objective: Objective, module: nn.Module) -> str:
    """Return what a module is called in messages."""
    for part, network in (("", objective.model), ("head.", objective.head)):
        for name, found in network.named_modules():
            if found is module and name:
                return f"The layer '{part}{name}'"
    return "The model" if module is objective.model else "The output layer"


def _few(batch: Batch) -> Batch:
    """Return the first examples of a batch whose tensors have a row for each."""
    tensors = [*batch.inputs.values(), batch.targets, batch.mask, batch.weights]
    if batch.num_examples <= ENOUGH or any(
        t is not None and (t.ndim == 0 or len(t) != batch.num_examples) for t in tensors
    ):
        return batch
    inputs = {name: tensor[:ENOUGH] for name, tensor in batch.inputs.items()}
    mask, weights = (None if part is None else part[:ENOUGH] for part in (batch.mask, batch.weights))
    return Batch(inputs, batch.targets[:ENOUGH], mask, weights)


def _compare(whole: Objective, split: Objective, layer: nn.Linear, batch: Batch) -> bool:
    """Evaluate a batch with the layer's weights and with random ones; return whether it has targets to compare with."""
    name = name_of(whole, layer)
    forms = [form_on(split, batch)[1] for _ in range(2)]
    features, again = (form.features for form in forms)
    if not features.numel() or not float(forms[0].count) > 0.0:  # there may be batches whose examples all weigh 0
        return False
    if not bool(torch.isfinite(features).all()):
        raise InputError("The features below the output layer hold NaN or infinity; there is nothing to certify.")
    if again.shape != features.shape or not bool(torch.isfinite(again).all()):
        raise InputError(f"Two evaluations of the features below {_lower(name)} differ, so they are not fixed.")
    noise = float((again - features).abs().max())
    eps = torch.finfo(features.dtype).eps
    if noise > 1e3 * eps * float(features.abs().max()):
        raise InputError(
            f"Two evaluations of the features below {_lower(name)} differ: something in the model draws random "
            "numbers even in evaluation mode (a functional dropout?), so there are no fixed features."
        )
    source = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=source))
    form = form_on(split, batch)[1]
    if form.layer is not layer:
        raise no_form(split)
    after = form.features
    if after.shape != features.shape or not float((after - features).abs().max()) <= noise:
        raise InputError(
            f"The weight of {_lower(name)} is used below the layer, too: changing it changes the features, so {_TIED}."
        )
    # What must come out, in float64, and how much rounding in the model's own type may change of it.
    expected = after.double() @ layer.weight.double().T
    sizes = after.double().abs() @ layer.weight.double().abs().T
    if layer.bias is not None:
        expected, sizes = expected + layer.bias.double(), sizes + layer.bias.double().abs()
    prediction = whole.head(whole.hidden(batch))
    rows = prediction.reshape(-1, prediction.shape[-1])
    rows = rows if form.rows is None else rows[form.rows]
    allowed = 1e3 * eps * (1.0 + sizes)
    if rows.shape != expected.shape or not bool(((rows.double() - expected).abs() <= allowed).all()):
        raise InputError(
            f"The prediction is not what {_lower(name)} makes of its input: something else acts on it, so the loss is "
            "not a convex function of this layer."
        )
    _compare_losses(split, batch, expected, float(allowed.max()))
    return True


def _compare_losses(split: Objective, batch: Batch, predictions: Tensor, allowed: float) -> None:
    """Refuse a head whose loss is not that of its linear form."""
    total, count = split.sum_and_count(batch)
    form = form_on(split, batch)[1]
    if not bool(torch.isfinite(form.targets).all()):
        raise InputError("The targets hold NaN or infinity; clean the data.")
    value, own = float(loss_of(form).value(predictions)), float(total) / float(count)
    if abs(value - own) > allowed + 1e3 * torch.finfo(total.dtype).eps * (1.0 + abs(value) + abs(own)):
        raise InputError(
            f"{type(split.head).__name__} has the loss {own:.9g} where its linear form gives {value:.9g}, so nothing "
            "can be said about its layer."
        )


def _unusual(module: nn.Module) -> str:
    """Return what keeps a module from being a plain one of its class; nothing where it is one."""
    if parametrize.is_parametrized(module):
        names = [
            f"its {tensor} is computed by {type(one).__name__.lstrip('_')}"
            for tensor, chain in module.parametrizations.items()  # type: ignore[union-attr,operator]
            for one in chain
        ]
        return " and ".join(names)
    for hook in module._forward_pre_hooks.values():
        if hasattr(hook, "compute_weight"):  # weight_norm and spectral_norm of old
            return f"its weight is computed by {type(hook).__name__} before each call"
    if _hooks(module):
        return "it has a forward hook"
    known = next((one for one in _KNOWN if isinstance(module, one)), None)
    if known is None or type(module).forward is not known.forward or "forward" in vars(module):
        return "it has a forward of its own"
    if type(module).__call__ is not nn.Module.__call__:
        return "it has a __call__ of its own"
    stored = "stored" if isinstance(module, MaskedLinear) else "weight"
    if isinstance(module, nn.Linear | MaskedLinear | nn.EmbeddingBag) and module._parameters.get(stored) is None:
        return f"its {stored} is not a parameter but computed from others"
    if isinstance(module, nn.EmbeddingBag) and module.max_norm is not None:
        return "max_norm changes its rows as they are used"
    return ""


def _hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _class_of(module: nn.Module) -> str:
    return next((one.__name__ for one in _KNOWN if isinstance(module, one)), type(module).__name__)


def _foreign_tensors(objective: Objective, module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield all parameters and buffers of other modules of an objective, with their names."""
    own = set(module.modules())
    for part, network in (("", objective.model), ("head.", objective.head)):
        for name, other in network.named_modules():
            if other in own:
                continue
            for key, tensor in (*other._parameters.items(), *other._buffers.items()):
                if tensor is not None:
                    yield f"{part}{name}.{key}" if name else f"{part}{key}", tensor


def _lower(name: str) -> str:
    return name[0].lower() + name[1:]
