"""`thalweg train - --online`: learn from standard input, row by row."""

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from thalweg import names
from thalweg.cli.output import print_json
from thalweg.data.containers.opening import open_any
from thalweg.data.files.base import AbstractSource
from thalweg.data.files.incoming import open_stream
from thalweg.errors import InputError
from thalweg.online.base import remove_online
from thalweg.online.learn import OnlineRecord, learn_online, load_online, source_rows
from thalweg.status import Status
from thalweg.training.folder.opening import skipped_rows
from thalweg.training.folder.run import run_name
from thalweg.training.recipe.recipe import Options
from thalweg.training.steps.signals import Signals

RECORD_SECONDS = 30.0


def learn(given: Options, out: Path, *, overwrite: bool, as_json: bool, say: Callable[[str], None]) -> int:
    """Learn from the stream to its end (or Ctrl-C), print the running score, and return the exit code."""
    learners = {one: path for one in names.TASKS if (path := names.task_spec(one).online)}
    task = given.get("task", next(iter(learners)))
    if task not in learners:
        raise InputError(f"--online learns the tasks {' and '.join(learners)}; got --task {task}.")
    name = given.get("source", "-")
    folder = out / run_name(given.get("name") or ("stream" if name == "-" else name))
    if overwrite and folder.exists():
        remove_online(folder)
    if folder.exists():
        model = load_online(folder)
        say(f"Resuming {folder}, which has seen {model.progress.num_rows:,} rows (--overwrite to start over).")
    else:
        model = names.load(learners[task])(**_options(given))
    skip = bool(given.get("skip_bad_rows"))
    source = open_stream(sys.stdin.buffer, skip_bad_rows=skip) if name == "-" else open_any(name, skip_bad_rows=skip)
    record, num_shown = None, 0
    header_due = not as_json
    with Signals() as signals:
        for record in learn_online(
            _rows(source, signals),
            model,
            label_column=given.get("label_column") or None,
            save_folder=folder,
            record_seconds=RECORD_SECONDS,
        ):
            if header_due:
                say(_header(record))
                header_due = False
            if not as_json and record.num_rows > num_shown:  # the last one may say nothing new
                say(_row(record))
                num_shown = record.num_rows
    if record is None:
        raise InputError("The stream was empty; expected JSONL, or CSV with a header.")
    for note in [*skipped_rows(source), *record.notes]:
        say(note)
    status = Status.COMPLETED if signals.received is None else Status.INTERRUPTED
    if as_json:
        print_json(_summary(record, task, folder, status))
    say(f"Saved in {folder}; the same command resumes there, and `thalweg predict {folder}` answers.")
    return 0 if signals.received is None else 128 + signals.received


def _rows(source: AbstractSource, signals: Signals) -> Iterator[dict[str, object]]:
    """Yield the source's rows until a signal comes; the current one is learned, then the score is printed."""
    rows = source_rows(source)
    while signals.received is None:
        signals.interrupts = True
        try:
            row = next(rows, None)
        except KeyboardInterrupt:  # out of the wait for a row that may never come
            return
        finally:
            signals.interrupts = False
        if row is None:
            return
        yield row


def _options(given: Options) -> dict[str, Any]:
    """Return the options that mean something to an online learner."""
    options = {"lr": given.get("lr"), "l2": given.get("l2"), "num_buckets": given.get("vocabulary_size")}
    if given.get("text_column"):
        options["columns"] = [given["text_column"]]
    return {name: value for name, value in options.items() if value is not None}


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
