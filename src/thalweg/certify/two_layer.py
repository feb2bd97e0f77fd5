"""How far a two-layer ReLU network is from the best of any width."""

import dataclasses
import time
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.certify.columns import Solution, TwoLayerProblem, Weights, best_network, bound_at
from thalweg.certify.interval import Certificate, Proof
from thalweg.certify.neurons import AbstractOracle, Bias, CellOracle, with_bias
from thalweg.certify.outputs import AbstractOutput, LogisticOutput, SoftmaxOutput, SquaredOutput
from thalweg.certify.restricted import nonnegative_newton
from thalweg.certify.two_layer_evidence import evidence
from thalweg.errors import InputError
from thalweg.heads.linear_form import ConvexLoss, LinearForm
from thalweg.models.mlp import MLP, MaskedLinear
from thalweg.models.presets import FlatWindow
from thalweg.objective import Objective

UNITS = {SquaredOutput: "squared error", LogisticOutput: "nats", SoftmaxOutput: "nats"}


@final
@dataclasses.dataclass(frozen=True)
class TwoLayerPoint:
    """A two-layer network as an objective holds it, and the problem that its training is about.

    Args:
        problem: the loss, the penalty, the activation and what the biases cost.
        weights: the network at the objective's parameters, in float64.
        offset: penalty of everything that stays as it is.
        frozen: whether earlier layers stay as they are.
        masked: whether the wiring is sparse.
    """

    problem: TwoLayerProblem
    weights: Weights
    offset: float = 0.0
    frozen: bool = False
    masked: bool = False

    @property
    def loss(self) -> float:
        """The objective at its parameters."""
        return self.problem.objective(self.weights) + self.offset


@final
@dataclasses.dataclass(frozen=True)
class Insertion:
    """A neuron that lowers the loss, put into the network.

    Args:
        weights: the network with it (and with all neurons balanced).
        loss: what it has then.
        before: what it had.
        value: how fast the loss falls with the neuron's size at first, before the penalty.
    """

    weights: Weights
    loss: float
    before: float
    value: float

    def sentence(self) -> str:
        """Return the offer as a sentence.

        Example:
            >>> nothing = np.zeros((0, 1))
            >>> weights = Weights(nothing, np.zeros(0), nothing, np.zeros(1), np.zeros((1, 1)))
            >>> Insertion(weights, 0.5, 1.0, 2.0).sentence()
            'One more hidden unit would lower the loss from 1 to 0.5 (50 %), all others as they are.'
        """
        share = 100.0 * (self.before - self.loss) / abs(self.before)
        return (
            f"One more hidden unit would lower the loss from {self.before:.6g} to {self.loss:.6g} ({share:.2g} %), "
            "all others as they are."
        )


def certify_two_layer(objective: Objective, *, tolerance: float = 1e-8, max_rounds: int = 60) -> Certificate:
    r"""Bound the loss of every network with one hidden layer of (leaky) ReLU units, of any width, and compare.

    The training of such a network with an L2 penalty on both weight matrices is a convex problem over all ways in which
    a unit can split the data. Where the input has rank 5 at most these are listed and the bound is exact (with several
    outputs: rank 2); above that it is a semidefinite relaxation, valid and loose. A better network, of the width it
    needs, is found on the way: its loss is the certificate's `reached`.

    Args:
        objective: a `thalweg.models.mlp.MLP` with one hidden layer under a head without a layer, or the `mlp` of a
            forecast under its linear head; of a deeper one the last two layers, the others staying as they are. ReLU or
            leaky ReLU, no active dropout, and `l2 > 0` on both weight matrices.
        tolerance: relative gap at which the search ends.
        max_rounds: calls of the search for neurons, at most.

    Returns:
        A certificate of level "two_layer". `whole` is False where earlier layers are frozen.

    Raises:
        InputError: where the loss is no such problem; the message says what is in the way.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
        >>> model = MLP([1, 3, 1], activation=nn.ReLU).double()
        >>> objective = Objective(model, nn.MSELoss(), x, x.abs(), l2=1e-3)
        >>> level = certify_two_layer(objective)
        >>> level.bound <= level.reached <= level.loss, f"{level.bound:.6f}"
        (True, '0.003984')

    Source: Pilanci and Ergen, "Neural networks are convex regularizers" (2020); Bach, "Breaking the curse of
    dimensionality with convex neural networks" (2017).

    Not for smooth activations such as tanh or GELU: their units have no finite number of cases.
    """
    start = time.perf_counter()
    point = two_layer_point(objective)
    return certify_point(point, oracle_of(point.problem), tolerance, max_rounds, start)[0]


