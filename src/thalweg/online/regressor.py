"""A predictor of a number that learns from one row at a time."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from typing_extensions import override

from thalweg.data.text.hashing import HashingOptions
from thalweg.online.base import AbstractOnlineModel, HashedLinear, Row
from thalweg.online.progress import Outcome, Tally
from thalweg.online.values import target_number

_SETTLED = 30  # from this many numbers on, outliers are clipped


@final
class OnlineRegressor(AbstractOnlineModel):
    """A linear predictor of a number over hashed features that learns one row at a time.

    prediction = mean of the numbers so far + bias + sum_i x_i W[b_i],  cut to the range of the numbers so far

    learned on the squared error by the AdaGrad of `HashedTable`, with steps of `lr` standard deviations of the numbers
    so far, so that the unit of the number doesn't matter. An outlier, more than 10 standard deviations from the mean of
    at least 30 numbers, is learned as if it were that far, so that it can't spoil the weights; it is scored as it is.

    Args:
        num_buckets: number of hashed features, >= 2.
        ngrams: 1 for words, 2 for words and bigrams.
        lr: step size in standard deviations, above 0.
        l2: the loss has the term l2/2 times the squared weights of the example's features, >= 0.
        normalize: what is done to a text before it is split into words.
        columns: the columns that are read; None for all (but the label).

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> model = OnlineRegressor()
        >>> for x in [0.0, 1.0, 2.0, 3.0] * 200:
        ...     outcome = model.learn({"x": x}, 10 * x + 5)
        >>> outcome.loss < 1
        True

    Source:
        Ross, Mineiro and Langford (2013), Normalized online learning, for steps that don't depend on units.

    When not to use it:
        for a few dozen columns without drift: recursive least squares gets more out of each row.
    """

    kind = "regressor"
    score_name = "NMSE"
    label_role = "number"

    def __init__(
        self,
        num_buckets: int = 2**18,
        ngrams: int = 2,
        lr: float = 0.4,
        l2: float = 0.0,
        *,
        normalize: Callable[[str], str] = str.lower,
        columns: tuple[str, ...] | None = None,
    ) -> None:
        options = HashingOptions(num_buckets=num_buckets, ngrams=ngrams, columns=columns)
        self._begin(HashedLinear("OnlineRegressor", options, 1, lr, l2, normalize))
        self._bias = 0.0
        self._target = _Target()

    def predict(self, row: Row) -> float | None:
        """Return the number predicted for a row (None before the first); nothing changes.

        Raises:
            InputError: if the row can't be read, such as a number that is not finite.
        """
        features = self._linear.hasher.features(row)
        return self._target.clip(self._target.mean + self._bias + float(self._linear.outputs(features)[2][0]))

    def learn(self, row: Row, label: object) -> Outcome:
        """Predict a row, then learn from its number.

        Args:
            row: a text, or values by column (without the number).
            label: a number, or a text that is one.

        Returns:
            What was predicted before learning, and its squared error.

        Raises:
            InputError: if the row or its number can't be read; then nothing has changed.
        """
        linear, target = self._linear, self._target
        truth = target_number(label)
        features = linear.hasher.features(row)
        slots, rows, outputs = linear.outputs(features)
        raw = target.mean + self._bias + float(outputs[0])
        prediction = target.clip(raw)
        loss = None if prediction is None else (prediction - truth) ** 2
        learned = target.observe(truth)
        deviation = target.deviation
        if deviation > 1e-9 * abs(target.mean):  # less is rounding: so far all numbers are the same
            error = max(-10.0, min(10.0, (raw - learned) / deviation))
            gradient = np.array([error], dtype=np.float32)
            self._bias -= error * linear.learn(features, slots, rows, gradient, linear.lr * deviation)
        linear.hasher.observe(features)
        return Outcome(prediction, None, loss, True, features.truncated)

    @override
    def count(self, outcome: Outcome, label: object) -> None:
        self.progress.count_number(outcome, target_number(label))

    @override
    def scores(self, tally: Tally) -> tuple[float, float, float]:
        return tally.relative(tally.loss), tally.relative(tally.frequent), tally.relative(tally.repeated)

    @override
    def _state(self) -> dict[str, Any]:
        return {"bias": self._bias, "target": dataclasses.asdict(self._target)}

    @override
    def _restore(self, state: dict[str, Any]) -> None:
        self._bias, self._target = state["bias"], _Target(**state["target"])


@final
@dataclass
class _Target:
    """Statistics of the numbers so far, outliers clipped."""

    num: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations
    low: float = math.inf
    high: float = -math.inf

    @property
    def deviation(self) -> float:
        return math.sqrt(self.squares / self.num) if self.num else 0.0

    def clip(self, prediction: float) -> float | None:
        """Return a prediction clipped to the range so far; None before the first number."""
        return max(self.low, min(self.high, prediction)) if self.num else None

    def observe(self, value: float) -> float:
        """Take a number into the statistics and return it, clipped to 10 standard deviations."""
        if self.num >= _SETTLED and self.squares > 0:
            reach = 10 * self.deviation
            value = max(self.mean - reach, min(self.mean + reach, value))
        self.num += 1
        delta = value - self.mean
        self.mean += delta / self.num
        self.squares += delta * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)
        return value
