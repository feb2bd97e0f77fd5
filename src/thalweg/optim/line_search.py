"""Step sizes: a fixed one, and backtracking until the loss has fallen enough."""

import dataclasses
import functools
import math
from typing import ClassVar, final

from typing_extensions import override

from thalweg.errors import require
from thalweg.optim.backtracking import Interpolation, backtrack, sufficient_decrease
from thalweg.optim.base import AbstractStepSize, Line, Requires, SearchResult, State


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
    requires: ClassVar[Requires] = Requires.GRADIENT
    requires_descent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(0.0 < self.lr < math.inf, "Fixed(lr=...) must be positive and finite", self.lr)

    @property
    @override
    def rate(self) -> float:
        return self.lr

    @override
    def search(self, line: Line, state: State) -> SearchResult:
        return SearchResult(min(1.0, line.largest))  # the groups' `lr` is in the line already


@final
@dataclasses.dataclass(frozen=True)
class Armijo(AbstractStepSize):
    r"""Backtracks until the loss has fallen by a fraction of the predicted decrease.

    With $\varphi(t) = f(x + t d)$, the first t is taken for which

    $$\varphi(t) \le \varphi(0) + c \, t \, \varphi'(0),$$

    where c is `slope`. The next t minimizes the parabola, later the cubic, through the values seen, and lies between
    0.1 and 0.5 of the last one. It needs values only, so with an `Objective` a trial is a forward pass. Where the
    predicted decrease is below the rounding errors of the loss, an equal loss is enough: Newton steps then go on to the
    last digits.

    A well-scaled direction (Newton, quasi-Newton) is tried at t = 1 first; for the others the first trial's predicted
    decrease is `growth` times that of the last step.

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
    requires: ClassVar[Requires] = Requires.VALUES

    def __post_init__(self) -> None:
        require(0.0 < self.slope < 1.0, "Armijo(slope=...) must lie in (0, 1)", self.slope)
        require(self.max_trials >= 1, "Armijo(max_trials=...) must be at least 1", self.max_trials)
        require(self.growth >= 1.0, "Armijo(growth=...) must be at least 1", self.growth)

    @override
    def search(self, line: Line, state: State) -> SearchResult:
        t = first_trial(line, state, self.growth)
        allowance = rounding_allowance(line, t)

        def accepts(t: float, value: float) -> bool:
            return falls_enough(line, t, value, self.slope) or (allowance > 0.0 and value <= line.value + allowance)

        found = backtrack(
            line.value_at,
            accepts,
            t,
            shorten=Interpolation(line.value, line.slope),
            hopeless=functools.partial(is_hopeless, line),
            max_trials=self.max_trials,
        )
        if found.value is None:
            return SearchResult(0.0, num_trials=found.num_trials)
        remember_trial(line, state, found.step)
        return SearchResult(found.step, found.value, num_trials=found.num_trials)


def predicted_decrease(line: Line, t: float) -> float:
    """Return the decrease of the loss that slope and measured curvature predict for step t."""
    return -(t * line.slope + 0.5 * t * t * line.curvature)


def falls_enough(line: Line, t: float, value: float, fraction: float) -> bool:
    """Whether the loss fell by a fraction of what is predicted."""
    return sufficient_decrease(line.value - value, predicted_decrease(line, t), fraction)


def below_rounding(line: Line, t: float) -> bool:
    """Whether the decrease predicted for step t is below rounding errors, so that a smaller loss would be luck."""
    return predicted_decrease(line, t) <= line.rounding


def is_hopeless(line: Line, t: float) -> bool:
    """Whether a shorter step, after one that was not good enough, can prove nothing any more."""
    return below_rounding(line, t) or t <= line.shortest


def rounding_allowance(line: Line, t: float) -> float:
    """Return by how much the loss may seem to rise where the first step's predicted decrease is below rounding errors.

    That of shorter steps is, too, and they prove nothing: only the first one counts.
    """
    return line.rounding if below_rounding(line, t) else 0.0


def first_trial(line: Line, state: State, growth: float = 1.0) -> float:
    """Return the step to try first: 1 along a well-scaled direction, else by the last step's predicted decrease."""
    if line.well_scaled:
        t = 1.0
    elif "decrease" in state and line.slope < 0.0:
        same = state["decrease"] / -line.slope
        t = growth * min(max(same, 0.1 * state["step"]), 10.0 * state["step"])
    else:
        t = 1.0 / line.length
    return min(t, line.largest)


def remember_trial(line: Line, state: State, t: float) -> None:
    """Keep what the next first trial is made from."""
    if not line.well_scaled and line.slope < 0.0:
        state["step"], state["decrease"] = t, -t * line.slope