def certify_point(
    point: TwoLayerPoint,
    oracle: AbstractOracle,
    tolerance: float = 1e-8,
    max_rounds: int = 60,
    start: float | None = None,
) -> tuple[Certificate, Solution]:
    """Return the certificate of a point, and the best network that was found.

    Args:
        point: from `two_layer_point`, or made of arrays.
        oracle: from `oracle_of`.
        tolerance: relative gap at which the search ends.
        max_rounds: calls of the search for neurons, at most.
        start: when the work began (`time.perf_counter()`); None: now.
    """
    start = time.perf_counter() if start is None else start
    problem = point.problem
    solution = best_network(problem, oracle, tolerance=tolerance, max_rounds=max_rounds)
    own, dual = bound_at(problem, oracle, point.weights)
    if own <= solution.bound:
        own, dual = solution.bound, solution.dual
    proof, assumptions = _proof(problem, oracle)
    loss = point.loss
    certificate = Certificate(
        name="two_layer",
        quantity="training loss",
        unit=UNITS[type(problem.output)],
        loss=loss,
        bound=min(own + point.offset, loss),
        reached=min(solution.objective + point.offset, loss),
        scope=_scope(point),
        whole=not point.frozen,
        proof=proof,
        assumptions=assumptions,
        seconds=time.perf_counter() - start,
        evidence=evidence(problem, point.weights, dual, oracle, point.offset),
    )
    return certificate, solution


def insert_neuron(point: TwoLayerPoint, oracle: AbstractOracle) -> Insertion | None:
    """Return the network with one more neuron, the one whose size lowers the loss fastest; None where none does.

    The network is balanced first (ingoing and outgoing weights of the same length), which changes no prediction, and an
    output bias without penalty is fitted along with the neuron.

    Args:
        point: the network and its problem.
        oracle: from `oracle_of`.
    """
    problem, weights = point.problem, point.problem.balanced(point.weights)
    num, width = problem.features.shape[1], weights.outgoing.shape[1]
    base, before = problem.predictions(weights), point.loss
    # A constant that costs nothing is fitted first, and again with the neuron.
    constants = np.broadcast_to(np.eye(width), (len(base), width, width))
    constants = constants if problem.output_bias is Bias.FREE else constants[:, :, :0]

    def fit(atoms: np.ndarray) -> np.ndarray:
        design = np.concatenate([atoms, constants], 2)
        bounded = np.arange(design.shape[2]) < atoms.shape[2]
        nothing = np.zeros(design.shape[2])
        return nonnegative_newton(problem.output, design, problem.l2 * bounded, nothing, bounded, nothing, base)

    shift = fit(np.zeros((len(base), width, 0)))
    dual = problem.output.dual(base + constants @ shift)
    if problem.free_intercept:
        dual = problem.output.centered(dual)
    for neuron in oracle.search(problem.output.residual(dual), problem.l2 * (1.0 + 1e-9)).neurons[:1]:
        hidden = neuron.slopes * (with_bias(problem.features, problem.hidden_bias) @ neuron.weights)
        size, *shift = fit(np.outer(hidden, neuron.output)[:, :, None])
        root = float(np.sqrt(size))
        bias = neuron.weights[num] if len(neuron.weights) > num else 0.0
        after = dataclasses.replace(
            weights,
            ingoing=np.vstack([weights.ingoing, root * neuron.weights[:num]]),
            hidden_bias=np.append(weights.hidden_bias, root * bias),
            outgoing=np.vstack([weights.outgoing, root * neuron.output]),
            output_bias=weights.output_bias + (np.array(shift) if shift else 0.0),
        )
        loss = problem.objective(after) + point.offset
        if loss < before:
            return Insertion(after, loss, before, neuron.value)
    return None


def pruned(problem: TwoLayerProblem, weights: Weights, width: int) -> Weights:
    """Return a network of at most `width` neurons: those that matter most, the output's linear part fitted anew.

    The certificate is about networks of any width; this is a good start for training one of a given width.

    Args:
        problem: the problem.
        weights: of any width.
        width: at least 1.

    Raises:
        ValueError: for a width below 1.
    """
    if width < 1:
        raise ValueError(f"pruned(width=...) must be at least 1; got {width!r}.")
    while len(weights.ingoing) > width:
        losses = [problem.objective(_without(weights, place)) for place in range(len(weights.ingoing))]
        weights = _without(weights, int(np.argmin(losses)))
    return weights


def to_mlp(weights: Weights, leak: float, *, bias: bool = True, skip: bool = False) -> MLP:
    """Return the network as a `thalweg.models.mlp.MLP` in float64, with at least one hidden unit.

    Args:
        weights: the network.
        leak: slope of its activation on the left.
        bias: whether the layers have biases.
        skip: whether there is a linear map from the input to the output.
    """
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


def oracle_of(problem: TwoLayerProblem) -> AbstractOracle:
    """Return the sharpest oracle for a problem.

    Raises:
        InputError: if the problem is too large for any.
    """
    if not np.isfinite(problem.features).all():
        raise InputError("The features hold NaN or infinity; correct the data.")
    oracle = problem.oracle()
    if oracle is None:
        raise InputError(
            f"{len(problem.features):,} examples are too many for a bound on hidden units with a free bias; put the "
            "biases under the penalty as well, or certify a sample."
        )
    return oracle


