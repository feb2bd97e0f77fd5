"""Forecasts: windows, scaling, the split in time, metrics against sklearn, answers, messages, a small training."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error
from tests.folders import put_files

from thalweg.data.files.base import AbstractSource, Chunk
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.models.presets import ModelOptions, window_lstm, window_mlp
from thalweg.tasks.base import HeadOptions, Settings
from thalweg.tasks.forecast.metrics import ForecastMeter
from thalweg.tasks.forecast.task import Forecast
from thalweg.tasks.questions import AnswerOptions


class Table(AbstractSource):
    """Columns in memory."""

    kind = "sample"

    def __init__(self, name="table", **columns):
        self.name = name
        self.columns = tuple(columns)
        self.values = [list(values) for values in columns.values()]

    def chunks(self, size=7):
        for start in range(0, len(self.values[0]), size):
            part = tuple(values[start : start + size] for values in self.values)
            yield Chunk(self.columns, range(start + 2, start + 2 + len(part[0])), part)


def settings(series=("y",), *, lags=3, scaling="range", share=0.2, time=None):
    columns = {"series": list(series)} | ({"time": time} if time else {})
    return Settings(columns, share, (), "word", 100, 0, 16, lags, scaling, "window")


def wave(num=60):
    return [10 + 5 * math.sin(0.7 * t) for t in range(num)]


def networks(task, build=window_mlp, seed=0, **options):
    torch.manual_seed(seed)
    model = build(task.shape(), ModelOptions(**({"hidden": 8, "layers": 1, "dropout": 0.0} | options)))
    return model, task.head(model, HeadOptions())


def everything(task, examples):
    return task.batch(examples, np.arange(len(examples)))


def test_windows_hold_the_lags_before_each_target():
    task, prepared = Forecast.prepare(
        Table(a=range(20), b=range(100, 120)), None, settings(("a", "b"), lags=3, scaling="none")
    )
    batch = everything(task, prepared.train)
    assert len(prepared.train) == 13
    assert len(prepared.valid) == 4
    assert batch.inputs["features"].shape == (13, 3, 2)
    assert batch.inputs["features"][5].tolist() == [[5, 105], [6, 106], [7, 107]]
    assert batch.targets[5].tolist() == [8, 108]
    # The first window of the validation part reaches back into the training part.
    held_out = task.batch(prepared.valid, np.array([0]))
    assert held_out.inputs["features"][0, :, 0].tolist() == [13, 14, 15]
    assert held_out.targets[0].tolist() == [16, 116]


def test_batch_with_indices_in_any_order():
    task, prepared = Forecast.prepare(Table(y=range(20)), None, settings(scaling="none"))
    batch = task.batch(prepared.train, np.array([4, 0]))
    assert batch.inputs["features"][:, :, 0].tolist() == [[4, 5, 6], [0, 1, 2]]
    assert batch.targets.tolist() == [[7], [3]]
    assert batch.inputs["features"].dtype == torch.float32


def test_scaling_is_fitted_on_the_training_part_only():
    values = [*range(16), 1000, 2000, 3000, 4000]
    task, prepared = Forecast.prepare(Table(y=values), None, settings(scaling="range"))
    scaling = task.reader.scaling
    assert scaling.forward(np.array([[0.0], [15.0]])).ravel().tolist() == [-1.0, 1.0]
    targets = everything(task, prepared.valid).targets.double().numpy()
    assert scaling.inverse(targets).ravel() == pytest.approx([1000, 2000, 3000, 4000], rel=1e-6)


def test_preparing_twice_gives_the_same():
    first, second = (Forecast.prepare(Table(y=wave()), None, settings())[1] for _ in range(2))
    for part in ("train", "valid"):
        for column in ("features", "targets"):
            assert np.array_equal(getattr(first, part).columns[column], getattr(second, part).columns[column])


def test_valid_file_is_used_whole_and_scaled_like_training():
    task, prepared = Forecast.prepare(
        Table(y=range(20)), Table(name="later", y=range(30, 40)), settings(scaling="none")
    )
    assert len(prepared.train) == 17
    assert everything(task, prepared.valid).targets.ravel().tolist() == [33, 34, 35, 36, 37, 38, 39]
    assert "later" in prepared.notes[1]


def test_examples_of_another_file_and_its_columns():
    task, _ = Forecast.prepare(Table(y=range(20)), None, settings(scaling="none"))
    examples, notes = task.examples(Table(z=range(50, 58)), {"series": ["z"]})
    assert everything(task, examples).targets.ravel().tolist() == [53, 54, 55, 56, 57]
    assert "3 rows" in notes[0]
    with pytest.raises(InputError, match="expected 1 columns to forecast, got 2"):
        task.examples(Table(y=range(9), z=range(9)), {"series": ["y", "z"]})


@pytest.mark.parametrize("scaling", ["standard", "range", "none"])
def test_metrics_equal_sklearn_in_the_original_unit(scaling):
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(80, 2)), 0) * [3.0, 0.001] + [500.0, 0.01]
    source = Table(a=values[:, 0], b=values[:, 1])
    task, prepared = Forecast.prepare(source, None, settings(("a", "b"), scaling=scaling))
    meter = task.meter()
    guesses = []
    for start in range(0, len(prepared.valid), 5):
        batch = task.batch(prepared.valid, np.arange(start, min(start + 5, len(prepared.valid))))
        guess = batch.targets + torch.randn(batch.targets.shape, generator=torch.Generator().manual_seed(start)) * 0.1
        guesses.append(guess)
        meter.update(guess, batch)
    metrics = meter.compute()
    true = values[-len(prepared.valid) :]
    last = values[-len(prepared.valid) - 1 : -1]
    predicted = task.reader.scaling.inverse(torch.cat(guesses).double().numpy())
    for i, name in enumerate("ab"):
        expected = mean_squared_error(true[:, i], predicted[:, i]) / true[:, i].var()
        assert metrics[f"nmse {name}"] == pytest.approx(expected, rel=1e-3)
        assert metrics[f"mae {name}"] == pytest.approx(mean_absolute_error(true[:, i], predicted[:, i]), rel=1e-3)
    naive = np.mean([mean_squared_error(true[:, i], last[:, i]) / true[:, i].var() for i in (0, 1)])
    assert metrics["naive_nmse"] == pytest.approx(naive, rel=1e-3)
    assert metrics["nmse"] == pytest.approx((metrics["nmse a"] + metrics["nmse b"]) / 2)
    skill = np.mean(
        [
            1.0 - mean_squared_error(true[:, i], predicted[:, i]) / mean_squared_error(true[:, i], last[:, i])
            for i in (0, 1)
        ]
    )
    assert metrics["skill"] == pytest.approx(skill, rel=1e-6)
    changes = np.abs(np.diff(values[: -len(prepared.valid)], axis=0)).mean(0)
    mase = np.mean([metrics["mae a"] / changes[0], metrics["mae b"] / changes[1]])
    assert metrics["mase"] == pytest.approx(mase, rel=1e-6)
    assert metrics.keys() == task.explanations.keys()


def test_meter_of_one_series_by_hand():
    task, prepared = Forecast.prepare(
        Table(y=[0, 1, 2, 3, 4, 0, 4, 2]), None, settings(lags=2, scaling="none", share=0.4)
    )
    batch = everything(task, prepared.valid)
    assert batch.targets.ravel().tolist() == [0, 4, 2]
    meter = task.meter()
    assert isinstance(meter, ForecastMeter)
    meter.update(torch.tensor([[1.0], [4.0], [2.0]]), batch)
    # Squared error 1, variance sum 8; the last values 4, 0, 4 miss by 4, 4, 2.
    # In the training part, 0 ... 4, the mean change is 1; the autoregression of order 1 is exact there.
    found = meter.compute()
    assert found.pop("ar_nmse") == pytest.approx((25 + 9 + 9) / 8, rel=1e-6)
    assert found == pytest.approx(
        {"skill": 1 - 1 / 36, "mase": 1 / 3, "mae": 1 / 3, "nmse": 1 / 8, "naive_nmse": 36 / 8}
    )


def test_save_and_load_answer_the_same(tmp_path):
    task, _ = Forecast.prepare(Table(a=wave(), b=wave()[::-1]), None, settings(("a", "b"), time="year"))
    model, head = networks(task)
    put_files(tmp_path, task.files())
    again = Forecast.load(tmp_path, settings(("a", "b")))
    inputs = [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "1 2; 3 4; 5 6; 7 8"]
    assert again.predict(model, head, inputs, AnswerOptions()) == task.predict(model, head, inputs, AnswerOptions())
    assert (again.columns, again.lags, again.time) == (("a", "b"), 3, "year")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "forecast.json is missing"),
        ("{", "forecast.json is damaged"),
        ('{"lags": 3}', "forecast.json is damaged"),
    ],
)
def test_load_names_the_damaged_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "forecast.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Forecast.load(tmp_path, settings())


def test_saved_file_holds_plain_json(tmp_path):
    task, _ = Forecast.prepare(Table(y=wave()), None, settings())
    put_files(tmp_path, task.files())
    assert json.loads((tmp_path / "forecast.json").read_text())["columns"] == ["y"]


def test_predict_takes_numbers_texts_and_rows_and_uses_the_last_lags():
    task, _ = Forecast.prepare(Table(y=wave()), None, settings())
    model, head = networks(task)
    answers = task.predict(
        model, head, [[1, 2, 3], [9, 1, 2, 3], "1, 2, 3", [[1], [2], [3]], np.array([1.0, 2.0, 3.0])], AnswerOptions()
    )
    forecasts = [answer["forecast"] for answer in answers]
    np.testing.assert_allclose(forecasts, forecasts[:1] * len(forecasts), rtol=1e-6)  # rows of a batch round otherwise
    assert len(answers[0]["forecast"]) == 1
    assert task.predict(model, head, [], AnswerOptions()) == []


def test_predict_several_steps_reads_its_own_forecasts():
    task, _ = Forecast.prepare(Table(y=wave()), None, settings())
    model, head = networks(task)
    start = [10.0, 12.0, 14.0]
    (answer,) = task.predict(model, head, [{"values": start, "steps": 3}], AnswerOptions())
    rolled = list(start)
    for _ in range(3):
        rolled += task.predict(model, head, [rolled], AnswerOptions())[0]["forecast"]
    assert answer["forecast"] == pytest.approx(rolled[3:], rel=1e-5)


def test_predict_several_series_names_them():
    task, _ = Forecast.prepare(Table(a=wave(), b=wave()[::-1]), None, settings(("a", "b")))
    model, head = networks(task)
    (answer,) = task.predict(model, head, [{"values": [[1, 2], [3, 4], [5, 6]], "steps": 2}], AnswerOptions())
    assert [set(step) for step in answer["forecast"]] == [{"a", "b"}, {"a", "b"}]


def test_predict_leaves_the_mode_as_it_was():
    task, _ = Forecast.prepare(Table(y=wave()), None, settings())
    model, head = networks(task, dropout=0.5)
    model.train()
    answers = [task.predict(model, head, [[1, 2, 3]], AnswerOptions()) for _ in range(2)]
    assert answers[0] == answers[1]
    assert model.training


NO_WINDOWS = [
    ([1, 2], r"Input 1: expected at least 3 numbers \(lags\); got 2"),
    ("1 2 x", "got 'x' among them"),
    ([1, 2, float("nan")], "Input 1: expected numbers, oldest first"),
    ([[1, 2], [3, 4], [5, 6]], "Input 1: expected numbers, oldest first"),
    (["a", "b", "c"], "Input 1: expected numbers, oldest first"),
    ({"values": [1, 2, 3], "steps": 0}, "steps must be a whole number from 1 to 200; got 0"),
    ({"values": [1, 2, 3], "steps": 201}, "steps must be a whole number from 1 to 200; got 201"),
    ({"steps": 1}, "Input 1: expected numbers, oldest first"),
    (None, "Input 1: expected numbers, oldest first"),
    ([10**400, 2, 3], "Input 1: expected numbers, oldest first"),
    ({"values": [1, 2, 3], "times": 3}, "Input 1: expected a list as times; got '3'"),
    ([1e300, 2, 3], "expected numbers of a size that fits the training data"),
]


def test_predict_refuses_what_is_no_window():
    task, _ = Forecast.prepare(Table(y=wave()), None, settings())
    model, head = networks(task)
    for value, message in NO_WINDOWS:
        with pytest.raises(InputError, match=message):
            task.predict(model, head, [value], AnswerOptions())


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("abc", r"data.csv, line 4: expected a number in column 'y', got 'abc'"),
        ("inf", r"data.csv, line 4: expected a number in column 'y', got 'inf'"),
        ("1_0", r"data.csv, line 4: expected a number in column 'y', got '1_0'"),
    ],
)
def test_bad_numbers_are_named_with_file_and_line(tmp_path, cell, message):
    path = tmp_path / "data.csv"
    rows = [f"{1900 + t},{value:.3f}" for t, value in enumerate(wave())]
    rows[2] = f"1902,{cell}"
    path.write_text("\n".join(["year,y", *rows]) + "\n")
    with pytest.raises(InputError, match=message):
        Forecast.prepare(open_source(path), None, settings())


def write_rows(path, rows):
    path.write_text("\n".join(["year,y", *rows]) + "\n")
    return open_source(path)


def test_missing_values_are_filled_and_never_a_truth(tmp_path):
    rows = [f"{1900 + t},{t if t not in (5, 6, 17) else ''}" for t in range(20)]
    task, prepared = Forecast.prepare(write_rows(tmp_path / "data.csv", rows), None, settings(scaling="none"))
    assert "3 values missing (the first on line 7)" in prepared.notes[0]
    # Neither the missing rows nor those right after them are forecast, and the line between 4 and 7 is read.
    assert everything(task, prepared.train).targets.ravel().tolist() == [3, 4, 8, 9, 10, 11, 12, 13, 14, 15]
    assert everything(task, prepared.train).inputs["features"][2].ravel().tolist() == [5, 6, 7]
    assert everything(task, prepared.valid).targets.ravel().tolist() == [16, 19]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [f"{t},{'' if t % 3 else t}" for t in range(30)],
            "20 of 30 values of column 'y' are empty .the first on line 3",
        ),
        (
            [f"2000-01-{t % 15 + 1:02},{t}" for t in range(30)],
            "2000-01-01 comes twice in 'year', on the lines 2 and 17",
        ),
        ([f"2000-01-01,{t}" for t in range(30)], "'year' is 2000-01-01 in all 30 rows, so it does not say when"),
        ([f"{2000 + t},{t}e-110" for t in range(30)], "the largest at least 1e-100; got 2.9e-109. Multiply"),
        ([f"{2000 + t},{4 + t % 2 * (t < 20)}" for t in range(30)], "is 4 in all 6 rows of the validation part"),
    ],
)
def test_series_that_cannot_be_mended_are_refused(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        Forecast.prepare(write_rows(tmp_path / "data.csv", rows), None, settings(time="year"))


def test_gaps_in_time_are_told(tmp_path):
    rows = [f"2000-01-{t:02},{t}" for t in range(1, 31) if t not in (9, 10, 20)]
    _, prepared = Forecast.prepare(write_rows(tmp_path / "data.csv", rows), None, settings(time="year"))
    assert "3 days missing in 'year', the first between 2000-01-08 and 2000-01-11; straight" in prepared.notes[0]
    _, prepared = Forecast.prepare(
        write_rows(tmp_path / "data.csv", [f"{2000 + t // 12}-{t % 12 + 1:02},{t}" for t in range(40)]), None,
        settings(time="year"),
    )  # fmt: skip
    assert not any("missing" in note for note in prepared.notes)


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (lambda t: 29 - t, "'year' runs backwards, from 2029 to 2000; the rows are turned round, oldest first."),
        (
            lambda t: t * 11 % 30,
            "not in the order of 'year': 10 steps back, the first from 2022 to 2003 (line 5); they",
        ),
    ],
)
def test_rows_are_put_in_order(tmp_path, order, told):
    values = wave(30)
    rows = [f"{2000 + order(t)},{values[order(t)]}" for t in range(30)]
    _, prepared = Forecast.prepare(write_rows(tmp_path / "data.csv", rows), None, settings(time="year"))
    ordered = [f"{2000 + t},{values[t]}" for t in range(30)]
    _, wanted = Forecast.prepare(write_rows(tmp_path / "ordered.csv", ordered), None, settings(time="year"))
    assert told in prepared.notes[0]
    for found, expected in ((prepared.train, wanted.train), (prepared.valid, wanted.valid)):
        assert found.raw == expected.raw
        np.testing.assert_array_equal(found.columns["targets"], expected.columns["targets"])


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (range(6), {}, "table: 3 lags and a validation part of 20% need at least 7 rows; got 6"),
        (range(20), {"lags": 0}, "at least 1 past value; got --lags 0"),
        ([1.0] * 30, {}, "column 'y' is 1 in all 24 rows of the training part"),
        ([*range(16), 3, 3, 3, 3], {}, "column 'y' is 3 in all 4 rows of the validation part"),
        ([1e300, *range(30)], {"scaling": "none"}, "expected numbers of a size that fits"),
    ],
)
def test_unusable_series_are_refused(values, options, message):
    with pytest.raises(InputError, match=message):
        Forecast.prepare(Table(y=values), None, settings(**options))


def test_shortest_series_that_is_said_to_be_enough_is_enough():
    _, prepared = Forecast.prepare(Table(y=range(7)), None, settings())
    assert (len(prepared.train), len(prepared.valid)) == (2, 2)


def test_short_validation_file_and_missing_column_are_refused():
    with pytest.raises(InputError, match="short: 3 lags need at least 5 rows; got 4"):
        Forecast.prepare(Table(y=range(20)), Table(name="short", y=range(4)), settings())
    with pytest.raises(InputError, match="short has no column 'y'; its columns are z"):
        Forecast.prepare(Table(y=range(20)), Table(name="short", z=range(9)), settings())


@pytest.mark.parametrize("build", [window_mlp, window_lstm])
def test_training_beats_the_last_value_and_the_mean(build):
    task, prepared = Forecast.prepare(Table(year=range(1900, 2020), y=wave(120)), None, settings(time="year"))
    model, head = networks(task, build, hidden=16)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.02)
    batch = everything(task, prepared.train)
    losses = []
    for _ in range(150):
        total, count = head.loss(head(model(**batch.inputs)), batch.targets)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        losses.append((total / count).item())
    assert math.isfinite(losses[0])
    assert losses[-1] < 0.1 * losses[0]
    meter = task.meter()
    held_out = everything(task, prepared.valid)
    with torch.no_grad():
        meter.update(head(model(**held_out.inputs)), held_out)
    metrics = meter.compute()
    assert metrics["nmse"] < 0.1
    assert metrics["nmse"] < 0.5 * metrics["naive_nmse"]

    table, by_steps, ratios, picture, residuals = task.sections(model, head, prepared, seed=0)
    assert [row[0] for row in table["rows"]] == ["in sample (training)", "out of sample (validation)"]
    assert table["rows"][1][table["columns"].index("NMSE")] == pytest.approx(metrics["nmse"], rel=1e-3)
    assert by_steps["rows"][0][:2] == [1, 24]
    assert len(by_steps["rows"]) == len(ratios["x"]) == 9
    assert (picture["x"][0], picture["split"], picture["x"][-1]) == (1903, 1996, 2019)
    assert picture["lines"]["actual"] == pytest.approx(wave(120)[3:], rel=1e-5)
    assert len(picture["lines"]["forecast"]) == len(residuals["lines"]["residual"]) == 117
    json.dumps([table, by_steps, ratios, picture, residuals], allow_nan=False)
    assert task.describe(prepared).startswith(f"{len(prepared.train)} windows of y, each of 3 past values")


def test_sections_of_many_series_have_four_pictures_and_all_errors():
    columns = {f"s{i}": [math.sin(0.3 * t + i) for t in range(40)] for i in range(5)}
    task, prepared = Forecast.prepare(Table(**columns), None, settings(tuple(columns)))
    sections = task.sections(*networks(task), prepared, seed=0)
    assert [section["kind"] for section in sections] == ["table", "table"] + ["series"] * 9
    assert len(sections[0]["rows"]) == 2 * 6
    assert all(len(row) == len(sections[0]["columns"]) for row in sections[0]["rows"])
