"""`thalweg diagnose`: what is being measured, the findings, and the files."""

import dataclasses
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

from rich.text import Text

from thalweg.cli.output import Terminal, cell, print_json
from thalweg.diagnosis.diagnose import diagnose
from thalweg.diagnosis.finding import Diagnosis
from thalweg.diagnosis.hardest import hardest
from thalweg.diagnosis.of_run import subject_of_run
from thalweg.diagnosis.survey import line_to, path_of, survey
from thalweg.errors import InputError, counted
from thalweg.report.diagnosis.page import render
from thalweg.report.text import one_line
from thalweg.training.folder.run import Run
from thalweg.training.integrity.history import finite, read_history
from thalweg.training.integrity.run_files import DIAGNOSIS, DIAGNOSIS_PAGE, HISTORY, json_bytes

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold"}
INDENT = "   "


def diagnose_and_show(
    folder: Path,
    asked: Mapping[str, Any],
    console: Terminal,
    say: Callable[[str], None],
    *,
    report: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Diagnose a run, write the files, print the findings on standard output, and return the exit code."""
    if not 0.0 < asked["seconds"] < math.inf:
        raise InputError(f"--seconds must be above zero; got {asked['seconds']:g}.")
    run = Run(folder)
    found = finite(_diagnosed(run, asked, console, say, quiet=quiet).to_json())
    files, contents = {"figures": str(folder / DIAGNOSIS)}, {DIAGNOSIS: json_bytes(found)}
    if report:
        page = render(found, read_history(folder / HISTORY), name=folder.name, file=files["figures"])
        contents[DIAGNOSIS_PAGE] = page.encode(errors="replace")
        files["page"] = str(folder / DIAGNOSIS_PAGE)
    with run.changing("diagnosed") as ledger:
        ledger.write(contents)
    if as_json:
        print_json({"run": str(folder), **{key: found[key] for key in ("findings", "skipped", "seconds")}, **files})
    elif not quiet:
        out = Terminal()
        for part in lines_of(found, folder, files):
            out.say(part)
    return 0


def _diagnosed(
    run: Run, asked: Mapping[str, Any], console: Terminal, say: Callable[[str], None], *, quiet: bool
) -> Diagnosis:
    """Return the diagnosis, with the landscape and the line to another run among its probes where they were asked."""
    other = None if asked["between"] is None else Run(asked["between"])  # told before anything is measured
    say("Rereading the training data.")
    subject = subject_of_run(run)
    if not subject.history:
        say(f"{run.folder} has no history, so what only the way of a training tells is not found.")
    more: dict[str, Any] = {} if other is None else {"between": line_to(run, subject, other)}
    with _Line(console, quiet=quiet) as line:
        found = diagnose(subject, seconds=asked["seconds"], say=say, progress=line.show)
        if found.probes:
            more["hardest"] = hardest(run, subject)
        if asked["landscape"]:
            more["landscape"] = survey(subject, path_of(run, subject), say)
    return dataclasses.replace(found, probes={**found.probes, **more})


def lines_of(found: Mapping[str, Any], folder: Path, files: Mapping[str, str]) -> Iterator[Text | str]:
    """Yield what the terminal shows of a diagnosis: the worst finding first, what could not be measured, the files."""
    findings = found["findings"]
    yield cell(f"{folder}: {counted(len(findings), 'finding') if findings else 'nothing was found'}.", style="bold")
    for number, finding in enumerate(findings, start=1):
        severity = finding["severity"]
        heading = (
            Text(f"{number}. ")
            .append(severity, STYLES.get(severity, ""))
            .append(one_line(f": {finding['title']}"), "bold")
        )
        yield ""
        yield heading
        repair = finding["repair"]
        sentences = [finding["evidence"], finding["meaning"], f"Repair: {repair['sentence']}"]
        yield from (INDENT + sentence for sentence in sentences if sentence)
        if repair["options"]:
            yield f"{INDENT}  thalweg train --apply {shlex.quote(files['figures'])}#{number}"
        if finding["also"]:
            names = ", ".join(name.replace("-", " ") for name in finding["also"])
            yield f"{INDENT}Probably follows from it: {names}."
    yield ""
    line = found["probes"].get("between")
    if line:
        height = "is not finite" if line["barrier"] is None else f"is {line['barrier']:.4g} high"
        yield f"The barrier on the line to {line['other']} {height}."
    for name, reason in found["skipped"].items():
        yield f"Not measured: {name.replace('_', ' ')} ({reason.rstrip('.')})."
    yield f"Measured in {found['seconds']:.1f} s. Figures: {files['figures']}"
    if "page" in files:
        yield f"Page: {files['page']}"


@final
class _Line:
    """A line that says what is being measured, where there is a terminal to show it."""

    def __init__(self, console: Terminal, *, quiet: bool) -> None:
        self._status = console.status("") if console.is_terminal and not quiet else None

    def __enter__(self) -> "_Line":
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, name: str, number: int, total: int) -> None:
        """Say which probe runs now, and how many are behind it."""
        if self._status is not None:
            self._status.update(Text(f"{name.replace('_', ' ')} ({number} of {total})"))
