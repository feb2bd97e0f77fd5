"""The page of a diagnosis: findings, the worst first, each with its picture, in one HTML file that opens anywhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from thalweg.errors import counted
from thalweg.report.comparison.entries import entries, mapping, text, values
from thalweg.report.curves import Record
from thalweg.report.diagnosis.measured import (
    between_panel,
    examples_panel,
    landscape_panels,
    predictions_panel,
    spectrum_panel,
)
from thalweg.report.diagnosis.over_time import (
    LAYERS,
    QUANTITIES,
    layer_panel,
    loss_panel,
    norm_panel,
    paired,
    rate_panel,
    site_panel,
)
from thalweg.report.document import render_page
from thalweg.report.panels import Panel
from thalweg.report.text import format_value, number
from thalweg.version import __version__

SEVERITIES: Final = ("error", "warning", "note")
MAX_PLACES: Final = 8  # modules or columns named below a finding
# The pictures that carry a finding, the best one first; a finding without a row has none of its own.
EVIDENCE: Final[Mapping[str, tuple[str, ...]]] = {
    "non-finite": ("loss",),
    "precision-underflow": ("updates",),
    "learning-rate-too-high": ("loss", "updates"),
    "learning-rate-too-low": ("updates", "loss"),
    "oscillation": ("loss",),
    "edge-of-stability": ("spectrum", "loss"),
    "loss-spikes": ("loss",),
    "late-updates-explode": ("updates",),
    "momentum-too-high": ("loss",),
    "schedule-ended-early": ("rate", "loss"),
    "plateau-at-saddle": ("spectrum", "loss"),
    "clipping-always": ("norm",),
    "clipping-never": ("norm",),
    "batch-too-small": ("norm",),
    "batch-too-large": ("norm",),
    "weight-decay-too-strong": ("updates",),
    "dropout-too-strong": ("loss",),
    "vanishing-gradient": ("flow", "gradients"),
    "vanishing-in-time": ("gradients",),
    "exploding-gradient": ("norm", "gradients"),
    "saturated-activations": ("saturated",),
    "dead-units": ("dead",),
    "initialization-too-small": ("deviation", "gradients"),
    "initialization-too-large": ("deviation", "gradients"),
    "symmetric-initialization": ("gradients",),
    "untrained-parameters": ("updates",),
    "attention-collapse": ("attention",),
    "over-fitting": ("loss",),
    "capacity-too-small": ("loss",),
    "label-noise": ("examples",),
    "conflicting-labels": ("examples",),
    "majority-class": ("predictions",),
    "never-predicted": ("predictions",),
    "leaking-duplicates": ("loss",),
    "not-shuffled": ("loss",),
}


@final
@dataclass(frozen=True)
class Shown:
    """A finding as the page shows it."""

    number: int
    severity: str
    title: str
    evidence: str
    meaning: str
    repair: str
    command: str
    facts: list[tuple[str, str]]
    source: str
    panels: list[Panel]


def render(diagnosis: Mapping[str, Any], history: Sequence[Record] = (), *, name: str = "", file: str = "") -> str:
    """Return the page of a diagnosis as the text of an HTML file.

    Everything is inside, and nothing is measured again. A picture is there where its numbers are; the first finding
    that it speaks for has it, the others follow below. All text, whatever is in it, is shown as text.

    Args:
        diagnosis: what `diagnosis.json` says.
        history: the entries of `history.jsonl`.
        name: of the run.
        file: where the diagnosis is, for the commands that apply its repairs; "" for none.

    Example:
        >>> "Nothing was found" in render({"findings": [], "seconds": 1.0})
        True
    """
    found = entries(diagnosis, "findings")
    left = _pictures(diagnosis, history, found)
    shown = [_finding(place, finding, left, file) for place, finding in enumerate(found, start=1)]
    rest = paired([panel for panels in left.values() for panel in panels])
    return render_page(
        "diagnosis.html",
        [*(panel for one in shown for panel in one.panels), *rest],
        version=__version__,
        created="",
        name=name or "training",
        verdict=_verdict(found),
        lead=_lead(diagnosis),
        findings=shown,
        pictures=rest,
        skipped=[(key.replace("_", " "), text(mapping(diagnosis, "skipped"), key)) for key in _skipped(diagnosis)],
    )


def _skipped(diagnosis: Mapping[str, Any]) -> list[str]:
    return [str(key) for key in mapping(diagnosis, "skipped")]


def _verdict(found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return "Nothing was found: no test of a known trouble was positive."
    counts = {severity: sum(text(one, "severity") == severity for one in found) for severity in SEVERITIES}
    listed = [counted(number, severity) for severity, number in counts.items() if number]
    return f"{counted(len(found), 'finding')}: {', '.join(listed)}." if listed else f"{counted(len(found), 'finding')}."


def _lead(diagnosis: Mapping[str, Any]) -> str:
    facts = mapping(diagnosis, "facts")
    words = [text(facts, "task"), text(facts, "model"), text(facts, "optimizer")]
    rate, seconds = number(facts.get("lr")), number(diagnosis.get("seconds"))
    said = ", ".join(filter(None, words))
    if rate is not None and said:
        said += f" at a peak learning rate of {format_value(rate)}"
    steps = number(facts.get("steps"))
    if steps is not None and said:
        said += f", {counted(int(steps), 'step')}"
    took = "" if seconds is None else f"Measured in {format_value(float(f'{seconds:.3g}'))} s."
    return " ".join(filter(None, (f"{said[:1].upper()}{said[1:]}." if said else "", took)))


def _pictures(
    diagnosis: Mapping[str, Any], history: Sequence[Record], found: Sequence[Mapping[str, Any]]
) -> dict[str, list[Panel]]:
    """Return every picture by its name, in the order of the page; empty lists for those without numbers."""
    probes, facts = mapping(diagnosis, "probes"), mapping(diagnosis, "facts")
    drawn: dict[str, Callable[[], list[Panel]]] = {
        "loss": lambda: loss_panel(history, found),
        "norm": lambda: norm_panel(history),
        "rate": lambda: rate_panel(history),
        **{name: lambda name=name: layer_panel(history, name) for name in LAYERS},
        **{name: lambda name=name: site_panel(history, name) for name in QUANTITIES},
        "spectrum": lambda: spectrum_panel(probes, facts),
        "landscape": lambda: landscape_panels(probes),
        "between": lambda: between_panel(probes),
        "predictions": lambda: predictions_panel(probes, facts),
        "examples": lambda: examples_panel(probes),
    }
    return {name: draw() for name, draw in drawn.items()}


def _finding(place: int, finding: Mapping[str, Any], left: dict[str, list[Panel]], file: str) -> Shown:
    """Return a finding with the first of its pictures that is there, which is taken out of those that are left."""
    repair, severity = mapping(finding, "repair"), text(finding, "severity")
    picture = next((name for name in EVIDENCE.get(text(finding, "name"), ()) if left.get(name)), None)
    facts = []
    figures, limits = mapping(finding, "figures"), mapping(finding, "thresholds")
    for key, value in figures.items():
        shown = format_value(value) if number(value) is not None else "–"
        limit = number(limits.get(key))
        facts.append((str(key).replace("_", " "), shown if limit is None else f"{shown} (limit {format_value(limit)})"))
    if where := [str(one) for one in values(finding, "where")]:
        more = f" and {len(where) - MAX_PLACES} more" if len(where) > MAX_PLACES else ""
        facts.append(("where", f"{', '.join(where[:MAX_PLACES])}{more}"))
    if also := [str(one).replace("-", " ") for one in values(finding, "also")]:
        facts.append(("probably follows from it", ", ".join(also)))
    applies = bool(mapping(repair, "options")) and bool(file)
    return Shown(
        place,
        severity if severity in SEVERITIES else "note",
        text(finding, "title", text(finding, "name").replace("-", " ")),
        text(finding, "evidence"),
        text(finding, "meaning"),
        text(repair, "sentence"),
        f"thalweg train --apply {file}#{place}" if applies else "",
        facts,
        text(finding, "source"),
        [] if picture is None else paired(left.pop(picture)),
    )
