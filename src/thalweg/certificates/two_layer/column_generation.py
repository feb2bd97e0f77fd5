"""The best two-layer network of any width, with a bound that proves it: column generation over neurons."""

import dataclasses
import time
from typing import final

import numpy as np
from scipy.optimize import minimize

from thalweg.certificates.two_layer.neurons import AbstractOracle, Answer, Bias, coordinates, with_bias
from thalweg.certificates.two_layer.problem import TwoLayerProblem, Weights
from thalweg.certificates.two_layer.restricted import RestrictedNetwork

MAX_STALLS = 3
STEPS, MORE_STEPS = 60, 1000  # of polishing a network
POLISHES = 6  # in a round, where neurons are still turning; between two of them their sizes are fitted
MOST_NUMBERS = 200_000  # of a network that L-BFGS trains
FAR = 1e6  # a free bias that makes a constant of a neuron


@final
@dataclasses.dataclass(frozen=True)
class Solution:
    """The best network that was found, and the best bound."""

    weights: Weights
    objective: float  # its loss and penalty
    bound: float  # no network of any width has less
    dual: np.ndarray  # the feasible dual point that proves it
    oracle: AbstractOracle  # what bounded the neurons
    rounds: int  # how often the oracle was asked


def best_network(
    problem: TwoLayerProblem,
    oracle: AbstractOracle,
    *,
    tolerance: float = 1e-8,
    max_rounds: int = 100,
    seconds: float | None = None,
) -> Solution:
    """Return the best network of any width, and a lower bound on all of them.

    Starting from the network without neurons, the oracle (of `oracle_of`, or another one for these features, bias and
    leak) names neurons that lower the loss by more than they cost; they are taken in, and all turn within their cells
    until nothing moves. The residual V that is left, scaled until no neuron's value exceeds l2, is feasible for the
    convex dual, whose value bounds every network of every width. It ends at a relative gap of `tolerance`, or after so
    many seconds.

    Source: Pilanci and Ergen, "Neural networks are convex regularizers: exact polynomial-time convex optimization
    formulations for two-layer networks" (2020); Bach, "Breaking the curse of dimensionality with convex neural
    networks" (2017).

    Not to be read as a statement about the network's width: the best one may need more neurons than yours has.
    """
    linear, ridge, _ = problem.linear
    num, dimension = problem.features.shape
    width = problem.loss.num_outputs
    inputs = with_bias(problem.features, problem.hidden_bias)
    network = RestrictedNetwork(
        inputs,
        problem.array_loss,
        problem.l2,
        linear,
        ridge,
        width=width,
        num_sized=dimension + (problem.hidden_bias is Bias.PENALIZED),
    )
    network.fit_sizes()
    bound, best_dual, rounds, polished, start = -np.inf, np.zeros((num, width)), 0, 0, time.perf_counter()
    stalls = 0
    for rounds in range(1, max_rounds + 1):
        dual, answer = _ask(problem, oracle, network.predictions())
        value = problem.dual_value(dual)
        if value > bound or rounds == 1:
            bound, best_dual = value, dual
        objective = network.objective()
        # Where no neuron helps and a gap is left, the network itself is not yet the best of its cells.
        longer = not answer.neurons and polished < MAX_STALLS
        if objective - bound <= tolerance * abs(objective) or not (answer.neurons or longer):
            break
        network.add(answer.neurons)
        polished += longer
        for _ in range(POLISHES):
            settled = network.polish(MORE_STEPS if longer else STEPS)
            network.fit_sizes()
            if settled or not oracle.exact:
                break
        if network.merge():
            network.polish()
        stalls = stalls + 1 if network.objective() >= objective - 1e-15 * abs(objective) else 0
        if stalls == MAX_STALLS or (seconds is not None and time.perf_counter() - start > seconds):
            break
    weights = _whole(problem, *network.parameters())
    return Solution(weights, problem.objective(weights), bound, best_dual, oracle, rounds)


