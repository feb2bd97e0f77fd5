"""How well predicted numbers fit the true ones, in float64 and whatever their unit (on torchmetrics)."""

import math

from torch import Tensor
from torchmetrics.functional.regression import pearson_corrcoef, relative_squared_error, spearman_corrcoef

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


def _standardized(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Both in standard deviations of the true values from their mean, and whether there is such a deviation."""
    prediction, target = prediction.detach().cpu().double(), target.detach().cpu().double()
    center, spread = target.mean(), target.std(correction=0)
    varies = bool(spread > 0) and math.isfinite(spread)
    scale = spread if varies else 1.0
    return (prediction - center) / scale, (target - center) / scale, varies
