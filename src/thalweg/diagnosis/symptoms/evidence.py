"""What rules read: facts, trends and probes as plain values, asked by name, with None for what is not known."""

import dataclasses
from collections.abc import Mapping
from typing import Any, final

from thalweg.diagnosis.symptoms.entries import known_number
from thalweg.diagnosis.symptoms.limits import limit


@final
@dataclasses.dataclass(frozen=True)
class Evidence:
    """Plain values by name.

    Args:
        facts: see `subject.Facts`; under "data" what is known of the data.
        trends: see `trends.trends_of`.
        probes: by the probe's name, see `probes.catalog`.
    """

    facts: Mapping[str, Any]
    trends: Mapping[str, Any]
    probes: Mapping[str, Any]

    def fact(self, name: str) -> Any:
        """Return a fact."""
        return self.facts.get(name)

    def trend(self, name: str, default: float | None = None) -> float | None:
        """Return a number of the history."""
        return _number(self.trends.get(name), default)

    def table(self, name: str) -> dict[str, float]:
        """Return numbers of the history by layer or site."""
        return _numbers(self.trends.get(name))

    def depth(self, when: str, name: str) -> float | None:
        """Return a figure of activations by depth, at the "start" or at the "end": of the history, else of probes."""
        found = self.trends.get(f"sites_{when}") or {}
        value = _number(found.get(name))
        return value if value is not None else self.probe("start" if when == "start" else "activations", name)

    def probe(self, probe: str, name: str, default: float | None = None) -> float | None:
        """Return a number that a probe measured."""
        return _number((self.probes.get(probe) or {}).get(name), default)

    def found(self, probe: str, name: str) -> Any:
        """Return anything else that a probe measured; None where it did not."""
        return (self.probes.get(probe) or {}).get(name)

    def numbers(self, probe: str, name: str) -> dict[str, float]:
        """Return numbers that a probe measured by layer or site."""
        return _numbers(self.found(probe, name))

    def data(self, name: str) -> Any:
        """Return what is known of the data."""
        return (self.facts.get("data") or {}).get(name)

    @property
    def has_steps(self) -> bool:
        """Whether there is a history of steps."""
        return (self.trend("num_steps", 0.0) or 0.0) > 0

    @property
    def train_loss(self) -> float | None:
        """The training loss of the weights as they are, without dropout where that was measured."""
        measured = self.probe("capacity", "train_loss")
        return measured if measured is not None else self.trend("loss_end")

    @property
    def has_learned(self) -> bool:
        """Whether half of the loss that it began with, or that a guess has, is gone.

        What gates, heads and units are like at the end is then what the training has made of them, and no fault.
        """
        chance = self.chance if self.fact("num_classes") else None
        known = [loss for loss in (self.trend("loss_start"), chance) if loss is not None]
        end = self.train_loss
        return bool(known) and end is not None and 0.0 <= end <= limit("learned") * min(known)

    @property
    def chance(self) -> float | None:
        """The loss of always giving the classes' frequencies, in nats; None where the answer is no class."""
        return self.probe("predictions", "label_entropy")


def _number(value: Any, default: float | None = None) -> float | None:
    known = known_number(value)
    return default if known is None else known


def _numbers(found: Any) -> dict[str, float]:
    entries = found.items() if isinstance(found, Mapping) else ()
    return {str(name): value for name, entry in entries if (value := _number(entry)) is not None}
