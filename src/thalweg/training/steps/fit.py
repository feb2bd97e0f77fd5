"""The training loop: a generator of step records.

Logging, checkpoints, evaluation and stopping are ordinary code around a `for`; this file only takes steps.
"""

import dataclasses
import inspect
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from thalweg import vectors
from thalweg.batch import Batch
from thalweg.certificates.factored.optimizer import FactoredNewton
from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective
from thalweg.optim.clipping import AbstractClip, ClipUpdate
from thalweg.optim.descent import Descent
from thalweg.status import Status

LARGEST_SEED = 2**63 - 1


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
        layers: gradient norm and update/weight ratio by layer, on the steps that were watched.
        status: how a step of a direction and a step size ended; None with other optimizers.
        gap: by which share the loss after the step is above the best possible one, at most; None where it isn't known.
    """

    step: int
    loss: Tensor
    grad_norm: Tensor
    clipped: Tensor | bool
    rejected: Tensor | bool
    lr: float
    num_examples: int
    num_tokens: int
    layers: dict[str, dict[str, float]] | None = None
    status: Status | None = None
    gap: float | None = None

    def resolve(self) -> dict[str, Any]:
        """Return the record as a plain history entry (waits for the device)."""
        entry: dict[str, Any] = {
            "event": "step",
            "step": self.step,
            "loss": float(self.loss),
            "lr": self.lr,
            "grad_norm": float(self.grad_norm),
            "clipped": bool(self.clipped),
        }
        if bool(self.rejected):
            entry["rejected"] = True
        if self.layers is not None:
            entry["layers"] = self.layers
        if self.status is not None:
            entry["status"] = self.status.name
        if self.gap is not None:
            entry["gap"] = self.gap
        return entry


@final
@dataclasses.dataclass
class Place:
    """Where a run is. The caller may set `step` back (after a checkpoint was put back)."""

    step: int = 0


def fit(
    model: nn.Module,
    head: AbstractHead,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Sequence[Batch]],
    *,
    steps: int,
    place: Place,
    seed: int = 0,
    schedule: LRScheduler | None = None,
    clip: AbstractClip | None = None,
    clip_update: ClipUpdate | None = None,
    needs_closure: bool = False,
    l2: float = 0.0,
    autocast: torch.dtype | None = None,
    watch: Callable[[int], bool] = lambda step: False,  # noqa: ARG005
) -> Generator[StepRecord, None, None]:
    """Take steps, and yield a record after each.

    The random state is set from `(seed, step)` before every step, so dropout is a function of the step alone and a
    resumed run draws what the undisturbed one would have drawn. A step whose loss or gradient is NaN or infinite is not
    taken: parameters and the optimizer's state stay as they were.

    Args:
        model: from inputs to hidden states.
        head: from hidden states to loss.
        optimizer: over the parameters of both.
        batches: step -> micro-batches of that step, on the right device; a stateless function.
        steps: number of steps after which to stop.
        place: where the run is; read before each step and advanced after it.
        seed: seed of the dropout.
        schedule: advanced once a step (`ReduceLROnPlateau` is left to the caller, who has the score).
        clip: gradient clipping; gives the norm, too.
        clip_update: update clipping.
        needs_closure: hand the optimizer the objective as its closure, instead of calling it first.
        l2: penalty inside the loss.
        autocast: type of the forward pass.
        watch: steps on which the per-layer figures are measured (costs a copy of the parameters).

    Yields:
        One record a step.
    """
    parameters = vectors.trainable([*model.parameters(), *head.parameters()])
    penalized = [tensor for tensor in parameters if tensor.dim() >= 2] if l2 > 0.0 else []
    layers = layer_names(model, head)
    composed = isinstance(optimizer, Descent | FactoredNewton)
    take = _take_composed if composed else _take_with_closure if needs_closure else _take
    on_device = not needs_closure and _skips_on_device(optimizer, parameters)
    on_cpu = all(parameter.is_cpu for parameter in parameters)
    objective: Objective | None = None
    for module in (model, head):
        module.train()
    while place.step < steps:
        step = place.step
        _set_seed((seed * 1_000_003 + step) % LARGEST_SEED, on_cpu)
        micro = batches(step)
        if objective is None:
            objective = Objective(model, head, micro, l2=l2, penalized=penalized, autocast=autocast)
        elif not (composed and _are_same(micro, objective.batches)):
            objective = objective.on(micro)  # on the same batches a composed optimizer knows where it ended
        watched = watch(step)
        before = vectors.clone(parameters) if watched or (needs_closure and not composed) else None
        if clip_update is not None and not composed:
            clip_update.before(parameters)
        lr = optimizer.param_groups[0]["lr"]
        loss, norm, clipped, rejected = take(optimizer, objective, parameters, clip, before, on_device)
        if clip_update is not None and not composed:
            clip_update.after(parameters)
        head.after_step()
        place.step = step + 1
        if schedule is not None and not isinstance(schedule, ReduceLROnPlateau):
            _advance(schedule, quietly=not on_device and bool(rejected))
        yield StepRecord(
            place.step,
            loss,
            norm,
            clipped,
            rejected,
            float(lr),
            sum(batch.num_examples for batch in micro),
            sum(_num_tokens(batch) for batch in micro),
            layer_figures(layers, parameters, before) if watched and before else None,
            optimizer.status if composed else None,
            optimizer.relative_gap if isinstance(optimizer, FactoredNewton) else None,
        )


def _advance(schedule: LRScheduler, *, quietly: bool) -> None:
    """Move the schedule by a step; it would warn when the optimizer's very first step was rejected."""
    if not quietly:
        schedule.step()
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
        schedule.step()


Taken = tuple[Tensor, Tensor, Tensor | bool, Tensor | bool]


