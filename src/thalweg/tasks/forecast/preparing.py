"""From files to what a forecast is trained on: the series, what they are compared with, and which rows are held out."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np

from thalweg.data.arrays.standardize import Standardizer
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError, counted
from thalweg.tasks.base import Settings
from thalweg.tasks.forecast.autoregression.linear import Linear, choose_linear
from thalweg.tasks.forecast.panel import (
    MORE_ROWS,
    Panel,
    aligned,
    check_known,
    check_training,
    shared_notes,
    singles,
    usable,
)
from thalweg.tasks.forecast.reference import Reference
from thalweg.tasks.forecast.rows.reading import Layout, listed_ids, read_series
from thalweg.tasks.forecast.rows.series import Series, check_length, check_variation, split_end, told_copies
from thalweg.tasks.forecast.windows import AnyReader, DifferenceReader, WindowReader
from thalweg.tasks.reading.numeric import stand_ins

NO_LOGS: Final = "Some of the held-out numbers are not positive, so no logarithm is tried."


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Stretch:
    """The rows of a series, from `begin` to `end` (not included), that are forecast."""

    series: Series
    begin: int
    end: int


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Ready:
    """What a forecast is made of; see `thalweg.tasks.forecast.task.Forecast`."""

    columns: Sequence[str]
    reader: AnyReader
    reference: Reference
    linear: Linear | None
    layout: Layout
    panel: Panel | None
    train: list[Stretch]
    valid: list[Stretch]
    notes: list[str]

    @property
    def time(self) -> str | None:
        """What the rows are called by."""
        return ", ".join(self.layout.time) or None


def get_ready(source: AbstractSource, valid: AbstractSource | None, settings: Settings) -> Ready:
    """Read the series, choose what is chosen inside the training part, and say which rows are held out."""
    is_linear = settings.layout == "differences"
    lags = max(1, settings.lags) if is_linear else settings.lags
    if lags < 1:
        raise InputError(f"A forecast must see at least 1 past value; got --lags {lags}.")
    layout = Layout.of(settings.columns, gaps=settings.gaps, day_first=settings.day_first)
    check_start(settings.start, 1 if layout.id else len(layout.columns), is_linear=is_linear)
    found = read_series(source, layout)
    told = stand_ins(layout.columns, np.concatenate([series.truth for series in found]))
    found[0] = dataclasses.replace(found[0], notes=(*found[0].notes, *told))
    layout = dataclasses.replace(layout, notation=found[0].notation)
    if layout.id:
        return _panel(source, valid, settings, layout, found, lags)
    return _single(valid, settings, layout, found[0], lags)


def context_of(reader: AnyReader, reference: Reference) -> int:
    """Return the rows at the beginning of a file that are not forecast.

    A linear autoregression waits for its rivals' past.
    """
    return reader.rows if isinstance(reader, WindowReader) else max(reader.rows, reference.rows)


def _single(valid: AbstractSource | None, settings: Settings, layout: Layout, series: Series, lags: int) -> Ready:
    is_linear, notes, begin = settings.layout == "differences", [*series.notes], len(series)
    if valid is None:
        begin = split_end(series, lags, settings.valid_share)
        held_out = series
    else:
        check_length(series, lags)
        held_out = read_series(valid, layout, first_row=len(series) + 1)[0]
        check_length(held_out, lags)
        notes += [note for note in held_out.notes if note not in notes]
    train = series.part(0, begin)
    check_variation(train, "training part")
    reference = Reference.fit(train.values, train.frequency)
    notes += [*told_copies(series), _season_note(reference)]
    logs = bool((held_out.values > 0.0).all())
    told = is_linear and not logs and bool((train.values > 0.0).all())
    notes += [NO_LOGS] if told else []
    linear = choose_linear(train, reference, settings.lags, logs=logs) if is_linear else None
    reader = _reader(linear, lags, train, settings, layout.columns)
    notes += [] if linear is None else [linear.told]
    context = context_of(reader, reference)
    if valid is None:
        first = begin
        notes.append(
            f"Validation is the end of the series, {len(series) - begin:,} rows from {series.labels[begin]} on; "
            f"it is not used to choose or to fit anything{' else' if told else ''}."
        )
    else:
        first = context
        check_length(held_out, context, MORE_ROWS)
        notes.append(f"Validation is {valid.name}; its first {context} rows are used as context only.")
        notes += _told_known([series], [Stretch(held_out, first, len(held_out))], valid.name)
    check_variation(held_out.part(first), "validation part")
    stretches = [Stretch(train, reader.rows, begin)], [Stretch(held_out, first, len(held_out))]
    return Ready(layout.columns, reader, reference, linear, layout, None, *stretches, notes)


def _panel(
    source: AbstractSource,
    valid: AbstractSource | None,
    settings: Settings,
    layout: Layout,
    found: list[Series],
    lags: int,
) -> Ready:
    """Several series: windows inside each, one equation (network) for all of them, each on its own scale."""
    is_linear, share = settings.layout == "differences", 0.0 if valid is not None else settings.valid_share
    panel = Panel(tuple(series.id for series in found), layout.columns)
    whole, left_out = usable(
        source, [one for series in found for one in singles(series, panel)], check_training(lags, share)
    )
    counts = {series.id: sum(one.id == series.id for one in whole) for series in found}
    panel = Panel(tuple(name for name, number in counts.items() if number == len(layout.columns)), layout.columns)
    whole = [one for one in whole if one.id in panel.ids]
    notes = [*shared_notes(found), *left_out]
    begins = [len(one) if valid is not None else split_end(one, lags, share) for one in whole]
    held_out = whole
    if valid is not None:
        others = read_series(valid, layout)
        notes += shared_notes(others)
        held_out = [one for series in others for one in singles(series, panel)]
    train = aligned([one.part(0, begin) for one, begin in zip(whole, begins, strict=True)])
    reference = Reference.fit(train.values, train.frequency)
    logs = all(bool((one.values > 0.0).all()) for one in held_out)
    told = is_linear and not logs and not bool((train.values <= 0.0).any())
    linear = choose_linear(train, reference, settings.lags, logs=logs, shared=True) if is_linear else None
    reader = _reader(linear, lags, train, settings, panel.names)
    context = context_of(reader, reference)
    several = len(panel.ids) * len(layout.columns) > 1
    fitted = "one equation is fitted to" if is_linear else "one network learns from"
    tells = "tell" if len(layout.id) > 1 else "tells"
    notes += [
        f"{' and '.join(map(repr, layout.id))} {tells} {panel.told} apart ({listed_ids(panel.ids)})"
        + (f": {fitted} the windows inside each, each on its own scale." if several else "."),
        _season_note(reference),
        *([NO_LOGS] if told else []),
        *([] if linear is None else [linear.told]),
    ]
    if valid is None:
        firsts, numbers = begins, [len(one) - begin for one, begin in zip(whole, begins, strict=True)]
        rows = f"{numbers[0]:,}" if len(set(numbers)) == 1 else f"{min(numbers):,} to {max(numbers):,}"
        notes.append(
            f"Validation is the end of each series, {rows} rows; it is not used to choose or to fit anything"
            f"{' else' if told else ''}."
        )
    else:
        held_out, others = usable(valid, held_out, check_known(panel.ids, context))
        firsts = [context] * len(held_out)
        notes += [*others, f"Validation is {valid.name}; the first {context} rows of each series are context only."]
        asked = [Stretch(one, first, len(one)) for one, first in zip(held_out, firsts, strict=True)]
        notes += _told_known(whole, asked, valid.name)
    return Ready(
        panel.names, reader, reference, linear, layout, panel,
        [Stretch(one.part(0, begin), reader.rows, begin) for one, begin in zip(whole, begins, strict=True)],
        [Stretch(one, first, len(one)) for one, first in zip(held_out, firsts, strict=True)],
        notes,
    )  # fmt: skip


def _told_known(trained: Sequence[Series], asked: Sequence[Stretch], name: str) -> list[str]:
    """Return a sentence about rows of a validation file that were in training, or all lie before its end.

    Series that only number their rows say nothing of it.
    """
    again, early, num = list[str](), 0, sum(int(one.series.counts[one.begin : one.end].sum()) for one in asked)
    before = {one.columns: one for one in trained if one.timeline is not None}
    for one in asked:
        known, line = before.get(one.series.columns), one.series.timeline
        if known is None or known.timeline is None or line is None:
            continue
        labels = set(itertools.compress(known.labels, known.counts.tolist()))
        rows = np.flatnonzero(one.series.counts[one.begin : one.end]) + one.begin
        again += [label for row in rows.tolist() if (label := one.series.labels[row]) in labels]
        last, end = line.last[0], known.timeline.last[0]
        early += isinstance(last, np.datetime64) is isinstance(end, np.datetime64) and last < end
    if again:
        return [
            f"{len(again):,} of the {num:,} rows that {name} measures with are in the training data, too (the first is "
            f"{again[0]}): its figures are not those of new data."
        ]
    if early:
        return [
            f"{name} ends before the training data do, so its figures are about the past, not about what comes next."
        ]
    return []


def _season_note(reference: Reference) -> str:
    if reference.season > 1:
        return f"Season: {reference.season} rows ({reference.found})."
    return f"No season was found ({reference.found})."


def _reader(linear: Linear | None, lags: int, train: Series, settings: Settings, columns: Sequence[str]) -> AnyReader:
    """Return how the rows before a forecast are read."""
    if linear is not None:
        return DifferenceReader(linear.scaled)
    each = [Standardizer.fit(column[np.isfinite(column)], settings.scaling) for column in train.values.T]
    shift, scale = (np.concatenate([getattr(one, name) for one in each]) for name in ("shift", "scale"))
    return WindowReader(lags, kept_scaling(settings.start, columns, Standardizer(shift, scale)))


def check_start(start: Any, num_columns: int, *, is_linear: bool) -> None:
    """Raise an InputError where a run with other series, or an autoregression, is to be started from.

    Args:
        start: the task of the run to start from; None: there is none.
        num_columns: numbers that the network is to read of each row.
        is_linear: whether the new run is an autoregression.
    """
    if start is None:
        return
    if is_linear:
        raise InputError(
            "--model ar chooses its equation and solves it on the data it is given, so nothing of another run would "
            "be left in it; train without --start-from."
        )
    if (before := start.shape().num_columns) != num_columns:
        raise InputError(
            f"The run to start from forecasts {counted(before, 'column')} at a time, and there are {num_columns} here; "
            "name as many with --columns, or train without --start-from."
        )


def kept_scaling(start: Any, columns: Sequence[str], fitted: Standardizer) -> Standardizer:
    """Return the scaling of a run with the same columns; of others each column that the run has not is scaled anew.

    Args:
        start: the task of the run to start from; None: everything is scaled anew.
        columns: of the new run; where they are the only ones of both, they may be called otherwise.
        fitted: the scaling that the new data have.
    """
    if start is None:
        return fitted
    before, old = list(start.columns), start.reader.scaling
    if start.panel is None and not set(columns) <= set(before) and len(before) == len(columns):
        return old
    shift, scale = fitted.shift.copy(), fitted.scale.copy()
    for place, name in enumerate(columns):
        if name in before:
            shift[place], scale[place] = old.shift[before.index(name)], old.scale[before.index(name)]
    return Standardizer(shift, scale)
