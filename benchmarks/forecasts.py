"""Forecasts of real series with all defaults, beside what people would take instead.

    OMP_NUM_THREADS=1 python benchmarks/forecasts.py                  # everything, about three minutes of CPU time
    OMP_NUM_THREADS=1 python benchmarks/forecasts.py --only nile      # one set
    OMP_NUM_THREADS=1 python benchmarks/forecasts.py --series 10      # fewer simulated series for the intervals

Everything is fitted once on the first 80 % of the rows. Then the origin rolls over the last 20 %: from each row (at
most 200, evenly chosen) 1 to H steps are forecast from the true values before it, by every method from the same rows.
The default, `thalweg train FILE`, sees the first 80 % only, and chooses inside them; the mlp (`--mlp`) chooses its
weights on the last tenth of them. Exponential smoothing (ETS) needs statsmodels.
"""

import argparse
import csv
import dataclasses
import importlib
import lzma
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
from table import Row, write_json

import thalweg
from thalweg.data.files.sources import open_source
from thalweg.tasks.forecast.autoregression.equation import fit_equation, mean_known, predicted
from thalweg.tasks.forecast.autoregression.linear import choose_linear
from thalweg.tasks.forecast.autoregression.rolling import following
from thalweg.tasks.forecast.reference import Reference
from thalweg.tasks.forecast.rows.reading import Layout, read_series
from thalweg.tasks.forecast.rows.series import Series

DATA = Path(__file__).parents[2] / "shared" / "data"
SHARE = 0.8
MAX_ORIGINS = 200
MAX_SEASON_OF_ETS = 24
ROWS_OF_ELECTRICITY = 6000

Forecaster = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
"""All rows, the rows to forecast and the number of steps -> forecasts `[rows, steps, columns]`."""


@final
@dataclasses.dataclass(frozen=True)
class Set:
    """A series in a file of its own."""

    name: str
    path: Path
    columns: tuple[str, ...]
    time: str | None


def sets(folder: Path) -> Iterator[Set]:
    """Yield the real series; what is packed is unpacked into the folder."""
    plain = {
        "airline-passengers": (("Passengers",), "Month"),
        "co2": (("co2",), "date"),
        "daily-min-temperatures": (("Temp",), "Date"),
        "elnino": (("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), "YEAR"),
        "nile": (("volume",), "year"),
        "sunspots": (("SUNACTIVITY",), "YEAR"),
        "monthly-sunspots": (("Sunspots",), "Month"),
    }
    for name, (columns, when) in plain.items():
        yield Set(name, DATA / "timeseries" / f"{name}.csv", columns, when)
    with lzma.open(DATA / "streams_numeric" / "elec.csv.xz", "rt") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(ROWS_OF_ELECTRICITY), strict=False)]
    for column in ("nswdemand", "nswprice"):
        path = folder / f"{column}.csv"
        path.write_text("\n".join([column, *(row[column] for row in rows)]) + "\n")
        yield Set(f"electricity {column}", path, (column,), None)


