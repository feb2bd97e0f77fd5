"""A convex loss for NumPy arrays, which the search for neurons is written in."""

from typing import final

import numpy as np
import torch

from thalweg.certificates.losses import AbstractLoss


@final
class ArrayLoss:
    """A loss of `thalweg.certificates.losses` (on the CPU) whose predictions and dual points are arrays `[n, K]`."""

    def __init__(self, loss: AbstractLoss) -> None:
        self._loss = loss
        self._arrays = loss.as_arrays()

    def value(self, predictions: np.ndarray) -> float:
        """Return the loss."""
        return float(self._arrays.value(predictions))

    def residual(self, predictions: np.ndarray) -> np.ndarray:
        """Return minus the gradient."""
        return self._arrays.residual(predictions)

    def blocks(self, predictions: np.ndarray) -> np.ndarray:
        """Return the second derivatives by the predictions of one example, `[n, K, K]`."""
        return self._arrays.curvature(predictions).blocks()

    def dual_point(self, predictions: np.ndarray, *, balanced: bool) -> np.ndarray:
        """Return the dual point that belongs to predictions; see `AbstractLoss.dual_point`."""
        return self._loss.dual_point(torch.from_numpy(predictions), balanced=balanced).numpy()

    def dual_residual(self, dual: np.ndarray) -> np.ndarray:
        """Return the residual of a dual point."""
        return self._arrays.dual_residual(dual)

    def dual_value(self, dual: np.ndarray) -> float:
        """Return the value of a dual point, without anything else that the problem adds."""
        return self._arrays.dual_value(dual)

    def scaled(self, dual: np.ndarray, scale: float) -> np.ndarray:
        """Return the dual point whose residual is `scale` times as large."""
        return self._arrays.scaled(dual, scale)
