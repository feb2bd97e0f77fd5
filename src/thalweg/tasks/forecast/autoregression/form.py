"""The form of a linear forecast: which differences of the series are forecast, from which of their past values."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np

from thalweg.errors import InputError

JOINT, OWN, SHARED = "joint", "own", "shared"
SMALLEST: Final = 1e-12  # spread of a difference, as a share of the numbers' size: below, it is constant


@final
@dataclasses.dataclass(frozen=True)
class Form:
    r"""A linear forecast in the notation of Box and Jenkins.

    With $z_t$ the series (or its logarithm), $B z_t = z_{t-1}$ and $s$ the season, it forecasts

    $$u_t = (1 - B)^d (1 - B^s)^D z_t \approx m + \sum_{k \in K} w_k (u_{t-k} - m)$$

    with $m$ the mean of $u$ where there is a `drift`, else 0. No lags and no drift is the last value ($d = 1$) or the
    value a season ago ($D = 1$).

    Args:
        log: whether z is the logarithm.
        difference: d, 0 or 1.
        seasonal: D, 0 or 1.
        season: s in rows; 1: none was found.
        lags: K, ascending.
        drift: whether there is a mean m.
        equations: of several series: `JOINT` (each from the past of all), `OWN` (each from its own past) or `SHARED`
            (likewise, with the same weights for all).

    Source: Box and Jenkins (1970), Time Series Analysis.
    """

    log: bool = False
    difference: int = 1
    seasonal: int = 0
    season: int = 1
    lags: tuple[int, ...] = ()
    drift: bool = False
    equations: str = JOINT

    @property
    def polynomial(self) -> np.ndarray:
        """The coefficients of 1, B, B^2 ... in the difference, the first of them 1."""
        regular = np.array([1.0, -1.0]) if self.difference else np.ones(1)
        seasonal = np.zeros(self.season * self.seasonal + 1)
        seasonal[0] = 1.0
        if self.seasonal:
            seasonal[-1] -= 1.0
        return np.convolve(regular, seasonal)

    @property
    def context(self) -> int:
        """Rows that a forecast needs before it."""
        return max(1, max(self.lags, default=0) + len(self.polynomial) - 1)

    @property
    def is_naive(self) -> bool:
        """Whether nothing is estimated: it is the last value, or the one a season ago."""
        return not self.lags and not self.drift

    @property
    def name(self) -> str:
        """What it is called, in words."""
        if not self.lags:
            what = "the last value" if self.difference else f"the value a season ({self.season} rows) ago"
            return what if self.is_naive else f"{what} with a drift{' of its logarithm' if self.log else ''}"
        regular = "changes" if self.difference else ""
        seasonal = f"differences over a season ({self.season} rows)" if self.seasonal else ""
        of = " of ".join(filter(None, (regular, seasonal, "log values" if self.log else "values")))
        many = {JOINT: "", OWN: ", each series by itself", SHARED: ", one equation for all series"}[self.equations]
        return f"linear autoregression of {of}, lags {listed(self.lags)}{many}"

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Return z for values of the series; what has no logarithm is an InputError."""
        if not self.log:
            return np.asarray(values, dtype=np.float64)
        values = np.asarray(values, dtype=np.float64)
        if bool((values <= 0.0).any()):
            raise InputError(
                f"This forecast was chosen on logarithms, so it takes positive numbers only; got {np.nanmin(values):g}."
            )
        return np.log(values)

    def values(self, levels: np.ndarray) -> np.ndarray:
        """Return the series for z."""
        return np.exp(np.minimum(levels, 700.0)) if self.log else levels

    def differences(self, levels: np.ndarray) -> np.ndarray:
        """Return u for z `[rows, ...]`, the first `len(polynomial) - 1` rows fewer."""
        polynomial = self.polynomial
        degree = len(polynomial) - 1
        found = np.zeros_like(levels[degree:])
        for power in np.flatnonzero(polynomial):
            found += polynomial[power] * levels[degree - power : len(levels) - power]
        return found

    def base(self, past: np.ndarray) -> np.ndarray:
        """Return z_t - u_t, which the rows before say: `[..., columns]` for their z, `[..., rows, columns]`."""
        polynomial = self.polynomial
        found = np.zeros(past.shape[:-2] + past.shape[-1:])
        for power in np.flatnonzero(polynomial[1:]) + 1:
            found -= polynomial[power] * past[..., past.shape[-2] - power, :]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, as plain JSON values."""
        return dataclasses.asdict(self) | {"lags": list(self.lags)}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Form":
        """Return the form that `to_dict` was called on."""
        return cls(**{**saved, "lags": tuple(int(lag) for lag in saved["lags"])})


def listed(lags: Sequence[int]) -> str:
    """Return lags in words: "1-12, 24"."""
    runs: list[list[int]] = []
    for lag in lags:
        if runs and lag == runs[-1][-1] + 1:
            runs[-1].append(lag)
        else:
            runs.append([lag])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
