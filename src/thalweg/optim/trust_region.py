"""A trust region: the model is minimized within a radius that follows how well it has predicted."""

import dataclasses
import math
from typing import ClassVar, final

from typing_extensions import override

from thalweg.errors import require
from thalweg.optim.base import AbstractStepSize, Line, Requires, SearchResult, State, gain_ratio

# Measured with Levenberg-Marquardt on 35 published problems: 1/4 and 2 take 5 % more evaluations of the loss, and three
# times as many where the path down is long and curved. A radius that is still wrong after a few trials is far too long.
SHRINK, GROW, MAX_GENTLE = 0.6, 2.5, 5


@final
@dataclasses.dataclass(frozen=True)
class TrustRegion(AbstractStepSize):
    r"""Minimizes the direction's model within a ball, and lets the ball follow the gain ratio.

    With the model m and the step p of length at most the radius,

    $$\rho = \frac{f(x) - f(x + p)}{m(0) - m(p)} .$$

    The step is taken where $\rho$ exceeds `accept`. Below 1/4 the radius shrinks to 0.6 of the step's length (to 0.1
    after five trials), above 3/4 it grows by 2.5 if the step reached the edge. `Newton`, `NewtonCG` and
    `LevenbergMarquardt` minimize their model within the ball (negative curvature leads to the edge), and measure
    lengths in a norm of their own, which the scale of single parameters does not change; the others shorten their step.

    Args:
        radius: of the first step, positive; None: the direction's model says what suits it.
        largest: the radius never exceeds it.
        accept: in (0, 1/4).
        max_trials: at least 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> TrustRegion(radius=0.5).accept
        0.0001

    Source: Conn, Gould, Toint, "Trust-Region Methods" (2000).

    Not for `Update` (an optimizer's own step comes without a model), nor for small batches, where the ratio is noise.
    """

    radius: float | None = None
    largest: float = math.inf
    accept: float = 1e-4
    max_trials: int = 25
    requires: ClassVar[Requires] = Requires.VALUES | Requires.MODEL

    def __post_init__(self) -> None:
        require(0.0 < 4.0 * self.accept < 1.0, "4 * TrustRegion(accept=...) must lie in (0, 1)", 4.0 * self.accept)
        require(self.max_trials >= 1, "TrustRegion(max_trials=...) must be at least 1", self.max_trials)
        for name, value in (("radius", self.radius), ("largest", self.largest)):
            require(value is None or value > 0.0, f"TrustRegion({name}=...) must be positive", value)

    @override
    def search(self, line: Line, state: State) -> SearchResult:
        if "radius" not in state:
            state["radius"] = min(line.first_radius() if self.radius is None else self.radius, self.largest)
        radius = state["radius"]
        allowance = 0.0
        for trial in range(1, self.max_trials + 1):
            step, predicted, length = line.within(radius)
            if not (length > 0.0 and math.isfinite(length) and predicted > 0.0):
                break
            value = line.value_of(step)
            if trial == 1 and predicted <= line.rounding:  # shorter steps predict less, too, and prove nothing
                allowance = line.rounding
            gain = gain_ratio(line.value - value, predicted, allowance)
            before = radius
            if gain < 0.25:
                radius = (SHRINK if trial <= MAX_GENTLE else 0.1) * min(length, radius)
            elif gain > 0.75 and length > 0.99 * radius:
                radius = min(GROW * radius, self.largest)
            if gain > self.accept:
                state["radius"] = radius
                return SearchResult(1.0, value, step, gain, trial)
            if before < 1e-300:
                break
        # Close to a minimum the ratio is all rounding; the radius it ended with says nothing about the next point.
        return SearchResult(0.0, num_trials=self.max_trials)
