"""The report of a finished run: its figures, curves and recipe, and the sections of its task."""

import datetime as dt
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from thalweg import names
from thalweg.data.arrays.batches import Examples
from thalweg.data.containers.places import OBJECT
from thalweg.heads.base import AbstractHead
from thalweg.report.page import Report
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder.opening import has_series
from thalweg.training.folder.run import Run
from thalweg.training.integrity.history import damaged_line, read_history
from thalweg.training.integrity.run_files import HISTORY
from thalweg.training.steps.held_out import IN_BRACKETS
from thalweg.version import __version__

MAX_CARDS = 8  # metrics with a card and a curve of their own, where some are about a part: a column, a type of span


def make_report(
    run: Run,
    task: AbstractTask,
    prepared: Prepared,
    networks: tuple[nn.Module, AbstractHead],
    summary: dict[str, Any],
    more: Sequence[dict[str, Any]] = (),
) -> Report:
    """Return the report of a finished run: `networks` hold the kept weights.

    `summary` is what `metrics.json` says, `more` are sections about the certificate.
    """
    recipe, data = run.recipe, run.data
    for network in networks:
        network.eval()
    explanations = {"loss": ("lower", "Loss per target on the validation data."), **task.explanations}
    if recipe.model.head not in ("softmax", names.CHAIN_HEAD):
        explanations["loss"] = (
            "lower",
            f"The loss of the head '{recipe.model.head}' for each token; use perplexity to compare heads.",
        )
    values = {**({"loss": summary["loss"]} if "loss" in summary else {}), **summary["metrics"]}
    shown = _shown([name for name in values if name in explanations])
    metrics = [
        {
            "name": name,
            "value": values[name],
            "better": explanations[name][0],
            "explanation": explanations[name][1],
            "interval": summary.get("intervals", {}).get(name),
        }
        for name in shown
    ]
    sentence = (
        f"The model {recipe.model.model} with {summary['num_parameters']:,} parameters, trained on "
        f"{task.describe(prepared)} from {data['described']}."
    )
    intervals = [note.removeprefix(IN_BRACKETS) for note in summary.get("interval_notes", ())]  # here they are in words
    notes = [*intervals, *data["notes"], *prepared.notes, *summary.get("warnings", ())]
    notes += summary.get("selection", {}).get("sentences", [])
    if (line := damaged_line(run.folder / HISTORY)) is not None:
        notes.append(f"Line {line:,} of {HISTORY} is damaged, so it and what comes after it are not shown.")
    notes = list(dict.fromkeys([*notes, *rejections(summary)]))  # some are told before the training and after it
    seconds = summary["seconds"]
    return Report(
        name=run.folder.name,
        verdict=summary.get("verdict", ""),
        task=recipe.run.task,
        sentence=sentence,
        status=summary["sentence"],
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        version=__version__,
        summary=[
            ("Optimizer", f"{recipe.training.optimizer}, {recipe.training.schedule} schedule"),
            ("Steps", summary["steps"]),
            ("Epochs", round(summary["steps"] / summary["steps_per_epoch"], 2)),
            ("Training time", f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"),
            ("Kept weights", _kept(summary)),
            ("Training examples", summary["num_train"]),
            ("Validation examples", summary["num_valid"]),
        ],
        metrics=metrics,
        history=[_only(entry, shown) for entry in read_history(run.folder / HISTORY)],
        notes=notes,
        sections=[*_sections(task, prepared, networks, recipe.run.seed), *path_sections(summary)],
        certificate=summary.get("certificate", {}).get("sentence", ""),
        proofs=more,
        recipe=recipe.to_toml(),
        reproduce=[f"thalweg train {run.folder / 'recipe.toml'}", predict_command(run, task, prepared.valid)],
    )


def predict_command(run: Run, task: AbstractTask, valid: Examples) -> str:
    """Return a command that asks a run for an answer: to a validation text, or for a forecast after its data."""
    command = f"thalweg predict {shlex.quote(str(run.folder))}"
    if has_series(task.name):
        source = run.recipe.data.source
        return f"{command} --file {'FILE' if source.startswith(OBJECT) else shlex.quote(source)}"
    if task.reads_pairs:
        return f"{command} \"$(printf 'a text\\tanother text')\""
    text = task.example(valid) or "a text"
    quoted = shlex.quote(text) if "'" in text else f"'{text}'"
    return f"{command} {'-- ' if text.startswith('-') else ''}{quoted}"


def path_sections(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pictures of what penalty and model were chosen by: the loss, and the accuracy where there is one."""
    record = summary.get("selection", {})
    points = record.get("points", [])
    if len(points) < 2:
        return []
    drawn = {"loss": "validation loss"} | ({"accuracy": "accuracy"} if points[0]["accuracy"] is not None else {})
    return [
        {
            "kind": "path",
            "title": f"{name[0].upper()}{name[1:]} by penalty",
            "text": f"Each point is a training of its own, judged by {record['judged_on']}; bars show one standard "
            "error. Chosen is the lowest loss of those whose accuracy is not significantly below the highest.",
            "lines": {
                model: [[p["l2"], p[key], p[f"{key}_error"]] for p in points if p["model"] == model]
                for model in dict.fromkeys(point["model"] for point in points)
            },
            "chosen": [record["model"], record["l2"]],
            "x_label": "penalty (--l2)",
            "y_label": name,
        }
        for key, name in drawn.items()
    ]


def rejections(summary: Mapping[str, Any]) -> list[str]:
    """Return what happened to steps that were not finite, as a sentence; none where there was none.

    Example:
        >>> rejections({"num_rejected": 1, "num_rollbacks": 0})
        ['1 step was rejected because its loss or gradient was NaN or infinite.']
        >>> rejections({"num_rejected": 6, "num_rollbacks": 2})[0].partition("; ")[2]
        'the run went back to its last good checkpoint 2 times, each time with half the learning rate.'
    """
    steps, times = summary["num_rejected"], summary["num_rollbacks"]
    if not steps:
        return []
    said = "1 step was rejected because its" if steps == 1 else f"{steps:,} steps were rejected because their"
    how = "once, with" if times == 1 else f"{times:,} times, each time with"
    back = f"; the run went back to its last good checkpoint {how} half the learning rate" if times else ""
    return [f"{said} loss or gradient was NaN or infinite{back}."]


def _kept(summary: dict[str, Any]) -> str:
    """Return in words of which step the kept weights are, and why of that one."""
    return f"step {summary['best_step']:,}, the {'last' if summary.get('keeps_last') else 'best'} one"


def _sections(
    task: AbstractTask, prepared: Prepared, networks: tuple[nn.Module, AbstractHead], seed: int
) -> list[dict[str, Any]]:
    """Return the sections of the task, which are about validation data."""
    return task.sections(*networks, prepared, seed) if len(prepared.valid) else []


def _shown(metrics: list[str]) -> list[str]:
    """Return the metrics of the report's cards; those of parts ("nmse JAN") are in its tables when they are many."""
    return metrics if len(metrics) <= MAX_CARDS else [name for name in metrics if " " not in name]


def _only(entry: dict[str, Any], metrics: list[str]) -> dict[str, Any]:
    """Return a history entry with these metrics of an evaluation, and without the others."""
    if "metrics" not in entry:
        return entry
    return entry | {"metrics": {name: value for name, value in entry["metrics"].items() if name in metrics}}
