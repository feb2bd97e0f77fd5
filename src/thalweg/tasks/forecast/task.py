"""Forecast: the next values of one or several series, from the values before."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Samples, of_sums, ratio
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.equal import View, WholeExamples, same_rows
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.arrays.standardize import Standardizer
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.squared import Squared
from thalweg.models.presets import ModelShape
from thalweg.tasks.answering import figure
from thalweg.tasks.base import AbstractMeter, AbstractTask, AnswerOptions, HeadOptions, Prepared, Settings
from thalweg.tasks.forecast.report import Part, forecasts, sections
from thalweg.tasks.forecast.series import Series, check_length, check_variation, read_series, split_end
from thalweg.tasks.reading.numeric import numbers_in
from thalweg.tasks.reading.saved import reading, write_json
from thalweg.tasks.reading.text_column import check_columns
from thalweg.tasks.regression import nmse

FILE = "forecast.json"


@final
class ForecastMeter(AbstractMeter):
    """The metrics of `series_metrics`, in the series' own unit, to which `scaling` leads back."""

    def __init__(self, columns: Sequence[str], scaling: Standardizer) -> None:
        self.columns = columns
        self.scaling = scaling
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        self._parts.append((prediction.detach(), batch.targets, batch.inputs["features"][:, -1]))

    @override
    def compute(self) -> dict[str, float]:
        return series_metrics(self.columns, *self._all())

    @override
    def samples(self) -> Samples:
        return series_samples(self.columns, *self._all())

    def _all(self) -> list[np.ndarray]:
        parts = zip(*self._parts, strict=True)
        return [self.scaling.inverse(torch.cat(part).cpu().double().numpy()) for part in parts]


def series_samples(columns: Sequence[str], forecast: np.ndarray, actual: np.ndarray, last: np.ndarray) -> Samples:
    """Return the samples of `series_metrics`: rows in the order of time, drawn in blocks of neighbors."""
    y = actual - actual.mean(0)
    parts = (np.abs(forecast - actual), (forecast - actual) ** 2, (last - actual) ** 2, y, y**2, np.ones_like(y))

    def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
        size, squares, naive, total, spread, count = np.split(sums, len(parts), axis=1)
        spread = spread - total**2 / count
        rows = {"nmse": ratio(squares, spread), "naive_nmse": ratio(naive, spread), "mae": size / count}
        found = {name: values.mean(1) for name, values in rows.items()}
        if len(columns) > 1:
            found |= {f"{name} {c}": values[:, i] for name, values in rows.items() for i, c in enumerate(columns)}
        return found

    return of_sums(np.concatenate(parts, axis=1), figures, unit="rows", in_time=True)


def series_metrics(
    columns: Sequence[str], forecast: np.ndarray, actual: np.ndarray, last: np.ndarray
) -> dict[str, float]:
    """Return NMSE, that of the true values one step earlier (`last`), and mean absolute error, of `[rows, columns]`.

    They are means over the series, and with several series each one's, too.
    """
    rows: dict[str, list[float]] = {"nmse": [], "naive_nmse": [], "mae": []}
    for i in range(len(columns)):
        true = torch.from_numpy(actual[:, i])
        rows["nmse"].append(nmse(torch.from_numpy(forecast[:, i]), true))
        rows["naive_nmse"].append(nmse(torch.from_numpy(last[:, i]), true))
        rows["mae"].append(float(np.abs(forecast[:, i] - actual[:, i]).mean()))
    metrics = {name: float(np.mean(values)) for name, values in rows.items()}
    if len(columns) > 1:
        metrics |= {f"{name} {c}": v for name in rows for c, v in zip(columns, rows[name], strict=True)}
    return metrics


