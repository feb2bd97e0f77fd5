"""What a diagnosis says: findings, each with its evidence and a repair, and what was measured for them."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

from thalweg.report.cells import block, table

FORMAT: Final = 1


@final
class Severity(enum.StrEnum):
    """How much a finding costs: the worst one first."""

    ERROR = "error"  # the training does not do what it should, or most of what it could reach is lost
    WARNING = "warning"  # it would end better, or as well for much less, with the repair
    NOTE = "note"  # worth knowing; nothing is lost yet


@final
@dataclasses.dataclass(frozen=True)
class Repair:
    """What to change.

    Args:
        sentence: in words, for a person.
        options: changes to the recipe under the names of the command line's options with underscores, as they would be
            given (`{"lr": 0.001}`); None as a value means that the option is no longer given. Empty where the recipe
            cannot mend it.
        action: the change to code or data that mends it, as one of `catalog.ACTIONS`; "" where the options do.
    """

    sentence: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    action: str = ""


@final
@dataclasses.dataclass(frozen=True)
class Finding:
    """One trouble: what was seen, what it means, and what to do.

    Args:
        name: as in `catalog.KINDS`, such as "learning-rate-too-high".
        severity: how much it costs.
        evidence: what was seen, in a sentence with its numbers.
        repair: what to change.
        figures: the numbers of the evidence, by name.
        thresholds: what they were compared with, by the same names.
        where: modules, columns or steps that it is about, the worst first; empty where it is about everything.
        strength: how far beyond its threshold the evidence is, >= 1; findings of one severity are ordered by it.
        also: names of findings that probably follow from this one and are therefore not listed by themselves.
    """

    name: str
    severity: Severity
    evidence: str
    repair: Repair
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    where: Sequence[str] = ()
    strength: float = 1.0
    also: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, with what the catalog says of its kind."""
        from thalweg.diagnosis.catalog import KINDS

        kind = KINDS[self.name]
        return {
            "name": self.name,
            "severity": self.severity.value,
            "title": kind.title,
            "evidence": self.evidence,
            "meaning": kind.meaning,
            "repair": {
                "sentence": self.repair.sentence,
                "options": dict(self.repair.options),
                "action": self.repair.action,
            },
            "source": kind.source,
            "figures": dict(self.figures),
            "thresholds": dict(self.thresholds),
            "where": list(self.where),
            "strength": self.strength,
            "also": list(self.also),
        }


@final
@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """All findings, the worst first, and everything that was measured.

    Args:
        findings: the worst first; none of a healthy run.
        facts: what was known of the setting (see `subject.Facts`).
        probes: what each probe measured, by its name: plain values.
        trends: what the history says, plain values.
        skipped: probes that could not run, each with the reason.
        seconds: how long it took.
    """

    findings: Sequence[Finding]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    probes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trends: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def named(self, name: str) -> Finding | None:
        """Return the finding of a name, or None."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, as `diagnosis.json` holds it."""
        return {
            "format": FORMAT,
            "findings": [finding.to_json() for finding in self.findings],
            "facts": dict(self.facts),
            "trends": dict(self.trends),
            "probes": dict(self.probes),
            "skipped": dict(self.skipped),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        if self.is_healthy:
            return "Nothing was found."
        return "\n".join(f"{finding.severity}: {finding.name}: {finding.evidence}" for finding in self.findings)

    def __repr__(self) -> str:
        names = ", ".join(finding.name for finding in self.findings) or "nothing found"
        return f"Diagnosis({names})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the findings with their evidence and repair."""
        rows = [(str(one.severity), one.name, one.evidence, one.repair.sentence) for one in self.findings]
        columns = ("severity", "finding", "evidence", "repair")
        said = [f"{name} was not measured: {reason}" for name, reason in self.skipped.items()]
        return block("Diagnosis" if rows else "Nothing was found.", [table(columns, rows)] if rows else [], said)
