"""Records of a run's history to curves: what survived a resume, smoothing, thinning."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from thalweg.report.text import number

Record = Mapping[str, Any]


@final
@dataclass(frozen=True)
class Curve:
    """One quantity over the steps of a run; a value of None is a gap in the line."""

    steps: list[float]  # they go back only after a rollback, and there a gap stands between
    values: list[float | None]  # finite, or None
    epochs: list[float | None]  # None where it was not recorded

    def __len__(self) -> int:
        return len(self.steps)

    def take(self, indices: Sequence[int]) -> "Curve":
        """Return the curve of the points at these indices."""
        return Curve(
            [self.steps[i] for i in indices], [self.values[i] for i in indices], [self.epochs[i] for i in indices]
        )


def surviving(history: Sequence[Record]) -> list[Record]:
    """Return the history without the records that a resumed run computed a second time.

    A run that was killed resumes from its last checkpoint and repeats the steps after it; the first copies are dropped.
    """
    kept: list[Record] = []
    for record in history:
        if record.get("event") == "resumed":
            start = number(record.get("step"))
            while start is not None and kept and (number(kept[-1].get("step")) or 0) > start:
                kept.pop()
        kept.append(record)
    return kept


def of_event(history: Sequence[Record], event: str) -> list[Record]:
    """Return the records of one event that have a step."""
    return [record for record in history if record.get("event") == event and number(record.get("step")) is not None]


def curve(records: Sequence[Record], *keys: str) -> Curve:
    """Return the values under nested keys ("metrics", "accuracy") over the steps; a gap where the steps go back."""
    steps: list[float] = []
    values: list[float | None] = []
    epochs: list[float | None] = []
    for record in records:
        step = float(record["step"])
        if steps and step <= steps[-1]:
            steps.append(steps[-1])
            values.append(None)
            epochs.append(None)
        found: Any = record
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        steps.append(step)
        values.append(number(found))
        epochs.append(number(record.get("epoch")))
    return Curve(steps, values, epochs)


def has_values(line: Curve) -> bool:
    """Return whether any point of the curve has a value."""
    return any(value is not None for value in line.values)


def _kernel_sums(values: Sequence[float | None], decay: float) -> list[tuple[float, float]]:
    """Return, for each place, the decayed sum of the values before it and the sum of their weights."""
    sums, total, weight = [], 0.0, 0.0
    for value in values:
        sums.append((total, weight))
        total, weight = decay * (total + (value or 0.0)), decay * (weight + (value is not None))
    return sums


def smooth(line: Curve, span: float | None = None) -> Curve:
    """Return the curve averaged with the two-sided exponential kernel.

    s_i = sum_j exp(-|i - j| / span) y_j / sum_j exp(-|i - j| / span), over the points j that have a value and lie
    between the same two rollbacks as i. A two-sided kernel does not lag behind the data, and sums that only decay
    forget a spike, where differences of running totals would keep its rounding error forever. The `span` is in points;
    by default a hundredth of the curve, at least 2.
    """
    decay = math.exp(-1 / (span or max(2.0, len(line) / 100)))
    starts = [i for i in range(len(line)) if i == 0 or line.steps[i] <= line.steps[i - 1]]
    smoothed: list[float | None] = []
    for start, end in zip(starts, [*starts[1:], len(line)], strict=True):
        part = line.values[start:end]
        before = _kernel_sums(part, decay)
        after = _kernel_sums(part[::-1], decay)[::-1]
        for value, (left, left_weight), (right, right_weight) in zip(part, before, after, strict=True):
            mean = None if value is None else (left + value + right) / (left_weight + 1 + right_weight)
            smoothed.append(number(mean))
    return Curve(line.steps, smoothed, line.epochs)


def thin(values: Sequence[float | None], limit: int = 1500) -> list[int]:
    """Return the indices of at most `limit` (>= 5) values that draw the same line, extremes and gaps included.

    The values (None for a gap) are cut into equal stretches; of each the smallest, the largest and one gap stay, and
    the first and last value of all. No peak is lost, however narrow.
    """
    if limit < 5:
        raise ValueError(f"thin(limit=...) must be at least 5; got {limit}.")
    if len(values) <= limit:
        return list(range(len(values)))
    num_stretches = (limit - 2) // 3
    last = len(values) - 1
    kept = {0, last}
    for stretch in range(num_stretches):
        start, end = (1 + bound * (last - 1) // num_stretches for bound in (stretch, stretch + 1))
        finite = [(value, i) for i, value in enumerate(values[start:end], start) if value is not None]
        if finite:
            kept.add(min(finite)[1])
            kept.add(max(finite)[1])
        if len(finite) < end - start:
            kept.add(next(i for i in range(start, end) if values[i] is None))
    return sorted(kept)


def thinned(line: Curve, limit: int = 1500) -> Curve:
    """Return the curve with at most `limit` points, extremes and gaps kept (see `thin`)."""
    return line.take(thin(line.values, limit))
