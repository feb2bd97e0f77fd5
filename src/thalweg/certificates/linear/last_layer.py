"""A model that ends in a linear layer, taken apart: the features below it, the layer, and its own problem."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from thalweg.certificates.linear.forms import form_on, join_forms, loss_of, no_form
from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.own_layer import require_own_layer
from thalweg.certificates.linear.regularizers import L2, Ball
from thalweg.errors import InputError
from thalweg.heads.adapt import as_head
from thalweg.heads.base import AbstractHead, LinearForm
from thalweg.heads.bernoulli import Bernoulli
from thalweg.heads.softmax import Softmax
from thalweg.heads.squared import Squared
from thalweg.objective import Objective

MAX_BYTES: Final = 1_500_000_000  # of features and predictions that are held at once
# Bytes of a feature, which is kept in float64 and float32; of a prediction, of which there are its residual, its
# probabilities and their curvature, too.
PER_FEATURE, PER_PREDICTION = 12, 56


def head_problem(
    objective: Objective, rows: "FormRows | None" = None, *, about: Mapping[str, str] | None = None
) -> tuple[Head, HeadPoint, float]:
    """Return the problem of an objective's output layer on the features that its model gives now.

    Features are computed batch by batch, in evaluation mode; the modes are put back.

    Args:
        objective: on all training data; the output layer is that of the head, or the last one of the model.
        rows: the features of all batches, where they are known already; None: they are computed.
        about: words for what is said of it, as for `Head`.

    Returns:
        The problem, the point of the present layer, and the penalty of everything else.

    Raises:
        InputError: where the head is not a convex loss of a linear layer of its own, or features and predictions are
            too many to be held at once; the message says why.
    """
    if rows is None:
        rows = FormRows(split_last_layer(objective))
        rows.compute()
    objective, layer = rows.objective, rows.layer
    if any(tensor is layer.bias for tensor in objective.penalized):
        raise InputError("The bias of the output layer is under the penalty; the head's gap takes it as free.")
    form = rows.joined()
    if not bool(torch.isfinite(form.features.sum())) and not bool(torch.isfinite(form.features).all()):
        raise InputError("The features below the output layer hold NaN or infinity; there is nothing to certify.")
    l2 = objective.l2 if any(tensor is layer.weight for tensor in objective.penalized) else 0.0
    regularizer = L2(l2) if l2 > 0.0 else Ball(float(layer.weight.detach().double().norm()))
    head = Head(Features(form.features), loss_of(form), regularizer, intercept=layer.bias is not None, about=about)
    rest = [tensor for tensor in objective.penalized if tensor is not layer.weight]
    squares = sum(float(tensor.detach().double().square().sum()) for tensor in rest)
    return head, head.at(layer.weight.T, layer.bias), 0.5 * objective.l2 * squares


@final
class FormRows:
    """The linear form of all batches of a split objective, batch after batch, its features in one float64 matrix."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        (self.layer,) = (module for module in objective.head.modules() if isinstance(module, nn.Linear))
        self._features: Tensor | None = None
        self._forms: list[LinearForm] = []
        self._num_rows = 0
        self.reason = ""  # why they are not held

    def compute(self, watch: Callable[[], None] = lambda: None) -> None:
        """Add all batches; `watch` is called after each."""
        modes = [(module, module.training) for module in self.objective.model.modules()]
        self.objective.model.eval()
        try:
            for batch in self.objective.batches:
                self.add(form_on(self.objective, batch, self.layer)[1])
                if self.reason:
                    return
                watch()
        finally:
            for module, mode in modes:
                module.training = mode

    def add(self, form: LinearForm) -> None:
        """Add the form of the next batch."""
        if form.layer is not self.layer:
            self.reason = str(no_form(self.objective))
        if self._features is None and not self.reason:
            self._features = self._room(len(form.features))
        if self.reason or self._features is None:
            return
        end = self._num_rows + len(form.features)
        if end > len(self._features):  # the batches after the first have more targets than it
            more = self._features.new_empty(max(end, len(self._features) // 2), self.layer.in_features)
            self._features = torch.cat([self._features[: self._num_rows], more])
        self._features[self._num_rows : end] = form.features
        self._num_rows = end
        # A new tensor: a slice would keep the features of all batches alive.
        none = form.features.new_empty(0, self.layer.in_features)
        self._forms.append(dataclasses.replace(form, features=none, rows=None))

    def size(self) -> float:
        """Return how large the terms of a prediction may be, for what rounding may change of it."""
        if self._features is None or not self._num_rows:
            return 0.0
        low, high = torch.aminmax(self._features[: self._num_rows], dim=0)
        largest = torch.maximum(low.abs(), high.abs()) @ self.layer.weight.detach().double().abs().T
        return float((largest if self.layer.bias is None else largest + self.layer.bias.detach().double().abs()).max())

    def joined(self) -> LinearForm:
        """Return the form of everything, or raise an InputError that says why it is not held."""
        if self.reason or self._features is None:
            raise InputError(self.reason)
        return dataclasses.replace(join_forms(self._forms), features=self._features[: self._num_rows])

    def _room(self, num_rows: int) -> Tensor | None:
        """Return room for all features, if there is: the share of the targets' numbers that are rows is like at first.

        Memory is taken only as it is filled.
        """
        batches, layer = self.objective.batches, self.layer
        numbers = sum(batch.targets.numel() for batch in batches)
        share = max(1, num_rows) / max(1, batches[0].targets.numel())
        needed = int(share * numbers * (PER_FEATURE * layer.in_features + PER_PREDICTION * layer.out_features))
        if needed > MAX_BYTES:
            self.reason = (
                f"Features and predictions of all training data would take about {needed / 1e9:.1f} GB; at most "
                f"{MAX_BYTES / 1e9:.1f} GB are held at once."
            )
            return None
        size = max(num_rows, min(numbers, int(1.2 * share * numbers) + 1))
        return torch.empty(size, layer.in_features, dtype=torch.float64, device=layer.weight.device)


def split_last_layer(objective: Objective) -> Objective:
    """Return the same function with the model's last linear layer as part of the head.

    Objectives whose head has a layer already are returned as they are. For a loss without one, such as
    `nn.CrossEntropyLoss`, the model's output must be what an `nn.Linear` in it returned, itself. It raises an
    InputError if there is no linear output layer, or its weights are not its own: computed by a parametrization, tied,
    frozen, used elsewhere in the model (see `thalweg.certificates.linear.own_layer`).
    """
    if isinstance(objective.model, Below):  # this has been done
        return objective
    layers = [module for module in objective.head.modules() if isinstance(module, nn.Linear)]
    if layers:
        if len(layers) != 1:
            raise InputError(
                f"{type(objective.head).__name__} has {len(layers)} linear layers, so there is no single output layer."
            )
        require_own_layer(objective, objective, layers[0])
        return objective
    layer = _last_layer(objective)
    head = _with_layer(objective.head, layer)
    other = copy.copy(objective)
    other.model, other.head = Below(objective.model, layer), head
    require_own_layer(objective, other, layer)
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
        """Return the input of the last layer; an InputError says that the model's output is not the layer's."""
        calls: list[tuple[Tensor, int, Tensor, int]] = []

        def record(module: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
            del module
            features = given[0] if given else named["input"]
            calls.append((features, _version(features), output, _version(output)))

        handle = self._layer[0].register_forward_hook(record, with_kwargs=True)
        try:
            result = self._model[0](*inputs, **keywords)
        finally:
            handle.remove()
        if len(calls) != 1 or calls[0][2] is not result:
            raise InputError(
                "The model's output is not that of its last linear layer on all data, so there is no head to certify."
            )
        features, before, output, returned = calls[0]
        if _version(output) != returned or _version(features) != before:
            raise InputError(
                "The model changes the output of its last linear layer, or what that layer was given, in place "
                "(clamp_, masked_fill_ ...), so the loss is not a convex function of this layer."
            )
        return features

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return the parameters below the layer."""
        own = {id(parameter) for parameter in self._layer[0].parameters()}
        return (parameter for parameter in self._model[0].parameters(recurse) if id(parameter) not in own)


def _version(tensor: Tensor) -> int:
    """Return how often a tensor has been changed in place."""
    return 0 if tensor.is_inference() else tensor._version


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
