"""What the first rows say about a column: texts or labels or numbers, how long, how many different."""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, final

from thalweg.data.columns.notation import PLAIN, Notation, number_of
from thalweg.data.files.base import Row

_MISSING: Final = frozenset(("", "na", "n/a", "nan", "null", "none", "?", "-"))
_DATE: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}([-/.]\d{1,4})?([T ]\d{1,2}:\d\d.*)?|\d{1,2}:\d\d(:\d\d)?")
_WITH_COMMA: Final = re.compile(r"[-+]?\d+,\d+")
_SEPARATORS: Final = (";", "|", ",")
MIN_LISTS: Final = 0.5  # of the values, in a column of lists
MIN_CLEAN: Final = 0.95  # of the values, in a column of numbers or of sets: a few may be broken
NUM_DATES: Final = 100  # values that are compared with the form of a date
MIN_SEPARATED: Final = 0.05  # of the rows have several labels, in a column of separated labels
MIN_REPEATED: Final = 0.9  # of its labels come more than once
MAX_PART_WORDS: Final = 4  # in one of its labels


def as_text(value: object) -> str:
    """A value as a text: nothing for null, the items of a list joined by spaces."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return " ".join(map(as_text, value)) if isinstance(value, list) else str(value)


def is_missing(value: object) -> bool:
    """Whether a value stands for nothing: null, blank, NA, nan ..."""
    return value is None or (isinstance(value, str) and value.strip().lower() in _MISSING)


def shortened(names: Sequence[str], limit: int) -> str:
    """The first `limit` names, separated by commas, with "..." where there are more."""
    return ", ".join([*names[:limit], *(["..."] if len(names) > limit else [])])


@final
@dataclasses.dataclass(frozen=True)
class ColumnFacts:
    """What the first rows say about one column."""

    name: str
    position: int  # its place in the file, from 0
    num_values: int  # rows in which it is not missing
    num_rows: int  # rows examined
    num_distinct: int = 0  # different values (where a row has several labels: different labels)
    mean_words: float = 0.0  # words in a value, on average
    is_list: bool = False
    is_set: bool = False  # lists without repeated entries, such as the labels of a row
    is_number: bool = False
    has_decimals: bool = False  # some of the numbers are not whole
    has_commas: bool = False  # the values would be numbers, were their commas points
    is_date: bool = False  # dates or times such as 2024-05-31, 5/31/2024 or 12:30
    is_increasing: bool = False  # each number is greater than the one before
    separator: str | None = None  # the character between several labels in a row; None when each row has one
    notation: Notation = PLAIN  # of its numbers

    @property
    def distinct_fraction(self) -> float:
        """Different values per value, in (0, 1]."""
        return self.num_distinct / max(self.num_values, 1)

    @property
    def is_constant(self) -> bool:
        """Whether several rows all have one value."""
        return self.num_distinct == 1 and self.num_values > 1

    @property
    def is_text(self) -> bool:
        """Whether it holds words, most of them different from row to row."""
        return not (self.is_list or self.is_number or self.is_date) and self.num_values > 0


def column_facts(columns: Sequence[str], rows: Sequence[Row]) -> list[ColumnFacts]:
    """What these rows, the first of a file, say about each column."""
    return [_facts(name, i, [row.values[i] for row in rows]) for i, name in enumerate(columns)]


def _facts(name: str, position: int, values: list[Any]) -> ColumnFacts:
    present = [value for value in values if not is_missing(value)]
    base = ColumnFacts(name, position, num_values=len(present), num_rows=len(values))
    if _most(present, lambda value: isinstance(value, list), MIN_LISTS):
        return _list_facts(base, present)
    texts = [value if isinstance(value, str) else str(value) for value in present]
    base = dataclasses.replace(base, mean_words=sum(len(text.split()) for text in texts) / max(len(texts), 1))
    numbers = [number for value in present if (number := number_of(value)) is not None]
    if len(numbers) > MIN_CLEAN * len(present):
        return dataclasses.replace(
            base,
            num_distinct=len(set(texts)),
            is_number=True,
            has_decimals=any("." in text for text in texts),
            is_increasing=len(numbers) > 1 and all(a < b for a, b in itertools.pairwise(numbers)),
        )
    base = dataclasses.replace(base, has_commas=_most(texts, _has_comma, MIN_CLEAN))
    separator = _separator(texts)
    if separator:
        texts = [part.strip() for text in texts for part in text.split(separator) if part.strip()]
    return dataclasses.replace(base, num_distinct=len(set(texts)), is_date=_are_dates(texts), separator=separator)


def _list_facts(base: ColumnFacts, present: list[Any]) -> ColumnFacts:
    texts = [str(part) for value in present if isinstance(value, list) for part in value]
    lengths = [len(value) if isinstance(value, list) else 1 for value in present]
    return dataclasses.replace(
        base,
        num_distinct=len(set(texts)),
        mean_words=sum(lengths) / len(lengths),
        is_list=True,
        is_set=_most(present, _is_set, MIN_CLEAN),
        is_date=_are_dates(texts),
    )


def _most(values: list[Any], holds: Callable[[Any], bool], share: float) -> bool:
    return sum(map(holds, values)) > share * len(values)


def _is_set(value: Any) -> bool:
    return isinstance(value, list) and len(set(map(str, value))) == len(value)


def _are_dates(texts: list[str]) -> bool:
    return bool(texts) and all(_DATE.fullmatch(text.strip()) for text in texts[:NUM_DATES])


def _has_comma(text: str) -> bool:
    return number_of(text) is not None or _WITH_COMMA.fullmatch(text.strip()) is not None


def _separator(texts: list[str]) -> str | None:
    """The character between several labels: nearly every part comes in several rows, and each is short."""
    return next((one for one in _SEPARATORS if _separates(one, texts)), None)


def _separates(separator: str, texts: list[str]) -> bool:
    parts = [part.strip() for text in texts for part in text.split(separator)]
    if len(parts) < len(texts) + max(2, MIN_SEPARATED * len(texts)):
        return False
    counts = Counter(parts)
    repeated = sum(count for count in counts.values() if count > 1)
    is_short = max(len(part.split()) for part in parts) <= MAX_PART_WORDS
    # Labels of their own come in several combinations; parts that never come apart are one label.
    is_free = len(counts) <= len(set(texts))
    return is_short and is_free and repeated >= MIN_REPEATED * len(parts) and 2 * len(counts) < len(parts)
