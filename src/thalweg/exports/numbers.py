"""Forecasts as graphs: the last rows of a series in, the next row out, both in the series' own unit."""

import copy
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.data.arrays.standardize import Standardizer
from thalweg.errors import InputError
from thalweg.exports.graph import BATCH, Example, Graph, Port
from thalweg.heads.base import AbstractHead
from thalweg.tasks.forecast.task import Forecast
from thalweg.tasks.forecast.windows import DifferenceReader, WindowReader

TRIED: Final = 5  # windows


class Window(nn.Module):
    """A network on a window of scaled numbers, in the series' unit on both sides.

    Args:
        model: the model.
        head: the output layer.
        scaling: of the series.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, head: nn.Module, scaling: Standardizer) -> None:
        super().__init__()
        self.model, self.head = model, head
        self.register_buffer("shift", torch.from_numpy(np.asarray(scaling.shift, dtype=np.float64)))
        self.register_buffer("scale", torch.from_numpy(np.asarray(scaling.scale, dtype=np.float64)))

    def forward(self, past: Tensor) -> Tensor:
        """Return the next row, float64 `[batch, columns]`, for rows `[batch, lags, columns]`."""
        features = ((past - self.shift) / self.scale).float()
        return self.head(self.model(features=features)).double() * self.scale + self.shift


class Affine(nn.Module):
    """An affine function of the past, or of its logarithm: what a linear autoregression is, written out.

    Args:
        weights: `[lags * columns, columns]`.
        bias: `[columns]`.
        log: whether it is about logarithms.
    """

    weights: Tensor
    bias: Tensor

    def __init__(self, weights: np.ndarray, bias: np.ndarray, *, log: bool) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(weights))
        self.register_buffer("bias", torch.from_numpy(bias))
        self.log = log

    def forward(self, past: Tensor) -> Tensor:
        """Return the next row, float64 `[batch, columns]`, for rows `[batch, lags, columns]`."""
        levels = (past.log() if self.log else past).flatten(1)
        found = levels @ self.weights + self.bias
        return found.exp() if self.log else found


def of_forecast(task: Forecast, model: nn.Module, head: AbstractHead) -> Graph:
    """Return a forecast of the next row."""
    if task.panel is not None:
        raise InputError(
            "This run forecasts several series that an id column tells apart, each in a scale of its own, which has no "
            "ONNX graph here; train on one series, or on series side by side in columns, to export it."
        )
    reader, columns, lags = task.reader, task.columns, task.lags
    random = np.random.default_rng(0)
    if isinstance(reader, WindowReader):
        assert isinstance(reader.scaling, Standardizer)
        network: nn.Module = Window(_copy(model), _copy(head), reader.scaling)
        tried = reader.scaling.inverse(random.uniform(-1.0, 1.0, (TRIED * lags, len(columns))))
        past = tried.reshape(TRIED, lags, len(columns))
    else:
        network, past = _affine(reader, lambda rows: task.ahead(model, head, rows, 1)[:, 0], lags, len(columns), random)
    answers = task.ahead(model, head, past, 1)[:, 0]
    shown = ", ".join(columns)
    return Graph(
        network.eval(),
        (Port("past", "float64", (BATCH, lags, len(columns)), f"The last {lags} rows, oldest first, of: {shown}."),),
        Port("forecast", "float64", (BATCH, len(columns)), "The next row, in the unit of the series."),
        (Example({"past": past}, answers), Example({"past": past[:1]}, answers[:1])),
        {"columns": list(columns), "lags": lags},
        ("For more steps append the forecast to the rows, drop the oldest one, and run again.",),
    )


def _affine(
    reader: DifferenceReader,
    forecast: Callable[[np.ndarray], np.ndarray],
    lags: int,
    columns: int,
    random: np.random.Generator,
) -> tuple[Affine, np.ndarray]:
    """Return a linear autoregression written out, and rows to try it on.

    An affine function is known from its values at a point and at one step from it along each axis.
    """
    form, size = reader.scaled.form, lags * columns
    step = max(float(np.max(np.abs(reader.scaled.spread))), 1e-6)
    points = np.concatenate([np.zeros((1, size)), step * np.eye(size)]).reshape(-1, lags, columns)
    found = form.levels(forecast(form.values(points)))
    weights = (found[1:] - found[0]) / step
    past = form.values(step * random.uniform(-3.0, 3.0, (TRIED, lags, columns)))
    return Affine(np.ascontiguousarray(weights), found[0], log=form.log), past


def _copy(module: nn.Module) -> Any:
    return copy.deepcopy(module).cpu().float().eval()
