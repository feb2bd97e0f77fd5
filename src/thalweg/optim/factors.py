"""What a learning rate is multiplied with at a step: the formulas of the schedules, as pure functions of numbers.

`steps` counts from the end of the warmup, `length` is how many there are from there on; `s` goes from 0 to 1.
"""

import math
from collections.abc import Callable


def with_warmup(step: int, *, first: int, rise: Callable[[float], float], after: Callable[[int], float]) -> float:
    """Return the factor at a step of the run, of which the first ones are the warmup."""
    return rise((step + 1) / first) if step < first else after(step - first)


def linear_rise(s: float) -> float:
    """Return `s`."""
    return s


def cosine_rise(s: float) -> float:
    """Return half a cosine from 0 to 1."""
    return 0.5 * (1.0 - math.cos(math.pi * s))


def sqrt_rise(s: float) -> float:
    """Return `1 - sqrt(1 - s)`."""
    return 1.0 - math.sqrt(1.0 - s)


def rise_from(s: float, *, steps: int, start: float) -> float:
    """Return a straight line from `start` at the first of so many steps to 1 at the last one."""
    return start + (1.0 - start) * (round(s * steps) - 1) / max(1, steps - 1)


def linear_fall(s: float, num_cycles: float) -> float:
    """Return `1 - s`."""
    del num_cycles
    return 1.0 - s


def cosine_fall(s: float, num_cycles: float) -> float:
    """Return waves between 1 and 0; half a cycle goes down once."""
    return 0.5 * (1.0 + math.cos(2.0 * math.pi * num_cycles * s))


def sqrt_fall(s: float, num_cycles: float) -> float:
    """Return `1 - sqrt(s)`."""
    del num_cycles
    return 1.0 - math.sqrt(s)


RISES = {"linear": linear_rise, "cosine": cosine_rise, "1-sqrt": sqrt_rise}
FALLS = {"linear": linear_fall, "cosine": cosine_fall, "1-sqrt": sqrt_fall}


def level(steps: int) -> float:
    """Return 1."""
    del steps
    return 1.0


def polynomial(steps: int, *, length: int, power: float, end_ratio: float) -> float:
    """Return a power of what is left of the run, down to `end_ratio`."""
    return (1.0 - end_ratio) * (1.0 - _progress(steps, length)) ** power + end_ratio


def cosine(steps: int, *, length: int, num_cycles: float, end_ratio: float, ahead: int = 0) -> float:
    """Return waves between 1 and `end_ratio`, taken some steps ahead."""
    return (1.0 - end_ratio) * cosine_fall(_progress(steps + ahead, length), num_cycles) + end_ratio


def restarts(steps: int, *, length: int, num_cycles: int) -> float:
    """Return half cosines from 1 to 0, one after the other."""
    s = _progress(steps, length)
    return 0.0 if s >= 1.0 else 0.5 * (1.0 + math.cos(math.pi * ((num_cycles * s) % 1.0)))


def inverse_sqrt(steps: int, *, timescale: int) -> float:
    """Return the inverse square root of the steps, 1 at the first."""
    return math.sqrt(timescale / (timescale + steps))


def stable_decay(
    steps: int, *, stable: int, length: int, end_ratio: float, num_cycles: float, fall: Callable[[float, float], float]
) -> float:
    """Return 1 for `stable` steps, then the way down to `end_ratio`."""
    if steps < stable:
        return 1.0
    s = _progress(steps - stable, length)
    return end_ratio if s >= 1.0 else (1.0 - end_ratio) * fall(s, num_cycles) + end_ratio


def drops(steps: int, *, step_size: int, gamma: float) -> float:
    """Return a power of `gamma`, one more after each `step_size` steps."""
    return gamma ** (steps // step_size)


def exponential(steps: int, *, gamma: float) -> float:
    """Return a power of `gamma`, one more after each step."""
    return gamma**steps


def _progress(steps: int, length: int) -> float:
    return min(1.0, steps / length) if length else 1.0
