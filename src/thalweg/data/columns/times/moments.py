"""Moments: what the values of a time column mean, the notation being judged over the column as a whole."""

import dataclasses
import datetime as dt
import itertools
import re
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final, final

from thalweg.data.columns.facts import is_missing
from thalweg.data.columns.notation import number_of
from thalweg.data.columns.times.dates import DAY_FIRST, FORMS, MONTH_FIRST, SHORT_YEAR, Moment, lacks_year, readings
from thalweg.data.columns.times.month_names import plain_letters

MIN_READABLE: Final = 0.9  # of the values that are there, or a column holds no moments
NUM_LOOKED_AT: Final = 1000  # values that decide the notation by their spacing
EVEN: Final = 0.9  # of the steps between neighbors are alike where moments are evenly spaced

# Notations of numbers: name -> the least and the greatest value, and how many of a unit make a second.
EPOCHS: Final = {"epoch s": 1, "epoch ms": 10**3, "epoch us": 10**6, "epoch ns": 10**9}
_EPOCH_SECONDS: Final = (10**8, 4 * 10**9)  # 1973 to 2096
_YEARS: Final = (1000, 2999)
_EXCEL: Final = (20_000, 80_000)  # 1954 to 2119
_EXCEL_ZERO: Final = dt.datetime(1899, 12, 30)
_EPOCH: Final = dt.datetime(1970, 1, 1)
_NEAR_MONTH: Final = 0.1  # of a month: 1949.083 and 1949.08 are February
NUM_QUARTERS: Final = 4
_QUARTER: Final = re.compile(r"\d{4}[.:][1-4]")  # 1990.1 to 1990.4, and no other number beside a year
WEEKS: Final = "numbered weeks"
_WEEK: Final = re.compile(r"(?P<before>\d{1,2}) ?[/.] ?(?P<year>\d{4})|(?P<first>\d{4}) ?[-/] ?(?P<behind>\d{1,2})")
OVER_YEARS: Final = "years over two years"
_TWO_YEARS: Final = re.compile(r"(?:fy ?)?(?P<first>\d{4}) ?[-/–] ?(?P<second>\d{4}|\d\d)", re.IGNORECASE)
_MONTHS_AND_WEEKS: Final = (12, 53)
_SECONDS: Final = {"month": 28 * 86400, "year": 365 * 86400}


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """The moments of a column.

    Args:
        notation: how they are written, a name that `read_moments` takes for another part of the data.
        unit: the finest part that is written: "year", "half", "quarter", "month", "week", "day" or "second".
        when: what a clock at the place showed, one entry a row; None where a value is not readable.
        offsets: what that clock was ahead of UTC, in seconds, one entry a row; None where no value says so.
        unreadable: the rows whose values are missing or not readable.
        told: how an unclear notation was decided, as half a sentence; empty where it is clear.
        doubt: why the notation can't be decided, as half a sentence; empty where it can.
    """

    notation: str
    unit: str
    when: list[dt.datetime | None]
    offsets: list[int] | None
    unreadable: tuple[int, ...] = ()
    told: str = ""
    doubt: str = ""

    @property
    def wall(self) -> Any:
        """What a clock at the place showed, datetime64[us], `[rows]`; NaT where a value is not readable."""
        import numpy as np

        return np.array(self.when, dtype="datetime64[us]")

    @property
    def offset(self) -> Any:
        """What that clock was ahead of UTC, in seconds, int64 `[rows]`; None where no value says so."""
        import numpy as np

        return None if self.offsets is None else np.array(self.offsets, dtype=np.int64)

    @property
    def instants(self) -> Any:
        """The moments in UTC where the offsets are known, which is their order, datetime64[us]."""
        offset = self.offset
        return self.wall if offset is None else self.wall - offset.astype("timedelta64[s]")


def are_moments(values: Iterable[Any], *, named: bool = False) -> bool:
    """Whether values are dates or times; `named`: the column's name says so, so numbers may be years, epochs ...

    Example:
        >>> are_moments(["2022Q1", "2022Q2"]), are_moments(["01-Jan-22", "5 avril 2022"]), are_moments(["1.5", "2.5"])
        (True, True, False)
        >>> are_moments(["1640995200", "1640998800"]), are_moments(["1640995200", "1640998800"], named=True)
        (False, True)
    """
    return read_moments([value for value in values if not is_missing(value)], named=named) is not None


