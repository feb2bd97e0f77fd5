"""Running counts of lengths and of numbers: what a column's distribution looks like, without keeping the column."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, final

from thalweg.data.columns.facts import is_missing
from thalweg.data.columns.notation import number_of
from thalweg.data.columns.problems import StandIns
from thalweg.data.columns.reading import MISSING, Fault

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SHOWN_LENGTH: Final = 200  # characters of a text in an example
Entry = TypeVar("Entry")


@final
@dataclass(frozen=True)
class Lengths:
    """How long the texts of a column are, in words."""

    column: str
    count: int  # texts that are not empty; the next four are about them
    mean: float
    minimum: int
    quantiles: dict[str, int]  # fraction of the texts (as "0.95") -> the length that they do not exceed
    maximum: int
    num_empty: int  # texts without a word
    empty_lines: list[int]  # the lines of the first of them
    num_too_long: int  # texts longer than the model takes; 0 when no limit was given
    too_long_lines: list[int]  # the lines of the first of them


@final
@dataclass(frozen=True)
class Numbers:
    """The numbers of a column."""

    column: str
    count: int  # values that are finite numbers; without any, the next four are 0
    mean: float
    deviation: float  # the standard deviation (divided by the count)
    minimum: float
    maximum: float
    num_missing: int  # empty values, NA, nan ...
    missing_lines: list[int]  # the lines of the first of them
    num_unreadable: int  # values that are not numbers
    unreadable: list[tuple[int, str]]  # the first of them: line and value
    stand_ins: str = ""  # a sentence about numbers that may stand for missing ones


@final
class Finding(Generic[Entry]):
    """Something found in some rows: how often, and the first examples of it."""

    def __init__(self, num_examples: int) -> None:
        self.num_examples = num_examples
        self.count = 0
        self.first: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < self.num_examples:
            self.first.append(entry)


@final
class LengthTally:
    """Counts lengths as they come; `result` gives their distribution."""

    def __init__(self, column: str, num_examples: int, limit: int | None) -> None:
        self.column = column
        self.limit = math.inf if limit is None else limit
        self.counts: Counter[int] = Counter()
        self.empty, self.too_long = Finding[int](num_examples), Finding[int](num_examples)

    def add(self, line: int, num_words: int) -> None:
        """Count the text on `line`."""
        self.counts[num_words] += 1
        if not num_words:
            self.empty.add(line)
        if num_words > self.limit:
            self.too_long.add(line)

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
            num_empty=self.empty.count,
            empty_lines=self.empty.first,
            num_too_long=self.too_long.count,
            too_long_lines=self.too_long.first,
        )


def _quantile(filled: list[tuple[int, int]], total: int, share: float) -> int:
    """The smallest length that at least this fraction of the texts does not exceed."""
    seen = itertools.accumulate(count for _, count in filled)
    return next((length for (length, _), num in zip(filled, seen, strict=True) if num >= share * total), 0)


@final
class NumberTally:
    """Takes numbers as they come; `result` gives their mean, spread and extremes."""

    def __init__(self, column: str, num_examples: int) -> None:
        self.column = column
        self.count = 0
        self.mean = 0.0
        self.squares = 0.0  # sum of squared distances from the mean (Welford, 1962)
        self.minimum, self.maximum = math.inf, -math.inf
        self.stand_ins = StandIns(column)
        self.missing = Finding[int](num_examples)
        self.unreadable = Finding[tuple[int, str]](num_examples)

    def add(self, line: int, value: object) -> None:
        """Take the value on `line`, whatever it is; a `Fault` stands for one that was left out."""
        number = number_of(value)
        if isinstance(value, Fault):
            if value.what == MISSING:
                self.missing.add(line)
            else:
                self.unreadable.add((line, str(value.value)[:SHOWN_LENGTH]))
        elif number is not None:
            self.count += 1
            step = number - self.mean
            self.mean += step / self.count
            self.squares += step * (number - self.mean)
            self.minimum, self.maximum = min(self.minimum, number), max(self.maximum, number)
            self.stand_ins.add(number)
        elif is_missing(value):
            self.missing.add(line)
        else:
            self.unreadable.add((line, str(value)[:SHOWN_LENGTH]))

    def result(self) -> Numbers:
        """The statistics so far."""
        return Numbers(
            column=self.column,
            count=self.count,
            mean=self.mean,
            deviation=math.sqrt(self.squares / self.count) if self.count else 0.0,
            minimum=self.minimum if self.count else 0.0,
            maximum=self.maximum if self.count else 0.0,
            num_missing=self.missing.count,
            missing_lines=self.missing.first,
            num_unreadable=self.unreadable.count,
            unreadable=self.unreadable.first,
            stand_ins=self.stand_ins.sentence,
        )
