"""The best two-layer network of any width, with a bound that proves it: column generation over neurons."""

import dataclasses
from typing import final

import numpy as np
from scipy.optimize import minimize_scalar

from thalweg.certificates.halfspaces.cells import most_cells
from thalweg.certificates.two_layer.fans import FanOracle
from thalweg.certificates.two_layer.neurons import (
    MAX_SIGNS,
    AbstractOracle,
    Answer,
    Bias,
    CellOracle,
    num_patterns,
    reduced,
    with_bias,
)
from thalweg.certificates.two_layer.outputs import AbstractOutput
from thalweg.certificates.two_layer.relaxed import MAX_ANCHORS, RelaxedOracle
from thalweg.certificates.two_layer.restricted import RestrictedNetwork

MAX_FANS = 20_000_000
MAX_STALLS = 3
FAR = 1e6  # a free bias that makes a constant of a neuron


@final
@dataclasses.dataclass(frozen=True)
class Weights:
    r"""A two-layer network $f(x) = \sum_j a_j \sigma(w_j^\top x + b_j) + c + S x$.

    Args:
        ingoing: w, `[m, d]`.
        hidden_bias: b, `[m]`; zeros where the neurons have none.
        outgoing: a, `[m, K]`.
        output_bias: c, `[K]`; zeros where there is none.
        skip: S transposed, `[d, K]`; zeros where there is none.
    """

    ingoing: np.ndarray
    hidden_bias: np.ndarray
    outgoing: np.ndarray
    output_bias: np.ndarray
    skip: np.ndarray


