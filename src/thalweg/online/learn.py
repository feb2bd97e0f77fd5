"""Learn from a stream: predict each row first, then learn from it, and report the running score."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, final

from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.online.base import load_state
from thalweg.online.classifier import OnlineClassifier
from thalweg.online.progress import OnlineRecord, Outcome, Tally
from thalweg.online.regressor import OnlineRegressor
from thalweg.online.roles import LabelRole, RowsSeen, describe
from thalweg.online.saving import Saver
from thalweg.storage.lock import Lock

OnlineModel = OnlineClassifier | OnlineRegressor
Row = Mapping[str, object]
_MAX_TOLD = 20  # columns whose kinds are told as they come


def learn_online(
    rows: Iterable[Row],
    model: OnlineModel,
    *,
    label_column: str | None = None,
    save_folder: str | Path | None = None,
    save_seconds: float = 60.0,
    record_seconds: float = math.inf,
    on_row: Callable[[Row, Outcome], None] | None = None,
    seen: RowsSeen | None = None,
    lock: Lock | None = None,
    replaces: bool = False,
    say: Callable[[str], None] = lambda sentence: None,  # noqa: ARG005
) -> Iterator[OnlineRecord]:
    """Predict and learn row after row; yield a record each time the number of rows has doubled, and at the end.

    The score of row t comes from a model that has learned from rows 1 ... t-1 only (prequential score), so no part of
    the data has to be set aside. A row without label (missing, None or empty) is predicted only. A row that can't be
    read is rejected: it is counted and changes nothing.

    The generator may be closed after any record, and Ctrl-C may come at any time: while a row is being learned, the
    KeyboardInterrupt waits until that is done (in the main thread, unless the program handles the signal itself).
    Either way the model is whole, and is saved if there is a `save_folder`.

    Args:
        rows: values by column; see `source_rows` for a file or standard input.
        model: a new one, or one loaded to resume. Its `progress` counts all rows, so `itertools.islice(rows,
            model.progress.num_rows, None)` resumes where a run over the same rows stopped.
        label_column: column of the class or number; None takes what the model has learned before, or else the first
            column with a usual name such as label or class. Where none comes in 20 rows, which are held so long, the
            best of the other names, or the last column that may be a label.
        save_folder: where the model is saved as it goes, and when the generator ends for any reason; None for nowhere.
        save_seconds: seconds between two saves, above 0; a thread of their own makes them, also while no row comes.
        record_seconds: yield a record at least this often, too.
        on_row: called with each row that was read and its outcome (of a row without label: its prediction only).
        seen: counts the rows of a file, and is saved with the model; see `rows_behind`.
        lock: the right to change `save_folder`, where the caller has it; it is given back when the generator ends.
        replaces: whether another model in `save_folder` goes with the first save.
        say: takes sentences about the columns that were chosen.

    Yields:
        Records; the last one has `last` set.

    Raises:
        InputError: if another process trains in `save_folder`.
        ValueError: if a number of seconds is not above 0.

    Example:
        >>> rows = [{"text": "fine and clear", "label": "good"}, {"text": "dull and grey", "label": "bad"}] * 8
        >>> for record in learn_online(rows, OnlineClassifier()):
        ...     print(record.num_rows, record.score, record.num_classes)
        1 0.0 1
        2 0.0 2
        4 0.25 2
        8 0.625 2
        16 0.8125 2
        16 0.8125 2

    Source:
        Dawid (1984), Statistical theory: the prequential approach; Blum, Kalai and Langford (1999), Beating the
        hold-out: bounds for k-fold and progressive cross-validation.
    """
    if not (save_seconds > 0 and record_seconds > 0):
        raise ValueError("learn_online(save_seconds=..., record_seconds=...) must be above 0.")
    model.label_column = label_column or model.label_column
    progress = model.progress
    run = _Run(model, seen)
    label = LabelRole(model.label_role, model.label_column, say, is_first=not progress.num_rows)
    shown: dict[str, str] = {}

    def take(ready: Iterable[Row]) -> None:
        for row in ready:
            model.label_column = label.column
            outcome = run.take(row)
            if outcome is not None and on_row is not None:
                on_row(row, outcome)
        if len(shown) < _MAX_TOLD and (new := _new_kinds(model, shown)):
            say(f"{'Also reads' if shown else 'Reads'} {describe(new)}.")
            shown.update(new)

    saver = None
    if save_folder is not None:
        lock = lock or Lock(Path(save_folder), "trained")
        saver = Saver(Path(save_folder), run.snapshot, progress, seconds=save_seconds, say=say, replaces=replaces)
    changing = threading.Lock() if saver is None else saver.changing
    guard = _UnbrokenRows()
    guard.install()
    try:
        for row in rows:
            with guard, changing:
                take(label.ready(row))
                record = run.record_due(record_seconds, saver)
            if record is not None:
                with changing:
                    yield record
        if seen is None or not seen.broken_off:
            with guard, changing:
                take(label.rest())
        record = run.record(last=True)
    finally:
        try:
            with guard:
                if seen is None:  # of a file, rows that were held are read again the next time
                    with changing:
                        take(label.rest())
                if saver is not None:
                    saver.finish()
        finally:
            guard.remove()
            if lock is not None:
                lock.release()
    yield record


def source_rows(source: AbstractSource) -> Iterator[dict[str, object]]:
    """Yield the rows of a file or of standard input (`open_stream`) by column, each as soon as it arrives."""
    for chunk in source.chunks(1024):
        for values in zip(*chunk.values, strict=True):
            yield dict(zip(chunk.columns, values, strict=True))


def load_online(folder: str | Path) -> OnlineModel:
    """Load the model that `learn_online` saved, whichever kind it is.

    Raises:
        InputError: if nothing is there, or a file is damaged.
    """
    kind = load_state(folder)["kind"]
    return OnlineClassifier.load(folder) if kind == OnlineClassifier.kind else OnlineRegressor.load(folder)


def _new_kinds(model: OnlineModel, told: Mapping[str, str]) -> dict[str, str]:
    """Return the columns that a model reads since it was last told which."""
    kinds = model.kinds
    return {} if len(kinds) == len(told) else {name: kind for name, kind in kinds.items() if name not in told}


@final
class _Run:
    """One run over a stream: takes rows, makes records."""

    def __init__(self, model: OnlineModel, seen: RowsSeen | None) -> None:
        self.model, self.seen = model, seen
        self.started = self._recorded_at = time.perf_counter()
        self._next_record = 1 << model.progress.num_rows.bit_length()
        self._rows_before = model.progress.num_rows
        self._seconds_before = model.progress.seconds

    def take(self, row: Row) -> Outcome | None:
        """Predict and learn one row and count what came of it; None for a row that can't be read."""
        model, progress = self.model, self.model.progress
        progress.num_rows += 1
        if self.seen is not None:
            self.seen.add(row)
        try:
            if not isinstance(row, Mapping):
                raise InputError(f"Expected a row of values by column, got {type(row).__name__}.")
            column = model.label_column
            label = row.get(column) if column is not None else None
            inputs = {name: value for name, value in row.items() if name != column}
            if label is None or (isinstance(label, str) and not label.strip()):
                prediction = model.predict(inputs)
                progress.num_unlabeled += 1
                return Outcome(prediction[0] if isinstance(prediction, tuple) else prediction, None, None)
            outcome = model.learn(inputs, label)
        except InputError as error:
            progress.num_rejected += 1
            progress.last_problem = str(error)
            return None
        model.count(outcome, label)
        return outcome

    def snapshot(self) -> dict[str, Any]:
        """Return what is saved: the model with the time spent so far, and the rows of the file."""
        self.model.progress.seconds = self._seconds_before + time.perf_counter() - self.started
        if self.seen is not None:
            self.model.progress.seen[self.seen.name] = self.seen.to_dict()
        return self.model.snapshot()

    def record_due(self, seconds: float, saver: Saver | None) -> OnlineRecord | None:
        """Return a record if the number of rows has doubled since the last one, or so many seconds have passed."""
        progress, now = self.model.progress, time.perf_counter()
        doubled = progress.num_rows >= self._next_record
        if not doubled and now - self._recorded_at < seconds:
            return None
        self._recorded_at = now
        record = self.record(last=False, problem="" if saver is None else saver.problem)
        if doubled:
            self._next_record = 1 << progress.num_rows.bit_length()
            progress.recent = Tally()
        return record

    def record(self, *, last: bool, problem: str = "") -> OnlineRecord:
        """Return where the stream stands."""
        model, progress = self.model, self.model.progress
        spent = time.perf_counter() - self.started
        total, recent = progress.total, progress.recent
        score, frequent, repeated = model.scores(total)
        classes = model.classes if isinstance(model, OnlineClassifier) else None
        return OnlineRecord(
            score_name=model.score_name,
            num_rows=progress.num_rows,
            num_scored=total.num,
            score=score,
            score_since=model.scores(recent)[0],
            loss=total.mean_loss,
            loss_since=recent.mean_loss,
            mean_absolute_error=total.fraction(total.errors) if classes is None else None,
            frequent_score=frequent,
            repeat_score=repeated,
            num_classes=len(classes or ()),
            num_features=model.num_features,
            num_unlabeled=progress.num_unlabeled,
            num_rejected=progress.num_rejected,
            num_truncated=progress.num_truncated,
            num_over_budget=progress.num_over_budget,
            seconds=self._seconds_before + spent,
            examples_per_second=(progress.num_rows - self._rows_before) / max(spent, 1e-9),
            last=last,
            notes=(*_notes(model, score, repeated), *([f"It can't be saved: {problem}"] if problem else [])),
        )


