"""How long the season of a series is: from its autocorrelation, and from the dates of its rows."""

import datetime as dt
from collections.abc import Sequence
from typing import Final

import numpy as np

from thalweg.data.columns.notation import number_of

MIN_SEASONS: Final = 2.5  # of them in the training part, or it is none
LEAST: Final = 0.3  # autocorrelation of a season, at the least
NUM_DATES: Final = 64  # that say how far apart rows are
LONGEST: Final = 750  # rows of a season that are looked for without dates
USUAL: Final = {"year": (), "quarter": (4,), "month": (12,), "week": (52,), "day": (7, 365), "hour": (24, 168)}


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


def frequency(labels: Sequence[str]) -> str:
    """Return how far apart rows with these dates are ("day", "month" ...), or nothing."""
    if len(labels) < 3:
        return ""
    places = dates(labels[:NUM_DATES])
    if places is None:
        return ""
    step = float(np.median(np.diff(places)))
    for name, low, high in (
        ("hour", 0.0416, 0.0417), ("day", 0.999, 1.001), ("week", 6.999, 7.001), ("month", 28, 31), ("quarter", 89, 93),
        ("year", 365, 366),
    ):  # fmt: skip
        if low <= step <= high:
            return name
    return ""


def find_season(values: np.ndarray, labels: Sequence[str] = ()) -> tuple[int, str]:
    """Return the season of a series `[rows, columns]` in rows, and how it was found; 1 where there is none.

    The seasons that go with the distance of the dates are tried first, then the highest peak of the autocorrelation,
    the mean over the columns, of the series without its trend (a line) or of its changes. A season comes at least 2.5
    times, and its autocorrelation is at least 0.3 and twice the uncertainty of noise.
    """
    num_rows = len(values)
    longest = min(LONGEST, int(num_rows / MIN_SEASONS))
    if longest < 2:
        return 1, "too few rows"
    least = max(LEAST, 2.0 / np.sqrt(num_rows))
    correlations = [_mean_autocorrelation(part, longest) for part in (_detrended(values), np.diff(values, axis=0))]
    usual = [season for season in USUAL.get(frequency(labels), ()) if season <= longest]
    for season in sorted(usual, key=lambda one: -max(_height(found, one) for found in correlations)):
        if any(_height(found, season) >= least for found in correlations):
            return season, f"rows are a {frequency(labels)} apart"
    best, height = 1, least
    for found in correlations:
        for lag in range(2, longest):
            is_peak = found[lag] >= found[lag - 1] and found[lag] > found[lag + 1] and found[1:lag].min() < found[lag]
            if is_peak and found[lag] > height and min(found[1:lag]) < 0.5 * found[lag]:
                best, height = lag, float(found[lag])
        if best > 1:
            return best, f"autocorrelation {height:.2f}"
    return 1, "no season in the autocorrelation"


def _height(found: np.ndarray, lag: int) -> float:
    """The autocorrelation at a lag, where it stands above that at half of it; else -1."""
    if lag >= len(found):
        return -1.0
    return float(found[lag]) if found[lag] > found[max(1, lag // 2)] else -1.0


def _mean_autocorrelation(values: np.ndarray, longest: int) -> np.ndarray:
    return np.mean([autocorrelation(column, longest) for column in values.T], axis=0)


def _detrended(values: np.ndarray) -> np.ndarray:
    time = np.linspace(-1.0, 1.0, len(values))
    design = np.stack([np.ones_like(time), time], 1)
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def times(labels: Sequence[str]) -> np.ndarray | None:
    """Return when rows were, in days or in whatever their numbers count; None: their names say nothing of it."""
    found = dates(labels)
    if found is not None:
        return found
    numbers = [number_of(label) for label in labels]
    return None if None in numbers else np.array(numbers, dtype=np.float64)


def dates(labels: Sequence[str]) -> np.ndarray | None:
    """Return dates such as 1949-01, 1981-01-31, 19580329 or 2024/05/31 12:00 in days; None: these are none."""
    found = []
    for label in labels:
        day = _day(label)
        if day is None:
            return None
        found.append(day)
    return np.array(found, dtype=np.float64)


def _day(label: str) -> float | None:
    text = label.strip().replace("/", "-")
    for form in ("%Y-%m-%d", "%Y-%m", "%Y%m%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S",
                 "%Y-%m-%dT%H:%M:%S"):  # fmt: skip
        try:
            found = dt.datetime.strptime(text, form)
        except ValueError:
            continue
        return found.toordinal() + (found.hour + found.minute / 60 + found.second / 3600) / 24
    return None
