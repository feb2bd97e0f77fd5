"""A linear forecast from a file to answers: the optimum by NumPy, intervals, gaps, several series, messages."""

import csv
import json

import numpy as np
import pytest

from thalweg import load, train
from thalweg.data.files.base import AbstractSource
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.tasks.base import Settings
from thalweg.tasks.forecast.answers import lines_of
from thalweg.tasks.forecast.autoregression.equation import fit_equation
from thalweg.tasks.forecast.rows.reading import Layout, examined, read_series
from thalweg.tasks.forecast.task import Forecast


def write(path, columns):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def months(num):
    return [f"{1990 + t // 12}-{t % 12 + 1:02}" for t in range(num)]


def seasonal(num=120, seed=0):
    rng, time = np.random.default_rng(seed), np.arange(num)
    return (50 + 0.3 * time + 8 * np.sin(time * np.pi / 6) + rng.normal(size=num)).round(3)


def settings(series=("y",), *, lags=0, share=0.2, time=None):
    columns = {"series": list(series)} | ({"time": time} if time else {})
    return Settings(columns, share, (), "word", 100, 0, 16, lags, "range", "differences")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("linear")
    path = write(folder / "series.csv", {"month": months(120), "y": seasonal()})
    return train(path, out=folder / "runs", task="forecast")


def test_the_weights_are_the_ridge_regression_of_the_training_part(run):
    assert (run.recipe.model.model, run.recipe.training.optimizer) == ("ar", "least-squares")
    linear = run.task.linear
    assert run.recipe.training.l2 == linear.l2
    train_rows = seasonal()[:108, None]
    weights, bias = fit_equation(linear.scaled, linear.form.levels(train_rows), np.array([linear.l2]))
    assert run.head.output.weight.detach().numpy() == pytest.approx(weights[0].T, rel=1e-6)
    if linear.form.drift:
        assert run.head.output.bias.detach().numpy() == pytest.approx(bias[0, 0], rel=1e-6, abs=1e-9)
    certificate = run.result["certificate"]
    assert 0.0 <= certificate["relative_gap"] <= 1e-8
    assert linear.form.name in linear.told


def test_metrics_are_those_of_the_forecasts_beside_the_naive_ones(run):
    y = seasonal()
    forecast = [run.predict([y[:row].tolist()])[0]["forecast"][0] for row in range(108, 120)]
    error, last, ago = (np.mean((np.array(f) - y[108:]) ** 2) for f in (forecast, y[107:119], y[96:108]))
    metrics = run.metrics
    assert metrics["skill"] == pytest.approx(1.0 - error / min(last, ago), rel=1e-6)
    assert metrics["skill"] > 0.0
    scale = np.abs(y[12:108] - y[:96]).mean()
    assert metrics["mase"] == pytest.approx(np.abs(np.array(forecast) - y[108:]).mean() / scale, rel=1e-6)
    assert metrics["seasonal_naive_nmse"] == pytest.approx(ago / y[108:].var(), rel=1e-6)
    assert run.result["verdict"].startswith("The mean squared error is")
    assert set(run.metrics) - {f"skill {step} ahead" for step in (3, 6, 10)} == set(run.task.explanations)


def test_intervals_hold_the_forecast_and_end_with_what_was_measured(run):
    (answer,) = run.predict([{"values": seasonal().tolist(), "steps": 14}])
    assert len(answer["forecast"]) == len(answer["low"]) == len(answer["high"]) == 14
    for forecast, low, high in list(zip(answer["forecast"], answer["low"], answer["high"], strict=True))[:10]:
        assert low < forecast < high
    assert answer["low"][10:] == answer["high"][10:] == [None] * 4
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    lines = run.task.lines_of(answer)
    assert len(lines) == 14
    assert "[" in lines[0]
    assert "[" not in lines[13]
    y = seasonal()
    answers = [run.predict([y[:row].tolist()])[0] for row in range(108, 120)]
    inside = [one["low"][0] <= y[row] <= one["high"][0] for row, one in zip(range(108, 120), answers, strict=True)]
    assert run.metrics["coverage"] == pytest.approx(np.mean(inside))


