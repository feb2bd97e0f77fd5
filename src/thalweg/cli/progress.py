"""What a person sees while a run trains: one live line on a terminal, plain lines anywhere else."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, final

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from thalweg import phases
from thalweg.cli.output import Terminal

FIRST, PAUSE = 5.0, 60.0  # seconds until a log has a line about the steps, and between two of them

Show = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def display(
    console: Terminal,
    total_steps: int,
    start: int,
    seconds: float | None = math.inf,
    *,
    limit: float = 0.0,
    quiet: bool,
) -> Iterator[Show]:
    """Give what shows history entries: nothing when quiet, a live bar on a terminal, lines now and then elsewhere.

    `seconds` is how long training is going to take. Infinite: as the steps that are taken tell; None: nobody knows,
    since it ends before the last step. With a time `limit` the clock moves the bar where it is ahead of the steps.
    Long phases of a block (`thalweg.phases`) are shown, too.
    """
    if quiet:
        yield lambda entry: None  # noqa: ARG005
    elif console.is_terminal:
        live = _Live(console, total_steps, start, seconds, limit)
        with live.progress, phases.shown(live.phase):
            yield live.show
    else:
        lines = _Lines(console, total_steps, seconds, limit)
        with phases.shown(lines.phase):
            yield lines.show


@final
class _Live:
    """A bar with loss, learning rate, speed and time left; evaluations stay above it as lines."""

    def __init__(self, console: Terminal, total_steps: int, start: int, seconds: float | None, limit: float) -> None:
        self._console, self._total_steps, self._seconds, self._limit = console, total_steps, seconds, limit
        remaining = [TimeRemainingColumn(compact=True)] if seconds == math.inf and not limit else []
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[place]}"),
            TextColumn("{task.fields[figures]}", "cyan", markup=False),
            *remaining,
            console=console,
            transient=True,
        )
        fields: dict[str, Any] = {"place": self._place(start), "figures": ""}
        self._bar = self.progress.add_task("training", total=total_steps, completed=start, **fields)
        self._phases: dict[str, TaskID] = {}
        self._smoothed: float | None = None
        self._shown = 0.0

    def _place(self, step: int) -> str:
        return f"{step:,} steps" if self._limit else f"{step:,}/{self._total_steps:,} steps"

    def phase(self, what: str, done: int, total: int) -> None:
        """Show how far a phase is, and nothing of it when it is over."""
        place = f"{done:,}/{total:,}"
        if what not in self._phases:
            self._phases[what] = self.progress.add_task(what, total=total, place=place, figures="")
        self.progress.update(self._phases[what], completed=done, total=total, place=place)
        if done >= total:
            self.progress.remove_task(self._phases.pop(what))

    def show(self, entry: dict[str, Any]) -> None:
        """Move the bar, or print a line for what is not a plain step."""
        if entry["event"] == "finished":
            self.progress.update(self._bar, visible=False)
        if entry["event"] != "step":
            text = describe(entry)
            if text:
                self._console.say(text)
            return
        loss = entry["loss"]
        self._smoothed = loss if self._smoothed is None else 0.95 * self._smoothed + 0.05 * loss
        now = time.monotonic()
        if now - self._shown > 0.1:  # a terminal needs no more than ten pictures a second
            self._shown = now
            figures = f"loss {self._smoothed:.4g}  lr {entry['lr']:.2g}{_gap(entry)}{_rate(entry)}"
            if self._seconds != math.inf or self._limit:
                figures += _time_left(entry, self._total_steps, self._seconds, self._limit)
            done = max(entry["step"], self._total_steps * min(1.0, entry["seconds"] / (self._limit or math.inf)))
            self.progress.update(self._bar, completed=done, place=self._place(entry["step"]), figures=figures)


@final
class _Lines:
    """Evaluations, and a line a minute; for logs and pipes. The first line comes after five seconds."""

    def __init__(self, console: Terminal, total_steps: int, seconds: float | None, limit: float) -> None:
        self._console, self._total_steps, self._seconds, self._limit = console, total_steps, seconds, limit
        self._next = time.monotonic() + FIRST

    def phase(self, what: str, done: int, total: int) -> None:
        """Print how far a phase is where nothing was printed for a while."""
        now = time.monotonic()
        if done == 0:
            self._next = min(self._next, now + FIRST)
        elif now >= self._next:
            self._next = now + PAUSE
            self._console.say(f"{what}: {done:,} of {total:,}")

    def show(self, entry: dict[str, Any]) -> None:
        """Print evaluations and events at once, and a step where nothing was printed for a minute."""
        if entry["event"] == "step":
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + PAUSE
            place = f"step {entry['step']:,}" + ("" if self._limit else f" of {self._total_steps:,}")
            left = _time_left(entry, self._total_steps, self._seconds, self._limit)
            text = f"{place}: loss {entry['loss']:.4g}, lr {entry['lr']:.2g}{_gap(entry)}{_rate(entry)}{left}"
        else:
            text = describe(entry)
            if text:
                self._next = max(self._next, time.monotonic() + PAUSE)
        if text:
            self._console.say(text)


def describe(entry: dict[str, Any]) -> str:
    """Return a history entry as a line, or "" where there is nothing to say."""
    match entry["event"]:
        case "evaluation":
            names = list(entry["metrics"])[:4]
            figures = ", ".join(f"{name} {entry['metrics'][name]:.4g}" for name in names)
            # Where the last weights are kept, nothing follows from the best score so far.
            mark = "  (best so far)" if entry["best"] and "gap" not in entry else ""
            place = f"step {entry['step']:,}, epoch {entry['epoch']:.3g}"
            gap = f", relative gap {entry['gap']:.1e}" if "gap" in entry else ""
            return f"{place}: validation loss {entry['loss']:.4g}, {figures}{gap}{mark}"
        case "selection":
            figures = "".join(f", {name} {value:.4g}" for name, value in entry["metrics"].items())
            mark = "  (best so far)" if entry["best"] else ""
            where = f"{entry['model']} with --l2 {entry['l2']:.2g}"
            judged = "cross-validated" if entry["num_folds"] > 1 else "validation"
            return f"{where}: {judged} loss {entry['loss']:.4g}{figures}, relative gap {entry['gap']:.1e}{mark}"
        case "rejected":
            return f"step {entry['step']:,} was rejected: {entry['reason']}."
        case "rollback":
            return (
                f"step {entry['step']:,}: {entry['reason']}; returning to step {entry['to_step']:,} "
                f"with {entry['lr_scale']:g} times the learning rate."
            )
        case "resumed":
            return f"Resuming at step {entry['step']:,}."
    return ""


def _gap(entry: dict[str, Any]) -> str:
    return f"  gap {entry['gap']:.1e}" if "gap" in entry else ""


def _rate(entry: dict[str, Any]) -> str:
    for what in ("tokens", "examples"):
        rate = entry.get(f"{what}_per_second")
        if rate is not None and math.isfinite(rate):
            return f"  {_thousands(rate)} {what}/s"
    return ""


def _thousands(number: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _time_left(entry: dict[str, Any], total: int, seconds: float | None, limit: float) -> str:
    done, spent = entry["step"], entry["seconds"]
    if seconds is None or not done:
        return f", {limit - spent:.0f} s left at most" if limit > spent else ""
    left = seconds - spent if math.isfinite(seconds) else spent / done * (total - done)
    left = min(left, limit - spent) if limit else left
    return f", {left:.0f} s left" if left >= 1.0 else ""
