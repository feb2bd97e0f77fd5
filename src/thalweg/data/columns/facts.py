"""What the first rows say about a column: texts or labels or numbers, how long, how many different."""

import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

from thalweg.data.columns.notation import PLAIN, Notation, number_of
from thalweg.data.columns.recognition import Written, numeral_share, recognize, settled
from thalweg.data.columns.role_names import LAST_WORD, name_score
from thalweg.data.columns.times.dates import lacks_year, readings
from thalweg.data.files.base import Row

# What stands for nothing in tables, the errors of spreadsheets among them.
_MISSING: Final = frozenset(
    ("", ".", "..", "…", ":", "na", "n/a", "nan", "null", "none", "?", "-", "--", "–", "—", "<na>", "nat", "n.a.",
     "n/d", "n.v.", "k.a.", "#n/a", "#value!", "#div/0!", "#ref!", "#num!", "#name?", "#null!", "#n/a n/a",
     "\\n", "(null)", "<null>", "[null]", "n.d.", "missing")
)  # fmt: skip
_FRACTION: Final = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*")
_SEPARATORS: Final = (";", "|", ",")
MIN_LISTS: Final = 0.5  # of the values, in a column of lists
MIN_CLEAN: Final = 0.95  # of the values, in a column of numbers or of sets: a few may be broken
_SPELLED: Final = re.compile(r"\s*(?:\[\s*(?:['\"{\[].*|-?\d[^\]]*,.*)?\]|\{\s*['\"].*\})\s*", re.DOTALL)
_POINT: Final = re.compile(r"\d+\.\d+")
_UNSPACED: Final = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_IN_IDENTIFIER: Final = re.compile(r"\d|[^\W_][/@:_\\.][^\W_]")
MIN_IDENTIFIERS: Final = 0.9  # different ones of the values
MIN_NUMERALS: Final = 0.5
_FLAGS: Final = {**dict.fromkeys(("0", "1", "0.0", "1.0"), "0/1"), **dict.fromkeys(("true", "false"), "true/false")}
NUM_MONTHS: Final = 12
NUM_DAYS: Final = 31
MIN_RATINGS: Final = 3  # rows for each rating; dates hardly come again
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


