"""The figures of an evaluation in words: their intervals, what they are compared with, how the weights were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thalweg.certificates.new_texts.resampling import Range
from thalweg.errors import counted

if TYPE_CHECKING:
    from thalweg.training.steps.evaluate import Evaluation

IN_BRACKETS = "In brackets: "
DRAWN = {  # what the bootstrap draws -> what has to be said of it
    "sentences": ", drawing whole sentences",
    "chunks of text": ", drawing whole chunks of text as if they were independent of one another",
    "rows": ", drawing blocks of neighboring rows",
}


def brackets(interval: Range | None) -> str:
    """Return an interval as text; nothing where there is none."""
    return "" if interval is None else f"[{interval[0]:.4f}, {interval[1]:.4f}]"


def told_of_file(evaluation: Evaluation) -> dict[str, Any]:
    """Return what a summary says of the file that was evaluated: what was left out of it, and figures of each label."""
    return {
        "num_rows": evaluation.num_rows,
        "num_left_out": evaluation.num_left_out,
        "left_out": [{"line": row.line, "reason": row.reason} for row in evaluation.left_out],
        "notes": list(evaluation.notes),
        **evaluation.details,
    }


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return what a summary says of an evaluation besides its figures, as plain values."""
    return {
        "intervals": {name: list(pair) for name, pair in evaluation.intervals.items()},
        "num_examples": evaluation.num_examples,
        "baselines": dict(evaluation.baselines),
        **_measured(evaluation),
    }


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    written = evaluation.written
    if not written.notes and not written.signatures:
        return {}
    return {"measured": list(written.notes), "signatures": dict(written.signatures)}


def written_notes(evaluation: Evaluation) -> list[str]:
    """Return how texts were written and measured, where any were: sentences, then the signatures of the metrics."""
    return [*evaluation.written.notes, *evaluation.written.signatures.values()]


def interval_notes(evaluation: Evaluation, examples: str = "example", chosen_from: int = 0) -> list[str]:
    """Return sentences that go with the intervals of an evaluation.

    Args:
        evaluation: with intervals.
        examples: what they were, in the singular: "validation example".
        chosen_from: how many evaluations on the same examples the weights were chosen by; 0 or 1: by none.
    """
    if not evaluation.intervals:
        return []
    exact = [name.replace("_", " ") for name in ("accuracy", "exact_match") if name in evaluation.intervals]
    exact = exact if evaluation.unit not in DRAWN or "exact match" in exact else []
    drawn = DRAWN.get(evaluation.unit, "")
    how = f"exact for {' and '.join(exact)}, else bootstrap{drawn}" if exact else f"bootstrap{drawn}"
    size = counted(evaluation.num_examples, examples)
    taken = "" if evaluation.unit == "rows" else ", taken as independent"  # rows come in blocks: neighbors depend
    notes = [f"{IN_BRACKETS}95 % intervals from {size}{taken} ({how})."]
    for name, value in evaluation.baselines.items():
        notes.append(f"Always giving the most frequent answer has {name.replace('_', ' ')} {value:.4f} on them.")
    notes = [" ".join(notes)]
    if chosen_from > 1:
        notes.append(
            f"These weights are the best of {chosen_from} evaluations on the same examples, so figures and intervals "
            "are on the optimistic side; thalweg evaluate on a file that nothing was chosen by is not."
        )
    return notes


def part_seen(epochs: float, examples: str) -> list[str]:
    """Return the sentence on a training that has not come to the end of its data once; none where it has.

    Args:
        epochs: passes over the training data, 0 or more.
        examples: what these are, in the plural: "training tokens".

    Example:
        >>> part_seen(0.4, "training tokens")[0]
        'Less than one epoch: training saw 40 % of the training tokens, each once.'
        >>> part_seen(1.0, "training tokens")
        []
    """
    if epochs >= 1.0:
        return []
    percent = min(99.0, float(f"{100 * epochs:.2g}"))
    return [f"Less than one epoch: training saw {percent:g} % of the {examples}, each once."]


def chosen_from(history: Sequence[Mapping[str, Any]], *, keeps_last: bool) -> int:
    """Return how many evaluations on the validation examples the kept weights were chosen from.

    Of the steps of a training that keeps its last weights none was chosen; but its model and penalty may have been.
    """
    tried = sum(entry["event"] == "selection" and entry["num_folds"] == 1 for entry in history)
    return tried if keeps_last else tried + sum(entry["event"] == "evaluation" for entry in history)
