"""The columns of a forecast: numbers, when they were, and which series they belong to."""

import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

from thalweg.data.columns import misfits
from thalweg.data.columns.choice import PAIR_AND_NUMBER, POSSIBLE, Choice, Kind, Rule, Table, TaskColumns
from thalweg.data.columns.facts import ColumnFacts, is_missing, number_of
from thalweg.data.columns.misfits import NUMBERINGS
from thalweg.data.columns.role_names import LAST_WORD, WHOLE_NAME, name_score, normalized
from thalweg.data.columns.scores import is_text_like, is_time
from thalweg.data.columns.times.moments import Moments, joined, part_of, read_moments

YEARS: Final = (1000, 2999)
NUM_SHOWN: Final = 6  # names of series in the sentence
CLOCK_DAY: Final = dt.date(1970, 1, 1)  # of times without a day
CLOCK: Final = ("hour", "minute", "second")
MAX_SERIES: Final = 0.5  # names of series a row: more of them are no names of series
MAX_ID_WORDS: Final = 4
MIN_COUNTED: Final = 5  # rows; fewer numbers may happen to follow each other
LEAST_UNIQUE: Final = 0.95  # of the moments come once in their series, in the columns that tell them apart


def choose(table: Table) -> Choice:
    """Return the series, the columns that say when the rows were, and those that tell several series apart."""
    time = table.named_columns.get("time", ())
    if not time and "time" not in table.declined:
        time = time_columns(table)
    given = table.named_series or ()
    # The only numbers there are may happen to grow.
    others = [one for one in table.facts if one.is_number and one.name not in time]
    time = () if set(time) & set(given) or not (others or given or "time" in table.named_columns) else time
    id_ = table.named_columns.get("id", ())
    if not id_ and "id" not in table.declined:
        id_ = id_columns(table, time, given)
    series, counters = given, tuple[str, ...]()
    if table.named_series is None:
        series = tuple(one.name for one in table.facts if one.is_number and one.name not in (*time, *id_))
        counters = tuple(
            one.name
            for one in table.facts
            if one.name in series and (_counts_rows(table, one) or _is_decimal_year(table, one))
        )
        series = tuple(name for name in series if name not in counters) or series
        counters = tuple(name for name in counters if name not in series)
    if not series:
        raise table.fail("a column of numbers for the task forecast", "name it with --label-column")
    columns = {role: names[0] for role, names in (("time", time), ("id", id_)) if names}
    joined_ = {role: names for role, names in (("time", time), ("id", id_)) if len(names) > 1}
    return Choice("forecast", columns, _sentence(series, time, id_, counters), series, joined=joined_)


def _counts_rows(table: Table, one: ColumnFacts) -> bool:
    """Whether a column only numbers the rows, as pandas writes them: 0, 1, 2 ..., in whatever order they are now."""
    if one.has_decimals or one.num_distinct != one.num_rows or one.num_rows < MIN_COUNTED:
        return False
    named = bool(NUMBERINGS & set(normalized(one.name).split("_")))
    if one.position != 0 and not named:
        return False
    numbers = [number_of(value) for value in _column(table, one.name)]
    known = [number for number in numbers if number is not None]
    return len(known) == len(numbers) and max(known) - min(known) == len(known) - 1


def _is_decimal_year(table: Table, one: ColumnFacts) -> bool:
    """Whether a column says when in years and their parts, such as 1958.0417 for the middle of January."""
    if not one.has_decimals or not one.is_increasing or name_score(one.name, "time") < LAST_WORD:
        return False
    numbers = [number_of(value) for value in _column(table, one.name)]
    return all(number is not None and YEARS[0] <= number <= YEARS[1] for number in numbers)


def _sentence(series: Sequence[str], time: Sequence[str], id_: Sequence[str], counters: Sequence[str] = ()) -> str:
    shown = ", ".join(map(repr, series[:NUM_SHOWN])) + (f" ... ({len(series)} in all)" if len(series) > 6 else "")
    told = f"Numeric column{'s' if len(series) > 1 else ''} {shown}, in the order of "
    told += f"{' and '.join(map(repr, time))}" if time else "the rows"
    if id_:
        told += f"; {' and '.join(map(repr, id_))} {'tell' if len(id_) > 1 else 'tells'} several series apart"
    if counters:
        told += f"; {' and '.join(map(repr, counters))} only {'count' if len(counters) > 1 else 'counts'} the rows"
    return f"{told}; --label-column, --time-column and --id-column choose others."


