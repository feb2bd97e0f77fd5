"""How far a share seen on some examples may be from the true one: exact binomial limits."""

import math

from scipy.special import betaincinv

from thalweg.errors import require

CONFIDENCE = 0.95


def share_interval(hits: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    r"""Return the Clopper-Pearson interval of a probability that `hits` of `trials` independent trials were seen with.

    $$p_- = B^{-1}_{\alpha/2}(k, n - k + 1), \qquad p_+ = B^{-1}_{1 - \alpha/2}(k + 1, n - k)$$

    with $k$ hits in $n$ trials, $\alpha = 1 - \text{confidence}$ and the quantiles of beta distributions; $p_- = 0$
    where nothing was hit, $p_+ = 1$ where everything was. Whatever the true probability, the interval covers it in at
    least that fraction of all repetitions; no approximation is involved.

    Args:
        hits: number of successes, from 0 to `trials`.
        trials: number of independent trials, at least 1.
        confidence: in (0, 1).

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> low, high = share_interval(45, 50)
        >>> round(low, 4), round(high, 4)
        (0.7819, 0.9667)

    Source: Clopper and Pearson (1934), The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial.
    When not to use it: for words of one sentence, or windows of one series, which are not independent of one another.
    """
    require(trials >= 1, "share_interval(trials=...) must be at least 1", trials)
    require(0 <= hits <= trials, f"share_interval(hits=...) must lie in [0, {trials}]", hits)
    require(0.0 < confidence < 1.0, "share_interval(confidence=...) must lie in (0, 1)", confidence)
    tail = 0.5 * (1.0 - confidence)
    low = float(betaincinv(hits, trials - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, trials - hits, 1.0 - tail)) if hits < trials else 1.0
    return low, high


def share_bound(hits: int, trials: int, chance: float) -> float:
    """Return the upper Clopper-Pearson limit: a probability above it shows so few hits with at most this chance.

    Arguments as for `share_interval`; `chance` in (0, 1).
    """
    require(0 <= hits <= trials and trials >= 1, "share_bound(hits, trials) needs 0 <= hits <= trials", (hits, trials))
    require(0.0 < chance < 1.0, "share_bound(chance=...) must lie in (0, 1)", chance)
    return float(betaincinv(hits + 1, trials - hits, 1.0 - chance)) if hits < trials else 1.0


def kl(q: float, p: float) -> float:
    r"""Return $q \ln (q/p) + (1-q) \ln ((1-q)/(1-p))$, the divergence of two coins; infinite where $p$ excludes $q$."""
    total = 0.0
    for a, b in ((q, p), (1.0 - q, 1.0 - p)):
        if a > 0.0:
            if b <= 0.0:
                return math.inf
            total += a * math.log(a / b)
    return max(total, 0.0)


def kl_inverse(q: float, budget: float) -> float:
    """Return the largest p in [q, 1] with `kl(q, p) <= budget`, rounded up.

    Example:
        >>> round(kl_inverse(0.1, 0.02), 4)
        0.1704

    Raises:
        ValueError: `q` outside [0, 1], or a negative budget.
    """
    require(0.0 <= q <= 1.0, "kl_inverse(q) must lie in [0, 1]", q)
    require(budget >= 0.0, "kl_inverse(budget=...) must be at least 0", budget)
    low, high = q, 1.0
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:  # neighbors in float64
            return high
        if kl(q, middle) > budget:
            high = middle
        else:
            low = middle
