import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.report.comparison.tuning import best_quantile, expected_best, share_near_best

SCORES = st.lists(st.one_of(st.none(), st.floats(-100, 100)), min_size=1, max_size=7)


@given(SCORES)
def test_expected_best_is_the_mean_over_all_subsets(scores):
    values = [math.inf if score is None else score for score in scores]
    for k, found in enumerate(expected_best(scores), 1):
        bests = [min(subset) for subset in itertools.combinations(values, k)]
        assert found == pytest.approx(statistics.fmean(bests), abs=1e-9)


@given(SCORES, st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9]))
def test_best_quantile_is_the_one_over_all_subsets(scores, quantile):
    values = [math.inf if score is None else score for score in scores]
    for k, found in enumerate(best_quantile(scores, quantile), 1):
        bests = sorted(min(subset) for subset in itertools.combinations(values, k))
        assert found == bests[math.ceil(quantile * len(bests) - 1e-9) - 1]


def test_a_thousand_trials_are_no_trouble():
    found = expected_best([float(i) for i in range(1000)])
    for k in (1, 2, 500, 999):
        assert found[k - 1] == pytest.approx(
            1001 / (k + 1) - 1
        )  # the mean of the smallest of k of the numbers 0 to N - 1
    assert found[-1] == 0.0


def test_diverged_trials_are_the_worst_and_not_left_out():
    assert expected_best([None, math.nan, math.inf]) == [math.inf] * 3
    assert best_quantile([None, 1.0, None, None], 0.5) == [math.inf, 1.0, 1.0, 1.0]
    assert expected_best([]) == []


@pytest.mark.parametrize("k_max", [-1, 3])
def test_more_trials_than_were_run_are_refused(k_max):
    with pytest.raises(
        ValueError, match=rf"expected_best\(k_max=...\) must be at most the number of trials, 2; got {k_max}"
    ):
        expected_best([1.0, 2.0], k_max)


CASES = {
    "all near": ([0.1, 1.0], [1.0, 1.01], 0.05, 1.0),
    "half of the second stretch": ([0.01, 0.1, 1.0], [1.0, 1.0, 1.2], 0.1, 0.75),
    "from both sides": ([0.01, 0.1, 1.0], [2.0, 1.0, 2.0], 0.5, 0.5),
    "beside a diverged trial nothing counts": ([0.01, 0.1, 1.0], [1.0, 1.0, None], 0.1, 0.5),
    "negative losses": ([0.1, 1.0], [-1.0, -0.5], 0.25, 0.5),
    "the better of two trials of one rate": ([0.1, 0.1, 1.0], [None, 1.0, 1.0], 0.0, 1.0),
    "one rate": ([0.1, 0.1], [1.0, 2.0], 0.1, None),
    "all diverged": ([0.1, 1.0], [None, math.nan], 0.1, None),
    "no trials": ([], [], 0.1, None),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_share_near_best(case):
    rates, losses, tolerance, expected = case
    assert share_near_best(rates, losses, tolerance) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.tuples(st.sampled_from([0.001, 0.01, 0.02, 0.3, 1.0]), st.floats(0.5, 2.0)), min_size=2, max_size=6))
def test_share_near_best_counts_the_points_of_a_fine_grid(trials):
    rates, losses = zip(*trials, strict=True)
    found = share_near_best(rates, losses, 0.2)
    least = {rate: min(loss for other, loss in trials if other == rate) for rate in rates}
    if len(least) < 2:
        assert found is None
        return
    points = sorted((math.log(rate), loss) for rate, loss in least.items())
    limit, near, num = 1.2 * min(losses), 0, 1000
    for i in range(num):
        x = points[0][0] + (i + 0.5) / num * (points[-1][0] - points[0][0])
        place = max(j for j in range(len(points) - 1) if points[j][0] <= x)
        (left, start), (right, end) = points[place : place + 2]
        near += start + (end - start) * (x - left) / (right - left) <= limit
    assert found == pytest.approx(near / num, abs=0.008)
