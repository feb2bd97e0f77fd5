"""An optimizer, a schedule and clipping for mini-batches in one's own loop, with no learning rate to choose."""

import dataclasses
from collections.abc import Callable
from typing import final

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective
from thalweg.optim import auto, schedules
from thalweg.optim.clipping import ClipRunning
from thalweg.optim.construct import find_optimizer, make_optimizer
from thalweg.optim.rate_search import find_rate

ADAMW_RATE = 5e-3  # of models without matrices inside


@final
@dataclasses.dataclass(frozen=True)
class Automatic:
    """What `make_automatic` chose.

    Args:
        optimizer: over all parameters.
        schedule: to be stepped once after every step of the optimizer.
        clip: to be called on the parameters before every step of the optimizer; it remembers, see `ClipRunning`.
        lr: peak learning rate.
        why: the reason, in words.
    """

    optimizer: Optimizer
    schedule: LRScheduler
    clip: ClipRunning
    lr: float
    why: str


def make_automatic(
    model: nn.Module,
    head: AbstractHead | nn.Module,
    *,
    total_steps: int,
    lr: float | None = None,
    weight_decay: float = 0.01,
    objective: Callable[[int], Objective] | None = None,
) -> Automatic:
    """Return what `thalweg train --optimizer auto` takes for mini-batches, for a loop of one's own.

    Args:
        model: the network up to its hidden states, or all of it.
        head: the output layer, or a loss without parameters.
        total_steps: steps of the run, at least 1: the rate falls to zero over them.
        lr: peak learning rate; None: by the sizes of the matrices, see `thalweg.optim.choose`.
        weight_decay: decoupled, of weight matrices only, not negative.
        objective: step -> the objective on that step's batches; with it a rate that was not given is tried by
            `find_rate` before it is used, at the cost of about six steps. None: it is not tried.

    Raises:
        InputError: there is nothing to train.

    Example:
        >>> import torch
        >>> from thalweg import Objective
        >>> x = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))
        >>> model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
        >>> def objective(step):
        ...     return Objective(model, nn.MSELoss(), x, x[:, :1] * x[:, 1:])
        >>> chosen = make_automatic(model, nn.MSELoss(), total_steps=100, objective=objective)
        >>> for step in range(100):
        ...     loss = objective(step)()
        ...     clipped = chosen.clip(model.parameters())
        ...     chosen.optimizer.step()
        ...     chosen.schedule.step()
        >>> type(chosen.optimizer).__name__, bool(loss < 0.001)
        ('NorMuon', True)

    Not for small networks whose data are one batch, where `LevenbergMarquardt` or `SelfScaledBroyden` are much faster.
    """
    facts = auto.facts_of(model, head, num_rows=0, batch_rows=0, total_steps=total_steps)
    choice = auto.choose(facts)
    constructor = find_optimizer(choice.settings["optimizer"])
    rate = choice.settings.get("lr", ADAMW_RATE) if lr is None else lr
    options = choice.settings.get("optimizer_options")

    def make() -> Optimizer:
        return make_optimizer(constructor, model, head, lr=rate, weight_decay=weight_decay, options=options)

    if lr is None and objective is not None:
        rate *= find_rate(make, objective, clip=ClipRunning).factor
    optimizer = make()
    schedule = schedules.linear(optimizer, total_steps=total_steps, warmup=round(auto.WARMUP * total_steps))
    return Automatic(optimizer, schedule, ClipRunning(auto.DEVIATIONS), rate, choice.why)
