"""What a forecast is compared with: naive forecasts, an autoregression against its normal equations, the season."""

import datetime as dt

import numpy as np
import pytest

from thalweg.data.columns.times.moments import read_moments
from thalweg.tasks.forecast.horizons import measure
from thalweg.tasks.forecast.metrics import Answers, series_metrics, verdict
from thalweg.tasks.forecast.reference import Reference, autoregression
from thalweg.tasks.forecast.rows.calendar import find_step
from thalweg.tasks.forecast.season import autocorrelation, find_season


def ar2(num=400, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    y = [0.0, 0.0]
    for _ in range(num + 50):
        y.append(3.0 + 1.2 * y[-1] - 0.5 * y[-2] + noise * rng.normal())
    return np.array(y[-num:])


def test_autoregression_solves_its_normal_equations():
    y = ar2()
    weights = autoregression(y)
    order = len(weights) - 1
    assert 2 <= order <= 6
    rows = np.array([[1.0, *y[t - order : t][::-1]] for t in range(order, len(y))])
    expected = np.linalg.solve(rows.T @ rows, rows.T @ y[order:])
    assert weights == pytest.approx(expected, rel=1e-6)
    assert weights[1:3] == pytest.approx([1.2, -0.5], abs=0.15)


def test_the_order_has_the_least_of_akaikes_criterion():
    y = ar2(120, seed=3)
    most, scores = 5, []
    for order in range(most + 1):
        rows = np.array([[1.0, *y[t - order : t][::-1]] for t in range(most, len(y))])
        residual = y[most:] - rows @ np.linalg.lstsq(rows, y[most:], rcond=None)[0]
        scores.append(len(residual) * np.log(np.mean(residual**2)) + 2 * (order + 1))
    assert len(autoregression(y, most)) - 1 == int(np.argmin(scores))


def test_forecasts_of_several_steps_by_hand():
    reference = Reference(3, "", 4, np.ones(1), (np.array([1.0, 0.5, 0.25]),))
    past = np.array([[[9.0], [1.0], [2.0], [4.0]]])
    assert reference.last(past, 4).ravel().tolist() == [4, 4, 4, 4]
    assert reference.seasonal(past, 4).ravel().tolist() == [1, 2, 4, 1]
    first = 1 + 0.5 * 4 + 0.25 * 2
    second = 1 + 0.5 * first + 0.25 * 4
    assert reference.autoregressive(past, 3).ravel() == pytest.approx([first, second, 1 + 0.5 * second + 0.25 * first])
    one = reference.one_step(past, np.array([0]))
    assert {name: values.ravel().tolist() for name, values in one.items()} == {
        "last": [4],
        "seasonal": [1],
        "ar": [first],
    }
    assert np.isnan(reference.seasonal(past[:, 2:], 2)).all()
    assert np.isnan(reference.autoregressive(past[:, 3:], 2)).all()
    again = Reference.from_dict(reference.to_dict())
    assert again.to_dict() == reference.to_dict()


def test_autocorrelation_by_its_definition():
    y = ar2(60)
    c = y - y.mean()
    expected = [1.0, *((c[k:] * c[:-k]).sum() / (c @ c) for k in range(1, 20))]
    assert autocorrelation(y, 19) == pytest.approx(expected)
    assert autocorrelation(np.ones(9), 3).tolist() == [1, 0, 0, 0]


def monthly(num):
    return [f"{1990 + t // 12}-{t % 12 + 1:02}" for t in range(num)]


def daily(num, step=1):
    return [str(dt.date(2001, 1, 1) + dt.timedelta(days=step * t)) for t in range(num)]


TIME = np.arange(240)
NOISE = np.random.default_rng(5).normal(size=240)
SEASONS = {
    "monthly with a trend": (0.5 * TIME + 5 * np.sin(TIME * np.pi / 6) + 0.3 * NOISE, monthly(240), 12),
    "monthly without a season": (np.cumsum(NOISE), monthly(240), 1),
    "another length than the dates'": (np.sin(TIME * 2 * np.pi / 9) + 0.2 * NOISE, monthly(240), 9),
    "a week": (np.where(TIME % 7 < 5, 3.0, 0.0) + 0.5 * NOISE, daily(240), 7),
    "no dates": (np.sin(TIME * 2 * np.pi / 24) + 0.3 * NOISE, [str(t) for t in TIME], 24),
    "noise": (NOISE, [], 1),
    "a random walk": (np.cumsum(NOISE), [], 1),
    "a trend": (TIME * 1.0, [], 1),
    "three rows": (TIME[:3] * 1.0, [], 1),
}


def frequency(labels):
    moments = read_moments(labels, named=True)
    step = find_step(moments.instants) if moments is not None else None
    return "" if step is None else step.name


@pytest.mark.parametrize("case", SEASONS)
def test_season(case):
    values, labels, expected = SEASONS[case]
    season, why = find_season(np.asarray(values)[:, None], frequency(labels))
    assert season == expected, why


def test_metrics_by_hand():
    answers = Answers(
        forecast=np.array([[1.0], [2.0], [3.0], [5.0]]),
        actual=np.array([[1.0], [3.0], [3.0], [5.0]]),
        last=np.array([[3.0], [1.0], [3.0], [3.0]]),
        seasonal=np.array([[np.nan], [2.0], [2.0], [5.0]]),
        autoregressive=np.array([[1.0], [1.0], [3.0], [5.0]]),
        covered=np.array([[1.0], [0.0], [1.0], [1.0]]),
    )
    spread = 8.0  # sum of squares around 3
    expected = {
        "skill": 1 - (1 / 4) / (2 / 3),
        "mase": (1 / 4) / 0.5,
        "mae": 1 / 4,
        "nmse": 1 / spread,
        "naive_nmse": 12 / spread,
        "seasonal_naive_nmse": (2 / 3) / (spread / 4),
        "ar_nmse": 4 / spread,
        "coverage": 3 / 4,
    }
    assert series_metrics(("y",), answers, np.array([0.5])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("skill", "words"),
    [(-0.5, "Worse than naive: the mean squared error is 50.0% above"), (0.25, "25.0% below"), (0.0, "As good as")],
)
def test_the_verdict_is_plain(skill, words):
    assert words in verdict({"skill": skill}, 12)
    assert "a season ago" in verdict({"skill": skill}, 12)
    assert "a season ago" not in verdict({"skill": skill}, 1)
    assert verdict({"skill": float("nan")}, 1) == ""


@pytest.mark.parametrize(("nmse", "words"), [(0.0, "As good as naive: "), (0.1, "Worse than naive: ")])
def test_the_verdict_beside_an_exact_naive_forecast(nmse, words):
    metrics = {"skill": float("nan"), "nmse": nmse, "naive_nmse": 4.0, "seasonal_naive_nmse": 0.0}
    told = verdict(metrics, 2)
    assert told == f"{words}the better of the last value and the value a season ago is exact here."


def test_horizons_by_hand():
    reference = Reference(1, "", 2, np.ones(1), (np.array([0.0, 1.0]),))
    past = np.array([[[1.0]], [[2.0]], [[4.0]]])
    future = np.array([[[2.0], [4.0]], [[4.0], [7.0]], [[7.0], [np.nan]]])
    found = measure(
        lambda rows, steps: rows[:, -1:] + np.arange(1, steps + 1)[None, :, None],
        lambda forecast, actual: (np.abs(forecast - actual) <= 0.5).astype(float),
        reference, past, future,
    )  # fmt: skip
    # One step: 2, 3, 5 for 2, 4, 7; two steps: 3, 4 for 4, 7.
    assert found.counts.tolist() == [3, 2]
    assert found.mse["model"].ravel() == pytest.approx([5 / 3, 10 / 2])
    assert found.mse["last value"].ravel() == pytest.approx([14 / 3, 34 / 2])
    assert found.mse["AR"].ravel() == pytest.approx([14 / 3, 34 / 2])
    assert found.skill == pytest.approx([1 - 5 / 14, 1 - 10 / 34])
    assert found.coverage is not None
    assert found.coverage.ravel() == pytest.approx([1 / 3, 0])
    assert found.metrics() == pytest.approx({"skill 2 ahead": 1 - 10 / 34})
