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


PROBES: Final[Mapping[str, Probe]] = {}


def measured(subject: Subject, name: str) -> dict[str, Any]:
    """Run one probe."""
    from thalweg.names import load

    return load(PROBES[name].path)(subject)
