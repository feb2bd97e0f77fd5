"""`thalweg certify`."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.table import Table
from rich.text import Text

from thalweg.certificates.attempts import Clock, TooLongError
from thalweg.certificates.certificate.interval import Interval, finite
from thalweg.certificates.certificate.ladder import (
    MEANINGS,
    NAMES,
    bound_and_loss,
    gap_of,
    is_vacuous,
    left_out,
    name_of,
    prospects,
    says_nothing,
    sentence,
    unlimited,
)
from thalweg.cli.output import Terminal, print_json, print_lines
from thalweg.errors import InputError
from thalweg.training.certified.by_example import by_example
from thalweg.training.certified.by_example_words import lines, sections
from thalweg.training.certified.certify import keep, open_run
from thalweg.training.certified.polishing import put_polished_head
from thalweg.training.certified.risk import with_risk
from thalweg.training.folder.run import Run
from thalweg.training.integrity.run_files import CERTIFICATE, REPORT
from thalweg.training.recipe.trusted import require_trust

WIDTH = 100
# Of the time, what is kept for certificate and report being written: in any case, and for a report that takes longer.
RESERVE, FOR_REPORT = 0.1, 0.4


def certify_and_show(
    folder: Path,
    seconds: float,
    say: Callable[[str], None],
    *,
    polish: bool,
    report: bool,
    as_json: bool,
    quiet: bool,
    test: Path | None = None,
    risk: bool = False,
    trust: bool = False,
    reading: Mapping[str, Any] = MappingProxyType({}),
    begin: float | None = None,
) -> int:
    """Certify a run, write certificate and report, print the interval, and return the exit code.

    The seconds are for all of that, since `begin` (of `time.perf_counter`; None: now).
    """
    if not seconds > 0.0:
        raise InputError(f"--seconds must be above zero; got {seconds:g}.")
    run = Run(folder)
    if risk:  # before anything that takes long
        require_trust(run.recipe.training.optimizer, None, folder, trust=trust)
    drawing = float(run.result.get("report_seconds", 0.0)) if report else 0.0
    kept = RESERVE * seconds + (drawing if drawing < FOR_REPORT * seconds else 0.0)
    clock = Clock(seconds, begin, reserve=kept)
    opened = open_run(run, say, test, reading)
    notes = []
    if polish:
        say("Polishing the output layer.")
        notes.append(put_polished_head(opened, seconds=0.5 * clock.left))
    say("Looking at the examples.")
    examples = by_example(run, opened.task, opened.trained, clock)
    certified = opened.certified(clock, say)
    if risk:
        certified = dataclasses.replace(certified, interval=with_risk(certified.interval, run, say, trust=trust))
    clock.reserve = 0.0
    try:
        if report:
            clock.require(drawing, "Redrawing the report")
    except TooLongError as error:
        report = False
        notes.append(f"The report is left as it was. {error}")
    keep(run, certified, report=report, say=say, more=sections(examples))
    interval = certified.interval
    if as_json:
        print_json({**interval.to_json(), "by_example": finite(examples.to_json()), "file": str(folder / CERTIFICATE)})
        return 0
    if not quiet:
        console = Terminal(width=WIDTH)
        for part in _parts(interval):
            console.print(Text(part) if isinstance(part, str) else part)
        print_lines([*lines(examples)])
        about = f"thalweg check {folder / CERTIFICATE} verifies it"
        if interval.best is None:
            about = "it claims no bound for the whole configuration, so that thalweg check ends with exit code 1"
        files = f"Certificate: {folder / CERTIFICATE} ({about})"
        print_lines([*notes, files, *([f"Report: {folder / REPORT}"] if report else [])])
    return 0


def _parts(interval: Interval) -> Iterator[Any]:
    yield Text(sentence(interval), style="bold")
    yield from prospects(interval)
    if interval.best is not None and not is_vacuous(interval.best):
        yield interval.scope
        yield MEANINGS[interval.proof]
    yield ""
    if not all(map(says_nothing, interval.levels)):
        yield _table(interval)
        yield ""
    yield from _remarks(interval)


def _table(interval: Interval) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("level", "at least", "you have", "gap", "proof", "time"):
        is_text = name in {"level", "proof"}  # words may go on in the next line, numbers are never cut
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
    for level in interval.levels:
        if not says_nothing(level):
            rest = (gap_of(level), level.proof.value, f"{level.seconds:.2f} s")
            table.add_row(name_of(level, interval), *bound_and_loss(level, interval), *rest)
    return table


def _remarks(interval: Interval) -> Iterator[str]:
    """Yield what every level says, and why others are not there."""
    free = unlimited(interval)
    for level in interval.levels:
        nothing = level is interval.best or says_nothing(level) or (level.whole and level.bound == 0.0 == level.loss)
        if nothing and level is not free:  # that the data set no limit is an answer, and is said once
            continue
        yield f"{NAMES.get(level.name, level.name)}: {level.scope}"
        yield from level.assumptions
    yield from interval.notes
    yield from left_out(interval)
    yield ""
