"""Rows of figures: printed as a table, written as JSON."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, final


@final
@dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        part: which part of the benchmark.
        what: what was measured.
        value: the figure.
        unit: of the figure; a ratio says to what.
        target: what it is to be, as text; empty where it is for information.
        met: whether it is.
        details: more figures that belong to it.
    """

    part: str
    what: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """Return the row as a line of the table."""
        verdict = "" if self.met is None else "met" if self.met else "MISSED"
        return f"{self.part:<8} {self.what:<48} {self.value:>8.3f} {self.unit:<28} {self.target:<8} {verdict}"


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "machine": platform.machine(),
        "num_cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "numpy", "scikit-learn")},
    }


def write_json(path: Path, rows: Iterable[Row], **more: Any) -> None:
    """Write machine and rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), **more, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
