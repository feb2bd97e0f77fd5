"""Which notation the numbers of a column are in: judged by its first values as a whole, and unclear where two fit."""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, final

from thalweg.data.columns.notation import (
    DECIMALS,
    MAGNITUDES,
    PLAIN,
    STARS,
    THOUSANDS,
    Notation,
    canonical,
    number_of,
)
from thalweg.data.columns.units import POINT_CURRENCIES, is_currency, is_unit

MIN_READ: Final = 0.95  # of the values: a few may be broken
MIN_PROBED: Final = 0.4  # of them have digits
NUM_PROBED: Final = 50  # values that are looked at first: columns of words are told at once
LONGEST_BODY: Final = 30  # characters of a number
_BODY: Final = r"(?:\d|[.,٫](?=\d))(?:[\d.,'٬٫ ]*\d)?(?:[.,]-{1,2}|[.,](?!\S))?"
_BEFORE: Final = r"[^\d.,+()/-]*(?:Rs\.|Fr\.|kr\.|S/\.?)?"
_VALUE: Final = re.compile(
    rf"\(? ?[-+]? ?(?P<before>{_BEFORE}) ?[-+]? ?(?P<body>{_BODY})(?:[eE][-+]?\d+(?![\d.,]))?"
    r" ?-?(?P<after>[^()]*?) ?-?\)?"
)
_THOUSANDS: Final = re.compile(r"[-+]?[1-9]\d{0,2}(?:\.\d{3})+")


@final
@dataclasses.dataclass(frozen=True)
class Written:
    """How the numbers of a column are written, as far as its values tell.

    Args:
        notation: the notation.
        other: another one that fits as well, in which some values are other numbers; None without any.
        example: a value that both read, the longest one.
    """

    notation: Notation
    other: Notation | None = None
    example: str = ""

    @property
    def marks(self) -> str:
        """The decimal marks of both readings."""
        return self.notation.decimal + (self.other.decimal if self.other else "")


def recognize(values: Sequence[Any], decimal: str = "", *, least: float = MIN_READ) -> Written | None:
    """Return how these values are written, if nearly all of them are numbers in one notation.

    Args:
        values: those of a column that are not missing.
        decimal: the decimal mark, where it is known; "" where it is to be found.
        least: the share of the values that must be numbers in one notation.

    Returns:
        None where fewer of them are.

    Example:
        >>> recognize(["52,58", "1.234,50"]).notation.name
        '1.234.567,5'
        >>> recognize(["997", "1.021", "1.036"]).other.name, recognize(["a", "b"])
        ('1.234.567,5', None)
    """
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values) and not all(isinstance(v, str) or number_of(v) is not None for v in values):
        texts = [value if isinstance(value, str) else str(value) for value in values]
    if not texts:
        return Written(PLAIN) if values else None
    num_others = len(values) - len(texts)
    probe = texts[:NUM_PROBED]
    if num_others == 0 and sum(any(map(_is_numeral, text)) for text in probe) < MIN_PROBED * len(probe):
        return None
    if decimal in ("", ".") and all(number_of(text) is not None for text in texts) and not _may_be_thousands(texts):
        return Written(PLAIN)
    found = _stars(texts, least) or _fractions(texts, least)
    return found or _in_marks(texts, num_others, decimal, least)


def _may_be_thousands(texts: list[str]) -> bool:
    """Whether each point could stand between thousands, as in 997 and 1.021."""
    pointed = [text for text in texts if "." in text]
    return bool(pointed) and all(_THOUSANDS.fullmatch(text.strip()) for text in pointed)


def numeral_share(texts: Sequence[str]) -> float:
    """Return how many of the first values are numbers in some notation, as a fraction."""
    probe = texts[:NUM_PROBED]
    found = [_parts(canonical(text)) for text in probe if len(text) <= LONGEST_BODY]
    bare = [one for one in found if one is not None and not one.after.strip("%") and is_currency(one.before)]
    return len(bare) / max(len(probe), 1)


def _is_numeral(character: str) -> bool:
    return character.isdigit() or character in STARS


_SEASON: Final = re.compile(r"[12]\d{3} ?[/-] ?(?:\d\d|[12]\d{3})")


def _stars(texts: list[str], least: float) -> Written | None:
    stars = Notation(form="stars")
    return Written(stars) if sum(stars.number(text) is not None for text in texts) > least * len(texts) else None


def _fractions(texts: list[str], least: float) -> Written | None:
    """Fractions out of different numbers, such as 4/5 and 7/10; those out of one number have it as their unit."""
    if sum("/" in text for text in texts) * 2 < len(texts):
        return None
    fraction = Notation(form="fraction")
    if sum(fraction.number(text) is not None for text in texts) <= least * len(texts):
        return None
    if sum(_SEASON.fullmatch(text.strip()) is not None for text in texts) > least * len(texts):
        return None  # 1999/00 is a season
    bottoms = {canonical(text).rpartition("/")[2] for text in texts if "/" in text}
    return None if len(bottoms) == 1 else Written(fraction)


