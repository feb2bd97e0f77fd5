"""A model that ends in a linear layer, taken apart: what is below the layer, and the layer as the head's own."""

import copy
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.errors import InputError
from thalweg.heads.adapt import as_head
from thalweg.heads.base import AbstractHead
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.objective import Objective


def split_last_layer(objective: Objective) -> Objective:
    """Return the same function with the model's last linear layer as part of the head.

    Objectives whose head has a layer already are returned as they are. For a loss without one, such as
    `nn.CrossEntropyLoss`, the model's output must be what an `nn.Linear` in it returned, itself. It raises an
    InputError if the model ends in no linear layer, calls it more than once, or shares its weight.
    """
    if any(isinstance(module, nn.Linear) for module in objective.head.modules()):
        return objective
    layer = _last_layer(objective)
    head = _with_layer(objective.head, layer)
    other = copy.copy(objective)
    other.model, other.head = Below(objective.model, layer), head
    return other


@final
class Below(nn.Module):
    """A model without its last linear layer: returns what that layer is given."""

    def __init__(self, model: nn.Module, layer: nn.Linear) -> None:
        super().__init__()
        # In tuples, so that the layer is not part of this module.
        self._model = (model,)
        self._layer = (layer,)

    def forward(self, *inputs: Any, **keywords: Any) -> Tensor:
        """Return the input of the last layer."""
        seen: list[Tensor] = []
        handle = self._layer[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self._model[0](*inputs, **keywords)
        finally:
            handle.remove()
        return seen[0]

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the parameters below the layer."""
        own = {id(parameter) for parameter in self._layer[0].parameters()}
        return (parameter for parameter in self._model[0].parameters(recurse) if id(parameter) not in own)


def _last_layer(objective: Objective) -> nn.Linear:
    """Return the layer whose output is the model's."""
    calls: list[tuple[nn.Linear, Tensor]] = []

    def watch(layer: nn.Linear) -> RemovableHandle:
        def record(module: nn.Module, inputs: object, output: Tensor) -> None:
            del module, inputs
            calls.append((layer, output))

        return layer.register_forward_hook(record)

    handles = [watch(module) for module in objective.model.modules() if isinstance(module, nn.Linear)]
    try:
        with torch.no_grad():
            result = objective.hidden(objective.batches[0])
    finally:
        for handle in handles:
            handle.remove()
    found = [layer for layer, output in calls if output is result]
    if not found:
        raise InputError(
            "The model's output is not that of a linear layer itself, so there is no head to certify; let it end in an "
            "nn.Linear, or give the layer to a head such as thalweg.Softmax(width, num_classes)."
        )
    layer = found[0]
    if sum(called is layer for called, _ in calls) > 1:
        raise InputError("The last linear layer is used more than once, so changing it changes its own input.")
    owners = [
        module
        for module in objective.model.modules()
        for parameter in module._parameters.values()
        if parameter is layer.weight
    ]
    if len(owners) > 1:
        raise InputError(
            "The last linear layer shares its weight with another part of the model (tied), so changing it changes the "
            "features: no statement about the layer alone holds for this model."
        )
    return layer


def _with_layer(head: AbstractHead, layer: nn.Linear) -> AbstractHead:
    """Return a copy of a head without a layer, with this one."""
    head = as_head(head)
    if not isinstance(head, Softmax | Bernoulli | Squared):
        raise InputError(
            f"{type(head).__name__} is not a convex loss of a linear layer, so there is no head to certify."
        )
    other = copy.copy(head)
    other._modules = {**head._modules, "output": layer}
    return other
