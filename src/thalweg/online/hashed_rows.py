"""Rows of a stream as hashed features: texts, categories and numbers; the kind of each column is detected."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np

from thalweg.data.text.hashing import HashingOptions, TextHasher, pair_hash, stable_hash
from thalweg.data.text.words import is_running_text
from thalweg.errors import InputError
from thalweg.online.values import LONGEST_NAME, column_number, column_word, is_number

_MISSING = frozenset({"", "?", "na", "n/a", "null"})
_TEXT_NAMES = frozenset({"text", "sentence", "message", "body", "content", "title", "question", "review", "comment"})
_CLIP = 4.0  # standardized numbers are clipped to [-4, 4]
_SETTLED = 30  # from this many values on, outliers are clipped to 10 standard deviations before they count


@final
@dataclass(frozen=True, slots=True)
class Features:
    """One row's features and what `RowHasher.observe` needs to know of it."""

    buckets: np.ndarray  # the features' numbers, int64 [k], no two alike
    values: np.ndarray  # their values, float32 [k]
    has_text: bool
    truncated: bool  # a text was cut to `max_words`
    new_kinds: dict[str, str]  # columns whose kind this row decides
    numbers: dict[str, float]  # the row's numbers by column


@final
class RunningScales:
    """Mean and standard deviation of each of a growing number of columns, up to the latest value.

    A value further than 10 standard deviations from the mean (of 30 values or more) is clipped to that distance first,
    so that one outlier can't flatten a column for the rest of the stream.

    Source: Welford (1962), Note on a method for calculating corrected sums of squares and products.
    """

    def __init__(self) -> None:
        self.num_values = np.zeros(0)
        self.means = np.zeros(0)
        self.squares = np.zeros(0)  # sums of squared deviations
        self.scales = np.zeros(0)  # 1 / standard deviation, 0 while there is none

    def add_column(self) -> None:
        """Make room for one more column."""
        self.num_values, self.means = np.append(self.num_values, 0.0), np.append(self.means, 0.0)
        self.squares, self.scales = np.append(self.squares, 0.0), np.append(self.scales, 0.0)

    def standardize(self, where: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return (value - mean) / standard deviation of the columns `where`, in [-4, 4]; 0 for a constant column."""
        return np.clip((values - self.means[where]) * self.scales[where], -_CLIP, _CLIP)

    def observe(self, where: np.ndarray, values: np.ndarray) -> None:
        """Take one value of each of the columns `where` into the statistics."""
        num, mean, squares = self.num_values[where], self.means[where], self.squares[where]
        reach = np.where((num >= _SETTLED) & (squares > 0), 10 * np.sqrt(squares / np.maximum(num, 1)), np.inf)
        values = np.clip(values, mean - reach, mean + reach)
        num += 1
        delta = values - mean
        mean += delta / num
        squares += delta * (values - mean)
        deviation = np.sqrt(squares / num)
        real = deviation > 1e-9 * np.abs(mean)  # less is rounding
        self.num_values[where], self.means[where], self.squares[where] = num, mean, squares
        self.scales[where] = np.divide(1, deviation, out=np.zeros_like(deviation), where=real & (deviation > 0))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the statistics by name, each float64 [number of columns]."""
        return {"num_values": self.num_values, "means": self.means, "squares": self.squares, "scales": self.scales}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `arrays` gave."""
        self.num_values, self.means = arrays["num_values"].copy(), arrays["means"].copy()
        self.squares, self.scales = arrays["squares"].copy(), arrays["scales"].copy()


@final
class RowHasher:
    """Turns rows (or single texts) into hashed features.

    A column's kind is decided by its first value that is not missing: a number, a text (white space or many ideographs
    inside, or a column named like one), or else a category, which becomes a text when such a value comes. A text gives
    the features of `TextHasher`, other ones for each text column; a category gives the feature `name=value`; a number x
    gives (x - mean) / standard deviation of the rows observed *before*, clipped to [-4, 4], and the interval in which
    that lies (`bins`). A missing number gives nothing, which is the same as the mean.

    `features` changes nothing; `observe` takes a row's numbers and columns into the statistics. Numbers that are names
    (postal codes, user numbers) are read as quantities; write them as `"user17"`.
    """

    def __init__(self, options: HashingOptions, normalize: Callable[[str], str] = str.lower) -> None:
        self.options = options
        self.kinds: dict[str, str] = {}
        self.scales = RunningScales()
        self._text = TextHasher(options, normalize)
        self._salts: dict[str, int] = {}
        self._columns: dict[str, int] = {}  # number columns and their place in the statistics
        self._buckets = np.zeros((0, 1 + options.bins), dtype=np.int64)
        self._last: tuple[tuple[str, ...], np.ndarray] = ((), np.zeros(0, dtype=np.int64))

    def features(self, row: str | Mapping[str, object]) -> Features:
        """Return the features of a row, or of a text (read as the stream's first text column).

        Raises `InputError` if a number is not finite or too large, or a value is neither text nor number.
        """
        if isinstance(row, str):
            buckets, values, truncated = self._text(row)
            return Features(buckets, values, True, truncated, {}, {})
        texts, categories, numbers, kinds = self._sort(row)
        if len(texts) == 1 and not categories and not numbers:  # the common case, kept short
            ((name, text),) = texts.items()
            buckets, values, truncated = self._text(text, self._salt(name, kinds))
            return Features(buckets, values, True, truncated, kinds, numbers)
        parts = [self._text(text, self._salt(name, kinds)) for name, text in texts.items()]
        pieces = [part[:2] for part in parts]
        if categories:
            pieces.append(self._categories(categories))
        if numbers:
            pieces.append(self._numbers(numbers))
        buckets = np.concatenate([piece[0] for piece in pieces]) if pieces else np.zeros(0, np.int64)
        values = np.concatenate([piece[1] for piece in pieces]) if pieces else np.zeros(0, np.float32)
        if len(set(buckets.tolist())) < buckets.size:  # collisions within the row: one feature with the sum
            buckets, inverse = np.unique(buckets, return_inverse=True)
            values = np.bincount(inverse, weights=values).astype(np.float32)
        return Features(buckets, values, bool(texts), any(part[2] for part in parts), kinds, numbers)

    def observe(self, features: Features) -> None:
        """Take a row's columns and numbers into the running statistics (do this after predicting)."""
        for name, kind in features.new_kinds.items():
            self.kinds.pop(name, None)  # a category that becomes a text goes to the end: texts in the order they came
            self.kinds[name] = kind
        if features.numbers:
            for name in features.numbers:
                if name not in self._columns:
                    self._add_column(name)
            self.scales.observe(self._places(tuple(features.numbers)), np.array(list(features.numbers.values())))

    @property
    def number_columns(self) -> list[str]:
        """The number columns in the order in which they came."""
        return list(self._columns)

    def restore(
        self, kinds: Mapping[str, str], number_columns: Iterable[str], scales: Mapping[str, np.ndarray]
    ) -> None:
        """Take back `kinds`, `number_columns` and `scales.arrays()` of another hasher with the same options."""
        self.kinds = dict(kinds)
        for name in number_columns:
            self._add_column(name)
        self.scales.restore(scales)

    def _sort(
        self, row: Mapping[str, object]
    ) -> tuple[dict[str, str], dict[str, str], dict[str, float], dict[str, str]]:
        """Return the row's texts, categories and numbers by column, and the kinds that it decides."""
        texts: dict[str, str] = {}
        categories: dict[str, str] = {}
        numbers: dict[str, float] = {}
        kinds: dict[str, str] = {}
        only = self.options.columns
        for name, value in row.items():
            if only is not None and name not in only:
                continue
            kind = self.kinds.get(name)
            if value is None or (kind != "text" and isinstance(value, str) and _is_missing(value)):
                continue
            if kind is None or (kind == "category" and isinstance(value, str) and is_running_text(value)):
                kind = kinds[name] = self._guess(name, value, num_new=len(kinds))
            if kind == "number":
                numbers[name] = column_number(name, value)
            else:
                found = texts if kind == "text" else categories
                found[name] = value if type(value) is str else column_word(name, value)
        return texts, categories, numbers, kinds

    def _guess(self, name: str, value: object, num_new: int) -> str:
        """Return the kind of a column by one of its values."""
        if len(name) > LONGEST_NAME:
            raise InputError(
                f"Expected names of columns of at most {LONGEST_NAME:,} characters, got one of {len(name):,}: "
                f"{name[:30]!r}..."
            )
        if name not in self.kinds and len(self.kinds) + num_new >= self.options.max_columns:
            raise InputError(
                f"Column {name!r} is one more than the {self.options.max_columns} columns that a stream may have; "
                "name the columns to read."
            )
        if isinstance(value, str) and (name.lower() in _TEXT_NAMES or is_running_text(value)):
            return "text"
        return "number" if is_number(value) else "category"

    def _salt(self, name: str, new_kinds: Mapping[str, str]) -> int:
        """Return what keeps the words of the text columns apart: 0 for the first one, which a bare text shares."""
        salt = self._salts.get(name)
        if salt is None:
            texts = [column for kinds in (self.kinds, new_kinds) for column, kind in kinds.items() if kind == "text"]
            salt = 0 if texts[0] == name else stable_hash(name) | 1
            if self.kinds.get(name) == "text":
                self._salts[name] = salt
        return salt

    def _categories(self, categories: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
        buckets = [pair_hash(stable_hash(name), self._text.word_hash(value)) for name, value in categories.items()]
        return np.array(buckets, dtype=np.int64) % self.options.num_buckets, np.ones(len(buckets), np.float32)

    def _numbers(self, numbers: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """Return buckets and values of the row's numbers: each standardized, then the interval each lies in."""
        if tuple(numbers) != self._last[0]:
            numbers = {name: value for name, value in numbers.items() if name in self._columns}  # others: no scale yet
        where = self._places(tuple(numbers))
        scaled = self.scales.standardize(where, np.array(list(numbers.values())))
        buckets = self._buckets[where]
        bins = self.options.bins
        if not bins:
            return buckets[:, 0], scaled.astype(np.float32)
        interval = np.clip((scaled + 2) * (bins / 4), 0, bins - 1).astype(np.int64)
        values = np.ones(2 * len(where), np.float32)
        values[: len(where)] = scaled
        return np.concatenate([buckets[:, 0], buckets[np.arange(len(where)), 1 + interval]]), values

    def _places(self, names: tuple[str, ...]) -> np.ndarray:
        """Return the places of known number columns in the statistics; most rows have the same columns."""
        if names != self._last[0]:
            self._last = (names, np.array([self._columns[name] for name in names], dtype=np.int64))
        return self._last[1]

    def _add_column(self, name: str) -> None:
        self._columns[name] = len(self._columns)
        self.scales.add_column()
        own = stable_hash(name)
        buckets = [pair_hash(own, part) % self.options.num_buckets for part in range(1 + self.options.bins)]
        self._buckets = np.concatenate([self._buckets, np.array([buckets], dtype=np.int64)])


def _is_missing(value: str) -> bool:
    return len(value) < 10 and value.strip().lower() in _MISSING
