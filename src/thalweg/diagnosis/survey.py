"""The loss around a run's weights, with the way that training took, and on the line to another run."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from thalweg.diagnosis.slices import between, eigenvectors, landscape
from thalweg.diagnosis.subject import Subject
from thalweg.errors import InputError
from thalweg.objective import Objective
from thalweg.training.folder import checkpoint
from thalweg.training.folder.run import Run
from thalweg.training.integrity.checkpoint_names import CHECKPOINTS
from thalweg.training.integrity.run_files import CERTIFICATE, DATA, DIAGNOSIS, METRICS, SELECTION

POINTS: Final = (21, 17, 13, 9, 7)  # along each direction: as many as the time allows
SECONDS: Final = 40.0  # for all losses around the weights
POINTS_BETWEEN: Final = 21
SPAN_OF_A_PATH: Final = 1.25  # so that the farthest weights are well inside
START: Final = "start"  # name of the weights before the first step

Say = Callable[[str], None]


def survey(
    subject: Subject,
    path: Mapping[str, Sequence[Tensor]] | None = None,
    say: Say = lambda sentence: None,  # noqa: ARG005
) -> dict[str, Any]:
    """Return the loss on a plane and on lines through a subject's weights, as plain values.

    The plane is spanned by the two principal components of the path where it has as many, else by random directions,
    scaled filter by filter; lines go along the gradient and the eigenvectors of the largest and the smallest curvature.

    Args:
        subject: its first training batch gives the loss.
        path: other weights by name, in the order in which training passed them (see `path_of`).
        say: takes sentences about what is being done.

    Returns:
        `plane` and `lines` (see `Landscape.to_json`), and `skipped`: lines that could not be drawn, with the reason.
    """
    objective = subject.objective(subject.train[:1])
    path = path or {}
    found: dict[str, Any] = {"plane": None, "lines": [], "skipped": {}}
    begin = time.perf_counter()
    objective.value()
    each = time.perf_counter() - begin
    points = next((points for points in POINTS if points * (points + 3) * each <= SECONDS), POINTS[-1])
    number = points * (points + 3)
    say(f"Measuring the loss at {number} places around the weights, about {max(1.0, number * each):.0f} s.")
    for directions in (("path", "path-2"), ("path", "random"), ("random", "random")):
        span = SPAN_OF_A_PATH if "path" in directions else 1.0
        try:
            plane = landscape(objective, directions, span=span, points=points, path=path)
        except InputError:
            continue  # the path has not so many dimensions
        found["plane"] = plane.to_json()
        break
    ends = None
    for direction in ("gradient", "largest", "smallest"):
        try:
            ends = eigenvectors(objective) if ends is None and direction != "gradient" else ends
            found["lines"].append(landscape(objective, [direction], points=points, ends=ends).to_json())
        except (InputError, RuntimeError) as error:  # a CurvatureError is one
            found["skipped"][direction] = " ".join(str(error).split())
    return found


def path_of(run: Run, subject: Subject) -> dict[str, list[Tensor]]:
    """Return the weights that are known from a run's way: before the first step, and its checkpoints.

    Those that are of another form or cannot be read are left out.
    """
    objective = subject.objective()
    found = {}
    if subject.initial is not None:
        model, head = subject.initial()
        weights = Objective(model, head, subject.train).parameters
        if _fit(weights, objective.parameters):
            found[START] = [tensor.detach() for tensor in weights]
    folder = run.folder / CHECKPOINTS
    for place in sorted(folder.glob("step-*")) if folder.is_dir() else ():
        try:
            state = checkpoint.load(place)
            weights = _weights_of(objective, state)
        except (InputError, KeyError, TypeError, ValueError):
            continue
        if _fit(weights, objective.parameters):
            found[f"step {state['step']:,}"] = weights
    return found


def line_to(run: Run, subject: Subject, other: Run | str | Path) -> dict[str, Any]:
    """Return the loss on the line from a run's weights to those of another run, as plain values with its name.

    An InputError tells of runs whose networks, vocabularies or labels differ.
    """
    second = other if isinstance(other, Run) else Run(other)
    second.require_weights()
    mine, theirs = (_read_by(one) for one in (run, second))
    if mine != theirs:
        name = sorted({*mine.items()} ^ {*theirs.items()})[0][0]
        raise InputError(
            f"{run.folder} and {second.folder} read their data differently ({name} differs), so their weights do not "
            "mean the same. Compare runs of the same data and settings."
        )
    objective = subject.objective(subject.train[:1])
    model, head = second.measured
    found = between(objective, Objective(model, head, subject.train[:1]), points=POINTS_BETWEEN)
    return {"other": str(second.folder), **found.to_json()}


def _read_by(run: Run) -> dict[str, str]:
    """Return the checksums of the files by which a run turns text into ids and ids into answers."""
    sums = run.ledger.sums
    return {name: one.sha256 for name, one in sums.items() if name.endswith(".json") and name not in _OWN}


_OWN: Final = frozenset((DATA, SELECTION, METRICS, CERTIFICATE, DIAGNOSIS))


def _weights_of(objective: Objective, state: Mapping[str, Any]) -> list[Tensor]:
    """Return the weights in a checkpoint, in the order of an objective's parameters."""
    names: dict[int, tuple[str, str]] = {}
    parts: dict[str, nn.Module] = {"model": objective.model, "head": objective.head}
    for part, network in parts.items():
        for name, tensor in network.named_parameters():
            names.setdefault(id(tensor), (part, name))
    places = [names[id(tensor)] for tensor in objective.parameters]
    weights = [state[part][name] for part, name in places]
    return [tensor.to(own.device, own.dtype) for tensor, own in zip(weights, objective.parameters, strict=True)]


def _fit(weights: Sequence[Tensor], own: Sequence[Tensor]) -> bool:
    return [tensor.shape for tensor in weights] == [tensor.shape for tensor in own]
