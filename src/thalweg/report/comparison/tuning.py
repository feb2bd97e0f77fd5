"""What the trials of a tuning say besides their best: the score to expect after few, and how wide the good range is."""

import math
from collections.abc import Sequence
from itertools import pairwise


def expected_best(scores: Sequence[float | None], k_max: int | None = None) -> list[float]:
    """Return the expected smallest score of k trials drawn from those that were run, for k = 1 to k_max.

    E_k = sum_i s_(i) C(N - i, k - 1) / C(N, k) over the N scores in ascending order: the exact mean over all subsets of
    k trials, without replacement. It is infinite while all k trials may be diverged ones.

    Args:
        scores: of the trials, lower is better; None, NaN or infinity for one that diverged.
        k_max: 1 to N; without it, N.

    Raises:
        ValueError: there are fewer trials than k_max.

    Example:
        >>> expected_best([3.0, 1.0, 2.0])
        [2.0, 1.3333333333333333, 1.0]
        >>> expected_best([4.0, None, 1.0])
        [inf, 2.0, 1.0]

    Source: Dodge, Gururangan, Card, Schwartz, Smith (2019), Show Your Work; Tang, Lee, Xin, Liu, Yu, Lin (2020),
    Showing Your Work Doesn't Always Work (why without replacement); Sivaprasad, Mai, Vogels, Jaggi, Fleuret (2020),
    Optimizer Benchmarking Needs to Account for Hyperparameter Tuning.

    When not to use: as what the first k trials of a sampler that learns will find; its later trials are better ones.
    """
    ordered, limit = _ordered(scores, k_max, "expected_best")
    size, expected = len(ordered), []
    for k in range(1, limit + 1):
        share, terms = k / size, []  # the share of the subsets of which the i-th score is the smallest
        for i, score in enumerate(ordered[: size - k + 1]):
            terms.append(share * score)
            share *= (size - i - k) / max(size - i - 1, 1)
        expected.append(math.fsum(terms))
    return expected


def best_quantile(scores: Sequence[float | None], quantile: float, k_max: int | None = None) -> list[float]:
    """Return a quantile of the smallest score of k trials drawn from those that were run, for k = 1 to k_max.

    It is the smallest s_(i) with 1 - C(N - i, k) / C(N, k) >= quantile: in that share of all subsets of k trials the
    best is at most s_(i). Infinite where it is a diverged trial.

    Args:
        scores: of the trials, lower is better; None, NaN or infinity for one that diverged.
        quantile: in (0, 1).
        k_max: 1 to N; without it, N.

    Raises:
        ValueError: there are fewer trials than k_max.

    Example:
        >>> best_quantile([3.0, 1.0, 2.0], 0.5)
        [2.0, 1.0, 1.0]
    """
    ordered, limit = _ordered(scores, k_max, "best_quantile")
    size, found = len(ordered), []
    for k in range(1, limit + 1):
        place, share = 0, (size - k) / size  # the share of the subsets that hold none of the scores up to this place
        while share > 1.0 - quantile + 1e-12:
            place += 1
            share *= (size - place - k) / (size - place)
        found.append(ordered[place])
    return found


def _ordered(scores: Sequence[float | None], k_max: int | None, name: str) -> tuple[list[float], int]:
    """Return the scores in ascending order, diverged ones as infinity, and up to which k."""
    ordered = sorted(math.inf if score is None or not math.isfinite(score) else float(score) for score in scores)
    limit = len(ordered) if k_max is None else k_max
    if not 0 <= limit <= len(ordered):
        raise ValueError(f"{name}(k_max=...) must be at most the number of trials, {len(ordered)}; got {k_max}.")
    return ordered, limit


def share_near_best(rates: Sequence[float], losses: Sequence[float | None], tolerance: float = 0.05) -> float | None:
    """Return which share of the tried range of learning rates has a loss near the best one.

    The share is of the logarithmic range from the smallest to the largest rate that was tried. Between two neighboring
    trials the loss is taken as linear in the logarithm of the rate; beside a diverged trial no rate counts.

    Args:
        rates: of the trials, above 0.
        losses: of the same trials; None, NaN or infinity for one that diverged.
        tolerance: how much above the best, relative to its size, still counts as near; at least 0.

    Returns:
        A share from 0 to 1; None where fewer than two rates were tried, or every trial diverged.

    Example:
        >>> share_near_best([0.001, 0.01, 0.1], [1.0, 1.05, 2.05], tolerance=0.05)
        0.5
    """
    least: dict[float, float] = {}
    for rate, loss in zip(rates, losses, strict=True):
        value = math.inf if loss is None or not math.isfinite(loss) else float(loss)
        least[math.log(rate)] = min(value, least.get(math.log(rate), math.inf))
    points = sorted(least.items())
    best = min((loss for _, loss in points), default=math.inf)
    if len(points) < 2 or not math.isfinite(best):
        return None
    limit = best + tolerance * abs(best)
    near = math.fsum((right - left) * _share_under(a, b, limit) for (left, a), (right, b) in pairwise(points))
    return near / (points[-1][0] - points[0][0])


def _share_under(start: float, end: float, limit: float) -> float:
    """Return the share of a line from one value to another that lies at or under a limit."""
    low, high = min(start, end), max(start, end)
    if not math.isfinite(high) or low > limit:
        return 0.0
    return 1.0 if high <= limit else (limit - low) / (high - low)
