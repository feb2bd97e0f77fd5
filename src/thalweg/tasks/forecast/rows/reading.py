"""From a file to its series: numbers, moments and names of series, each series in the order of time."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from thalweg.data.columns.facts import as_text, is_missing, shortened
from thalweg.data.columns.times.moments import joined
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError, counted
from thalweg.tasks.forecast.rows.series import MAX_MISSING, Series, check_missing, filled, told_copies
from thalweg.tasks.forecast.rows.timeline import Clock, Timeline, read_clock, timeline
from thalweg.tasks.reading.numeric import read_numbers, require_size
from thalweg.tasks.reading.text_column import check_columns

BETWEEN_IDS = " / "  # in the name of a series that several columns tell apart


@final
@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the series stand in a file.

    Args:
        columns: of numbers.
        time: the columns that say when the rows were, together; none: they are in order.
        id: the columns that tell several series apart, together; none: there is one.
        notation: how the training data's moments are written; "": not known.
        day_first: what 01/02/2024 means; None: the data decide.
        gaps: see `thalweg.tasks.forecast.rows.timeline.timeline`.
    """

    columns: tuple[str, ...]
    time: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    notation: str = ""
    day_first: bool | None = None
    gaps: str = "auto"

    @classmethod
    def of(cls, columns: Mapping[str, Any], *, gaps: str = "auto", day_first: bool | None = None) -> "Layout":
        """Return what `Settings.columns` says."""
        series, time, id_ = (_names(columns.get(role)) for role in ("series", "time", "id"))
        return cls(series, time, id_, day_first=day_first, gaps=gaps)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Layout":
        """Return the layout that `dataclasses.asdict` made plain."""
        columns, time, id_ = (_names(saved[role]) for role in ("columns", "time", "id"))
        return cls(columns, time, id_, saved["notation"], saved["day_first"], saved["gaps"])


def _names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())


def read_series(
    source: AbstractSource, layout: Layout, *, first_row: int = 1, keeps_gaps: bool = False
) -> list[Series]:
    """Read the series of a file, one or with an `id` several, in the order in which they begin in it.

    A missing value is filled in on a straight line where these are few (see `filled`); where the source leaves bad rows
    out, its row is left out, and so is a row that can't be read, or that says the same as another one. With
    `keeps_gaps` missing values are filled in even so, however many. Without a time column rows are numbered from
    `first_row`. An InputError names what else can't be used.
    """
    return _series_of(_Table(source, layout, keeps_gaps=keeps_gaps), first_row)


def _series_of(table: "_Table", first_row: int = 1) -> list[Series]:
    found = [table.series(name, rows, first_row) for name, rows in table.parts()]
    source = table.source
    if not found:
        raise InputError(f"{source.name}: there is no row to forecast from.")
    return found


def examined(source: AbstractSource, columns: Mapping[str, Any], *, gaps: str, day_first: bool | None) -> list[str]:
    """Return what is odd about the rows of a file, and why it could not be trained on, as sentences.

    Args:
        source: the file.
        columns: the roles, as `Settings.columns`.
        gaps: what is done about missing moments; see `Layout`.
        day_first: what 01/02/2024 means; None: the data decide.
    """
    told: list[str] = []
    try:
        table = _Table(source, Layout.of(columns, gaps=gaps, day_first=day_first), keeps_gaps=True)
        told += table.told_unreadable()
        found = _series_of(table)
    except InputError as error:
        return [*told, str(error)]
    copies = told_copies(found[0]) if not columns.get("id") else []
    return [*told, *dict.fromkeys(note for series in found for note in series.notes), *copies]