@final
@dataclasses.dataclass(frozen=True)
class TwoLayerProblem:
    r"""$\min \ell(f(X)) + \frac{\text{l2}}{2} (\sum_j \|w_j\|^2 + \|a_j\|^2 + \|S\|^2)$ over networks of any width.

    A bias under the penalty is added to the squares. The activation is $\sigma(t) = t$ for $t > 0$, `leak` times t
    otherwise.

    Args:
        features: X, finite, `[n, d]`.
        output: the loss, a convex function of the predictions `[n, K]`.
        l2: strength of the penalty, positive.
        leak: slope on the left; 0 for the rectifier.
        hidden_bias: of the neurons.
        output_bias: of the output.
        skip: whether a linear map S leads from the input to the output.

    Raises:
        ValueError: for features that are not finite, or an l2 that is not positive.
    """

    features: np.ndarray
    output: AbstractOutput
    l2: float
    leak: float = 0.0
    hidden_bias: Bias = Bias.FREE
    output_bias: Bias = Bias.FREE
    skip: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.features.ndim != 2 or not np.isfinite(self.features).all():
            raise ValueError(f"TwoLayerProblem(features) needs a matrix of finite numbers; got {self.features.shape}.")
        if not (self.l2 > 0.0 and np.isfinite(self.l2) and np.isfinite(self.leak)):
            raise ValueError(f"TwoLayerProblem needs a positive l2 and a finite leak; got {self.l2}, {self.leak}.")

    @property
    def free_intercept(self) -> bool:
        """Whether a constant costs nothing: then residuals must sum to zero."""
        return Bias.FREE in (self.hidden_bias, self.output_bias)

    def predictions(self, weights: Weights) -> np.ndarray:
        """Return what a network predicts, `[n, K]`."""
        hidden = self.features @ weights.ingoing.T + weights.hidden_bias
        hidden = np.where(hidden > 0.0, hidden, self.leak * hidden)
        return hidden @ weights.outgoing + weights.output_bias + self.features @ weights.skip

    def objective(self, weights: Weights, *, balanced: bool = False) -> float:
        """Return loss and penalty of a network; balanced: of the one that does the same with the least penalty."""
        if balanced:
            weights = self.balanced(weights)
        squares = (weights.ingoing**2).sum() + (weights.outgoing**2).sum() + (weights.skip**2).sum()
        if self.hidden_bias is Bias.PENALIZED:
            squares += (weights.hidden_bias**2).sum()
        if self.output_bias is Bias.PENALIZED:
            squares += (weights.output_bias**2).sum()
        return self.output.value(self.predictions(weights)) + 0.5 * self.l2 * float(squares)

    def balanced(self, weights: Weights) -> Weights:
        """Return the network that predicts the same with ingoing and outgoing weights of the same length.

        A neuron without any weight under the penalty on one side is left as it is.
        """
        size = (weights.ingoing**2).sum(1)
        if self.hidden_bias is Bias.PENALIZED:
            size = size + weights.hidden_bias**2
        size, out = np.sqrt(size), np.sqrt((weights.outgoing**2).sum(1))
        real = (size > 0.0) & (out > 0.0)
        factor = np.sqrt(np.where(real, out, 1.0) / np.where(real, size, 1.0))
        return dataclasses.replace(
            weights,
            ingoing=weights.ingoing * factor[:, None],
            hidden_bias=weights.hidden_bias * factor,
            outgoing=weights.outgoing / factor[:, None],
        )

    def linear(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what bypasses the neurons `[n, q]`, its penalties `[q]`, and the skip's axes `[d, r]`."""
        num, dimension = self.features.shape
        parts, ridge, axes = [np.zeros((num, 0))], [], np.zeros((dimension, 0))
        if self.skip:
            coordinates, axes = reduced(self.features)
            parts.append(coordinates)
            ridge += [self.l2] * coordinates.shape[1]
        if self.free_intercept:
            parts.append(np.ones((num, 1)))
            ridge.append(0.0)
        elif self.output_bias is Bias.PENALIZED:
            parts.append(np.ones((num, 1)))
            ridge.append(self.l2)
        return np.concatenate(parts, 1), np.array(ridge), axes

    def dual_value(self, dual: np.ndarray) -> float:
        """Return the lower bound that a feasible dual point gives (feasible: no neuron's value is above l2)."""
        residual = self.output.residual(dual)
        linear, ridge, _ = self.linear()
        against = (linear.T @ residual)[ridge > 0.0]
        return self.output.dual_value(dual) - float((against**2).sum()) / (2.0 * self.l2)

    def oracle(self) -> AbstractOracle | None:
        """Return the sharpest oracle that this size allows, or None."""
        num, _ = self.features.shape
        width = self.output.descent(np.zeros((num, 1))).shape[1]
        free = self.hidden_bias is Bias.FREE
        inputs = self.features - self.features.mean(0) if free else with_bias(self.features, self.hidden_bias)
        rank = reduced(inputs)[0].shape[1]
        fans = len(np.unique(self.features, axis=0)) if free else 1
        if rank <= 2 and fans * num * width <= MAX_FANS:
            return FanOracle(self.features, self.hidden_bias, self.leak)
        if width == 1 and rank <= 5 and num_patterns(self.features, self.hidden_bias) * num <= MAX_SIGNS:
            return CellOracle(self.features, self.hidden_bias, self.leak)
        if free and fans > MAX_ANCHORS:
            return None
        return RelaxedOracle(self.features, self.hidden_bias, self.leak)

    def num_cells(self) -> int:
        """Return the number of ways in which a neuron can split the data, at most."""
        rank = reduced(with_bias(self.features, self.hidden_bias))[0].shape[1]
        return most_cells(len(self.features), rank)


@final
@dataclasses.dataclass(frozen=True)
class Solution:
    """The best network that was found, and the best bound.

    Args:
        weights: the network.
        objective: its loss and penalty.
        bound: no network of any width has less.
        dual: the feasible dual point that proves it.
        oracle: what bounded the neurons.
        rounds: how often the oracle was asked.
    """

    weights: Weights
    objective: float
    bound: float
    dual: np.ndarray
    oracle: AbstractOracle
    rounds: int


def best_network(
    problem: TwoLayerProblem, oracle: AbstractOracle, *, tolerance: float = 1e-8, max_rounds: int = 100
) -> Solution:
    r"""Return the best network of any width, and a lower bound on all of them.

    From the network without neurons on, the oracle names neurons that lower the loss by more than they cost; they are
    taken in, and all turn within their cells until nothing moves. The residual V that is left, scaled until no neuron's
    value exceeds l2, is feasible for the convex dual, whose value bounds every network of every width.

    Args:
        problem: what to minimize.
        oracle: `problem.oracle()`, or another one for its features, bias and leak.
        tolerance: gap relative to the objective at which to stop.
        max_rounds: at most so many calls of the oracle.

    Example:
        >>> from thalweg.certificates.two_layer.outputs import SquaredOutput
        >>> x = np.array([[-1.0], [0.0], [1.0], [2.0]])
        >>> loss = SquaredOutput(np.abs(x), np.full((4, 1), 0.25))
        >>> problem = TwoLayerProblem(x, loss, l2=0.01)
        >>> solution = best_network(problem, problem.oracle())
        >>> len(solution.weights.ingoing), f"{solution.objective:.6f}"
        (2, '0.019333')
        >>> solution.objective - solution.bound < 1e-9
        True

    Source: Pilanci and Ergen, "Neural networks are convex regularizers: exact polynomial-time convex optimization
    formulations for two-layer networks" (2020); Bach, "Breaking the curse of dimensionality with convex neural
    networks" (2017).

    Not to be read as a statement about the network's width: the best one may need more neurons than yours has.
    """
    linear, ridge, axes = problem.linear()
    num, dimension = problem.features.shape
    width = problem.output.descent(np.zeros((num, 1))).shape[1]
    inputs = with_bias(problem.features, problem.hidden_bias)
    network = RestrictedNetwork(
        inputs,
        problem.output,
        problem.l2,
        linear,
        ridge,
        width=width,
        num_sized=dimension + (problem.hidden_bias is Bias.PENALIZED),
    )
    network.fit_sizes()
    bound, best_dual, rounds = -np.inf, np.zeros((num, width)), 0
    stalls = 0
    for rounds in range(1, max_rounds + 1):
        dual, answer = _ask(problem, oracle, network.predictions())
        value = problem.dual_value(dual)
        if value > bound or rounds == 1:
            bound, best_dual = value, dual
        objective = network.objective()
        if objective - bound <= tolerance * abs(objective) or not answer.neurons:
            break
        network.add(answer.neurons)
        network.polish()
        network.fit_sizes()
        if network.merge():
            network.polish()
        stalls = stalls + 1 if network.objective() >= objective - 1e-15 * abs(objective) else 0
        if stalls == MAX_STALLS:
            break
    if not oracle.exact:
        dual = _sharpened(problem, oracle, network.predictions())
        if problem.dual_value(dual) > bound:
            bound, best_dual = problem.dual_value(dual), dual
    ingoing, outgoing, coefficients = network.parameters()
    rest = coefficients[axes.shape[1] :]
    weights = Weights(
        ingoing[:, :dimension],
        ingoing[:, dimension] if ingoing.shape[1] > dimension else np.zeros(len(ingoing)),
        outgoing,
        rest[0] if len(rest) else np.zeros(width),
        axes @ coefficients[: axes.shape[1]],
    )
    if problem.hidden_bias is Bias.FREE and problem.output_bias is not Bias.FREE:
        weights = _constant_as_neuron(weights)
    return Solution(weights, problem.objective(weights), bound, best_dual, oracle, rounds)


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
    dual = _ask(problem, oracle, predictions)[0] if oracle.exact else _sharpened(problem, oracle, predictions)
    return problem.dual_value(dual), dual


def _ask(problem: TwoLayerProblem, oracle: AbstractOracle, predictions: np.ndarray) -> tuple[np.ndarray, Answer]:
    """Return a feasible dual point near the one of predictions, and what the oracle said."""
    dual = _dual(problem, predictions)
    answer = oracle.search(problem.output.residual(dual), problem.l2 * (1.0 + 1e-10))
    return _scaled(problem, dual, answer.bound), answer


def _sharpened(problem: TwoLayerProblem, oracle: AbstractOracle, predictions: np.ndarray) -> np.ndarray:
    dual = _dual(problem, predictions)
    return _scaled(problem, dual, oracle.sharpened(problem.output.residual(dual)))


def _dual(problem: TwoLayerProblem, predictions: np.ndarray) -> np.ndarray:
    dual = problem.output.dual(predictions)
    return problem.output.centered(dual) if problem.free_intercept else dual


def _scaled(problem: TwoLayerProblem, dual: np.ndarray, bound: float) -> np.ndarray:
    """Scale a dual point to the best feasible size; its neurons' values are at most `bound`."""
    most = min(problem.output.longest, problem.l2 / bound if bound > 0.0 else np.inf)

    def lost(share: float) -> float:
        return -problem.dual_value(problem.output.scaled(dual, share))

    most = min(most, 1e6)
    shares = [most, min(1.0, most), minimize_scalar(lost, bounds=(0.0, most), method="bounded").x]  # type: ignore[attr-defined]
    share = min(shares, key=lost)
    return problem.output.scaled(dual, share)
