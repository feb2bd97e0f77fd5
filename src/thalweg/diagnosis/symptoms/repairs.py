"""Repairs that several rules give, as changes to the recipe."""

from typing import Any, Final

from thalweg.diagnosis.finding import Repair
from thalweg.diagnosis.symptoms.evidence import Evidence
from thalweg.training.recipe.options import OPTIONS

# What belongs to the choice of the optimizer, and stands behind it in a recipe; without it the optimizer has its own.
_NAMES: Final = list(OPTIONS)
OF_THE_OPTIMIZER: Final = tuple(_NAMES[_NAMES.index("optimizer") + 1 : _NAMES.index("average")])


def usual(why: str) -> Repair:
    """Take AdamW at the model's usual rate, with warmup, a schedule that ends at zero, and clipping."""
    options: dict[str, Any] = {"optimizer": "adamw", "clip": 1.0, **dict.fromkeys(OF_THE_OPTIMIZER)}
    return Repair(f"{why} --optimizer adamw --clip 1, without --lr, takes the usual rate and schedule.", options)


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
