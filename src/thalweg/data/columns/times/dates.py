"""What one value of a time column may mean: a moment for each way of reading it."""

import datetime as dt
import functools
import re
from typing import Any, Final, NamedTuple, final

from thalweg.data.columns.times.month_names import MONTHS, WEEKDAYS, plain_letters

# Ways of reading a value; where several suit a column, the first of them is preferred.
CLEAR: Final = "dates"  # there is only one
DAY_FIRST: Final = "day first"
MONTH_FIRST: Final = "month first"
SHORT_YEAR: Final = "year first"  # 24-01-31
FORMS: Final = (CLEAR, DAY_FIRST, MONTH_FIRST, SHORT_YEAR)

_MIDNIGHT: Final = dt.time()
LONGEST: Final = 60  # characters of a moment
_TURN: Final = 69  # two-digit years from here on are of the last century, as POSIX and pandas read them


@final
class Moment(NamedTuple):
    """What a clock at the place showed, the finest part that is written, and how far it was ahead of UTC."""

    when: dt.datetime
    unit: str
    offset: int | None = None  # seconds


_ZONES: Final = {
    "z": 0, "utc": 0, "gmt": 0, "wet": 0, "west": 1, "bst": 1, "cet": 1, "cest": 2, "mez": 1, "mesz": 2, "eet": 2,
    "eest": 3, "msk": 3, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7,
    "jst": 9,
}  # fmt: skip
_CLOCK: Final = re.compile(
    r"(?:^|(?<=\d)t|[ ,t]+|(?<=\d):(?=\d\d:\d\d:\d\d))(?:at |um )?"
    r"(\d{1,2})(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?)?"
    r" ?([ap]\.?m\.?)?(?: ?(uhr|h))? ?(?:(z|utc|gmt|[a-z]{3,4})?([+-]\d\d?(?::?\d\d)?)?)(?: ?[\[(][\w/+: -]+[\])])?$"
)
_YEAR_LAST: Final = re.compile(r"(.*\D)(\d{1,2}:\d\d:\d\d(?: [a-z]{3,4})?) (\d{4})")  # as C writes it
_COMPACT: Final = re.compile(r"(\d{4})(\d\d)(\d\d)(?:t?(\d\d)(\d\d)(\d\d)?(z|[+-]\d\d:?\d\d)?)?")
_YEAR_FIRST: Final = re.compile(r"(\d{4})([-/. ])(\d{1,2})\2(\d{1,2})\.?")
_YEAR_DAY: Final = re.compile(r"(\d{4})[-/](\d{3})")  # the 45th day of 2021: 2021-045
_YEAR_MONTH: Final = re.compile(r"(\d{4}) ?[-/m:.] ?(\d{1,2})")
_MONTH_YEAR: Final = re.compile(r"(\d{1,2}) ?[-/.] ?(\d{4})")
_DAY_AND_MONTH: Final = re.compile(r"(\d{1,2})[-/.] ?(\d{1,2})[-/.]?")
_SHORT: Final = re.compile(r"(\d{1,2})([-/. ])(\d{1,2})\2(\d{4}|\d\d)\.?")
_DOTTED: Final = re.compile(r"(\d{1,2})\. ?(\d{1,2})\. ?(\d{4}|\d\d)")
_CHINESE: Final = re.compile(r"(\d{4})[年년] ?(\d{1,2})[月월](?: ?(\d{1,2})[日일])?")
_DECADE: Final = re.compile(r"(\d{3}0)'?s")  # 1980s
_FISCAL: Final = re.compile(r"\b[fc]y ?(?=\d)")  # FY2024 Q1
_FISCAL_YEAR: Final = re.compile(r"fy ?(\d{4})")
_FROM_TO: Final = re.compile(r"(.+?)(?: ?[–—] ?| - | to | bis )(.+)")
_YEAR: Final = r"(?:'?(?P<short>\d\d)|(?P<long>\d{4}))"
_PART: Final = {
    "quarter": r"(?:q|qtr|quarter|quartal|kwartaal|trimestre|trim|t)",
    "half": r"(?:h|hy|half|hj|halbjahr|semestre|sem|s)",
    "week": r"(?:w|wk|week|kw|woche|semaine|semana|settimana)",
}
_NUMBER: Final = {"quarter": r"(?P<number>[1-4])", "half": r"(?P<number>[12])", "week": r"(?P<number>\d{1,2})"}
_GAP: Final = r"[ \-/_.:]*(?:of |de |del |di )?"
_PARTS: Final = tuple(
    (unit, re.compile(form))
    for unit, name in _PART.items()
    for form in (
        rf"(?P<long>\d{{4}}){_GAP}{name}[ .]*{_NUMBER[unit]}" + (r"(?:-(?P<day>[1-7]))?" if unit == "week" else ""),
        rf"{name}[ .]*{_NUMBER[unit]}{_GAP}{_YEAR}",
        rf"{_NUMBER[unit]}(?:\.|st|nd|rd|th|er|eme|e|o|º)? ?{name}{_GAP}{_YEAR}",
        rf"'?(?P<short>\d\d){_GAP}{name}[ .]*{_NUMBER[unit]}",
    )
)
_TOKENS: Final = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
_FILLERS: Final = frozenset(
    ("de", "of", "the", "del", "di", "do", "st", "nd", "rd", "th", "er", "den", "le", "el", "º")
)
_MARKS: Final = frozenset(".,-/_'’")


