"""Running counts of lengths and of numbers: what a column's distribution looks like, without keeping the column."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, final

from thalweg.data.columns.facts import is_missing, number_of

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SHOWN_LENGTH: Final = 200  # characters of a text in an example


@final
@dataclass(frozen=True)
class Lengths:
    """How long the texts of a column are, in words.

    Args:
        column: its name.
        count: texts that are not empty.
        mean: words in such a text.
        minimum: words in the shortest.
        quantiles: fraction of the texts (as "0.95") -> the length that they do not exceed.
        maximum: words in the longest.
        num_empty: texts without a word.
        empty_lines: the lines of the first of them.
        num_too_long: texts longer than the model takes; 0 when no limit was given.
        too_long_lines: the lines of the first of them.
    """

    column: str
    count: int
    mean: float
    minimum: int
    quantiles: dict[str, int]
    maximum: int
    num_empty: int
    empty_lines: list[int]
    num_too_long: int
    too_long_lines: list[int]


@final
@dataclass(frozen=True)
class Numbers:
    """The numbers of a column.

    Args:
        column: its name.
        count: values that are finite numbers.
        mean: NaN-free; 0 when there is none.
        deviation: the standard deviation (divided by the count).
        minimum: the smallest.
        maximum: the largest.
        num_missing: empty values, NA, nan ...
        missing_lines: the lines of the first of them.
        num_unreadable: values that are no numbers.
        unreadable: the first of them: line and value.
    """

    column: str
    count: int
    mean: float
    deviation: float
    minimum: float
    maximum: float
    num_missing: int
    missing_lines: list[int]
    num_unreadable: int
    unreadable: list[tuple[int, str]]


@final
@dataclass
class LengthTally:
    """Counts lengths as they come; `result` gives their distribution."""

    column: str
    num_examples: int
    limit: int | None
    counts: Counter[int] = field(default_factory=Counter)
    empty_lines: list[int] = field(default_factory=list)
    too_long_lines: list[int] = field(default_factory=list)

    def add(self, line: int, num_words: int) -> None:
        """Count the text on `line`."""
        self.counts[num_words] += 1
        if not num_words and len(self.empty_lines) < self.num_examples:
            self.empty_lines.append(line)
        if self.limit is not None and num_words > self.limit and len(self.too_long_lines) < self.num_examples:
            self.too_long_lines.append(line)

    def result(self) -> Lengths:
        """The distribution so far."""
        filled = sorted((length, count) for length, count in self.counts.items() if length)
        total = sum(count for _, count in filled)
        return Lengths(
            column=self.column,
            count=total,
            mean=sum(length * count for length, count in filled) / max(total, 1),
            minimum=filled[0][0] if filled else 0,
            quantiles={str(share): _quantile(filled, total, share) for share in QUANTILES},
            maximum=filled[-1][0] if filled else 0,
            num_empty=self.counts[0],
            empty_lines=self.empty_lines,
            num_too_long=sum(n for length, n in filled if self.limit is not None and length > self.limit),
            too_long_lines=self.too_long_lines,
        )


def _quantile(filled: list[tuple[int, int]], total: int, share: float) -> int:
    """The smallest length that at least this fraction of the texts does not exceed."""
    seen = 0
    for length, count in filled:
        seen += count
        if seen >= share * total:
            return length
    return 0


@final
@dataclass
class NumberTally:
    """Takes numbers as they come; `result` gives their mean, spread and extremes."""

    column: str
    num_examples: int
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared distances from the mean (Welford, 1962)
    minimum: float = math.inf
    maximum: float = -math.inf
    num_missing: int = 0
    missing_lines: list[int] = field(default_factory=list)
    num_unreadable: int = 0
    unreadable: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, value: object) -> None:
        """Take the value on `line`, whatever it is."""
        number = number_of(value)
        if number is not None:
            self.count += 1
            step = number - self.mean
            self.mean += step / self.count
            self.squares += step * (number - self.mean)
            self.minimum, self.maximum = min(self.minimum, number), max(self.maximum, number)
        elif is_missing(value):
            self.num_missing += 1
            if len(self.missing_lines) < self.num_examples:
                self.missing_lines.append(line)
        else:
            self.num_unreadable += 1
            if len(self.unreadable) < self.num_examples:
                self.unreadable.append((line, str(value)[:SHOWN_LENGTH]))

    def result(self) -> Numbers:
        """The statistics so far."""
        return Numbers(
            column=self.column,
            count=self.count,
            mean=self.mean,
            deviation=math.sqrt(self.squares / self.count) if self.count else 0.0,
            minimum=self.minimum if self.count else 0.0,
            maximum=self.maximum if self.count else 0.0,
            num_missing=self.num_missing,
            missing_lines=self.missing_lines,
            num_unreadable=self.num_unreadable,
            unreadable=self.unreadable,
        )