def descended(problem: TwoLayerProblem, seconds: float, width: int = 300) -> Weights:
    """Return a wide network, trained from a random one by L-BFGS for so many seconds at most.

    Above rank 5 it is often better than what `best_network` puts together neuron by neuron. Its neurons lie in no cell.
    """
    rows, axes = coordinates(problem.features, problem.hidden_bias)
    linear, ridge, _ = problem.linear
    (num, rank), outputs = rows.shape, problem.loss.num_outputs
    free = problem.hidden_bias is Bias.FREE
    width = min(width, max(10, MOST_NUMBERS // (rank + outputs + 1)))
    ends = np.cumsum([width * rank, width * free, width * outputs])
    generator = np.random.default_rng(0)
    size = 1.0 / np.sqrt(max(float(np.sqrt((rows**2).sum(1).mean())), 1e-150))
    u = 0.6 * size / np.sqrt(max(rank, 1)) * generator.normal(size=(width, rank))
    bias = -(u * rows[generator.integers(0, num, width)]).sum(1) if free else np.zeros(0)
    out = 0.1 * size * generator.normal(size=(width, outputs))
    start = np.concatenate([u.ravel(), bias, out.ravel(), np.zeros(linear.shape[1] * outputs)])

    def parts(flat: np.ndarray) -> list[np.ndarray]:
        u, bias, out, theta = np.split(flat, ends)
        return [u.reshape(width, rank), bias, out.reshape(width, outputs), theta.reshape(-1, outputs)]

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        u, bias, out, theta = parts(flat)
        hidden = rows @ u.T + (bias if free else 0.0)
        slopes = np.where(hidden > 0.0, 1.0, problem.leak)
        hidden *= slopes
        predictions = hidden @ out + linear @ theta
        penalty = problem.l2 * ((u**2).sum() + (out**2).sum()) + (ridge[:, None] * theta**2).sum()
        v = problem.array_loss.residual(predictions)
        back = slopes * (v @ out.T)
        slope = [problem.l2 * u - back.T @ rows, -back.sum(0)[: len(bias)], problem.l2 * out - hidden.T @ v]
        slope.append(ridge[:, None] * theta - linear.T @ v)
        return float(problem.array_loss.value(predictions)) + 0.5 * penalty, np.concatenate([g.ravel() for g in slope])

    end = time.perf_counter() + seconds

    def stop(_: np.ndarray) -> None:
        if time.perf_counter() > end:
            raise StopIteration

    limits = {"maxiter": 1500, "maxfun": 3000, "ftol": 1e-12, "gtol": 1e-9, "maxcor": 30}
    found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", callback=stop, options=limits)  # type: ignore[call-overload]
    u, bias, out, theta = parts(found.x)
    ingoing = u @ axes.T
    if free:
        ingoing = np.column_stack([ingoing, bias - ingoing @ problem.features.mean(0)])
    return problem.balanced(_whole(problem, ingoing, out, theta))


def _whole(problem: TwoLayerProblem, ingoing: np.ndarray, outgoing: np.ndarray, coefficients: np.ndarray) -> Weights:
    """Return the network of ingoing weights, the bias last where there is one, and of what bypasses its neurons."""
    axes, dimension = problem.linear[2], problem.features.shape[1]
    rest = coefficients[axes.shape[1] :]
    weights = Weights(
        ingoing[:, :dimension],
        ingoing[:, dimension] if ingoing.shape[1] > dimension else np.zeros(len(ingoing)),
        outgoing,
        rest[0] if len(rest) else np.zeros(problem.loss.num_outputs),
        axes @ coefficients[: axes.shape[1]],
    )
    if problem.hidden_bias is Bias.FREE and problem.output_bias is not Bias.FREE:
        return _constant_as_neuron(weights)
    return weights


def _constant_as_neuron(weights: Weights) -> Weights:
    """Return the network with its output bias made by a neuron whose bias is free: it costs next to nothing."""
    return dataclasses.replace(
        weights,
        ingoing=np.vstack([weights.ingoing, np.zeros(weights.ingoing.shape[1])]),
        hidden_bias=np.append(weights.hidden_bias, FAR),
        outgoing=np.vstack([weights.outgoing, weights.output_bias / FAR]),
        output_bias=np.zeros_like(weights.output_bias),
    )


def bound_at(problem: TwoLayerProblem, oracle: AbstractOracle, weights: Weights) -> tuple[float, np.ndarray]:
    """Return the bound, and its dual point, that one network's own residual gives: one call of the oracle."""
    predictions = problem.predictions(weights)
    dual = _ask(problem, oracle, predictions)[0]
    return problem.dual_value(dual), dual


def _ask(problem: TwoLayerProblem, oracle: AbstractOracle, predictions: np.ndarray) -> tuple[np.ndarray, Answer]:
    """Return a feasible dual point near the one of predictions, and what the oracle said."""
    dual = problem.dual_point(predictions)
    answer = oracle.search(problem.array_loss.dual_residual(dual), problem.l2 * (1.0 + 1e-10))
    return _scaled(problem, dual, answer.bound), answer


def _scaled(problem: TwoLayerProblem, dual: np.ndarray, bound: float) -> np.ndarray:
    """Scale a dual point to the best feasible size; its neurons' values are at most `bound`."""
    scale = problem.best_scale(dual, problem.l2 / bound if bound > 0.0 else np.inf)
    return problem.array_loss.scaled(dual, scale)