def test_a_loaded_run_answers_the_same_and_evaluates(run, tmp_path):
    again = load(run.folder)
    assert again.predict([seasonal().tolist()]) == run.predict([seasonal().tolist()])
    found = again.evaluate(write(tmp_path / "later.csv", {"month": months(60), "y": seasonal(60, seed=1)}))
    assert found.metrics["skill"] > 0.0
    assert "skill 3 ahead" in found.metrics
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    for words in ("Errors by steps ahead", "95 % interval", run.task.linear.form.name, "NMSE of AR"):
        assert words in page


def test_a_recipe_repeats_the_run(run, tmp_path):
    again = train(run.folder / "recipe.toml", out=tmp_path)
    assert again.metrics == run.metrics
    assert again.recipe.training.l2 == run.recipe.training.l2


def test_options_about_a_network_mean_the_network(tmp_path):
    path = write(tmp_path / "series.csv", {"y": seasonal()})
    for options in ({"optimizer": "adamw"}, {"hidden": 4}, {"scaling": "standard"}, {"steps": 3}):
        found = train(path, out=tmp_path / "runs", task="forecast", fast=True, **options)
        assert (found.recipe.model.model, found.recipe.data.lags) == ("mlp", 10)
    assert train(path, out=tmp_path / "runs", task="forecast", lags=4).task.linear.form.lags == (1, 2, 3, 4)
    assert "low" not in found.predict([seasonal().tolist()])[0]


def test_several_series_and_missing_values(tmp_path):
    rng = np.random.default_rng(0)
    first = np.cumsum(rng.normal(size=90))
    columns = {"a": [f"{v:.3f}" for v in first], "b": [f"{v:.3f}" for v in np.roll(first, 1) + rng.normal(size=90)]}
    for row in (0, 30, 31, 80, 89):
        columns["b"][row] = ""
    path = write(tmp_path / "two.csv", columns)
    found = train(path, out=tmp_path / "runs", task="forecast")
    (series,) = read_series(open_source(path), Layout(("a", "b")))
    assert len(series) == 88
    (answer,) = found.predict([{"values": series.values.tolist(), "steps": 2}])
    assert [set(step) for step in answer["forecast"]] == [{"a", "b"}] * 2
    assert found.task.lines_of(answer)[0].startswith("a: ")
    assert {"skill a", "skill b", "mase b"} <= set(found.metrics)


class Rows(AbstractSource):
    """A source of one column, as a task reads it."""

    kind, name, columns, notes = "sample", "table", ("y",), ()

    def __init__(self, values):
        self.values = list(values)

    def chunks(self, size=1000):
        from thalweg.data.files.base import Chunk

        yield Chunk(("y",), range(2, 2 + len(self.values)), (tuple(self.values),))


@pytest.mark.parametrize("num", [5, 6, 8, 10, 14, 25])
def test_short_series_have_an_answer(num):
    task, prepared = Forecast.prepare(Rows(np.random.default_rng(num).normal(size=num)), None, settings())
    assert len(prepared.train) >= 1
    assert len(prepared.valid) >= 2
    if num < 40:
        assert not task.has_intervals


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0] * 30, {}, "column 'y' is 1 in all 24 rows of the training part"),
        (range(4), {}, "table: 1 lag and a validation part of 20% need at least 5 rows; got 4. Give more rows"),
        (np.sin(np.arange(20.0)), {"lags": 8}, "table: 8 lags cannot be tried on a rolling origin in 16 rows"),
    ],
)
def test_unusable_series_are_refused(values, options, message):
    with pytest.raises(InputError, match=message):
        Forecast.prepare(Rows(values), None, settings(**options))


def test_exact_series_are_exact(tmp_path):
    """A straight line leaves no error at all, and nothing breaks."""
    found = train(
        write(tmp_path / "line.csv", {"y": [3.0 + 2.0 * t for t in range(60)]}), out=tmp_path, task="forecast"
    )
    assert found.predict([[3.0, 5.0, 7.0, 9.0] * 30])[0]["forecast"]
    assert found.metrics["nmse"] < 1e-6
    assert found.metrics["skill"] > 0.999


