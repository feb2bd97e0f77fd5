"""Forecast: the next values of one or several series, from the values before."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Samples
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.equal import View, WholeExamples, same_rows
from thalweg.data.arrays.standardize import Standardizer
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.squared import Squared
from thalweg.models.presets import ModelShape
from thalweg.tasks.answering import figure
from thalweg.tasks.base import AbstractMeter, AbstractTask, AnswerOptions, HeadOptions, Prepared, Settings
from thalweg.tasks.forecast import metrics as measures
from thalweg.tasks.forecast.asked import asked_window
from thalweg.tasks.forecast.autoregression.linear import Linear, choose_linear
from thalweg.tasks.forecast.horizons import MAX_ORIGINS, Horizons, measure
from thalweg.tasks.forecast.metrics import Answers, ForecastMeter
from thalweg.tasks.forecast.reference import Reference
from thalweg.tasks.forecast.report import Part, sections
from thalweg.tasks.forecast.running import ahead, forecasts
from thalweg.tasks.forecast.series import Series, check_length, check_variation, read_series, split_end
from thalweg.tasks.forecast.windows import AnyReader, DifferenceReader, WindowReader, examples_of
from thalweg.tasks.questions import Question
from thalweg.tasks.reading.saved import reading, write_json
from thalweg.tasks.verdict import Seen, main_figure

FILE = "forecast.json"


@final
class Forecast(AbstractTask):
    """The next row of numbers from the rows before, for one series or several at once.

    The rows are taken in their order in the file. The validation part is the end of the series, which no training
    window and no scaling has seen; its first windows reach back into the training part, as a forecast in use does.

    Args:
        columns: names of the series.
        reader: how the rows before a forecast are read: windows of values (a network), or lagged differences.
        reference: what forecasts are compared with.
        time: the column that names the rows, for pictures; None: their numbers do.
        linear: what was chosen for a linear autoregression, and its intervals; None: for a network.
    """

    name: ClassVar[str] = "forecast"
    inputs: ClassVar[tuple[str, ...]] = ("series",)
    row_is_example: ClassVar[bool] = False

    def __init__(
        self,
        columns: Sequence[str],
        reader: AnyReader,
        reference: Reference,
        time: str | None = None,
        linear: Linear | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self.reader = reader
        self.reference = reference
        self.time = time
        self.linear = linear

    @property
    def lags(self) -> int:
        """How many rows a forecast sees."""
        return self.reader.rows

    @classmethod
    @override
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple["Forecast", Prepared]:
        columns, time = tuple(settings.columns["series"]), settings.columns.get("time")
        is_linear = settings.layout == "differences"
        lags = max(1, settings.lags) if is_linear else settings.lags
        if lags < 1:
            raise InputError(f"A forecast must see at least 1 past value; got --lags {lags}.")
        series = read_series(source, columns, time)
        notes = [*series.notes]
        begin = len(series)
        if valid is None:
            begin = split_end(series, lags, settings.valid_share)
            held_out = series
        else:
            check_length(series, lags)
            held_out = read_series(valid, columns, time, first_row=len(series) + 1)
            check_length(held_out, lags)
        train = series.part(0, begin)
        check_variation(train, "training part")
        reference = Reference.fit(train.values, train.labels)
        notes.append(
            f"Season: {reference.season} rows ({reference.found})." if reference.season > 1 else
            f"No season was found ({reference.found})."
        )  # fmt: skip
        logs = bool((held_out.values > 0.0).all())
        told = is_linear and not logs and bool((train.values > 0.0).all())
        if told:
            notes.append("Some of the held-out numbers are not positive, so no logarithm is tried.")
        linear = choose_linear(train, reference, settings.lags, logs=logs) if is_linear else None
        if linear is None:
            reader: AnyReader = WindowReader(lags, Standardizer.fit(train.values, settings.scaling))
        else:
            reader = DifferenceReader(linear.scaled)
            notes.append(linear.told)
        task = cls(columns, reader, reference, time, linear)
        first = begin if valid is None else task.context
        if valid is None:
            notes.append(
                f"Validation is the end of the series, {len(series) - begin:,} rows from {series.labels[begin]} on; "
                f"it is not used to choose or to fit anything{' else' if told else ''}."
            )
        else:
            check_length(held_out, task.context)
            notes.append(f"Validation is {valid.name}; its first {task.context} rows are used as context only.")
        check_variation(held_out.part(first), "validation part")
        prepared = Prepared(
            task._examples(train, reader.rows, begin), task._examples(held_out, first, len(held_out)), notes
        )
        return task, prepared

    @override
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        chosen = tuple(columns["series"])
        if len(chosen) != len(self.columns):
            raise InputError(f"{source.name}: expected {len(self.columns)} columns to forecast, got {len(chosen)}.")
        series, context = read_series(source, chosen, columns.get("time")), self.context
        check_length(series, context)
        check_variation(series.part(context), "data")
        notes = [*series.notes, f"The first {context} rows are used as context only."]
        return self._examples(series, context, len(series)), notes

    @property
    def context(self) -> int:
        """Rows at the beginning of a file that are not forecast: a linear autoregression waits for its rivals' past."""
        return self.lags if self.linear is None else max(self.lags, self.reference.rows)

    @property
    def _sees(self) -> str:
        rows = "row" if self.lags == 1 else f"{self.lags} rows"
        return f"the {rows} before the one to forecast (fixed: the columns and their scaling, the number of rows)"

    @override
    def about(self) -> dict[str, str]:
        features = (
            "past values, as this run scales them" if self.linear is None else f"past values ({self.linear.form.name})"
        )
        return {"examples": "training windows", "features": features}

    @override
    def view(self, examples: Examples) -> View:
        return WholeExamples(same_rows(_array(examples, "features")), self._sees)

    @override
    def decided(self) -> dict[str, Any]:
        return {} if self.linear is None else {"l2": self.linear.l2}

    @override
    def save(self, folder: Path) -> None:
        saved: dict[str, Any] = {"columns": self.columns, "time": self.time, "reference": self.reference.to_dict()}
        if isinstance(self.reader, WindowReader):
            saved |= {"lags": self.lags, "scaling": self.reader.scaling.to_dict()}
        write_json(folder / FILE, saved if self.linear is None else saved | {"linear": self.linear.to_dict()})

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> "Forecast":
        del settings
        with reading(folder / FILE) as saved:
            linear = Linear.from_dict(saved["linear"]) if "linear" in saved else None
            if linear is None:
                reader: AnyReader = WindowReader(int(saved["lags"]), Standardizer.from_dict(saved["scaling"]))
            else:
                reader = DifferenceReader(linear.scaled)
            names, reference = [str(name) for name in saved["columns"]], Reference.from_dict(saved["reference"])
            return cls(names, reader, reference, saved["time"], linear)

    @override
    def shape(self) -> ModelShape:
        if self.linear is not None:
            return ModelShape(num_columns=1, lags=self.linear.scaled.width)
        return ModelShape(num_columns=len(self.columns), lags=self.lags)

    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a squared-error head with one output a column (or one for all, where they have the same equation)."""
        del options
        width: int = model.width  # type: ignore[assignment]
        if self.linear is not None:
            return Squared(width, self.linear.num_outputs, bias=self.linear.form.drift)
        return Squared(width, len(self.columns))

    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        """Collate windows `features` [batch, lags, columns] and targets [batch, columns]; for the meter what else."""
        features, targets = _array(examples, "features")[indices], _array(examples, "targets")[indices]
        past = _array(examples, "past")
        aside = {
            "actual": _array(examples, "future")[indices, 0],
            "base": self.reader.base(past, indices),
            **self.reference.one_step(past, indices),
        }
        if self.linear is not None:
            features = self.linear.scaled.features(features)
            targets = targets.reshape(*features.shape[:-1], self.linear.num_outputs)
        return Batch(
            {"features": torch.from_numpy(features)},
            torch.from_numpy(targets),
            aside={name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in aside.items()},
        )

    @override
    def meter(self) -> AbstractMeter:
        return ForecastMeter(self.columns, self.reference.scale, self._answers)

    def _answers(self, prediction: np.ndarray, aside: Mapping[str, np.ndarray]) -> Answers:
        scaled = prediction.reshape(len(prediction), len(self.columns))
        forecast = self.reader.answers(scaled, aside["base"])
        inside = None if not self.has_intervals else self.inside(forecast[:, None], aside["actual"][:, None])[:, 0]
        seasonal = aside["seasonal"] if self.reference.season > 1 else None
        return Answers(forecast, aside["actual"], aside["last"], seasonal, aside["ar"], inside)

    @property
    def has_intervals(self) -> bool:
        """Whether there are intervals for one step, of every series."""
        return self.linear is not None and bool(np.isfinite(self.linear.radii[0]).all())

    def inside(self, forecast: np.ndarray, actual: np.ndarray) -> np.ndarray:
        """Return whether true values lie in the intervals, 0.0 or 1.0; NaN where there is none.

        Both are `[windows, steps, columns]`.
        """
        assert self.linear is not None
        low, high = self.linear.interval(forecast)
        return np.where(np.isfinite(low), (low <= actual) & (actual <= high), np.nan)

    @override
    def verdict(self, metrics: Mapping[str, float], seen: Seen) -> str:
        said, kept = measures.verdict(metrics, self.reference.season).removesuffix("."), self._kept()
        if not said:
            return main_figure(metrics, "nmse", seen, "forecasts", "squared error over variance") + kept
        shown = "skill" if np.isfinite(metrics.get("skill", np.nan)) else "nmse"  # there is none beside an error of 0
        return f"{said} ({main_figure(metrics, shown, seen, 'forecasts')}){kept}"

    def _kept(self) -> str:
        return f"; kept: {self.linear.form.name}" if self.linear is not None else ""

    @property
    @override
    def selects_by(self) -> tuple[str, str]:
        return "nmse", "lower"

    @property
    @override
    def explanations(self) -> dict[str, tuple[str, str]]:
        return measures.explanations(self.columns, season=self.reference.season, intervals=self.has_intervals)

    @override
    def compared(self, metrics: Mapping[str, float]) -> str:
        return measures.verdict(metrics, self.reference.season)

    @override
    def generated_metrics(
        self, model: nn.Module, head: AbstractHead, examples: Examples, limit: int
    ) -> tuple[dict[str, float], Samples | None]:
        return self.horizons(model, head, examples, limit).metrics(), None

    def horizons(self, model: nn.Module, head: AbstractHead, examples: Examples, limit: int = MAX_ORIGINS) -> Horizons:
        """Return the errors of every step ahead, from the last of these examples on, at most `limit`."""
        last = slice(-min(limit, MAX_ORIGINS), None)
        past, future = _array(examples, "past")[last], _array(examples, "future")[last]
        known = np.isfinite(past[:, -self.lags :]).all(axis=(1, 2))
        inside = self.inside if self.has_intervals else None
        return measure(
            lambda rows, steps: self.ahead(model, head, rows, steps), inside, self.reference, past[known], future[known]
        )

    def ahead(self, model: nn.Module, head: AbstractHead, past: np.ndarray, steps: int) -> np.ndarray:
        """Return forecasts in the series' unit, `[windows, steps, columns]`, from the rows before."""
        return ahead(model, head, self.reader, past, steps)

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Forecast what follows each input.

        An input is what was last seen, oldest first, at least `lags` rows of it: a list of numbers (one series), a list
        of rows with a number for each column, or a text that holds them (rows separated by `;` or line ends). The
        dictionary `{"values": ..., "steps": 5}` asks for five steps, each forecast being read as if it had happened
        (at most `options.length`); errors add up on the way.

        Returns:
            For each input `{"forecast": [...]}`, one entry a step: a number, or with several series a dictionary. A
            linear autoregression also has `low` and `high`, the ends of its 95 % intervals, None for steps that were
            not measured in training.

        Raises:
            InputError: if an input is too short, or no table of finite numbers.
        """
        self.check(inputs, options)
        asked = [asked_window(value, options.length, self.columns, self.lags) for value in inputs]
        if not asked:
            return []
        steps = max(num_steps for _, num_steps in asked)
        answers = self.ahead(model, head, np.stack([window for window, _ in asked]), steps)
        found = [{"forecast": self._named(rows[:n])} for rows, (_, n) in zip(answers, asked, strict=True)]
        if self.has_intervals:
            assert self.linear is not None
            ends = dict(zip(("low", "high"), self.linear.interval(answers), strict=True))
            for place, (answer, (_, n)) in enumerate(zip(found, asked, strict=True)):
                answer |= {name: self._named(values[place, :n]) for name, values in ends.items()}
        return found

    def parse_input(self, text: str, length: int | None) -> Any:
        """Return the numbers of a text with `length` steps to forecast."""
        return {"values": text, "steps": length or 1}

    @override
    def questions_of(
        self, source: AbstractSource, columns: Mapping[str, Any], length: int | None, *, plain: bool = False
    ) -> Iterator[Question]:
        """Yield the whole file as one question."""
        del plain
        series = read_series(source, columns["series"])
        yield Question({"values": series.values.tolist(), "steps": length or 1})

    @override
    def problem(self, value: Any, options: AnswerOptions) -> str:
        try:
            asked_window(value, options.length, self.columns, self.lags)
        except InputError as error:
            return str(error).removesuffix(".")
        return ""

    @property
    @override
    def answer_keys(self) -> tuple[str, ...]:
        return ("forecast", "low", "high") if self.has_intervals else ("forecast",)

    @override
    def table_columns(self, top: int) -> tuple[str, ...]:
        del top
        names = [""] if len(self.columns) == 1 else [f" {name}" for name in self.columns]
        return ("step", *(f"{key}{name}" for name in names for key in self.answer_keys))

    @override
    def table_rows(self, answer: Mapping[str, Any], top: int) -> list[dict[str, Any]]:
        """Return a row for each step."""
        del top
        rows: list[dict[str, Any]] = [{"step": step} for step in range(1, len(answer["forecast"]) + 1)]
        for key in self.answer_keys:
            for row, value in zip(rows, answer[key], strict=True):
                row |= (
                    {f"{key} {name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value}
                )
        return rows

    @override
    def lines_of(self, answer: Mapping[str, Any]) -> list[str]:
        if "low" not in answer:
            return ["  ".join(figure(value) for value in answer["forecast"])]
        return [_with_interval(*step) for step in zip(answer["forecast"], answer["low"], answer["high"], strict=True)]

    def sections(self, model: nn.Module, head: AbstractHead, prepared: Prepared, seed: int) -> list[dict[str, Any]]:
        """Return the errors in and out of sample and by steps ahead, the series with their forecasts, the residuals."""
        del seed
        if len(prepared.train):
            train = self._part("in sample (training)", model, head, prepared.train)
        else:
            train = Part("", [], np.empty((0, len(self.columns))), np.empty((0, len(self.columns))), {})
        valid = self._part("out of sample (validation)", model, head, prepared.valid)
        by_steps = self.horizons(model, head, prepared.valid)
        return sections(self.columns, train, valid, self.time or "row", by_steps, self.reference)

    @override
    def describe(self, prepared: Prepared) -> str:
        num_rows = len(prepared.train)
        series = f"of {self.columns[0]}" if len(self.columns) == 1 else f"of {len(self.columns)} series"
        if self.linear is not None:
            return f"{num_rows:,} rows {series} ({self.linear.form.name})"
        return f"{num_rows:,} windows {series}, each of {self.lags} past values and the one to forecast"

    def _examples(self, series: Series, begin: int, end: int) -> Examples:
        rows = max(self.lags, self.reference.rows)
        return examples_of(self.reader, series, begin, end, rows, self.reference.steps)

    def _part(self, name: str, model: nn.Module, head: AbstractHead, examples: Examples) -> Part:
        batch = self.batch(examples, np.arange(len(examples)))
        aside = {key: tensor.numpy() for key, tensor in batch.aside.items()}
        answers = self._answers(forecasts(model, head, batch.inputs["features"].numpy()), aside)
        interval = self.linear.interval(answers.forecast[:, None]) if self.linear and self.has_intervals else None
        found = measures.series_metrics(self.columns, answers, self.reference.scale)
        ends = None if interval is None else (interval[0][:, 0], interval[1][:, 0])
        return Part(name, list(examples.raw or ()), answers.forecast, answers.actual, found, ends)

    def _named(self, rows: np.ndarray) -> list[Any]:
        shown = [[None if not np.isfinite(value) else value for value in row] for row in rows.tolist()]
        if len(self.columns) == 1:
            return [row[0] for row in shown]
        return [dict(zip(self.columns, row, strict=True)) for row in shown]


def _with_interval(forecast: Any, low: Any, high: Any) -> str:
    if isinstance(forecast, Mapping):
        return "  ".join(f"{name}: {_with_interval(value, low[name], high[name])}" for name, value in forecast.items())
    return figure(forecast) if low is None else f"{figure(forecast)}  [{figure(low)}, {figure(high)}]"


def _array(examples: Examples, name: str) -> np.ndarray:
    found = examples.columns[name]
    assert isinstance(found, np.ndarray)
    return found
