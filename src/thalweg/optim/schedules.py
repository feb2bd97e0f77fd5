"""The learning-rate schedules people know, by their known names.

Each takes an optimizer and returns a PyTorch `LRScheduler` that is stepped once after every optimizer step. The rate
of a parameter group is its own base rate times a factor that is a pure function of the number of steps taken, so that
a resumed schedule cannot drift; the state is plain numbers.

Warmup counts from step 0: with `W` steps of warmup the first step is taken at `1/W` of the base rate, not at zero, and
step `W - 1` at the full rate. Decay is counted from step `W`. (Hugging Face's functions of the same names start at
zero; from step `W` on the factors agree, for the same settings.)
"""

import functools
import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from thalweg.errors import require
from thalweg.optim import factors


def warmup_steps(warmup: float, total_steps: int | None) -> int:
    """Return a warmup as a number of steps: below 1 it is a fraction of the run, from 1 on a whole number of steps.

    Raises ValueError for numbers out of range, more warmup than steps, or a fraction of an unknown number of steps.
    """
    require(total_steps is None or total_steps >= 1, "total_steps=... must be at least 1", total_steps)
    require(
        0 <= warmup < 1 or (warmup >= 1 and warmup == math.floor(warmup)),
        "warmup=... must be a fraction of the run in [0, 1) or a whole number of steps from 1 on",
        warmup,
    )
    if 0 < warmup < 1:
        if total_steps is None:
            raise ValueError(f"warmup=... must be in steps where total_steps is None; got the fraction {warmup!r}.")
        return round(warmup * total_steps)
    require(
        total_steps is None or warmup <= total_steps, f"warmup=... must be at most total_steps={total_steps}", warmup
    )
    return int(warmup)


def constant(optimizer: Optimizer, *, total_steps: int | None = None, warmup: float = 0) -> LRScheduler:
    """Return the schedule that never changes the rate.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: not used; here so that all schedules are called alike.
        warmup: not used either; see `constant_with_warmup`.
    """
    warmup_steps(warmup, total_steps)
    return _schedule(optimizer, 0, factors.level)


def constant_with_warmup(optimizer: Optimizer, *, total_steps: int | None = None, warmup: float = 0) -> LRScheduler:
    """Return warmup, then the base rate forever.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run; needed where `warmup` is a fraction.
        warmup: see `warmup_steps`.
    """
    return _schedule(optimizer, warmup_steps(warmup, total_steps), factors.level)


def linear(optimizer: Optimizer, *, total_steps: int, warmup: float = 0) -> LRScheduler:
    """Return warmup, then a straight line down to 0 at step `total_steps` (which is not taken).

    The factor after `W` steps of warmup is `(T - t) / (T - W)` at step `t` of `T = total_steps`.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run, at least 1.
        warmup: see `warmup_steps`.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        >>> schedule = linear(optimizer, total_steps=4)
        >>> rates = []
        >>> for _ in range(4):
        ...     rates.append(optimizer.param_groups[0]["lr"])
        ...     optimizer.step(); schedule.step()
        >>> rates
        [1.0, 0.75, 0.5, 0.25]
    """
    return polynomial(optimizer, total_steps=total_steps, warmup=warmup, power=1.0)


def polynomial(
    optimizer: Optimizer, *, total_steps: int, warmup: float = 0, power: float = 1.0, end_ratio: float = 0.0
) -> LRScheduler:
    """Return warmup, then a polynomial down to a fraction of the base rate.

    The factor at progress `s` from 0 to 1 is `(1 - end_ratio) (1 - s)^power + end_ratio`.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run, at least 1.
        warmup: see `warmup_steps`.
        power: positive; 1 is `linear`.
        end_ratio: fraction of the base rate at the end, in [0, 1].
    """
    require(power > 0, "polynomial(power=...) must be positive", power)
    require(0 <= end_ratio <= 1, "polynomial(end_ratio=...) must lie in [0, 1]", end_ratio)
    first = warmup_steps(warmup, _known(total_steps, "polynomial"))
    return _schedule(optimizer, first, factors.polynomial, length=total_steps - first, power=power, end_ratio=end_ratio)


def cosine(
    optimizer: Optimizer, *, total_steps: int, warmup: float = 0, num_cycles: float = 0.5, end_ratio: float = 0.0
) -> LRScheduler:
    """Return warmup, then half a cosine down to a fraction of the base rate.

    The factor at progress `s` from 0 to 1 is `(1 - end_ratio) (1 + cos(2 pi num_cycles s)) / 2 + end_ratio`.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run, at least 1.
        warmup: see `warmup_steps`.
        num_cycles: cosine waves in the run, positive; 0.5 goes down once.
        end_ratio: fraction of the base rate at the lowest point, in [0, 1].

    Source: Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017).
    """
    require(num_cycles > 0, "cosine(num_cycles=...) must be positive", num_cycles)
    require(0 <= end_ratio <= 1, "cosine(end_ratio=...) must lie in [0, 1]", end_ratio)
    first = warmup_steps(warmup, _known(total_steps, "cosine"))
    length = total_steps - first
    return _schedule(optimizer, first, factors.cosine, length=length, num_cycles=num_cycles, end_ratio=end_ratio)


