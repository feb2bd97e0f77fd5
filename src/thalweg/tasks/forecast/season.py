"""How long the season of a series is: from its autocorrelation, and from how far apart its rows are."""

from typing import Final

import numpy as np

MIN_SEASONS: Final = 2.5  # of them in the training part, or it is none
LEAST: Final = 0.3  # autocorrelation of a season, at the least
LONGEST: Final = 750  # rows of a season that are looked for without dates
USUAL: Final = {
    "year": (), "half-year": (2,), "quarter": (4,), "month": (12,), "week": (52,), "day": (7, 365),
    "business day": (5, 21, 252), "hour": (24, 168), "30 minutes": (48, 336), "15 minutes": (96, 672),
    "10 minutes": (144,), "5 minutes": (288,),
}  # fmt: skip


def autocorrelation(values: np.ndarray, num_lags: int) -> np.ndarray:
    """Return the autocorrelation of `[rows]` at the lags 0 ... `num_lags`, `[num_lags + 1]`.

    r_k = sum_t (y_t - m)(y_{t+k} - m) / sum_t (y_t - m)^2, with m the mean; zeros beside r_0 = 1 for a constant.
    """
    centered = values - values.mean()
    centered = centered / max(float(np.abs(centered).max()), np.finfo(float).tiny)  # squares of it do not overflow
    size = 1 << (2 * len(values)).bit_length()
    power = np.abs(np.fft.rfft(centered, size)) ** 2
    found = np.fft.irfft(power, size)[: num_lags + 1]
    if not found[0] > 0.0:
        return np.eye(1, num_lags + 1)[0]
    return found / found[0]


def find_season(values: np.ndarray, frequency: str = "") -> tuple[int, str]:
    """Return the season of a series `[rows, columns]` in rows, and how it was found; 1 where there is none.

    Where series begin later than others there is NaN before them.

    `frequency` says how far apart rows are (see `thalweg.tasks.forecast.rows.calendar.Step.name`).

    The seasons that go with the distance of the dates are tried first, then the highest peak of the autocorrelation,
    the mean over the columns, of the series without its trend (a line) or of its changes. A season comes at least 2.5
    times, and its autocorrelation is at least 0.3 and twice the uncertainty of noise.
    """
    columns = [column[np.isfinite(column)] for column in values.T]
    num_rows = min(map(len, columns))
    longest = min(LONGEST, int(num_rows / MIN_SEASONS))
    if longest < 2:
        return 1, "too few rows"
    least = max(LEAST, 2.0 / np.sqrt(num_rows))
    parts = [[_detrended(column) for column in columns], [np.diff(column) for column in columns]]
    correlations = [np.mean([autocorrelation(column, longest) for column in part], axis=0) for part in parts]
    usual = [season for season in USUAL.get(frequency, ()) if season <= longest]
    for season in sorted(usual, key=lambda one: -max(_height(found, one) for found in correlations)):
        if any(_height(found, season) >= least for found in correlations):
            return season, f"rows are {_article(frequency)}{frequency} apart"
    best, height = 1, least
    for found in correlations:
        for lag in range(2, longest):
            is_peak = found[lag] >= found[lag - 1] and found[lag] > found[lag + 1] and found[1:lag].min() < found[lag]
            if is_peak and found[lag] > height and min(found[1:lag]) < 0.5 * found[lag]:
                best, height = lag, float(found[lag])
        if best > 1:
            return best, f"autocorrelation {height:.2f}"
    return 1, "no season in the autocorrelation"


def _article(frequency: str) -> str:
    return "" if frequency[0].isdigit() else "an " if frequency == "hour" else "a "


def _height(found: np.ndarray, lag: int) -> float:
    """The autocorrelation at a lag, where it stands above that at half of it; else -1."""
    if lag >= len(found):
        return -1.0
    return float(found[lag]) if found[lag] > found[max(1, lag // 2)] else -1.0


def _detrended(values: np.ndarray) -> np.ndarray:
    time = np.linspace(-1.0, 1.0, len(values))
    design = np.stack([np.ones_like(time), time], 1)
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
