"""What a forecast is compared with: the last value, the value a season ago, an autoregression by least squares."""

import dataclasses
from typing import Any, Final, final

import numpy as np

from thalweg.tasks.forecast.autoregression.rolling import horizon
from thalweg.tasks.forecast.season import find_season

MOST_TERMS: Final = 32  # of the autoregression
MAX_ROWS: Final = 3000  # the last ones of the training part; older ones do not choose its order


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Forecasts that need no training worth the name, fitted on the training part.

    Args:
        season: in rows; 1: none was found.
        found: how, as half a sentence.
        steps: how many steps ahead are measured.
        scale: the mean absolute change over a season in the training part, `[columns]`: what MASE divides by.
        terms: of each series the intercept and the weights of the autoregression, the newest value's first.
    """

    season: int
    found: str
    steps: int
    scale: np.ndarray
    terms: tuple[np.ndarray, ...]

    @classmethod
    def fit(cls, values: np.ndarray, frequency: str = "") -> "Reference":
        """Return it for the training part, `[rows, columns]`, whose rows are so far apart."""
        season, found = find_season(values, frequency)
        columns = [column[np.isfinite(column)] for column in values.T]  # NaN stands before series that begin later
        scale = np.array([np.abs(column[season:] - column[:-season]).mean() for column in columns])
        terms = tuple(autoregression(column[-MAX_ROWS:]) for column in columns)
        return cls(season, found, horizon(min(map(len, columns))), scale, terms)

    def of(self, series: int) -> "Reference":
        """Return what one of several series is compared with."""
        return dataclasses.replace(self, scale=self.scale[[series]], terms=(self.terms[series],))

    @property
    def rows(self) -> int:
        """How many rows before it a forecast needs."""
        return max(1, self.season, *(len(weights) - 1 for weights in self.terms))

    def last(self, past: np.ndarray, steps: int) -> np.ndarray:
        """Return the last value as the forecast of every step, `[windows, steps, columns]`.

        `past` holds the rows before, `[windows, rows, columns]`, NaN where there were none; so for all three.
        """
        return np.repeat(past[:, -1:], steps, axis=1)

    def seasonal(self, past: np.ndarray, steps: int) -> np.ndarray:
        """Return the value a season before, or as many seasons as it takes."""
        if past.shape[1] < self.season:
            return np.full((len(past), steps, past.shape[2]), np.nan)
        return past[:, past.shape[1] - self.season + np.arange(steps) % self.season]

    def autoregressive(self, past: np.ndarray, steps: int) -> np.ndarray:
        """Return the forecasts of the autoregression, each series from its own past."""
        found = np.full((len(past), steps, past.shape[2]), np.nan)
        for column, weights in enumerate(self.terms):
            order = len(weights) - 1
            if past.shape[1] < order:
                continue
            known = np.concatenate([past[:, past.shape[1] - order :, column], np.empty((len(past), steps))], axis=1)
            for step in range(steps):
                known[:, order + step] = weights[0] + known[:, step : order + step] @ weights[:0:-1]
            found[:, :, column] = known[:, order:]
        return found

    def one_step(self, past: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Return all three forecasts of one step, by name, for the chosen windows; `past` is not copied."""
        rows = past.shape[1]
        order = max(len(weights) - 1 for weights in self.terms)
        ago = past[chosen, rows - self.season] if self.season <= rows else np.full_like(past[chosen, -1], np.nan)
        terms = self.autoregressive(past[chosen, max(0, rows - max(1, order)) :], 1)[:, 0]
        return {"last": past[chosen, -1], "seasonal": ago, "ar": terms}

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, as plain JSON values."""
        arrays = {"scale": self.scale.tolist(), "terms": [weights.tolist() for weights in self.terms]}
        return {"season": self.season, "found": self.found, "steps": self.steps} | arrays

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Reference":
        """Return what `to_dict` was called on."""
        terms = tuple(np.array(weights, dtype=np.float64) for weights in saved["terms"])
        scale = np.array(saved["scale"], dtype=np.float64)
        return cls(int(saved["season"]), str(saved["found"]), int(saved["steps"]), scale, terms)


def autoregression(values: np.ndarray, most: int | None = None) -> np.ndarray:
    r"""Return intercept and weights of an autoregression by least squares, its order chosen by Akaike's criterion.

    $$y_t \approx w_0 + \sum_{k=1}^p w_k y_{t-k}$$

    The order p minimizes $n \log(\text{RSS}/n) + 2 (p + 1)$ on the rows that the largest order has, at most
    $10 \log_{10} n$, a quarter of the rows and 32; the weights are then fitted to all rows that order p has.

    Args:
        values: `[rows]`.
        most: the largest order; None: as above.

    Source: Akaike (1974), A New Look at the Statistical Model Identification.
    """
    num = len(values)
    most = min(MOST_TERMS, int(10 * np.log10(max(num, 2))), num // 4) if most is None else most
    center = values.mean()
    centered = values - center
    scores = []
    for order in range(most + 1):
        design, target = _design(centered[most - order :], order)
        squares = float(((target - design @ _solve(design, target)) ** 2).mean())
        scores.append(len(target) * np.log(max(squares, np.finfo(float).tiny)) + 2 * (order + 1))
    weights = _solve(*_design(centered, int(np.argmin(scores))))
    weights[0] += center * (1.0 - weights[1:].sum())
    return weights


def _design(values: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    lagged = [values[order - lag : len(values) - lag] for lag in range(1, order + 1)]
    return np.stack([np.ones(len(values) - order), *lagged], axis=1), values[order:]


def _solve(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(design, target, rcond=None)[0]