@final
class _Table:
    """The rows of a file, and what was left out of them."""

    def __init__(self, source: AbstractSource, layout: Layout, *, keeps_gaps: bool = False) -> None:
        check_columns(source, (*layout.columns, *layout.id))
        self.source, self.layout, self.name = source, layout, source.name
        self.lines: list[int] = []
        parts: list[np.ndarray] = []
        times: list[Any] = []
        self.ids: list[str] = []
        time = tuple(name for name in layout.time if name in source.columns)
        self.time: tuple[str, ...] = time if len(time) == len(layout.time) else ()
        self.skips, self.keeps_gaps = False, keeps_gaps
        for chunk in source.chunks():
            self.skips = source.skips_bad_rows
            values, kept = self._numbers([chunk.column(name) for name in layout.columns], chunk.lines)
            parts.append(values[kept])
            self.lines += [chunk.lines[row] for row in kept]
            if self.time:
                whole = [chunk.column(name) for name in self.time]
                given = whole[0] if len(whole) == 1 else joined(self.time, zip(*whole, strict=True))
                times += [given[row] for row in kept]
            if layout.id:
                columns = [chunk.column(name) for name in layout.id]
                self.ids += [_id([column[row] for column in columns]) for row in kept]
        self.values = np.concatenate(parts) if parts else np.empty((0, len(layout.columns)))
        require_size(self.values, self.name)
        self.clock = self._clock(times)

    def _numbers(self, columns: list[list[Any]], lines: Sequence[int]) -> tuple[np.ndarray, list[int]]:
        """Return the numbers of a chunk, NaN where one is missing, and the rows that can be read."""
        names, rows = self.layout.columns, list(range(len(lines)))
        if not self.skips:
            pairs = zip(names, columns, strict=True)
            return np.stack([read_numbers(one, lines, name, self.name, missing=True) for name, one in pairs], 1), rows
        values, kept, value = np.full((len(lines), len(names)), np.nan), [], None
        for row in rows:
            try:
                for place, (name, column) in enumerate(zip(names, columns, strict=True)):
                    value, missing = column[row], self.keeps_gaps
                    values[row, place] = read_numbers([value], [lines[row]], name, self.name, missing=missing)[0]
                kept.append(row)
            except InputError:
                what = "no number" if not is_missing(value) else "a number is missing"
                self.source.add_bad_row(lines[row], what)
        return values, kept

    def _clock(self, times: list[Any]) -> Clock | None:
        if not self.time or not times:
            return None
        column = " and ".join(map(repr, self.time))
        self.names = [as_text(value) for value in times]
        try:
            clock = read_clock(times, notation=self.layout.notation or None, day_first=self.layout.day_first)
        except InputError as error:
            raise InputError(f"{self.name}, column {column}: {error}") from None
        if clock is None:
            return None
        for row in clock.unreadable if self.skips else ():
            self.source.add_bad_row(self.lines[row], f"no moment in {column}")
        if clock.unreadable and not self.skips:
            row = clock.unreadable[0]
            raise InputError(
                f"{self.name}, line {self.lines[row]}: expected a moment in {column}, got {self.names[row][:60]!r} "
                f"({counted(len(clock.unreadable), 'such row')} in all); correct it, or leave such rows out with "
                "--skip-bad-rows."
            )
        return clock

    def told_unreadable(self) -> list[str]:
        """Return a sentence about the rows that say nothing of when they were, which are refused unless left out."""
        rows = () if self.clock is None else self.clock.unreadable
        if not rows:
            return []
        have, them = ("has", "it") if len(rows) == 1 else ("have", "them")
        return [
            f"{counted(len(rows), 'row')} {have} no moment in {', '.join(self.time)} (line {self.lines[rows[0]]}: "
            f"{self.names[rows[0]][:60]!r}): thalweg train refuses {them}, or leaves {them} out with --skip-bad-rows."
        ]

    def parts(self) -> list[tuple[str, np.ndarray]]:
        """Return the name of each series and its rows; "" where there is one."""
        readable = np.ones(len(self.lines), dtype=bool)
        if self.clock is not None:
            readable[list(self.clock.unreadable)] = False
        if not self.layout.id:
            return [("", np.flatnonzero(readable))] if len(self.lines) else []
        rows: dict[str, list[int]] = {}
        for row in np.flatnonzero(readable).tolist():
            rows.setdefault(self.ids[row], []).append(row)
        nameless = rows.pop("", [])
        if nameless and not self.skips:
            raise InputError(
                f"{self.name}, line {self.lines[nameless[0]]}: the name of the series ({', '.join(self.layout.id)}) is "
                f"missing ({counted(len(nameless), 'such row')} in all); fill it in, or leave such rows out with "
                "--skip-bad-rows."
            )
        for row in nameless:
            self.source.add_bad_row(self.lines[row], "no name of a series")
        for name in [name for name, places in rows.items() if self.keeps_gaps and self._is_empty(places)]:
            for row in rows.pop(name):
                self.source.add_bad_row(self.lines[row], "a number is missing")
        return [(name, np.array(places)) for name, places in rows.items()]

    def _is_empty(self, rows: list[int]) -> bool:
        return not np.isfinite(self.values[rows]).all(1).any()

    def series(self, name: str, rows: np.ndarray, first_row: int) -> Series:
        """Return the series of these rows in the order of time."""
        of = f"{self.name}, series {name!r}" if name else self.name
        line: Timeline | None = None
        notes: tuple[str, ...] = ()
        if self.clock is not None:
            line = timeline(
                self.clock, rows, ", ".join(self.time), self.lines, gaps=self.layout.gaps, share=MAX_MISSING,
                repeated=self._repeats, fails=lambda said: InputError(f"{of}: {said}"),
            )  # fmt: skip
            rows, labels = line.rows, line.labels
            told = (f"In {self.time[0]!r} {self.clock.told}.",) if self.clock.told else ()
            notes = tuple(f"{of}: {note}" if name else note for note in (*told, *line.notes))
        elif self.time:
            labels = [self.names[row] for row in rows]
            notes = (f"What {self.time[0]!r} holds can't be read as moments; the rows are taken in their order.",)
        else:
            labels = [str(row) for row in range(first_row, first_row + len(rows))]
        values = np.where((rows >= 0)[:, None], self.values[rows], np.nan)
        lines = [self.lines[row] if row >= 0 else 0 for row in rows.tolist()]
        notation = "" if self.clock is None else self.clock.notation
        series = Series(of, self.layout.columns, values, labels, None, notes, name, line, notation)
        if np.isfinite(values).all():
            return series
        if self.layout.gaps == "refuse":
            row = int(np.argmin(np.isfinite(values).all(1)))
            raise InputError(
                f"{of}, line {lines[row]}: a number is missing; fill it in, leave such rows out with --skip-bad-rows, "
                "or train with --gaps fill, which draws straight lines."
            )
        if self.layout.gaps != "fill" and not self.keeps_gaps:
            check_missing(dataclasses.replace(series, values=values[rows >= 0]), [one for one in lines if one])
        return filled(series, lines)

    def _repeats(self, first: int, again: int) -> bool:
        """Whether a row says the same as an earlier one and is left out."""
        if not self.skips or not np.array_equal(self.values[first], self.values[again], equal_nan=True):
            return False
        self.source.add_bad_row(self.lines[again], f"says the same as line {self.lines[first]}")
        return True


def _id(values: list[Any]) -> str:
    if any(is_missing(value) for value in values):
        return ""
    texts = [str(int(one)) if isinstance(one, float) and one.is_integer() else as_text(one).strip() for one in values]
    return BETWEEN_IDS.join(texts)


def listed_ids(names: Sequence[str]) -> str:
    """Return the names of series in a message.

    Example:
        >>> listed_ids(["A", "B"])
        "'A', 'B'"
    """
    return shortened([repr(name) for name in names], 5)
