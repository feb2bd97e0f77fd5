"""An interval in words and as the plain data of a picture: your model on top, the bounds below it."""

import decimal
import math
from collections.abc import Iterator
from typing import Any

from thalweg.certificates.certificate.interval import Certificate, Interval, Proof
from thalweg.certificates.checker.statements import down

# What the levels are called for a reader.
NAMES = {
    "floor": "floor of the data",
    "norm_floor": "floor of bounded features",
    "head": "best head on these features",
    "linear": "best linear model",
    "factored": "best linear model, any width",
    "two_layer": "best two-layer network, any width",
    "threshold": "best network of thresholds",
    "separable": "errors of every output layer",
    "local": "neighborhood",
    "held_out": "new data",
}
# A bound that is no larger, as a fraction of the loss, says nothing; a gain that is no larger is none.
VACUOUS, NEXT_TO_NOTHING = 1e-12, 1e-3
# Relative gaps of an interval: above the first its parts are told as well, above the second no percentage is.
WIDE, WEAK = 0.5, 0.95
EXACT = decimal.Context(prec=400)  # holds the digits of every float64 with some decimals
# What can be done about a part of the model.
PROSPECTS = {
    "head": "Fitting the output layer again, on the features as they are,",
    "two_layer": "Training the last two layers again, on what comes to them now,",
    "local": "A step along a direction in which the loss falls",
}
REACHED = {
    "head": "polished head",
    "two_layer": "a better network",
    "local": "a step away",
    "linear": "a better linear model",
    "factored": "a better linear model",
}
MEANINGS = {
    Proof.PROOF: "Proved; `thalweg check` verifies it with numpy alone.",
    Proof.PROOF_WITH_TOLERANCE: "Proved up to the stated tolerance.",
    Proof.PROBABILISTIC: "Holds with the stated probability.",
    Proof.ESTIMATE: "An estimate, not a proof.",
}


def percent(fraction: float) -> str:
    """Return a fraction as a percentage, with the digits that matter; what is no more than rounding is 0."""
    if not math.isfinite(fraction):
        return "–"
    value = 100.0 * fraction if fraction > VACUOUS else 0.0
    if value >= 1000.0:
        return f"{value:,.0f}\u00a0%"
    return f"{value:.3g}\u00a0%"


def at_least(value: float | decimal.Decimal, places: int) -> str:
    """Return a number with some decimals, rounded down, so that a bound stays one; never 0 for what is above it."""
    exact = value if isinstance(value, decimal.Decimal) else decimal.Decimal(repr(float(value)))
    said = exact.quantize(decimal.Decimal(1).scaleb(-places), decimal.ROUND_FLOOR, EXACT)
    return down(float(exact), 2) if exact > 0 and not said else f"{said:,f}"


def at_most(value: float, places: int) -> str:
    """Return a number with some decimals, rounded up."""
    exact = decimal.Decimal(repr(float(value)))
    return f"{exact.quantize(decimal.Decimal(1).scaleb(-places), decimal.ROUND_CEILING, EXACT):,f}"


def digits(interval: Interval) -> int:
    """Return how many decimals tell the loss from the bound, between 4 and 8."""
    low = [value for value in (interval.loss - interval.bound, interval.loss - interval.best_reached) if value > 0.0]
    return places_for(min(low, default=1.0))


def places_for(difference: float) -> int:
    """Return how many decimals show a difference, between 4 and 8."""
    if not 0.0 < difference < math.inf:
        return 4
    return max(4, min(8, 2 - math.floor(math.log10(difference))))


def is_vacuous(level: Certificate | None) -> bool:
    """Whether a level says no more of a loss or of errors that are not 0 than that they are not negative."""
    return level is not None and level.name != "local" and level.bound <= VACUOUS * abs(level.loss) < level.loss


def says_nothing(level: Certificate) -> bool:
    """Whether a level has neither a bound above 0 nor found anything better than the point, so that no row shows it."""
    return is_vacuous(level) and level.reached is None and level.name != "separable"


def unlimited(interval: Interval) -> Certificate | None:
    """Return the floor that says that the data set no limit: an answer, though it has no row."""
    return next((level for level in interval.levels if level.name == "floor" and says_nothing(level)), None)


def bound_and_loss(level: Certificate, interval: Interval) -> tuple[str, str]:
    """Return both for a table: shares as percentages, counts without decimals; the bound is rounded down."""
    is_share = level.unit == "fraction of the targets" or level.name == "held_out"
    if level.unit == "1" and not is_share:  # a curvature, of any size
        least = f"{down(level.bound, 3)}" if level.bound > -math.inf else "nothing"
        return least, f"{level.loss:.3g}"
    places = max(digits(interval), places_for(level.gap))
    places = 2 if is_share else 0 if level.unit == "errors" else places
    factor, sign = (100, "\u00a0%") if is_share else (1, "")
    own = f"{factor * level.loss:,.{places}f}{sign}"  # the same in every row
    if level.bound == level.loss:
        return own, own
    if level.bound == -math.inf:
        return "nothing", own
    return f"{at_least(decimal.Decimal(repr(float(level.bound))) * factor, places)}{sign}", own


