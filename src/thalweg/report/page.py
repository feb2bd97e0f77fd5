"""A report: plain data in, one HTML file out that opens anywhere without a network."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from thalweg.report.document import render_page, write_page
from thalweg.report.panels import section_panel
from thalweg.report.training_panels import training_panels


@final
@dataclass(frozen=True)
class Report:
    """Everything a report says, as plain data.

    Args:
        name: name of the run.
        task: what was learned, such as "classify".
        verdict: the result in a sentence that a person can repeat; "" where there is none.
        sentence: what was trained on what, for a reader who did not run it.
        status: how the run ended.
        created: when the report was made, as ISO text.
        version: version of the package.
        summary: pairs of a label and a value.
        metrics: for each metric its `name`, `value`, `better` ("higher" or "lower") and `explanation`; where there is
            one also its 95 % `interval`, a pair.
        history: records of the run in the order in which they were written.
        notes: sentences about what was noticed during the run.
        sections: results of the task; each has a `kind` out of `thalweg.report.panels.RENDERERS`, a `title`, a
            `text` that says how to read it, and the entries of its kind.
        certificate: what is proved about the training loss, in words; "" where nothing is.
        proofs: sections about how far the training loss is from the best possible.
        recipe: the text that reproduces the run.
        reproduce: command lines that reproduce the run.
    """

    name: str
    task: str
    sentence: str
    status: str
    created: str
    version: str
    summary: Sequence[tuple[str, object]] = ()
    metrics: Sequence[Mapping[str, Any]] = ()
    history: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    sections: Sequence[Mapping[str, Any]] = ()
    certificate: str = ""
    proofs: Sequence[Mapping[str, Any]] = ()
    recipe: str = ""
    reproduce: Sequence[str] = field(default_factory=list)
    verdict: str = ""


def render_report(report: Report) -> str:
    """Return the report as the text of an HTML file.

    All styles, scripts and data are inside; a content security policy forbids every request and every script but the
    two that belong to the page. All text from the report is escaped, in figures too.

    Args:
        report: what the page shows.

    Raises:
        ValueError: a section has an unknown kind or lacks an entry.
    """
    training = training_panels(report.history, report.metrics)
    results, proofs = ([section_panel(section) for section in part] for part in (report.sections, report.proofs))
    panels = [*results, *proofs, *training]  # as they come on the page
    return render_page(
        "page.html",
        panels,
        version=report.version,
        created=report.created,
        report=report,
        training=training,
        results=results,
        proofs=proofs,
    )


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write the report as one HTML file; a reader sees the old file or the new one, never half of it.

    Args:
        path: the file; its folder is made where it is missing.
        report: what the page shows.

    Raises:
        ValueError: a section has an unknown kind or lacks an entry.
    """
    write_page(path, render_report(report))
