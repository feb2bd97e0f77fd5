"""A predictor of a number that learns from one row at a time."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import numpy as np

from thalweg.data.text.hashing import HashingOptions
from thalweg.models.hashed import HashedTable
from thalweg.online.hashed_rows import Features, RowHasher
from thalweg.online.progress import Outcome, Progress
from thalweg.online.state import BIAS_STEP, Shared, check_steps, load_state, save_state, target_number

_SETTLED = 30  # from this many numbers on, wild ones are cut


@final
class OnlineRegressor:
    """A linear predictor of a number over hashed features that learns one row at a time.

    prediction = mean of the numbers so far + bias + sum_i x_i W[b_i],  cut to the range of the numbers so far

    learned on the squared error by the AdaGrad of `HashedTable`, with steps of `lr` standard deviations of the numbers
    so far, so that the unit of the number doesn't matter. A number further than 10 standard deviations from the mean of
    at least 30 is learned as if it were that far, so that one wild number can't spoil the weights; it is
    scored as it is.

    Args:
        num_buckets: number of hashed features, >= 2.
        ngrams: 1 for words, 2 for words and pairs of adjacent words.
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

    kind = "score"

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
        check_steps("OnlineRegressor", lr, l2)
        options = HashingOptions(num_buckets=num_buckets, ngrams=ngrams, columns=columns)
        self.lr = lr
        self.l2 = l2
        self.label_column: str | None = None
        self.progress = Progress()
        self._normalize = normalize
        self._hasher = RowHasher(options, normalize)
        self._table = HashedTable(num_buckets, 1)
        self._bias = 0.0
        self._bias_squares = 0.0
        self._target = _Target()

    @property
    def num_features(self) -> int:
        """How many buckets have been learned."""
        return self._table.num_rows - 1

    @property
    def num_bytes(self) -> int:
        """Memory of the weights as they are."""
        return self._table.num_bytes

    def predict(self, row: str | Mapping[str, object]) -> float | None:
        """Return the number predicted for a row (None before the first); nothing changes.

        Raises:
            InputError: if the row can't be read, such as a number that is not finite.
        """
        features = self._hasher.features(row)
        return self._target.cut(self._forward(features)[2])

    def learn(self, row: str | Mapping[str, object], label: object) -> Outcome:
        """Predict a row, then learn from its number.

        Args:
            row: a text, or values by column (without the number).
            label: a number, or a text that is one.

        Returns:
            What was predicted before learning, and its squared error.

        Raises:
            InputError: if the row or its number can't be read; then nothing has changed.
        """
        truth = target_number(label)
        features = self._hasher.features(row)
        slots, rows, raw = self._forward(features)
        target = self._target
        prediction = target.cut(raw)
        loss = None if prediction is None else (prediction - truth) ** 2
        learned = target.observe(truth)
        deviation = target.deviation
        if deviation > 1e-9 * abs(target.mean):  # less is rounding: so far all numbers are the same
            error = max(-10.0, min(10.0, (raw - learned) / deviation))
            step = self.lr * deviation
            gradient = np.array([error], dtype=np.float32)
            self._table.learn(features.buckets, features.values, slots, rows, gradient=gradient, step=step, l2=self.l2)
            self._bias_squares += error * error
            bias_step = step * (BIAS_STEP if features.has_text else 1.0)
            self._bias -= bias_step * error / math.sqrt(self._bias_squares + 1e-8)
        self._hasher.observe(features)
        return Outcome(prediction, None, loss, True, features.truncated)

    def save(self, folder: str | Path) -> None:
        """Save as a whole or not at all; the one saved before stays until this one is in place (and one longer)."""
        own = {"bias": self._bias, "bias_squares": self._bias_squares, "target": dataclasses.asdict(self._target)}
        shared = Shared(self.kind, self.lr, self.l2, self.label_column, self.progress, self._normalize is str.lower)
        save_state(folder, shared, self._hasher, self._table, own)

    @classmethod
    def load(cls, folder: str | Path, normalize: Callable[[str], str] = str.lower) -> Self:
        """Load what `save` saved; learning goes on exactly as if it had never stopped.

        Args:
            folder: the folder given to `save`.
            normalize: the same as when it was made (a function can't be saved).

        Raises:
            InputError: if nothing is there, a file is damaged, or it was saved with another `normalize`.
        """
        state = load_state(folder, cls.kind, normalize is str.lower)
        options, shared = state.options, state.shared
        model = cls(
            options.num_buckets, options.ngrams, shared.lr, shared.l2, normalize=normalize, columns=options.columns
        )
        state.restore(model._hasher, model._table)
        model.label_column, model.progress = shared.label_column, shared.progress
        model._bias, model._bias_squares = state.own["bias"], state.own["bias_squares"]
        model._target = _Target(**state.own["target"])
        return model

    def _forward(self, features: Features) -> tuple[np.ndarray, np.ndarray, float]:
        slots, rows = self._table.gather(features.buckets)
        return slots, rows, self._target.mean + self._bias + float(features.values.dot(rows)[0])


@final
@dataclass
class _Target:
    """Statistics of the numbers so far, wild ones cut."""

    num: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations
    low: float = math.inf
    high: float = -math.inf

    @property
    def deviation(self) -> float:
        return math.sqrt(self.squares / self.num) if self.num else 0.0

    def cut(self, prediction: float) -> float | None:
        """Return a prediction cut to the range so far; None before the first number."""
        return max(self.low, min(self.high, prediction)) if self.num else None

    def observe(self, value: float) -> float:
        """Take a number into the statistics and return it, cut to 10 standard deviations."""
        if self.num >= _SETTLED and self.squares > 0:
            reach = 10 * self.deviation
            value = max(self.mean - reach, min(self.mean + reach, value))
        self.num += 1
        delta = value - self.mean
        self.mean += delta / self.num
        self.squares += delta * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)
        return value