def cosine_with_min_lr(
    optimizer: Optimizer,
    *,
    total_steps: int,
    warmup: float = 0,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> LRScheduler:
    """Return `cosine` with its end given as a rate or as a fraction of the base rate: exactly one of them.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run, at least 1.
        warmup: see `warmup_steps`.
        num_cycles: cosine waves in the run, positive; 0.5 goes down once.
        min_lr: lowest rate, for the optimizer's own `lr`; other groups end at the same fraction of theirs.
        min_lr_rate: lowest rate as a fraction of the base rate, in [0, 1].
    """
    end_ratio = _end_ratio(optimizer, min_lr, min_lr_rate, "cosine_with_min_lr")
    return cosine(optimizer, total_steps=total_steps, warmup=warmup, num_cycles=num_cycles, end_ratio=end_ratio)


def cosine_warmup_with_min_lr(
    optimizer: Optimizer,
    *,
    total_steps: int,
    warmup: float = 0,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> LRScheduler:
    """Return `cosine_with_min_lr` one step ahead, so that the last step is taken at the lowest rate.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run, at least 1.
        warmup: see `warmup_steps`.
        num_cycles: as for `cosine_with_min_lr`.
        min_lr: as for `cosine_with_min_lr`.
        min_lr_rate: as for `cosine_with_min_lr`.
        warmup_lr_rate: fraction of the base rate that the warmup starts with, in [0, 1]; None: 1 / W.
    """
    name = "cosine_warmup_with_min_lr"
    end_ratio = _end_ratio(optimizer, min_lr, min_lr_rate, name)
    require(num_cycles > 0, f"{name}(num_cycles=...) must be positive", num_cycles)
    first = warmup_steps(warmup, _known(total_steps, name))
    length = total_steps - first
    rise = factors.linear_rise
    if warmup_lr_rate is not None:
        require(0 <= warmup_lr_rate <= 1, f"{name}(warmup_lr_rate=...) must lie in [0, 1]", warmup_lr_rate)
        rise = functools.partial(factors.rise_from, steps=first, start=warmup_lr_rate)
    numbers = {"length": length, "num_cycles": num_cycles, "end_ratio": end_ratio, "ahead": 1}
    return _schedule(optimizer, first, factors.cosine, rise, **numbers)


def cosine_with_restarts(
    optimizer: Optimizer, *, total_steps: int, warmup: float = 0, num_cycles: int = 2
) -> LRScheduler:
    """Return warmup, then half cosines from the base rate to 0, each followed by a jump back up.

    The factor at progress `s` is `(1 + cos(pi ((num_cycles s) mod 1))) / 2`, and 0 from `s = 1` on.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run, at least 1.
        warmup: see `warmup_steps`.
        num_cycles: descents in the run, at least 1.

    Source: Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017).
    """
    require(
        num_cycles >= 1 and num_cycles == int(num_cycles),
        "cosine_with_restarts(num_cycles=...) must be a whole number from 1 on",
        num_cycles,
    )
    first = warmup_steps(warmup, _known(total_steps, "cosine_with_restarts"))
    return _schedule(optimizer, first, factors.restarts, length=total_steps - first, num_cycles=num_cycles)


def inverse_sqrt(
    optimizer: Optimizer, *, total_steps: int | None = None, warmup: float = 0, timescale: int | None = None
) -> LRScheduler:
    """Return warmup, then the inverse square root of the step.

    The factor `u` steps after the warmup is `sqrt(timescale / (timescale + u))`; with the default time scale that is
    `sqrt(W / t)` at step `t`.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run; needed where `warmup` is a fraction.
        warmup: see `warmup_steps`.
        timescale: steps, at least 1; None: the warmup `W`, or 10,000 without one.

    Source: Vaswani et al., "Attention Is All You Need" (2017), section 5.3.
    """
    first = warmup_steps(warmup, total_steps)
    require(timescale is None or timescale >= 1, "inverse_sqrt(timescale=...) must be at least 1", timescale)
    return _schedule(optimizer, first, factors.inverse_sqrt, timescale=timescale or first or 10_000)


def warmup_stable_decay(
    optimizer: Optimizer,
    *,
    total_steps: int,
    warmup: float = 0,
    decay: float = 0.2,
    end_ratio: float = 0.0,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    num_cycles: float = 0.5,
) -> LRScheduler:
    """Return warmup, the base rate for most of the run, then the way down.

    The factor at progress `s` of the way down is `(1 - end_ratio) d(s) + end_ratio`, where `d` is `1 - s` (linear),
    `(1 + cos(2 pi num_cycles s)) / 2` (cosine) or `1 - sqrt(s)` (1-sqrt). With progress `s` of the warmup its factor is
    `s`, `(1 - cos(pi s)) / 2` or `1 - sqrt(1 - s)`.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run, at least 1.
        warmup: see `warmup_steps`.
        decay: length of the way down: a fraction of the run below 1, or a number of steps.
        end_ratio: fraction of the base rate that it goes down to, in [0, 1].
        warmup_type: "linear", "cosine" or "1-sqrt".
        decay_type: the same.
        num_cycles: cosine waves on the way down, positive; 0.5 goes down once.

    Source: Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models" (2024); "1-sqrt": Haegele et al.,
    "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations" (2024).
    """
    for key, shape, shapes in (("warmup_type", warmup_type, factors.RISES), ("decay_type", decay_type, factors.FALLS)):
        if shape not in shapes:
            raise ValueError(f"warmup_stable_decay({key}=...) must be one of {', '.join(shapes)}; got {shape!r}.")
    require(num_cycles > 0, "warmup_stable_decay(num_cycles=...) must be positive", num_cycles)
    require(0 <= end_ratio <= 1, "warmup_stable_decay(end_ratio=...) must lie in [0, 1]", end_ratio)
    first = warmup_steps(warmup, _known(total_steps, "warmup_stable_decay"))
    try:
        last = warmup_steps(decay, total_steps)
    except ValueError as error:
        raise ValueError(str(error).replace("warmup=", "warmup_stable_decay: decay=")) from None
    if first + last > total_steps:
        raise ValueError(
            f"warmup_stable_decay(decay=...) must leave room for the warmup: {first} steps of warmup and {last} of "
            f"decay are more than total_steps={total_steps}."
        )
    stable = total_steps - first - last
    numbers = {"stable": stable, "length": last, "end_ratio": end_ratio, "num_cycles": num_cycles}
    rise, fall = factors.RISES[warmup_type], factors.FALLS[decay_type]
    return _schedule(optimizer, first, factors.stable_decay, rise, fall=fall, **numbers)


def step(
    optimizer: Optimizer,
    *,
    total_steps: int | None = None,
    warmup: float = 0,
    step_size: int | None = None,
    gamma: float = 0.1,
) -> LRScheduler:
    """Return warmup, then the base rate times `gamma` to the number of whole `step_size`s gone by.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run; needed where `warmup` is a fraction or `step_size` None.
        warmup: see `warmup_steps`.
        step_size: steps between two drops, at least 1; None: a third of the run.
        gamma: factor of one drop, in (0, 1].
    """
    require(0 < gamma <= 1, "step(gamma=...) must lie in (0, 1]", gamma)
    if step_size is None:
        steps = _known(total_steps, "step")
        step_size = max(1, (steps - warmup_steps(warmup, steps)) // 3)
    require(step_size >= 1, "step(step_size=...) must be at least 1", step_size)
    return _schedule(optimizer, warmup_steps(warmup, total_steps), factors.drops, step_size=step_size, gamma=gamma)


def exponential(
    optimizer: Optimizer, *, total_steps: int | None = None, warmup: float = 0, gamma: float | None = None
) -> LRScheduler:
    """Return warmup, then the base rate times `gamma` to the number of steps since.

    Args:
        optimizer: whose groups' rates are set.
        total_steps: steps of the run; needed where `warmup` is a fraction or `gamma` None.
        warmup: see `warmup_steps`.
        gamma: factor of each step, in (0, 1]; None: the one that ends the run at 1 % of the base rate.
    """
    if gamma is None:
        steps = _known(total_steps, "exponential")
        gamma = math.pow(0.01, 1 / max(1, steps - warmup_steps(warmup, steps)))
    require(0 < gamma <= 1, "exponential(gamma=...) must lie in (0, 1]", gamma)
    return _schedule(optimizer, warmup_steps(warmup, total_steps), factors.exponential, gamma=gamma)


def _end_ratio(optimizer: Optimizer, min_lr: float | None, min_lr_rate: float | None, schedule: str) -> float:
    if (min_lr is None) == (min_lr_rate is None):
        raise ValueError(f"{schedule} needs where it ends: either min_lr or min_lr_rate; got {min_lr}, {min_lr_rate}.")
    if min_lr_rate is not None:
        require(0 <= min_lr_rate <= 1, f"{schedule}(min_lr_rate=...) must lie in [0, 1]", min_lr_rate)
        return min_lr_rate
    assert min_lr is not None
    rate = optimizer.defaults.get("lr", optimizer.param_groups[0]["lr"])
    require(0 <= min_lr <= rate, f"{schedule}(min_lr=...) must lie between 0 and the optimizer's rate {rate:g}", min_lr)
    return min_lr / rate


def _schedule(
    optimizer: Optimizer,
    first: int,
    formula: Callable[..., float],
    rise: Callable[[float], float] = factors.linear_rise,
    **numbers: Any,
) -> LambdaLR:
    # Partials of module-level functions, so that a schedule can be pickled; its saved state is an empty dict.
    after = functools.partial(formula, **numbers)
    return LambdaLR(optimizer, functools.partial(factors.with_warmup, first=first, rise=rise, after=after))


def _known(total_steps: int | None, schedule: str) -> int:
    if total_steps is None:
        raise ValueError(f"{schedule}(total_steps=...) must be given: this schedule depends on the length of the run.")
    return total_steps
