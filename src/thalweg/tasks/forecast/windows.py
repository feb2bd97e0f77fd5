"""From a series to examples: what a model reads, what it should answer, and what its answers are compared with."""

import dataclasses
from collections.abc import Sequence
from typing import final

import numpy as np

from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.arrays.standardize import Standardizer
from thalweg.errors import InputError
from thalweg.tasks.forecast.autoregression.equation import Scaled
from thalweg.tasks.forecast.autoregression.rolling import following
from thalweg.tasks.forecast.rows.series import Series
from thalweg.tasks.reading.numeric import scaled_by


@final
@dataclasses.dataclass(frozen=True, eq=False)
class EachScaling:
    """A shift and a scale for each window, `[windows]` (see `Standardizer`)."""

    shift: np.ndarray
    scale: np.ndarray

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Return the scaled values, `[windows, ...]`."""
        return (values - self._like(self.shift, values)) / self._like(self.scale, values)

    def inverse(self, scaled: np.ndarray) -> np.ndarray:
        """Return the values in their own unit, `[windows, ...]`."""
        return np.asarray(scaled, dtype=np.float64) * self._like(self.scale, scaled) + self._like(self.shift, scaled)

    @staticmethod
    def _like(each: np.ndarray, values: np.ndarray) -> np.ndarray:
        return each.reshape(-1, *[1] * (values.ndim - 1))


@final
class WindowReader:
    """Reads windows of scaled values, as a network does.

    Args:
        lags: rows of a window.
        scaling: of the series.
    """

    def __init__(self, lags: int, scaling: "Standardizer | EachScaling") -> None:
        self.rows, self.scaling = lags, scaling

    def of(self, series: np.ndarray | int | None) -> "WindowReader":
        """Return it for one of several series, or for windows `[windows, rows, 1]` of these; None: as it is."""
        if series is None:
            return self
        shift, scale = self.scaling.shift, self.scaling.scale
        if isinstance(series, int):
            return WindowReader(self.rows, Standardizer(shift[[series]], scale[[series]]))
        return WindowReader(self.rows, EachScaling(shift[series], scale[series]))

    def pairs(self, values: np.ndarray, targets: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
        """Return windows `[targets, lags, columns]`, views of one array, and what follows them `[targets, columns]`.

        Args:
            values: of the series, `[rows, columns]`.
            targets: the rows to forecast, each with at least `rows` before it.
            where: the name of the series, for messages.
        """
        scaled = self._scaled(values, where)
        windows = np.lib.stride_tricks.sliding_window_view(scaled[:-1], self.rows, axis=0).transpose(0, 2, 1)
        return picked(windows, targets - self.rows), scaled[targets]

    def features(self, past: np.ndarray) -> np.ndarray:
        """Return what the model reads of the rows before, `[windows, rows, columns]`."""
        return self._scaled(past[:, -self.rows :], "The input")

    def base(self, past: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return what `answers` needs to know of the chosen ones of the rows before: nothing, `[chosen, columns]`."""
        return np.zeros((len(chosen), past.shape[2]))

    def answers(self, scaled: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Return the series for what the model says, both `[windows, columns]`."""
        del base
        return self.scaling.inverse(scaled)

    def _scaled(self, values: np.ndarray, where: str) -> np.ndarray:
        """Scaled numbers as float32, `[..., columns]`."""
        return scaled_by(self.scaling, values, where)


@final
class DifferenceReader:
    """Reads scaled differences at some lags, as a linear autoregression does."""

    def __init__(self, scaled: Scaled) -> None:
        self.rows, self.scaled = scaled.form.context, scaled

    def of(self, series: np.ndarray | int | None) -> "DifferenceReader":
        """Return it for one of several series, or for windows `[windows, rows, 1]` of these; None: as it is."""
        return self if series is None else DifferenceReader(self.scaled.of(series))

    def pairs(self, values: np.ndarray, targets: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
        """Return lagged differences `[targets, lags, columns]` and the ones that follow; see `WindowReader.pairs`."""
        del where
        form = self.scaled.form
        levels = form.levels(values)
        lagged = self.scaled.lagged(levels)[:-1]
        differences = self.scaled.forward(form.differences(levels))
        first = len(levels) - len(lagged)
        return picked(lagged, targets - first), differences[targets - (len(form.polynomial) - 1)]

    def base(self, past: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Return the part of z that the chosen ones of the rows before say: see `Form.base`."""
        form, rows = self.scaled.form, past.shape[1]
        found = np.zeros((len(chosen), past.shape[2]))
        for power in np.flatnonzero(form.polynomial[1:]) + 1:  # these rows only: all of them may be many
            found -= form.polynomial[power] * form.levels(past[chosen, rows - power])
        return found

    def answers(self, scaled: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Return the series for what the model says, both `[windows, columns]`."""
        return self.scaled.form.values(base + self.scaled.inverse(scaled))


AnyReader = WindowReader | DifferenceReader


def examples_of(reader: AnyReader, series: Series, begin: int, end: int, rows: int, steps: int) -> Examples:
    """Return the examples that forecast the rows from `begin` to `end`, without those that were filled in.

    Their columns are `features` and `targets`, the `past` (the `rows` values before, NaN where there were none) and the
    `future` (the true values of so many `steps`, NaN where they are not known), both in the series' unit; they share
    the memory of the series where they can.
    """
    targets = np.flatnonzero(series.counts)
    targets = targets[(targets >= begin) & (targets < end)]
    if not len(targets):
        raise InputError(
            f"{series.name}: no row from {series.labels[begin]} to {series.labels[end - 1]} and the row before it are "
            "complete, so there is nothing to forecast; fill in what is missing."
        )
    features, wanted = reader.pairs(series.values, targets, series.name)
    padded = np.concatenate([np.full((rows, len(series.columns)), np.nan), series.values])
    past = np.lib.stride_tricks.sliding_window_view(padded[:-1], rows, axis=0).transpose(0, 2, 1)
    future = following(series.truth[:end], 0, end, steps)
    columns: dict[str, Ragged | np.ndarray] = {
        "features": features,
        "targets": wanted,
        "past": picked(past, targets),
        "future": picked(future, targets),
    }
    return Examples(columns, [series.labels[row] for row in targets.tolist()])


def together(parts: Sequence[tuple[int, Examples]]) -> Examples:
    """Return the windows of several series, each with the number of its series, as one set of examples.

    Their columns have two more: the `series`, and the `row`, counted back from the last one of each series.
    """
    columns: dict[str, Ragged | np.ndarray] = {}
    for name in parts[0][1].columns:
        columns[name] = np.concatenate([np.asarray(examples.columns[name]) for _, examples in parts])
    columns["series"] = np.concatenate([np.full(len(examples), place) for place, examples in parts])
    columns["row"] = np.concatenate([np.arange(len(examples))[::-1] for _, examples in parts])
    return Examples(columns, [label for _, examples in parts for label in examples.raw or ()])


def picked(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return these rows, which ascend: a view where none is left out between them."""
    first, last = int(rows[0]), int(rows[-1])
    return values[first : last + 1] if last - first + 1 == len(rows) else values[rows]
