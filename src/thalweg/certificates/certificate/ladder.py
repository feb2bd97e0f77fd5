"""An interval in words and as the plain data of a picture: your model on top, the bounds below it."""

import math
from collections.abc import Iterator
from typing import Any

from thalweg.certificates.certificate.interval import Certificate, Interval, Proof

# What the levels are called for a reader.
NAMES = {
    "floor": "floor of the data",
    "norm_floor": "floor of bounded features",
    "head": "best head on these features",
    "factored": "best linear model, any width",
    "two_layer": "best two-layer network, any width",
    "threshold": "best network of thresholds",
    "separable": "best halfspace",
    "local": "neighborhood",
}
REACHED = {
    "head": "polished head",
    "two_layer": "a better network",
    "local": "a step away",
    "factored": "a better linear model",
}
MEANINGS = {
    Proof.PROOF: "Proved; `thalweg check` verifies it with numpy alone.",
    Proof.PROOF_WITH_TOLERANCE: "Proved up to the stated tolerance.",
    Proof.PROBABILISTIC: "Holds with the stated probability, over random numbers drawn by thalweg.",
    Proof.ESTIMATE: "An estimate, not a proof.",
}


def percent(fraction: float) -> str:
    """Return a fraction as a percentage, with the digits that matter."""
    if not math.isfinite(fraction):
        return "–"
    value = 100.0 * fraction
    if value >= 1000.0:
        return f"{value:,.0f}\u00a0%"
    return f"{value:.3g}\u00a0%"


def digits(interval: Interval) -> int:
    """Return how many decimals tell the loss from the bound, between 4 and 8."""
    low = [value for value in (interval.loss - interval.bound, interval.loss - interval.best_reached) if value > 0.0]
    smallest = min((value for value in low if math.isfinite(value)), default=1.0)
    return max(4, min(8, 2 - math.floor(math.log10(smallest))))


def sentence(interval: Interval) -> str:
    """Return the answer in a sentence or two."""
    places = digits(interval)
    unit = f" {interval.unit}" if interval.unit == "nats" else ""
    if interval.best is None:
        return f"Your model has the {interval.quantity} {interval.loss:.{places}f}{unit}; no lower bound applies."
    begin = f"The best possible {interval.quantity} is at least {interval.bound:.{places}f}{unit}"
    if interval.best_reached < interval.loss:
        begin += f" and at most {interval.best_reached:.{places}f}"
    begin += f", and your model has {interval.loss:.{places}f}"
    if interval.gap == 0.0:
        return f"{begin}: it is the best possible, up to float64 rounding."
    return f"{begin}: at most {percent(interval.relative_gap)} could still be gained."


def rungs(interval: Interval) -> list[dict[str, Any]]:
    """Return the rungs of the ladder, the highest value first."""
    found = [{"name": "your model", "value": interval.loss, "kind": "model"}]
    for level in interval.levels:
        name = NAMES.get(level.name, level.name)
        if level.reached is not None and level.reached < interval.loss:
            found.append(
                {"name": REACHED.get(level.name, f"{name}: reached"), "value": level.reached, "kind": "reached"}
            )
        if level.quantity == interval.quantity and math.isfinite(level.bound):
            found.append({"name": name, "value": level.bound, "kind": "bound" if level.whole else "partial"})
    return sorted(found, key=lambda rung: -rung["value"])


def ladder_section(interval: Interval) -> dict[str, Any]:
    """Return the report's section about an interval, as plain data."""
    text = [sentence(interval)]
    if interval.best is not None:
        text += [interval.scope, MEANINGS[interval.proof]]
    text += interval.notes
    text += [f"Left out: {NAMES.get(name, name)}. {reason}" for name, reason in interval.left_out.items()]
    unit = interval.unit if interval.unit == interval.quantity else f"{interval.quantity} ({interval.unit})"
    return {
        "kind": "ladder",
        "title": "How far from the best?",
        "text": " ".join(_ended(part) for part in text),
        "rungs": rungs(interval),
        "low": interval.bound if math.isfinite(interval.bound) else None,
        "high": interval.best_reached,
        "x_label": unit,
        "columns": ["level", "at least", "gap", "proof", "what it says"],
        "rows": [
            [NAMES.get(level.name, level.name), level.bound, _gap(level), kind_of(level), " ".join(_says(level))]
            for level in interval.levels
        ],
    }


def kind_of(level: Certificate) -> str:
    """Return the kind of proof, with the chance where there is one."""
    return level.proof.value if level.probability is None else f"{level.proof.value} ({level.probability:.0e})"


def _gap(level: Certificate) -> str:
    return percent(level.relative_gap) if level.unit != "1" else "–"


def _says(level: Certificate) -> Iterator[str]:
    yield level.scope
    if level.reached is not None and level.reached < level.loss and level.unit != "1":
        yield f"A {level.quantity} of {level.reached:.6g} was reached."
    yield from level.assumptions


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