def kind_of(value: object) -> str:
    """What a value is, in the words of JSON.

    Example:
        >>> kind_of(None), kind_of(3), kind_of(["a"])
        ('null', 'a number', 'a list')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "null"
    kinds = ((bool, "true or false"), (int | float, "a number"), (str, "a text"), (list | tuple, "a list"))
    return next(
        (name for kind, name in kinds if isinstance(value, kind)),
        "an object" if isinstance(value, Mapping) else type(value).__name__,
    )


def is_text(value: object) -> bool:
    """Whether a value can be read as a text: null and an object are none, the empty text is one.

    Example:
        >>> is_text(""), is_text(3), is_text(None), is_text({"a": 1})
        (True, True, False, False)
    """
    return type(value) is str or kind_of(value) not in ("null", "an object")


def spelled(value: object) -> str:
    """How a value that is no text is written as a label: 1 and 1.0 alike, and true and false as in JSON.

    Example:
        >>> spelled(1.0), spelled(1.5), spelled(True)
        ('1', '1.5', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


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
    has_several: bool = False  # some of the lists have more than one entry, or all have none
    is_set: bool = False  # lists without repeated entries, such as the labels of a row
    is_number: bool = False
    has_decimals: bool = False  # some of the numbers are written with decimals, such as 4.0
    has_fractions: bool = False  # some of the numbers are not whole, or rounded: 3.5k
    is_date: bool = False  # dates or times such as 2024-05-31, 5/31/2024 or 12:30
    is_increasing: bool = False  # each number is greater than the one before
    is_decreasing: bool = False  # each number is less than the one before
    separator: str | None = None  # the character between several labels in a row; None when each row has one
    notation: Notation = PLAIN  # of its numbers
    other_notation: Notation | None = None  # in which they can be read as well, as other numbers
    example: str = ""  # a value that shows the notation, or the doubt about it
    is_unclear_date: bool = False  # fractions such as 4/5, or dates without a year
    is_nested: bool = False  # objects, or lists of them
    is_identifier: bool = False  # one word a value, nearly all different, with digits, or marks as in addresses
    is_mixed: bool = False  # many values are numbers, but not enough of them in one notation
    num_missing_words: int = 0  # rows with "NA", "none" ..., which are values unless the others are numbers or dates
    flags: str = ""  # how a column of nothing but yes and no is written: "0/1" or "true/false"; "" for all others

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


def column_facts(columns: Sequence[str], rows: Sequence[Row], decimal: str = "") -> list[ColumnFacts]:
    """What these rows, the first of a file, say about each column; `decimal` is the decimal mark, where it is known."""
    values = [[row.values[i] for row in rows] for i in range(len(columns))]
    present = [[value for value in column if not is_missing(value)] for column in values]
    written = [_written(name, column, decimal) for name, column in zip(columns, present, strict=True)]
    written = settled(written, present)
    facts = [_facts(name, i, len(rows), present[i], written[i]) for i, name in enumerate(columns)]
    return [_with_words(one, values[one.position], len(rows)) for one in facts]


def _with_words(one: ColumnFacts, values: list[Any], num_rows: int) -> ColumnFacts:
    """Count "NA", "none" ... among the values where these are words, and no numbers or dates."""
    filled = [value for value in values if not (value is None or (isinstance(value, str) and not value.strip()))]
    num_words = sum(map(is_missing, filled))
    is_word = not (one.is_number or one.is_date or one.is_list or one.is_mixed or one.is_unclear_date)
    if num_words and is_word:
        one = _facts(one.name, one.position, num_rows, filled, None)
    written = {_FLAGS.get(str(value).strip().lower(), "") for value in values}
    flags = written.pop() if len(written) == 1 else ""
    return dataclasses.replace(one, num_missing_words=num_words, flags=flags)


def _written(name: str, present: list[Any], decimal: str) -> Written | None:
    """How the numbers of a column are written; None where they are no numbers, but lists, or moments with units."""
    if any(isinstance(value, list | dict) for value in present[:NUM_DATES]):
        return None
    found = recognize(present, decimal) or (recognize(present) if decimal else None)
    if found is None:
        return None
    unit, is_time = found.notation.before or found.notation.after, name_score(name, "time") >= LAST_WORD
    return None if (unit or found.notation.form != "plain") and is_time and not _is_quantity(name) else found


def _is_quantity(name: str) -> bool:
    return any(name_score(name, role) >= LAST_WORD for role in ("number", "label"))


def _facts(name: str, position: int, num_rows: int, present: list[Any], written: Written | None) -> ColumnFacts:
    base = ColumnFacts(name, position, num_values=len(present), num_rows=num_rows)
    if _most(present, lambda value: isinstance(value, list), MIN_LISTS):
        return _list_facts(base, present)
    texts = [value if isinstance(value, str) else spelled(value) for value in present]
    spells_lists = _spell_lists(present)
    base = dataclasses.replace(
        base,
        mean_words=sum(map(num_words, texts)) / max(len(texts), 1),
        is_nested=spells_lists or _most(present, lambda value: isinstance(value, dict), MIN_LISTS),
        is_identifier=_are_identifiers(texts),
    )
    if spells_lists:
        return dataclasses.replace(base, num_distinct=len(set(texts)), example=texts[0])
    separator = _separator(texts)
    is_unclear = written is not None and _may_be_dates(written.notation, texts) and not _is_quantity(name)
    if written is not None and not is_unclear and not _are_lists(separator, texts):
        return _number_facts(base, present, texts, written)
    is_date = _are_dates(texts)
    is_mixed = not is_date and separator is None and numeral_share(texts) >= MIN_NUMERALS
    is_mixed = is_mixed and not _most(texts[:NUM_DATES], lacks_year, MIN_CLEAN)
    mixed = recognize(present, least=MIN_NUMERALS) if is_mixed and not is_unclear else None
    notation = PLAIN if mixed is None else mixed.notation
    example = next((text for text in texts if not is_mixed or notation.number(text) is None), "")
    if separator:
        texts = [part.strip() for text in texts for part in text.split(separator) if part.strip()]
    return dataclasses.replace(
        base,
        num_distinct=len(set(texts)),
        is_date=is_date or _are_dates(texts),
        is_unclear_date=is_unclear and name_score(name, "time") < LAST_WORD,
        separator=separator,
        is_mixed=is_mixed,
        notation=notation,
        example="" if base.is_nested else example,
    )


def _number_facts(base: ColumnFacts, present: list[Any], texts: list[str], written: Written) -> ColumnFacts:
    notation = written.notation
    numbers = [number for value in present if (number := notation.number(value)) is not None]
    mark = "" if notation.form in ("fraction", "stars") else notation.decimal
    shown = (text for text in texts if notation.number(text) is not None and number_of(text) is None)
    return dataclasses.replace(
        base,
        num_distinct=len(set(texts)),
        is_number=True,
        has_decimals=any(mark in text for text in texts) if mark else any(number % 1 for number in numbers),
        has_fractions=notation.form == "magnitude" or any(number % 1 for number in numbers),
        is_increasing=len(numbers) > 1 and all(a < b for a, b in itertools.pairwise(numbers)),
        is_decreasing=len(numbers) > 1 and all(a > b for a, b in itertools.pairwise(numbers)),
        notation=notation,
        other_notation=written.other,
        example=written.example or next(shown, next((text for text in texts if mark and mark in text), "")),
    )


def num_words(text: str) -> float:
    """How many words a text has; two signs of a script without spaces count as one."""
    number = len(text.split())
    return number if text.isascii() else max(number, len(_UNSPACED.findall(text)) / 2)


def _are_lists(separator: str | None, texts: list[str]) -> bool:
    """Whether commas stand between the numbers of several labels, such as 1,3: always the lesser one first."""
    if separator != ",":
        return separator is not None
    parts = [[part.strip() for part in text.split(",")] for text in texts if "," in text]
    clean = all(part.isdigit() and (part == "0" or part[0] != "0") for row in parts for part in row)
    return clean and all(int(a) < int(b) for row in parts for a, b in itertools.pairwise(row))


def _spell_lists(values: list[Any]) -> bool:
    """Whether values are texts that are lists or objects as Python or JSON writes them: "['O', 'B-PER']", "[1, 2]"."""
    return _most(values, lambda one: isinstance(one, str) and _SPELLED.fullmatch(one) is not None, MIN_CLEAN)


def _are_identifiers(texts: list[str]) -> bool:
    if not texts or len(set(texts)) <= MIN_IDENTIFIERS * len(texts):
        return False
    return _most(texts, lambda text: num_words(text) <= 1 and _IN_IDENTIFIER.search(text) is not None, MIN_CLEAN)


def _may_be_dates(notation: Notation, texts: list[str]) -> bool:
    """Whether fractions such as 4/5 may be days and months: each is one, and they are not what ratings look like."""
    if notation.form != "fraction" and not notation.after.startswith("/"):
        return False
    parts = [(int(match[1]), int(match[2])) for text in texts if (match := _FRACTION.fullmatch(text))]
    days = all(0 < min(part) <= NUM_MONTHS and max(part) <= NUM_DAYS for part in parts)
    bottoms = {bottom for _, bottom in parts}
    is_rating = len(bottoms) == 1 and all(top <= bottom for top, bottom in parts)
    return days and bool(parts) and not (is_rating and len(parts) >= MIN_RATINGS * len(set(parts)))


def _list_facts(base: ColumnFacts, present: list[Any]) -> ColumnFacts:
    texts = [spelled(part) for value in present if isinstance(value, list) for part in value]
    lengths = [len(value) if isinstance(value, list) else 1 for value in present]
    return dataclasses.replace(
        base,
        num_distinct=len(set(texts)),
        mean_words=sum(lengths) / len(lengths),
        is_list=True,
        has_several=max(lengths) != 1,
        is_nested=any(isinstance(part, dict) for value in present if isinstance(value, list) for part in value[:1]),
        is_set=_most(present, _is_set, MIN_CLEAN),
        is_date=_are_dates(texts),
    )


def _most(values: list[Any], holds: Callable[[Any], bool], share: float) -> bool:
    return sum(map(holds, values)) > share * len(values)


def _is_set(value: Any) -> bool:
    return isinstance(value, list) and len(set(map(str, value))) == len(value)


def _are_dates(texts: list[str]) -> bool:
    return bool(texts) and all(readings(text.strip()) for text in texts[:NUM_DATES])


def _separator(texts: list[str]) -> str | None:
    """The character between several labels: nearly every part comes in several rows, and each is short."""
    return next((one for one in _SEPARATORS if _separates(one, texts)), None)


def _separates(separator: str, texts: list[str]) -> bool:
    parts = [part.strip() for text in texts for part in text.split(separator)]
    if len(parts) < len(texts) + max(2, MIN_SEPARATED * len(texts)):
        return False
    if separator == "," and any(map(_POINT.fullmatch, parts)):
        return False  # numbers with points beside numbers with commas
    counts = Counter(parts)
    repeated = sum(count for count in counts.values() if count > 1)
    is_short = max(len(part.split()) for part in parts) <= MAX_PART_WORDS
    # Labels of their own come in several combinations; parts that never come apart are one label.
    is_free = len(counts) <= len(set(texts))
    return is_short and is_free and repeated >= MIN_REPEATED * len(parts) and 2 * len(counts) < len(parts)
