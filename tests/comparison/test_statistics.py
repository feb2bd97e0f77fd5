import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from thalweg.comparison.statistics import (
    Difference,
    holm,
    paired,
    performance_profile,
    profile_ratios,
    restricted_time,
    time_ratio,
)

RNG = np.random.default_rng(7)
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("size", [2, 3, 5, 12])
def test_paired_is_the_t_test_of_scipy(size):
    a, b = RNG.normal(size=size), RNG.normal(0.3, 1.0, size=size)
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    found = paired(a, b)
    assert found.method == "student"
    assert found.difference == pytest.approx(np.mean(a - b))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.num_pairs, found.num_lower + found.num_higher) == (size, size)


def test_paired_intervals_hold_the_true_difference_in_19_of_20_studies():
    held = 0
    for _ in range(2000):
        a = RNG.normal(size=3)
        found = paired(a, a + 0.5 + 0.1 * RNG.normal(size=3))
        held += found.low <= -0.5 <= found.high
    assert 0.935 <= held / 2000 <= 0.965


@pytest.mark.parametrize("p_value", [0.2, 0.0499, 0.0501])
def test_interval_excludes_zero_exactly_where_the_p_value_is_small(p_value):
    differences = np.array([1.0, 2.0, 3.0, 4.0]) - 2.5
    shift = stats.t.isf(p_value / 2, 3) * differences.std(ddof=1) / 2
    found = paired(differences + shift, np.zeros(4))
    assert found.p_value == pytest.approx(p_value)
    assert (found.low > 0.0) == found.is_clear() == (p_value < 0.05)


def test_one_seed_has_a_difference_and_no_uncertainty():
    found = paired([1.0], [3.0])
    assert found == Difference(-2.0, -INF, INF, None, 1, 1, 0, (0, 0), "one")
    assert not found.is_clear()


def test_the_same_runs_differ_by_nothing():
    found = paired([0.1 + 0.2, 1.0], [0.3, 1.0])
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)
    assert found.method == "equal"
    assert not found.is_clear()


def test_differences_without_spread_are_told_by_their_signs():
    found = paired([100, 110, 130], [120, 130, 150])
    assert (found.difference, found.low, found.high) == (-20.0, -INF, INF)
    assert found.p_value == 0.25  # of the 8 assignments of signs, 2 are as extreme
    assert found.method == "signs"
    assert not found.is_clear()
    six = paired([100.0] * 6, [120.0] * 6)
    assert (six.low, six.high, six.p_value) == (-20.0, -20.0, 2 / 64)
    assert six.is_clear()


@pytest.mark.parametrize("missing", [None, NAN, INF])
def test_a_diverged_run_is_the_worst_there_is(missing):
    found = paired([1.0, missing, 1.2], [1.1, 1.0, 1.1])
    assert found.method == "signs"
    assert (found.num_lower, found.num_higher, found.num_diverged) == (1, 2, (1, 0))
    assert found.difference == pytest.approx(0.1)
    assert (found.low, found.high) == (-INF, INF)
    higher = paired([1.0, missing], [1.1, 1.0], better="higher")
    assert (higher.num_lower, higher.num_higher) == (2, 0)


def test_seeds_in_which_both_diverged_count_for_neither():
    found = paired([None, None, 1.0], [None, None, 2.0])
    assert (found.difference, found.num_lower, found.num_higher, found.p_value) == (0.0, 1, 0, 1.0)
    assert found.num_diverged == (2, 2)
    both_ways = paired([None, 1.0], [1.0, None])
    assert both_ways.difference == 0.0


def test_sign_test_and_interval_are_those_of_scipy():
    a = RNG.normal(size=11)
    b = a + RNG.normal(0.4, 1.0, size=11)
    a[3] = INF
    found = paired(a, b)
    differences = np.sort(a - b)
    num = int((differences < 0).sum())
    expected = stats.binomtest(num, 11)
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = stats.quantile_test(np.where(differences == INF, 1e9, differences), q=0, p=0.5).confidence_interval(0.95)
    # SciPy's interval is the same at an odd size, where both ends may be taken at the same rank.
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0, 2.0], [1.0]), ([[1.0]], [[1.0]])])
def test_pairs_that_are_none_are_refused(a, b):
    with pytest.raises(ValueError, match=r"paired\(a=..., b=...\) must hold one value for each of the same seeds; got"):
        paired(a, b)


