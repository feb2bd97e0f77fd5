"""How good forecasts of one step are, beside the naive ones, an autoregression, and the truth of their intervals."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.certificates.new_texts.resampling import Samples, of_sums, ratio
from thalweg.tasks.base import AbstractMeter
from thalweg.tasks.forecast.autoregression.equation import mean_known

SQUARE: Final = "mean squared error over the variance of the true values: 0 is exact, 1 is what their mean would give"

MOST_DETAILED: Final = 50  # series that have all metrics; of more, each has a few
FEW: Final = ("skill", "mase")


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """Forecasts of one step and what they are compared with, in the series' unit, all `[rows, columns]`.

    Args:
        forecast: the model's.
        actual: the true values.
        last: the values one step earlier.
        seasonal: the values a season earlier, NaN where they are not known; None: there is no season.
        autoregressive: the forecasts of an autoregression, NaN where its past is not known.
        covered: 1.0 where the truth lies in the interval of the forecast, else 0.0; None: there are no intervals.
    """

    forecast: np.ndarray
    actual: np.ndarray
    last: np.ndarray
    seasonal: np.ndarray | None
    autoregressive: np.ndarray
    covered: np.ndarray | None = None

    def only(self, columns: np.ndarray) -> "Answers":
        """Return the answers of these columns."""
        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        found: dict[str, Any] = {name: None if one is None else one[:, columns] for name, one in given.items()}
        return Answers(**found)

    def side_by_side(self, series: np.ndarray, row: np.ndarray, num_series: int) -> "Answers":
        """Return the answers of windows of one series each, `[windows, 1]`, with a column for each series.

        The last rows of all series stand side by side; NaN where a series has none.

        Args:
            series: of each window.
            row: how many rows of its series come after it.
            num_series: how many columns there are.
        """
        num_rows = int(row.max()) + 1

        def spread(values: np.ndarray) -> np.ndarray:
            found = np.full((num_rows, num_series), np.nan)
            found[num_rows - 1 - row, series] = values[:, 0]
            return found

        given = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        side: dict[str, Any] = {name: None if one is None else spread(one) for name, one in given.items()}
        return Answers(**side)


def metric_names(*, season: int, intervals: bool) -> list[str]:
    """Return the names of the metrics that there are, the most important first."""
    names = ["skill", "mase", "mae", "nmse", "naive_nmse", "seasonal_naive_nmse", "ar_nmse", "coverage"]
    left_out = {*(() if season > 1 else ("seasonal_naive_nmse",)), *(() if intervals else ("coverage",))}
    return [name for name in names if name not in left_out]


def series_samples(columns: Sequence[str], answers: Answers, scale: np.ndarray) -> Samples:
    """Return the samples of the metrics: rows in the order of time, drawn in blocks of neighbors.

    Metrics are means over the series, and with several series each one's, too:

    skill = 1 - MSE / MSE of the better naive forecast; mase = MAE / `scale`; nmse = MSE / variance of the true values.
    """
    actual = answers.actual
    known = np.isfinite(actual)  # series side by side may have different numbers of rows
    if not known.any(0).all():
        kept = np.flatnonzero(known.any(0))
        return series_samples([columns[i] for i in kept.tolist()], answers.only(kept), scale[kept])
    y = actual - mean_known(actual)
    error = answers.forecast - actual
    seasonal, covered = answers.seasonal, answers.covered
    parts = [known.astype(np.float64)]
    parts += [_known(one)[0] for one in (y, y**2, np.abs(error), error**2, (answers.last - actual) ** 2)]
    parts += _known((answers.autoregressive - actual) ** 2)
    parts += [] if seasonal is None else _known((seasonal - actual) ** 2)
    parts += [] if covered is None else _known(covered)

    def figures(sums: np.ndarray) -> dict[str, np.ndarray]:
        count, total, second, size, squares, last, ar, num_ar, *rest = np.split(sums, len(parts), axis=1)
        variance = ratio(second, count) - ratio(total, count) ** 2
        mse, best, absolute = ratio(squares, count), ratio(last, count), ratio(size, count)
        rows = {"mae": absolute, "nmse": ratio(mse, variance), "naive_nmse": ratio(best, variance)}
        rows["ar_nmse"] = ratio(ratio(ar, num_ar), variance)
        if seasonal is not None:
            ago = ratio(rest[0], rest[1])
            rows["seasonal_naive_nmse"] = ratio(ago, variance)
            best = np.fmin(best, ago)
        if covered is not None:
            rows["coverage"] = ratio(rest[-2], rest[-1])
        rows |= {"skill": 1.0 - ratio(mse, best), "mase": ratio(absolute, np.broadcast_to(scale, size.shape))}
        names = metric_names(season=1 if seasonal is None else 2, intervals=covered is not None)
        found = {name: mean_known(rows[name].T) for name in names}
        if len(columns) > 1:
            found |= {f"{name} {c}": rows[name][:, i] for name in _each(names, columns) for i, c in enumerate(columns)}
        return found

    return of_sums(np.concatenate(parts, axis=1), figures, unit="rows", in_time=True)


def _each(names: list[str], columns: Sequence[str]) -> list[str]:
    """Return the metrics that each of these series has."""
    return names if len(columns) <= MOST_DETAILED else [name for name in names if name in FEW]


def series_metrics(columns: Sequence[str], answers: Answers, scale: np.ndarray) -> dict[str, float]:
    """Return the metrics of `series_samples`."""
    return series_samples(columns, answers, scale).values


def explanations(columns: Sequence[str], *, season: int, intervals: bool) -> dict[str, tuple[str, str]]:
    """Return for each metric its better end, and a sentence."""
    better = "the last value or the value a season ago, whichever is better" if season > 1 else "the last value"
    texts = {
        "skill": ("higher", f"1 - mean squared error / that of {better}: 1 is exact, below 0 is worse than naive."),
        "mase": (
            "lower",
            "Mean absolute error over the mean absolute change "
            f"{f'over a season of {season} rows' if season > 1 else 'from row to row'} in the training part.",
        ),
        "mae": ("lower", "Mean absolute error, in the series' own unit."),
        "nmse": ("lower", f"NMSE out of sample, {SQUARE}."),
        "naive_nmse": ("lower", 'NMSE of the forecast "the same as the last value", which a model should beat.'),
        "seasonal_naive_nmse": ("lower", f"NMSE of the value a season ({season} rows) ago."),
        "ar_nmse": ("lower", "NMSE of an autoregression by least squares, its order by Akaike's criterion."),
        "coverage": (
            "higher",
            "Share of the true values inside the 95 % intervals of the forecasts; above 0.95 they are too wide.",
        ),
    }
    names = metric_names(season=season, intervals=intervals)
    found = {name: texts[name] for name in names}
    each = _each(names, columns)
    for column in columns if len(columns) > 1 else ():
        found |= {f"{name} {column}": (texts[name][0], f"{texts[name][1]} This is {column}.") for name in each}
    return found


def verdict(metrics: Mapping[str, float], season: int) -> str:
    """Return in a sentence how a model compares with the naive forecasts, by its `skill`."""
    better = "the better of the last value and the value a season ago" if season > 1 else "the last value"
    skill = metrics.get("skill", float("nan"))
    if not np.isfinite(skill):
        errors = [metrics.get(name, float("nan")) for name in ("nmse", "naive_nmse", "seasonal_naive_nmse")]
        if 0.0 not in errors[1:]:
            return ""
        return f"{'As good as' if errors[0] == 0.0 else 'Worse than'} naive: {better} is exact here."
    if skill < 0.0:
        return f"Worse than naive: the mean squared error is {-skill:.1%} above that of {better}; use that one instead."
    if skill == 0.0:
        return f"As good as naive: this is the forecast of {better}."
    return f"The mean squared error is {skill:.1%} below that of {better}."


@final
class ForecastMeter(AbstractMeter):
    """The metrics of `series_samples`; `answer` makes the answers of predictions and what their batches set aside."""

    def __init__(
        self, columns: Sequence[str], scale: np.ndarray, answer: Callable[[np.ndarray, dict[str, np.ndarray]], Answers]
    ) -> None:
        self._columns, self._scale, self._answer = columns, scale, answer
        self._parts: list[tuple[Tensor, dict[str, Tensor]]] = []

    @override
    def update(self, prediction: Tensor, batch: Batch) -> None:
        self._parts.append((prediction.detach(), batch.aside))

    @override
    def join(self, everyones: Callable[[Tensor], Tensor]) -> None:
        aside = {name: everyones(torch.cat([part[name] for _, part in self._parts])) for name in self._parts[0][1]}
        self._parts = [(everyones(torch.cat([prediction for prediction, _ in self._parts])), aside)]

    @override
    def compute(self) -> dict[str, float]:
        return self.samples().values

    @override
    def samples(self) -> Samples:
        prediction = np.concatenate([part.cpu().double().numpy() for part, _ in self._parts])
        aside = {
            name: np.concatenate([part[name].cpu().double().numpy() for _, part in self._parts])
            for name in self._parts[0][1]
        }
        return series_samples(self._columns, self._answer(prediction, aside), self._scale)


def _known(squares: np.ndarray) -> list[np.ndarray]:
    """Squares with 0 where they are not known, and where they are."""
    known = np.isfinite(squares)
    return [np.where(known, squares, 0.0), known.astype(np.float64)]
