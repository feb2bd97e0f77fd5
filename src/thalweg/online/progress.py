"""What is counted while a model learns from a stream, and the record of it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, final


@final
class Outcome(NamedTuple):
    """What a row gave: predicted first, then learned."""

    prediction: str | float | None  # class or number, before learning; None when nothing was known yet
    probability: float | None  # of the true class, before learning; None for numbers
    loss: float | None  # -log(probability) in nats, or the squared error of a number (None without a prediction)
    learned: bool = True  # False for a class beyond `max_classes`, which can be neither predicted nor learned
    truncated: bool = False  # a text was longer than is read


@final
@dataclass
class Tally:
    """Sums over some scored rows."""

    num: int = 0
    right: int = 0  # classes predicted correctly
    num_losses: int = 0  # rows that have a loss
    loss: float = 0.0
    errors: float = 0.0  # absolute errors of numbers
    frequent: float = 0.0  # correct for the most frequent class; squared errors for the mean of the numbers so far
    repeated: float = 0.0  # the same for predicting what came last
    mean: float = 0.0  # of the true numbers
    squares: float = 0.0  # squared deviations of the true numbers from their mean

    def add_class(self, outcome: Outcome, *, right: bool, frequent: bool, repeated: bool) -> None:
        """Count one classified row."""
        self.num += 1
        self.right += right
        self.frequent += frequent
        self.repeated += repeated
        if outcome.learned and outcome.loss is not None:
            self.num_losses += 1
            self.loss += outcome.loss

    def add_number(self, prediction: float, truth: float, mean: float, last: float) -> None:
        """Count one predicted number."""
        self.num += 1
        self.num_losses += 1
        self.loss += (prediction - truth) ** 2
        self.errors += abs(prediction - truth)
        self.frequent += (mean - truth) ** 2
        self.repeated += (last - truth) ** 2
        delta = truth - self.mean
        self.mean += delta / self.num
        self.squares += delta * (truth - self.mean)

    def fraction(self, part: float) -> float:
        """Return a part of the rows as a fraction; NaN when there are no rows."""
        return part / self.num if self.num else math.nan

    def relative(self, squared_errors: float) -> float:
        """Return squared errors over those of the mean (NMSE); NaN when the true numbers don't differ."""
        return squared_errors / self.squares if self.squares > 0 else math.nan

    @property
    def mean_loss(self) -> float:
        """The mean loss; NaN when no row has one."""
        return self.loss / self.num_losses if self.num_losses else math.nan


@final
@dataclass
class Progress:
    """All counts of a stream so far, those of `OnlineRecord` among them; saved with the model."""

    num_rows: int = 0
    num_unlabeled: int = 0
    num_rejected: int = 0
    num_truncated: int = 0
    num_over_budget: int = 0
    last_problem: str = ""  # why the last of the rejected rows was rejected
    seconds: float = 0.0
    total: Tally = field(default_factory=Tally)
    recent: Tally = field(default_factory=Tally)  # since the number of rows last doubled
    counts: dict[str, int] = field(default_factory=dict)  # examples of each class
    frequent: str | None = None  # the most frequent class so far
    last: str | float | None = None  # the last class or number
    num_numbers: int = 0
    mean: float = 0.0  # of the true numbers
    seen: dict[str, Any] = field(default_factory=dict)  # of each file the rows that were taken: `RowsSeen.to_dict()`

    @property
    def num_learned(self) -> int:
        """Rows whose label was learned."""
        return sum(self.counts.values()) + self.num_numbers

    def count_class(self, outcome: Outcome, label: str) -> None:
        """Count a labeled row of a classifier."""
        right, frequent, repeated = outcome.prediction == label, self.frequent == label, self.last == label
        self.total.add_class(outcome, right=right, frequent=frequent, repeated=repeated)
        self.recent.add_class(outcome, right=right, frequent=frequent, repeated=repeated)
        self.num_truncated += outcome.truncated
        self.last = label
        if not outcome.learned:
            self.num_over_budget += 1
            return
        count = self.counts[label] = self.counts.get(label, 0) + 1
        if self.frequent is None or count > self.counts[self.frequent]:
            self.frequent = label

    def count_number(self, outcome: Outcome, truth: float) -> None:
        """Count a labeled row of a regressor; the first has no prediction and is not scored."""
        if outcome.prediction is not None and self.last is not None:
            prediction, last = float(outcome.prediction), float(self.last)
            self.total.add_number(prediction, truth, self.mean, last)
            self.recent.add_number(prediction, truth, self.mean, last)
        self.num_truncated += outcome.truncated
        self.last = truth
        self.num_numbers += 1
        self.mean += (truth - self.mean) / self.num_numbers

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the progress that `dataclasses.asdict` took apart."""
        tallies: dict[str, Any] = {name: Tally(**values[name]) for name in ("total", "recent")}
        return cls(**(dict(values) | tallies))


@final
@dataclass(frozen=True, kw_only=True)
class OnlineRecord:
    """Where a stream stands. Every score is prequential: each row was predicted before it was learned.

    Args:
        score_name: "accuracy" (higher is better) or "NMSE" (squared error over that of the mean; lower is better).
        num_rows: rows read, whatever became of them.
        num_scored: rows that had a label and were scored.
        score: score of all rows so far; NaN when there is none yet.
        score_since: score since the number of rows last doubled.
        loss: mean loss of all rows so far: nats for classes, squared error for numbers.
        loss_since: mean loss since the number of rows last doubled.
        mean_absolute_error: of numbers; None for classes.
        frequent_score: score of always predicting the most frequent class so far (numbers: the mean so far).
        repeat_score: score of always predicting what came last.
        num_classes: classes so far; 0 for numbers.
        num_features: hashed features learned so far.
        num_unlabeled: rows without label, predicted only.
        num_rejected: rows that could not be read, and changed nothing.
        num_truncated: labeled rows with a text longer than is read.
        num_over_budget: rows of a class beyond `max_classes`: counted as wrong, left out of the loss, not learned.
        seconds: time spent, waiting for rows included, over all restarts.
        examples_per_second: rows read in a second of this run, waiting included.
        last: nothing comes after this record.
        notes: what the user should know, in sentences.
    """

    score_name: str
    num_rows: int
    num_scored: int
    score: float
    score_since: float
    loss: float
    loss_since: float
    mean_absolute_error: float | None
    frequent_score: float
    repeat_score: float
    num_classes: int
    num_features: int
    num_unlabeled: int
    num_rejected: int
    num_truncated: int
    num_over_budget: int
    seconds: float
    examples_per_second: float
    last: bool
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with None in place of NaN and infinity."""
        values = dataclasses.asdict(self) | {"event": "online", "notes": list(self.notes)}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
