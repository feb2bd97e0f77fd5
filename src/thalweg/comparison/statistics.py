"""Statistics of runs in pairs: differences with intervals, times that may never end, profiles, many comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from scipy import special

# What two runs of one seed may differ by and still count as equal, relative to the larger of them: rounding.
_ROUNDING = 1e-12


@final
@dataclass(frozen=True)
class Difference:
    """How two entrants differ over the same seeds.

    Args:
        difference: of the first minus the second: the mean over seeds, or with the method "signs" the median; infinite
            where runs diverged.
        low: lower end of the interval; minus infinity where nothing bounds it.
        high: upper end.
        p_value: probability of a difference at least as large where there is none; None where it cannot be told.
        num_pairs: number of seeds.
        num_lower: seeds in which the first is lower than the second.
        num_higher: seeds in which it is higher.
        num_diverged: runs of the first and of the second that have no value.
        method: "student": the t distribution over the differences; "signs": their signs and order alone, where a run
            diverged or the differences have no spread; "equal": the same value in every seed; "one": a single seed.
    """

    difference: float
    low: float
    high: float
    p_value: float | None
    num_pairs: int = 0
    num_lower: int = 0
    num_higher: int = 0
    num_diverged: tuple[int, int] = (0, 0)
    method: Literal["student", "signs", "equal", "one"] = "student"

    def is_clear(self, p_value: float | None = None, level: float = 0.05) -> bool:
        """Whether there is a difference beyond noise: the interval excludes 0 and the p-value lies under the level.

        Args:
            p_value: one that is corrected for several comparisons; without it, that of this difference.
            level: probability, in (0, 1), of a false alarm.
        """
        found = self.p_value if p_value is None else p_value
        return found is not None and found < level and (self.low > 0.0 or self.high < 0.0)


def _paired_arrays(a: Any, b: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return two columns of numbers, one pair a seed; None becomes NaN."""
    first, second = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError(
            f"{name}(a=..., b=...) must hold one value for each of the same seeds; got shapes {first.shape} and "
            f"{second.shape}."
        )
    return first, second


