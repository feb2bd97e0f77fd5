"""A convex loss for NumPy arrays, which the search for neurons is written in."""

from typing import final

import numpy as np
import torch

from thalweg.certificates.losses import AbstractLoss


@final
class ArrayLoss:
    """A loss of `thalweg.certificates.losses` whose predictions and dual points are NumPy arrays `[n, K]`.

    Args:
        loss: the loss, on the CPU.
    """

    def __init__(self, loss: AbstractLoss) -> None:
        self.loss = loss

    def value(self, predictions: np.ndarray) -> float:
        """Return the loss."""
        return self.loss.value(torch.from_numpy(predictions)).item()

    def residual(self, predictions: np.ndarray) -> np.ndarray:
        """Return minus the gradient."""
        return self.loss.residual(torch.from_numpy(predictions)).numpy()

    def blocks(self, predictions: np.ndarray) -> np.ndarray:
        """Return the second derivatives by the predictions of one example, `[n, K, K]`."""
        return self.loss.curvature(torch.from_numpy(predictions)).blocks().numpy()

    def dual_point(self, predictions: np.ndarray, *, balanced: bool) -> np.ndarray:
        """Return the dual point that belongs to predictions; see `AbstractLoss.dual_point`."""
        return self.loss.dual_point(torch.from_numpy(predictions), balanced=balanced).numpy()

    def dual_residual(self, dual: np.ndarray) -> np.ndarray:
        """Return the residual of a dual point."""
        return self.loss.dual_residual(torch.from_numpy(dual)).numpy()

    def dual_value(self, dual: np.ndarray) -> float:
        """Return the value of a dual point, without anything else that the problem adds."""
        return self.loss.dual_value(torch.from_numpy(dual))

    def scaled(self, dual: np.ndarray, scale: float) -> np.ndarray:
        """Return the dual point whose residual is `scale` times as large."""
        return self.loss.scaled(torch.from_numpy(dual), scale).numpy()
