"""The training loop: a generator of step records.

Logging, checkpoints, evaluation and stopping are ordinary code around a `for`; this file only takes steps.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from thalweg import noise
from thalweg.batch import Batch
from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective
from thalweg.optim.plateau import takes_score
from thalweg.status import Status
from thalweg.training.steps.culprit import Culprit, find_culprit
from thalweg.training.steps.device import compiled
from thalweg.training.steps.recorder import Recorder, Watched
from thalweg.training.steps.stepper import AbstractStepper, stepper_for

LARGEST_SEED = 2**63 - 1
# What an evaluation of the loss alone, and a product with a curvature matrix, cost in gradients (docs/compare.md).
VALUE_IN_GRADIENTS = 1 / 3
PRODUCT_IN_GRADIENTS = 2.0


@final
@dataclasses.dataclass(frozen=True)
class StepRecord:
    """What one step did. Tensors are 0-dim and may still be on their way on a GPU; `resolve` waits for them.

    Args:
        step: number of steps taken, this one included.
        loss: the loss before the step.
        grad_norm: norm of the gradient before clipping.
        clipped: whether clipping changed the gradient.
        rejected: whether the step was not taken because loss or gradient were NaN or infinite.
        lr: learning rate of the first parameter group.
        num_examples: examples in the step's batches.
        num_tokens: tokens that the step's batches hold, padding included; 0 where the data are numbers.
        watched: what was recorded of it, on the steps that were watched.
        status: how a step of a direction and a step size ended; None with other optimizers.
        gap: at most this fraction of the loss after the step could still be gained; None where it isn't known.
        gradients: evaluations of loss and gradient that the step took; a line search takes several.
        values: evaluations of the loss alone.
        products: products with a curvature matrix.
        find_culprit: looks for what was not finite on a rejected step, with the weights as they are then.
    """

    step: int
    loss: Tensor
    grad_norm: Tensor
    clipped: Tensor | bool
    rejected: Tensor | bool
    lr: float
    num_examples: int
    num_tokens: int
    watched: Watched | None = None
    status: Status | None = None
    gap: float | None = None
    gradients: int = 1
    values: int = 0
    products: int = 0
    find_culprit: Callable[[], Culprit | None] | None = None

    @property
    def evaluations(self) -> float:
        """What the step has evaluated, in gradients of its batches: a loss alone is a third, a product two."""
        return self.gradients + VALUE_IN_GRADIENTS * self.values + PRODUCT_IN_GRADIENTS * self.products

    def resolve(self) -> dict[str, Any]:
        """Return the record as a plain history entry (waits for the device)."""
        entry: dict[str, Any] = {
            "event": "step",
            "step": self.step,
            "loss": float(self.loss),
            "lr": self.lr,
            "grad_norm": float(self.grad_norm),
            "clipped": bool(self.clipped),
            "evaluations": round(self.evaluations, 3),
        }
        for name in ("values", "products"):
            if number := getattr(self, name):
                entry[name] = number
        if bool(self.rejected):
            entry["rejected"] = True
            culprit = self.find_culprit() if self.find_culprit is not None else None
            if culprit is not None:
                entry |= {"where": culprit.where, "what": culprit.what}
        if self.watched is not None:
            entry |= self.watched.to_json()
        if self.status is not None:
            entry["status"] = self.status.name
        if self.gap is not None:
            entry["gap"] = self.gap
        return entry


@final
@dataclasses.dataclass
class Place:
    """Where a run is. The caller may set `step` back (after restoring a checkpoint)."""

    step: int = 0


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options of `fit`.

    Args:
        seed: random seed of the dropout.
        l2: squared penalty inside the loss, as `Objective(l2=...)`, >= 0.
        autocast: type of the forward pass; None: as the parameters are.
        compiled: whether the model is compiled by `torch.compile`; on steps whose operations are measured it is not.
        watch: step -> whether the figures by layer are measured on it (costs a copy of the parameters).
        sites: step -> whether the operations of its forward pass are measured.
    """

    seed: int = 0
    l2: float = 0.0
    autocast: torch.dtype | None = None
    compiled: bool = False
    watch: Callable[[int], bool] = lambda step: False  # noqa: ARG005
    sites: Callable[[int], bool] = lambda step: False  # noqa: ARG005


