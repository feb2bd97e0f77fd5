"""From a series to examples: what a model reads, what it should answer, and what its answers are compared with."""

from typing import final

import numpy as np

from thalweg.data.arrays.batches import Examples
from thalweg.data.arrays.ragged import Ragged
from thalweg.data.arrays.standardize import Standardizer
from thalweg.errors import InputError
from thalweg.tasks.forecast.autoregression.equation import Scaled
from thalweg.tasks.forecast.autoregression.rolling import following
from thalweg.tasks.forecast.series import Series


@final
class WindowReader:
    """Reads windows of scaled values, as a network does.

    Args:
        lags: rows of a window.
        scaling: of the series.
    """

    def __init__(self, lags: int, scaling: Standardizer) -> None:
        self.rows, self.scaling = lags, scaling

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
        with np.errstate(over="ignore"):
            scaled = self.scaling.forward(values).astype(np.float32)
        if not np.isfinite(scaled).all():
            raise InputError(
                f"{where}: expected numbers of a size that fits the training data, got {np.abs(values).max():g}."
            )
        return scaled


@final
class DifferenceReader:
    """Reads scaled differences at some lags, as a linear autoregression does."""

    def __init__(self, scaled: Scaled) -> None:
        self.rows, self.scaled = scaled.form.context, scaled

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


def picked(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return these rows, which ascend: a view where none is left out between them."""
    first, last = int(rows[0]), int(rows[-1])
    return values[first : last + 1] if last - first + 1 == len(rows) else values[rows]
