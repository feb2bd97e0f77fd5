"""The pictures of a forecast: actual against forecast, errors in and out of sample and by steps ahead, residuals."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from thalweg.data.columns.notation import number_of
from thalweg.tasks.forecast.autoregression.equation import mean_known
from thalweg.tasks.forecast.horizons import Horizons, table
from thalweg.tasks.forecast.reference import Reference

MAX_PICTURES = 4  # series with a picture of their own
FIGURES = {
    "skill": "skill",
    "mase": "MASE",
    "nmse": "NMSE",
    "naive_nmse": "NMSE of last value",
    "seasonal_naive_nmse": "NMSE of a season ago",
    "ar_nmse": "NMSE of AR",
    "mae": "mean |error|",
    "coverage": "in the 95 % interval",
}


@final
@dataclasses.dataclass(frozen=True)
class Part:
    """One part's forecasts, in the series' own units."""

    name: str  # "in sample (training)" ...
    labels: list[str]  # what each forecast row is called
    forecast: np.ndarray  # [rows, columns]
    actual: np.ndarray  # the true values, the same shape
    metrics: Mapping[str, float]  # see `thalweg.tasks.forecast.metrics.series_metrics`
    interval: tuple[np.ndarray, np.ndarray] | None = None  # low and high, the same shape
    # Where each series has rows of its own: their labels by column; NaN stands before series that begin later.
    each: Sequence[Sequence[str]] | None = None

    def of(self, column: int) -> "Part":
        """Return the part of one column."""
        known = slice(None) if self.each is None else np.isfinite(self.actual[:, column])
        labels = self.labels if self.each is None else list(self.each[column])
        ends = None
        if self.interval is not None:
            ends = self.interval[0][known, column], self.interval[1][known, column]
        return Part(self.name, labels, self.forecast[known, column], self.actual[known, column], self.metrics, ends)


def sections(
    columns: Sequence[str], train: Part, valid: Part, time: str, by_steps: Horizons, reference: Reference
) -> list[dict[str, Any]]:
    """Return the report's sections; `columns` names the series, `time` says what the rows' names are."""
    found: list[dict[str, Any]] = [_table(columns, [part for part in (train, valid) if part.labels], reference)]
    if len(by_steps.counts) > 1:
        found += [table(by_steps, reference.scale), _by_steps(by_steps)]
    for i, column in enumerate(columns):
        if len(found) >= MAX_PICTURES * 2 + 3:
            break
        before, after = train.of(i), valid.of(i)
        if not after.labels:
            continue
        x = _axis([*before.labels, *after.labels])
        actual = np.concatenate([before.actual, after.actual])
        forecast = np.concatenate([before.forecast, after.forecast])
        common = {"kind": "series", "x": x, "x_label": time, "split": x[len(before.labels)]}
        together: dict[str, Any] = {
            "title": f"{column}: actual and forecast",
            "text": "Each forecast is made from the true values before it; right of the line the model has seen "
            "nothing in training.",
            "lines": {"actual": actual.tolist(), "forecast": forecast.tolist()},
            "y_label": column,
        }
        held = valid.metrics.get("coverage" if len(columns) == 1 else f"coverage {column}")
        if after.interval is not None and held is not None and np.isfinite(held):
            empty = [None] * len(before.labels)
            ends = [[*empty, *(float(v) if np.isfinite(v) else None for v in end)] for end in after.interval]
            together["band"] = {"name": "95 % interval", "low": ends[0], "high": ends[1]}
            together["text"] += (
                " The band holds a new value with a probability of 95 % if errors are exchangeable with those on the "
                f"rolling origin in the training part, which made it; here it holds {held:.0%} of the values."
            )
        residuals = {
            "title": f"{column}: residuals",
            "text": "Actual minus forecast: a good forecast leaves noise around zero; waves or a drift are structure "
            "that it missed.",
            "lines": {"zero": [0.0] * len(x), "residual": (actual - forecast).tolist()},
            "y_label": f"{column}, actual - forecast",
        }
        found += [common | together, common | residuals]
    return found


def _by_steps(by_steps: Horizons) -> dict[str, Any]:
    """Return the root mean squared errors by steps ahead, each over that of the last value, the mean over series."""
    last = np.sqrt(by_steps.mse["last value"])
    with np.errstate(divide="ignore", invalid="ignore"):
        lines = {
            name: mean_known((np.sqrt(mse) / last).T) for name, mse in by_steps.mse.items() if name != "last value"
        }
    return {
        "kind": "series",
        "title": "Error by steps ahead over that of the last value",
        "text": "Root mean squared errors out of sample, those of the last value being 1: the lowest line is best.",
        "x": list(range(1, len(last) + 1)),
        "x_label": "steps ahead",
        "y_label": "RMSE / RMSE of the last value",
        "lines": {
            "last value": [1.0] * len(last),
            **{name: [float(v) if np.isfinite(v) else None for v in values] for name, values in lines.items()},
        },
    }


def _table(columns: Sequence[str], parts: Sequence[Part], reference: Reference) -> dict[str, Any]:
    several = len(columns) > 1
    wanted = [name for name in FIGURES if name in parts[0].metrics]
    names = ["part", *(["series"] if several else []), "forecasts", *(FIGURES[name] for name in wanted)]
    rows: list[list[Any]] = []
    for part in parts:
        for key in ("", *(f" {column}" for column in columns)) if several else ("",):
            if f"{wanted[0]}{key}" not in part.metrics:
                continue
            figures = [part.metrics.get(f"{name}{key}", np.nan) for name in wanted]
            number = len(part.labels) if part.each is None or not key else len(part.of(columns.index(key[1:])).labels)
            shown = [part.name, *([key.strip() or "mean over series"] if several else [])]
            numbers = (float(f"{figure:.5g}") if np.isfinite(figure) else None for figure in figures)
            rows.append([*shown, number, *numbers])
    season = f"; a season is {reference.season} rows ({reference.found})" if reference.season > 1 else ""
    return {
        "kind": "table",
        "title": "Errors in and out of sample",
        "text": "NMSE is the mean squared error over the variance of the true values: 0 is exact, 1 is what their mean "
        f'would give. "Last value" forecasts no change{season}; '
        "AR is an autoregression by least squares, its order by Akaike's criterion. Skill is 1 - MSE / that of the "
        "better naive forecast, below 0 where the model is worse; MASE is the mean absolute error over the mean "
        f"absolute change {'over a season' if season else 'from row to row'} in the training part.",
        "columns": names,
        "rows": rows,
    }


def _axis(labels: Sequence[str]) -> list[Any]:
    """Numbers where all labels are, else the labels."""
    numbers = [number_of(label) for label in labels]
    if any(number is None for number in numbers):
        return list(labels)
    return [int(number) if number.is_integer() else number for number in numbers if number is not None]
