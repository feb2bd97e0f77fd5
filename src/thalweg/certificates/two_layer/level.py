"""How far a two-layer ReLU network is from the best of any width."""

import dataclasses
import time
from typing import final

import numpy as np

from thalweg.certificates.certificate.interval import Certificate, Proof, rounding_slack
from thalweg.certificates.two_layer.cell_oracle import CellOracle
from thalweg.certificates.two_layer.column_generation import Solution, best_network, bound_at
from thalweg.certificates.two_layer.evidence import evidence
from thalweg.certificates.two_layer.neurons import AbstractOracle, Bias, with_bias
from thalweg.certificates.two_layer.oracles import oracle_of
from thalweg.certificates.two_layer.point import TwoLayerPoint, two_layer_point
from thalweg.certificates.two_layer.problem import TwoLayerProblem, Weights
from thalweg.certificates.two_layer.restricted import nonnegative_newton
from thalweg.objective import Objective


@final
@dataclasses.dataclass(frozen=True)
class Insertion:
    """A neuron that lowers the loss, put into the network."""

    weights: Weights  # with it, and with all neurons balanced
    loss: float
    before: float  # the loss without it
    value: float  # how fast the loss falls with the neuron's size at first, before the penalty

    def sentence(self) -> str:
        """Return the offer as a sentence."""
        gain = 100.0 * (self.before - self.loss) / abs(self.before)
        return (
            f"One more hidden unit would lower the loss from {self.before:.6g} to {self.loss:.6g} ({gain:.2g} %), "
            "keeping all other units."
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
        InputError: where the loss is not such a problem; the message says what is in the way.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from thalweg.models.mlp import MLP
        >>> _ = torch.manual_seed(0)
        >>> x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
        >>> model = MLP([1, 3, 1], activation=nn.ReLU).double()
        >>> objective = Objective(model, nn.MSELoss(), x, x.abs(), l2=1e-3)
        >>> level = certify_two_layer(objective)
        >>> level.bound <= level.reached <= level.loss, f"{level.bound:.6f}"
        (True, '0.001991')

    Source: Pilanci and Ergen, "Neural networks are convex regularizers" (2020); Bach, "Breaking the curse of
    dimensionality with convex neural networks" (2017).

    Not for smooth activations such as tanh or GELU: their units have no finite number of cases.
    """
    start = time.perf_counter()
    point = two_layer_point(objective)
    return certify_point(point, oracle_of(point.problem), tolerance, max_rounds, start)[0]


def offer_neuron(objective: Objective) -> str | None:
    """Return the sentence of `insert_neuron` for the network of an objective; None where no neuron helps.

    Args:
        objective: as for `certify_two_layer`.

    Raises:
        InputError: as `certify_two_layer`.
    """
    point = two_layer_point(objective)
    offer = None if point.frozen else insert_neuron(point, oracle_of(point.problem))
    return None if offer is None else offer.sentence()


def certify_point(
    point: TwoLayerPoint,
    oracle: AbstractOracle,
    tolerance: float = 1e-8,
    max_rounds: int = 60,
    start: float | None = None,
) -> tuple[Certificate, Solution]:
    """Return the certificate of a point, and the best network that was found; the work began at `start`, None: now."""
    start = time.perf_counter() if start is None else start
    problem = point.problem
    solution = best_network(problem, oracle, tolerance=tolerance, max_rounds=max_rounds)
    own, dual = bound_at(problem, oracle, point.weights)
    if own <= solution.bound:
        own, dual = solution.bound, solution.dual
    proof, assumptions = _proof(problem, oracle)
    found = evidence(problem, point.weights, dual, oracle, point.offset)
    if found:
        own = problem.dual_value(found["dual"])
    loss = point.loss
    reached = min(solution.objective + point.offset, loss)
    if own + point.offset > reached + rounding_slack(reached, loss):
        raise ValueError(f"The bound {own + point.offset:.17g} is above a loss that was reached, {reached:.17g}.")
    certificate = Certificate(
        name="two_layer",
        quantity="training loss",
        unit=problem.loss.unit,
        loss=loss,
        bound=min(own + point.offset, reached),
        reached=reached,
        scope=_scope(point),
        whole=not point.frozen,
        proof=proof,
        assumptions=assumptions,
        seconds=time.perf_counter() - start,
        evidence=found,
    )
    return certificate, solution


def insert_neuron(point: TwoLayerPoint, oracle: AbstractOracle) -> Insertion | None:
    """Return the network with one more neuron, the one whose size lowers the loss fastest; None where none does.

    The network is balanced first (ingoing and outgoing weights of the same length), which changes no prediction, and an
    output bias without penalty is fitted along with the neuron.
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
        return nonnegative_newton(problem.array_loss, design, problem.l2 * bounded, nothing, bounded, nothing, base)

    shift = fit(np.zeros((len(base), width, 0)))
    dual = problem.dual_point(base + constants @ shift)
    for neuron in oracle.search(problem.array_loss.dual_residual(dual), problem.l2 * (1.0 + 1e-9)).neurons[:1]:
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


def _scope(point: TwoLayerPoint) -> str:
    what = "linear" if point.problem.leak == 1.0 else "ReLU" if point.problem.leak == 0.0 else "leaky ReLU"
    where = ", whatever their width"
    given = " on the present output of the earlier layers" if point.frozen else ""
    wiring = " and wiring" if point.masked else ""
    return f"No training of these two layers of {what} units{given}{where}{wiring}, gets the loss below this."


def _proof(problem: TwoLayerProblem, oracle: AbstractOracle) -> tuple[Proof, tuple[str, ...]]:
    said = [f"The hidden layer has {problem.hidden_bias.value}, the output {problem.output_bias.value}."]
    if isinstance(oracle, CellOracle) and not oracle.complete:
        said.append("Hyperplanes closer than 1e-10 count as one; the count of cells does not prove them complete.")
        return Proof.PROOF_WITH_TOLERANCE, tuple(said)
    if not oracle.exact:
        said.append("The hidden units are bounded by a semidefinite relaxation, which can be far from tight.")
    return Proof.PROOF, tuple(said)
