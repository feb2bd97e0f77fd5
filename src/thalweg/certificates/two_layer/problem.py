"""Two-layer networks of any width under an L2 penalty: the problem, and its dual."""

import dataclasses
import functools
from typing import Any, final

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from thalweg.certificates.halfspaces.cells import reduced
from thalweg.certificates.losses import AbstractLoss
from thalweg.certificates.two_layer.neurons import Bias

MAX_SCALE = 1e6  # of a dual point


@final
@dataclasses.dataclass(frozen=True)
class Weights:
    r"""A two-layer network $f(x) = \sum_j a_j \sigma(w_j^\top x + b_j) + c + S x$; what it lacks is zero."""

    ingoing: np.ndarray  # w, [m, d]
    hidden_bias: np.ndarray  # b, [m]
    outgoing: np.ndarray  # a, [m, K]
    output_bias: np.ndarray  # c, [K]
    skip: np.ndarray  # S transposed, [d, K]


@final
@dataclasses.dataclass(frozen=True)
class TwoLayerProblem:
    r"""$\min \ell(f(X)) + \frac{\text{l2}}{2} (\sum_j \|w_j\|^2 + \|a_j\|^2 + \|S\|^2)$ over networks of any width.

    A bias under the penalty is added to the squares. The activation is $\sigma(t) = t$ for $t > 0$, `leak` times t
    otherwise. A ValueError says that the features or l2 are out of range.
    """

    features: np.ndarray  # X, finite, [n, d]
    loss: AbstractLoss  # of the predictions [n, K]
    l2: float  # positive
    leak: float = 0.0  # 0 for the rectifier
    hidden_bias: Bias = Bias.FREE
    output_bias: Bias = Bias.FREE
    skip: bool = False  # whether a linear map S leads from the input to the output

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.features.ndim != 2 or not np.isfinite(self.features).all():
            raise ValueError(f"TwoLayerProblem(features) needs a matrix of finite numbers; got {self.features.shape}.")
        if not (self.l2 > 0.0 and np.isfinite(self.l2) and np.isfinite(self.leak)):
            raise ValueError(f"TwoLayerProblem needs a positive l2 and a finite leak; got {self.l2}, {self.leak}.")

    @functools.cached_property
    def array_loss(self) -> Any:
        """The loss with NumPy arrays for its tensors (see `AbstractLoss.as_arrays`), but for its `dual_point`."""
        return self.loss.as_arrays()

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
        return float(self.array_loss.value(self.predictions(weights))) + 0.5 * self.l2 * float(squares)

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

    @functools.cached_property
    def linear(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What bypasses the neurons `[n, q]`, its penalties `[q]`, and the skip's axes `[d, r]`."""
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

    def dual_point(self, predictions: np.ndarray) -> np.ndarray:
        """Return the dual point that belongs to predictions `[n, K]`, balanced where a constant costs nothing."""
        return self.loss.dual_point(torch.from_numpy(predictions), balanced=self.free_intercept).numpy()

    def dual_value(self, dual: np.ndarray) -> float:
        """Return the lower bound that a feasible dual point gives (feasible: no neuron's value is above l2)."""
        residual = self.array_loss.dual_residual(dual)
        linear, ridge, _ = self.linear
        against = (linear.T @ residual)[ridge > 0.0]
        return self.array_loss.dual_value(dual) - float((against**2).sum()) / (2.0 * self.l2)

    def best_scale(self, dual: np.ndarray, most: float) -> float:
        """Return by what a dual point is best scaled, at most by `most`."""
        most = min(self.loss.largest_scale, most, MAX_SCALE)

        def lost(scale: float) -> float:
            return -self.dual_value(self.array_loss.scaled(dual, scale))

        inner = float(minimize_scalar(lost, bounds=(0.0, most), method="bounded").x)  # type: ignore[attr-defined]
        return min((most, min(1.0, most), inner), key=lost)

    def pruned(self, weights: Weights, width: int) -> Weights:
        """Return a network of at most `width` >= 1 neurons: those without which the loss would be highest.

        The certificate is about networks of any width; this is a good start for training one of a given width.
        """
        if width < 1:
            raise ValueError(f"pruned(width=...) must be at least 1; got {width!r}.")
        while len(weights.ingoing) > width:
            without = [_without(weights, place) for place in range(len(weights.ingoing))]
            weights = min(without, key=self.objective)
        return weights


def _without(weights: Weights, place: int) -> Weights:
    return dataclasses.replace(
        weights,
        ingoing=np.delete(weights.ingoing, place, 0),
        hidden_bias=np.delete(weights.hidden_bias, place),
        outgoing=np.delete(weights.outgoing, place, 0),
    )
