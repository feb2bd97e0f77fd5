"""Several series of an id column: windows inside each, split by time in each, figures of each and of all."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from thalweg import certify, load, train
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.tasks.base import Settings
from thalweg.tasks.forecast.task import Forecast
from thalweg.training.folder.again import read_again

NUM = {"A": 90, "B": 60, "C": 75}


def wave(num, seed):
    rng = np.random.default_rng(seed)
    return (10.0 * (seed + 1) * (5 + np.sin(np.arange(num) * 0.5 + seed)) + rng.normal(size=num)).round(3)


def frame(num=NUM, freq="D"):
    parts = [
        pd.DataFrame(
            {"ds": pd.date_range("2024-01-01", periods=rows, freq=freq), "unique_id": name, "y": wave(rows, i)}
        )
        for i, (name, rows) in enumerate(num.items())
    ]
    return pd.concat(parts, ignore_index=True)


def write(path, data):
    data.to_csv(path, index=False)
    return path


def asked(run, path, length):
    return [question.value for question in run.task.questions_of(open_source(path), run.data["columns"], length)]


def settings(*, lags=3, layout="differences", series=("y",), gaps="auto"):
    columns = {"series": list(series), "time": "ds", "id": "unique_id"}
    return Settings(columns, 0.2, (), "word", 100, 0, 16, lags, "range", layout, gaps=gaps)


def prepare(path, valid=None, skip=False, **options):
    return Forecast.prepare(open_source(path, skip_bad_rows=skip), valid, settings(**options))


@pytest.mark.parametrize("layout", ["window", "differences"])
@pytest.mark.parametrize("order", ["below each other", "interleaved", "newest first", "shuffled"])
def test_windows_stay_inside_a_series_and_the_end_of_each_is_held_out(tmp_path, order, layout):
    data = frame()
    rows = {
        "below each other": data,
        "interleaved": data.sort_values("ds", kind="stable"),
        "newest first": data[::-1],
        "shuffled": data.sample(frac=1.0, random_state=0),
    }[order]
    task, prepared = prepare(write(tmp_path / "a.csv", rows), layout=layout)
    assert sorted(task.columns) == ["A", "B", "C"]
    for part, begins in ((prepared.train, 0), (prepared.valid, 1)):
        series = np.asarray(part.columns["series"])
        for place, name in enumerate(task.columns):
            of: pd.DataFrame = data.loc[data["unique_id"] == name]
            held = round(0.2 * len(of))
            chosen = series == place
            wanted = of["y"].to_numpy()
            times = of["ds"].dt.strftime("%Y-%m-%d").tolist()
            stretch = slice(len(of) - held, None) if begins else slice(task.lags, len(of) - held)
            assert part.raw is not None
            assert [part.raw[row] for row in np.flatnonzero(chosen)] == times[stretch]
            np.testing.assert_allclose(np.asarray(part.columns["future"])[chosen][:, 0, 0], wanted[stretch])
            past = np.asarray(part.columns["past"])[chosen][:, -task.lags :, 0]
            first = (len(of) - held if begins else task.lags) - task.lags
            np.testing.assert_allclose(past[0], wanted[first : first + task.lags])


def test_a_run_of_several_series_from_training_to_certificate(tmp_path):
    path = write(tmp_path / "shops.csv", frame())
    run = train(path, out=tmp_path / "runs")
    assert run.task.name == "forecast"
    assert {"skill", "skill A", "mase B", "nmse C"} <= set(run.metrics)
    each = [run.metrics[f"nmse {name}"] for name in NUM]
    assert run.metrics["nmse"] == pytest.approx(np.mean(each))
    assert "3 series" in (run.folder / "report.html").read_text()

    answers = run.predict(asked(run, path, 2))
    assert [answer["id"] for answer in answers] == list(NUM)
    after = pd.date_range("2024-01-01", periods=NUM["B"] + 2, freq="D")[-2:].strftime("%Y-%m-%d").tolist()
    assert answers[1]["time"] == after
    lines = run.task.lines_of(answers[1])
    assert [line.split("  ")[:2] for line in lines] == [["B", after[0]], ["B", after[1]]]
    alone = frame().set_index("unique_id").loc["B"]
    (answer,) = run.predict([{"id": "B", "values": alone["y"].tolist(), "steps": 2}])
    assert answer["forecast"] == pytest.approx(answers[1]["forecast"])
    assert "time" not in answer
    reloaded = load(run.folder)
    assert reloaded.predict([{"id": "B", "values": alone["y"].tolist(), "steps": 2}]) == [answer]
    with pytest.raises(InputError, match=r"this run forecasts 3 series .'A', 'B', 'C'., so numbers alone do not say"):
        run.predict([alone["y"].tolist()])
    with pytest.raises(InputError, match="there is no series 'D' in this run"):
        run.predict([{"id": "D", "values": alone["y"].tolist()}])

    evaluation = run.evaluate(write(tmp_path / "more.csv", frame({"A": 60, "C": 70})))
    assert {"skill A", "skill C"} <= set(evaluation.metrics)
    assert "skill B" not in evaluation.metrics
    with pytest.raises(InputError, match=r"1 of 2 series can't be used .'D'.*no such series in training"):
        run.evaluate(write(tmp_path / "new.csv", frame({"A": 60, "D": 70})))
    _, prepared = read_again(run)
    assert len(prepared.train) == run.data["num_train"]
    certificate = certify(run)
    assert certificate.bound <= certificate.loss * (1 + 1e-6)
    assert json.loads((run.folder / "forecast.json").read_text())["ids"] == list(NUM)


def test_one_equation_is_the_ridge_regression_over_the_windows_of_all_series(tmp_path):
    run = train(write(tmp_path / "shops.csv", frame()), out=tmp_path / "runs", task="forecast", lags=2)
    task: Any = run.task
    linear = task.linear
    assert linear.form.equations == "shared"
    features, targets = [], []
    for place, name in enumerate(NUM):
        of = np.array(frame().set_index("unique_id").loc[name]["y"])
        of = of[: len(of) - round(0.1 * len(of))]
        levels = np.log(of) if linear.form.log else of
        scaled = (linear.form.differences(levels) - linear.scaled.mean[place]) / linear.scaled.spread[place]
        features.append(np.stack([scaled[1:-1], scaled[:-2]], 1))
        targets.append(scaled[2:])
    design, wanted = np.concatenate(features), np.concatenate(targets)
    center = design.mean(0) if linear.form.drift else np.zeros(2)
    middle = wanted.mean() if linear.form.drift else 0.0
    gram = (design - center).T @ (design - center) + linear.l2 * len(wanted) * np.eye(2)
    weights = np.linalg.solve(gram, (design - center).T @ (wanted - middle))
    head: Any = run.head
    found = head.output.weight.detach().double().numpy().reshape(-1)
    np.testing.assert_allclose(found, weights, rtol=1e-3, atol=1e-5)


def test_several_columns_of_each_series(tmp_path):
    data = frame()
    data["price"] = 3.0 * data["y"] + 7.0
    run = train(write(tmp_path / "shops.csv", data), out=tmp_path / "runs", model="mlp", epochs=1.0)
    task: Any = run.task
    assert task.columns[:2] == ("A: y", "A: price")
    answer = run.predict(asked(run, tmp_path / "shops.csv", 1))[2]
    assert answer["id"] == "C"
    assert set(answer["forecast"][0]) == {"y", "price"}


def test_short_and_constant_series_are_named_and_may_be_left_out(tmp_path):
    data = pd.concat([frame({"A": 60, "B": 40, "C": 5}), frame({"D": 50}).assign(y=3.0)])
    path = write(tmp_path / "a.csv", data)
    with pytest.raises(InputError, match=r"2 of 4 series can't be used .'C', 'D'.*series 'C': 3 lags.*--skip-bad-rows"):
        prepare(path)
    task, prepared = prepare(path, skip=True)
    assert task.columns == ("A", "B")
    assert any("2 of 4 series left out ('C', 'D')" in note for note in prepared.notes)


def test_a_name_or_a_moment_that_is_missing_is_a_bad_row(tmp_path):
    data = frame({"A": 60, "B": 40})
    lines = write(tmp_path / "a.csv", data).read_text().splitlines()
    lines[10] = lines[10].replace(",A,", ",,")
    lines[12] = "soon" + lines[12][10:]
    path = tmp_path / "b.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        InputError, match=r"line 13: expected a moment in 'ds', got 'soon' .1 such row in all.; correct"
    ):
        prepare(path)
    source = open_source(path, skip_bad_rows=True)
    _, prepared = Forecast.prepare(source, None, settings())
    assert [row.line for row in source.bad_rows] == [11, 13]
    assert "2 days missing" in prepared.notes[0]


def test_a_validation_file_is_matched_by_name(tmp_path):
    path = write(tmp_path / "a.csv", frame())
    later = frame({"B": 60, "A": 50})
    valid = open_source(write(tmp_path / "v.csv", later))
    task, prepared = prepare(path, valid)
    assert set(np.asarray(prepared.valid.columns["series"])) == {0, 1}
    assert len(prepared.valid) == 110 - 2 * task.context
