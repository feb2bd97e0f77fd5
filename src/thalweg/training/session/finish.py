"""The end of a run: the best weights put back and measured, `metrics.json`, and the report."""

import datetime as dt
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from thalweg import names
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.report.page import Report, write_report
from thalweg.status import Status
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.certified import proved
from thalweg.training.folder import build, checkpoint
from thalweg.training.folder.run import HISTORY, METRICS, REPORT, WEIGHTS, Run, read_history, write_json, write_manifest
from thalweg.training.session.loop import train
from thalweg.training.session.session import Session
from thalweg.training.steps.evaluate import evaluate

MAX_CARDS = 8  # metrics with a card and a curve of their own, where some are about a part: a column, a type of span
MAX_GENERATED = 2000  # validation examples that are written out for BLEU and the like; `evaluate` takes all of a file


def train_and_finish(
    session: Session, say: Callable[[str], None], watch: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Train to the end, measure the best weights and write the report: what Python and the command line share.

    Args:
        session: what `prepare` returned.
        say: takes sentences about what is being done.
        watch: takes every history entry.

    Returns:
        The summary, as `finish`.
    """
    status = Status.COMPLETED
    for entry in train(session):
        watch(entry)
        if entry["event"] == "finished":
            status = Status[entry["status"]]
    if status is not Status.INTERRUPTED:
        say("Measuring the best weights and writing the report.")
    return finish(session, status)


def finish(session: Session, status: Status) -> dict[str, Any]:
    """Measure the best weights, write `metrics.json`, the manifest and the report, and return the summary.

    After an interruption nothing is measured and no report is written, only the state noted.

    Args:
        session: the session after `loop.train`.
        status: how the loop ended.

    Returns:
        The summary that `--json` prints: `run task model optimizer steps seconds metrics status`, and more.
    """
    run, recipe, score = session.run, session.run.recipe, session.score
    summary: dict[str, Any] = {
        "run": str(run.folder),
        "task": recipe.run.task,
        "model": recipe.model.model,
        "optimizer": recipe.training.optimizer,
        "steps": session.place.step,
        "seconds": score.seconds,
        "metrics": {},
        "status": status.name,
        "sentence": status.value,
        "num_rejected": score.num_rejected,
        "num_rollbacks": score.num_rollbacks,
        "best_step": score.best_step,
        "num_parameters": build.count_parameters(session.model, session.head),
        "num_train": len(session.prepared.train),
        "num_valid": len(session.prepared.valid),
        "steps_per_epoch": session.feed.steps_per_epoch,
    }
    if status is Status.INTERRUPTED:
        write_json(run.folder / METRICS, summary)
        return summary
    if score.best is None:  # not one evaluation gave a number
        write_json(run.folder / METRICS, summary)
        raise InputError(f"No weights of this run gave a finite score, so none were kept. {Status.NOT_FINITE.value}")
    weights = checkpoint.load_tensors(run.folder / WEIGHTS)
    build.put_weights(session.model, session.head, weights, run.folder / WEIGHTS)
    evaluation = evaluate(
        session.task,
        session.model,
        session.head,
        session.prepared.valid,
        batch_size=max(64, recipe.training.batch_size),
        device=session.device,
        autocast=session.autocast,
        generated=min(len(session.prepared.valid), MAX_GENERATED),
    )
    summary["loss"] = evaluation.loss
    if recipe.training.optimizer in names.SOLVERS:
        summary["certificate"] = proved.prove(recipe, session.model, session.head, session.feed(0))
    summary["metrics"] = evaluation.metrics
    if figures := session.head.figures():
        summary["head"] = figures
    summary["warnings"] = session.head.notes()
    write_manifest(run.folder, weights=True)
    write_json(run.folder / METRICS, summary)
    report = make_report(run, session.task, session.prepared, (session.model, session.head), summary)
    write_report(run.folder / REPORT, report)
    return summary


def make_report(
    run: Run,
    task: AbstractTask,
    prepared: Prepared,
    networks: tuple[nn.Module, AbstractHead],
    summary: dict[str, Any],
    more: Sequence[dict[str, Any]] = (),
) -> Report:
    """Return the report of a finished run.

    Args:
        run: its folder.
        task: its task.
        prepared: its examples.
        networks: model and head with the weights that were kept.
        summary: what `finish` returned; `run.result` later.
        more: sections that come first.
    """
    recipe, data = run.recipe, run.data
    for network in networks:
        network.eval()
    explanations = {"loss": ("lower", "Loss per target on the validation data."), **task.explanations}
    if recipe.model.head != "softmax":
        explanations["loss"] = (
            "lower",
            f"The loss of the head '{recipe.model.head}' for each token; the perplexity is what compares heads.",
        )
    values = {"loss": summary["loss"], **summary["metrics"]}
    shown = _shown([name for name in values if name in explanations])
    metrics = [
        {"name": name, "value": values[name], "better": explanations[name][0], "explanation": explanations[name][1]}
        for name in shown
    ]
    sentence = (
        f"A {recipe.model.model} model with {summary['num_parameters']:,} parameters, trained on "
        f"{task.describe(prepared)} from {data['described']}."
    )
    notes = [*data["notes"], *prepared.notes, *summary["warnings"]]
    if "certificate" in summary:
        notes.append(summary["certificate"]["sentence"])
    if summary["num_rejected"]:
        notes.append(
            f"{summary['num_rejected']} steps were rejected because loss or gradient was NaN or infinite; "
            f"the run went back {summary['num_rollbacks']} times."
        )
    seconds = summary["seconds"]
    return Report(
        name=run.folder.name,
        task=recipe.run.task,
        sentence=sentence,
        status=summary["sentence"],
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        version=importlib.metadata.version("thalweg"),
        summary=[
            ("Optimizer", f"{recipe.training.optimizer}, {recipe.training.schedule} schedule"),
            ("Steps", summary["steps"]),
            ("Epochs", round(summary["steps"] / summary["steps_per_epoch"], 2)),
            ("Training time", f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"),
            ("Best step", summary["best_step"]),
            ("Training examples", summary["num_train"]),
            ("Validation examples", summary["num_valid"]),
        ],
        metrics=metrics,
        history=[_only(entry, shown) for entry in read_history(run.folder / HISTORY)],
        notes=notes,
        sections=[*more, *task.sections(*networks, prepared, recipe.run.seed)],
        recipe=recipe.to_toml(),
        reproduce=[f"thalweg train {run.folder / 'recipe.toml'}", f"thalweg predict {run.folder} ..."],
    )


def _shown(metrics: list[str]) -> list[str]:
    """Return the metrics of the report's cards; those of parts ("nmse JAN") are in its tables when they are many."""
    return metrics if len(metrics) <= MAX_CARDS else [name for name in metrics if " " not in name]


def _only(entry: dict[str, Any], metrics: list[str]) -> dict[str, Any]:
    """Return a history entry with these metrics of an evaluation, and without the others."""
    if "metrics" not in entry:
        return entry
    return entry | {"metrics": {name: value for name, value in entry["metrics"].items() if name in metrics}}