def test_time_ratio_is_the_t_test_of_the_logarithms():
    a, b = RNG.uniform(5, 50, size=5), RNG.uniform(5, 50, size=5)
    expected = stats.ttest_rel(np.log(a), np.log(b))
    interval = expected.confidence_interval(0.95)
    found = time_ratio(a, b, 60.0)
    assert found.ratio == pytest.approx(stats.gmean(a / b))
    assert (found.low, found.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.bound, found.num_reached) == ("", (5, 5))
    mirrored = time_ratio(b, a, 60.0)
    assert mirrored.ratio == pytest.approx(1 / found.ratio)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 / found.high, 1 / found.low))


def test_a_run_that_never_ends_makes_the_ratio_a_bound():
    found = time_ratio([40.0, None, 44.0], [10.0, 12.0, 11.0], 60.0)
    cut = time_ratio([40.0, 60.0, 44.0], [10.0, 12.0, 11.0], 60.0)
    assert found.bound == "at least"
    assert (found.ratio, found.low, found.high) == (cut.ratio, cut.low, INF)
    assert found.num_reached == (2, 3)
    mirrored = time_ratio([10.0, 12.0, 11.0], [40.0, NAN, 44.0], 60.0)
    assert mirrored.bound == "at most"
    assert (mirrored.low, mirrored.high) == (0.0, pytest.approx(1 / cut.low))
    assert mirrored.is_clear()


def test_a_bound_on_the_wrong_side_of_one_proves_nothing():
    found = time_ratio([1.0, 1.1, 0.9, None], [10.0, 11.0, 9.0, 60.0], 60.0)
    assert found.ratio < 1.0
    assert found.p_value == 1.0
    assert not found.is_clear()


def test_each_run_may_have_a_horizon_of_its_own():
    found = time_ratio([None, 30.0], [10.0, 10.0], [[20.0, 90.0], [90.0, 90.0]])
    assert found.ratio == pytest.approx(math.sqrt(2.0 * 3.0))


def test_no_ratio_is_known_where_runs_of_both_never_end():
    found = time_ratio([None, 10.0], [10.0, None], 60.0)
    assert (found.ratio, found.low, found.high, found.p_value) == (None, 0.0, INF, None)
    assert not found.is_clear()


def test_the_lower_end_of_a_censored_ratio_holds_in_19_of_20_studies():
    """Log-normal times with a true ratio of 3, of which the slow ones are cut off in a fourth of the runs."""
    horizon = 30.0 * math.exp(0.4 * stats.norm.isf(0.25))
    held = cut = 0
    for _ in range(2000):
        a, b = 30.0 * np.exp(0.4 * RNG.normal(size=4)), 10.0 * np.exp(0.4 * RNG.normal(size=4))
        found = time_ratio(np.where(a > horizon, NAN, a), b, horizon)
        held += found.low <= 3.0 <= found.high
        cut += found.bound == "at least"
    assert cut > 1000
    assert held / 2000 >= 0.945


def test_times_of_zero_are_times():
    found = time_ratio([0.0, 0.0], [0.0, 0.0], 60.0)
    assert (found.ratio, found.low, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("a", "horizon"), [([-1.0, 2.0], 60.0), ([1.0, 2.0], 0.0), ([1.0, 2.0], NAN)])
def test_times_that_are_none_are_refused(a, horizon):
    with pytest.raises(ValueError, match=r"must be times of at least 0, and a horizon above 0\."):
        time_ratio(a, [1.0, 1.0], horizon)
    with pytest.raises(ValueError, match=r"must be times of at least 0, and a horizon above 0\."):
        restricted_time(a, horizon)


def test_restricted_time_by_hand():
    """Six runs: reached at 2, 3, 5; cut off at 3, 4, 8. S = 5/6 at 2, 5/6 * 4/5 = 2/3 at 3, 2/3 * 1/2 = 1/3 at 5."""
    times, horizon = [2.0, 3.0, 5.0, None, None, None], [8.0, 8.0, 8.0, 3.0, 4.0, 8.0]
    found = restricted_time(times, horizon)
    assert found.median == 5.0
    assert found.limit == 3.0
    assert found.mean == pytest.approx(2.0 + 5 / 6)  # the area under S up to 3
    assert (found.num_reached, found.num_runs) == (3, 6)


