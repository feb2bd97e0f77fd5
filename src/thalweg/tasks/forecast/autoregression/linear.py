"""A linear autoregression that was chosen for a series: its form, its penalty, and its intervals."""

import dataclasses
from typing import Any, Final, final

import numpy as np

from thalweg.errors import InputError
from thalweg.tasks.forecast.autoregression.equation import Scaled
from thalweg.tasks.forecast.autoregression.form import JOINT, SHARED, Form
from thalweg.tasks.forecast.autoregression.intervals import radii
from thalweg.tasks.forecast.autoregression.rolling import NAIVE_L2, choose
from thalweg.tasks.forecast.reference import Reference
from thalweg.tasks.forecast.rows.series import Series

DIGITS: Final = 6  # that the sentence shows of a score


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Linear:
    """What was chosen.

    Args:
        scaled: the form, and the mean and spread of its differences.
        l2: the penalty.
        radii: of the 95 % intervals in z, `[steps, columns]`; NaN where there were too few errors.
        told: a sentence.
    """

    scaled: Scaled
    l2: float
    radii: np.ndarray
    told: str

    @property
    def form(self) -> Form:
        """What is forecast from what."""
        return self.scaled.form

    @property
    def num_outputs(self) -> int:
        """Outputs of the layer: one for each series, or one for all rows of features."""
        return len(self.scaled.mean) if self.form.equations == JOINT else 1

    def interval(self, forecast: np.ndarray, series: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of forecasts, `[windows, steps, columns]`; NaN for steps without one.

        `series` says of which one each window is, where windows are of one series each.
        """
        radii = self.radii if series is None else self.radii[:, series]
        room = np.full(forecast.shape[1:] if series is None else forecast.shape[1::-1], np.nan)
        room[: len(radii)] = radii[: len(room)]
        room = room if series is None else room.T[:, :, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            levels = np.log(forecast) if self.form.log else forecast
        return self.form.values(levels - room), self.form.values(levels + room)

    def inside(self, forecast: np.ndarray, actual: np.ndarray, series: np.ndarray | None = None) -> np.ndarray:
        """Return whether true values lie in the intervals, 0.0 or 1.0; NaN where there is none.

        Both are `[windows, steps, columns]`; for `series` see `interval`.
        """
        low, high = self.interval(forecast, series)
        return np.where(np.isfinite(low), (low <= actual) & (actual <= high), np.nan)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, as plain JSON values."""
        return {
            "scaled": self.scaled.to_dict(),
            "l2": self.l2,
            "radii": [[None if np.isnan(value) else value for value in row] for row in self.radii.tolist()],
            "told": self.told,
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Linear":
        """Return what `to_dict` was called on."""
        found = np.array(saved["radii"], dtype=np.float64)
        return cls(Scaled.from_dict(saved["scaled"]), float(saved["l2"]), found, str(saved["told"]))


def choose_linear(train: Series, reference: Reference, lags: int, *, logs: bool = True, shared: bool = False) -> Linear:
    """Return what does best on a rolling origin inside the training part; its errors there make the intervals.

    Where it is `shared`, all series have one equation.

    Without `logs` no logarithm is tried: values outside the training part may have none.

    Raises:
        InputError: if the training part has too few rows for the `lags` that were asked for.
    """
    choice = choose(train.values, train.observed, reference.season, lags=lags, logs=logs, shared=shared)
    if choice is None:
        form, l2 = Form(equations=SHARED if shared else JOINT), NAIVE_L2
        found = np.full((reference.steps, len(train.columns)), np.nan)
        told = f"Kept: {form.name}; {len(train)} rows are too few to choose anything else."
    else:
        form, found = choice.kept.form, radii(choice.kept.levels)
        l2 = choice.kept.l2 * _stretched(form, form.levels(train.values), choice.num_rows)
        told = f"Kept: {form.name}; {choice.why}."
        if not form.is_naive:
            told = (
                f"Kept: {form.name}, penalty {l2:.3g}; {choice.why}, its mean squared error there is "
                f"{choice.score:.3f} of that of the better naive forecast."
            )
    if lags and not form.lags:
        raise InputError(
            f"{train.name}: {lags} lags cannot be tried on a rolling origin in {len(train):,} rows of training; give "
            "fewer --lags, or leave them out."
        )
    return Linear(Scaled.fit(form, form.levels(train.values)), l2, found, told)


def _stretched(form: Form, levels: np.ndarray, num_rows: int) -> float:
    """Return by what the penalty that suited the last rows is multiplied for all of them, so that it weighs as much.

    It is added to a mean over rows of squares in units of the spread, and a series that grows has a larger spread over
    all its rows than over the last ones.

    Args:
        form: what was chosen.
        levels: z of all rows, `[rows, columns]`.
        num_rows: the last ones, which chose the penalty.
    """
    if num_rows >= len(levels) or form.is_naive:
        return 1.0
    spreads = [Scaled.fit(form, part).spread for part in (levels[-num_rows:], levels)]
    return num_rows / len(levels) * float(np.mean(spreads[0] / spreads[1]) ** 2)