def read_moments(
    values: Sequence[Any],
    *,
    named: bool = False,
    notation: str | None = None,
    day_first: bool | None = None,
    least: float = MIN_READABLE,
) -> Moments | None:
    """Return the moments that the values of a column mean; None where they mean none.

    Args:
        values: of the whole column, in its order.
        named: whether numbers may be moments: years, 20240131, seconds since 1970, days as Excel counts them.
        notation: the notation of another part of the data, which then holds here, too.
        day_first: what 01/02/2024 means where no value decides: True for February 1.
        least: the share of the values that must be readable.

    Returns:
        The moments, those of ambiguous values with a `doubt`.

    Example:
        >>> found = read_moments(["31/01/2024", "01/02/2024"])
        >>> found.notation, found.wall.astype("datetime64[D]").tolist()[1].isoformat()
        ('day first', '2024-02-01')
        >>> read_moments(["01/02/2024", "03/02/2024"]).doubt
        '01/02/2024 may be January 2 or February 1'
    """
    present = [place for place, value in enumerate(values) if not is_missing(value)]
    if not present:
        return None
    if named and len(present) > NUM_QUARTERS and all(_QUARTER.fullmatch(str(values[place])) for place in present):
        values = ["" if is_missing(value) else f"{str(value)[:4]}Q{str(value)[-1]}" for value in values]
    if years := _as_years(values, present, least, is_told=notation == OVER_YEARS):
        found = read_moments(years, least=least)
        shown = str(values[present[0]]).strip()
        told = f"{shown} is read as the year that begins in {shown.lower().removeprefix('fy').strip()[:4]}"
        return found and dataclasses.replace(found, notation=OVER_YEARS, told=told)
    weeks = _as_weeks(values, present, least, is_told=notation == WEEKS)
    if weeks is not None:
        found = read_moments(weeks, least=least)
        return found and dataclasses.replace(found, notation=WEEKS)
    if _number_share(values, present) >= least:
        numbers = _of_numbers(values, present, notation, least) if named else None
        if numbers is not None or not named:
            return numbers
        least = max(least, MIN_READABLE)  # 01.2024 is a number, too
    found = [readings(values[place]) for place in present]
    fits = {form: sum(form in one for one in found) for form in FORMS}
    possible = [form for form in FORMS if fits[form] and fits[form] == max(fits.values())]
    if max(fits.values()) < least * len(present):
        return None
    told = doubt = ""
    kept = possible[0]
    if notation in fits and fits[notation] >= least * len(present):
        kept = notation
    elif day_first is not None and (wanted := DAY_FIRST if day_first else MONTH_FIRST) in possible:
        kept = wanted
    elif len(possible) > 1:
        kept, told, doubt = _decided(values, present, found, possible)
    return _gathered(len(values), present, [one.get(kept) for one in found], kept, told, doubt)


def _as_years(values: Sequence[Any], present: list[int], least: float, *, is_told: bool) -> list[str]:
    """Return fiscal years, school years and seasons such as 1998/99 by their first year; nothing where there are none.

    2001/02 alone may be a month; several of them are years where the second number goes up with the first one.
    """
    found = {place: _TWO_YEARS.fullmatch(str(values[place]).strip()) for place in present}
    first = {place: int(one["first"]) for place, one in found.items() if one and _next_year(one)}
    if len(first) < least * len(present) or not (is_told or len(set(first.values())) > 1):
        return []
    if not is_told and any(one and not _next_year(one) for one in found.values()):
        return []
    return [f"FY{first[place]}" if place in first else "" for place in range(len(values))]


def _next_year(one: re.Match[str]) -> bool:
    """Whether the second year is the one after the first."""
    second = one["second"]
    return int(second) == (int(one["first"]) + 1) % 10 ** len(second)


def _as_weeks(values: Sequence[Any], present: list[int], least: float, *, is_told: bool) -> list[str] | None:
    """Return 45/2021 and 2021/45 as weeks are written, where some of the numbers are too large for a month."""
    if not _WEEK.fullmatch(str(values[present[0]]).strip()):
        return None
    found = {place: _WEEK.fullmatch(str(values[place]).strip()) for place in present}
    numbers = {place: int(one["before"] or one["behind"]) for place, one in found.items() if one}
    most_months, most_weeks = _MONTHS_AND_WEEKS
    weeks = {place: number for place, number in numbers.items() if 0 < number <= most_weeks}
    if len(weeks) < least * len(present) or not (is_told or max(weeks.values()) > most_months):
        return None
    texts = [""] * len(values)
    for place, number in weeks.items():
        one = found[place]
        texts[place] = f"{one and (one['year'] or one['first'])}-W{number:02}"
    return texts


