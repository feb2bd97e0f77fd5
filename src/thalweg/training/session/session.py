"""One run under way: its objects, its place, and how both are saved and restored."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, final

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from thalweg import distributed, names, sharded
from thalweg.data.arrays.batches import Examples, Rows
from thalweg.errors import InputError, RankError
from thalweg.status import Status
from thalweg.storage.background import Background
from thalweg.storage.files import Sum, remove_folder
from thalweg.storage.forms import number, parsed, perhaps, record, whole
from thalweg.storage.ledger import MANIFEST, Ledger
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.distilled.teacher import Lesson
from thalweg.training.folder import build, checkpoint, tensor_files
from thalweg.training.folder.choice import chosen
from thalweg.training.folder.memory import require_batch
from thalweg.training.folder.resuming import kept_options
from thalweg.training.folder.run import Run
from thalweg.training.integrity import checkpoint_names
from thalweg.training.integrity.checkpoint_names import CHECKPOINTS
from thalweg.training.integrity.claim import Claim
from thalweg.training.integrity.environment import environment
from thalweg.training.integrity.new_folder import NewFolder
from thalweg.training.integrity.parts import Parts
from thalweg.training.integrity.run_files import HELD_OUT, RECIPE, SELECTION, START, WEIGHTS, json_bytes
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.session import optimizer
from thalweg.training.session.stopping import TimeLimit
from thalweg.training.steps.device import choose_precision, one_thread_after_fork
from thalweg.training.steps.evaluate import Evaluation, calibrate, evaluate, writes_to_measure
from thalweg.training.steps.feed import Feed
from thalweg.training.steps.fit import Place
from thalweg.training.steps.recorder import Interval
from thalweg.training.steps.stepper import stepper_for

T = TypeVar("T")
KEPT = "kept.safetensors"  # in a checkpoint, a second name of the run's weights of that time
MAX_EVALUATIONS = 20
FOLDS = 5  # of a cross-validation
WHOLE = 1024  # examples at a time in an evaluation, where training takes all of them at once


@final
@dataclasses.dataclass
class Score:
    """The best evaluation so far, and what has happened on the way."""

    best: float | None = None
    best_step: int = 0
    best_loss: float | None = None
    without_progress: int = 0
    seconds: float = 0.0
    stuck_in_a_row: int = 0
    rejected_in_a_row: int = 0
    num_rejected: int = 0
    num_rollbacks: int = 0
    lr_scale: float = 1.0


_SCORE = record(
    best=perhaps(number()), best_step=whole(0), best_loss=perhaps(number()), without_progress=whole(0),
    seconds=number(0.0), num_rejected=whole(0), num_rollbacks=whole(0), lr_scale=number(0.0),
    stuck_in_a_row=whole(0), rejected_in_a_row=whole(0),
)  # fmt: skip


@final
class Session:
    """Everything that a run needs while it trains; its folder has a recipe already. `fast` takes two steps only."""

    def __init__(self, run: Run, task: AbstractTask, prepared: Prepared, device: torch.device, *, fast: bool) -> None:
        one_thread_after_fork()
        self.run, self.task, self.prepared, self.device, self.fast = run, task, prepared, device, fast
        self._ledger = run.ledger
        self._background = Background()  # in which what is to be kept is written
        self._settled = -1  # the step at which that of earlier steps had been
        self.place = Place()
        self.new_folder: NewFolder | None = None
        self.claim: Claim | None = None  # of the run's folder, given back at the end of a `with`
        self.place_to_resume: Path | None = None  # the checkpoint to go on from; None: the newest
        self.resumed_from: Path | None = None  # the checkpoint that was put back
        self.ended: Status | None = None  # how the steps ended, where they have
        self.history: Sum | None = None  # of the history when they ended
        self.score = Score()
        self.is_timed = False  # whether more steps were planned than the time limit has room for
        self.time_limit = TimeLimit(run.recipe.training.time, writes=writes_to_measure(task))
        self.lesson: Lesson | None = None  # what the run learns from, beside its data
        self.expected_seconds: float | None = None  # how long training is going to take, where that was measured
        self._build()

    def _build(self) -> None:
        """Make everything that the recipe decides."""
        recipe, training, device, task = self.run.recipe, self.run.recipe.training, self.device, self.task
        self._dtype, self.autocast = choose_precision(recipe.run.precision, device)
        self.environment = environment(device, self._dtype, self.autocast)  # what this session computes with
        self.feed = self.whole = self.feed_on(self.rows)
        if distributed.is_active():
            with distributed.alone():
                self.whole = self.feed_on(self.rows)
        if self.prepared.stream is not None:
            self.feed = self.feed_on(self.prepared.stream)
        by_epochs = math.ceil(training.epochs * self.feed.steps_per_epoch) or math.inf
        self.total_steps = 2 if self.fast else int(min(training.steps or math.inf, by_epochs))
        every = training.evaluate_every or max(self.feed.steps_per_epoch, math.ceil(self.total_steps / MAX_EVALUATIONS))
        self.evaluate_every = 1 if self.fast else every
        require_batch(recipe.values(), self.feed)
        first = self.whole(0)[0] if device.type == "cpu" else self.whole(0)[0].to("cpu", self._dtype)
        counts = task.token_counts(self.rows) if recipe.model.head != "softmax" else None
        is_fresh = START not in self.ledger
        self.model, self.head = build.build_networks(recipe, task, batch=first, fresh=is_fresh, counts=counts)
        self.model.to(device)
        self.head.to(device)
        if START in self.ledger:  # the weights of another run, as they fit this one
            self._put(START)
        self.put_measured()
        if training.shard:
            sharded.divide(self.model, self.head)
        clip = optimizer.build_clipping(recipe, self.head)
        self.clip = clip.gradient
        self.optimizer = optimizer.build_optimizer(recipe, self.model, self.head, clip)
        self.stepper = stepper_for(self.optimizer, clip=clip.gradient, clip_update=clip.update)
        mode = "max" if task.selects_by[1] == "higher" else "min"
        schedule = optimizer.build_schedule(recipe, self.optimizer, self.total_steps, mode)
        self.schedule: LRScheduler = schedule
        self.parts = Parts(self.model, self.head, self.optimizer, schedule, self.clip)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run's folder, once everything has been written that was to be."""
        self._background.wait()
        return self._ledger

    def settle(self) -> None:
        """Wait until everything is on the disk that was to be written."""
        if not distributed.is_first():
            self._background.wait()
        distributed.by_first(self._background.wait)
        if not distributed.is_first():
            self._ledger.refresh()

    def give_up(self) -> None:
        """After an error: wait for what is being written, but not for long for others, which may be gone."""
        self._background.gives_up.set()
        with contextlib.suppress(Exception):
            self._background.wait()

    def _settle_before(self) -> None:
        """Wait until that is on the disk which was to be written at earlier steps."""
        if self._settled != self.place.step:
            self.settle()
            self._settled = self.place.step

    def feed_on(self, examples: Rows) -> Feed:
        """Return what gives the batches of each step on these examples."""
        with distributed.alone() if self.is_replicated else contextlib.nullcontext():
            return build.build_feed(self.run.recipe, self.task, examples, self.device)

    @property
    def is_replicated(self) -> bool:
        """Whether each process computes the same on all data: the solvers that prove do not share their work."""
        return self.run.recipe.training.optimizer in names.SOLVERS

    def each(self, steps: Iterator[T]) -> Iterator[T]:
        """Yield the steps; other processes take no part in those of a replicated training."""
        while True:
            with distributed.alone() if self.is_replicated else contextlib.nullcontext():
                step = next(steps, None)
            if step is None:
                return
            yield step

    @property
    def is_chosen(self) -> bool:
        """Whether validation has chosen what it is to choose."""
        return SELECTION in self.ledger

    @property
    def is_to_choose(self) -> bool:
        """Whether validation has to choose, or to measure, before the training."""
        training = self.run.recipe.training
        wanted = training.optimizer in names.SOLVERS and (training.select != "none" or self.refits)
        return wanted and not self.is_chosen and (self.holds_out or self.can_cross_validate)

    @property
    def refits(self) -> bool:
        """Whether the weights of the end are trained on the validation examples, too."""
        training = self.run.recipe.training
        return training.refit and training.optimizer in names.SOLVERS and self.holds_out

    @property
    def rows(self) -> Examples:
        """The examples that the steps are taken on."""
        return self.prepared.with_validation().train if self.refits and self.is_chosen else self.prepared.train

    def adopt(self, recipe: Recipe, weights: Mapping[str, Tensor], record: dict[str, Any]) -> None:
        """Go on as validation has chosen, from weights that were not trained on the validation examples."""
        name = HELD_OUT if self.refits else WEIGHTS
        chosen = {RECIPE: recipe.to_toml().encode(), SELECTION: json_bytes(record)}
        self.change(lambda: {name: tensor_files.tensor_bytes(weights), **chosen})
        self.run = Run(self.run.folder)
        self._build()

    def put_measured(self) -> None:
        """Put the weights back that the validation figures are of, where validation has chosen."""
        if self.is_chosen:
            self._put(HELD_OUT if self.refits else WEIGHTS)

    def selection(self) -> dict[str, Any]:
        """Return what validation has chosen, and from what."""
        found: dict[str, Any] = parsed(self.ledger.read(SELECTION), chosen, self.run.folder / SELECTION)
        return found

    def change(self, files: Callable[[], Mapping[str, bytes]], *, removed: Iterable[str] = ()) -> None:
        """Change files of the run; of several processes the first one does it, and all know."""
        distributed.by_first(lambda: self.ledger.write(files(), removed=removed))
        if not distributed.is_first():
            self.ledger.refresh()

    def _put(self, name: str) -> None:
        weights = tensor_files.load_tensors(self.ledger.path(name))
        build.put_weights(self.model, self.head, weights, self.run.folder / name)

    @property
    def can_cross_validate(self) -> bool:
        """Whether the training examples are enough to be judged in parts."""
        return len(self.prepared.train) >= 2 * FOLDS and not self.fast

    @property
    def holds_out(self) -> bool:
        """Whether there are validation data; without any the last weights are kept, and nothing is measured."""
        return len(self.prepared.valid) > 0

    def measure(self) -> Evaluation:
        """Evaluate the present weights on the validation data, probabilities calibrated on training data before."""
        with sharded.whole(self.model):
            distributed.by_first(lambda: calibrate(self.model, self.head, self.whole(0)[0], autocast=self.autocast))
            distributed.send_first(self.head.buffers())
            return self.evaluate(self.task.num_judged, quick=True)

    def evaluate(self, generated: int = 0, *, quick: bool = False, intervals: bool = False) -> Evaluation:
        """Evaluate the present weights as they are; metrics of generated text on that many examples."""
        return evaluate(
            self.task,
            self.model,
            self.head,
            self.prepared.valid,
            batch_size=max(64, self.run.recipe.training.batch_size or WHOLE),
            device=self.device,
            autocast=self.autocast,
            generated=generated,
            quick=quick,
            intervals=intervals,
        )

    def join(self) -> None:
        """Have networks of one's own again, where their parameters were divided; they hold no weights."""
        if self.parts.divided is not None:
            self.model, self.head = build.build_networks(self.run.recipe, self.task, fresh=False)
            self.model.to(self.device)
            self.head.to(self.device)

    def take_score(self, evaluation: Evaluation) -> bool:
        """Compare an evaluation with the best so far; return whether it is better. Writes nothing."""
        name, better = self.task.selects_by
        value = evaluation.value(name)
        sign = 1.0 if better == "higher" else -1.0
        score = self.score
        improved = math.isfinite(value) and (score.best is None or sign * value > sign * score.best)
        if math.isfinite(value) and score.best == value and score.best_loss is not None:
            improved = evaluation.loss < score.best_loss  # among equal scores the smaller loss is the better model
        if improved:
            score.best, score.best_loss, score.without_progress = value, evaluation.loss, 0
        else:
            score.without_progress += 1
        return improved

    def keep_weights(self) -> None:
        """Write the present weights as those of the run, while training goes on."""
        self.score.best_step = self.place.step
        self._settle_before()
        weights = build.copied_weights(self.model, self.head)
        if distributed.is_first():
            self._background.do(lambda: self._ledger.write({WEIGHTS: tensor_files.tensor_bytes(weights)}))

    def keep_folder(self) -> None:
        """After the first step a new run's folder stays."""
        self.new_folder = None

    def discard_folder(self) -> None:
        """A new run that never took a step leaves nothing behind."""
        if self.new_folder is not None:
            with contextlib.suppress(Exception):
                self._background.wait()
            self.new_folder.discard()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let others change the run's folder, once nothing is written any more."""
        try:
            if isinstance(error, RankError):
                self._background.gives_up.set()
            with contextlib.nullcontext() if error is None else contextlib.suppress(Exception):
                self._background.wait()
        finally:
            if self.claim is not None:
                self.claim.release()

    def save(self, history: Sum) -> None:
        """Write a checkpoint while training goes on; spoiled weights are never written over good ones.

        `history` is the sum of that so far. What went wrong with the one before is told now.
        """
        if not self.parts.is_sound():
            return
        self._settle_before()
        is_whole = self.parts.divided is None
        if not (distributed.is_first() if is_whole else distributed.is_active()):
            return  # others write it; or, after an error, some of the rows are out of reach
        watched = Interval.of(self.total_steps).watches(self.place.step)
        state = {
            **self.parts.state(gradient=watched),
            "step": self.place.step,
            "score": dataclasses.asdict(self.score),
        }
        about = {
            "ended": self.ended.name if self.ended else None,
            "limits": self._limits(),
            "options": kept_options(self.run.recipe),
            "history": dataclasses.asdict(history),
            "environment": self.environment,
        }
        saving = checkpoint.Saving(self.run.folder / CHECKPOINTS, self.place.step, state)
        name = distributed.by_first(saving.begin) if saving.is_shared else saving.begin()
        saving.join(name)
        saving.gives_up = self._background.gives_up.is_set

        def write() -> None:
            kept = self._ledger.sums.get(WEIGHTS)
            links = {KEPT: (self.run.folder / WEIGHTS, kept)} if kept else {}
            saving.write(self.run.recipe.training.keep, about=about, links=links)

        self._background.do(write if distributed.is_first() else saving.write_part)

    def restore(self, *, weights_only: bool = False) -> Ledger | None:
        """Put the newest checkpoint back, or the one to go on from; return its ledger, or None where there is none.

        The run's weights become those that were kept until then. With `weights_only` they stay, and this session keeps
        its counts and times (after going back). An InputError tells of one that is damaged, or from another model or
        optimizer.
        """
        newest = self.newest()
        place = newest if weights_only or self.place_to_resume is None else self.place_to_resume
        if place is None:
            return None
        ledger = checkpoint_names.ledger_of(place)
        options = kept_options(self.run.recipe)
        if ledger.about.get("options", options) != options:  # one of an older version has none
            raise InputError(
                f"{place} is of a run with other options than {self.run.folder}, and is not used; put the run's own "
                "checkpoints back, or start over with --overwrite."
            )
        state = checkpoint.load(place, like=self.parts.divided)
        with checkpoint_names.sound(place / checkpoint.TREE):
            score = _SCORE(state["score"], "score")
            whole(0)(state["step"], "step")
        self.parts.put(state, place, weights_only=weights_only)
        self.place.step = state["step"]
        self.resumed_from = place
        if weights_only:
            self.score.lr_scale = score["lr_scale"]  # the one that the restored rates have in them
            return ledger
        self.score = Score(**score)
        with checkpoint_names.sound(place / MANIFEST):
            self.ended = self._end_of(ledger.about)
        self._restore_kept(ledger)
        distributed.by_first(lambda: _end_with(place, self.run.recipe.training.keep))
        return ledger

    def newest(self) -> Path | None:
        """Return the run's newest checkpoint, None where it has none."""
        folder = self.run.folder / CHECKPOINTS
        self.settle()
        name = distributed.by_first(lambda: getattr(checkpoint_names.latest(folder), "name", None))
        return None if name is None else folder / name

    def _limits(self) -> dict[str, Any]:
        """Return the options that bound the run."""
        values = self.run.recipe.values()
        return {name: values[name] for name, option in OPTIONS.items() if option.ends is not None}

    def _end_of(self, about: Mapping[str, Any]) -> Status | None:
        """Return how the steps had ended at a checkpoint; None where the limit that did it has changed since."""
        ended = Status[about["ended"]] if about.get("ended") else None
        before = about.get("limits", {})
        lifted = [name for name, value in self._limits().items() if name in before and before[name] != value]
        return None if any(OPTIONS[name].ends is ended for name in lifted) else ended

    def _restore_kept(self, ledger: Ledger) -> None:
        """Make the run's weights those that were kept when a checkpoint was written, if there were any."""
        kept = ledger.sums.get(KEPT)
        if kept is None:
            self.change(dict, removed=[WEIGHTS])
        elif distributed.by_first(lambda: kept != self.ledger.sums.get(WEIGHTS) or not self._has(WEIGHTS)):
            self.change(lambda: {WEIGHTS: ledger.read(KEPT)})

    def _has(self, name: str) -> bool:
        """Whether a file of the run is there, undamaged."""
        try:
            self.ledger.path(name)
        except InputError:
            return False
        return True

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate of every group, now and for the rest of the schedule."""
        self.score.lr_scale *= factor
        for group in self.optimizer.param_groups:
            for key in ("lr", "initial_lr"):
                if key in group:
                    group[key] = group[key] * factor
        if "base_lrs" in vars(self.schedule):
            self.schedule.base_lrs = [rate * factor for rate in self.schedule.base_lrs]


def _end_with(place: Path, keep: int) -> None:
    """Remove the checkpoints after this one, and those before that are too many."""
    for later in checkpoint_names.steps(place.parent):
        if later.name > place.name:
            remove_folder(later)
    checkpoint.prune(place.parent, keep)  # a process that was killed after its last checkpoint has left one too many
