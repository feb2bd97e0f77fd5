"""From an objective to the two-layer network in it and the problem of its training; from a network to a model."""

import dataclasses
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.certificates.linear.forms import form_on, join_forms, loss_of
from thalweg.certificates.linear.own_layer import require_plain
from thalweg.certificates.two_layer.neurons import Bias
from thalweg.certificates.two_layer.problem import TwoLayerProblem, Weights
from thalweg.errors import InputError
from thalweg.heads.base import LinearForm
from thalweg.models.mlp import MLP, MaskedLinear
from thalweg.models.presets import FlatWindow
from thalweg.objective import Objective

Layer = nn.Linear | MaskedLinear


@final
@dataclasses.dataclass(frozen=True)
class TwoLayerPoint:
    """A two-layer network as an objective holds it, and the problem that its training is about."""

    problem: TwoLayerProblem
    weights: Weights  # at the objective's parameters, in float64
    offset: float = 0.0  # penalty of everything that stays as it is
    frozen: bool = False  # whether earlier layers stay as they are
    masked: bool = False  # whether the wiring is sparse

    @property
    def words(self) -> dict[str, int]:
        """What a certificate's scope must name."""
        return {name: 1 for name in ("frozen", "masked") if getattr(self, name)}

    @property
    def loss(self) -> float:
        """The objective at its parameters."""
        return self.problem.objective(self.weights) + self.offset


def two_layer_point(objective: Objective) -> TwoLayerPoint:
    """Return the two-layer network that an objective (see `certify_two_layer`) holds, and its problem.

    It raises an InputError where the loss is not such a problem; the message says what is in the way.
    """
    model = objective.model.body if isinstance(objective.model, FlatWindow) else objective.model
    if not isinstance(model, MLP):
        raise _no(f"the model must be an MLP with ReLU or leaky ReLU (--model mlp), not {type(model).__name__}")
    activations = {"hidden": model.activation, "output": model.output_activation}
    forms, inputs = _forms(objective)
    top = forms[0].layer
    layers = _linear([*model.layers] if top is None else [*model.layers, top])
    if top is not None and model.shortcut is not None:
        raise _no("the input skip ends in a hidden layer")
    if len(layers) < 2 or (top is None) != isinstance(model.output_activation, nn.Identity):
        raise _no("there must be a hidden layer, and a linear one after it")
    activation = activations["hidden" if top is None else "output"]
    leak = _leak(activation)
    if model.dropout.p > 0.0 and model.training:
        raise _no(f"dropout is {model.dropout.p:g}, so that the loss is random (--dropout 0)")
    first, last = layers[-2:]
    if not objective.l2 > 0.0:
        raise _no("there must be an L2 penalty in the loss (--l2); without one the infimum may not be attained")
    require_plain(objective, [objective.model, model, first, last])
    costs = {id(tensor) for tensor in objective.penalized}
    shortcut = None if model.shortcut is None else _linear([model.shortcut])[0]
    weights = [_stored(layer) for layer in (first, last, *([] if shortcut is None else [shortcut]))]
    if not all(id(weight) in costs for weight in weights):
        raise _no("the L2 penalty must be on all weight matrices")
    num_frozen = len(layers) - 2
    if num_frozen and shortcut is not None:
        raise _no("an input skip around frozen layers is part of neither of the last two")
    features = np.concatenate([_before(model, num_frozen, x) for x in inputs])
    if not np.isfinite(features).all():
        raise InputError("The features hold NaN or infinity; correct the data or go back to finite weights.")
    known = {id(tensor) for tensor in [*weights, *_biases(first, last)]}
    rest = sum(
        float(tensor.detach().double().square().sum()) for tensor in objective.penalized if id(tensor) not in known
    )
    problem = TwoLayerProblem(
        features,
        loss_of(join_forms(forms)),
        objective.l2,
        leak,
        _bias_cost(first, costs),
        _bias_cost(last, costs),
        shortcut is not None,
    )
    point = TwoLayerPoint(
        problem,
        Weights(
            _array(first.weight),
            np.zeros(len(first.weight)) if first.bias is None else _array(first.bias),
            _array(last.weight).T,
            np.zeros(len(last.weight)) if last.bias is None else _array(last.bias),
            np.zeros((features.shape[1], len(last.weight))) if shortcut is None else _array(shortcut.weight).T,
        ),
        0.5 * objective.l2 * rest,
        frozen=num_frozen > 0,
        masked=any(isinstance(layer, MaskedLinear) for layer in (first, last, shortcut)),
    )
    value = float(objective.value())
    if abs(value - point.loss) > 1e-3 * abs(value) + 1e-9:
        raise _no(f"it evaluates to {value:.6g}, the same network by hand to {point.loss:.6g}; something else is in it")
    return point