@final
class Forecast(AbstractTask):
    """The next row of numbers from the `lags` rows before, for one series or several at once.

    The rows are taken in their order in the file. The validation part is the end of the series, which no training
    window and no scaling has seen; its first windows reach back into the training part, as a forecast in use does.

    Args:
        columns: names of the series.
        lags: rows that a forecast sees, at least 1.
        scaling: of the series, fitted on the training part.
        time: the column that names the rows, for pictures; None: their numbers do.
    """

    name: ClassVar[str] = "forecast"
    inputs: ClassVar[tuple[str, ...]] = ("series",)

    def __init__(self, columns: Sequence[str], lags: int, scaling: Standardizer, time: str | None = None) -> None:
        if lags < 1:
            raise ValueError(f"Forecast(lags=...) must be at least 1; got {lags!r}.")
        self.columns = tuple(columns)
        self.lags = lags
        self.scaling = scaling
        self.time = time

    @classmethod
    @override
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple["Forecast", Prepared]:
        columns, time = tuple(settings.columns["series"]), settings.columns.get("time")
        lags = settings.lags
        if lags < 1:
            raise InputError(f"A forecast must see at least 1 past value; got --lags {lags}.")
        series = read_series(source, columns, time)
        if valid is None:
            series, held_out = split_end(series, lags, settings.valid_share)
            note = (
                f"Validation is the end of the series, {len(held_out) - lags:,} rows from {held_out.labels[lags]} on; "
                "it is not used to fit the scaling."
            )
        else:
            check_length(series, lags)
            held_out = read_series(valid, columns, time, first_row=len(series) + 1)
            check_length(held_out, lags)
            note = f"Validation is {valid.name}; its first {lags} rows are used as context only."
        check_variation(series, "training part")
        check_variation(held_out.part(lags), "validation part")
        task = cls(columns, lags, Standardizer.fit(series.values, settings.scaling), time)
        return task, Prepared(task._windows(series), task._windows(held_out), [note])

    @override
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        chosen = tuple(columns["series"])
        if len(chosen) != len(self.columns):
            raise InputError(f"{source.name}: expected {len(self.columns)} columns to forecast, got {len(chosen)}.")
        series = read_series(source, chosen, columns.get("time"))
        check_length(series, self.lags)
        check_variation(series.part(self.lags), "data")
        return self._windows(series), [f"The first {self.lags} rows are used as context only."]

    @property
    def _sees(self) -> str:
        rows = "row" if self.lags == 1 else f"{self.lags} rows"
        return f"the {rows} before the one to forecast (fixed: the columns and their scaling, the number of rows)"

    @override
    def about(self) -> dict[str, str]:
        return {"examples": "training windows", "features": "past values, as this run scales them"}

    @override
    def view(self, examples: Examples) -> View:
        return WholeExamples(same_rows(_arrays(examples)[0]), self._sees)

    @override
    def save(self, folder: Path) -> None:
        sizes = {"columns": self.columns, "lags": self.lags, "time": self.time}
        write_json(folder / FILE, sizes | {"scaling": self.scaling.to_dict()})

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> "Forecast":
        del settings
        with reading(folder / FILE) as saved:
            scaling = Standardizer.from_dict(saved["scaling"])
            return cls([str(name) for name in saved["columns"]], int(saved["lags"]), scaling, saved["time"])

    @override
    def shape(self) -> ModelShape:
        return ModelShape(num_columns=len(self.columns), lags=self.lags)

    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a squared-error head with one output a column."""
        del options
        width: int = model.width  # type: ignore[assignment]
        return Squared(width, len(self.columns))

    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        """Collate windows `features` [batch, lags, columns] and targets [batch, columns]."""
        features, targets = _arrays(examples)
        return Batch({"features": torch.from_numpy(features[indices])}, torch.from_numpy(targets[indices]))

    @override
    def meter(self) -> AbstractMeter:
        return ForecastMeter(self.columns, self.scaling)

    @property
    @override
    def selects_by(self) -> tuple[str, str]:
        return "nmse", "lower"

    @property
    @override
    def explanations(self) -> dict[str, tuple[str, str]]:
        error = "mean squared error over the variance of the true values: 0 is exact, 1 is what their mean would give"
        texts = {
            "nmse": ("lower", f"NMSE out of sample, {error}."),
            "naive_nmse": ("lower", 'NMSE of the forecast "the same as the last value", which a network should beat.'),
            "mae": ("lower", "Mean absolute error, in the series' own unit."),
        }
        for column in self.columns if len(self.columns) > 1 else ():
            texts[f"nmse {column}"] = ("lower", f"NMSE of {column}.")
            texts[f"naive_nmse {column}"] = ("lower", f'NMSE of "the same as the last value" for {column}.')
            texts[f"mae {column}"] = ("lower", f"Mean absolute error of {column}.")
        return texts

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Forecast what follows each input.

        An input is what was last seen, oldest first, at least `lags` rows of it: a list of numbers (one series), a list
        of rows with a number for each column, or a text that holds them (rows separated by `;` or line ends). The
        dictionary `{"values": ..., "steps": 5}` asks for five steps, each forecast being read as if it had happened
        (at most `options.length`); errors add up on the way.

        Returns:
            For each input `{"forecast": [...]}`, one entry a step: a number, or with several series a dictionary.

        Raises:
            InputError: if an input is too short, or no table of finite numbers.
        """
        asked = [self._asked(value, place, options.length) for place, value in enumerate(inputs, start=1)]
        if not asked:
            return []
        windows = self._scaled(np.stack([window for window, _ in asked]), "The input")
        steps = max(num_steps for _, num_steps in asked)
        answers = np.empty((len(asked), steps, len(self.columns)))
        for step in range(steps):
            following = forecasts(model, head, windows)
            answers[:, step] = self.scaling.inverse(following.astype(np.float64))
            windows = np.concatenate([windows[:, 1:], following[:, None].astype(np.float32)], 1)
        return [{"forecast": self._named(rows[:n])} for rows, (_, n) in zip(answers, asked, strict=True)]

    def parse_input(self, text: str, length: int | None) -> Any:
        """Return the numbers of a text with `length` steps to forecast."""
        return {"values": text, "steps": length or 1}

    def inputs_of(self, source: AbstractSource, columns: Mapping[str, Any], length: int | None) -> Iterator[Any]:
        """Return the whole file as one input."""
        check_columns(source, columns["series"])
        rows = [
            [_number(value) for value in row]
            for chunk in source.chunks()
            for row in zip(*(chunk.column(name) for name in columns["series"]), strict=True)
        ]
        yield {"values": rows, "steps": length or 1}

    @override
    def lines_of(self, answer: Mapping[str, Any]) -> list[str]:
        return ["  ".join(figure(value) for value in answer["forecast"])]

    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return the series with their forecasts, the errors in and out of sample, and the residuals."""
        del seed
        train = self._part("in sample (training)", model, head, prepared.train)
        valid = self._part("out of sample (validation)", model, head, prepared.valid)
        return sections(self.columns, train, valid, self.time or "row")

    @override
    def describe(self, prepared: Prepared) -> str:
        num_rows = len(prepared.train) + len(prepared.valid)
        series = f"of {self.columns[0]}" if len(self.columns) == 1 else f"of {len(self.columns)} series"
        return f"{num_rows:,} windows {series}, each of {self.lags} past values and the one to forecast"

    def _windows(self, series: Series) -> Examples:
        """Every window of `lags` rows with the row after it; the windows share the memory of the series."""
        scaled = self._scaled(series.values, series.name)
        windows = np.lib.stride_tricks.sliding_window_view(scaled[:-1], self.lags, axis=0).transpose(0, 2, 1)
        columns: dict[str, Ragged | np.ndarray] = {"features": windows, "targets": scaled[self.lags :]}
        return Examples(columns, series.labels[self.lags :])

    def _scaled(self, values: np.ndarray, where: str) -> np.ndarray:
        """Scaled numbers as float32, `[..., columns]`."""
        with np.errstate(over="ignore"):
            scaled = self.scaling.forward(values).astype(np.float32)
        if not np.isfinite(scaled).all():
            raise InputError(
                f"{where}: expected numbers of a size that fits the training data, got {np.abs(values).max():g}."
            )
        return scaled

    def _part(self, name: str, model: nn.Module, head: AbstractHead, examples: Examples) -> Part:
        features, targets = _arrays(examples)
        scaled = (forecasts(model, head, features), targets, features[:, -1])
        forecast, actual, last = (self.scaling.inverse(part.astype(np.float64)) for part in scaled)
        metrics = series_metrics(self.columns, forecast, actual, last)
        return Part(name, list(examples.raw or ()), forecast, actual, metrics)

    def _asked(self, value: Any, place: int, most_steps: int) -> tuple[np.ndarray, int]:
        """The last `lags` rows of an input, and how many steps it asks for."""
        steps = 1
        if isinstance(value, Mapping):
            steps = value.get("steps", 1)
            value = value.get("values")
            if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= most_steps:
                raise InputError(f"Input {place}: steps must be a whole number from 1 to {most_steps}; got {steps!r}.")
        rows = numbers_in(value) if isinstance(value, str) else value
        num_columns = len(self.columns)
        try:
            window: np.ndarray = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError):
            window = np.empty((0, 0))
        if num_columns == 1 and window.ndim == 2 and 1 in window.shape:
            window = window.reshape(-1)  # one series, as a row or as a column
        if window.ndim == 1 and num_columns == 1:
            window = window[:, None]
        form = "numbers" if num_columns == 1 else f"rows of {num_columns} numbers ({', '.join(self.columns)})"
        if window.ndim != 2 or window.shape[1] != num_columns or not np.isfinite(window).all():
            raise InputError(f"Input {place}: expected {form}, oldest first; got {str(value)[:60]!r}.")
        if len(window) < self.lags:
            raise InputError(f"Input {place}: expected at least {self.lags} {form} (lags); got {len(window)}.")
        return window[-self.lags :], steps

    def _named(self, rows: np.ndarray) -> list[Any]:
        if len(self.columns) == 1:
            return rows[:, 0].tolist()
        return [dict(zip(self.columns, row, strict=True)) for row in rows.tolist()]


def _arrays(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows `[examples, lags, columns]` and what follows them `[examples, columns]`."""
    features, targets = examples.columns["features"], examples.columns["targets"]
    assert isinstance(features, np.ndarray)
    assert isinstance(targets, np.ndarray)
    return features, targets


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"A forecast starts from numbers, such as 3.1,2.9,3.4; got {value!r}.") from None
