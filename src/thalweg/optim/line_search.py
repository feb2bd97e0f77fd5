"""Step sizes: a fixed one, and backtracking until the loss has fallen enough."""

import dataclasses
import math
from typing import ClassVar, final

from thalweg.optim.base import AbstractStepSize, Found, Line, Needs, State


@final
@dataclasses.dataclass(frozen=True)
class Fixed(AbstractStepSize):
    r"""Goes the whole way without looking: $x + \text{lr} \cdot d$.

    The number becomes the `lr` of every parameter group that has none, and there schedulers drive it. With `Update` it
    multiplies the inner optimizer's own rate.

    Args:
        lr: positive and finite.

    Raises:
        ValueError: `lr` out of range.

    Example:
        >>> import torch
        >>> from thalweg.optim.descent import Descent
        >>> from thalweg.optim.directions import Gradient
        >>> w = torch.ones(2, requires_grad=True)
        >>> optimizer = Descent([w], Gradient(), Fixed(0.1))
        >>> w.grad = torch.tensor([1.0, -1.0])
        >>> optimizer.step()
        >>> w.detach()
        tensor([0.9000, 1.1000])

    Not for directions whose length means nothing far from a minimum, such as BFGS in its first steps, unless it is
    small.
    """

    lr: float = 1.0
    needs: ClassVar[Needs] = Needs.GRADIENT
    needs_downhill: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the rate."""
        if not 0.0 < self.lr < math.inf:
            raise ValueError(f"Fixed(lr=...) must be positive and finite; got {self.lr!r}.")

    @property
    def rate(self) -> float:
        """The number itself."""
        return self.lr

    def search(self, line: Line, state: State) -> Found:
        """Return 1: the groups' `lr` is in the line already."""
        del state
        return Found(min(1.0, line.largest))


@final
@dataclasses.dataclass(frozen=True)
class Armijo(AbstractStepSize):
    r"""Backtracks until the loss has fallen by a share of what the slope promises.

    With $\varphi(t) = f(x + t d)$, the first t is taken for which

    $$\varphi(t) \le \varphi(0) + c \, t \, \varphi'(0),$$

    where c is `slope`. The next t minimizes the parabola, later the cubic, through the values seen, and lies between
    0.1 and 0.5 of the last one. It needs values only, so with an `Objective` a trial is a forward pass. Where the
    promised decrease is below the rounding errors of the loss, an equal loss is enough: Newton steps then go on to the
    last digits.

    A direction with a length of its own (Newton, quasi-Newton) is tried at t = 1 first; for the others the first trial
    promises `growth` times the decrease that the last step's t promised.

    Args:
        slope: c, in (0, 1).
        growth: at least 1.
        max_trials: at least 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> Armijo(slope=1e-4).max_trials
        25

    Source: Armijo, "Minimization of functions having Lipschitz continuous first partial derivatives" (1966); Nocedal
    and Wright, "Numerical Optimization" (2006), chapter 3.

    Not for noisy losses: on a small batch it finds the step that suits this batch. See `StochasticArmijo`.
    """

    slope: float = 1e-4
    growth: float = 2.0
    max_trials: int = 25
    needs: ClassVar[Needs] = Needs.VALUES

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_share(self.slope, "Armijo(slope=...)")
        check_trials(self.max_trials, "Armijo(max_trials=...)")
        if not self.growth >= 1.0:
            raise ValueError(f"Armijo(growth=...) must be at least 1; got {self.growth!r}.")

    def search(self, line: Line, state: State) -> Found:
        """Return the first step found that lowers the loss enough."""
        t = first_trial(line, state, self.growth)
        before: tuple[float, float] | None = None
        unseen = slack(line, t)
        for trial in range(1, self.max_trials + 1):
            value = line.value_at(t)
            if falls_enough(line, t, value, self.slope) or (unseen and value <= line.value + unseen):
                remember_trial(line, state, t)
                return Found(t, value, num_trials=trial)
            t, before = backtrack(line, t, value, before), (t, value)
            if drowns(line, t):
                return Found(0.0, num_trials=trial)
        return Found(0.0, num_trials=self.max_trials)


def falls_enough(line: Line, t: float, value: float, slope: float) -> bool:
    """Whether the loss fell by the share `slope` of what the line promises."""
    return value - line.value <= slope * promised_at(line, t)  # differences: small ones must not be rounded away


def promised_at(line: Line, t: float) -> float:
    """Return the change of the loss that slope and measured curvature promise at step t."""
    return t * line.slope + 0.5 * t * t * line.curvature


def drowns(line: Line, t: float) -> bool:
    """Whether what is promised at step t is below rounding errors, so that a smaller loss there would be luck."""
    return -promised_at(line, t) <= line.rounding


def slack(line: Line, t: float) -> float:
    """Return by how much the loss may seem to rise where the first step promises less than rounding errors.

    Shorter steps promise less, too, and prove nothing: only the first one counts.
    """
    return line.rounding if drowns(line, t) else 0.0


def first_trial(line: Line, state: State, growth: float = 1.0) -> float:
    """Return the step to try first: 1 where the move has a length of its own, else by what the last step promised."""
    if line.natural:
        t = 1.0
    elif "promised" in state and line.slope < 0.0:
        change = state["promised"] / line.slope
        t = growth * min(max(change, 0.1 * state["step"]), 10.0 * state["step"])
    else:
        t = 1.0 / line.length
    return min(t, line.largest)


def remember_trial(line: Line, state: State, t: float) -> None:
    """Keep what the next first trial is made from."""
    if not line.natural and line.slope < 0.0:
        state["step"], state["promised"] = t, t * line.slope


def backtrack(line: Line, t: float, value: float, before: tuple[float, float] | None) -> float:
    """Return a smaller step: where the interpolation of the values seen has its minimum, kept within 0.1 and 0.5 of t.

    Args:
        line: gives value and slope at 0.
        t: the last step tried.
        value: the loss there.
        before: step and loss tried before that one; None: a parabola instead of a cubic.
    """
    if not math.isfinite(value):
        return 0.2 * t
    excess = value - line.value - line.slope * t
    best = -0.5 * line.slope * t * t / excess if excess > 0.0 else 0.5 * t
    if before is not None and math.isfinite(before[1]):
        u, other = before[0], before[1] - line.value - line.slope * before[0]
        a = (excess / (t * t) - other / (u * u)) / (t - u)
        b = (-u * excess / (t * t) + t * other / (u * u)) / (t - u)
        inside = b * b - 3.0 * a * line.slope
        if a != 0.0 and inside >= 0.0:
            best = (-b + math.sqrt(inside)) / (3.0 * a)
    return min(max(best, 0.1 * t), 0.5 * t) if math.isfinite(best) else 0.5 * t


def check_share(value: float, call: str) -> None:
    """Raise ValueError unless `value` lies in (0, 1)."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{call} must lie in (0, 1); got {value!r}.")


def check_trials(value: int, call: str) -> None:
    """Raise ValueError unless `value` is at least 1."""
    if value < 1:
        raise ValueError(f"{call} must be at least 1; got {value!r}.")
