"""What to say of a training while it is under way, from the entries so far: only what cannot wait for its end."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

DEAD: Final = 1.0  # share of a layer's units: all of them
VANISHED: Final = 1e-6  # gradient that comes back to the first operation, of that at the last
RISEN: Final = 1.5  # the loss, in parts of what it was at the start
FEWEST: Final = 20  # steps on either side before a loss is compared


def warnings_of(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return sentences about a training under way, for its entries so far; none for one that goes well.

    Equal troubles give equal sentences, so that each can be said once.

    Args:
        entries: as `history.jsonl` holds them, in order.

    Example:
        >>> warnings_of([{"event": "rejected", "step": 3, "reason": "the loss was NaN or infinite",
        ...     "where": "layers.0", "what": "output of the forward pass"}])
        ['Steps are not finite: the first NaN or infinite number is in the output of the forward pass of layers.0.']
    """
    steps = [entry for entry in entries if entry.get("event") == "step"]
    sites = next((entry["sites"] for entry in reversed(steps) if entry.get("sites")), [])
    return [*_not_finite(entries), *_risen(steps), *_dead(sites), *_vanished(sites)]


def _not_finite(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    bad = [entry for entry in entries if entry.get("event") in {"rejected", "step"} and entry.get("where")]
    if not bad:
        return []
    first = bad[0]
    return [f"Steps are not finite: the first NaN or infinite number is in the {first['what']} of {first['where']}."]


def _risen(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    losses = [entry["loss"] for entry in steps if isinstance(entry.get("loss"), float)]
    if len(losses) < 2 * FEWEST:
        return []
    before, now = statistics.median(losses[:3]), statistics.median(losses[-FEWEST:])
    if now <= RISEN * before or before <= 0.0:
        return []
    return ["The training loss is above where it started: the learning rate may be too high."]


def _dead(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    dead = [site["name"] for site in sites if (site.get("dead") or 0.0) >= DEAD]
    return [f"All units of {name} are zero on the whole batch (dead ReLUs): nothing before it learns." for name in dead]


def _vanished(sites: Sequence[Mapping[str, Any]]) -> list[str]:
    flows = [flow for site in sites if (flow := site.get("flow")) is not None]
    if len(flows) < 2 or not flows[-1] > 0.0 or flows[0] > VANISHED * flows[-1]:
        return []
    first = next(site["name"] for site in sites if site.get("flow") is not None)
    return [f"The gradient vanishes on its way back: next to none of it reaches {first}."]
