"""Linear forecasts in numpy: their features, their weights by ridge regression, and many steps ahead."""

import dataclasses
from collections.abc import Callable
from typing import Any, final

import numpy as np

from thalweg.tasks.forecast.autoregression.form import OWN, SHARED, SMALLEST, Form

Predict = Callable[[np.ndarray], np.ndarray]
"""Features as `features` makes them -> the scaled differences, `[windows, columns]`."""


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Scaled:
    """A form with the mean and the spread of its differences, which are 0 and 1 for the network.

    Args:
        form: see `Form`.
        mean: of the differences, `[columns]`; 0 without a drift.
        spread: their standard deviation, `[columns]`, positive.
    """

    form: Form
    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, form: Form, levels: np.ndarray) -> "Scaled":
        """Return it for z of the training part, `[rows, columns]`, NaN before series that begin later."""
        differences = form.differences(levels)
        mean = mean_known(differences) if form.drift else np.zeros(levels.shape[1])
        spread = np.sqrt(mean_known((differences - mean) ** 2))
        largest = np.where(np.isfinite(levels), np.abs(levels), 0.0).max(0)
        varies = spread > SMALLEST * largest  # else it is nothing but rounding
        return cls(form, mean, np.where(varies, spread, 1.0))

    def of(self, series: np.ndarray | int) -> "Scaled":
        """Return it for windows of these of the series, `[windows, rows, 1]`, or for one series by itself."""
        if isinstance(series, int):
            return Scaled(self.form, self.mean[[series]], self.spread[[series]])
        return Scaled(self.form, self.mean[series][:, None], self.spread[series][:, None])

    @property
    def width(self) -> int:
        """Number of features of a row."""
        lags, columns = max(1, len(self.form.lags)), len(self.mean)
        return lags if self.form.equations == SHARED else lags * columns

    def forward(self, differences: np.ndarray) -> np.ndarray:
        """Return the scaled differences."""
        return (differences - self.mean) / self.spread

    def inverse(self, scaled: np.ndarray) -> np.ndarray:
        """Return the differences."""
        return self.mean + self.spread * scaled

    def features(self, windows: np.ndarray) -> np.ndarray:
        """Return what the equation reads of scaled differences `[windows, lags, columns]`, newest lag first.

        `JOINT`: all numbers in one row, `[windows, lags * columns]`. `SHARED`: one row a series,
        `[windows, columns, lags]`. `OWN`: likewise, each in a block of its own, `[windows, columns, columns * lags]`.
        A form without lags has one feature that is always 0.
        """
        if not self.form.lags:
            windows = np.zeros((len(windows), 1, windows.shape[2]))
        num, lags, columns = windows.shape
        if self.form.equations == SHARED:
            return windows.transpose(0, 2, 1)
        if self.form.equations == OWN:
            found = np.zeros((num, columns, columns, lags))
            series = np.arange(columns)
            found[:, series, series] = windows.transpose(0, 2, 1)
            return found.reshape(num, columns, columns * lags)
        return windows.reshape(num, lags * columns)

    def lagged(self, levels: np.ndarray) -> np.ndarray:
        """Return the scaled differences at the form's lags before each row that has them all, `[rows, lags, columns]`.

        The last of them are those before the row after the last one of z `[rows, columns]`.
        """
        scaled = self.forward(self.form.differences(levels))
        if not self.form.lags:
            return np.zeros((len(scaled) + 1, 1, *levels.shape[1:]))
        rows = np.arange(max(self.form.lags), len(scaled) + 1)
        return scaled[rows[:, None] - np.array(self.form.lags)]

    def ahead(self, predict: Predict, past: np.ndarray, steps: int) -> np.ndarray:
        """Return the forecasts of z for so many steps, `[windows, steps, columns]`.

        Each step reads the forecasts before it as if they had happened.

        Args:
            predict: see `Predict`.
            past: z of the rows before, `[windows, rows, columns]`, at least `form.context` of them.
            steps: at least 1.
        """
        form = self.form
        rows = form.context
        levels = np.concatenate([past[:, -rows:], np.empty((len(past), steps, past.shape[2]))], axis=1)
        degree = len(form.polynomial) - 1
        scaled = np.empty((len(past), rows - degree + steps, past.shape[2]))
        known = self.forward(form.differences(levels[:, :rows].transpose(1, 0, 2)))
        scaled[:, : rows - degree] = known.transpose(1, 0, 2)
        lags = np.array(form.lags or (1,))
        for step in range(steps):
            place = rows - degree + step
            following = predict(self.features(scaled[:, place - lags] if form.lags else scaled[:, :1]))
            scaled[:, place] = following
            levels[:, rows + step] = form.base(levels[:, : rows + step]) + self.inverse(following)
        return levels[:, rows:]

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, as plain JSON values."""
        return {"form": self.form.to_dict(), "mean": self.mean.tolist(), "spread": self.spread.tolist()}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Scaled":
        """Return what `to_dict` was called on."""
        mean, spread = (np.array(saved[name], dtype=np.float64) for name in ("mean", "spread"))
        if mean.shape != spread.shape or mean.ndim != 1 or not np.isfinite(mean + spread).all() or not spread.all():
            raise ValueError("a scale is 0 or not finite")
        return cls(Form.from_dict(saved["form"]), mean, spread)


def mean_known(values: np.ndarray) -> np.ndarray:
    """Return the mean over the first axis of what is finite; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(0)
    total = np.where(known, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def fit_equation(scaled: Scaled, levels: np.ndarray, penalties: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights `[penalties, features, outputs]` and biases `[penalties, 1, outputs]`.

    They are fitted to z `[rows, columns]`. The biases are not penalized; without a drift they are 0.
    """
    windows = scaled.lagged(levels)[:-1]
    targets = scaled.forward(scaled.form.differences(levels))[-len(windows) :]
    features = scaled.features(windows)
    if features.ndim == 3:
        features, targets = features.reshape(-1, features.shape[2]), targets.reshape(-1, 1)
        known = np.isfinite(targets[:, 0]) & np.isfinite(features).all(1)
        if not known.all():  # some of the series begin later
            features, targets = features[known], targets[known]
    if not scaled.form.drift:
        return ridge(features, targets, penalties), np.zeros((len(penalties), 1, targets.shape[1]))
    middle, center = features.mean(0), targets.mean(0)
    weights = ridge(features - middle, targets - center, penalties)
    return weights, (center - middle @ weights)[:, None]


def predicted(features: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return the scaled differences, `[penalties, windows, columns]`; the arguments are those of `fit_equation`."""
    if features.ndim == 3:
        found = features.reshape(-1, features.shape[2]) @ weights + bias
        return found.reshape(len(weights), *features.shape[:2])
    return features @ weights + bias


def ridge(features: np.ndarray, targets: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    r"""Return the weights of ridge regressions, `[penalties, features, outputs]`.

    $$w = \arg\min \frac{1}{2 n m} \lVert y - X w \rVert^2 + \frac{\lambda}{2} \lVert w \rVert^2$$

    with n rows and m outputs, by one eigendecomposition for all penalties $\lambda$: the minimum of what training
    minimizes, the mean over numbers of half the squared error, with an L2 penalty.

    Source: Hoerl and Kennard (1970), Ridge Regression: Biased Estimation for Nonorthogonal Problems.
    """
    values, vectors = np.linalg.eigh(features.T @ features)
    turned = vectors.T @ (features.T @ targets)
    shrunk = np.maximum(values, 0.0)[None] + penalties[:, None] * targets.size
    return vectors @ (turned[None] / np.maximum(shrunk, np.finfo(np.float64).tiny)[:, :, None])
