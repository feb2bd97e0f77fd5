"""Every probe: what it measures, what it costs, and the order in which they run."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from thalweg.diagnosis.probes.parts import token_names
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


def _texts(of_texts: float, of_others: float) -> Callable[[Subject], float]:
    """Of texts fewer examples are looked at, without the padding that they do not need."""
    return lambda subject: of_texts if token_names(subject.train[0]) else of_others


PROBES: Final[Mapping[str, Probe]] = {
    "gradients": _probe("gradients:gradients", "gradients by layer, and their noise", _texts(0.3, 3.0)),
    "start": _probe("network.start:start", "the networks before their first step", _texts(0.2, 2.0)),
    "weights": _probe("weights:weights", "how far the weights have moved", 0.4),
    "rate": _probe("steps:rate", "how long a step may be", _texts(0.5, 6.0)),
    "modes": _probe("consistency:modes", "evaluation against training mode", _texts(0.2, 1.0)),
    "padding": _probe("consistency:padding", "whether padding or later tokens leak in", 0.3),
    "inputs": _probe("inputs:inputs", "scales and variety of the inputs", 0.4),
    "order": _probe("inputs:order", "whether the training data are shuffled", 0.1),
    "predictions": _probe("answers:predictions", "which classes are predicted", 0.2),
    "activations": _probe("network.activations:activations", "activations and what returns to them", _texts(0.2, 1.0)),
    "representations": _probe("network.representations:representations", "hidden states and token vectors", 0.3),
    "attention": _probe("network.attention:attention", "where attention looks", 0.1),
    "memory": _probe("network.recurrence:memory", "how far back recurrent states remember", 0.1),
    "labels": _probe("labels:labels", "doubtful labels", 2.0),
    "capacity": _probe("answers:capacity", "what a better output layer would reach", _texts(0.3, 20.0)),
    "precision": _probe("steps:precision", "whether the numbers are precise enough", _texts(0.2, 1.0)),
    "examples": _probe("answers:examples", "the loss by example", _texts(0.2, 4.0)),
    "spectrum": _probe("spectrum:spectrum", "the Hessian: both ends, trace and density", _texts(1.5, 30.0)),
}


def measured(subject: Subject, name: str) -> dict[str, Any]:
    """Run one probe."""
    from thalweg.names import load

    return load(PROBES[name].path)(subject)