def without_year(values: Iterable[Any]) -> str:
    """Return an example of days without a year, such as "14-Jan", where a column holds nothing else; else "".

    "Jan 14" is a month of 2014 unless most rows are of the same month as the row before.
    """
    present = list(itertools.islice((value for value in values if not is_missing(value)), NUM_LOOKED_AT))
    lacking = [str(value) for value in present if lacks_year(value)]
    if not lacking or len(lacking) < MIN_READABLE * len(present):
        return ""
    months = [re.sub(r"[\W\d]", "", value) for value in lacking]
    same = sum(one == before for before, one in itertools.pairwise(months))
    is_daily = 2 * same > len(months)
    return lacking[0] if is_daily or not all(map(readings, lacking)) else ""


def _decided(
    values: Sequence[Any], present: list[int], found: list[dict[str, Moment]], possible: list[str]
) -> tuple[str, str, str]:
    """Return the form that makes the moments follow each other evenly, and how it was found, or a doubt."""
    differing = [
        place
        for place, one in enumerate(found[:NUM_LOOKED_AT])
        if len({one[form].when for form in possible if form in one}) > 1
    ]
    if not differing:
        return possible[0], "", ""
    shown = str(values[present[differing[0]]]).strip()
    even = {form: _evenness([one[form].when for one in found[:NUM_LOOKED_AT] if form in one]) for form in possible}
    best = max(possible, key=lambda form: even[form])  # the first of equals
    rest = max(even[form] for form in possible if form != best)
    is_clear = even[best] >= EVEN > rest or even[best] == 1.0 > rest
    if is_clear or set(possible) <= {best, SHORT_YEAR}:
        return best, f"{shown} is read {best}: so the moments are evenly spaced", ""
    days = [f"{found[differing[0]][form].when:%B} {found[differing[0]][form].when.day}" for form in possible[:2]]
    return possible[0], "", f"{shown} may be {days[1]} or {days[0]}"


def _evenness(when: list[dt.datetime]) -> float:
    """Return the share of the steps that are as long as the usual one; 0.0 for fewer than four moments."""
    distinct = sorted(set(when))
    if len(distinct) < 4:
        return 0.0
    steps = [(after - before).total_seconds() for before, after in itertools.pairwise(distinct)]
    usual = statistics.median(steps)
    low, high = next(
        ((0.98 * least, 1.12 * least) for least in _SECONDS.values() if 0.98 * least <= usual <= 1.12 * least),
        (0.99 * usual, 1.01 * usual),
    )
    days = usual == 86400.0  # business days leave out weekends
    return sum(low <= step <= high or (days and step == 3 * 86400.0) for step in steps) / len(steps)


def _gathered(
    num: int, present: list[int], found: list[Moment | None], kept: str, told: str = "", doubt: str = ""
) -> Moments:
    when: list[dt.datetime | None] = [None] * num
    offsets = [0] * num
    for place, one in zip(present, found, strict=True):
        if one is not None:
            when[place], offsets[place] = one.when, one.offset or 0
    has_offsets = any(one is not None and one.offset is not None for one in found)
    units = {one.unit for one in found if one is not None}
    unit = "second" if "second" in units else next(iter(units)) if len(units) == 1 else "day"
    unreadable = tuple(place for place, one in enumerate(when) if one is None)
    return Moments(kept, unit, when, offsets if has_offsets else None, unreadable, told, doubt)


def _number_share(values: Sequence[Any], present: list[int]) -> float:
    return sum(number_of(values[place]) is not None for place in present) / len(present)


def _of_numbers(values: Sequence[Any], present: list[int], notation: str | None, least: float) -> Moments | None:
    numbers = [number_of(values[place]) for place in present]
    possible = [notation] if notation in NUMBERS else list(NUMBERS)
    best: list[Moment | None] = []
    kept = ""
    for form in possible:
        found = [None if number is None else _number(form, number) for number in numbers]
        if sum(one is not None for one in found) > sum(one is not None for one in best):
            best, kept = found, form
    if sum(one is not None for one in best) < least * len(present):
        return None
    return _gathered(len(values), present, best, kept)


NUMBERS: Final = (
    "compact days",
    "compact days of a year",
    "compact months",
    "compact weeks",
    "years",
    *EPOCHS,
    "Excel days",
    "decimal years",
)