def readings(value: Any) -> dict[str, Moment]:
    """Return what a value may mean, by the way of reading it (one of `FORMS`); nothing where it is no moment.

    A clear value means the same in every way.

    Example:
        >>> {form: f"{one.when:%Y-%m-%d}" for form, one in readings("01/02/2024").items()}
        {'day first': '2024-02-01', 'month first': '2024-01-02'}
        >>> readings("Q3 2024")["dates"].when.month, readings("soon")
        (7, {})
    """
    if isinstance(value, dt.datetime):
        offset = value.utcoffset()
        seconds = None if offset is None else int(offset.total_seconds())
        unit = "day" if value.time() == _MIDNIGHT and offset is None else "second"
        return dict.fromkeys(FORMS, Moment(value.replace(tzinfo=None), unit, seconds))
    if isinstance(value, dt.date):
        return dict.fromkeys(FORMS, Moment(dt.datetime(value.year, value.month, value.day), "day"))
    text = value if isinstance(value, str) else str(value)
    if text[4:5] == "-" == text[7:8]:  # by far the most frequent notation, and what Python reads fast
        try:
            when = dt.datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            offset = when.utcoffset()
            seconds = None if offset is None else int(offset.total_seconds())
            return dict.fromkeys(
                FORMS, Moment(when.replace(tzinfo=None), "day" if len(text) == 10 else "second", seconds)
            )
    if len(text) > LONGEST or not any(map(str.isdigit, text)):
        return {}
    try:
        return _readings(text) or _beginning(text)
    except (ValueError, OverflowError):  # a day that no calendar has
        return {}


def lacks_year(value: Any) -> bool:
    """Whether a value is a day and a month, and no year.

    Example:
        >>> lacks_year("14-Jan"), lacks_year("31.12."), lacks_year("14 Jan 2021")
        (True, True, False)
    """
    text = plain_letters(value.strip()) if isinstance(value, str) and len(value) <= LONGEST else ""
    if found := _DAY_AND_MONTH.fullmatch(text):
        low, high = sorted((int(found[1]), int(found[2])))
        return 0 < low <= 12 and high <= 31
    tokens = [token for token in _TOKENS.findall(text) if token not in _MARKS and token not in _FILLERS]
    tokens = [token for token in tokens if token in MONTHS or token not in WEEKDAYS]
    names = [token for token in tokens if token in MONTHS]
    days = [token for token in tokens if token.isdigit()]
    return len(names) == len(days) == 1 and len(tokens) == 2 and 0 < int(days[0]) <= 31 and len(days[0]) <= 2


