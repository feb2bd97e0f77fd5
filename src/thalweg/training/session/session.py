"""One run under way: its objects, its place, and how both are saved and restored."""

import dataclasses
import math
from typing import final

import torch
from torch.optim.lr_scheduler import LRScheduler

from thalweg import names, vectors
from thalweg.errors import InputError
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder import build, checkpoint
from thalweg.training.folder.run import CHECKPOINTS, WEIGHTS, NewFolder, Run
from thalweg.training.session import optimizer
from thalweg.training.steps.device import choose_precision
from thalweg.training.steps.evaluate import Evaluation, calibrate, evaluate
from thalweg.training.steps.feed import Feed
from thalweg.training.steps.fit import Place
from thalweg.training.steps.stepper import stepper_for

MAX_EVALUATIONS = 20
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
    num_rejected: int = 0
    num_rollbacks: int = 0
    lr_scale: float = 1.0


@final
class Session:
    """Everything that a run needs while it trains; its folder has a recipe already. `fast` takes two steps only."""

    def __init__(self, run: Run, task: AbstractTask, prepared: Prepared, device: torch.device, *, fast: bool) -> None:
        recipe, training = run.recipe, run.recipe.training
        self.run, self.task, self.prepared, self.device = run, task, prepared, device
        dtype, self.autocast = choose_precision(recipe.run.precision, device)
        order = {"batch_size": training.batch_size, "accumulate": training.accumulate, "seed": recipe.run.seed}
        spec = names.task_spec(recipe.run.task).models[recipe.model.model]
        solves_bags = training.optimizer == spec.solver and spec.layout == "bag"
        self.feed = Feed(prepared.train, task.batch, **order, device=device, dtype=dtype, as_stored=solves_bags)
        by_epochs = math.ceil(training.epochs * self.feed.steps_per_epoch) or math.inf
        self.total_steps = 2 if fast else int(min(training.steps or math.inf, by_epochs))
        every = training.evaluate_every or max(self.feed.steps_per_epoch, math.ceil(self.total_steps / MAX_EVALUATIONS))
        self.evaluate_every = 1 if fast else every
        first = self.feed(0)[0] if device.type == "cpu" else self.feed(0)[0].to("cpu", dtype)
        counts = task.token_counts(prepared.train) if recipe.model.head != "softmax" else None
        self.model, self.head = build.build_networks(recipe, task, batch=first, counts=counts)
        self.model.to(device)
        self.head.to(device)
        clip = optimizer.build_clipping(recipe, self.head)
        self.optimizer = optimizer.build_optimizer(recipe, self.model, self.head, clip)
        self.stepper = stepper_for(self.optimizer, clip=clip.gradient, clip_update=clip.update)
        self.schedule: LRScheduler = optimizer.build_schedule(recipe, self.optimizer, self.total_steps)
        self.place = Place()
        self.new_folder: NewFolder | None = None
        self.score = Score()

    def measure(self) -> Evaluation:
        """Evaluate the present weights on the validation data, probabilities calibrated on training data before."""
        calibrate(self.model, self.head, self.feed(0)[0], autocast=self.autocast)
        return self.evaluate()

    def evaluate(self, generated: int = 0, *, intervals: bool = False) -> Evaluation:
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
            intervals=intervals,
        )

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
        """Write the present weights as those of the run."""
        self.score.best_step = self.place.step
        checkpoint.save_tensors(self.run.folder / WEIGHTS, build.get_weights(self.model, self.head))

    def keep_folder(self) -> None:
        """After the first step a new run's folder stays."""
        if self.new_folder is not None:
            self.new_folder.keep()
            self.new_folder = None

    def discard_folder(self) -> None:
        """A new run that never took a step leaves nothing behind."""
        if self.new_folder is not None:
            self.new_folder.discard()

    def is_sound(self) -> bool:
        """Whether all weights are finite, so that they may be saved as good ones."""
        parameters = [*self.model.parameters(), *self.head.parameters()]
        return bool(torch.isfinite(vectors.norm([parameter.detach() for parameter in parameters])))

    def save(self) -> None:
        """Write a checkpoint; spoiled weights are never written over good ones."""
        if not self.is_sound():
            return
        state = {
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.place.step,
            "score": dataclasses.asdict(self.score),
        }
        checkpoint.save(self.run.folder / CHECKPOINTS, self.place.step, state)

    def restore(self, *, weights_only: bool = False) -> bool:
        """Put the newest checkpoint back and return True, or return False where there is none.

        With `weights_only` this session keeps its counts and times (after going back). An InputError tells of one
        that is damaged, or from another model or optimizer.
        """
        newest = checkpoint.latest(self.run.folder / CHECKPOINTS)
        if newest is None:
            return False
        state = checkpoint.load(newest)
        where = newest / "state.safetensors"
        networks = {"model": self.model, "head": self.head}
        saved = {f"{part}.{name}" for part in networks for name in state[part]}
        own = {f"{part}.{name}" for part, network in networks.items() for name in network.state_dict()}
        if own != saved:
            differing = sorted(own ^ saved)[0]
            raise InputError(
                f"{where} is from another model: '{differing}' is in only one of the two; use its own recipe."
            )
        try:
            self.model.load_state_dict(state["model"])
            self.head.load_state_dict(state["head"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{where} is from another model or optimizer ({reason}); use its own recipe.") from None
        self.schedule.load_state_dict(state["schedule"])
        self.place.step = state["step"]
        if weights_only:
            self.score.lr_scale = state["score"]["lr_scale"]  # the one that the restored rates have in them
        else:
            self.score = Score(**state["score"])
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
