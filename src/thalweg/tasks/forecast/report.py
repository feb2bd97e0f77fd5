"""The pictures of a forecast: actual against forecast, errors in and out of sample, residuals."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.data.columns.facts import number_of
from thalweg.heads.base import AbstractHead
from thalweg.tasks.answering import answering

MAX_PICTURES = 4  # series with a picture of their own
CHUNK = 4096


def forecasts(model: nn.Module, head: AbstractHead, windows: np.ndarray) -> np.ndarray:
    """Return the network's answers to scaled numbers `[windows, lags, columns]`, float64 `[windows, columns]`."""
    answers: list[Tensor] = []
    with answering(model, head) as parameter:
        for start in range(0, len(windows), CHUNK):
            features = torch.from_numpy(np.array(windows[start : start + CHUNK]))  # a copy: views are read-only
            answers.append(head(model(features=features.to(parameter))))
    return torch.cat(answers).cpu().double().numpy()


@final
@dataclasses.dataclass(frozen=True)
class Part:
    """One part's forecasts, in the series' own units."""

    name: str  # "in sample (training)" ...
    labels: list[str]  # what each forecast row is called
    forecast: np.ndarray  # [rows, columns]
    actual: np.ndarray  # the true values, the same shape
    metrics: Mapping[str, float]  # see `thalweg.tasks.forecast.task.series_metrics`


def sections(columns: Sequence[str], train: Part, valid: Part, time: str) -> list[dict[str, Any]]:
    """Return the report's sections; `columns` names the series, `time` says what the rows' names are."""
    x = _axis([*train.labels, *valid.labels])
    split = x[len(train.labels)]
    actual = np.concatenate([train.actual, valid.actual])
    forecast = np.concatenate([train.forecast, valid.forecast])
    found: list[dict[str, Any]] = [_table(columns, (train, valid))]
    common = {"kind": "series", "x": x, "x_label": time, "split": split}
    for i, column in enumerate(columns[:MAX_PICTURES]):
        together = {
            "title": f"{column}: actual and forecast",
            "text": "Each forecast is made from the true values before it; right of the line the network has seen "
            "nothing in training.",
            "lines": {"actual": actual[:, i].tolist(), "forecast": forecast[:, i].tolist()},
            "y_label": column,
        }
        residuals = {
            "title": f"{column}: residuals",
            "text": "Actual minus forecast: a good forecast leaves noise around zero; waves or a drift are structure "
            "that it missed.",
            "lines": {"zero": [0.0] * len(x), "residual": (actual - forecast)[:, i].tolist()},
            "y_label": f"{column}, actual - forecast",
        }
        found += [common | together, common | residuals]
    return found


def _table(columns: Sequence[str], parts: Sequence[Part]) -> dict[str, Any]:
    several = len(columns) > 1
    names = ["part", *(["series"] if several else []), "forecasts", "NMSE", "NMSE of last value", "mean |error|"]
    rows: list[list[Any]] = []
    for part in parts:
        for key in ("", *(f" {column}" for column in columns)) if several else ("",):
            figures = [part.metrics[f"{name}{key}"] for name in ("nmse", "naive_nmse", "mae")]
            shown = [part.name, *([key.strip() or "mean over series"] if several else [])]
            rows.append([*shown, len(part.labels), *(float(f"{figure:.5g}") for figure in figures)])
    return {
        "kind": "table",
        "title": "Errors in and out of sample",
        "text": "NMSE is the mean squared error over the variance of the true values: 0 is exact, 1 is what their mean "
        'would give; "last value" forecasts no change, which a network should beat.',
        "columns": names,
        "rows": rows,
    }


def _axis(labels: Sequence[str]) -> list[Any]:
    """Numbers where all labels are, else the labels."""
    numbers = [number_of(label) for label in labels]
    if any(number is None for number in numbers):
        return list(labels)
    return [int(number) if number.is_integer() else number for number in numbers if number is not None]
