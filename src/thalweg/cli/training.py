"""`thalweg train`: the live display, the summary, and the exit code."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from thalweg import distributed
from thalweg.cli.ending import code_of_run
from thalweg.cli.output import Terminal, cell, print_json, speaker
from thalweg.cli.progress import display
from thalweg.cli.warnings import LiveWarnings
from thalweg.errors import counted
from thalweg.status import Status
from thalweg.training.folder.report import rejections
from thalweg.training.integrity.history import finite
from thalweg.training.integrity.run_files import REPORT
from thalweg.training.session.finish import train_and_finish
from thalweg.training.session.prepare import Request, prepare
from thalweg.training.session.session import Session
from thalweg.training.steps.held_out import brackets
from thalweg.training.steps.launch import joined

MAX_METRICS = 12  # shown on the terminal; a tagger has one for each type of span
JSON_KEYS = (
    *("run", "task", "model", "optimizer", "steps", "seconds", "metrics", "intervals", "num_examples", "baselines"),
    *("measured", "signatures", "status", "verdict", "certificate", "selection"),
)


def train_and_show(
    request: Request,
    console: Terminal,
    say: Callable[[str], None],
    rank_timeout: float,
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Train, show what happens, print the summary, and return the exit code."""
    with joined(seconds=rank_timeout, say=say):
        if not distributed.is_first():  # which speaks for all
            say, as_json, quiet = speaker(console, quiet=True), False, True
        with prepare(request, say) as session:
            return _train_and_show(session, console, say, as_json=as_json, quiet=quiet)


def _train_and_show(
    session: Session, console: Terminal, say: Callable[[str], None], *, as_json: bool, quiet: bool
) -> int:
    received: int | None = None
    say(f"Training {session.run.recipe.model.model} on {session.task.describe(session.prepared)}: {_bounds(session)}.")
    ends_early = session.run.recipe.training.certify > 0.0
    seconds = session.expected_seconds if ends_early else math.inf
    warnings = LiveWarnings(say)
    total, limit = session.total_steps, session.run.recipe.training.time
    with display(console, total, session.place.step, seconds, limit=limit, quiet=quiet) as show:

        def watch(entry: dict[str, Any]) -> None:
            nonlocal received
            received = entry.get("signal")
            show(entry)
            if not quiet:
                warnings.take(entry)

        summary = train_and_finish(session, say, watch)
    if as_json:
        print_json(finite({key: summary[key] for key in JSON_KEYS if key in summary}))
    elif not quiet:
        show_summary(summary)
    if received is not None:
        return 128 + received
    code = code_of_run(Status[summary["status"]])
    if code and (as_json or quiet) and distributed.is_first():
        console.say(f"error: {summary['sentence']}")
    return code


def _bounds(session: Session) -> str:
    """Return the length of the run in words."""
    tolerance = session.run.recipe.training.certify
    if tolerance:
        steps = counted(session.total_steps, "step")
        return f"at most {steps}, until the loss is provably within {tolerance:g} of the global optimum"
    limit = session.time_limit.seconds
    if session.is_timed:
        return f"for {limit:g} s, evaluations and the report included"
    if limit:
        return f"for {limit:g} s, or {counted(session.total_steps, 'step')} if they are over before"
    each = session.feed.steps_per_epoch
    epochs = session.feed.epoch_of(session.total_steps)
    whole = f"{epochs:,.0f}" if epochs >= 100 else f"{epochs:.3g}"
    return f"{counted(session.total_steps, 'step')}, {whole} epoch{'' if whole == '1' else 's'} of {each:,}"


def _in_words(name: str) -> str:
    """Return the name of a metric with spaces; what it is of, such as a series, stays as it is written."""
    metric, space, of = name.partition(" ")
    return f"{metric.replace('_', ' ')}{space}{of}"


def show_summary(summary: dict[str, Any]) -> None:
    """Print the metrics and the files on standard output."""
    out = Terminal()
    if "verdict" in summary:
        out.say(summary["verdict"], style="bold")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    intervals = summary.get("intervals", {})
    if "loss" in summary:
        table.add_row("validation loss", f"{summary['loss']:.4f}", cell(brackets(intervals.get("loss"))))
    for name, value in list(summary["metrics"].items())[:MAX_METRICS]:
        table.add_row(cell(_in_words(name)), f"{value:.4f}", cell(brackets(intervals.get(name))))
    if len(summary["metrics"]) > MAX_METRICS:
        table.add_row(f"... {len(summary['metrics']) - MAX_METRICS} more", "in the report")
    if summary["best_step"] and not summary["keeps_last"]:
        table.add_row("best step", f"{summary['best_step']:,} of {summary['steps']:,}")
    else:  # the last weights are kept, or it was interrupted before the first evaluation
        table.add_row("steps", f"{summary['steps']:,}")
    table.add_row("seconds", f"{summary['seconds']:.1f}")
    out.print(table)
    chosen = summary.get("selection", {}).get("sentences", [])
    notes = [*summary.get("interval_notes", []), *chosen]
    lines = [*notes, summary["sentence"], *summary.get("warnings", [])]
    if "certificate" in summary:
        lines.append(summary["certificate"]["sentence"])
    lines += rejections(summary)
    if summary.get("warnings") is not None:  # not interrupted
        folder = Path(summary["run"])
        lines += [f"Report: {folder / REPORT}", f"Try it: {summary['example']}"]
    for line in lines:
        out.say(line)
