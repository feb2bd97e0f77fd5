"""Forecast: the next values of one or several series, from the values before."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.equal import View, WholeExamples, same_rows
from thalweg.data.arrays.standardize import Standardizer
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError, lowered
from thalweg.heads.base import AbstractHead
from thalweg.heads.squared import Squared
from thalweg.models.shape import ModelShape
from thalweg.tasks.base import AbstractMeter, AbstractTask, HeadOptions, Prepared, Settings
from thalweg.tasks.forecast import metrics as measures
from thalweg.tasks.forecast.answers import answers_to, forecast_keys, lines_of, table_columns, table_rows, windows_asked
from thalweg.tasks.forecast.asked import asked_window
from thalweg.tasks.forecast.autoregression.linear import Linear
from thalweg.tasks.forecast.horizons import MAX_ORIGINS, Horizons, measure, side_by_side
from thalweg.tasks.forecast.metrics import Answers, ForecastMeter
from thalweg.tasks.forecast.panel import MORE_ROWS, Panel, check_known, shared_notes, singles, usable
from thalweg.tasks.forecast.preparing import Stretch, context_of, get_ready
from thalweg.tasks.forecast.reference import Reference
from thalweg.tasks.forecast.report import Part, sections
from thalweg.tasks.forecast.rows.calendar import Step
from thalweg.tasks.forecast.rows.form_of_file import forecast_file
from thalweg.tasks.forecast.rows.reading import Layout, read_series
from thalweg.tasks.forecast.rows.series import check_length, check_variation
from thalweg.tasks.forecast.running import ahead, forecasts
from thalweg.tasks.forecast.windows import AnyReader, DifferenceReader, WindowReader, examples_of, together
from thalweg.tasks.questions import AnswerOptions, Question
from thalweg.tasks.reading.saved import json_bytes, reading
from thalweg.tasks.verdict import Seen, main_figure
from thalweg.tasks.written import Generated

FILE = "forecast.json"


@final
class Forecast(AbstractTask):
    """The next row of numbers from the rows before, for one series or several at once.

    The validation part is the end of the series; its first windows reach back into the training part.

    Args:
        columns: names of the series.
        reader: how the rows before a forecast are read: windows of values (a network), or lagged differences.
        reference: what forecasts are compared with.
        time: the column that names the rows, for pictures; None: their numbers do.
        linear: what was chosen for a linear autoregression, and its intervals; None: for a network.
        layout: where the series stand in a file.
        panel: the series that an id column tells apart, whose names the `columns` are; None: there is one.
        step: how far apart the rows are; None: not known.
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
        *,
        layout: Layout | None = None,
        panel: Panel | None = None,
        step: Step | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self.reader = reader
        self.reference = reference
        self.time = time
        self.linear = linear
        self.layout = layout or Layout(self.columns, () if time is None else (time,))
        self.panel = panel
        self.step = step

    @property
    def lags(self) -> int:
        """How many rows a forecast sees."""
        return self.reader.rows

    @classmethod
    @override
    def prepare(
        cls, source: AbstractSource, valid: AbstractSource | None, settings: Settings
    ) -> tuple["Forecast", Prepared]:
        ready = get_ready(source, valid, settings)
        task = cls(
            ready.columns, ready.reader, ready.reference, ready.time, ready.linear, layout=ready.layout,
            panel=ready.panel, step=ready.train[0].series.step,
        )  # fmt: skip
        return task, Prepared(task._windows(ready.train), task._windows(ready.valid), ready.notes)

    @override
    def examples(self, source: AbstractSource, columns: dict[str, Any]) -> tuple[Examples, list[str]]:
        layout = self._layout(columns)
        if len(layout.columns) != len(self.layout.columns):
            raise InputError(
                f"{source.name}: expected {len(self.layout.columns)} columns to forecast, got {len(layout.columns)}."
            )
        found, context = read_series(source, layout), self.context
        notes = shared_notes(found)
        if self.panel is not None:
            whole = [one for series in found for one in singles(series, self.panel)]
            whole, left_out = usable(source, whole, check_known(self.panel.ids, context))
            notes += [*left_out, f"The first {context} rows of each series are used as context only."]
            return self._windows([Stretch(one, context, len(one)) for one in whole]), notes
        series = found[0]
        check_length(series, context, MORE_ROWS)
        check_variation(series.part(context), "data", "take rows in which it changes")
        notes.append(f"The first {context} rows are used as context only.")
        return self._windows([Stretch(series, context, len(series))]), notes

    def _layout(self, columns: Mapping[str, Any]) -> Layout:
        """Return where the series stand in another file, whose moments are read as those of the training data."""
        layout = Layout.of(columns, gaps=self.layout.gaps, day_first=self.layout.day_first)
        return dataclasses.replace(layout, notation=self.layout.notation)

    def _windows(self, stretches: Sequence[Stretch]) -> Examples:
        """Return the windows of some stretches of series as one set of examples."""
        rows, steps, found = max(self.lags, self.reference.rows), self.reference.steps, []
        for one in stretches:
            place = 0 if self.panel is None else self.columns.index(one.series.columns[0])
            reader = self.reader if self.panel is None else self.reader.of(place)
            found.append((place, examples_of(reader, one.series, one.begin, one.end, rows, steps)))
        return found[0][1] if self.panel is None else together(found)

    @property
    def context(self) -> int:
        """Rows at the beginning of a file that are not forecast: a linear autoregression waits for its rivals' past."""
        return context_of(self.reader, self.reference)

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
    def files(self) -> dict[str, bytes]:
        saved: dict[str, Any] = {"columns": self.columns, "time": self.time, "reference": self.reference.to_dict()}
        saved |= {"layout": dataclasses.asdict(self.layout)}
        saved |= {"ids": None if self.panel is None else self.panel.ids}
        saved |= {"step": None if self.step is None else self.step.to_dict()}
        if isinstance(self.reader, WindowReader):
            scaling = Standardizer(self.reader.scaling.shift, self.reader.scaling.scale)
            saved |= {"lags": self.lags, "scaling": scaling.to_dict()}
        return {FILE: json_bytes(saved if self.linear is None else saved | {"linear": self.linear.to_dict()})}

    @classmethod
    @override
    def load(cls, folder: Path, settings: Settings) -> "Forecast":
        del settings
        with reading(folder / FILE, forecast_file) as saved:
            linear = Linear.from_dict(saved["linear"]) if "linear" in saved else None
            if linear is None:
                reader: AnyReader = WindowReader(saved["lags"], Standardizer.from_dict(saved["scaling"]))
            else:
                reader = DifferenceReader(linear.scaled)
            layout = Layout.from_dict(saved["layout"]) if "layout" in saved else None
            panel = Panel(tuple(saved["ids"]), layout.columns) if layout and saved.get("ids") else None
            step = Step(**saved["step"]) if saved.get("step") else None
            names, time, reference = saved["columns"], saved["time"], Reference.from_dict(saved["reference"])
            return cls(names, reader, reference, time, linear, layout=layout, panel=panel, step=step)

    @override
    def shape(self) -> ModelShape:
        if self.linear is not None:
            return ModelShape(num_columns=1, lags=self.linear.scaled.width)
        return ModelShape(num_columns=self._width, lags=self.lags)

    @property
    def _width(self) -> int:
        """How many numbers a row of a window has."""
        return len(self.columns) if self.panel is None else 1

    def head(self, model: nn.Module, options: HeadOptions) -> AbstractHead:
        """Return a squared-error head with one output a column (or one for all, where they have the same equation)."""
        del options
        width: int = model.width  # type: ignore[assignment]
        if self.linear is not None:
            return Squared(width, self.linear.num_outputs, bias=self.linear.form.drift)
        return Squared(width, self._width)

    def batch(self, examples: Examples, indices: np.ndarray) -> Batch:
        """Collate windows `features` [batch, lags, columns] and targets [batch, columns]; for the meter what else."""
        features, targets = _array(examples, "features")[indices], _array(examples, "targets")[indices]
        past = _array(examples, "past")
        aside = {
            "actual": _array(examples, "future")[indices, 0],
            "base": self.reader.base(past, indices),
            **self._rivals(examples, past, indices),
        }
        if self.linear is not None:
            features = self.linear.scaled.features(features)
            targets = targets.reshape(*features.shape[:-1], self.linear.num_outputs)
        return Batch(
            {"features": torch.from_numpy(features)},
            torch.from_numpy(targets),
            aside={name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in aside.items()},
        )

    def _rivals(self, examples: Examples, past: np.ndarray, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Return what forecasts are compared with; of windows of one series each also which one, and their row."""
        if self.panel is None:
            return self.reference.one_step(past, indices)
        series = _array(examples, "series")[indices]
        found: dict[str, np.ndarray] = {}
        for place in np.unique(series):
            of = series == place
            for name, values in self.reference.of(int(place)).one_step(past, indices[of]).items():
                found.setdefault(name, np.empty((len(indices), 1)))[of] = values
        return found | {"series": series, "row": _array(examples, "row")[indices]}

    @override
    def meter(self) -> AbstractMeter:
        return ForecastMeter(self.columns, self.reference.scale, self._answers)

    def _answers(self, prediction: np.ndarray, aside: Mapping[str, np.ndarray]) -> Answers:
        scaled, series = prediction.reshape(len(prediction), self._width), None
        if self.panel is not None:
            series = aside["series"].astype(np.int64)
        forecast = self.reader.of(series).answers(scaled, aside["base"])
        inside = None
        if self.linear is not None and self.has_intervals:
            inside = self.linear.inside(forecast[:, None], aside["actual"][:, None], series)[:, 0]
        seasonal = aside["seasonal"] if self.reference.season > 1 else None
        found = Answers(forecast, aside["actual"], aside["last"], seasonal, aside["ar"], inside)
        if series is None:
            return found
        return found.side_by_side(series, aside["row"].astype(np.int64), len(self.columns))

    @property
    def has_intervals(self) -> bool:
        """Whether there are intervals for one step, of every column (of any of the series of an id column)."""
        if self.linear is None:
            return False
        known = np.isfinite(self.linear.radii[0])
        return bool(known.all() if self.panel is None else known.any())

    @override
    def verdict(self, metrics: Mapping[str, float], seen: Seen) -> str:
        said = measures.verdict(metrics, self.reference.season).removesuffix(".")
        kept = f"; kept: {self.linear.form.name}" if self.linear is not None else ""
        if not said:
            return main_figure(metrics, "nmse", seen, "forecasts", "squared error over variance") + kept
        shown = "skill" if np.isfinite(metrics.get("skill", np.nan)) else "nmse"  # there is none beside an error of 0
        return f"{said} ({main_figure(metrics, shown, seen, 'forecasts')}){kept}"

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
        self, model: nn.Module, head: AbstractHead, examples: Examples, limit: int, *, quick: bool = False
    ) -> Generated:
        return Generated(self.horizons(model, head, examples, limit).metrics())

    def horizons(self, model: nn.Module, head: AbstractHead, examples: Examples, limit: int = MAX_ORIGINS) -> Horizons:
        """Return the errors of every step ahead, from the last of these examples on, at most `limit`."""
        most = min(limit, MAX_ORIGINS)
        past, future = _array(examples, "past"), _array(examples, "future")
        inside = self.linear.inside if self.linear is not None and self.has_intervals else None
        if self.panel is not None:
            series = _array(examples, "series")
            each = max(1, most // len(np.unique(series)))
            return side_by_side([
                (int(place), self._horizons(model, head, past[of][-each:], future[of][-each:], int(place)))
                for place in np.unique(series) for of in [series == place]
            ])  # fmt: skip
        past, future = past[-most:], future[-most:]
        known = np.isfinite(past[:, -self.lags :]).all(axis=(1, 2))
        return measure(
            lambda rows, steps: self.ahead(model, head, rows, steps), inside, self.reference, past[known], future[known]
        )

    def _horizons(
        self, model: nn.Module, head: AbstractHead, past: np.ndarray, future: np.ndarray, place: int
    ) -> Horizons:
        """Return the errors of every step ahead of one of the series."""
        known = np.isfinite(past[:, -self.lags :]).all(axis=(1, 2))
        past, future = past[known], future[known]
        series = np.full(len(past), place)
        inside = self.linear.inside if self.linear is not None and self.has_intervals else None
        return measure(
            lambda rows, steps: self.ahead(model, head, rows, steps, series),
inside and (lambda forecast, truth: inside(forecast, truth, series)),
            self.reference.of(place), past, future,
        )  # fmt: skip

    def ahead(
        self, model: nn.Module, head: AbstractHead, past: np.ndarray, steps: int, series: np.ndarray | None = None
    ) -> np.ndarray:
        """Return forecasts in the series' unit, `[windows, steps, columns]`, from the rows before.

        `series` says of which one each window is, where windows are of one series each.
        """
        return ahead(model, head, self.reader.of(series), past, steps)

    def predict(
        self, model: nn.Module, head: AbstractHead, inputs: Sequence[Any], options: AnswerOptions
    ) -> list[dict[str, Any]]:
        """Forecast what follows each input.

        An input is what was last seen, oldest first, at least `lags` rows of it: a list of numbers (one series), a list
        of rows with a number for each column, or a text that holds them (rows separated by `;` or line ends). The
        dictionary `{"values": ..., "steps": 5}` asks for five steps, each forecast being read as if it had happened
        (at most `options.length`); errors add up on the way. It may have the `times` of the rows, and for a run of
        several series it has the `id` of one of them.

        Returns:
            For each input `{"forecast": [...]}`, one entry a step: a number, or with several columns a dictionary.
            Beside it stand the `id`, the `time` of every step where those of the rows were given, and for a linear
            autoregression `low` and `high`, the ends of its 95 % intervals, None for steps that were not measured in
            training.

        Raises:
            InputError: if an input is too short, or no table of finite numbers.
        """
        self.check(inputs, options)
        names = self.columns if self.panel is None else self.panel.columns
        asked = [asked_window(value, options.length, names, self.lags, self.panel) for value in inputs]
        if not asked:
            return []
        past, series = windows_asked(asked, self.panel)
        steps = max(one.steps for one in asked)
        found = {"forecast": self.ahead(model, head, past, steps, series)}
        if self.linear is not None and self.has_intervals:
            found |= zip(("low", "high"), self.linear.interval(found["forecast"], series), strict=True)
        return answers_to(asked, found, names, self.step)

    def parse_input(self, text: str, length: int | None) -> Any:
        """Return the numbers of a text with `length` steps to forecast."""
        return {"values": text, "steps": length or 1}

    @override
    def questions_of(
        self, source: AbstractSource, columns: Mapping[str, Any], length: int | None, *, plain: bool = False
    ) -> Iterator[Question]:
        """Yield each series of the file as one question."""
        del plain
        found = read_series(source, self._layout(columns), keeps_gaps=True)
        notes = tuple(shared_notes(found))
        for series in found:
            given: dict[str, Any] = {"values": series.values.tolist(), "steps": length or 1}
            given |= {} if series.timeline is None else {"times": series.labels}
            yield Question(given | ({"id": series.id} if self.panel is not None and series.id else {}), notes=notes)

    @override
    def problem(self, value: Any, options: AnswerOptions) -> str:
        try:
            names = self.columns if self.panel is None else self.panel.columns
            asked_window(value, options.length, names, self.lags, self.panel)
        except InputError as error:
            return lowered(str(error).removesuffix("."))
        return ""

    @property
    @override
    def answer_keys(self) -> tuple[str, ...]:
        return forecast_keys(intervals=self.has_intervals, several=self.panel is not None)

    @override
    def table_columns(self, top: int) -> tuple[str, ...]:
        return table_columns(self.answer_keys, self.columns if self.panel is None else self.panel.columns)

    @override
    def table_rows(self, answer: Mapping[str, Any], top: int) -> list[dict[str, Any]]:
        return table_rows(answer)

    @override
    def lines_of(self, answer: Mapping[str, Any], top: int = 0) -> list[str]:
        return lines_of(answer)

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

    def _part(self, name: str, model: nn.Module, head: AbstractHead, examples: Examples) -> Part:
        batch = self.batch(examples, np.arange(len(examples)))
        aside = {key: tensor.numpy() for key, tensor in batch.aside.items()}
        answers = self._answers(forecasts(model, head, batch.inputs["features"].numpy()), aside)
        ends = None
        if self.linear is not None and self.has_intervals:
            low, high = self.linear.interval(answers.forecast[:, None])
            ends = low[:, 0], high[:, 0]
        found = measures.series_metrics(self.columns, answers, self.reference.scale)
        raw, each = list(examples.raw or ()), None
        if self.panel is not None:
            series = _array(examples, "series")
            each = [[raw[row] for row in np.flatnonzero(series == place)] for place in range(len(self.columns))]
        return Part(name, raw, answers.forecast, answers.actual, found, ends, each)


def _array(examples: Examples, name: str) -> np.ndarray:
    found = examples.columns[name]
    assert isinstance(found, np.ndarray)
    return found
