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
from thalweg.certificates.linear.stored import LEAST_BYTES, Stored, blocks, give_back
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
OFTEN: Final = 2**16  # rows after which free memory is given back


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
    if not rows.finite:
        raise InputError("The features below the output layer hold NaN or infinity; there is nothing to certify.")
    l2 = objective.l2 if any(tensor is layer.weight for tensor in objective.penalized) else 0.0
    regularizer = L2(l2) if l2 > 0.0 else Ball(float(layer.weight.detach().double().norm()))
    head = Head(Features(rows.matrix), loss_of(form), regularizer, intercept=layer.bias is not None, about=about)
    rest = [tensor for tensor in objective.penalized if tensor is not layer.weight]
    squares = sum(float(tensor.detach().double().square().sum()) for tensor in rest)
    return head, head.at(layer.weight.T, layer.bias), 0.5 * objective.l2 * squares


@final
class FormRows:
    """The linear form of all batches of a split objective, batch after batch, its features in one float64 matrix.

    On the CPU a large one is stored in a temporary file.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        (self.layer,) = (module for module in objective.head.modules() if isinstance(module, nn.Linear))
        self._features: Tensor | Stored | None = None
        self.finite = True  # whether all features are
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
        if end > len(self._features) and not self._grow(max(end, len(self._features) * 3 // 2)):
            return  # the batches after the first have more targets than it
        _fill(self._features, slice(self._num_rows, end), form.features)
        self.finite = self.finite and (
            bool(torch.isfinite(form.features.sum())) or bool(form.features.isfinite().all())
        )
        if end // OFTEN > self._num_rows // OFTEN:
            give_back()
        self._num_rows = end
        # A new tensor: a slice would keep the features of all batches alive.
        none = form.features.new_empty(0, self.layer.in_features)
        self._forms.append(dataclasses.replace(form, features=none, rows=None))

    def size(self) -> float:
        """Return how large the terms of a prediction may be, for what rounding may change of it."""
        if self._features is None or not self._num_rows:
            return 0.0
        sizes = self.layer.weight.new_zeros(self.layer.in_features, dtype=torch.float64)
        for part in _parts(self._features, self._num_rows):
            low, high = torch.aminmax(part, dim=0)
            sizes = torch.maximum(sizes, torch.maximum(low.abs(), high.abs()))
        largest = sizes @ self.layer.weight.detach().double().abs().T
        return float((largest if self.layer.bias is None else largest + self.layer.bias.detach().double().abs()).max())

    def joined(self) -> LinearForm:
        """Return the form of everything, or raise an InputError that says why it is not held."""
        if self.reason or self._features is None:
            raise InputError(self.reason)
        return join_forms(self._forms)

    @property
    def matrix(self) -> Tensor | Stored:
        """The features of everything."""
        assert self._features is not None
        if isinstance(self._features, Tensor):
            return self._features[: self._num_rows]
        self._features.rows = self._features.rows[: self._num_rows]
        return self._features

    def _grow(self, num_rows: int) -> bool:
        """Make room for more features; False where there is none."""
        before, self._features = self._features, self._matrix_of(num_rows)
        if before is None or self._features is None:
            return False
        start = 0
        for part in _parts(before, self._num_rows):
            _fill(self._features, slice(start, start + len(part)), part)
            start += len(part)
        return True

    def _matrix_of(self, num_rows: int) -> Tensor | Stored | None:
        """Return room for so many rows; memory is taken only as it is filled."""
        width, device = self.layer.in_features, self.layer.weight.device
        if device.type != "cpu" or 8 * num_rows * width < LEAST_BYTES:
            return torch.empty(num_rows, width, dtype=torch.float64, device=device)
        try:
            return Stored(num_rows, width)
        except InputError as error:
            self.reason = f"The features of all training data are too large for memory. {error}"
            return None

    def _room(self, num_rows: int) -> Tensor | Stored | None:
        """Return room for all features, if there is: of the targets' numbers as many are rows as in the first batch."""
        batches, layer = self.objective.batches, self.layer
        numbers = sum(batch.targets.numel() for batch in batches)
        share = max(1, num_rows) / max(1, batches[0].targets.numel())
        by_row = PER_FEATURE * layer.in_features
        if layer.weight.device.type == "cpu" and 8 * share * numbers * layer.in_features >= LEAST_BYTES:
            by_row = 0
        needed = int(share * numbers * (by_row + PER_PREDICTION * layer.out_features))
        if needed > MAX_BYTES:
            what = "Features and predictions" if by_row else "Predictions"
            self.reason = (
                f"{what} of all training data would take about {needed / 1e9:.1f} GB; at most "
                f"{MAX_BYTES / 1e9:.1f} GB are held at once."
            )
            return None
        size = max(num_rows, min(numbers, int(1.2 * share * numbers) + 1))
        return self._matrix_of(size)


def _fill(features: Tensor | Stored, rows: slice, values: Tensor) -> None:
    if isinstance(features, Tensor):
        features[rows] = values
    else:
        features.rows[rows] = values
        features.release()


def _parts(features: Tensor | Stored, num_rows: int) -> Iterator[Tensor]:
    """Yield the first rows, one block after the other."""
    for part in blocks(num_rows, (features if isinstance(features, Tensor) else features.rows).shape[1]):
        if isinstance(features, Tensor):
            yield features[part]
        else:
            yield features.rows[part]
            features.release()


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
