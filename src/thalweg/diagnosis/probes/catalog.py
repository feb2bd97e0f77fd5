"""Every probe: what it measures, what it costs, and the order in which they run."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from thalweg.diagnosis.subject import Subject


@final
@dataclasses.dataclass(frozen=True)
class Probe:
    """A measurement.

    Args:
        path: import path `module:function` of a function from a subject to plain values (numbers, strings, lists and
            dictionaries of them; never a tensor). An empty dictionary says that it does not apply.
        measures: what, in a few words, for the line that says what is being done.
        cost: what it takes, in gradients of the subject's training batches.
    """

    path: str
    measures: str
    cost: Callable[[Subject], float]


def _probe(place: str, measures: str, cost: Callable[[Subject], float] | float) -> Probe:
    return Probe(f"thalweg.diagnosis.probes.{place}", measures, cost if callable(cost) else lambda _: cost)


PROBES: Final[Mapping[str, Probe]] = {
    "gradients": _probe("gradients:gradients", "gradients by layer, and their noise", 1.5),
    "memory": _probe("recurrence:memory", "how far back recurrent states remember", 1.0),
    "representations": _probe("representations:representations", "hidden states and token vectors", 0.5),
    "attention": _probe("attention:attention", "where attention looks", 0.3),
    "modes": _probe("consistency:modes", "evaluation against training mode", 1.7),
    "padding": _probe("consistency:padding", "whether padding or later tokens leak in", 1.0),
    "inputs": _probe("inputs:inputs", "scales and variety of the inputs", 0.7),
    "weights": _probe("weights:weights", "how far the weights have moved", 0.4),
    "labels": _probe("labels:labels", "doubtful labels", 2.0),
    "order": _probe("inputs:order", "whether the training data are shuffled", 0.0),
}


def measured(subject: Subject, name: str) -> dict[str, Any]:
    """Run one probe."""
    from thalweg.names import load

    return load(PROBES[name].path)(subject)