def _number(form: str, number: float) -> Moment | None:
    """Return the moment that a number means in this notation; None: it means none."""
    if form in EPOCHS:
        scale = EPOCHS[form]
        if not _EPOCH_SECONDS[0] * scale <= number <= _EPOCH_SECONDS[1] * scale:
            return None
        seconds, rest = divmod(int(number), scale) if float(number).is_integer() else divmod(number, scale)
        return Moment(_EPOCH + dt.timedelta(seconds=int(seconds), microseconds=round(rest * 10**6 / scale)), "second")
    if form == "Excel days":
        if not _EXCEL[0] <= number <= _EXCEL[1]:
            return None
        when = _EXCEL_ZERO + dt.timedelta(seconds=round(number * 86400))
        return Moment(when, "day" if number.is_integer() else "second")
    if form == "decimal years":
        year, month = int(number), number % 1 * 12
        is_month = abs(month - round(month)) <= _NEAR_MONTH and round(month) < 12
        return (
            Moment(dt.datetime(year, round(month) + 1, 1), "month")
            if _YEARS[0] <= year <= _YEARS[1] and is_month
            else None
        )
    if not number.is_integer():
        return None
    whole = int(number)
    if form == "years":
        return Moment(dt.datetime(whole, 1, 1), "year") if _YEARS[0] <= whole <= _YEARS[1] else None
    if form == "compact days of a year":
        day, year = whole % 1000, whole // 1000
        if not (_YEARS[0] <= year <= _YEARS[1] and day > 0):
            return None
        when = dt.datetime(year, 1, 1) + dt.timedelta(day - 1)
        return Moment(when, "day") if when.year == year else None
    if form == "compact weeks":
        try:
            when = dt.datetime.fromisocalendar(whole // 100, whole % 100, 1)
        except ValueError:
            return None
        return Moment(when, "week") if _YEARS[0] <= whole // 100 <= _YEARS[1] else None
    year, month, day = (
        (whole // 10_000, whole // 100 % 100, whole % 100) if form == "compact days" else (whole // 100, whole % 100, 1)
    )
    try:
        when = dt.datetime(year, month, day)
    except (ValueError, OverflowError):
        return None
    unit = "day" if form == "compact days" else "month"
    return Moment(when, unit) if _YEARS[0] <= year <= _YEARS[1] else None


PARTS: Final = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
_PART_NAMES: Final = {name: part for part, names in {
    "year": "yr yyyy jahr annee an ano anio anno jaar rok",
    "quarter": "qtr q quartal trimestre trim kwartaal",
    "month": "mon mth mm monat mois mes mese maand",
    "week": "wk kw woche semaine semana settimana",
    "day": "dd tag jour dia giorno dag",
    "hour": "hr hh stunde heure hora ora uur",
    "minute": "min", "second": "sec",
}.items() for name in names.split()}  # fmt: skip


def part_of(name: str) -> str | None:
    """Return which part of a moment a column of this name holds, one of `PARTS`; None: it holds a whole one."""
    name = plain_letters(name.strip())
    name = _PART_NAMES.get(name, name)
    return name if name in PARTS else None


def joined(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the moments of several columns, such as year and month, or date and time, as one text a row.

    A row in which one of them is missing gives an empty text.

    Example:
        >>> joined(["Year", "Month"], [(2024, 1), ("2024", "Feb")]), joined(["date", "time"], [("1.2.2024", "9:30")])
        (['2024-1', '2024 Feb'], ['1.2.2024 9:30'])
    """
    parts = [part_of(name) for name in names]
    order = sorted(range(len(names)), key=lambda i: -1 if (one := parts[i]) is None else PARTS.index(one))
    return [_joined([(parts[i], row[i]) for i in order]) for row in rows]


def _joined(parts: list[tuple[str | None, Any]]) -> str:
    if any(is_missing(value) for _, value in parts):
        return ""
    date: list[str] = []
    clock: list[str] = []
    for part, value in parts:
        number = number_of(value)
        text = str(int(number)) if number is not None and number.is_integer() else str(value).strip()
        if part in ("hour", "minute", "second"):
            clock.append(text.zfill(2))
        elif part in ("quarter", "week") and number is not None:
            date.append(f"{'Q' if part == 'quarter' else 'W'}{text}")
        else:
            date.append(text)
    numeric = all(one.isdigit() for one in date)
    day = ("-" if numeric else " ").join(date)
    time = ":".join(clock) if len(clock) != 1 or ":" in clock[0] else f"{clock[0]}:00"
    return f"{day} {time}".strip()
