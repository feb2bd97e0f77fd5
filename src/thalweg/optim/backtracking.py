"""Backtracking: shorten a step until the function has fallen enough; written once, for every search that does it.

It knows numbers only and imports nothing: what a trial costs, what it is accepted for and how the next step is chosen
are the caller's.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import final


@final
@dataclasses.dataclass(frozen=True)
class Backtracked:
    """How a backtracking search ended."""

    step: float  # the one accepted; where none was, the one that would have been tried next
    value: float | None  # the function there; None where no step was accepted
    num_trials: int


def halve(t: float, value: float) -> float:
    """Return half the step."""
    del value
    return 0.5 * t


def backtrack(
    value_at: Callable[[float], float],
    accepts: Callable[[float, float], bool],
    step: float = 1.0,
    *,
    shorten: Callable[[float, float], float] = halve,
    hopeless: Callable[[float], bool] = lambda t: not t > 0.0,
    max_trials: int = 30,
) -> Backtracked:
    """Try shorter and shorter steps until one is accepted, by the step and its value.

    `shorten` makes the next step from both; the search ends where a step is `hopeless`, too short for its value to say
    anything, or after `max_trials`, at least 1.
    """
    for trial in range(1, max_trials + 1):
        value = value_at(step)
        if accepts(step, value):
            return Backtracked(step, value, trial)
        step = shorten(step, value)
        if hopeless(step):
            return Backtracked(step, None, trial)
    return Backtracked(step, None, max_trials)


def sufficient_decrease(decrease: float, predicted: float, fraction: float = 1e-4) -> bool:
    """Whether a decrease is at least a fraction of the predicted one (Armijo's condition); False for NaN."""
    return decrease >= fraction * predicted


@final
class Interpolation:
    """Shortens to where a parabola, later a cubic, through the values seen has its minimum, within 0.1 and 0.5 of t."""

    def __init__(self, value: float, slope: float) -> None:
        self.value, self.slope = value, slope  # of the function, at 0
        self._before: tuple[float, float] | None = None

    def __call__(self, t: float, value: float) -> float:
        """Return the next step."""
        before, self._before = self._before, (t, value)
        if not math.isfinite(value):
            return 0.2 * t
        excess = value - self.value - self.slope * t
        best = -0.5 * self.slope * t * t / excess if excess > 0.0 else 0.5 * t
        if before is not None and math.isfinite(before[1]):
            u, other = before[0], before[1] - self.value - self.slope * before[0]
            a = (excess / (t * t) - other / (u * u)) / (t - u)
            b = (-u * excess / (t * t) + t * other / (u * u)) / (t - u)
            inside = b * b - 3.0 * a * self.slope
            if a != 0.0 and inside >= 0.0:
                best = (-b + math.sqrt(inside)) / (3.0 * a)
        return min(max(best, 0.1 * t), 0.5 * t) if math.isfinite(best) else 0.5 * t