def windows(values: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
    """Return the rows before each of `rows`, `[rows, length, columns]`."""
    return np.stack([values[row - length : row] for row in rows])


def of_run(run: thalweg.Run) -> Forecaster:
    """Return the forecasts of a trained run."""
    task: Any = run.task

    def forecast(values: np.ndarray, rows: np.ndarray, steps: int) -> np.ndarray:
        return task.ahead(run.model, run.head, windows(values, rows, task.lags), steps)

    return forecast


def of_reference(reference: Reference, how: str) -> Forecaster:
    """Return the forecasts of a reference: "last", "seasonal" or "autoregressive"."""

    def forecast(values: np.ndarray, rows: np.ndarray, steps: int) -> np.ndarray:
        return getattr(reference, how)(windows(values, rows, reference.rows), steps)

    return forecast


def exponential_smoothing(train: np.ndarray, season: int) -> Forecaster:
    """Return the forecasts of statsmodels' ETS: additive errors, damped trend, additive season where there is one."""
    ETSModel = importlib.import_module("statsmodels.tsa.exponential_smoothing.ets").ETSModel

    options = {"error": "add", "trend": "add", "damped_trend": True}
    if 1 < season <= MAX_SEASON_OF_ETS:
        options |= {"seasonal": "add", "seasonal_periods": season}
    fits = [ETSModel(column, **options).fit(disp=False).params for column in train.T]

    def forecast(values: np.ndarray, rows: np.ndarray, steps: int) -> np.ndarray:
        found = np.empty((len(rows), steps, values.shape[1]))
        ahead = np.arange(steps)
        for i, params in enumerate(fits):
            # The states of every row depend on the rows before only, so one pass gives the forecasts of all.
            states = ETSModel(values[:, i], **options).smooth(params)
            damped = np.cumsum(states.damping_trend ** (ahead + 1.0))
            found[:, :, i] = states.level[rows - 1, None] + damped * states.slope[rows - 1, None]
            if "seasonal" in options:
                found[:, :, i] += states.season[rows[:, None] - season + ahead % season]
            own = ETSModel(values[: rows[0], i], **options).smooth(params).forecast(steps)
            assert np.allclose(found[0, :, i], own), "these are not the forecasts of statsmodels"
        return found

    return forecast


def measure(one: Set, folder: Path, *, with_ets: bool, with_mlp: bool) -> dict[str, Any]:
    """Return the figures of one set."""
    time = (one.time,) if one.time else ()
    (series,) = read_series(open_source(one.path), Layout(tuple(one.columns), time))
    begin = int(SHARE * len(series))
    run, seconds = trained(one, series.part(0, begin), folder)
    task: Any = run.task
    reference: Reference = task.reference
    steps = reference.steps
    rows = np.flatnonzero(series.counts[begin:]) + begin
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, MAX_ORIGINS).astype(int))]
    methods: dict[str, Forecaster] = {"default": of_run(run)}
    if with_mlp:
        methods["mlp"] = of_run(trained(one, series.part(0, begin), folder, model="mlp")[0])
    methods["naive"] = of_reference(reference, "last")
    if reference.season > 1:
        methods["seasonal naive"] = of_reference(reference, "seasonal")
    methods["AR"] = of_reference(reference, "autoregressive")
    if with_ets:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            methods["ETS"] = exponential_smoothing(series.values[:begin], reference.season)
    truth = following(series.truth, 0, len(series), steps)[rows]
    found = {name: forecast(series.values, rows, steps) for name, forecast in methods.items()}
    mse = {name: mean_known((each - truth) ** 2) for name, each in found.items()}  # [steps, columns]
    best = np.fmin.reduce([mse[name] for name in ("naive", "seasonal naive") if name in mse])
    ratios = {name: (value / best).mean(1) for name, value in mse.items()}
    result: dict[str, Any] = {
        "set": one.name,
        "rows": len(series),
        "season": reference.season,
        "steps": steps,
        "kept": task.linear.form.name,
        "l2": task.linear.l2,
        "cpu_seconds": seconds,
        "one_step": {name: float(ratio[0]) for name, ratio in ratios.items()},
        "all_steps": {name: float(ratio.mean()) for name, ratio in ratios.items()},
        "by_steps": {name: ratio.tolist() for name, ratio in ratios.items()},
        "worst_step": float(ratios["default"].max()),
    }
    if task.has_intervals:
        inside = mean_known(np.where(np.isfinite(truth), task.inside(found["default"], truth), np.nan)).mean(1)
        result |= {"coverage_one_step": float(inside[0]), "coverage_all_steps": float(np.nanmean(inside))}
    return result


