"""How far apart the rows of a series are: fixed times, months, business days; and which moments come next."""

import dataclasses
from typing import Any, Final, final

import numpy as np

SECOND: Final = 10**6  # in microseconds, as all fixed distances here
DAY: Final = 86_400 * SECOND
_UNITS: Final = ((7 * DAY, "week"), (DAY, "day"), (3600 * SECOND, "hour"), (60 * SECOND, "minute"), (SECOND, "second"),
                 (1000, "millisecond"), (1, "microsecond"))  # fmt: skip
_MONTHS: Final = {1: "month", 3: "quarter", 6: "half-year", 12: "year"}
MONTH, BUSINESS, FIXED, NUMBER = "month", "business day", "fixed", "number"
CLOCK: Final = "clock"  # the unit of times without a day
LAST_BUSINESS, FIRST_BUSINESS = -1, -2  # days of a month
COARSE: Final = frozenset(("month", "quarter", "half", "year"))  # units of a moment that are whole months
USUAL: Final = 0.5  # of the distances are the usual one, or a part of them all
NEAR: Final = 0.1  # of a distance: clocks of instruments are not exact
MOST_NEAR: Final = 0.9  # of the distances are so near to the middle one


@final
@dataclasses.dataclass(frozen=True)
class Step:
    """The usual distance between two rows.

    Args:
        kind: `MONTH` (a number of months), `BUSINESS` (Monday to Friday), `FIXED` (microseconds) or `NUMBER`.
        size: how many of them.
        day: where in a month: its day (1 to 31, or the last one where there are fewer), `LAST_BUSINESS` or
            `FIRST_BUSINESS` for its last or first business day.
    """

    kind: str
    size: float
    day: int = 0

    @property
    def name(self) -> str:
        """Such as "month", "15 minutes"."""
        if self.kind == BUSINESS:
            return BUSINESS
        if self.kind == NUMBER:
            return f"{self.size:g}"
        if self.kind == MONTH:
            return _MONTHS.get(int(self.size), f"{self.size:g} months")
        size, unit = next(((size, unit) for size, unit in _UNITS if self.size % size == 0), _UNITS[-1])
        number = int(self.size / size)
        return unit if number == 1 else f"{number} {unit}s"

    def distances(self, when: np.ndarray) -> np.ndarray:
        """Return how many steps lie between neighbors, `[rows - 1]`; not whole where they are not evenly spaced."""
        if self.kind == NUMBER:
            return np.diff(when) / self.size
        if self.kind == BUSINESS:
            days = when.astype("datetime64[D]")
            return np.busday_count(days[:-1], days[1:]).astype(np.float64)
        if self.kind == MONTH:
            return np.diff(when.astype("datetime64[M]").astype(np.int64)) / self.size
        return np.diff(when).astype("timedelta64[us]").astype(np.int64) / self.size

    def after(self, last: Any, num_steps: int) -> np.ndarray:
        """Return the next moments, `[num_steps]`.

        Example:
            >>> Step(MONTH, 1, day=31).after(np.datetime64("2024-01-31", "us"), 2).astype("datetime64[D]").tolist()
            [datetime.date(2024, 2, 29), datetime.date(2024, 3, 31)]
        """
        steps = np.arange(1, num_steps + 1)
        if self.kind == NUMBER:
            return last + self.size * steps
        last = np.datetime64(last, "us")
        day = last.astype("datetime64[D]")
        if self.kind == BUSINESS:
            return np.busday_offset(day, steps, roll="backward").astype("datetime64[us]") + (last - day)
        if self.kind == FIXED:
            return last + (steps * int(self.size)).astype("timedelta64[us]")
        months = day.astype("datetime64[M]") + (steps * int(self.size)).astype("timedelta64[M]")
        ends = (months + 1).astype("datetime64[D]") - 1
        if self.day < 0:
            days = _first_business(months) if self.day == FIRST_BUSINESS else _last_business(months)
        else:
            days = np.minimum(months.astype("datetime64[D]") + (self.day - 1), ends)
        return days.astype("datetime64[us]") + (last - day)

    def to_dict(self) -> dict[str, Any]:
        """Return what `Step(**...)` takes."""
        return dataclasses.asdict(self)