@pytest.mark.parametrize(
    "times", [[4.0, 1.0, 3.0], [4.0, 1.0, 3.0, 2.0], [1.0, None, 3.0, 2.0], [1.0, None], [None, 5.0, None], [2.0, 2.0]]
)
def test_restricted_time_of_one_horizon_is_the_common_median_and_the_mean_of_the_cut_off_times(times):
    full = np.array([INF if time is None else time for time in times])
    found = restricted_time(times, 10.0)
    assert found.median == np.median(full)
    assert found.mean == pytest.approx(np.minimum(full, 10.0).mean())


def test_restricted_time_agrees_with_scipys_survival_function():
    times, cuts = RNG.exponential(10.0, size=41), RNG.uniform(8.0, 30.0, size=41)
    reached = times <= cuts
    data = stats.CensoredData(uncensored=times[reached], right=cuts[~reached])
    survival = stats.ecdf(data).sf
    found = restricted_time(np.where(reached, times, NAN), cuts)
    below = survival.quantiles[survival.probabilities < 0.5]
    assert found.median == below[0]
    grid = np.linspace(0.0, cuts.min(), 200_001)
    assert found.mean == pytest.approx(integrate.trapezoid(survival.evaluate(grid), grid), rel=1e-4)


def test_restricted_time_needs_times():
    with pytest.raises(ValueError, match=r"restricted_time\(times=...\) must be a list of times; got shape \(0,\)"):
        restricted_time([], 1.0)


@given(
    st.lists(
        st.lists(st.sampled_from([1.0, 2.0, 3.0, 4.0, 0.0, None]), min_size=3, max_size=3), min_size=1, max_size=5
    ),
    st.lists(st.sampled_from([1.0, 1.5, 2.0, 4.0, 9.0]), min_size=1, max_size=4),
)
def test_performance_profile_by_its_definition(times, ratios):
    found = performance_profile(times, ratios)
    for entrant, place in itertools.product(range(3), range(len(ratios))):
        solved = 0
        for row in times:
            known = [time for time in row if time is not None]
            if row[entrant] is not None:
                solved += row[entrant] <= ratios[place] * min(known)
        assert found[entrant, place] == pytest.approx(solved / len(times))


def test_performance_profile_counts_ties_for_all_and_unsolved_data_sets_for_none():
    assert performance_profile([[5.0, 5.0], [None, None]], [1.0, 1e9]).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    third = 1.0 / 3.0  # 3 times a third is not 1 / third / 3 in floating point
    assert performance_profile([[third, 3 * third]], [3.0]).tolist() == [[1.0], [1.0]]


def test_profile_ratios_are_where_the_curves_rise():
    times = [[2.0, 3.0], [4.0, None], [5.0, 5.0], [None, None]]
    ratios = profile_ratios(times)
    assert ratios.tolist() == [1.0, 1.5]
    assert performance_profile(times, ratios).tolist() == [[0.75, 0.75], [0.25, 0.5]]
    assert profile_ratios([[None, None]]).tolist() == [1.0]


@pytest.mark.parametrize("times", [[], [1.0], [[-1.0, 2.0]]])
def test_profiles_need_a_table(times):
    with pytest.raises(ValueError, match=r"times must be a table \[data sets, entrants\] of at least 0; got shape"):
        performance_profile(times, [1.0])
    with pytest.raises(ValueError, match=r"performance_profile\(ratios=...\) must be a list of numbers of at least 1"):
        performance_profile([[1.0]], [0.5])


def test_holm_keeps_the_chance_of_any_false_alarm():
    alarms = sum(min(holm(list(RNG.uniform(size=6)))) < 0.05 for _ in range(4000))
    assert alarms / 4000 == pytest.approx(0.05, abs=0.012)


@given(st.lists(st.floats(0.0, 1.0), max_size=6))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values):
    corrected, level = holm(p_values), 0.1
    rejected, left = set(), dict(enumerate(p_values))
    while left and min(left.values()) * len(left) < level:
        place = min(left, key=left.__getitem__)
        rejected.add(place)
        del left[place]
    assert {place for place, value in enumerate(corrected) if value < level} == rejected
    assert all(value >= p_value for value, p_value in zip(corrected, p_values, strict=True))


def test_holm_leaves_out_what_was_not_tested():
    assert holm([None, 0.02, None]) == [None, 0.02, None]
    assert holm([]) == []
