"""A learning rate that is tried before it is used: a few steps at it must lower the loss."""

import dataclasses
import math
from collections.abc import Callable
from typing import Final, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg import vectors
from thalweg.objective import Objective
from thalweg.optim.clipping import AbstractClip, NoClip

FACTOR: Final = 4.0
MAX_TRIES: Final = 12
TOO_FAST: Final = 0.1  # of the loss: what it may rise by, since few steps on other batches say little
TOO_SLOW: Final = 3e-4  # of the loss: a gain so small in a try means that the rate may be far too low
CLEARLY: Final = 2.0  # a larger rate must gain so many times as much


@final
@dataclasses.dataclass(frozen=True)
class FoundRate:
    """A rate, and what it took.

    Args:
        factor: what the optimizer's own rates are to be multiplied with, a power of 4.
        num_gradients: gradients that were computed.
        num_values: losses that were computed without one.
        before: loss at the start, on batches that no try steps on.
        after: loss there after the steps of the try that was taken; that of the start where all of them failed.
    """

    factor: float
    num_gradients: int
    num_values: int
    before: float
    after: float


def find_rate(
    optimizer: Callable[[], Optimizer],
    objective: Callable[[int], Objective],
    *,
    num_steps: int = 4,
    clip: Callable[[], AbstractClip] = NoClip,
) -> FoundRate:
    r"""Return what the rates of an optimizer should be multiplied with: a line search along the first steps.

    From the start, `num_steps` steps are taken while the rate rises to its full size, and the loss of two further
    batches is compared with what it was. Where it has risen by more than a tenth, the rate is divided by 4 and tried
    again from the same start. Where it has hardly moved (by less than 0.03 %), 4 times the rate is tried, and taken
    if that gains at least twice as much; and so on. A rate that is right is thus tried once, at the cost of
    `num_steps` gradients and four losses. Parameters and buffers (the running means of a batch norm) are put back.

    Args:
        optimizer: makes a fresh optimizer over the parameters, at the rates that are to be tried first.
        objective: step -> the objective on that step's batches, all of them over the same parameters, and with the same
            random numbers whenever it is asked for the same step.
        num_steps: steps of a try, at least 1.
        clip: makes the clipping of a try.

    Example:
        >>> x = torch.linspace(-1, 1, 32).unsqueeze(1)
        >>> model, head = torch.nn.Linear(1, 1), torch.nn.MSELoss()
        >>> sgd = lambda: torch.optim.SGD(model.parameters(), lr=100.0)
        >>> find_rate(sgd, lambda step: Objective(model, head, x, 2 * x)).factor < 0.1
        True

    Not for a rate to the last digit: it tells a rate that diverges, or hardly moves, from one that does neither.
    """
    first = objective(0)
    parameters = first.parameters
    buffers = [*first.model.buffers(), *first.head.buffers()]
    start, kept = (vectors.clone([tensor.detach() for tensor in tensors]) for tensors in (parameters, buffers))
    counts = {"gradients": 0, "values": 0}

    def loss() -> float:
        counts["values"] += 2
        found = sum(float(objective(num_steps + place).value()) for place in range(2)) / 2
        _put(buffers, kept)
        return found

    def after(factor: float) -> float:
        try:
            return steps(factor)
        finally:
            _put(parameters, start)
            _put(buffers, kept)

    def steps(factor: float) -> float:
        stepped, limit = optimizer(), clip()
        rates = [group["lr"] for group in stepped.param_groups]
        for step in range(num_steps):
            for group, rate in zip(stepped.param_groups, rates, strict=True):
                group["lr"] = rate * factor * (step + 1) / num_steps
            counts["gradients"] += 1
            if not math.isfinite(float(objective(step)())):
                break
            limit(parameters)
            stepped.step()
        found = loss()
        return found if math.isfinite(found) else math.inf

    before = loss()
    if not math.isfinite(before):
        return FoundRate(1.0, 0, counts["values"], before, before)
    factor, best, tries = 1.0, after(1.0), 1
    while best > before + TOO_FAST * abs(before) and tries < MAX_TRIES:
        factor, tries = factor / FACTOR, tries + 1
        best = after(factor)
    while tries < MAX_TRIES and abs(before - best) < TOO_SLOW * abs(before) and factor >= 1.0:
        larger, tries = after(FACTOR * factor), tries + 1
        if not before - larger > max(0.0, CLEARLY * (before - best)):
            break
        factor, best = FACTOR * factor, larger
    if best > before + TOO_FAST * abs(before):
        factor, best = 1.0, before
    return FoundRate(factor, counts["gradients"], counts["values"], before, best)


@torch.no_grad()
def _put(tensors: list[Tensor], values: list[Tensor]) -> None:
    vectors.copy_(tensors, values)
    for tensor in tensors:
        tensor.grad = None
