"""Random convex problems of every loss, with what makes bounds go wrong: ties, duplicates, collinear rows, gaps."""

import numpy as np
import torch
from torch import Tensor

from thalweg.certificates.losses import AbstractLoss, SoftmaxLoss
from thalweg.certificates.number_losses import HingeLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss

LOSSES = ("softmax", "soft", "smoothed", "class_weights", "logistic", "squared", "squared_hinge", "hinge")


def random_features(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Rows with ties, duplicates, collinear points, columns of zeros, and a row of zeros."""
    x = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-1, 1)
    odd = rng.integers(5)
    if odd == 0:
        x = np.round(x)
    elif odd == 1:
        x[n // 2 :] = x[: n - n // 2]
    elif odd == 2:
        x = np.outer(x[:, 0], rng.normal(size=d))
    elif odd == 3:
        x[:, rng.integers(d)] = 0.0
        x[rng.integers(n)] = 0.0
    return x


def random_loss(rng: np.random.Generator, kind: str, n: int, outputs: int) -> AbstractLoss:
    """A loss with random targets, weighted now and then; one class is often missing."""
    weights = torch.from_numpy(rng.uniform(0.0, 2.0, n)) + 0.01 if rng.random() < 0.5 else None
    if kind in {"softmax", "smoothed", "class_weights"}:
        used = outputs - 1 if outputs > 2 and rng.random() < 0.4 else outputs
        labels = torch.from_numpy(rng.integers(used, size=n))
        smoothing = float(rng.uniform(0.01, 0.5)) if kind == "smoothed" else 0.0
        by_class = torch.from_numpy(rng.uniform(0.1, 3.0, outputs)) if kind == "class_weights" else None
        return SoftmaxLoss.of_labels(
            labels, outputs, label_smoothing=smoothing, class_weights=by_class, weights=weights
        )
    if kind == "soft":
        return SoftmaxLoss(torch.from_numpy(rng.dirichlet(np.full(outputs, 0.3), size=n)), weights)
    if kind == "logistic":
        targets = rng.random((n, outputs)) if rng.random() < 0.3 else rng.integers(2, size=(n, outputs)).astype(float)
        return LogisticLoss(torch.from_numpy(targets), weights)
    if kind == "squared":
        return SquaredLoss(torch.from_numpy(rng.normal(size=(n, outputs))), weights, scale=float(rng.uniform(0.3, 2)))
    signs = torch.from_numpy(np.where(rng.random((n, outputs)) < rng.uniform(0.0, 1.0), 1.0, -1.0))
    return SquaredHingeLoss(signs, weights) if kind == "squared_hinge" else HingeLoss(signs, weights)


def as_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))