def _beginning(text: str) -> dict[str, Moment]:
    """Return when a stretch of time begins: "01.01.2024 00:00 - 01.01.2024 01:00", "2024-01-01/2024-01-07"."""
    found = _FROM_TO.fullmatch(text)
    first, last = (found[1], found[2]) if found else ("", "")
    middle = len(text) // 2
    if not found and len(text) % 2 and text[middle] in "-/" and middle >= len("1.1.2024"):
        first, last = text[:middle], text[middle + 1 :]
    begins = _readings(first) if first else {}
    return begins if begins and _readings(last) else {}


def _readings(text: str) -> dict[str, Moment]:
    text = " ".join(plain_letters(text).split())
    text = _YEAR_LAST.sub(r"\1\3 \2", text)
    if year := _FISCAL_YEAR.fullmatch(text) or _DECADE.fullmatch(text):
        return dict.fromkeys(FORMS, Moment(dt.datetime(int(year[1]), 1, 1), "year"))
    text = _FISCAL.sub("", text)
    whole = _compact(text)
    if whole is not None:
        return dict.fromkeys(FORMS, whole)
    days = {} if ":" in text else _days(text)
    if days:
        return {form: Moment(day, unit) for form, (day, unit) in days.items()}
    found = _CLOCK.search(text)
    if found is None:
        return {}
    clock = _clock(found)
    before = text[: found.start()].rstrip(" ,:")
    if clock is None or (found[2] is None and not before):
        return {}
    time, offset = clock
    if not before:
        return dict.fromkeys(FORMS, Moment(dt.datetime(1970, 1, 1) + time, "second", offset))
    days = _days(before)
    return {form: Moment(day + time, "second", offset) for form, (day, unit) in days.items() if unit == "day"}


def _compact(text: str) -> Moment | None:
    found = _COMPACT.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    unit = "day" if found[4] is None else "second"
    return Moment(dt.datetime(year, month, day, hour, minute, second), unit, _offset(found[7] or ""))


def _clock(found: re.Match[str]) -> tuple[dt.timedelta, int | None] | None:
    hour, minute, second = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    micros = int((found[4] or "0").ljust(6, "0")[:6])
    half = (found[5] or "")[:1]
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    is_end = (hour, minute, second) == (24, 0, 0)
    if (hour > 23 and not is_end) or minute > 59 or second > 60:
        return None
    name, shift = found[7] or "", found[8] or ""
    if name and name not in _ZONES:
        return None
    offset = _offset(shift) if shift else _ZONES[name] * 3600 if name else None
    return dt.timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micros), offset


def _offset(text: str) -> int | None:
    if not text:
        return None
    if text == "z":
        return 0
    digits = text[1:].replace(":", "")
    hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > 2 else (digits, "0")  # GMT+1
    seconds = int(hours) * 3600 + int(minutes) * 60
    return -seconds if text[0] == "-" else seconds


@functools.lru_cache(maxsize=10_000)
def _days(text: str) -> dict[str, tuple[dt.datetime, str]]:
    """Return the day that a text without a time names, or the first one of its month, quarter ..., with the unit."""
    found = _YEAR_FIRST.fullmatch(text)
    if found:
        return _clear(int(found[1]), int(found[3]), int(found[4]))
    found = _SHORT.fullmatch(text) or _DOTTED.fullmatch(text)
    if found:
        first, second, third = (int(found[i]) for i in ((1, 3, 4) if found.re is _SHORT else (1, 2, 3)))
        return _short(first, second, third, found)
    found = _YEAR_MONTH.fullmatch(text)
    if found:
        return _clear(int(found[1]), int(found[2]))
    found = _MONTH_YEAR.fullmatch(text)
    if found:
        return _clear(int(found[2]), int(found[1]))
    found = _YEAR_DAY.fullmatch(text)
    if found:
        day = dt.datetime(int(found[1]), 1, 1) + dt.timedelta(int(found[2]) - 1)
        return dict.fromkeys(FORMS, (day, "day")) if found[2] > "000" and day.year == int(found[1]) else {}
    found = _CHINESE.fullmatch(text)
    if found:
        return _clear(int(found[1]), int(found[2]), int(found[3]) if found[3] else None)
    if text.replace("-", "").isdigit():
        return {}
    for unit, form in _PARTS:
        found = form.fullmatch(text)
        if found:
            return _part(unit, found)
    return _named(text)


