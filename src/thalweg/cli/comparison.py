"""`thalweg compare`: the live display, the table, the sentence, and the exit code."""

import contextlib
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, final

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from thalweg.cli.output import Terminal, cell, print_json, prints_to_errors
from thalweg.comparison.compare import PAGE, RESULT, Comparison, answer, ask
from thalweg.errors import InputError, counted
from thalweg.training.recipe.recipe import Options

ROW_KEYS: Final = (
    *("name", "data", "target", "seconds_to_target", "steps_to_target", "evaluations_to_target", "reached"),
    *("loss", "loss_spread", "metric", "metric_spread", "diverged", "trials", "edge", "seeds", "failed"),
)
WIDTH: Final = 150  # of a table that goes to a file
LONGEST_NAME: Final = 36  # of an entrant in one line of the table
MANY: Final = 5  # final runs from which on their median and best say more than mean and spread


def compare_and_show(
    sources: Iterable[str],
    options: Options,
    asked: dict[str, Any],
    console: Terminal,
    say: Callable[[str], None],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Compare, show what happens, print the table and the sentence, and return the exit code.

    It is 0 as soon as something could be compared on one of the data sets; those that failed are named.
    """
    asked = {**asked, "target": _target(asked["target"]), "name": options.get("name", "")}
    question = ask(sources, options.with_(name=None), **asked)
    try:
        # What an optimizer of the user's own prints is not the JSON object.
        prints = prints_to_errors() if as_json else contextlib.nullcontext()
        with _Bar(console, quiet=quiet) as bar, prints:
            found = answer(question, bar.said(say), bar.show)
    except KeyboardInterrupt as interrupt:
        say("Interrupted: the runs that had ended are kept, and the same command goes on.")
        return 128 + (interrupt.args[0] if interrupt.args and interrupt.args[0] else signal.SIGINT)
    if as_json:
        rows = [{key: row[key] for key in ROW_KEYS} for row in found.rows]
        failed = {data["name"]: data["failed"] for data in found.result["data"] if data["failed"]}
        print_json({"folder": str(found.folder), "rows": rows, "sentence": found.sentence, "failed": failed})
    elif not quiet:
        show_comparison(found)
    return 1 if found.has_failed else 0


def _target(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"--target must be a number or auto; got {text!r}.")
    return value


def show_comparison(found: Comparison) -> None:
    """Print a table for each data set, and the sentence, on standard output."""
    out = Terminal(width=WIDTH)
    for data in found.result["data"]:
        if data["failed"]:
            out.say(f"{data['name']} failed: {data['failed']}")
            continue
        rows = [row for row in found.rows if row["data"] == data["name"]]
        out.say(_heading(data))
        out.print(_table(data, rows))
        for row in rows:
            if row["failed"]:
                out.say(f"{row['name']} failed: {row['failed']}")
    lines = [found.sentence, f"Page: {found.folder / PAGE}", f"Figures: {found.folder / RESULT}"]
    for line in lines:
        out.say(line)


def _heading(data: dict[str, Any]) -> str:
    whose = "validation" if data["scored_on"] == "valid" else "training"
    what = f"{whose} {'loss' if data['scored_by'] == 'loss' else data['metric'].replace('_', ' ')}"
    if data["target"] is None:
        return f"{data['name']}, {data['model']}: {data['target_from']}"
    return f"{data['name']}, {data['model']}: target {what} {data['target']:.4g}. {data['target_from']}"


def _table(data: dict[str, Any], rows: list[dict[str, Any]]) -> Table:
    """Return the rows of one data set; means and spreads, or where there are many starts medians and the best."""
    whose = "validation" if data["scored_on"] == "valid" else "training"
    many = max((row["seeds"] for row in rows), default=0) >= MANY
    table = Table(box=None, pad_edge=False)
    longest = max(len(row["name"]) for row in rows)
    table.add_column(cell(data["vary"].replace("_", " ")), overflow="fold", min_width=min(longest, LONGEST_NAME))
    for head in ("seconds to target", "steps", "evaluations"):
        table.add_column(head, justify="right")
    for quantity in (f"{whose} loss", data["metric"].replace("_", " ")):
        table.add_column(cell(f"{quantity}: median (best)" if many else quantity), justify="right")
    is_tuned = any(row["trials"] for row in rows)
    for head in (*(("trials", "tuning") if is_tuned else ()), "memory"):
        table.add_column(head, justify="right")
    table.add_column("")
    for row in rows:
        cells = [_reached(row, axis, data["budget"]) for axis in ("seconds", "steps", "evaluations")]
        cells += [_score(row, key, many=many) for key in ("loss", "metric")]
        cells += [str(row["trials"]), f"{row['seconds_tuning']:.0f} s"] if is_tuned else []
        cells += [_megabytes(row["peak_bytes"])]
        table.add_row(cell(row["name"]), *cells, _remark(row))
    return table


def _score(row: dict[str, Any], key: str, *, many: bool) -> str:
    if many:
        middle, best = row[f"{key}_median"], row[f"{key}_best"]
        return _number(middle) if best is None else f"{_number(middle)} ({_number(best)})"
    mean, spread = row[key], row[f"{key}_spread"]
    return _number(mean) if spread is None else f"{_number(mean)} ± {spread:.2g}"


def _reached(row: dict[str, Any], axis: str, limit: dict[str, Any]) -> str:
    if not row["seeds"]:
        return "-"
    value = row[f"{axis}_to_target"]
    if value is not None:
        return f"{value:.3g}" if axis == "seconds" else f"{value:,.0f}"
    if axis == "seconds":
        return f"> {limit['seconds']:g}" if "seconds" in limit else "never"
    return f"> {limit['steps']:,}" if axis == "steps" and "steps" in limit else "never"


def _remark(row: dict[str, Any]) -> str:
    words = ["failed"] if row["failed"] else []
    if row.get("edge"):
        words.append(f"{row['edge']} rate tried")
    if row["reached"] < row["seeds"]:
        words.append(f"{row['reached']} of {row['seeds']} reach it")
    if row["diverged"]:
        words.append(f"{row['diverged']} of {row['seeds']} diverged")
    return ", ".join(words)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _megabytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:.3g} MB"


@final
class _Bar:
    """One line over all runs: which entrant is at it, its loss, and the time that is left."""

    def __init__(self, console: Terminal, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._live = console.is_terminal and not quiet
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
            TextColumn("{task.fields[figures]}", "cyan", markup=False),
            console=console, transient=True,
        )  # fmt: skip
        self._bar = self._progress.add_task("comparing", total=1, figures="", visible=False)
        self._total = 0
        self._took: list[float] = []  # seconds of each run
        self._spared = 0  # runs that need not be made
        self._each: float | None = None  # seconds of a run, as planned
        self._begun = self._shown = 0.0
        self._what = ""

    def __enter__(self) -> "_Bar":
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()

    def said(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """Return what says sentences above the bar."""
        if not self._live:
            return say
        return self._console.say

    def show(self, event: dict[str, Any]) -> None:
        """Take one event of a comparison."""
        if self._quiet:
            return
        match event["event"]:
            case "plan":
                self._total, self._spared, self._took, self._each = event["runs"], 0, [], event["seconds"]
                self._progress.update(self._bar, total=self._total, completed=0, visible=True, figures="")
            case "run":
                kind = {"pace": "measuring its pace", "trial": f"trial {event['number'] + 1}"}
                self._what = f"{event['entrant']}, {kind.get(event['kind'], 'seed ' + str(event['number']))}"
                self._begun = time.monotonic()
            case "step":
                self._step(event)
            case "done" if event["kind"] != "pace":
                self._took.append(event["took"])
                self._line(f"{self._behind()} of {counted(self._total, 'run')}: {self._what}{self._left(0.0)}")
                self._progress.update(self._bar, completed=self._behind())
            case "spared":
                self._spared += event["runs"]
                self._progress.update(self._bar, completed=self._behind())
            case "waiting":
                self._line(f"Waiting for {counted(event['runs'], 'run')} that another process is at.")

    def _behind(self) -> int:
        return len(self._took) + self._spared

    def _step(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if self._live and now - self._shown > 0.2:
            self._shown = now
            left = self._left(now - self._begun)
            self._progress.update(self._bar, figures=f"{self._what}: loss {event['loss']:.4g}{left}")

    def _line(self, text: str) -> None:
        """Print a line where nothing is live."""
        if not self._live:
            self._console.say(text)

    def _left(self, spent: float) -> str:
        """Return the time that is left, by the median of the runs so far, or by what is planned before the first."""
        each = statistics.median(self._took) if self._took else self._each
        if each is None:
            return ""
        left = max(0.0, each * (self._total - self._behind()) - spent)
        text = f"{left:.0f} s" if left < 120 else f"{left / 60:.0f} min"
        return f", about {text} left"
