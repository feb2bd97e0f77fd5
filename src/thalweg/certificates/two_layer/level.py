"""How far a two-layer ReLU network is from the best of any width."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np

from thalweg.certificates.certificate.interval import Certificate
from thalweg.certificates.certificate.proved import proved_certificate
from thalweg.certificates.checker import check
from thalweg.certificates.two_layer.cell_oracle import CellOracle
from thalweg.certificates.two_layer.column_generation import Solution, best_network, bound_at, descended
from thalweg.certificates.two_layer.evidence import exact_proof, moments_proof, problem_evidence, signs_proof
from thalweg.certificates.two_layer.fan_oracle import FanOracle
from thalweg.certificates.two_layer.neurons import AbstractOracle, Bias, with_bias
from thalweg.certificates.two_layer.oracles import oracle_of
from thalweg.certificates.two_layer.point import TwoLayerPoint, two_layer_point
from thalweg.certificates.two_layer.problem import Weights
from thalweg.certificates.two_layer.relaxed_oracle import MAX_ANCHORS, RelaxedOracle
from thalweg.certificates.two_layer.restricted import nonnegative_newton
from thalweg.certificates.two_layer.semidefinite import MAX_ORDER, Relaxation
from thalweg.errors import InputError
from thalweg.objective import Objective

SEARCH: Final = 0.3  # of the time, for a better network before the relaxation
SIGNS: Final = 0.4  # of what is left, for the relaxation over signs
MAX_STEPS: Final = 100_000


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


def certify_two_layer(
    objective: Objective,
    *,
    tolerance: float = 1e-8,
    max_rounds: int = 60,
    seconds: float = 10.0,
    about: Mapping[str, str] | None = None,
) -> Certificate:
    r"""Bound the loss of every network with one hidden layer of (leaky) ReLU units, of any width, and compare.

    The training of such a network with an L2 penalty on both weight matrices is a convex problem over all ways in which
    a unit can split the data. Where the input has rank 5 at most and examples are few, these are listed and the bound
    is exact (with several outputs: rank 2); above that it is a semidefinite relaxation, valid and looser. A better
    network, of the width it needs, is found on the way: its loss is the certificate's `reached`.

    Args:
        objective: a `thalweg.models.mlp.MLP` with one hidden layer under a head without a layer, or the `mlp` of a
            forecast under its linear head; of a deeper one the last two layers, the others staying as they are. ReLU or
            leaky ReLU, no active dropout, and `l2 > 0` on both weight matrices.
        tolerance: relative gap at which the search ends.
        max_rounds: calls of the search for neurons, at most.
        seconds: for search and relaxation, about; it stops earlier within 0.01 % of the loss that was reached.
        about: words for the certificate's scope: "features" says what the inputs are, "examples" which data these are.

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
    oracle = oracle_of(point.problem)
    return certify_point(
        point, oracle, tolerance=tolerance, max_rounds=max_rounds, seconds=seconds, start=start, about=about
    )[0]


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
    *,
    tolerance: float = 1e-8,
    max_rounds: int = 60,
    seconds: float = 10.0,
    steps: int = MAX_STEPS,
    start: float | None = None,
    about: Mapping[str, str] | None = None,
) -> tuple[Certificate, Solution]:
    """Return the certificate of a point, and the best network that was found; the work began at `start`, None: now.

    A relaxation takes `steps` iterations at most. An InputError says that nothing could be proved.
    """
    start = time.perf_counter() if start is None else start
    problem = point.problem
    share = seconds if oracle.exact else 0.5 * SEARCH * seconds
    solution = best_network(problem, oracle, tolerance=tolerance, max_rounds=max_rounds, seconds=share)
    if not oracle.exact:
        weights = descended(problem, share)
        objective = problem.objective(weights)
        solution = min(solution, dataclasses.replace(solution, weights=weights, objective=objective), key=_objective)
    kept = problem_evidence(problem, point.weights, point.offset, {**(about or {}), **point.words})
    left = seconds - (time.perf_counter() - start)
    proofs = (
        _exact(kept, point, oracle, solution) if oracle.exact else _relaxed(kept, point, oracle, solution, left, steps)
    )
    if not proofs:
        raise InputError("No bound on the hidden units could be proved: rounding leaves nothing of it; scale the data.")
    evidence, found = max(proofs, key=lambda proof: check.proved(proof[1]))
    certificate = proved_certificate(
        evidence,
        loss=point.loss,
        found=found,
        reached=min(solution.objective + point.offset, point.loss),
        seconds=time.perf_counter() - start,
    )
    return certificate, solution


def _objective(solution: Solution) -> float:
    return solution.objective


def _exact(
    kept: dict[str, Any], point: TwoLayerPoint, oracle: AbstractOracle, solution: Solution
) -> list[tuple[dict[str, Any], Any]]:
    """Return the better of the proofs by the best network's dual point and by that of the network itself."""
    assert isinstance(oracle, FanOracle | CellOracle)
    own, dual = bound_at(point.problem, oracle, point.weights)
    dual = dual if own > solution.bound else solution.dual
    proof = exact_proof(kept, point.problem, dual, oracle)
    return [] if proof is None else [proof]


def _relaxed(
    kept: dict[str, Any], point: TwoLayerPoint, oracle: AbstractOracle, solution: Solution, seconds: float, steps: int
) -> list[tuple[dict[str, Any], Any]]:
    """Return the proofs by relaxations that end in time."""
    assert isinstance(oracle, RelaxedOracle)
    problem = point.problem
    best = solution.weights if solution.objective + point.offset < point.loss else point.weights
    relaxation, proofs = Relaxation(problem), []
    small = relaxation.order <= MAX_ORDER
    start = time.perf_counter()
    if len(oracle.anchors) <= MAX_ANCHORS and (not small or oracle.trial(problem.loss.num_outputs) <= SIGNS * seconds):
        proofs.append(signs_proof(kept, problem, problem.dual_point(problem.predictions(best)), oracle))
    if small:
        seconds -= time.perf_counter() - start
        found = relaxation.solve(best, seconds, min(solution.objective, problem.objective(best)), steps)
        if found is not None:
            proofs.append(moments_proof(kept, problem, found, relaxation))
    return [proof for proof in proofs if proof is not None]


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