def _no(reason: str) -> InputError:
    return InputError(f"This loss is not that of a two-layer ReLU network: {reason}.")


def _leak(activation: nn.Module) -> float:
    match activation:
        case nn.ReLU():
            return 0.0
        case nn.LeakyReLU():
            return float(activation.negative_slope)
    raise _no(f"the activation must be relu or leaky_relu (--activation), not {type(activation).__name__}")


def _forms(objective: Objective) -> tuple[list[LinearForm], list[Tensor]]:
    """The head's linear form on each batch, and the rows of the model's input that have a target."""
    forms, inputs = [], []
    for batch in objective.batches:
        if len(batch.inputs) != 1:
            raise _no(f"the model must read one tensor, not {', '.join(batch.inputs)}")
        x = next(iter(batch.inputs.values()))
        form = form_on(objective, batch)[1]
        x = x.flatten(1) if isinstance(objective.model, FlatWindow) else x.reshape(-1, x.shape[-1])
        forms.append(form)
        inputs.append(x if form.rows is None else x[form.rows])
    return forms, inputs


def _before(model: MLP, num_layers: int, x: Tensor) -> np.ndarray:
    """What goes into the second-last layer, float64."""
    if num_layers:
        caught: list[Tensor] = []
        handle = model.layers[num_layers].register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0]))
        with torch.no_grad():
            model(x)
        handle.remove()
        x = caught[0]
    return x.detach().cpu().double().numpy()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _linear(layers: Sequence[nn.Module]) -> list[Layer]:
    found = [layer for layer in layers if isinstance(layer, nn.Linear | MaskedLinear)]
    assert len(found) == len(layers)
    return found


def _stored(layer: Layer) -> Tensor:
    return layer.stored if isinstance(layer, MaskedLinear) else layer.weight


def _biases(*layers: Layer) -> list[Tensor]:
    return [layer.bias for layer in layers if layer.bias is not None]


def _bias_cost(layer: Layer, costs: set[int]) -> Bias:
    if layer.bias is None:
        return Bias.NONE
    return Bias.PENALIZED if id(layer.bias) in costs else Bias.FREE


def to_mlp(weights: Weights, leak: float, *, bias: bool = True, skip: bool = False) -> MLP:
    """Return the network as a `thalweg.models.mlp.MLP` in float64, with at least one hidden unit."""
    if not len(weights.ingoing):
        dimension, width = weights.skip.shape
        nothing = {"ingoing": np.zeros((1, dimension)), "hidden_bias": np.zeros(1), "outgoing": np.zeros((1, width))}
        weights = dataclasses.replace(weights, **nothing)
    sizes = [weights.ingoing.shape[1], len(weights.ingoing), weights.outgoing.shape[1]]
    model = MLP(sizes, activation=lambda: nn.LeakyReLU(leak), bias=bias, input_skip=skip).double()
    first, last = model.layers
    values = [(first.weight, weights.ingoing), (last.weight, weights.outgoing.T)]
    if bias:
        values += [(first.bias, weights.hidden_bias), (last.bias, weights.output_bias)]
    if model.shortcut is not None:
        values.append((model.shortcut.weight, weights.skip.T))
    with torch.no_grad():
        for parameter, value in values:
            assert isinstance(parameter, Tensor)
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return model