def time_columns(table: Table) -> tuple[str, ...]:
    """Return the columns that together say when a row was; none where nothing does."""
    found = {one.name: moments for one in table.facts if (moments := _moments(table, one)) is not None}
    parts = {part: one.name for one in reversed(table.facts) if (part := part_of(one.name)) is not None}
    if "year" in parts and {"month", "quarter", "week"} & set(parts):
        names = tuple(parts[part] for part in ("year", "quarter", "month", "week", "day", *CLOCK) if part in parts)
        names = tuple(name for name in names if name in found or _is_number(table, name) or _is_month(table, name))
        if len(names) > 1 and read_moments(joined(names, _columns(table, names))) is not None:
            return names
    whole = {name: one for name, one in found.items() if not _is_clock(one)}
    if whole:
        first = next((name for name, one in whole.items() if len(set(one.when)) > 1), next(iter(whole)))
        if part_of(first) == "hour":
            return (first,)
        again = len(set(whole[first].when)) < len(whole[first].when)
        clocks = [one for one in found if one not in whole] or [parts[part] for part in CLOCK if part in parts]
        if whole[first].unit == "day" and again and clocks:
            names = (first, *clocks[: len(clocks) if clocks[0] not in found else 1])
            values = joined(names, _columns(table, names))
            if len(set(values)) > len(set(_column(table, first))) and read_moments(values) is not None:
                return names
        return (first,)
    if found:
        return (next(iter(found)),)
    counting = [one for one in table.facts if is_time(one) or _is_decimal_year(table, one)]
    named = [one for one in counting if name_score(one.name, "time") >= LAST_WORD]
    counted = next(iter(named or counting), None)
    return () if counted is None else (counted.name,)


def id_columns(table: Table, time: Sequence[str], series: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the columns that tell several series apart: each moment comes once in each, and again in others."""
    candidates = [one for one in table.facts if one.name not in (*time, *series) and _may_be_id(one, time)]
    named = tuple(one.name for one in candidates if name_score(one.name, "series_id") >= WHOLE_NAME)
    moments = list(_columns(table, time)) if time else []
    if not time or len(moments) == len(set(moments)):
        # The first rows may be of one series.
        return named[:1] if time and len(named) == 1 and table.looked_at else ()
    for number in range(1, min(3, len(candidates)) + 1):
        for chosen in itertools.combinations(candidates, number):
            names = [one.name for one in chosen]
            keys = list(zip(*(_column(table, name) for name in names), moments, strict=True))
            if len(set(keys)) >= LEAST_UNIQUE * len(keys) and len({key[:-1] for key in keys}) > 1:
                return tuple(names)
    return named


def _may_be_id(one: ColumnFacts, time: Sequence[str]) -> bool:
    """Whether a column's values come again and again, and are names or whole numbers."""
    if one.is_list or not one.num_values or one.num_values < one.num_rows * LEAST_UNIQUE:
        return False
    named = name_score(one.name, "series_id")
    if one.num_distinct > MAX_SERIES * one.num_values or one.mean_words > MAX_ID_WORDS or one.has_decimals:
        return False
    return (not one.is_number or named >= LAST_WORD) and one.name not in time


def _moments(table: Table, one: ColumnFacts) -> Moments | None:
    if one.is_list or not one.num_values:
        return None
    named = name_score(one.name, "time") >= LAST_WORD
    return read_moments([value for value in _column(table, one.name) if not is_missing(value)], named=named)


def _is_clock(moments: Moments) -> bool:
    """Whether there are times of day only."""
    return all(one is None or one.date() == CLOCK_DAY for one in moments.when) and moments.notation == "dates"


def _is_number(table: Table, name: str) -> bool:
    return table.facts[table.source.columns.index(name)].is_number


def _is_month(table: Table, name: str) -> bool:
    """Whether a column holds the names of months, which are moments beside a year."""
    return read_moments(joined(["year", name], [(2000, value) for value in _column(table, name)])) is not None


def _column(table: Table, name: str) -> list[Any]:
    place = table.source.columns.index(name)
    return [str(row.values[place]) if isinstance(row.values[place], list) else row.values[place] for row in table.rows]


def _columns(table: Table, names: Sequence[str]) -> Iterable[tuple[Any, ...]]:
    return list(zip(*(_column(table, name) for name in names), strict=True))


def _chosen(table: Table) -> tuple[tuple[str, ...], tuple[str, ...]]:
    time = time_columns(table)
    return time, id_columns(table, time)


def has_numbers_only(table: Table) -> bool:
    """There are numbers and no texts but moments."""
    if any(one.is_list for one in table.facts) or not any(one.is_number for one in table.facts):
        return False
    time = time_columns(table)
    others = [one for one in table.facts if one.name not in time]
    return not any(map(is_text_like, others)) and any(one.is_number for one in others or table.facts)


def has_series(table: Table) -> bool:
    """The same moments come again in several series, and all else is numbers."""
    if any(one.is_list for one in table.facts) or not any(one.is_number for one in table.facts):
        return False
    time, id_ = _chosen(table)
    others = [one for one in table.facts if one.name not in (*time, *id_)]
    return bool(time and id_ and others) and all(one.is_number for one in others)


COLUMNS = TaskColumns(
    "forecast",
    {"series": Kind.SERIES, "time": Kind.TIME, "id": Kind.ID},
    choose,
    (
        Rule(PAIR_AND_NUMBER, "each moment comes once in each of several series of numbers", has_series),
        Rule(POSSIBLE, "the columns are numbers", has_numbers_only),
    ),
    options={"label": "series"},
    optional=frozenset({"time", "id"}),
    objection=misfits.of_series,
)
