"""Limits of shares against exact binomial sums, SciPy and mpmath; coverage counted outcome by outcome."""

from fractions import Fraction
from math import comb

import mpmath
import numpy as np
import pytest
from scipy.stats import binom, binomtest

from thalweg.certificates.new_texts.shares import kl, kl_inverse, share_bound, share_interval

CASES = [(0, 1), (1, 1), (0, 10), (10, 10), (3, 10), (1, 37), (36, 37), (45, 50), (797, 800), (332, 362)]


def at_most(k: int, n: int, p: float) -> Fraction:
    """P(X <= k), exactly."""
    exact = Fraction(p)
    return sum((comb(n, i) * exact**i * (1 - exact) ** (n - i) for i in range(k + 1)), Fraction(0))


@pytest.mark.parametrize(("hits", "trials"), CASES)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_interval_equals_scipy(hits, trials, confidence):
    expected = binomtest(hits, trials).proportion_ci(confidence)
    assert share_interval(hits, trials, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "trials"), [case for case in CASES if case[1] <= 50])
def test_tails_of_the_limits_are_exact_binomial_sums(hits, trials):
    low, high = share_interval(hits, trials, 0.95)
    tail = Fraction(1, 40)
    if hits:
        assert 1 - at_most(hits - 1, trials, low * (1 - 1e-9)) < tail < 1 - at_most(hits - 1, trials, low * (1 + 1e-9))
    if hits < trials:
        assert at_most(hits, trials, high * (1 + 1e-9)) < tail < at_most(hits, trials, high * (1 - 1e-9))
        bound = share_bound(hits, trials, 0.05)
        assert at_most(hits, trials, bound * (1 + 1e-9)) < Fraction(1, 20) < at_most(hits, trials, bound * (1 - 1e-9))
    else:
        assert high == share_bound(hits, trials, 0.05) == 1.0


@pytest.mark.parametrize("trials", [1, 5, 40, 362])
def test_every_true_share_is_covered_often_enough(trials):
    limits = np.array([share_interval(hits, trials) for hits in range(trials + 1)])
    for true in [*np.linspace(0.0, 1.0, 201), 1e-4, 1 - 1e-4]:
        covers = (limits[:, 0] <= true) & (true <= limits[:, 1])
        assert binom.pmf(np.arange(trials + 1), trials, true)[covers].sum() >= 0.95 - 1e-12


def test_coverage_by_simulation():
    drawn = np.random.default_rng(0).binomial(120, 0.93, 10_000)
    limits = {hits: share_interval(hits, 120) for hits in set(drawn.tolist())}
    covered = np.mean([limits[hits][0] <= 0.93 <= limits[hits][1] for hits in drawn.tolist()])
    assert 0.945 < covered < 0.99


@pytest.mark.parametrize(("q", "budget"), [(0.0, 0.01), (0.1, 0.02), (0.3, 1e-6), (0.5, 0.3), (0.99, 0.5), (0.2, 30.0)])
def test_kl_inverse_against_mpmath(q, budget):
    found = kl_inverse(q, budget)
    with mpmath.workdps(60):

        def exact(p):
            a, p = mpmath.mpf(q), mpmath.mpf(p)
            return (a * mpmath.log(a / p) if q else 0) + (1 - a) * mpmath.log((1 - a) / (1 - p))

        assert q <= found <= 1.0
        assert found == 1.0 or exact(found * (1 + 1e-12)) > budget * (1 - 1e-12)
        assert exact(min(found, 1 - 2**-53) * (1 - 1e-12)) < budget * (1 + 1e-12)


def test_kl_of_certain_coins():
    assert kl(0.0, 0.0) == kl(1.0, 1.0) == 0.0
    assert kl(0.5, 0.0) == kl(0.5, 1.0) == float("inf")
    assert kl_inverse(1.0, 0.0) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share_interval(0, 0), "trials=...\\) must be at least 1; got 0"),
        (lambda: share_interval(5, 4), "must lie in \\[0, 4\\]; got 5"),
        (lambda: share_interval(1, 4, 1.0), "must lie in \\(0, 1\\); got 1.0"),
        (lambda: share_bound(-1, 4, 0.1), "0 <= hits <= trials"),
        (lambda: share_bound(1, 4, 0.0), "chance=...\\) must lie"),
        (lambda: kl_inverse(1.5, 0.1), "q\\) must lie"),
        (lambda: kl_inverse(0.5, -0.1), "at least 0; got -0.1"),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(ValueError, match=message):
        call()
