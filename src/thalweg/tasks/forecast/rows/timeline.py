"""The rows of a series in the order of time: sorted, without a moment twice, with the moments that are missing."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final, final

import numpy as np

from thalweg.data.columns.facts import is_missing, number_of
from thalweg.data.columns.times.moments import read_moments, without_year
from thalweg.errors import InputError, counted
from thalweg.tasks.forecast.rows.calendar import BUSINESS, CLOCK, DAY, FIXED, NUMBER, SECOND, Step, find_step, written

READABLE: Final = 0.5  # of the values of a time column; the other rows can't be used
HOLIDAYS: Final = 0.06  # of business days: so many may be missing one at a time
UNEVEN: Final = 0.3  # of a step by which a moment may be off
MOST_FILLED: Final = 4  # missing moments a row; a single wrong date could make millions of them
MIN_DAYS: Final = 3  # that show between which hours there are rows
USUAL_DAYS: Final = 0.9  # of the days have a row at each of these times
HOUR: Final = 3600 * SECOND
NO_DAY: Final = np.datetime64("1970-01-01")  # of times without one
_CLOCKS_CHANGE: Final = (3, 4, 9, 10, 11)  # months in which they do, on a Sunday before the fourth hour
GAPS: Final = ("auto", "refuse", "fill", "ignore")


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Clock:
    """When the rows of a file were.

    Args:
        when: datetime64[us] (in UTC where offsets are known), or float64 where they are plain numbers, `[rows]`.
        ahead: what the clock at the place was ahead of `when`, in microseconds, `[rows]`.
        unit: the finest part that is written.
        notation: how they are written; "" for plain numbers.
        unreadable: the rows that say nothing of it.
        told: how an unclear notation was decided.
    """

    when: np.ndarray
    ahead: np.ndarray
    unit: str
    notation: str
    unreadable: tuple[int, ...]
    told: str = ""

    def labels(self, rows: np.ndarray) -> list[str]:
        """Return what the rows are called."""
        return labels(self.when[rows], self.ahead[rows], self.unit)


def labels(when: np.ndarray, ahead: np.ndarray, unit: str) -> list[str]:
    """Return moments as they are shown, by the clock of the place."""
    if not np.issubdtype(when.dtype, np.datetime64):
        return [written(float(one), unit) for one in when]
    return [written(one, unit) for one in when + ahead.astype("timedelta64[us]")]


def read_clock(
    values: Sequence[Any], *, notation: str | None = None, day_first: bool | None = None, least: float = READABLE
) -> Clock | None:
    """Return when rows were; None where fewer than the `least` share of the values says so.

    An InputError (without the file's name) tells of 01/02/2024 and nothing that decides, and of days without a year.
    """
    if example := without_year(values):
        raise InputError(
            f"its days have no year ({example!r}), so that nothing says in which order they are; write the year, too, "
            "or give --time-column none, which takes the rows in their order."
        )
    found = read_moments(values, named=True, notation=notation, day_first=day_first, least=least)
    if found is not None:
        if found.doubt:
            raise InputError(f"{found.doubt}, and no row decides it; say which with --day-first yes or no.")
        wall, offset = found.wall, found.offset
        if offset is None or len(np.unique((wall - wall.astype("datetime64[D]"))[~np.isnat(wall)])) == 1:
            offset = np.zeros(len(wall), dtype=np.int64)  # days begin when the clock at the place says so
        known = wall[~np.isnat(wall)]
        without_day = found.unit == "second" and bool((known.astype("datetime64[D]") == NO_DAY).all())
        unit = CLOCK if without_day else found.unit
        return Clock(
            wall - offset.astype("timedelta64[s]"), offset * SECOND, unit, found.notation, found.unreadable, found.told
        )
    numbers = np.array([np.nan if (number := number_of(value)) is None else number for value in values])
    unreadable = tuple(np.flatnonzero(np.isnan(numbers)).tolist())
    if not len(values) or len(unreadable) > (1.0 - least) * len(values):
        return None
    return Clock(numbers, np.zeros(len(values), dtype=np.int64), "", "", unreadable)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Timeline:
    """The rows of one series in the order of time.

    Args:
        rows: their places in the file, -1 where a moment is missing that was put in.
        labels: what they are called.
        step: the usual distance; None where they are not evenly spaced.
        last: the last moment, and what the clock was ahead of it.
        unit: see `Clock`.
        notes: sentences about what was done.
    """

    rows: np.ndarray
    labels: list[str]
    step: Step | None
    last: tuple[Any, Any]
    unit: str
    notes: tuple[str, ...] = ()

    def following(self, num_steps: int, step: Step | None = None) -> list[str]:
        """Return what the next rows are called; nothing where the rows are not evenly spaced."""
        step = step or self.step
        if step is None or not len(self.rows):
            return []
        when = step.after(self.last[0], num_steps)
        return labels(when, np.full(num_steps, self.last[1]), self.unit)


def timeline(
    clock: Clock,
    rows: np.ndarray,
    column: str,
    lines: Sequence[int],
    *,
    gaps: str = "auto",
    share: float = 0.2,
    repeated: Callable[[int, int], bool] = lambda first, again: False,  # noqa: ARG005
    fails: Callable[[str], InputError] = InputError,
) -> Timeline:
    """Put rows in the order of time.

    Args:
        clock: of all rows of the file.
        rows: those of this series, in the order of the file, all readable.
        column: the name of the time column.
        lines: of the rows in the file.
        gaps: what becomes of missing moments: "refuse", "fill", "ignore", or "auto", which fills up to this `share`.
        share: see `gaps`.
        repeated: called with two rows of one moment, the second of which is left out where it returns True.
        fails: makes an error of a sentence.
    """
    when, ahead, notes = clock.when[rows], clock.ahead[rows], []
    steps = np.diff(when)
    zero = steps.dtype.type(0)
    if len(steps) and np.count_nonzero(steps < zero) > np.count_nonzero(steps > zero) and (steps <= zero).mean() > 0.9:
        first, last = clock.labels(rows[[0, -1]])
        rows, when, ahead = rows[::-1], when[::-1], ahead[::-1]
        if (np.diff(when) >= zero).all():
            notes.append(f"{column!r} runs backwards, from {first} to {last}; the rows are turned round, oldest first.")
    before = ahead
    when, ahead = _continuous(when, ahead, clock.unit)
    twice = np.flatnonzero(np.diff(ahead - before) < 0)
    if len(twice):
        label = labels(when, ahead, clock.unit)[int(twice[0]) + 1]
        notes.append(
            f"Clocks are set back in {column!r} ({label}{' and other moments' if len(twice) > 1 else ''}); the rows of "
            "an hour that comes twice are all kept."
        )
    back = np.flatnonzero(np.diff(when) < zero)
    if len(back):
        first, second = clock.labels(rows[back[0] : back[0] + 2])
        notes.append(
            f"The rows are not in the order of {column!r}: {counted(len(back), 'step')} back, the first from {first} "
            f"to {second} (line {lines[int(rows[back[0] + 1])]}); they are sorted, oldest first."
        )
        order = np.argsort(when, kind="stable")
        rows, when, ahead = rows[order], when[order], ahead[order]
    kept = _without_repeats(when, rows, column, lines, repeated, fails, clock)
    rows, when, ahead = rows[kept], when[kept], ahead[kept]
    step = find_step(when, clock.unit)
    shown = labels(when, ahead, clock.unit)
    found = Timeline(rows, shown, step, (when[-1], ahead[-1]) if len(when) else (0, 0), clock.unit, tuple(notes))
    return _mended(found, when, ahead, column, gaps, share, fails)


def _continuous(when: np.ndarray, ahead: np.ndarray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Return moments that go on over midnight, where there are no days, and over the hours when clocks are changed."""
    if unit not in ("second", CLOCK) or len(when) < 3 or ahead.any():
        return when, ahead
    steps = np.diff(when).astype(np.int64)
    if unit == CLOCK:
        days = np.concatenate([[0], np.cumsum(steps < 0)])
        return when + (days * DAY).astype("timedelta64[us]"), ahead
    usual = int(np.median(steps))
    if not 0 < usual <= HOUR:
        return when, ahead
    possible, late = _may_change(when)
    back = (steps == usual - HOUR) & (possible | late)[1:]
    if (steps[~back] < 0).any():
        return when, ahead
    forward = (steps == usual + HOUR) & possible[1:]
    shift = np.concatenate([[0], np.cumsum(np.where(back, HOUR, 0) - np.where(forward, HOUR, 0))])
    return when + shift.astype("timedelta64[us]"), ahead - shift


def _may_change(when: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where clocks may be changed, as nearly everywhere, and where they may be set back around midnight.

    That is done in Egypt, Lebanon, Palestine and Chile, from Thursday to Sunday, and was in Iran at an equinox.
    """
    days: np.ndarray = when.astype("datetime64[D]")
    month = when.astype("datetime64[M]").astype(np.int64) % 12 + 1
    time, weekday = (when - days).astype(np.int64), (days.astype(np.int64) + 3) % 7
    in_month = np.isin(month, _CLOCKS_CHANGE)
    of_month = (days - when.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1
    equinox = (month == 9) & np.isin(of_month, (21, 22))
    midnight = (time >= 23 * HOUR) | (time < HOUR)
    joint = (of_month == 1) & (time < HOUR)  # where the files of two months meet
    return (weekday == 6) & in_month & (time <= 3 * HOUR), in_month & midnight & ~joint & ((weekday >= 3) | equinox)


def _without_repeats(
    when: np.ndarray,
    rows: np.ndarray,
    column: str,
    lines: Sequence[int],
    repeated: Callable[[int, int], bool],
    fails: Callable[[str], InputError],
    clock: Clock,
) -> np.ndarray:
    """Return which rows are kept; a moment that comes twice is an error unless its second row may be left out."""
    same = np.flatnonzero(when[1:] == when[:-1]) + 1 if len(when) > 1 else np.array([], dtype=int)
    kept = np.ones(len(when), dtype=bool)
    for place in same.tolist():
        first = place - 1
        while not kept[first]:
            first -= 1
        if repeated(int(rows[first]), int(rows[place])):
            kept[place] = False
            continue
        label = clock.labels(rows[[place]])[0]
        if len(np.unique(when)) == 1:
            raise fails(
                f"the time column {column!r} is {label} in all {len(when):,} rows, so it does not say when they were; "
                "name another one with --time-column (none: the rows are in order)."
            )
        raise fails(
            f"{label} comes twice in {column!r}, on the lines {lines[rows[first]]} and {lines[rows[place]]} "
            f"({counted(len(same), 'such row')} in all). Name the column that tells several series apart with "
            "--id-column, or keep one row of each moment; rows that are alike are left out with --skip-bad-rows."
        )
    return kept


def _mended(
    found: Timeline, when: np.ndarray, ahead: np.ndarray, column: str, gaps: str, share: float,
    fails: Callable[[str], InputError],
) -> Timeline:  # fmt: skip
    """Return a timeline whose missing moments are told, and put in where they are to be filled."""
    if len(when) < 3:
        return found
    shown, step = found.labels, found.step
    if step is None:
        steps = np.diff(when).astype(np.float64)
        odd = int(np.argmax(np.abs(steps - np.median(steps))))
        said = f"The rows are not evenly spaced in {column!r}, for example from {shown[odd]} to {shown[odd + 1]}"
        if gaps == "refuse":
            raise fails(f"{said}; training with --gaps ignore reads them as if they were.")
        return dataclasses.replace(found, notes=(*found.notes, f"{said}; they are read as if they were."))
    distances = step.distances(when)
    whole = np.maximum(np.rint(distances), 1.0)
    uneven = np.flatnonzero(np.abs(distances - whole) > UNEVEN)
    missing = whole.astype(np.int64) - 1
    holes = np.flatnonzero(missing)
    number, name = int(missing.sum()), step.name if step.kind != NUMBER else "row"
    what = counted(number, name if name[0].isalpha() else "moment") + ("" if name[0].isalpha() else f" ({name} apart)")
    if not number:
        if not len(uneven):
            return found
        first = int(uneven[0])
        said = (
            f"{counted(len(uneven), 'step')} in {column!r} {'is' if len(uneven) == 1 else 'are'} no whole {name} "
            f"long, the first from {shown[first]} to {shown[first + 1]}"
        )
        if gaps == "refuse":
            raise fails(f"{said}; training with --gaps ignore reads the rows as if they were evenly spaced.")
        return dataclasses.replace(found, notes=(*found.notes, f"{said}; the rows are read as evenly spaced."))
    first = int(holes[0])
    said = f"{what} missing in {column!r}, the first between {shown[first]} and {shown[first + 1]}"
    if gaps == "refuse":
        raise fails(
            f"{said}; training with --gaps fill draws straight lines over gaps, with --gaps ignore reads the rows as "
            "they are."
        )
    if gaps == "fill" and number > MOST_FILLED * len(when):
        raise fails(f"{said}, too many to fill {counted(len(when), 'row')}; leave out what is far from all others.")
    are_holidays = step.kind == BUSINESS and missing.max() == 1 and number <= HOLIDAYS * len(when)
    if gaps == "auto" and are_holidays:
        return dataclasses.replace(found, notes=(*found.notes, f"{said}: holidays, which are no gaps."))
    if gaps == "ignore" or (gaps == "auto" and number > share * (len(when) + number)):
        hint = "" if gaps == "ignore" else "; --gaps fill draws straight lines over them, --gaps refuse stops here"
        note = f"{said}; the rows are read as if they were evenly spaced{hint}."
        return dataclasses.replace(found, notes=(*found.notes, note))
    return _filled(found, when, ahead, missing, f"{said}; straight lines fill gaps, which count as no truth.")


def _filled(found: Timeline, when: np.ndarray, ahead: np.ndarray, missing: np.ndarray, note: str) -> Timeline:
    """Return the timeline with the missing moments put in."""
    assert found.step is not None
    rows, shown = [], []
    for place in range(len(when)):
        rows.append(int(found.rows[place]))
        shown.append(found.labels[place])
        number = int(missing[place]) if place < len(missing) else 0
        if number:
            between = found.step.after(when[place], number)
            rows += [-1] * number
            shown += labels(between, np.full(number, ahead[place]), found.unit)
    return dataclasses.replace(found, rows=np.array(rows), labels=shown, notes=(*found.notes, note))


def next_labels(given: Sequence[Any], num_steps: int, step: Step | None = None) -> list[str]:
    """Return what the rows after those called so are called; nothing where that is not known.

    `step` is the usual one, which holds unless the rows are farther apart or nearer.

    Example:
        >>> next_labels(["2024-01", "2024-02", "2024-03"], 2)
        ['2024-04', '2024-05']
    """
    present = [value for value in given if not is_missing(value)]
    try:
        clock = read_clock(present, day_first=True, least=1.0) if present else None
    except InputError:
        return []
    if clock is None:
        return []
    when, ahead = _continuous(clock.when, clock.ahead, clock.unit) if clock.unit == CLOCK else (clock.when, clock.ahead)
    order = np.argsort(when, kind="stable")
    when, ahead = when[order], ahead[order]
    if (step is None) or not _holds(step, when):
        step = find_step(when, clock.unit)
    hours = _opening_hours(when, ahead, step)
    if step is None or hours is None:
        return Timeline(order, [], step, (when[-1], ahead[-1]), clock.unit).following(num_steps)
    days = num_steps // len(hours) * 2 + 4  # weekends between them
    later = step.after(when[-1], int(days * DAY / step.size))
    local = later + ahead[-1].astype("timedelta64[us]")
    day = local.astype("datetime64[D]")
    is_open = np.isin((local - day).astype(np.int64), hours)
    if np.is_busday(when.astype("datetime64[D]")).all():
        is_open &= np.is_busday(day)
    return labels(later[is_open][:num_steps], np.full(num_steps, ahead[-1]), clock.unit)


def _opening_hours(when: np.ndarray, ahead: np.ndarray, step: Step | None) -> np.ndarray | None:
    """Return the times of day, in microseconds, that nearly every day has; None where they go round the clock."""
    if step is None or step.kind != FIXED or step.size >= DAY:
        return None
    local = when + ahead.astype("timedelta64[us]")
    days, rows = np.unique(local.astype("datetime64[D]"), return_counts=True)
    hours = np.unique((local - local.astype("datetime64[D]")).astype(np.int64))
    is_daily = len(days) > MIN_DAYS and (rows[1:-1] == len(hours)).mean() > USUAL_DAYS
    return hours if is_daily and len(hours) * step.size <= DAY - HOUR else None


def _holds(step: Step, when: np.ndarray) -> bool:
    if (step.kind == NUMBER) is np.issubdtype(when.dtype, np.datetime64):
        return False
    distances = step.distances(when)
    if step.kind in (FIXED, NUMBER):
        return not len(distances) or float(np.median(distances)) == 1.0
    return not len(distances) or (bool((distances > 0).all()) and float(np.median(distances)) == 1.0)