def sentence(interval: Interval) -> str:
    """Return the answer in a sentence or two."""
    places = digits(interval)
    unit = f" {interval.unit}" if interval.unit == "nats" else ""
    own = f"{interval.loss:.{places}f}{unit}"
    if interval.sample:
        return (
            f"Your model has a {interval.quantity} of about {own}, estimated from {interval.sample}; "
            "no bound is claimed, since there was no time for all of them."
        )
    if interval.best is None:
        return f"Your model has the {interval.quantity} {own}; no lower bound applies to the whole configuration."
    if is_vacuous(interval.best):
        return (
            f"Your model has the {interval.quantity} {own}. As far as can be proved, this network could memorize the "
            f"training data, so its best {interval.quantity} may be as low as 0."
        )
    least = at_least(interval.bound, places) if interval.gap > 0.0 else f"{interval.loss:.{places}f}"
    begin = f"The best possible {interval.quantity} is at least {least}{unit}"
    most = at_most(interval.best_reached, places)
    if decimal.Decimal(most.replace(",", "")) < decimal.Decimal(f"{interval.loss:.{places}f}"):
        begin += f" and at most {most}"  # where these digits show that it is lower
    begin += f", and your model has {_own(interval.loss, interval.gap, places)}"
    if interval.relative_gap <= VACUOUS:
        return f"{begin}: it is the best possible, up to float64 rounding."
    if interval.relative_gap > WEAK:  # a percentage would say no more than that nearly everything is open
        return f"{begin}."
    return f"{begin}: at most {percent(interval.relative_gap)} could still be gained."


def prospects(interval: Interval) -> list[str]:
    """Return what is known about parts of the model where little is known about the whole: what would lower the loss.

    The best first.
    """
    if interval.best is not None and not is_vacuous(interval.best) and interval.relative_gap <= WIDE:
        return []
    places = digits(interval)
    found: list[tuple[float, str]] = []
    for level in interval.levels:
        what = PROSPECTS.get(level.name)
        if what is None or level.whole or (level.quantity != interval.quantity and level.name != "local"):
            continue
        if level.evidence.get("regularizer") == "ball":
            what = f"{what} with a norm no larger than now,"
        reached = interval.loss if level.reached is None else level.reached
        if level.name == "local":
            if reached < interval.loss:
                found.append((reached, f"{what} lowers it from {interval.loss:.{places}f} to {reached:.{places}f}."))
        elif reached < interval.loss * (1.0 - NEXT_TO_NOTHING):
            found.append(
                (
                    reached,
                    f"{what} lowers it from {interval.loss:.{places}f} to {reached:.{places}f}, and cannot bring it "
                    f"below {at_least(level.bound, places)} (proved).",
                )
            )
        elif level.relative_gap <= NEXT_TO_NOTHING:
            found.append((reached, f"{what} can lower it by at most {percent(level.relative_gap)} (proved)."))
        elif level.bound > VACUOUS * abs(interval.loss):
            found.append((reached, f"{what} cannot bring it below {at_least(level.bound, places)} (proved)."))
        elif level.name == "head":
            found.append((reached, f"{what} might bring it to 0, as far as can be proved."))
    return [said for _, said in sorted(found, key=lambda pair: pair[0])]


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
    text = [sentence(interval), *prospects(interval)]
    if interval.best is not None and not is_vacuous(interval.best):
        text += [interval.scope, MEANINGS[interval.proof]]
    free = unlimited(interval)
    text += [] if free is None else [free.scope]
    text += interval.notes
    text += left_out(interval)
    unit = interval.unit if interval.unit == interval.quantity else f"{interval.quantity} ({interval.unit})"
    return {
        "kind": "ladder",
        "title": "How far from the best?",
        "text": " ".join(_ended(part) for part in text),
        "rungs": rungs(interval),
        "low": interval.bound if math.isfinite(interval.bound) else None,
        "high": interval.best_reached,
        "x_label": unit,
        "columns": ["level", "at least", "you have", "gap", "proof", "what it says"],
        "rows": [
            [
                name_of(level, interval),
                *bound_and_loss(level, interval),
                gap_of(level),
                kind_of(level),
                " ".join(_says(level)),
            ]
            for level in interval.levels
            if not says_nothing(level)
        ],
    }


def kind_of(level: Certificate) -> str:
    """Return the kind of proof, with the chance of being wrong where there is one."""
    if level.probability is None:
        return level.proof.value
    return f"{level.proof.value} (false with a chance of at most {level.probability:g})"


def name_of(level: Certificate, interval: Interval) -> str:
    """Return what a level is called in a table, with its quantity where that is not the interval's."""
    name = NAMES.get(level.name, level.name)
    if level.quantity == interval.quantity or level.name == "separable":
        return name
    if level.upper is not None:
        return f"{level.quantity} (at most {100.0 * level.upper:.2f}\u00a0%)"
    return level.quantity if name in level.quantity else f"{level.quantity} ({name})"


def gap_of(level: Certificate) -> str:
    """Return the gap of a level as a percentage, where that means something."""
    return "–" if level.unit == "1" or is_vacuous(level) else percent(level.relative_gap)


def left_out(interval: Interval) -> list[str]:
    """Return sentences about the levels that are not there, those with one reason together."""
    reasons: dict[str, list[str]] = {}
    for name, reason in interval.left_out.items():
        reasons.setdefault(reason, []).append(NAMES.get(name, name))
    return [f"Left out: {', '.join(names)}. {reason}" for reason, names in reasons.items()]


def _says(level: Certificate) -> Iterator[str]:
    yield level.scope
    if level.reached is not None and level.reached < level.loss and level.unit != "1":
        yield f"A {level.quantity} of {level.reached:.6g} was reached."
    yield from level.assumptions


def _own(value: float, gap: float, places: int) -> str:
    """Return a loss with some decimals; where they do not show its gap it is rounded as the bound beside it."""
    return at_least(value, places) if 0.0 < gap < 10.0**-places else f"{value:,.{places}f}"


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