def _notes(model: OnlineModel, score: float, repeated: float) -> tuple[str, ...]:
    """Return what the user should know, in sentences."""
    notes, progress = [], model.progress
    if progress.num_rejected:
        notes.append(f"{progress.num_rejected:,} rows were rejected; the last because: {progress.last_problem}")
    if progress.num_over_budget and isinstance(model, OnlineClassifier):
        notes.append(
            f"{progress.num_over_budget:,} rows have a class beyond the {model.max_classes} that the model may hold; "
            "they count as wrong and are not learned. Start over with a larger max_classes."
        )
    if progress.num_truncated:
        notes.append(f"{progress.num_truncated:,} rows have a text over the length limit; the rest of it was ignored.")
    if model.label_column is None and progress.num_rows:
        notes.append("No label column has appeared yet, so rows were only predicted; name it with --label-column.")
    is_beaten = repeated > score if isinstance(model, OnlineClassifier) else repeated < score
    if progress.total.num >= 100 and is_beaten:
        notes.append("Repeating the last answer scores better than the model: the stream is strongly autocorrelated.")
    return tuple(notes)


@final
class _UnbrokenRows:
    """Lets Ctrl-C wait while a row is being learned or the model is being saved."""

    def __init__(self) -> None:
        self._installed = False
        self._busy = False
        self._pending = False

    def install(self) -> None:
        """Take Python's own Ctrl-C over; a program that handles the signal itself keeps it."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True

    def remove(self) -> None:
        """Give Ctrl-C back."""
        if self._installed and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._installed = False

    def __enter__(self) -> None:
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._busy:
            signal.default_int_handler(number, frame)
        self._pending = True
