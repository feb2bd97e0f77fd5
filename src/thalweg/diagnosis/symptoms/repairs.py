"""Repairs that several rules give, as changes to the recipe."""

from typing import Any, Final

from thalweg.diagnosis.finding import Repair
from thalweg.diagnosis.symptoms.evidence import Evidence

# What belongs to the choice of the optimizer; without them it is chosen and its rate is tried.
OF_THE_OPTIMIZER: Final = ("lr", "schedule", "schedule_options", "warmup", "optimizer_options", "line_search")


def automatic(why: str) -> Repair:
    """Leave optimizer, rate and schedule to thalweg, which tries the rate before it takes it."""
    options: dict[str, Any] = {"optimizer": "auto", **dict.fromkeys(OF_THE_OPTIMIZER)}
    return Repair(f"{why} --optimizer auto chooses a method and tries its rate before the training.", options)


def with_rate(evidence: Evidence, rate: float, why: str) -> Repair:
    """Give another learning rate."""
    del evidence
    rounded = float(f"{rate:.1e}")
    return Repair(f"{why} Set --lr {rounded:g}.", {"lr": rounded})


def options_of(sentence: str, **options: Any) -> Repair:
    """Give other options."""
    return Repair(sentence, options)


def action(name: str, sentence: str) -> Repair:
    """Change code or data."""
    return Repair(sentence, {}, name)
