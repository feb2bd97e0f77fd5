"""The rolling origin against a plain loop, what is chosen on series that are known, and how sure that is."""

import numpy as np
import pytest

from thalweg.tasks.forecast.autoregression.equation import Scaled, fit_equation, predicted
from thalweg.tasks.forecast.autoregression.form import Form
from thalweg.tasks.forecast.autoregression.linear import choose_linear
from thalweg.tasks.forecast.autoregression.rolling import Rolling, choose, following, horizon, standard_error
from thalweg.tasks.forecast.reference import Reference
from thalweg.tasks.forecast.rows.series import Series


def walk(num, seed=0):
    return np.cumsum(np.random.default_rng(seed).normal(size=(num, 1)), 0)


@pytest.mark.parametrize("log", [False, True])
def test_rolling_origin_is_a_loop_over_rows(log):
    y = np.exp(0.05 * walk(60) + 1.0)
    observed = np.ones_like(y, dtype=bool)
    observed[45] = False
    form, l2, steps = Form(log=log, seasonal=1, season=4, lags=(1, 3)), 0.01, 3
    rolling = Rolling(y, observed, 30, steps, 3)
    found = rolling.all_steps(form, l2)
    assert found.errors.shape == (3, 30, 1)
    z = np.log(y) if log else y
    for row in range(30, 60):
        begin = 30 + (row - 30) // 10 * 10  # what is before this row is fitted
        scaled = Scaled.fit(form, z[:begin])
        fitted = fit_equation(scaled, z[:begin], np.array([l2]))
        ahead = scaled.ahead(lambda features, fitted=fitted: predicted(features, *fitted)[0], z[None, :row], steps)[0]
        for step in range(steps):
            error, in_levels = found.errors[step, row - 30, 0], found.levels[step, row - 30, 0]
            if row + step >= 60 or row + step == 45:
                assert np.isnan(error)
                assert np.isnan(in_levels)
            else:
                forecast = np.exp(ahead[step, 0]) if log else ahead[step, 0]
                assert error == pytest.approx(forecast - y[row + step, 0])
                assert in_levels == pytest.approx(ahead[step, 0] - z[row + step, 0])
    one = rolling.one_step(form, np.array([1.0, l2]))
    assert one[1] == pytest.approx(found.errors[0], nan_ok=True)


def test_following_rows():
    values = np.arange(5.0)[:, None]
    found = following(values, 2, 5, 3)[:, :, 0]
    assert found == pytest.approx(np.array([[2, 3, 4], [3, 4, np.nan], [4, np.nan, np.nan]]), nan_ok=True)
    assert [horizon(n) for n in (5, 40, 1000)] == [1, 4, 24]


def test_standard_error_against_the_double_sum():
    rng = np.random.default_rng(2)
    values = np.convolve(rng.normal(size=90), np.ones(4))
    n, c = len(values), values - values.mean()
    length = 2 * round(n ** (1 / 3))
    total = sum(
        max(0.0, 1 - abs(i - j) / length) * c[i] * c[j] for i in range(n) for j in range(n)
    )  # fmt: skip
    assert standard_error(values) == pytest.approx(np.sqrt(total) / n)
    assert standard_error(rng.normal(size=4000)) == pytest.approx(1 / np.sqrt(4000), rel=0.2)


def test_nothing_beats_the_last_value_on_random_walks():
    kept = [choose(walk(150, seed), None, 1) for seed in range(6)]
    naive = sum(choice is not None and choice.kept.form.is_naive for choice in kept)
    assert naive >= 3
    for choice in kept:
        assert choice is not None
        assert choice.score <= 1.0 + 1e-12


def test_a_season_and_an_autoregression_are_found():
    rng = np.random.default_rng(1)
    time = np.arange(160)
    seasonal = (10 + 3 * np.sin(time * 2 * np.pi / 8) + 0.05 * time + 0.2 * rng.normal(size=160))[:, None]
    choice = choose(seasonal, None, 8)
    assert choice is not None
    assert choice.kept.form.seasonal == 1 or max(choice.kept.form.lags) >= 7
    assert choice.score < 0.9
    y = [0.0, 0.0]
    for _ in range(300):
        y.append(1.5 * y[-1] - 0.8 * y[-2] + rng.normal())
    choice = choose(np.array(y)[100:, None], None, 1)
    assert choice is not None
    assert not choice.kept.form.is_naive
    assert choice.score < 0.6


@pytest.mark.parametrize("num", [1, 2, 3, 5, 8, 12])
def test_few_rows(num):
    choice = choose(walk(num), None, 1)
    if choice is None:
        assert num < 4
    else:
        assert np.isfinite(choice.score)


def test_lags_that_were_asked_for_are_taken():
    choice = choose(walk(80), None, 1, lags=3)
    assert choice is not None
    assert choice.kept.form.lags == (1, 2, 3)


def test_the_penalty_that_suited_the_last_rows_suits_a_series_that_has_grown_for_longer():
    rng, time = np.random.default_rng(0), np.arange(10_000)
    y = 0.1 * time + 10.0 * np.sin(2.0 * np.pi * time / 24) + rng.normal(size=10_000)
    train = Series("grows", ("y",), y[:9000, None], [str(row) for row in time[:9000]])
    found = choose_linear(train, Reference.fit(train.values), 0)
    weights, bias = fit_equation(found.scaled, found.form.levels(train.values), np.array([found.l2]))
    past = found.form.levels(np.lib.stride_tricks.sliding_window_view(y[8900:9999], 100)[:, :, None])
    ahead = found.scaled.ahead(lambda features: predicted(features, weights, bias)[0], past, 1)
    assert ((found.form.values(ahead)[:, 0, 0] - y[9000:]) ** 2).mean() < 1.1, "with the same penalty it is 1.27"
