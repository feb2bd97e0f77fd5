"""`thalweg certify` and `thalweg check`."""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thalweg.certificates.attempts import Clock
from thalweg.certificates.certificate.interval import Interval, finite
from thalweg.certificates.certificate.ladder import (
    MEANINGS,
    NAMES,
    digits,
    gap_of,
    is_vacuous,
    left_out,
    prospects,
    sentence,
)
from thalweg.certificates.checker import check
from thalweg.cli.output import print_json, print_lines
from thalweg.errors import InputError
from thalweg.training.certified.by_example import by_example
from thalweg.training.certified.by_example_words import lines, sections
from thalweg.training.certified.certify import facts_of, keep, open_run
from thalweg.training.certified.polishing import put_polished_head
from thalweg.training.folder.run import CERTIFICATE, REPORT, Run

WIDTH = 100
REST = 0.9  # of the time for everything but certificate and report being written


def certify_and_show(
    folder: Path,
    seconds: float,
    say: Callable[[str], None],
    *,
    polish: bool,
    report: bool,
    as_json: bool,
    quiet: bool,
    begin: float | None = None,
) -> int:
    """Certify a run, write certificate and report, print the interval, and return the exit code.

    The seconds are for all of that, since `begin` (of `time.perf_counter`; None: now).
    """
    if not seconds > 0.0:
        raise InputError(f"--seconds must be above zero; got {seconds:g}.")
    run = Run(folder)
    clock = Clock(REST * seconds, begin)
    opened = open_run(run, say)
    notes = []
    if polish:
        say("Polishing the output layer.")
        notes.append(put_polished_head(opened, seconds=0.5 * clock.left))
        run = Run(folder)
        opened = dataclasses.replace(opened, run=run)
    say("Looking at the examples.")
    examples = by_example(run, opened.task, opened.prepared, clock)
    certified = opened.certified(clock, say)
    keep(run, certified, report=report, say=say, more=sections(examples))
    interval = certified.interval
    if as_json:
        print_json({**interval.to_json(), "by_example": finite(examples.to_json()), "file": str(folder / CERTIFICATE)})
        return 0
    if not quiet:
        console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        for part in _parts(interval):
            console.print(part, markup=False)
        print_lines([*lines(examples)])
        files = f"Certificate: {folder / CERTIFICATE} (thalweg check {folder / CERTIFICATE} verifies it)"
        print_lines([*notes, files, *([f"Plot: {folder / REPORT}"] if report else [])])
    return 0


def check_and_show(file: Path, folder: Path | None, *, as_json: bool) -> int:
    """Verify a certificate, print what was verified, and return 0, or 1 if it is refused."""
    if not file.is_file():
        raise InputError(f"There is no certificate {file}; expected one that `thalweg certify` wrote.")
    report = check.check(file)
    sentences = list(report.sentences)
    if folder is not None:
        try:
            sentences += _same_run(file, Run(folder))
        except check.Refused as error:
            report.refused.append(str(error))
            report.bound_verified = False
            sentences.append(f"REFUSED {error}")
    if as_json:
        accepted = report.bound_verified
        print_json({"file": str(file), "accepted": accepted, "sentences": sentences, "refused": report.refused})
    else:
        print_lines([*sentences, report.verdict])
    return 0 if report.bound_verified else 1


def _same_run(file: Path, run: Run) -> list[str]:
    """Return sentences if data, weights, loss and counts of a run are those of a certificate; else raise `Refused`."""
    content = check.read(file)[0]
    facts = facts_of(run)
    for what in ("data", "weights"):
        if content["hashes"].get(what) != facts.hashes[what]:
            raise check.Refused(f"The {what} of the certificate do not match those of {run.folder}.")
    check.need(
        abs(content["loss"] - facts.loss) <= 1e-9 * abs(facts.loss) + 1e-14,
        f"The certificate claims the loss {content['loss']:.12g}, and the run has {facts.loss:.12g}.",
    )
    for level in content["levels"]:
        if level["name"] == "floor":
            floor = facts.floors.get(level["quantity"], -math.inf)
            check.need(
                level["bound"] <= floor + 1e-9 * abs(floor) + 1e-14,
                f"The floor of {level['quantity']} is claimed to be {level['bound']:.9g}; the data gives {floor:.9g}.",
            )
    return [f"Data, weights, loss and the counts of the floors are those of {run.folder}."]


def _parts(interval: Interval) -> Iterator[Any]:
    yield Text(sentence(interval), style="bold")
    yield from prospects(interval)
    if interval.best is not None and not is_vacuous(interval, interval.best):
        yield interval.scope
        yield MEANINGS[interval.proof]
    yield ""
    yield _table(interval)
    yield ""
    yield from _remarks(interval)


def _table(interval: Interval) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("level", "at least", "you have", "gap", "proof", "time"):
        is_text = name in {"level", "proof"}  # words may go on in the next line, numbers are never cut
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
    places = digits(interval)
    for level in interval.levels:
        name = NAMES.get(level.name, level.name)
        own = level.quantity == interval.quantity
        name = name if own else f"{level.quantity} ({level.name})"
        places_here = places if own else 4
        shown = [f"{value:.{places_here}f}" if value > -1e300 else "nothing" for value in (level.bound, level.loss)]
        table.add_row(name, *shown, gap_of(interval, level), level.proof.value, f"{level.seconds:.2f} s")
    return table


def _remarks(interval: Interval) -> Iterator[str]:
    """Yield what every level says, and why others are not there."""
    for level in interval.levels:
        if level is interval.best:
            continue
        yield f"{NAMES.get(level.name, level.name)}: {level.scope}"
        yield from level.assumptions
    yield from interval.notes
    yield from left_out(interval)
    yield ""