def _take(
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    parameters: list[Tensor],
    clip: AbstractClip | None,
    before: list[Tensor] | None,
    on_device: bool,
) -> Taken:
    """Take a first-order step unless loss or gradient is not finite."""
    del before
    loss = objective()
    norm, clipped = _clip(clip, parameters)
    if on_device:
        rejected = ~(torch.isfinite(loss) & torch.isfinite(norm))
        # The fused kernels leave everything as it is where this flag is 1, without the CPU having to know.
        optimizer.found_inf = rejected.to(torch.float32)  # type: ignore[attr-defined]
        optimizer.step()
        return loss, norm, clipped, rejected
    is_finite = _is_finite(loss, norm)
    if is_finite:
        optimizer.step()
    return loss, norm, clipped, not is_finite


def _take_with_closure(
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    parameters: list[Tensor],
    clip: AbstractClip | None,
    before: list[Tensor] | None,
    on_device: bool,
) -> Taken:
    """Take a step that evaluates the objective by itself; put the parameters back where it ends badly."""
    del on_device
    assert before is not None
    first: list[tuple[Tensor, Tensor, Tensor | bool]] = []

    def closure() -> Tensor:
        loss = objective()
        norm, clipped = _clip(clip, parameters)
        if not first:
            first.append((loss, norm, clipped))
            if not _is_finite(loss, norm):
                raise _NotFiniteError
        return loss

    bad = False
    try:
        optimizer.step(closure)  # type: ignore[call-overload, arg-type]
        bad = not bool(torch.isfinite(vectors.norm([parameter.detach() for parameter in parameters])))
        if bad:  # what the optimizer remembers is spoiled, too: it starts its memory again
            optimizer.state = defaultdict(dict)
    except _NotFiniteError:
        bad = True
    if bad:
        with torch.no_grad():
            vectors.copy_(parameters, before)
    loss, norm, clipped = first[0]
    return loss, norm, clipped, bad


def _take_composed(
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    parameters: list[Tensor],
    clip: AbstractClip | None,
    before: list[Tensor] | None,
    on_device: bool,
) -> Taken:
    """Take a step of a direction and a step size, which clips and refuses what is not finite by itself."""
    del clip, before, on_device
    assert isinstance(optimizer, Descent | FactoredNewton)
    loss = optimizer.step(objective)
    assert loss is not None
    norm = vectors.norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    return loss, norm, False, optimizer.status in {Status.LOSS_NOT_FINITE, Status.GRADIENT_NOT_FINITE}


def _are_same(micro: Sequence[Batch], others: Sequence[Batch]) -> bool:
    return len(micro) == len(others) and all(one is other for one, other in zip(micro, others, strict=True))


@final
class _NotFiniteError(Exception):
    """Leaves an optimizer's step before it has changed anything."""


def _clip(clip: AbstractClip | None, parameters: list[Tensor]) -> tuple[Tensor, Tensor | bool]:
    if clip is None:
        return vectors.norm([parameter.grad for parameter in parameters if parameter.grad is not None]), False
    result = clip(parameters)
    return result.norm, result.was_clipped


def _is_finite(loss: Tensor, norm: Tensor) -> bool:
    """Whether both numbers are finite (waits for the device; quicker than tensor operations where there is none)."""
    return math.isfinite(loss.item()) and math.isfinite(norm.item())


def _set_seed(seed: int, on_cpu: bool) -> None:
    """Set the random state; `torch.manual_seed` takes 0.1 ms where a GPU might come later, and remembers every call."""
    if on_cpu:
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _skips_on_device(optimizer: torch.optim.Optimizer, parameters: list[Tensor]) -> bool:
    """Whether the optimizer's own kernel can leave out a step, so that no step has to wait for the device."""
    on_gpu = all(parameter.is_cuda for parameter in parameters)
    return on_gpu and bool(optimizer.defaults.get("fused")) and "found_inf" in inspect.getsource(type(optimizer))


def _num_tokens(batch: Batch) -> int:
    return sum(tensor.numel() for name, tensor in batch.inputs.items() if name.endswith("tokens"))


def layer_names(model: nn.Module, head: nn.Module) -> dict[str, list[Tensor]]:
    """Return the parameters by layer: the module that owns them, "head" for the output layer's; tied ones once."""
    seen: set[int] = set()
    layers: dict[str, list[Tensor]] = {}
    for prefix, module in (("", model), ("head", head)):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                owner = ".".join(filter(None, [prefix, *name.split(".")[:-1]])) or type(module).__name__.lower()
                layers.setdefault(owner, []).append(parameter)
    return layers


def layer_figures(
    layers: dict[str, list[Tensor]], parameters: list[Tensor], before: list[Tensor]
) -> dict[str, dict[str, float]]:
    """Return gradient norm and update/weight ratio of each layer.

    Args:
        layers: parameters by layer.
        parameters: all of them, after the step, with their gradients.
        before: the same before the step; overwritten with the change.
    """
    sizes = torch.stack(torch._foreach_norm(before))
    torch._foreach_sub_(before, [parameter.detach() for parameter in parameters])
    changes = torch.stack(torch._foreach_norm(before))
    gradients = [parameter.grad if parameter.grad is not None else sizes.new_zeros(()) for parameter in parameters]
    measured = torch.stack([sizes, changes, torch.stack(torch._foreach_norm(gradients))], dim=1).tolist()
    by_tensor = dict(zip(map(id, parameters), measured, strict=True))
    figures = {}
    for name, tensors in layers.items():
        size, change, gradient = (
            math.hypot(*column) for column in zip(*(by_tensor[id(t)] for t in tensors), strict=True)
        )
        figures[name] = {"grad_norm": gradient, "update_ratio": change / size if size > 0 else 0.0}
    return figures
