"""`thalweg predict` and `thalweg evaluate`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from thalweg.cli.output import print_json, print_lines
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError
from thalweg.online.classifier import OnlineClassifier
from thalweg.online.learn import load_online, source_rows
from thalweg.training.folder.run import Run, finite, is_online, load

BATCH = 256
TEXT_LENGTH = 200


def predict_and_show(
    folder: Path, arguments: list[str], file: Path | None, options: dict[str, Any], *, as_json: bool
) -> int:
    """Answer arguments, a file's rows or the lines of standard input, a batch at a time, and return the exit code."""
    if arguments and file is not None:
        raise InputError("Give the inputs as arguments or with --file, not both.")
    if is_online(folder):
        return _predict_online(folder, arguments, file, int(options["top"]), as_json=as_json)
    run = load(folder)
    steps = options["length"] or 1
    options["length"] = options["length"] or TEXT_LENGTH
    for batch in _batches(_inputs(run, arguments, file, steps)):
        for answer in run.predict(batch, **options):
            if as_json:
                print_json(finite(answer))
            else:
                print_lines(_readable(answer))
    return 0


def _predict_online(folder: Path, arguments: list[str], file: Path | None, top: int, *, as_json: bool) -> int:
    """Answer with a model that has learned from a stream; a file's rows are read by column, other inputs as text."""
    model = load_online(folder)
    lines = (line.rstrip("\n") for line in sys.stdin if line.strip())
    rows: Iterator[Any] = iter(arguments) if arguments else lines if file is None else source_rows(open_source(file))
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
            print_lines(_readable({name: value for name, value in answer.items() if name != "row"}))
    return 0


def evaluate_and_show(folder: Path, file: Path, *, skip_bad_rows: bool, as_json: bool) -> int:
    """Measure a run on a file, print the metrics, and return the exit code."""
    run = load(folder)
    evaluation = run.evaluate(file, skip_bad_rows=skip_bad_rows)
    metrics = {"loss": evaluation.loss, **evaluation.metrics}
    if as_json:
        print_json(finite({"run": str(folder), "metrics": metrics}))
    else:
        width = max(len(name) for name in metrics)
        print_lines([f"{name.replace('_', ' '):<{width}}  {value:.4f}" for name, value in metrics.items()])
    return 0


def _inputs(run: Run, arguments: list[str], file: Path | None, steps: int) -> Iterator[Any]:
    """Yield inputs in the form that the run's task takes."""
    if arguments:
        yield from (_parsed(run, text, steps) for text in arguments)
    elif file is not None:
        yield from _from_file(run, file, steps)
    else:
        for line in sys.stdin:
            if line.strip():
                yield _parsed(run, line.rstrip("\n"), steps)


def _from_file(run: Run, file: Path, steps: int) -> Iterator[Any]:
    """Yield the rows of a file: its columns under the training data's names, or its lines."""
    source = open_source(file)
    task, columns = run.task, run.data["columns"]
    if run.recipe.run.task == "forecast":
        wanted = columns["series"]
        rows = [row for chunk in source.chunks() for row in zip(*(chunk.column(c) for c in wanted), strict=True)]
        yield {"values": [[_number(value) for value in row] for row in rows], "steps": steps}
        return
    roles = [role for role in task.inputs if role in columns]
    wanted = [columns[role] for role in roles]
    if source.kind == "text" or not roles:
        wanted = list(source.columns[:1])
    missing = [name for name in wanted if name not in source.columns]
    if missing:
        raise InputError(
            f"{file} has no column '{missing[0]}', which the run was trained on; it has {', '.join(source.columns)}."
        )
    for chunk in source.chunks():
        values = [chunk.column(name) for name in wanted]
        yield from values[0] if len(values) == 1 else zip(*values, strict=True)


def _parsed(run: Run, text: str, steps: int) -> Any:
    """Turn one argument or line into an input: a text, a pair around a tab, or the numbers of a forecast."""
    if run.recipe.run.task == "forecast":
        return {"values": text, "steps": steps}
    return tuple(text.split("\t", 1)) if "\t" in text and "other" in run.data["columns"] else text


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise InputError(f"A forecast starts from numbers, such as 3.1,2.9,3.4; got {text!r}.") from None


def _batches(inputs: Iterator[Any]) -> Iterator[list[Any]]:
    batch = []
    for entry in inputs:
        batch.append(entry)
        if len(batch) == (1 if sys.stdin.isatty() else BATCH):
            yield batch
            batch = []
    if batch:
        yield batch


def _readable(answer: dict[str, Any]) -> list[str]:
    """Return an answer as lines: the main thing first, then what else there is, indented."""
    if "prompt" in answer:
        return [answer["prompt"] + answer["text"]]
    if "tags" in answer:
        return ["  ".join(f"{word}/{tag}" for word, tag in zip(answer["tokens"], answer["tags"], strict=True))]
    if "forecast" in answer:
        return ["  ".join(_figure(value) for value in answer["forecast"])]
    if "candidates" in answer:
        others = [f"    {entry['text']}  ({entry['score']:.3g})" for entry in answer["candidates"][1:]]
        return [answer["text"], *others]
    if "top" in answer:
        candidates = [f"{entry['label']}  {entry['probability']:.1%}" for entry in answer["top"]]
        if "labels" in answer:
            return [", ".join(answer["labels"]) or "(none)", *(f"    {entry}" for entry in candidates)]
        return [candidates[0], *(f"    {entry}" for entry in candidates[1:])]
    return ["  ".join(_figure(value) for name, value in answer.items() if name not in _INPUTS)]


_INPUTS = {"text", "other", "source", "tokens", "row"}


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_figure(entry)}" for name, entry in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
