"""The verb: everything is measured within a time, the rules read it, and the findings come out, the worst first."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from thalweg.diagnosis.finding import Diagnosis
from thalweg.diagnosis.fitting import fitted
from thalweg.diagnosis.loops.words import in_pytorch
from thalweg.diagnosis.of_objective import subject_of_objective
from thalweg.diagnosis.of_run import subject_of_run
from thalweg.diagnosis.probes.catalog import PROBES, measured
from thalweg.diagnosis.subject import Subject
from thalweg.diagnosis.symptoms.rules import findings_of
from thalweg.diagnosis.trends import trends_of
from thalweg.errors import InputError
from thalweg.objective import Objective
from thalweg.training.folder.run import Run
from thalweg.training.recipe.recipe import Options

SECONDS: Final = 30.0
# What somebody's model may raise where it refuses to be called.
_REFUSALS: Final = (
    *(RuntimeError, ValueError, NotImplementedError, TypeError),
    *(IndexError, KeyError, AttributeError, AssertionError),
)

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


def diagnose(
    what: Run | Objective | Subject | str | Path,
    *,
    seconds: float = SECONDS,
    say: Say = lambda sentence: None,  # noqa: ARG005
    progress: Progress = lambda name, number, total: None,  # noqa: ARG005
) -> Diagnosis:
    """Return what is wrong with a training, with the evidence and the repair.

    Args:
        what: a run or its folder, whose data are read again; or an objective on some training batches, whose networks
            are looked at as they are (without a history, what only the way there can tell is not found).
        seconds: for the probes, above 0. What would not fit is left out and named.
        say: takes sentences about what is being done, and what it costs, before it begins.
        progress: takes the name of each probe before it runs, its number and how many there are.

    Returns:
        The diagnosis; no findings where nothing is wrong.

    Raises:
        InputError: if a run has no weights, its data have changed, or `seconds` is not positive.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> _ = torch.nn.init.constant_(model[0].bias, -100.0)  # no unit is ever active
        >>> x, y = torch.randn(64, 4), torch.arange(64) % 2
        >>> found = diagnose(Objective(model, torch.nn.CrossEntropyLoss(), x, y))
        >>> found.findings[0].name
        'dead-units'
    """
    if not seconds > 0.0:
        raise InputError(f"diagnose(seconds=...) must be above 0; got {seconds!r}.")
    if isinstance(what, Subject):
        subject = what
    elif isinstance(what, Objective):
        subject = subject_of_objective(what)
    else:
        run = what if isinstance(what, Run) else Run(what)
        say("Rereading the training data.")
        subject = subject_of_run(run)
    return diagnose_subject(subject, seconds=seconds, say=say, progress=progress)


def diagnose_subject(
    subject: Subject,
    *,
    seconds: float = SECONDS,
    say: Say = lambda sentence: None,  # noqa: ARG005
    progress: Progress = lambda name, number, total: None,  # noqa: ARG005
) -> Diagnosis:
    """Return what `diagnose` does, of a subject."""
    begin = time.perf_counter()
    trends = trends_of(subject.history, subject.facts.steps_per_epoch)
    probes, skipped = measure(subject, seconds=seconds, say=say, progress=progress)
    facts = plain(dataclasses.asdict(subject.facts) | {"data": known(subject)})
    findings = findings_of(facts, trends, probes)
    if subject.facts.options:
        recipe = Options(subject.facts.options)
        findings = [fitted(finding, recipe) for finding in findings]
    else:
        findings = [in_pytorch(finding) for finding in findings]
    return Diagnosis(
        findings, facts, probes, plain(trends), {**subject.left_out, **skipped}, time.perf_counter() - begin
    )


def measure(
    subject: Subject,
    *,
    seconds: float = SECONDS,
    without: Collection[str] = (),
    say: Say = lambda sentence: None,  # noqa: ARG005
    progress: Progress = lambda name, number, total: None,  # noqa: ARG005
) -> tuple[dict[str, Any], dict[str, str]]:
    """Run the probes, but for those `without`, within a time; return what they measured, and why some could not."""
    probes: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    if not subject.train:
        return probes, {"all": "there are no training batches"}
    begin = time.perf_counter()
    gradient = _seconds_of_a_gradient(subject)
    costs = {name: probe.cost(subject) * gradient for name, probe in PROBES.items() if name not in without}
    say(f"Diagnosing: {len(costs)} probes, about {sum(costs.values()):.0f} s.")
    for number, name in enumerate(costs):
        left = seconds - (time.perf_counter() - begin)
        if costs[name] > left:
            skipped[name] = f"it takes about {costs[name]:.0f} s, and {max(left, 0.0):.0f} s are left"
            continue
        progress(name, number, len(costs))
        try:
            probes[name] = plain(measured(subject, name))
        except _REFUSALS as error:
            # A user's model may refuse anything; the other probes go on.
            skipped[name] = " ".join(str(error).split())[:300] or type(error).__name__
    return {name: found for name, found in probes.items() if found}, skipped


def _seconds_of_a_gradient(subject: Subject) -> float:
    from thalweg.diagnosis.probes.untouched import untouched

    taken = []
    with untouched(subject):
        for batch in subject.train[:2]:
            begin = time.perf_counter()
            try:
                subject.objective([batch])()
            except _REFUSALS:
                return 0.0
            taken.append(time.perf_counter() - begin)
    return min(taken) * len(subject.train)


def known(subject: Subject) -> dict[str, Any]:
    """Return what is known of the data as plain values."""
    data = subject.data
    return {
        "label_names": list(data.label_names),
        "valid_in_train": data.valid_in_train,
        "duplicates": data.duplicates,
        "conflicts": data.conflicts,
        "columns": [dict(column) for column in data.columns],
    }


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: numbers that are not finite become None, tuples lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return json.loads(json.dumps(value, default=str))