@final
@dataclasses.dataclass(frozen=True)
class _Parts:
    """A value's unit before and behind, and its digits with their marks."""

    before: str
    after: str
    body: str


def _parts(text: str) -> _Parts | None:
    match = _VALUE.fullmatch(text)
    if match is None or len(match["body"]) > LONGEST_BODY:
        return None
    return _Parts(match["before"].strip(), match["after"].strip(), match["body"])


def _in_marks(texts: list[str], num_others: int, decimal: str, least: float) -> Written | None:
    """Numbers with marks and units."""
    parts = [one for text in texts if (one := _parts(canonical(text))) is not None]
    if len(parts) + num_others <= least * (len(texts) + num_others):
        return None
    unit = _unit(parts)
    if unit is None:
        return None
    used = {mark for one in parts for mark in one.body if not mark.isdigit()}
    candidates = list(_candidates(unit, used, decimal))
    read = {one: [one.number(text) for text in texts] for one in candidates}
    counts = {one: sum(number is not None for number in numbers) for one, numbers in read.items()}
    fitting = [one for one in candidates if counts[one] + num_others > least * (len(texts) + num_others)]
    fitting = [one for one in fitting if counts[one] == max(counts.values())]
    if not fitting:
        return None
    others = [one for one in fitting[1:] if read[one] != read[fitting[0]]]
    if not others:
        return Written(fitting[0])
    return _clearer(fitting[0], others[0], texts, [one.body for one in parts])


def _unit(parts: list[_Parts]) -> tuple[str, str, str] | None:
    """What stands before and behind nearly all numbers, and the form; None where that is no unit, or several."""
    units = Counter((one.before, one.after) for one in parts if one.after or one.before or one.body.strip("0.,"))
    if not units:
        return "", "", "number"
    befores, afters = {before for before, _ in units}, {after for _, after in units}
    if befores == {""} and len(afters) > 1 and afters <= {"", *MAGNITUDES}:
        return "", "", "magnitude"
    singular = {after[:-1] for after in afters if Notation(after=after).has_plural}
    merged: Counter[tuple[str, str]] = Counter()
    for (before, after), count in units.items():
        merged[before, f"{after}s" if after in singular else after] += count
    ((before, after), count), *_ = merged.most_common(1)
    if count <= MIN_READ * sum(merged.values()):
        return None
    return (before, after, "number") if is_currency(before) and (not after or is_unit(after)) else None


def _candidates(unit: tuple[str, str, str], used: set[str], decimal: str) -> Iterable[Notation]:
    """The notations with these marks, the plainest first."""
    before, after, form = unit
    if not before and not after and form == "number" and decimal in ("", "."):
        yield PLAIN
    # Points may stand between thousands, even if no number has decimals behind a comma.
    marks = [mark for mark in DECIMALS if mark == "." or mark in used or (mark == "," and "." in used)]
    for mark in [decimal] if decimal else marks:
        for thousands in (*sorted(used & {*THOUSANDS} - {mark}), ""):
            yield Notation(mark, thousands, False, before, after, form)
            if thousands:
                yield Notation(mark, thousands, True, before, after, form)


def _clearer(first: Notation, other: Notation, texts: list[str], bodies: list[str]) -> Written:
    """Decide between two notations by what they are usual for; where nothing decides, it stays unclear."""
    point, comma = (first, other) if first.decimal == "." else (other, first)
    if point.decimal != "." or comma.decimal != ",":
        return Written(first)  # Arabic marks speak for themselves
    if point.before in POINT_CURRENCIES:
        return Written(point)
    is_point_decimal = point.thousands != ","
    if is_point_decimal and len(bodies) > 1 and all("." in body for body in bodies):
        return Written(point)  # three decimals in every row, as programs write them
    longest = max((text for text in texts if point.number(text) != comma.number(text)), key=len)
    return Written(point, comma, longest)


def settled(columns: Sequence[Written | None], texts: Sequence[Sequence[Any]]) -> list[Written | None]:
    """Return the notations of a table's columns, those that are unclear decided by columns that are clear.

    A file is written by one program: where one column has decimals behind a comma, the others do, too.
    """
    marks = {
        one.notation.decimal
        for one, values in zip(columns, texts, strict=True)
        if one is not None and one.other is None and _shows_decimal(one.notation, values)
    }
    if len(marks) != 1:
        return list(columns)
    (mark,) = marks
    return [one if one is None or one.other is None else _with_mark(one, mark) for one in columns]


def _with_mark(one: Written, mark: str) -> Written:
    if one.notation.decimal == mark:
        return Written(one.notation)
    return Written(one.other) if one.other is not None and one.other.decimal == mark else one


def _shows_decimal(notation: Notation, values: Sequence[Any]) -> bool:
    """Whether values have decimals, or thousands whose mark leaves no doubt about the other."""
    if notation.form in ("fraction", "stars"):
        return False
    shown = [value for value in itertools.islice(values, 200) if isinstance(value, str)]
    if notation.thousands in (".", ","):
        return any(notation.thousands in value for value in shown)
    return any(notation.decimal in value for value in shown)
