"""`thalweg predict` and `thalweg evaluate`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thalweg import names
from thalweg.cli.output import print_json, print_lines
from thalweg.data.containers.opening import open_any
from thalweg.errors import InputError
from thalweg.online.base import is_online
from thalweg.online.classifier import OnlineClassifier
from thalweg.online.learn import load_online, source_rows
from thalweg.tasks.answering import candidate_lines, figure_lines
from thalweg.training.certified.new_texts import num_repeated
from thalweg.training.folder.run import Run, finite
from thalweg.training.steps.held_out import brackets, interval_notes, to_json

BATCH = 256
TEXT_LENGTH = 200


def predict_and_show(
    folder: Path,
    arguments: list[str],
    file: Path | None,
    options: dict[str, Any],
    *,
    tokens: bool,
    as_json: bool,
) -> int:
    """Answer arguments, a file's rows or the lines of standard input, a batch at a time, and return the exit code."""
    if arguments and file is not None:
        raise InputError("Give the inputs as arguments or with --file, not both.")
    if is_online(folder):
        if options["threshold"] is not None:
            raise InputError("--threshold is for runs of thalweg train; this model learns from a stream. Leave it out.")
        return _predict_online(folder, arguments, file, int(options["top"]), as_json=as_json)
    run = Run(folder)
    inputs = _inputs(run, arguments, file, options["length"])
    if tokens:
        if "chain" not in names.task_spec(run.task.name).traits:
            raise InputError(f"--tokens is for taggers, whose inputs are words; this is a run of task {run.task.name}.")
        inputs = (entry.split() if isinstance(entry, str) else entry for entry in inputs)
    options["length"] = options["length"] or TEXT_LENGTH
    for batch in _batches(inputs):
        for answer in run.predict(batch, **options):
            if as_json:
                print_json(finite(answer))
            else:
                print_lines(run.task.lines_of(answer))
    return 0


def _predict_online(folder: Path, arguments: list[str], file: Path | None, top: int, *, as_json: bool) -> int:
    """Answer with a model that has learned from a stream; a file's rows are read by column, other inputs as text."""
    model = load_online(folder)
    lines = (line.rstrip("\n") for line in sys.stdin if line.strip())
    rows: Iterator[Any] = iter(arguments) if arguments else lines if file is None else source_rows(open_any(file))
    for row in rows:
        answer: dict[str, Any] = {"text": row} if isinstance(row, str) else {"row": row}
        if isinstance(model, OnlineClassifier):
            label, probabilities = model.predict(row)
            best = sorted(probabilities.items(), key=lambda pair: -pair[1])[:top]
            answer |= {"label": label, "top": [{"label": name, "probability": p} for name, p in best]}
        else:
            answer |= {"score": model.predict(row)}
        if as_json:
            print_json(finite(answer))
        else:
            print_lines(candidate_lines(answer) if "top" in answer else figure_lines(answer, ("text", "row")))
    return 0


def evaluate_and_show(folder: Path, file: Path, *, threshold: float | None, skip_bad_rows: bool, as_json: bool) -> int:
    """Measure a run on a file, print the metrics, and return the exit code."""
    run = Run(folder)
    evaluation = run.evaluate(file, skip_bad_rows=skip_bad_rows, threshold=threshold)
    metrics, verdict = {"loss": evaluation.loss, **evaluation.metrics}, run.task.compared(evaluation.metrics)
    if as_json:
        said = {"verdict": verdict} if verdict else {}
        print_json(finite({"run": str(folder), "metrics": metrics, **said, **to_json(evaluation)}))
    else:
        width = max(len(name) for name in metrics)
        places = max(len(f"{value:.4f}") for value in metrics.values())
        lines = [
            f"{name.replace('_', ' '):<{width}}  {value:>{places}.4f}  {brackets(evaluation.intervals.get(name))}"
            for name, value in metrics.items()
        ]
        learned = f"{folder} was trained on {file}, or chosen by it: neither figures nor intervals are about new data."
        notes = [learned] if run.has_learned_from(file) else [*interval_notes(evaluation), *_repeats(run, file)]
        print_lines([*(line.rstrip() for line in lines), *([verdict] if verdict else []), *notes])
    return 0


def _repeats(run: Run, file: Path) -> list[str]:
    """Return a sentence if rows of a file are not new to a run."""
    number = num_repeated(run, file)
    if not number:
        return []
    rows = "1 row of the file repeats" if number == 1 else f"{number:,} rows of the file repeat"
    return [
        f"{rows} texts that {run.folder} was trained on or chosen by, so figures and intervals are not about new data "
        "alone."
    ]


def _inputs(run: Run, arguments: list[str], file: Path | None, length: int | None) -> Iterator[Any]:
    """Yield inputs in the form that the run's task takes."""
    if file is not None:
        yield from run.task.inputs_of(open_any(file), run.data["columns"], length)
        return
    texts = arguments or (line.rstrip("\n") for line in sys.stdin if line.strip())
    yield from (run.task.parse_input(text, length) for text in texts)


def _batches(inputs: Iterator[Any]) -> Iterator[list[Any]]:
    batch = []
    for entry in inputs:
        batch.append(entry)
        if len(batch) == (1 if sys.stdin.isatty() else BATCH):
            yield batch
            batch = []
    if batch:
        yield batch
