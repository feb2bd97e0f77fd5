"""`thalweg train - --online`: learn from standard input, row by row."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from thalweg import names
from thalweg.cli.output import print_json
from thalweg.data.containers.opening import open_any, reading_of
from thalweg.data.files.incoming import open_stream
from thalweg.errors import InputError, counted
from thalweg.online.base import is_begun, remove_online
from thalweg.online.classifier import OnlineClassifier
from thalweg.online.learn import OnlineModel, OnlineRecord, learn_online, load_online, source_rows
from thalweg.online.roles import UNDECIDED_ROWS, RowsSeen, column_of_numbers, rows_behind
from thalweg.online.values import is_number
from thalweg.status import Status
from thalweg.storage.lock import Lock
from thalweg.training.folder.opening import skipped_rows
from thalweg.training.integrity.claim import Claim
from thalweg.training.integrity.placing import folder_name, renamed, run_name
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options
from thalweg.training.steps.signals import Signals

RECORD_SECONDS = 30.0
# What a model that learns from a stream is made with, by the option that says it.
_ARGUMENTS = {option.name: option.online for option in OPTIONS.values() if option.online}


def learn(given: Options, out: Path, *, overwrite: bool, as_json: bool, say: Callable[[str], None]) -> int:
    """Learn from the stream to its end (or Ctrl-C), print the running score, and return the exit code."""
    name = given.get("source", "-")
    if name.endswith(".toml"):
        raise InputError(f"{name} is a recipe, and --online learns from rows; give the file that they are in, or -.")
    asked = given.get("name") or ("stream" if name == "-" else "")
    folder = out / (folder_name(asked) if asked else run_name(name))
    for note in renamed(asked):
        say(note)
    with Claim(folder) as claim:
        return _learn(given, name, folder, claim.lock, overwrite=overwrite, as_json=as_json, say=say)


def _learn(
    given: Options,
    name: str,
    folder: Path,
    lock: Lock,
    *,
    overwrite: bool,
    as_json: bool,
    say: Callable[[str], None],
) -> int:
    is_there = is_begun(folder)
    is_new = overwrite or not is_there
    task, model = _model(given, None if is_new else folder)
    reading = reading_of(given)
    source = open_stream(sys.stdin.buffer, **reading) if name == "-" else open_any(name, **reading)
    rows = source_rows(source)
    if is_new and "task" not in given:
        first = list(islice(rows, 1 if name == "-" else UNDECIDED_ROWS))  # a stream is not kept waiting
        rows = chain(first, rows)
        column = column_of_numbers(first, given.get("label_column") or None)
        if column is not None:
            say(f"Task score: the column {column!r} holds numbers with decimals; --task classify takes them as labels.")
            task, model = _model(given.with_(task="score", label_column=column), None)
            model.label_column = column
    before = (model.progress.num_rows, model.progress.num_rejected)
    if not is_new:
        say(f"Resuming {folder}, which has seen {counted(before[0], 'row')} (--overwrite to start over).")
    for option in given:
        if OPTIONS[option].online is None:
            say(f"{OPTIONS[option].flag} has no effect on --online.")
    for note in source.notes:
        say(note)
    seen = None
    if name != "-":
        place = str(Path(name).resolve())
        saved = model.progress.seen.get(place)
        rows, seen = rows_behind(rows, place, saved)
        if saved is not None:
            say(f"Going on behind the first {counted(seen.num_rows, 'row')} of {name}, which have been learned.")
    record, num_shown = None, before[0]
    header_due = not as_json
    with Signals() as signals:
        for record in learn_online(
            _rows(rows, signals, seen),
            model,
            label_column=given.get("label_column") or None,
            save_folder=folder,
            record_seconds=RECORD_SECONDS,
            on_row=_asking(model, say) if isinstance(model, OnlineClassifier) and "task" not in given else None,
            seen=seen,
            lock=lock,
            replaces=is_new and is_there,
            say=say,
        ):
            if not as_json and record.num_rows > num_shown:  # the last one may say nothing new
                if header_due:
                    say(_header(record))
                    header_due = False
                say(_row(record))
                num_shown = record.num_rows
    assert record is not None
    for note in [*skipped_rows(source), *record.notes]:
        say(note)
    progress = model.progress
    new_rows, new_rejected = progress.num_rows - before[0], progress.num_rejected - before[1]
    failure = ""
    if new_rows and new_rows == new_rejected:
        failure = f"Every row was rejected ({new_rows:,}); the last because: {progress.last_problem}"
    elif not progress.num_learned:
        failure = f"Nothing was learned: no row had a label{_where(model.label_column)}."
    status = Status.COMPLETED if signals.received is None else Status.INTERRUPTED
    if as_json:
        print_json(_summary(record, task, folder, status))
    if failure and is_new and signals.received is None:
        if is_there:
            say(f"{failure} Nothing was saved, and {folder} is as it was.")
        else:
            remove_online(folder)
            say(f"{failure} Nothing was saved.")
        return 1
    if not new_rows:
        say("There were no new rows.")
    say(f"Saved in {folder}; the same command resumes there, and `thalweg predict {folder}` answers.")
    if signals.received is not None:
        return 128 + signals.received
    if failure:
        say(failure)
    return 1 if failure else 0


def _asking(model: OnlineClassifier, say: Callable[[str], None]) -> Callable[[Any, Any], None]:
    """Return what looks at each new class, and says once that the classes are numbers, some of them with decimals."""
    num_known = len(model.classes)

    def look(row: Any, outcome: Any) -> None:
        del row, outcome
        nonlocal num_known
        if len(model.classes) <= num_known:
            return
        num_known = len(model.classes)
        split = next((name for name in model.classes if is_number(name) and float(name) % 1.0), None)
        if split is not None and all(map(is_number, model.classes)):
            num_known = model.max_classes
            say(
                f"The labels are numbers, and {split} has decimals; they are learned as classes. To learn them as "
                "numbers, start over with --task score --overwrite."
            )

    return look


def _model(given: Options, folder: Path | None) -> tuple[str, OnlineModel]:
    """Return the task and the model: the one in the folder, or a new one where that is None."""
    learners = {one: path for one in names.TASKS if (path := names.task_spec(one).online)}
    if "task" in given and given["task"] not in learners:
        raise InputError(f"--online learns the tasks {' and '.join(learners)}; got --task {given['task']}.")
    options = _options(given)
    if folder is None:
        task = given.get("task", next(iter(learners)))
        return task, names.load(learners[task])(**options)
    model = load_online(folder)
    own = next(task for task, path in learners.items() if names.load(path) is type(model))
    values: dict[str, tuple[Any, Any]] = {"task": (own, given.get("task", own))}
    for option, argument in _ARGUMENTS.items():
        values[option] = (model.arguments[argument], options.get(argument, model.arguments[argument]))
    label = model.label_column
    values["label_column"] = (label, given.get("label_column") or label)
    for option, (old, new) in values.items():
        if old is not None and _shown(old) != _shown(new):
            raise InputError(
                f"{folder} was begun with {OPTIONS[option].flag} {_shown(old)} (got {_shown(new)}), and a stream keeps "
                "its options while it goes on; leave it out, choose another --name, or start over with --overwrite."
            )
    return own, model


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list | tuple) else str(value)


def _where(column: str | None) -> str:
    return "" if column is None else f" in column {column!r} (--label-column names another)"


def _rows(
    rows: Iterator[Mapping[str, object]], signals: Signals, seen: RowsSeen | None
) -> Iterator[Mapping[str, object]]:
    """Yield the rows until a signal comes; the current one is learned, then the score is printed."""
    with contextlib.suppress(KeyboardInterrupt):  # out of the wait for a row that may never come
        while True:
            signals.interrupts = True
            if signals.received is not None:
                break
            row = next(rows, None)
            signals.interrupts = False
            if row is None:
                return
            yield row
    signals.interrupts = False
    if seen is not None:
        seen.broken_off = True


def _options(given: Options) -> dict[str, Any]:
    """Return the options that mean something to an online learner, as its arguments."""
    options = {argument: given[option] for option, argument in _ARGUMENTS.items() if given.get(option) is not None}
    if "columns" in options:
        options["columns"] = [options["columns"]]
    return options


def _header(record: OnlineRecord) -> str:
    titles = ("rows", record.score_name, "since", "loss", "since", "classes", "features", "rows/s")
    return "".join(f"{name:>10}" for name in titles)


def _row(record: OnlineRecord) -> str:
    figures = (record.score, record.score_since, record.loss, record.loss_since)
    counts = (record.num_classes, record.num_features, round(record.examples_per_second))
    shown = [f"{figure:.4f}" if math.isfinite(figure) else "-" for figure in figures]
    return "".join(
        [f"{record.num_rows:>10,}", *(f"{text:>10}" for text in shown), *(f"{count:>10,}" for count in counts)]
    )


def _summary(record: OnlineRecord, task: str, folder: Path, status: Status) -> dict[str, Any]:
    """Return the keys of every training summary, and the record."""
    values = record.to_dict()
    return {
        "run": str(folder),
        "task": task,
        "model": "online",
        "optimizer": "adagrad",
        "steps": record.num_rows,
        "seconds": record.seconds,
        "metrics": {record.score_name.lower(): values["score"], "loss": values["loss"]},
        "status": status.name,
        "online": values,
    }