def find_step(when: np.ndarray, unit: str = "") -> Step | None:
    """Return how far apart ascending moments are (datetime64[us], or numbers); None where they are not evenly spaced.

    `unit` is the finest part of them that is written (see `thalweg.data.columns.times.moments.Moments`).

    Example:
        >>> find_step(np.array(["2024-01-31", "2024-02-29", "2024-03-31"], "datetime64[us]")).name
        'month'
        >>> find_step(np.array(["2024-05-02", "2024-05-03", "2024-05-06"], "datetime64[us]")).name
        'business day'
    """
    when = np.unique(when)
    if len(when) < 2:
        return None
    if not np.issubdtype(when.dtype, np.datetime64):
        size = _usual(np.diff(when))
        return None if size is None else Step(NUMBER, size)
    days = when.astype("datetime64[D]")
    at_one_time = len(np.unique(when - days)) == 1
    months = _months(when, days, unit) if at_one_time else None
    if months is not None:
        return months
    if at_one_time and _are_business(days):
        return Step(BUSINESS, 1)
    size = _usual(np.diff(when).astype(np.int64))
    return None if size is None else Step(FIXED, size)


def _months(when: np.ndarray, days: np.ndarray, unit: str) -> Step | None:
    if unit not in COARSE and float(np.median(np.diff(days).astype(np.int64))) < 28:
        return None
    months = when.astype("datetime64[M]")
    size = _usual(np.diff(months.astype(np.int64)))
    if size is None or size < 1:
        return None
    of_month = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    last = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
    day = int(of_month.max())
    if (of_month == np.minimum(day, last)).all():
        return Step(MONTH, size, 31 if (of_month == last).all() else day)
    found = {LAST_BUSINESS: _last_business(months), FIRST_BUSINESS: _first_business(months)}
    return next((Step(MONTH, size, day) for day, business in found.items() if (days == business).all()), None)


def _first_business(months: np.ndarray) -> np.ndarray:
    return np.busday_offset(months.astype("datetime64[D]"), 0, roll="forward")


def _last_business(months: np.ndarray) -> np.ndarray:
    return np.busday_offset((months + 1).astype("datetime64[D]") - 1, 0, roll="backward")


def _are_business(days: np.ndarray) -> bool:
    steps = np.diff(days).astype(np.int64)
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    over_weekend = (steps == 3) & (weekday[:-1] == 4)
    return bool((weekday < 5).all() and over_weekend.any() and _usual(steps) == 1)


def _usual(steps: np.ndarray) -> float | None:
    """Return the distance that most have, or that is a part of all, or that nearly all are near to."""
    sizes, counts = np.unique(steps, return_counts=True)
    most, least = sizes[int(np.argmax(counts))], sizes[0]
    if counts.max() >= USUAL * len(steps):
        return float(most)
    if np.allclose(steps / least, np.rint(steps / least), rtol=0.0, atol=1e-6) and counts[0] > 0.2 * len(steps):
        return float(least)
    middle = float(np.median(steps))
    near = np.abs(steps / middle - 1.0) <= NEAR
    return round(middle) if np.issubdtype(steps.dtype, np.integer) and near.mean() >= MOST_NEAR else None


def written(when: Any, unit: str) -> str:
    """Return a moment as it is shown.

    Example:
        >>> moment = np.datetime64("2024-04-01T00:00:00", "us")
        >>> [written(moment, unit) for unit in ("year", "quarter", "month", "week", "day", "second", "clock")]
        ['2024', '2024-Q2', '2024-04', '2024-W14', '2024-04-01', '2024-04-01 00:00', '00:00']
        >>> written(12.0, "")
        '12'
    """
    if not isinstance(when, np.datetime64):
        return f"{float(when):.15g}"
    day = str(when.astype("datetime64[D]"))
    year, month = day[:-6], int(day[-5:-3])
    if unit in ("year", "half", "quarter"):
        part = {"year": "", "half": f"-H{(month + 5) // 6}", "quarter": f"-Q{(month + 2) // 3}"}
        return f"{year}{part[unit]}"
    if unit == "month":
        return day[:-3]
    if unit == "week":
        iso = when.astype("datetime64[D]").item().isocalendar()
        return f"{iso.year}-W{iso.week:02}"
    if unit == "day":
        return day
    if unit == CLOCK:
        return written(when, "second").split(" ", 1)[1]
    text = str(when.astype("datetime64[us]")).replace("T", " ")
    text = text.rstrip("0").rstrip(".") if not text.endswith(".000000") else text[:-7]
    return text[:-3] if text.endswith(":00") and text.count(":") == 2 else text
