"""What the first rows say about a column: texts or labels or numbers, how long, how many different."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from thalweg.data.files.base import Row

_MISSING: Final = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-"))
_DATE: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([T ]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(:\d\d)?")
_SEPARATORS: Final = (";", "|", ",")


def number_of(value: object) -> float | None:
    """The finite number that a value is or spells, or None.

    Example:
        >>> number_of("2.5"), number_of(3), number_of("three"), number_of(True), number_of("1_000")
        (2.5, 3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str) and "_" in value:
        return None  # Python would take it
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def is_missing(value: object) -> bool:
    """Whether a value stands for nothing: null, empty, NA, nan ...

    Example:
        >>> is_missing(None), is_missing(" "), is_missing("NA"), is_missing(0)
        (True, True, True, False)
    """
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING)


@final
@dataclass(frozen=True)
class ColumnFacts:
    """What the first rows say about one column.

    Args:
        name: the column's name.
        position: its place in the file, from 0.
        num_values: rows in which it is not missing.
        num_rows: rows that were looked at.
        num_distinct: different values (for labels of which a row has several: different parts).
        mean_words: words in a value, on average.
        is_list: whether its values are lists.
        is_set: whether they are lists in which nothing comes twice, such as the labels of a row.
        is_number: whether its values are numbers.
        has_decimals: whether some of them are no whole numbers.
        is_date: whether its values are dates or times such as 2024-05-31, 5/31/2024 or 12:30.
        is_increasing: whether each number is greater than the one before.
        separator: the character between the labels of a row with several; None when each row has one.
    """

    name: str
    position: int
    num_values: int
    num_rows: int
    num_distinct: int
    mean_words: float
    is_list: bool
    is_set: bool
    is_number: bool
    has_decimals: bool
    is_date: bool
    is_increasing: bool
    separator: str | None

    @property
    def distinct_share(self) -> float:
        """Different values per value, in (0, 1]."""
        return self.num_distinct / max(self.num_values, 1)

    @property
    def is_text(self) -> bool:
        """Whether it holds words, most of them different from row to row."""
        return not (self.is_list or self.is_number or self.is_date) and self.num_values > 0


def column_facts(columns: Sequence[str], rows: Sequence[Row]) -> list[ColumnFacts]:
    """Look at each column of the first rows.

    Example:
        >>> facts = column_facts(("text", "label"), [Row(2, ("a fine film", "1")), Row(3, ("a bad one", "0"))])
        >>> [(one.is_text, one.is_number, one.mean_words) for one in facts]
        [(True, False, 3.0), (False, True, 1.0)]
    """
    return [_facts(name, i, [row.values[i] for row in rows]) for i, name in enumerate(columns)]


def _facts(name: str, position: int, values: list[Any]) -> ColumnFacts:
    present = [value for value in values if not is_missing(value)]
    is_list = 2 * sum(isinstance(value, list) for value in present) > len(present)
    numbers = [number for value in present if (number := number_of(value)) is not None]
    is_number = not is_list and len(numbers) > 0.95 * len(present)
    separator, num_sets = None, 0
    if is_list:
        texts = [str(part) for value in present if isinstance(value, list) for part in value]
        lengths = [len(value) if isinstance(value, list) else 1 for value in present]
        num_sets = sum(isinstance(value, list) and len(set(map(str, value))) == len(value) for value in present)
    else:
        texts = [value if isinstance(value, str) else str(value) for value in present]
        lengths = [len(text.split()) for text in texts]
        if not is_number and (separator := _separator(texts)):
            texts = [part.strip() for text in texts for part in text.split(separator) if part.strip()]
    return ColumnFacts(
        name=name,
        position=position,
        num_values=len(present),
        num_rows=len(values),
        num_distinct=len(set(texts)),
        mean_words=sum(lengths) / max(len(lengths), 1),
        is_list=is_list,
        is_set=is_list and num_sets > 0.95 * len(present),
        is_number=is_number,
        has_decimals=is_number and any("." in str(value) for value in present),
        is_date=bool(texts) and not is_number and all(_DATE.fullmatch(text.strip()) for text in texts[:100]),
        is_increasing=is_number and len(numbers) > 1 and all(a < b for a, b in itertools.pairwise(numbers)),
        separator=separator,
    )


def _separator(texts: list[str]) -> str | None:
    """The character between several labels: nearly every part comes in several rows, and each is short."""
    for separator in _SEPARATORS:
        parts = [part.strip() for text in texts for part in text.split(separator)]
        if len(parts) < len(texts) + max(2, 0.05 * len(texts)):
            continue
        counts = Counter(parts)
        repeated = sum(count for count in counts.values() if count > 1)
        is_short = max(len(part.split()) for part in parts) <= 4
        # Labels of their own come in several combinations; parts that never come apart are one label.
        is_free = len(counts) <= len(set(texts))
        if is_short and is_free and repeated >= 0.9 * len(parts) and 2 * len(counts) < len(parts):
            return separator
    return None