def fit(
    model: nn.Module,
    head: AbstractHead,
    optimizer: torch.optim.Optimizer | AbstractStepper,
    batches: Callable[[int], Sequence[Batch]],
    *,
    steps: int,
    place: Place | None = None,
    schedule: LRScheduler | None = None,
    options: FitOptions = FitOptions(),
) -> Generator[StepRecord, None, None]:
    """Take steps, and yield a record after each.

    The random state is set from `(seed, step)` for every step and put back after it, so dropout is a function of the
    step alone: a resumed run draws what the undisturbed one would have drawn, and so does one of several trainings in a
    process. A step whose loss or gradient is NaN or infinite is not taken: parameters and the optimizer's state stay as
    they were.

    Args:
        model: from inputs to hidden states.
        head: from hidden states to loss.
        optimizer: over the parameters of both; or a stepper, as `stepper_for(optimizer, clip=...)` makes one.
        batches: step -> micro-batches of that step, on the right device; a stateless function.
        steps: number of steps after which to stop.
        place: where the run is; read before each step and advanced after it. None: at the start. Behind it, parameters
            have the gradient of the step before.
        schedule: advanced once per step (one that takes a score is left to the caller, who has it).
        options: random seed, penalty, precision, and which steps are watched.

    Yields:
        One record a step.

    Example:
        >>> from thalweg.heads.softmax import Softmax
        >>> model, head = nn.Linear(2, 3), Softmax(3, 2)
        >>> optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=1.0)
        >>> batch = Batch({"input": torch.eye(2)}, torch.tensor([0, 1]))
        >>> losses = [float(record.loss) for record in fit(model, head, optimizer, lambda step: [batch], steps=20)]
        >>> losses[-1] < losses[0]
        True
    """
    stepper = optimizer if isinstance(optimizer, AbstractStepper) else stepper_for(optimizer)
    place = Place() if place is None else place
    recorder = Recorder([("", model), ("head", head)])
    devices = noise.accelerators(parameter for tensors in recorder.layers.values() for parameter in tensors)
    objective: Objective | None = None
    call = compiled(model, _device_of(model)) if options.compiled else None
    for module in (model, head):
        module.train()
    if place.step and options.watch(place.step):
        recorder.go_on()
    while place.step < steps:
        step = place.step
        reseed = functools.partial(set_seed, options.seed, step, devices)
        with noise.borrowed(devices):  # of the caller, who has it back when the record comes
            reseed()
            micro = batches(step)
            if objective is None:
                objective = Objective(model, head, micro, l2=options.l2, autocast=options.autocast)
            elif not (stepper.reuses_objective and [*map(id, micro)] == [*map(id, objective.batches)]):
                objective = objective.on(micro)
            objective.call = None if options.sites(step) else call
            recorder.before_forward(sites=options.sites(step))
            recorder.before_step(layers=options.watch(step))
            lr = stepper.optimizer.param_groups[0]["lr"]
            counts = _counts(objective)
            try:
                outcome = stepper.step(objective)
            except BaseException:
                recorder.stop()
                raise
            gradients, values, products = (now - then for now, then in zip(_counts(objective), counts, strict=True))
            head.after_step()
        place.step = step + 1
        if schedule is not None and not takes_score(schedule):
            _advance(schedule, quietly=outcome.rejected is True)
        stepper.is_changing = False
        yield StepRecord(
            place.step,
            outcome.loss,
            outcome.grad_norm,
            outcome.clipped,
            outcome.rejected,
            float(lr),
            sum(batch.num_examples for batch in micro),
            sum(num_tokens(batch) for batch in micro),
            recorder.after(micro, flow=objective.scale, keeps=options.watch(place.step)),
            outcome.status,
            outcome.gap,
            gradients,
            values,
            products,
            None if outcome.rejected is False else functools.partial(_culprit, objective, reseed),
        )


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _counts(objective: Objective) -> tuple[int, int, int]:
    return objective.num_gradients, objective.num_values, objective.num_products


def _culprit(objective: Objective, reseed: Callable[[], None]) -> Culprit | None:
    with noise.borrowed(noise.accelerators(objective.parameters)):
        reseed()
        return find_culprit(objective)


def _advance(schedule: LRScheduler, *, quietly: bool) -> None:
    """Move the schedule by a step; it would warn when the optimizer's very first step was rejected."""
    if not quietly:
        schedule.step()
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
        schedule.step()


def set_seed(seed: int, step: int, devices: Iterable[torch.device] = ()) -> None:
    """Set the random state of a step, on the CPU and on other devices; `noise.borrowed` puts it back."""
    noise.seed((seed * 1_000_003 + step) % LARGEST_SEED, devices)


def num_tokens(batch: Batch) -> int:
    """Return how many tokens a batch holds, padding included; 0 where its data are numbers."""
    return sum(tensor.numel() for name, tensor in batch.inputs.items() if name.endswith("tokens"))
