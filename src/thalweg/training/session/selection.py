"""Before a training to a proved optimum: validation examples choose its penalty, and which model it is of."""

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, final

import numpy as np
import torch
from torch import Tensor

from thalweg import distributed, names
from thalweg.batch import Batch
from thalweg.certificates.path_point import PathPoint
from thalweg.certificates.problems import follow
from thalweg.data.arrays.batches import KEYS, Examples
from thalweg.data.arrays.split import splitmix64
from thalweg.errors import counted
from thalweg.objective import Objective
from thalweg.status import Status
from thalweg.tasks.base import AbstractTask
from thalweg.training.folder import build
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.session import sizing
from thalweg.training.session.penalties import Judged, Path, choose
from thalweg.training.session.session import FOLDS, Session
from thalweg.training.steps.evaluate import loss_by_example
from thalweg.training.steps.signals import Signals

FEW: Final = 200  # validation examples, below which cross-validation of the training examples chooses

Entry = dict[str, Any]
Fold = tuple[list[Batch], Examples]  # what is trained on, and what is judged on


class Clock(Protocol):
    """What tells how long a run has taken."""

    def elapsed(self) -> float:
        """Return the seconds so far."""
        ...


@final
class Part:
    """A candidate on a part of the data, solved for one penalty after the other, and judged on other examples."""

    def __init__(self, recipe: Recipe, task: AbstractTask, batches: Sequence[Batch], judged: Examples) -> None:
        self.task, self.batches, self.judged = task, list(batches), judged
        device = batches[0].targets.device
        self.model, self.head = build.build_networks(recipe, task, fresh=False)
        self.model.to(device)
        self.head.to(device)

    def count(self) -> float:
        """Return what the training loss is divided by."""
        objective = Objective(self.model, self.head, self.batches)
        with torch.no_grad():
            return float(sum(objective.sum_and_count(batch)[1] for batch in self.batches))

    def follow(self, penalties: Iterable[float]) -> Iterator[PathPoint]:
        """Yield the optima under one penalty after the other, each put into the networks."""
        return follow(Objective(self.model, self.head, self.batches, l2=1.0), penalties)

    def answers(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return loss and count of each judged example, `[examples, 2]`, and which are right (None: none can be)."""
        prediction, targets = self.task.predictions(self.model, self.head, self.judged)
        device = self.batches[0].targets.device
        _, _, each = loss_by_example(self.head, prediction.to(device), Batch({}, targets.to(device)), True)
        hard = targets.ndim == 1 and not targets.is_floating_point()
        return each, (prediction.argmax(-1) == targets).numpy() if hard else None

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights."""
        return {name: tensor.clone() for name, tensor in build.get_weights(self.model, self.head).items()}


def select(
    session: Session, add: Callable[[Entry], Entry], flush: Callable[[], object], signals: Signals, clock: Clock
) -> Generator[Entry, None, Status | None]:
    """Try models and penalties, yielding an entry for each; then the session goes on with what was chosen.

    Where it is interrupted it returns that, and the next start begins here again.
    """
    tried, left_out = candidates(session.run.recipe, session.task)
    folds = _folds(session)
    points: list[Judged] = []
    kept: tuple[Judged, dict[str, Tensor]] | None = None  # the best so far, and its weights
    for name in tried:
        recipe = sizing.for_candidate(session.run.recipe, name, session.task)
        parts = [Part(recipe, session.task, *fold) for fold in folds]
        count, path = parts[0].count(), Path()
        penalties = itertools.tee(_penalties(recipe, path, count), len(parts))
        solved = [part.follow(asked) for part, asked in zip(parts, penalties, strict=True)]
        for found in zip(*solved, strict=False):
            l2, gap = found[0].l2, max(point.gap for point in found)
            session.keep_folder()
            points.append(_judged(name, l2, parts))
            path.take(points[-1])
            improved = points[choose(points)] is points[-1]
            if improved:
                kept = points[-1], parts[0].weights()
            seconds = clock.elapsed()
            yield add(_entry(points[-1], gap, seconds, improved, len(parts)))
            signals.take(int(distributed.most([float(signals.received or 0)])[0]))
            if signals.received is not None:
                return Status.INTERRUPTED
            if session.fast or 0.0 < session.run.recipe.training.time <= seconds:
                break
    chosen = points[choose(points)]
    recipe = sizing.for_candidate(session.run.recipe, chosen.model, session.task).with_(l2=chosen.l2)
    if kept is None or kept[0] is not chosen or len(folds) > 1:
        part = Part(recipe, session.task, session.feed(0), session.prepared.valid)
        next(part.follow([chosen.l2]))
        kept = chosen, part.weights()
    flush()  # what is chosen is never on the disk without what it was chosen from
    session.adopt(recipe, kept[1], _record(points, chosen, left_out, len(folds)))
    return None


def sentences(record: Mapping[str, Any], num_train: int, num_valid: int, *, refitted: bool) -> list[str]:
    """Return what a person has to know of a selection: what was chosen by what, and what the figures are of."""
    points, chosen = record["points"], f"--model {record['model']} --l2 {record['l2']:g}"
    said = []
    if len(points) > 1:
        tried = f"{counted(len(points), 'trial')}"
        said.append(f"Chosen by {record['judged_on']} from {tried}: {chosen}.")
    said += [f"--model {name} was not tried: {reason}." for name, reason in record["left_out"].items()]
    if refitted and num_valid:
        said.append(
            f"All figures are of this model trained on {counted(num_train, 'example')}; then it was trained "
            f"on the {counted(num_valid, 'validation example')}, too (--no-refit leaves them out)."
        )
    return said


def candidates(recipe: Recipe, task: AbstractTask) -> tuple[list[str], dict[str, str]]:
    """Return the models that are tried, and why others are not."""
    models = names.task_spec(task.name).models
    if recipe.training.select != "model":
        return [recipe.model.model], {}
    tried, left_out = [], {}
    for name, spec in models.items():
        if spec.solver and spec.solves_by_default:
            reason = sizing.not_worth_it(name, task)
            tried += [] if reason else [name]
            left_out |= {name: reason} if reason else {}
    return tried, left_out


def _penalties(recipe: Recipe, path: Path, count: float) -> Iterator[float]:
    """Yield the penalties of a path, to two digits; or only the one that was given."""
    if recipe.training.select == "none":
        yield recipe.training.l2
        return
    for strength in path:
        yield float(f"{strength / count:.2g}")


def _folds(session: Session) -> list[Fold]:
    """Return the validation examples beside all training examples; or parts of the latter where those are few."""
    train, valid = session.prepared.train, session.prepared.valid
    is_given = session.run.recipe.training.select == "none"
    if len(valid) >= FEW or not session.can_cross_validate or is_given:
        return [(session.feed(0), valid)]
    keys = np.asarray(train.columns[KEYS]) if KEYS in train.columns else np.arange(len(train), dtype=np.uint64)
    places = splitmix64(keys ^ np.uint64(session.run.recipe.run.seed)) % np.uint64(FOLDS)
    folds = []
    for number in range(FOLDS):
        held_out = places == number
        if held_out.any() and not held_out.all():
            others = session.feed_on(train.take(np.flatnonzero(~held_out)))
            folds.append((others(0), train.take(np.flatnonzero(held_out))))
    return folds or [(session.feed(0), valid)]


def _judged(model: str, l2: float, parts: Sequence[Part]) -> Judged:
    answers = [part.answers() for part in parts]
    each = np.concatenate([losses for losses, _ in answers])
    right = [found for _, found in answers if found is not None]
    loss = float(each[:, 0].sum() / each[:, 1].sum())
    return Judged(model, l2, loss, each[:, 0], np.concatenate(right) if right else None)


def _entry(point: Judged, gap: float, seconds: float, best: bool, num_folds: int) -> Entry:
    metrics = {} if point.accuracy is None else {"accuracy": point.accuracy}
    return {
        "event": "selection",
        "step": 0,
        "model": point.model,
        "l2": point.l2,
        "loss": point.loss,
        "metrics": metrics,
        "gap": gap,
        "num_folds": num_folds,
        "seconds": seconds,
        "best": best,
    }


def _record(points: Sequence[Judged], chosen: Judged, left_out: dict[str, str], num_folds: int) -> Entry:
    """Return what a run keeps of its selection, as plain values."""
    num = len(chosen.losses)
    on = (
        f"{counted(num_folds, 'fold')} of the training examples"
        if num_folds > 1
        else counted(num, "validation example")
    )
    return {
        "model": chosen.model,
        "l2": chosen.l2,
        "judged_on": on,
        "num_judged": num,
        "num_folds": num_folds,
        "points": [
            {
                "model": point.model,
                "l2": point.l2,
                "loss": point.loss,
                "loss_error": float(point.losses.std() / math.sqrt(num)),
                "accuracy": point.accuracy,
                "accuracy_error": None if point.right is None else float(point.right.std() / math.sqrt(num)),
            }
            for point in points
        ],
        "left_out": left_out,
    }
