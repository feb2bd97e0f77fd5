"""Convex losses of predictions, with their dual values: what stands above a network whose neurons are searched."""

import abc
import dataclasses
from typing import final

import numpy as np
from scipy.special import expit, log_softmax, softmax, xlogy


class AbstractOutput(abc.ABC):
    r"""A convex loss $\ell(F) = \sum_i c_i \varphi_i(F_i)$ of predictions F `[n, K]`, and its dual values.

    A point of the dual is given in the form that `thalweg.certificates.checker.check` reads: slopes for squares,
    probabilities for the others. Its residual is $V = -\nabla \ell$ where it was made, and its value $-\ell^*(-V)$.

    Attributes:
        longest: the largest number that a dual point may be scaled by.
    """

    longest: float

    @abc.abstractmethod
    def value(self, predictions: np.ndarray) -> float:
        """Return the loss of predictions `[n, K]`."""

    @abc.abstractmethod
    def descent(self, predictions: np.ndarray) -> np.ndarray:
        """Return V, minus the gradient, `[n, K]`."""

    @abc.abstractmethod
    def curvature(self, predictions: np.ndarray) -> np.ndarray:
        """Return the second derivatives by the predictions of one example, `[n, K, K]`."""

    @abc.abstractmethod
    def dual(self, predictions: np.ndarray) -> np.ndarray:
        """Return the dual point that belongs to predictions, `[n, K]`."""

    @abc.abstractmethod
    def scaled(self, dual: np.ndarray, share: float) -> np.ndarray:
        """Return the dual point whose residual is `share` times as large."""

    @abc.abstractmethod
    def residual(self, dual: np.ndarray) -> np.ndarray:
        """Return V of a dual point, `[n, K]`."""

    @abc.abstractmethod
    def dual_value(self, dual: np.ndarray) -> float:
        """Return the value of a dual point, without anything else that the problem adds."""

    @abc.abstractmethod
    def centered(self, dual: np.ndarray) -> np.ndarray:
        """Return a dual point nearby whose residual sums to zero in each column: what a free intercept asks for."""

    @abc.abstractmethod
    def evidence(self) -> dict[str, np.ndarray | float | str]:
        """Return what `thalweg.certificates.checker.check` must know of the loss."""


@final
@dataclasses.dataclass(frozen=True)
class SquaredOutput(AbstractOutput):
    """The loss `sum of weight * factor * (prediction - target)^2`.

    Args:
        targets: `[n, K]`.
        weights: not negative, `[n, K]`; 1 / (n K) each gives a mean.
        factor: positive; 1/2 is the default of `thalweg.heads.squared.Squared`, 1 that of `torch.nn.MSELoss`.

    Example:
        >>> loss = SquaredOutput(np.array([[1.0], [3.0]]), np.full((2, 1), 0.5), factor=1.0)
        >>> loss.value(np.zeros((2, 1)))
        5.0
    """

    targets: np.ndarray
    weights: np.ndarray
    factor: float = 0.5
    longest: float = np.inf

    def value(self, predictions: np.ndarray) -> float:
        """Return the loss."""
        return float(self.factor * (self.weights * (predictions - self.targets) ** 2).sum())

    def descent(self, predictions: np.ndarray) -> np.ndarray:
        """Return minus the gradient."""
        return 2.0 * self.factor * self.weights * (self.targets - predictions)

    def curvature(self, predictions: np.ndarray) -> np.ndarray:
        """Return a diagonal matrix for each example, the same everywhere."""
        del predictions
        return 2.0 * self.factor * self.weights[:, :, None] * np.eye(self.weights.shape[1])

    def dual(self, predictions: np.ndarray) -> np.ndarray:
        """Return the slopes `2 factor (target - prediction)`."""
        return 2.0 * self.factor * (self.targets - predictions)

    def scaled(self, dual: np.ndarray, share: float) -> np.ndarray:
        """Return the slopes times `share`."""
        return share * dual

    def residual(self, dual: np.ndarray) -> np.ndarray:
        """Return weight times slope."""
        return self.weights * dual

    def dual_value(self, dual: np.ndarray) -> float:
        """Return the sum of `weight * (slope * target - slope^2 / (4 factor))`."""
        return float((self.weights * (dual * self.targets - dual * dual / (4.0 * self.factor))).sum())

    def centered(self, dual: np.ndarray) -> np.ndarray:
        """Subtract the weighted mean."""
        return dual - (self.weights * dual).sum(0) / self.weights.sum(0)

    def evidence(self) -> dict[str, np.ndarray | float | str]:
        """Return targets, weights and factor."""
        return {"loss": "squared", "T": self.targets, "c": self.weights, "factor": self.factor}