def output_of(forms: Sequence[LinearForm], num_outputs: int) -> AbstractOutput:
    """Return the convex loss of the predictions that linear forms of several batches have together."""
    count = sum(float(form.count) for form in forms)
    targets, weights = [], []
    for form in forms:
        target = form.targets.detach().cpu()
        if form.loss is ConvexLoss.SOFTMAX:
            if not target.is_floating_point():
                target = nn.functional.one_hot(target.long(), num_outputs)
            target = (1.0 - form.smoothing) * target.double() + form.smoothing / num_outputs
            if form.class_weights is not None:
                target = target * form.class_weights.detach().cpu().double()
        target = target.double().reshape(len(target), num_outputs)
        weight = torch.ones(len(target), 1).double() if form.weights is None else form.weights.detach().cpu().double()
        weights.append(weight.reshape(len(target), -1).expand(-1, 1 if form.loss is ConvexLoss.SOFTMAX else num_outputs))
        targets.append(target)
    y, c = torch.cat(targets).numpy(), torch.cat(weights).numpy() / count
    match forms[0].loss:
        case ConvexLoss.SQUARED:
            return SquaredOutput(y, c, forms[0].factor)
        case ConvexLoss.LOGISTIC:
            return LogisticOutput(y, c)
    total = y.sum(1, keepdims=True)
    return SoftmaxOutput(y / np.where(total > 0.0, total, 1.0), c * total)


def two_layer_point(objective: Objective) -> TwoLayerPoint:
    """Return the two-layer network that an objective holds, and its problem.

    Args:
        objective: see `certify_two_layer`.

    Raises:
        InputError: where the loss is no such problem; the message says what is in the way.
    """
    model = objective.model.body if isinstance(objective.model, FlatWindow) else objective.model
    if not isinstance(model, MLP):
        raise _no(f"the model must be an MLP with ReLU or leaky ReLU (--model mlp), not {type(model).__name__}")
    activations = {"hidden": model.activation, "output": model.output_activation}
    forms, inputs = _forms(objective)
    top = forms[0].layer
    layers = [*model.layers] if top is None else [*model.layers, top]
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
    costs = {id(tensor) for tensor in objective.penalized}
    shortcut = model.shortcut
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
    rest = sum(float(tensor.detach().double().square().sum()) for tensor in objective.penalized if id(tensor) not in known)
    problem = TwoLayerProblem(
        features,
        output_of(forms, last.weight.shape[0]),
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
    with torch.no_grad():
        for batch in objective.batches:
            if len(batch.inputs) != 1:
                raise _no(f"the model must read one tensor, not {', '.join(batch.inputs)}")
            x = next(iter(batch.inputs.values()))
            hidden = objective.model(x)
            form = objective.head.linear_form(hidden, batch.targets, batch.mask, batch.weights)
            if form is None:
                raise _no(f"{type(objective.head).__name__} is no convex loss of a linear layer")
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


def _stored(layer: nn.Module) -> Tensor:
    return layer.stored if isinstance(layer, MaskedLinear) else layer.weight  # type: ignore[return-value]


def _biases(*layers: nn.Module) -> list[Tensor]:
    return [layer.bias for layer in layers if isinstance(layer.bias, Tensor)]


def _bias_cost(layer: nn.Module, costs: set[int]) -> Bias:
    if layer.bias is None:
        return Bias.NONE
    return Bias.PENALIZED if id(layer.bias) in costs else Bias.FREE


def _without(weights: Weights, place: int) -> Weights:
    return dataclasses.replace(
        weights,
        ingoing=np.delete(weights.ingoing, place, 0),
        hidden_bias=np.delete(weights.hidden_bias, place),
        outgoing=np.delete(weights.outgoing, place, 0),
    )


def _scope(point: TwoLayerPoint) -> str:
    what = "linear" if point.problem.leak == 1.0 else "ReLU" if point.problem.leak == 0.0 else "leaky ReLU"
    where = ", whatever their width"
    given = " on the present output of the earlier layers" if point.frozen else ""
    wiring = " and wiring" if point.masked else ""
    return f"No training of these two layers of {what} units{given}{where}{wiring}, gets the loss below this."


def _proof(problem: TwoLayerProblem, oracle: AbstractOracle) -> tuple[Proof, tuple[str, ...]]:
    said = [f"The hidden layer has {problem.hidden_bias.value}, the output {problem.output_bias.value}."]
    if isinstance(oracle, CellOracle):
        if not oracle.complete:
            said.append("Hyperplanes closer than 1e-10 count as one; the count of cells does not prove them complete.")
            return Proof.PROOF_WITH_TOLERANCE, tuple(said)
        return Proof.PROOF, tuple(said)
    if not oracle.exact:
        said.append("The hidden units are bounded by a semidefinite relaxation, which can be far from tight.")
    return Proof.PROOF, tuple(said)
