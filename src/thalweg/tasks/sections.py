"""Report sections that several tasks have, as plain data (see `thalweg.report.panels.RENDERERS`)."""

from collections.abc import Sequence
from typing import Any, Final

F1: Final = "F1 (harmonic mean of precision and recall)"  # in explanations of metrics


def f1_bars(what: str, weakness: str, names: Sequence[str], scores: Sequence[float]) -> dict[str, Any]:
    """Return a section with the F1 of each name, best first; `weakness` ends the sentence "a short bar is a ..."."""
    order = sorted(range(len(names)), key=lambda i: -scores[i])
    return {
        "kind": "bars",
        "title": f"F1 by {what}",
        "text": f"1 is perfect; a short bar is a {weakness}.",
        "names": [names[i] for i in order],
        "values": [scores[i] for i in order],
        "x_label": "F1",
    }


def confusion(rows: str, labels: Sequence[str], counts: list[list[int]]) -> dict[str, Any]:
    """Return a confusion matrix; `rows` says what a row holds, `counts` is `[true, predicted]`."""
    return {
        "kind": "confusion",
        "title": "What is taken for what",
        "text": f"Each row holds the validation {rows}; the columns say what was predicted.",
        "labels": list(labels),
        "counts": counts,
    }