def trained(one: Set, train: Series, folder: Path, **options: Any) -> tuple[thalweg.Run, float]:
    """Return a run on these rows with all defaults, and its CPU seconds."""
    path = folder / f"{one.name.replace(' ', '-')}.csv"
    rows = zip(train.labels, *train.truth.T.tolist(), strict=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        shown = ([label, *("" if math.isnan(value) else repr(value) for value in values)] for label, *values in rows)
        csv.writer(file).writerows([[one.time or "row", *train.columns], *shown])
    chosen = {"label_column": ",".join(train.columns), **options}
    if "model" not in options:
        valid = path.with_name("valid.csv")
        valid.write_bytes(path.read_bytes())  # so that all rows are trained on; it chooses nothing
        chosen["valid"] = str(valid)
    begin = time.process_time()
    run = thalweg.train(path, out=folder / "runs", task="forecast", **chosen)
    return run, time.process_time() - begin


def simulated(kind: str, num: int, rng: np.random.Generator) -> np.ndarray:
    """Return a series whose law is known, `[rows, 1]`."""
    noise = rng.normal(size=num)
    if kind == "random walk":
        return np.cumsum(noise)[:, None]
    if kind == "season":
        return (10.0 + 4.0 * np.sin(np.arange(num) * 2.0 * np.pi / 12.0) + noise)[:, None]
    values = np.zeros(num)
    for t in range(1, num):
        values[t] = 0.8 * values[t - 1] + noise[t]
    return values[:, None]


def coverage(kind: str, num_series: int, num_rows: int) -> tuple[float, float]:
    """Return how often the value after a training part, and the values after it, lie in the 95 % intervals."""
    rng, first, every = np.random.default_rng(0), [], []
    for _ in range(num_series):
        values = simulated(kind, num_rows + 24, rng)
        train = Series(kind, ("y",), values[:num_rows], [str(row) for row in range(num_rows)])
        reference = Reference.fit(train.values, train.frequency)
        linear = choose_linear(train, reference, 0)
        weights, bias = fit_equation(linear.scaled, linear.form.levels(train.values), np.array([linear.l2]))

        def predict(features: np.ndarray, w: np.ndarray = weights, b: np.ndarray = bias) -> np.ndarray:
            return predicted(features, w, b)[0]

        levels = linear.scaled.ahead(predict, linear.form.levels(train.values)[None], reference.steps)
        low, high = linear.interval(linear.form.values(levels))
        truth = values[num_rows : num_rows + reference.steps]
        inside = (low[0] <= truth) & (truth <= high[0])
        first.append(bool(inside[0, 0]))
        every.append(float(inside.mean()))
    return float(np.mean(first)), float(np.mean(every))


def lines(results: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table, the worst sets first."""
    names = list(dict.fromkeys(name for one in results for name in one["one_step"]))
    yield f"{'MSE over that of the better naive forecast':<44}" + "".join(f"{name:>16}" for name in names)
    for part, key in (("one step", "one_step"), ("mean over all steps", "all_steps")):
        for one in sorted(results, key=lambda one: -_margin(one, key)):
            figures = "".join(f"{one[key][name]:>16.3f}" if name in one[key] else f"{'':>16}" for name in names)
            yield f"{one['set'][:24]:<24}{part:<20}" + figures
        for name in names:
            if name != "default" and all(name in one[key] for one in results):
                mean = np.exp(np.mean([np.log(one[key]["default"] / one[key][name]) for one in results]))
                yield f"  default / {name}, geometric mean of {part}: {mean:.3f}"
    for one in results:
        intervals = (
            f"in the 95 % interval {one['coverage_one_step']:.3f}, all steps {one['coverage_all_steps']:.3f}"
            if "coverage_one_step" in one
            else "no intervals"
        )
        yield f"{one['set']:<24} {one['rows']:>5} rows  {one['cpu_seconds']:>5.1f} CPU s  {intervals}  {one['kept']}"


def _margin(one: dict[str, Any], key: str) -> float:
    """How far the default is above its best rival, as a logarithm."""
    return math.log(one[key]["default"]) - math.log(min(v for name, v in one[key].items() if name != "default"))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", help="a word in the names of the sets")
    parser.add_argument("--series", type=int, default=60, help="simulated series of each kind; 0: none")
    parser.add_argument("--no-ets", action="store_true")
    parser.add_argument("--mlp", action="store_true", help="the network with its defaults, too; it takes longer")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "forecasts.json")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        wanted = [one for one in sets(Path(folder)) if not given.only or given.only in one.name]
        results = []
        for one in wanted:
            results.append(measure(one, Path(folder), with_ets=not given.no_ets, with_mlp=given.mlp))
            print(f"{one.name}: {results[-1]['one_step']} {results[-1]['all_steps']}", file=sys.stderr)
    print(*lines(results), sep="\n")
    for one in results:
        for key, part in (("one_step", "1 step"), ("all_steps", "steps")):
            value = one[key]["default"]
            rows.append(Row(part, one["set"], value, "MSE / better naive", "<= 1", value <= 1.0, one))
    for kind in ("AR(1)", "random walk", "season") if given.series else ():
        first, every = coverage(kind, given.series, 200)
        print(f"simulated {kind}: {first:.3f} of the next values in the 95 % interval, {every:.3f} over all steps")
        rows.append(Row("coverage", kind, first, f"of {given.series} series", details={"all steps": every}))
    write_json(given.out, rows)


if __name__ == "__main__":
    main()
