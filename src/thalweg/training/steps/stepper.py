"""One step of an optimizer, whatever its kind: who evaluates and clips, and what happens where it is not finite."""

import abc
import contextlib
import inspect
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from thalweg import vectors
from thalweg.errors import InputError, is_out_of_memory
from thalweg.objective import Objective
from thalweg.optim.base import ReportsGap, ReportsStatus
from thalweg.optim.clipping import AbstractClip, ClipUpdate
from thalweg.optim.construct import needs_closure
from thalweg.status import Status


@final
class StepOutcome(NamedTuple):
    """What one step did. Tensors are 0-dim and may still be on their way on a GPU.

    Args:
        loss: the loss before the step.
        grad_norm: norm of the gradient before clipping.
        clipped: whether clipping changed the gradient.
        rejected: whether the step was not taken because loss or gradient were NaN or infinite.
        status: how the step ended, where the optimizer says so.
        gap: `relative_gap` after the step, where the optimizer knows one.
    """

    loss: Tensor
    grad_norm: Tensor
    clipped: Tensor | bool
    rejected: Tensor | bool
    status: Status | None = None
    gap: float | None = None


class AbstractStepper(abc.ABC):
    """Takes one step at a time with an optimizer; a step that is not finite leaves everything as it was."""

    reuses_objective: ClassVar[bool] = False
    """Whether equal batches should come as the same `Objective` again."""

    def __init__(
        self, optimizer: Optimizer, *, clip: AbstractClip | None = None, clip_update: ClipUpdate | None = None
    ) -> None:
        self.is_changing = False  # whether an error would leave weights or the optimizer's memory between two steps
        self.optimizer = optimizer
        self._clip = clip
        self._clip_update = clip_update
        self._skips_on_device = _skips_on_device(optimizer)

    @abc.abstractmethod
    def step(self, objective: Objective) -> StepOutcome:
        """Take one step on an objective over the optimizer's parameters."""


def stepper_for(
    optimizer: Optimizer, *, clip: AbstractClip | None = None, clip_update: ClipUpdate | None = None
) -> AbstractStepper:
    """Return the stepper that fits an optimizer.

    Args:
        optimizer: one of `torch.optim`, of ours, or of another package.
        clip: gradient clipping. An optimizer that `ReportsStatus` has its own, and ignores this one.
        clip_update: update clipping, likewise.

    Example:
        >>> type(stepper_for(torch.optim.AdamW([torch.zeros(1)]))).__name__
        'FirstOrderStepper'
        >>> type(stepper_for(torch.optim.LBFGS([torch.zeros(1)]))).__name__
        'ClosureStepper'
    """
    if isinstance(optimizer, ReportsStatus):
        return ObjectiveStepper(optimizer)
    kind = ClosureStepper if needs_closure(optimizer) else FirstOrderStepper
    return kind(optimizer, clip=clip, clip_update=clip_update)


@final
class FirstOrderStepper(AbstractStepper):
    """Evaluates the gradient, clips it, and lets the optimizer step if loss and gradient are finite.

    On a GPU the optimizer's fused kernel skips a bad step by itself, so that no step has to wait for the device.
    """

    @override
    def step(self, objective: Objective) -> StepOutcome:
        parameters = objective.parameters
        if self._clip_update is not None:
            self._clip_update.before(parameters)
        loss = objective()
        self.is_changing = True
        norm, clipped = _clip(self._clip, parameters)
        rejected: Tensor | bool
        if self._skips_on_device:
            rejected = ~(torch.isfinite(loss) & torch.isfinite(norm))
            # The fused kernels leave everything as it is where this flag is 1, without the CPU having to know.
            self.optimizer.found_inf = rejected.to(torch.float32)  # type: ignore[attr-defined]
        else:
            rejected = not _is_finite(loss, norm)
        if self._skips_on_device or not rejected:
            with _told(self.optimizer):
                self.optimizer.step()
        if self._clip_update is not None:
            self._clip_update.after(parameters)
        return StepOutcome(loss, norm, clipped, rejected)


@final
class ClosureStepper(AbstractStepper):
    """Hands the optimizer a closure, for those that evaluate the loss themselves; a step that ends badly is undone."""

    @override
    def step(self, objective: Objective) -> StepOutcome:
        parameters = objective.parameters
        before = vectors.clone(parameters)
        if self._clip_update is not None:
            self._clip_update.before(parameters)
        first: list[tuple[Tensor, Tensor, Tensor | bool]] = []
        evaluated: list[Exception] = []  # what the evaluation has raised, which is not of the optimizer

        def closure() -> Tensor:
            try:
                loss = objective()
            except Exception as error:
                evaluated.append(error)
                raise
            self.is_changing = True
            norm, clipped = _clip(self._clip, parameters)
            if not first:
                first.append((loss, norm, clipped))
                if not _is_finite(loss, norm):
                    raise _NotFiniteError
            return loss

        rejected = False
        try:
            with _told(self.optimizer, evaluated):
                self.optimizer.step(closure)  # type: ignore[call-overload, arg-type]
            rejected = not bool(torch.isfinite(vectors.norm([parameter.detach() for parameter in parameters])))
            if rejected:  # what the optimizer remembers is spoiled, too: it starts its memory again
                self.optimizer.state = defaultdict(dict)
        except _NotFiniteError:
            rejected = True
        if rejected:
            with torch.no_grad():
                vectors.copy_(parameters, before)
        if not first:
            raise InputError(
                f"{type(self.optimizer).__name__}.step(closure) did not call its closure, so there is no gradient; "
                "it has to, or step() has to take no closure."
            )
        if self._clip_update is not None:
            self._clip_update.after(parameters)
        return StepOutcome(*first[0], rejected)


@final
class ObjectiveStepper(AbstractStepper):
    """Hands the objective to an optimizer that `ReportsStatus`: a direction with a step size, or one like it."""

    reuses_objective = True  # on the same batches the optimizer has already evaluated the point where it ended

    @override
    def step(self, objective: Objective) -> StepOutcome:
        optimizer = self.optimizer
        self.is_changing = True
        loss = optimizer.step(objective)  # type: ignore[call-overload, arg-type]
        assert isinstance(loss, Tensor)
        assert isinstance(optimizer, ReportsStatus)
        norm = vectors.norm([parameter.grad for parameter in objective.parameters if parameter.grad is not None])
        rejected = optimizer.status in {Status.LOSS_NOT_FINITE, Status.GRADIENT_NOT_FINITE}
        gap = optimizer.relative_gap if isinstance(optimizer, ReportsGap) else None
        return StepOutcome(loss, norm, False, rejected, optimizer.status, gap)


@contextlib.contextmanager
def _told(optimizer: Optimizer, but: Sequence[Exception] = ()) -> Iterator[None]:
    """Tell what an optimizer raises in a step, such as by values of its options that it did not look at before."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError | OSError | _NotFiniteError) or is_out_of_memory(error) or error in but:
            raise
        said = " ".join(str(error).split()).rstrip(".")[:300]
        raise InputError(
            f"{type(optimizer).__name__}.step() raised {type(error).__name__}{f' ({said})' if said else ''}; check "
            "--optimizer-options, or take another --optimizer."
        ) from error


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


def _skips_on_device(optimizer: Optimizer) -> bool:
    """Whether the optimizer's own kernel can skip a step, so that no step has to wait for the device."""
    on_gpu = all(parameter.is_cuda for group in optimizer.param_groups for parameter in group["params"])
    return on_gpu and bool(optimizer.defaults.get("fused")) and "found_inf" in inspect.getsource(type(optimizer))