def _clear(year: int, month: int, day: int | None = None) -> dict[str, tuple[dt.datetime, str]]:
    when = dt.datetime(year, month, day or 1)
    return dict.fromkeys(FORMS, (when, "month" if day is None else "day"))


def _short(first: int, second: int, third: int, found: re.Match[str]) -> dict[str, tuple[dt.datetime, str]]:
    """Read day, month and year in whatever order makes a day; points stand between day, month and year only."""
    has_short_year = len(found[found.lastindex or 0]) == 2
    year = _century(third) if has_short_year else third
    ways = [(DAY_FIRST, year, second, first)]
    if found.re is _SHORT and found[2] != ".":
        ways.append((MONTH_FIRST, year, first, second))
        if has_short_year and len(found[1]) == 2:
            ways.append((SHORT_YEAR, _century(first), second, third))
    days: dict[str, tuple[dt.datetime, str]] = {}
    for form, y, month, day in ways:
        try:
            days[form] = dt.datetime(y, month, day), "day"
        except ValueError:
            continue
    return days


def _part(unit: str, found: re.Match[str]) -> dict[str, tuple[dt.datetime, str]]:
    groups = found.groupdict()
    year = int(groups["long"]) if groups.get("long") else _century(int(groups["short"]))
    number = int(groups["number"])
    if unit != "week":
        return dict.fromkeys(FORMS, (dt.datetime(year, 1 + (number - 1) * (3 if unit == "quarter" else 6), 1), unit))
    day = groups.get("day")
    when = dt.datetime.fromisocalendar(year, number, int(day or 1))
    return dict.fromkeys(FORMS, (when, "day" if day else "week"))


def _named(text: str) -> dict[str, tuple[dt.datetime, str]]:
    """Read a date with the name of its month."""
    month, numbers, order = 0, list[str](), ""
    for token in _TOKENS.findall(text):
        if token.isdigit():
            numbers.append(token)
            order += "n"
        elif token in MONTHS and not month and not (token in WEEKDAYS and not order and _has_other_month(text, token)):
            month = MONTHS[token]
            order += "m"
        elif token not in _MARKS and token not in _FILLERS and token not in WEEKDAYS:
            return {}
    if not month or any(len(one) > 4 for one in numbers):
        return {}
    if order in ("mn", "nm"):
        if len(numbers[0]) not in (2, 4) or (order == "nm" and len(numbers[0]) == 2):
            return {}
        return _clear(_year(numbers[0]), month)
    if order == "nmn" and len(numbers[0]) == 4:
        return _clear(int(numbers[0]), month, int(numbers[1]))
    if order == "nmn":
        return _clear(_year(numbers[1]), month, int(numbers[0]))
    if order == "mnn" and len(numbers[1]) in (2, 4):
        return _clear(_year(numbers[1]), month, int(numbers[0]))
    if order == "nnm" and len(numbers[0]) == 4:
        return _clear(int(numbers[0]), month, int(numbers[1]))
    return {}


def _has_other_month(text: str, name: str) -> bool:
    """Whether "mar" is a weekday (martes, mardi, martedi): another word is the month."""
    return any(token in MONTHS for token in _TOKENS.findall(text)[1:] if token != name)


def _year(text: str) -> int:
    return int(text) if len(text) == 4 else _century(int(text))


def _century(year: int) -> int:
    return year + (1900 if year >= _TURN else 2000)
