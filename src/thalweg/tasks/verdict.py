"""The sentence that a person repeats about a model: its main figure, how sure it is, and what it has to beat."""

import dataclasses
from collections.abc import Mapping
from typing import final

from thalweg.data.arrays.batches import Examples


@final
@dataclasses.dataclass(frozen=True)
class Seen:
    """What a verdict needs besides the metrics of an evaluation.

    Args:
        num_examples: how many examples they were measured on.
        intervals: their 95 % intervals, by metric.
        baselines: what always giving the most frequent answer scores, by metric.
        examples: those they were measured on; None: they are not at hand.
        num_written: how many examples those metrics were measured on for which texts are written.
    """

    num_examples: int = 0
    intervals: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    baselines: Mapping[str, float] = dataclasses.field(default_factory=dict)
    examples: Examples | None = None
    num_written: int = 0


def short(value: float) -> str:
    """Return a figure with the digits that a person repeats.

    Example:
        >>> short(0.91714), short(27.318), short(1234.5)
        ('0.917', '27.32', '1,234')
    """
    return f"{value:.3f}" if abs(value) < 10.0 else f"{value:.4g}" if abs(value) < 1000.0 else f"{value:,.0f}"


def main_figure(metrics: Mapping[str, float], name: str, seen: Seen, unit: str, words: str = "") -> str:
    """Return a metric (called `words`; by default its name) with its interval and what it was measured on.

    Example:
        >>> main_figure({"macro_f1": 0.8985}, "macro_f1", Seen(362, {"macro_f1": (0.8565, 0.931)}), "texts", "macro F1")
        'macro F1 0.898, 95 % interval 0.857-0.931 on 362 texts'
    """
    said = f"{words or name.replace('_', ' ')} {short(metrics[name])}"
    if name in seen.intervals:
        low, high = map(short, seen.intervals[name])
        said += f", 95 % interval {low}{'-' if float(seen.intervals[name][0]) >= 0.0 else ' to '}{high}"
    one = {"chunks of text": "chunk of text"}.get(unit, unit.removesuffix("s"))
    return f"{said} on {seen.num_examples:,} {unit if seen.num_examples != 1 else one}" if seen.num_examples else said
