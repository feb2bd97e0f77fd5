"""What to say of a training while it is under way: the rules, asked of the entries so far, where it cannot wait."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from thalweg.diagnosis.catalog import KINDS
from thalweg.diagnosis.symptoms.rules import findings_of
from thalweg.diagnosis.trends import trends_of

# Findings that a history alone shows, and that more steps do not mend.
URGENT: Final = (
    *("non-finite", "precision-underflow", "learning-rate-too-high", "untrained-parameters", "exploding-gradient"),
    *("vanishing-gradient", "saturated-activations", "dead-units", "loss-spikes"),
)
FEWEST: Final = 40  # steps before a loss, or what never changed, says anything
AT_ONCE: Final = ("non-finite",)


def warnings_of(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return sentences about a training under way, by the name of their finding; none for one that goes well.

    Args:
        entries: as `history.jsonl` holds them, in order.

    Example:
        >>> said = warnings_of([{"event": "rejected", "step": 3, "reason": "the loss was NaN or infinite",
        ...     "where": "layers.0", "what": "output of the forward pass"}])
        >>> print(said["non-finite"][:87])
        Numbers that are not finite: 1 step had a loss or gradient that is not finite, first at
    """
    trends = trends_of(entries)
    told = AT_ONCE if trends["num_steps"] < FEWEST else URGENT
    return {
        one.name: f"{KINDS[one.name].title}: {one.evidence} {one.repair.sentence}"
        for one in findings_of({}, trends, {})
        if one.name in told
    }