def test_an_exact_naive_forecast_is_kept(tmp_path):
    """Nothing can be better than a season that repeats, and nothing overflows beside its error of 0."""
    path = write(tmp_path / "season.csv", {"y": [t % 4 for t in range(80)]})
    found = train(path, out=tmp_path, task="forecast")
    assert found.metrics["nmse"] == 0.0
    verdict = found.result["verdict"]
    assert verdict.startswith("As good as naive: "), verdict
    assert "is exact here (nmse 0.000 on 8 forecasts)" in verdict
    assert "kept: the value a season (4 rows) ago" in verdict


def test_logarithms_wait_for_positive_numbers_in_both_parts():
    """A zero that is held out is no reason to fail, and none to be told of a choice that is impossible."""
    values = np.exp(0.02 * np.arange(120) + 0.3 * seasonal() / 10)
    task, prepared = Forecast.prepare(Rows(values), None, settings())
    assert task.linear.form.log
    assert task.describe(prepared).startswith(f"{len(prepared.train)} rows of y ("), "not the held-out ones"
    values[-3] = 0.0
    task, prepared = Forecast.prepare(Rows(values), None, settings())
    assert not task.linear.form.log
    assert "Some of the held-out numbers are not positive, so no logarithm is tried." in prepared.notes


def test_forecasts_are_written_as_finely_as_their_intervals():
    answer = {"time": ["a", "b"], "forecast": [10109.27, 10110.31], "low": [10107.1, None], "high": [10111.3, None]}
    assert lines_of(answer) == ["a  10109.3  [10107.1, 10111.3]", "b  10110.3"]
    one = {"forecast": [{"x": 1.08754, "y": 0.0}], "low": [{"x": 1.0874, "y": -2.0}], "high": [{"x": 1.0876, "y": 2.0}]}
    assert lines_of(one) == ["x: 1.08754  [1.0874, 1.0876]  y: 0  [-2, 2]"]


def test_an_empty_cell_is_filled_where_a_forecast_is_asked_for_as_in_training(run, tmp_path):
    y = seasonal().tolist()
    holed = write(tmp_path / "holed.csv", {"month": months(120), "y": [*y[:100], "", *y[101:119], ""]})
    between = [*y[:100], (y[99] + y[101]) / 2, *y[101:119]]
    (answer,) = run.predict(holed)
    assert answer["time"] == ["1999-12"]
    assert answer["forecast"] == run.predict([between])[0]["forecast"]


def test_validation_rows_that_were_in_training_are_told(tmp_path):
    whole = {"month": months(120), "y": seasonal().tolist()}

    def told(first, last, begin=0):
        files = [
            write(tmp_path / f"{name}.csv", {key: values[slice(*part)] for key, values in whole.items()})
            for name, part in (("t", (begin, 90)), ("v", (first, last)))
        ]
        sources = [open_source(path) for path in files]
        return " ".join(Forecast.prepare(*sources, settings(lags=2, time="month"))[1].notes)

    assert "v.csv measures with are in the training data, too (the first is " in told(40, 120)
    assert "v.csv ends before the training data do" in told(0, 40, begin=50)
    for found in (told(90, 120), told(75, 120)):
        assert "training data" not in found, "rows of context are nothing to be told"


@pytest.mark.parametrize(("later", "said"), [
    (0, "'b' holds the same numbers as 'a'."),
    (2, "'b' holds in each row what 'a' holds 2 rows later, so what comes next in 'a' is known beforehand;"),
])  # fmt: skip
def test_columns_that_hold_what_others_do_are_told(tmp_path, later, said):
    y = seasonal(122).tolist()
    path = write(tmp_path / "t.csv", {"a": y[:120], "b": y[later : 120 + later]})
    assert examined(open_source(path), {"series": ("a", "b")}, gaps="auto", day_first=None)[0].startswith(said)
