"""How well predicted numbers fit the true ones, in float64 and whatever their unit (on torchmetrics)."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.regression import pearson_corrcoef, relative_squared_error, spearman_corrcoef

from thalweg.certificates.new_texts.resampling import sums_by

SMALLEST_SPREAD = 1e-12  # of predictions, in standard deviations of the true values: below, they are all equal


def nmse(prediction: Tensor, target: Tensor) -> float:
    """Return the normalized mean squared error, the relative squared error.

    NMSE = sum_i (y_i - p_i)^2 / sum_i (y_i - mean(y))^2, with y = target and p = prediction: the mean squared error
    over the variance of the true values, both `[examples]`. 0 is exact, 1 is what their mean would give; NaN where all
    true values are equal, since then it is not defined.
    """
    prediction, target, varies = _standardized(prediction, target)
    return float(relative_squared_error(prediction, target)) if varies else math.nan


def correlations(prediction: Tensor, target: Tensor) -> tuple[float, float]:
    """Return Pearson's and Spearman's correlation of `[examples]` each; both 0 where either has one value only."""
    prediction, target, varies = _standardized(prediction, target)
    spread = prediction.std(correction=0)
    # torchmetrics warns and gives NaN, which neither a checkpoint nor JSON can hold.
    if not varies or not spread > SMALLEST_SPREAD:
        return 0.0, 0.0
    prediction = (prediction - prediction.mean()) / spread
    return float(pearson_corrcoef(prediction, target)), float(spearman_corrcoef(prediction, target))


def drawn_scores(prediction: np.ndarray, target: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return what gives NMSE and both correlations of draws of the examples.

    It takes how often each example was drawn, `[draws, examples]`, and returns `[draws]` each; NaN where a draw has
    one true value only. Ranks are those within a draw, the mean rank of equal values.
    """
    scaled = _standardized(torch.from_numpy(prediction), torch.from_numpy(target))
    p, y = scaled[0].numpy(), scaled[1].numpy()
    squares, orders = (y - p) ** 2, [_ranks_of(values) for values in (p, y)]

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        count = weights.sum(1)
        spread = weights @ y**2 / count - (weights @ y / count) ** 2
        error = weights @ squares / count
        ranks = [rank(weights) for rank in orders]
        return {
            "nmse": np.divide(error, spread, out=np.full(len(error), np.nan), where=spread > SMALLEST_SPREAD),
            "pearson": _weighted_correlation(weights, p[None], y[None]),
            "spearman": _weighted_correlation(weights, *ranks),
        }

    return scores


def _ranks_of(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns weights `[draws, examples]` into the mean rank of each example's value within a draw."""
    _, places = np.unique(values, return_inverse=True)

    def ranks(weights: np.ndarray) -> np.ndarray:
        each = sums_by(weights, places, int(places.max()) + 1)
        return (np.cumsum(each, axis=1) - 0.5 * (each - 1.0))[:, places]

    return ranks


def _weighted_correlation(weights: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation in each draw; NaN where a spread is 0."""
    count = weights.sum(1, keepdims=True)
    a = a - (weights * a).sum(1, keepdims=True) / count
    b = b - (weights * b).sum(1, keepdims=True) / count
    product, first, second = ((weights * pair).sum(1) for pair in (a * b, a * a, b * b))
    spread = np.sqrt(first * second)
    return np.divide(product, spread, out=np.full(len(weights), np.nan), where=spread > SMALLEST_SPREAD * count[:, 0])


def _standardized(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Both in standard deviations of the true values from their mean, and whether there is such a deviation."""
    prediction, target = prediction.detach().cpu().double(), target.detach().cpu().double()
    center, spread = target.mean(), target.std(correction=0)
    varies = bool(spread > 0) and math.isfinite(spread)
    scale = spread if varies else 1.0
    return (prediction - center) / scale, (target - center) / scale, varies
