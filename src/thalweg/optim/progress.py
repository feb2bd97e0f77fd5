"""Whether steps still get anywhere: the end of a search, in the precision of the numbers."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch

from thalweg.status import Status

State = dict[str, Any]
MAX_FAILED = 2  # searches in a row, at one place, that find nothing; a way out of a saddle may take more than one
MAX_IDLE = 5  # steps in a row, after the first, that a search may do without any progress
MAX_DEPTH = 1e20  # of a loss below zero, in units of its size where the search started; no lower bound is likely there
LEAST_FALL = 0.9  # a gradient that falls by this factor is progress, though the loss is flat to its last digits
SMALL = 0.1  # of the largest gradient, for a claim of convergence: at a kink, or on an endless slope, it stays large


def at_rest(
    memory: State, value: float, size: float, dtype: torch.dtype, rates: Sequence[float] = (1.0,)
) -> Status | None:
    """Take in where a step starts; say so where the last ones have lowered neither loss nor gradient.

    It has converged where the last step did not promise any more than rounding errors, and the gradient is small beside
    what it was; it has no lower bound where it is far below zero. A loss that is not what it was where the last step
    ended belongs to another function, such as the next batch's, or the parameters were moved by somebody else: then
    everything is new. So it is where a rate has risen, as in a warm-up: the steps that were too short are no more.

    Args:
        memory: what is kept between steps; empty before the first.
        value: the loss where the step starts.
        size: the norm of its gradient there.
        dtype: type of the loss.
        rates: of the parameter groups.
    """
    # In half precision the losses of two batches are often alike up to a few units in the last place.
    exact = 4.0 * min(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    same = bool(memory) and abs(value - memory["ended"]) <= exact * abs(value)
    before = memory.get("rates", rates)
    if not same or len(before) != len(rates) or any(map(operator.gt, rates, before)):
        same = False
        memory.update(idle=0, failed=0, moved=False, promised=math.inf, scale=math.inf)
        memory.update(loss=value, smallest=size, largest=abs(value), steepest=size)
    rounding = _rounding(memory, value, dtype)
    if same:
        falls = value < memory["loss"] - rounding or size < LEAST_FALL * memory["smallest"]
        memory["idle"] = 0 if falls else memory["idle"] + memory["moved"]
        if falls:  # the small falls of several steps add up
            memory.update(loss=min(value, memory["loss"]), smallest=min(size, memory["smallest"]))
    memory.update(ended=value, moved=False, rates=list(rates))
    memory["steepest"] = max(size, memory.get("steepest", size))
    if value < -MAX_DEPTH * max(1.0, memory["largest"]):
        return Status.UNBOUNDED
    if memory["failed"] >= MAX_FAILED:
        return Status.CONVERGED if _has_converged(memory, size, rounding) else Status.NO_STEP
    if memory["idle"] <= MAX_IDLE:
        return None
    return Status.CONVERGED if _has_converged(memory, size, rounding) else Status.NO_PROGRESS


def remember(memory: State, value: float | None, promised: float) -> None:
    """Keep where a step ended, and by how much it was to lower the loss."""
    if memory and value is not None:
        memory.update(scale=abs(memory["ended"]), ended=value, promised=promised, moved=True, failed=0)


def no_step(memory: State, value: float, size: float, dtype: torch.dtype) -> Status:
    """Take in that no step was found, and say what that means."""
    if not memory:
        return Status.NO_STEP
    memory["failed"] += 1
    return Status.CONVERGED if _has_converged(memory, size, _rounding(memory, value, dtype)) else Status.NO_STEP


def _has_converged(memory: State, size: float, rounding: float) -> bool:
    return memory["promised"] <= rounding and size <= SMALL * memory.get("steepest", math.inf)


def _rounding(memory: State, value: float, dtype: torch.dtype) -> float:
    """Return what differences of the loss are noise: where it is now, and where the last promise was made."""
    eps = 4.0 * torch.finfo(dtype).eps
    value = min(abs(value), memory["scale"])
    # Residuals that cancel leave eps times their terms, and the loss has the squares of that.
    return eps * max(abs(value), eps * memory["largest"])