@final
@dataclasses.dataclass(frozen=True)
class LogisticOutput(AbstractOutput):
    """The loss `sum of weight * (log(1 + e^z) - target z)`: one coin for each number.

    Args:
        targets: in [0, 1], `[n, K]`.
        weights: not negative, `[n, K]`.

    Example:
        >>> loss = LogisticOutput(np.array([[1.0], [0.0]]), np.full((2, 1), 0.5))
        >>> round(loss.value(np.zeros((2, 1))), 4)
        0.6931
    """

    targets: np.ndarray
    weights: np.ndarray
    longest: float = 1.0

    def value(self, predictions: np.ndarray) -> float:
        """Return the loss."""
        return float((self.weights * (np.logaddexp(0.0, predictions) - self.targets * predictions)).sum())

    def descent(self, predictions: np.ndarray) -> np.ndarray:
        """Return minus the gradient."""
        return self.weights * (self.targets - expit(predictions))

    def curvature(self, predictions: np.ndarray) -> np.ndarray:
        """Return a diagonal matrix for each example."""
        p = expit(predictions)
        return (self.weights * p * (1.0 - p))[:, :, None] * np.eye(self.weights.shape[1])

    def dual(self, predictions: np.ndarray) -> np.ndarray:
        """Return the predicted probabilities."""
        return expit(predictions)

    def scaled(self, dual: np.ndarray, share: float) -> np.ndarray:
        """Return `(1 - share)` times the targets plus `share` times the probabilities."""
        return (1.0 - share) * self.targets + share * dual

    def residual(self, dual: np.ndarray) -> np.ndarray:
        """Return weight times (target - probability)."""
        return self.weights * (self.targets - dual)

    def dual_value(self, dual: np.ndarray) -> float:
        """Return the weighted sum of entropies."""
        return float(-(self.weights * (xlogy(dual, dual) + xlogy(1.0 - dual, 1.0 - dual))).sum())

    def centered(self, dual: np.ndarray) -> np.ndarray:
        """Move the side whose residuals are larger in sum toward the targets."""
        rest = self.residual(dual)
        up, down = np.maximum(rest, 0.0).sum(0), np.maximum(-rest, 0.0).sum(0)
        low = np.minimum(up, down)
        keep = np.where(rest > 0.0, low / np.where(up > 0.0, up, 1.0), low / np.where(down > 0.0, down, 1.0))
        return self.targets + keep * (dual - self.targets)

    def evidence(self) -> dict[str, np.ndarray | float | str]:
        """Return targets and weights."""
        return {"loss": "logistic", "T": self.targets, "c": self.weights}


@final
@dataclasses.dataclass(frozen=True)
class SoftmaxOutput(AbstractOutput):
    """The loss `sum of weight * (log sum e^z - target . z)`: one class of K, or a distribution over them.

    Args:
        targets: rows that sum to 1, `[n, K]`.
        weights: not negative, `[n, 1]`.

    Example:
        >>> loss = SoftmaxOutput(np.eye(4), np.full((4, 1), 0.25))
        >>> round(loss.value(np.zeros((4, 4))), 4)
        1.3863
    """

    targets: np.ndarray
    weights: np.ndarray
    longest: float = 1.0

    def value(self, predictions: np.ndarray) -> float:
        """Return the loss."""
        return float(-(self.weights * self.targets * log_softmax(predictions, axis=1)).sum())

    def descent(self, predictions: np.ndarray) -> np.ndarray:
        """Return minus the gradient."""
        return self.weights * (self.targets - softmax(predictions, axis=1))

    def curvature(self, predictions: np.ndarray) -> np.ndarray:
        """Return `weight * (diag p - p p')`."""
        p = softmax(predictions, axis=1)
        return self.weights[:, :, None] * (p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :])

    def dual(self, predictions: np.ndarray) -> np.ndarray:
        """Return the predicted distributions."""
        return softmax(predictions, axis=1)

    def scaled(self, dual: np.ndarray, share: float) -> np.ndarray:
        """Return `(1 - share)` times the targets plus `share` times the distributions."""
        return (1.0 - share) * self.targets + share * dual

    def residual(self, dual: np.ndarray) -> np.ndarray:
        """Return weight times (target - distribution)."""
        return self.weights * (self.targets - dual)

    def dual_value(self, dual: np.ndarray) -> float:
        """Return the weighted sum of entropies."""
        return float(-(self.weights * xlogy(dual, dual)).sum())

    def centered(self, dual: np.ndarray) -> np.ndarray:
        """Drop classes that no target has; mix every row with one distribution, so little that the sums come out."""
        total = self.weights.sum()
        wanted = (self.weights * self.targets).sum(0)
        dual = np.where(wanted > 0.0, dual, 0.0)
        left = dual.sum(1, keepdims=True)
        dual = np.where(left > 0.0, dual / np.where(left > 0.0, left, 1.0), self.targets)
        have = (self.weights * dual).sum(0)
        share = float(np.max(1.0 - wanted[have > 0.0] / have[have > 0.0], initial=0.0))
        if share <= 0.0 or total <= 0.0:
            return dual
        mixed = np.maximum(wanted - (1.0 - share) * have, 0.0)
        if mixed.sum() <= 0.0:  # nothing but rounding is left over
            return dual
        return (1.0 - share) * dual + share * mixed / mixed.sum()

    def evidence(self) -> dict[str, np.ndarray | float | str]:
        """Return targets and weights."""
        return {"loss": "softmax", "T": self.targets, "c": self.weights}