def _order_interval(differences: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the interval of the median whose ends are the k-th smallest and largest value, k as large as may be."""
    size = differences.size
    ranks = np.arange(1, size // 2 + 1)
    kept = ranks[2.0 * special.bdtr(ranks - 1, size, 0.5) <= 1.0 - confidence]
    if not kept.size:
        return -np.inf, np.inf
    ordered = np.sort(differences)
    return float(ordered[kept[-1] - 1]), float(ordered[size - kept[-1]])


def _sign_p_value(num_lower: int, num_higher: int, size: int) -> float:
    """Return the p-value of the sign test, ties counted against a difference."""
    return float(min(1.0, 2.0 * special.bdtr(size - max(num_lower, num_higher), size, 0.5)))


def paired(a: Any, b: Any, *, better: str = "lower", confidence: float = 0.95) -> Difference:
    r"""Return the difference a - b over seeds in pairs, with its interval and p-value.

    With d_i = a_i - b_i over n seeds, mean d and standard deviation s, the interval is d \pm t s / sqrt(n), where t is
    the quantile of Student's distribution with n - 1 degrees of freedom, and the p-value is that of the paired t-test.
    Both take the differences as normal. Where a run diverged, or where all differences are one and the same number, no
    such statement can be made. Then the difference is the median, the interval lies between order statistics, and the
    p-value is that of the sign test; all three hold for any distribution, and under six seeds nothing bounds the
    interval at 95 %. Of equal values in every seed the interval is the point 0.

    Args:
        a: value of the first entrant for each seed, [n]; None, NaN or infinity for a run that diverged.
        b: value of the second for the same seeds, [n].
        better: "lower" or "higher"; a diverged run has the worst value there is. Two diverged runs are equal.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: the arrays are empty, or have not one value for each of the same seeds.

    Example:
        >>> found = paired([1.0, 1.2, 1.1], [1.5, 1.6, 1.7])
        >>> print(f"{found.difference:.2f} in [{found.low:.2f}, {found.high:.2f}], p = {found.p_value:.3f}")
        -0.50 in [-0.75, -0.25], p = 0.013
        >>> paired([1.0, None], [1.5, 1.6]).method
        'signs'

    Source: Student (1908), The Probable Error of a Mean; Conover (1999), Practical Nonparametric Statistics, 3.2 and
    3.4 (quantiles and signs).

    When not to use: for differences that are far from normal and few; three seeds cannot show that they are normal.
    """
    first, second = _paired_arrays(a, b, "paired")
    worst = np.inf if better == "lower" else -np.inf
    first, second = (np.where(np.isfinite(values), values, worst) for values in (first, second))
    num_diverged = (int(np.isinf(first).sum()), int(np.isinf(second).sum()))
    both = np.isinf(first) & np.isinf(second)
    differences = np.subtract(first, second, out=np.zeros_like(first), where=~both)
    scale = float(max(np.abs(values[np.isfinite(values)]).max(initial=0.0) for values in (first, second)))
    differences = np.where(np.abs(differences) <= _ROUNDING * scale, 0.0, differences)
    size = differences.size
    counts = {
        "num_pairs": size,
        "num_lower": int((differences < 0.0).sum()),
        "num_higher": int((differences > 0.0).sum()),
        "num_diverged": num_diverged,
    }
    if size == 1:
        return Difference(float(differences[0]), -np.inf, np.inf, None, **counts, method="one")
    if not differences.any() and not any(num_diverged):
        return Difference(0.0, 0.0, 0.0, 1.0, **counts, method="equal")
    spread = float(differences.std(ddof=1)) if np.isfinite(differences).all() else np.inf
    if any(num_diverged) or spread <= _ROUNDING * scale:
        p_value = _sign_p_value(counts["num_lower"], counts["num_higher"], size)
        return Difference(
            _median(differences), *_order_interval(differences, confidence), p_value, **counts, method="signs"
        )
    mean, error = float(differences.mean()), spread / size**0.5
    width = float(special.stdtrit(size - 1, 0.5 + confidence / 2.0)) * error
    p_value = float(2.0 * special.stdtr(size - 1, -abs(mean) / error))
    return Difference(mean, mean - width, mean + width, p_value, **counts)


def _median(values: np.ndarray) -> float:
    """Return the median of values that may be infinite; 0 between infinities of both signs."""
    ordered = np.sort(values)
    low, high = ordered[(ordered.size - 1) // 2], ordered[ordered.size // 2]
    if np.isinf(low) and np.isinf(high) and low != high:
        return 0.0
    return float(low) if low == high else float((low + high) / 2.0)


@final
@dataclass(frozen=True)
class TimeRatio:
    """How many times as long the first of two entrants takes to the target as the second.

    Args:
        ratio: geometric mean over seeds of time of the first / time of the second; None where it cannot be told.
        low: lower end of the interval, at least 0.
        high: upper end, infinite where nothing bounds it.
        p_value: of the hypothesis that the ratio is 1; None where it cannot be told.
        num_pairs: number of seeds.
        num_reached: runs of the first and of the second that reach the target.
        bound: "": the ratio is as it is; "at least" or "at most": runs that never reach the target make it a bound.
    """

    ratio: float | None
    low: float
    high: float
    p_value: float | None
    num_pairs: int = 0
    num_reached: tuple[int, int] = (0, 0)
    bound: Literal["", "at least", "at most"] = ""

    def is_clear(self, p_value: float | None = None, level: float = 0.05) -> bool:
        """Whether one is faster beyond noise: the interval excludes 1 and the p-value lies under the level.

        Args:
            p_value: one that is corrected for several comparisons; without it, that of this ratio.
            level: probability, in (0, 1), of a false alarm.
        """
        found = self.p_value if p_value is None else p_value
        return found is not None and found < level and (self.low > 1.0 or self.high < 1.0)


def time_ratio(a: Any, b: Any, horizon: Any, *, confidence: float = 0.95) -> TimeRatio:
    """Return how many times as long a takes as b to reach the target, over seeds in pairs, with an interval.

    The logarithms of the times are compared as in `paired`, so the ratio is a geometric mean. A run that does not reach
    the target is cut off (right-censored) at its horizon h. Where only runs of a are cut off, min(a, h) stands for a:
    its logarithm is never above that of a, so neither is its mean, and the lower end of its interval is one for the
    ratio itself, which is "at least" what is found, with nothing above it. Where only runs of b are, the other way
    round. Where runs of both are, no ratio is known.

    Args:
        a: time of the first to the target for each seed, [n], at least 0; None, NaN or infinity: never reached.
        b: time of the second for the same seeds, [n].
        horizon: how long each run lasted: a number for all, or a pair of arrays, [2, n], for a and b.
        confidence: of the interval, in (0, 1).

    Raises:
        ValueError: the arrays have not one value for each of the same seeds, or a time is negative.

    Example:
        >>> found = time_ratio([20.0, 22.0, 24.0], [10.0, 12.0, 11.0], horizon=60.0)
        >>> print(f"{found.ratio:.2f} in [{found.low:.2f}, {found.high:.2f}]")
        2.00 in [1.61, 2.48]
        >>> found = time_ratio([40.0, None, 44.0], [10.0, 12.0, 11.0], horizon=60.0)
        >>> print(found.bound, f"{found.ratio:.1f}, from {found.low:.1f} to {found.high}")
        at least 4.3, from 3.1 to inf

    Source: Klein and Moeschberger (2003), Survival Analysis, 3.2 (right censoring); Student (1908), The Probable Error
    of a Mean.

    When not to use: to compare runs most of which never reach the target; see `restricted_time`, or lower the target.
    """
    times = np.stack(_paired_arrays(a, b, "time_ratio"))
    ends = np.broadcast_to(np.asarray(horizon, dtype=np.float64), times.shape)
    if (times < 0.0).any() or not (ends > 0.0).all():
        raise ValueError("time_ratio(a=..., b=..., horizon=...) must be times of at least 0, and a horizon above 0.")
    reached = np.isfinite(times)
    counts: dict[str, Any] = {
        "num_pairs": times.shape[1],
        "num_reached": (int(reached[0].sum()), int(reached[1].sum())),
    }
    first_cut, second_cut = (not row.all() for row in reached)
    if first_cut and second_cut:
        return TimeRatio(None, 0.0, np.inf, None, **counts)
    logs = np.log(np.maximum(np.where(reached, times, ends), np.finfo(np.float64).tiny))
    found = paired(logs[0], logs[1], confidence=confidence)
    ratio, low, high = (float(np.exp(value)) for value in (found.difference, found.low, found.high))
    if first_cut:
        p_value = found.p_value if ratio > 1.0 else 1.0
        return TimeRatio(ratio, low, np.inf, p_value, **counts, bound="at least")
    if second_cut:
        p_value = found.p_value if ratio < 1.0 else 1.0
        return TimeRatio(ratio, 0.0, high, p_value, **counts, bound="at most")
    return TimeRatio(ratio, low, high, found.p_value, **counts)


@final
@dataclass(frozen=True)
class RestrictedTime:
    """Times to a target of which some never end.

    Args:
        median: Kaplan and Meier's; infinite where fewer than half of the runs reach the target.
        mean: mean of min(time, limit): how long a run takes on average if it is stopped at the limit.
        limit: up to which the mean is taken: the shortest horizon.
        num_reached: number of runs that reach the target.
        num_runs: number of runs.
    """

    median: float
    mean: float
    limit: float
    num_reached: int
    num_runs: int


def restricted_time(times: Any, horizon: Any) -> RestrictedTime:
    """Return the median and the restricted mean of times to a target that some runs never reach.

    The share S(t) of runs that have not reached the target by the time t is estimated after Kaplan and Meier: at each
    time at which d of the r runs still under way reach it, S falls by the factor 1 - d / r; a run that is cut off only
    leaves r. The median is the time at which S falls below 1/2, or the middle of the stretch on which it is 1/2; where
    all runs are cut off at the same horizon, it is the common median with "never" as the largest value. The mean is the
    area under S up to the shortest horizon.

    Args:
        times: of each run, [n], at least 0; None, NaN or infinity: never reached.
        horizon: how long each run lasted: a number for all, or one for each, [n].

    Raises:
        ValueError: there are no times, one is negative, or a horizon is not above 0.

    Example:
        >>> restricted_time([10.0, 30.0, None], horizon=60.0)
        RestrictedTime(median=30.0, mean=33.333333333333336, limit=60.0, num_reached=2, num_runs=3)

    Source: Kaplan, Meier (1958), Nonparametric Estimation from Incomplete Observations; Royston, Parmar (2013),
    Restricted Mean Survival Time.
    """
    found = np.asarray(times, dtype=np.float64)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"restricted_time(times=...) must be a list of times; got shape {found.shape}.")
    ends = np.broadcast_to(np.asarray(horizon, dtype=np.float64), found.shape)
    reached = np.isfinite(found)
    if (found[reached] < 0.0).any() or not (ends > 0.0).all():
        raise ValueError("restricted_time(times=..., horizon=...) must be times of at least 0, and a horizon above 0.")
    lengths, limit = np.where(reached, found, ends), float(ends.min())
    mean = float(np.minimum(lengths, limit).mean())
    return RestrictedTime(_median_time(lengths, reached), mean, limit, int(reached.sum()), found.size)


def _median_time(lengths: np.ndarray, reached: np.ndarray) -> float:
    """Return the median of Kaplan and Meier's estimate; infinite where it stays above 1/2, or is 1/2 to the end."""
    remaining, half = 1.0, None
    for time in np.unique(lengths[reached]):
        remaining *= 1.0 - (reached & (lengths == time)).sum() / (lengths >= time).sum()
        if half is not None:
            return float((half + time) / 2.0)
        if remaining < 0.5 - _ROUNDING:
            return float(time)
        if remaining <= 0.5 + _ROUNDING:
            half = time
    return float("inf")


def performance_profile(times: Any, ratios: Any) -> np.ndarray:
    """Return, for each entrant, on which share of the data sets it takes at most r times as long as the best.

    rho_e(r) = |{d : t_de <= r min_e' t_de'}| / D over D data sets, [entrants, ratios]. An entrant that never reaches
    the target on a data set is within no ratio there; a data set whose target nobody reaches counts among the D.

    Args:
        times: to the target, [data sets, entrants], at least 0; None, NaN or infinity: never reached.
        ratios: [ratios], at least 1.

    Raises:
        ValueError: the times are no table, or a ratio is under 1.

    Example:
        >>> performance_profile([[10.0, 20.0], [30.0, 15.0], [8.0, None]], [1.0, 2.0]).round(2).tolist()
        [[0.67, 1.0], [0.33, 0.67]]

    Source: Dolan, More (2002), Benchmarking Optimization Software with Performance Profiles.

    When not to use: to rank more than two entrants; whose curve is second may change when another one leaves (Gould and
    Scott, 2016).
    """
    table, limits = _times_table(times), np.asarray(ratios, dtype=np.float64)
    if limits.ndim != 1 or not (limits >= 1.0).all():
        raise ValueError(f"performance_profile(ratios=...) must be a list of numbers of at least 1; got {ratios!r}.")
    best = table.min(axis=1, keepdims=True)
    within = np.isfinite(table)[..., None] & (table[..., None] <= limits * best[..., None] * (1.0 + _ROUNDING))
    return within.mean(axis=0)


def profile_ratios(times: Any) -> np.ndarray:
    """Return the ratios at which a curve of `performance_profile` rises, in order, the first of them 1.

    Args:
        times: as for `performance_profile`.

    Example:
        >>> profile_ratios([[10.0, 20.0], [30.0, 10.0], [8.0, None]]).tolist()
        [1.0, 2.0, 3.0]
    """
    table = _times_table(times)
    best = table.min(axis=1, keepdims=True)
    known = np.isfinite(table) & (best > 0.0)
    return np.unique(np.append((table / np.where(known, best, 1.0))[known], 1.0))


def _times_table(times: Any) -> np.ndarray:
    """Return times as a table in which "never" is infinity."""
    table = np.asarray(times, dtype=np.float64)
    if table.ndim != 2 or not table.size or (table < 0.0).any():
        raise ValueError(f"times must be a table [data sets, entrants] of at least 0; got shape {table.shape}.")
    return np.where(np.isfinite(table), table, np.inf)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for their number, so that the chance of any false alarm stays under the level.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1. None stays None, and does
    not count.

    Example:
        >>> holm([0.01, 0.04, None, 0.03])
        [0.03, 0.06, None, 0.06]

    Source: Holm (1979), A Simple Sequentially Rejective Multiple Test Procedure.
    """
    known = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        corrected[place] = largest
    return corrected
