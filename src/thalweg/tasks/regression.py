"""How well predicted numbers fit the true ones, in float64 and whatever their unit."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from thalweg.certificates.new_texts.resampling import sums_by

SMALLEST_SPREAD = 1e-12  # of predictions, in standard deviations of the true values: below, they are all equal
IN_CACHE = 2**15  # numbers of draws that are worked on at once


def nmse(prediction: Tensor, target: Tensor) -> float:
    """Return the normalized mean squared error, the relative squared error.

    NMSE = sum_i (y_i - p_i)^2 / sum_i (y_i - mean(y))^2, with y = target and p = prediction: the mean squared error
    over the variance of the true values, both `[examples]`. 0 is exact, 1 is what their mean would give; NaN where all
    true values are equal, since then it is not defined.
    """
    prediction, target, varies = _standardized(prediction, target)
    return float((prediction - target).square().sum() / target.square().sum()) if varies else math.nan


def correlations(prediction: Tensor, target: Tensor) -> tuple[float, float]:
    """Return Pearson's and Spearman's correlation of `[examples]` each; both 0 where either has one value only."""
    prediction, target, varies = _standardized(prediction, target)
    spread = prediction.std(correction=0)
    if not varies or not spread > SMALLEST_SPREAD:
        return 0.0, 0.0
    once = np.ones((1, len(target)))
    ranks = (_ranks_of(values.numpy())(once) for values in (prediction, target))
    product, first, second = _rank_sums(once, *ranks)
    pearson = float(((prediction - prediction.mean()) / spread * target).mean())
    return min(1.0, max(-1.0, pearson)), float(_correlation(product, first, second, np.zeros(1))[0])


def drawn_scores(prediction: np.ndarray, target: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return what gives NMSE and both correlations of draws of the examples.

    It takes how often each example was drawn, `[draws, examples]`, and returns `[draws]` each; NaN where a draw has
    one true value only. Ranks are those within a draw, the mean rank of equal values.
    """
    scaled = _standardized(torch.from_numpy(prediction), torch.from_numpy(target))
    p, y = scaled[0].numpy(), scaled[1].numpy()
    orders, centered = [_ranks_of(values) for values in (p, y)], p - p.mean()
    terms = np.stack([np.ones_like(y), y, y**2, (y - p) ** 2, centered, centered**2, centered * y], axis=1)

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        count, first, second, error, own, own_second, both = (weights @ terms).T
        spread = second - first**2 / count
        at_least = SMALLEST_SPREAD * count
        parts = np.array_split(weights, max(1, weights.size // IN_CACHE))
        products, own_ranks, ranks = np.hstack([_rank_sums(part, *(rank(part) for rank in orders)) for part in parts])
        return {
            "nmse": np.divide(error, spread, out=np.full(len(error), np.nan), where=spread > at_least),
            "pearson": _correlation(both - own * first / count, own_second - own**2 / count, spread, at_least),
            "spearman": _correlation(products, own_ranks, ranks, at_least),
        }

    return scores


def _ranks_of(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns weights `[draws, examples]` into the mean rank of each example's value within a draw.

    Ranks are counted from the mean of all ranks, which is the same for every order: they add up to 0.
    """
    order = np.argsort(values, kind="stable")
    _, places = np.unique(values, return_inverse=True)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    is_tied = bool(places.max() + 1 < len(places))

    def ranks(weights: np.ndarray) -> np.ndarray:
        each = sums_by(weights, places, int(places.max()) + 1) if is_tied else weights[:, order]
        found = np.cumsum(each, axis=1)
        half = 0.5 * found[:, -1:]
        each *= 0.5
        found -= each
        found -= half
        return found[:, places if is_tied else back]

    return ranks


def _rank_sums(weights: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the sums of products and of squares of ranks that add up to 0 in each draw, `[3, draws]`."""
    first, second = weights * a, weights * b
    product, squares = np.einsum("ij,ij->i", first, b), np.einsum("ij,ij->i", first, a)
    return np.stack([product, squares, np.einsum("ij,ij->i", second, b)])


def _correlation(product: np.ndarray, first: np.ndarray, second: np.ndarray, at_least: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation in each draw from sums around the means; NaN where a spread is 0."""
    spread = np.sqrt(np.maximum(first, 0.0) * np.maximum(second, 0.0))
    return np.divide(product, spread, out=np.full(len(product), np.nan), where=spread > at_least)


def _standardized(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Both in standard deviations of the true values from their mean, and whether there is such a deviation."""
    prediction, target = prediction.detach().cpu().double(), target.detach().cpu().double()
    center, spread = target.mean(), target.std(correction=0)
    # Of equal numbers the mean may be another one by rounding, and then their spread is above 0.
    varies = bool(target.max() > target.min()) and bool(spread > 0) and math.isfinite(spread)
    scale = spread if varies else 1.0
    return (prediction - center) / scale, (target - center) / scale, varies
