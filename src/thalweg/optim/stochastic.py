"""A line search for mini-batches: the step grows between steps, and the decrease is judged on average."""

import dataclasses
import math
from typing import ClassVar, final

from typing_extensions import override

from thalweg.errors import require
from thalweg.optim.backtracking import backtrack
from thalweg.optim.base import AbstractStepSize, Line, Requires, SearchResult, State
from thalweg.optim.line_search import is_hopeless, rounding_allowance

# To first order a direction that leads uphill on this batch has the ratio -1; what is below comes from curvature.
LOWEST_RATIO = -2.0
FAR = 1e4  # a step whose loss rises by so many times what it was to fall by is orders of magnitude too long


@final
@dataclasses.dataclass(frozen=True)
class StochasticArmijo(AbstractStepSize):
    r"""Shrinks the step until the batch losses fall enough **on average over the last steps**.

    On the step's own batch, before and after it, $\varphi_k(t)$, the ratio of the decrease to that predicted by the
    slope is

    $$r_k(t) = \min\left(1, \frac{\varphi_k(0) - \varphi_k(t)}{t \, |\varphi_k'(0)|}\right),$$

    and the first t is taken for which the exponential average $\bar r_k = \beta \bar r_{k-1} + (1-\beta) \, r_k(t)$
    is at least c, and the ratio itself at least -2. Between searches t grows by the factor `growth`, so that it follows
    the curvature both ways.

    One step may raise the loss of its batch, by some multiple of the predicted decrease, as long as the last ones
    together did well; so a direction with momentum need not lead downhill on every batch. Where it leads
    uphill, no t would bring the average to c: then t shrinks once, unless the loss rises steeply even so. Ratios are
    averaged, not the decreases themselves: early ones are so large that they would excuse everything later.

    **A schedule multiplies the step that was found.** Where the groups' rates are below their peak (`initial_lr`, which
    PyTorch's schedulers set, or OneCycle's `max_lr`), the search looks as far as it would at the peak and goes the
    fraction of it that the schedule says; so a decay to zero over a known horizon averages the noise away.

    While the step is steady, searches may be rarer: each that ends where it began, but for the growth, lets one step
    more go by before the next one, up to `every`. The steps between cost no evaluation.

    Args:
        slope: c, in (0, 1): 0.1 for the gradient, 0.3 for Adam's direction, 0.8 where batches are noisy (texts).
        smoothing: beta, in [0, 1); 0 judges each step by itself.
        growth: factor between searches, at least 1.
        shrink: factor between trials, in (0, 1).
        start_step: t of the first trial of all; None: 1 where the direction is well scaled, else a step of length 1.
        largest: t never exceeds it; positive.
        max_trials: at least 1.
        every: the most steps from one search to the next, at least 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> StochasticArmijo(slope=0.3).growth
        1.3

    Source: Vaswani and others, "Painless Stochastic Gradient: Interpolation, Line-Search, and Convergence Rates"
    (2019); Kenneweg and others, "No learning rates needed: Introducing SALSA, Stable Armijo Line Search Adaptation"
    (2024).

    Where the gradient's noise outweighs the gradient, as in training a language model from scratch, a tuned schedule
    needs fewer evaluations; it is at its best where the model can fit all of its data.
    """

    slope: float = 0.1
    smoothing: float = 0.5
    growth: float = 1.3
    shrink: float = 0.5
    start_step: float | None = None
    largest: float = math.inf
    max_trials: int = 20
    every: int = 1
    requires: ClassVar[Requires] = Requires.VALUES
    requires_descent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(0.0 < self.slope < 1.0, "StochasticArmijo(slope=...) must lie in (0, 1)", self.slope)
        require(0.0 < self.shrink < 1.0, "StochasticArmijo(shrink=...) must lie in (0, 1)", self.shrink)
        require(self.max_trials >= 1, "StochasticArmijo(max_trials=...) must be at least 1", self.max_trials)
        require(self.every >= 1, "StochasticArmijo(every=...) must be at least 1", self.every)
        require(0.0 <= self.smoothing < 1.0, "StochasticArmijo(smoothing=...) must lie in [0, 1)", self.smoothing)
        require(self.growth >= 1.0, "StochasticArmijo(growth=...) must be at least 1", self.growth)
        for name, value in (("start_step", self.start_step), ("largest", self.largest)):
            require(value is None or value > 0.0, f"StochasticArmijo({name}=...) must be positive", value)

    @override
    def search(self, line: Line, state: State) -> SearchResult:
        if not (math.isfinite(line.slope) and line.length > 0.0):
            return SearchResult(0.0)
        known = "step" in state and state["well_scaled"] == line.well_scaled
        if known and state["wait"] > 0:
            state["wait"] -= 1
            return SearchResult(min(state["step"], self.largest, line.largest))
        beta, before, scale = self.smoothing, state.get("average", self.slope), 1.0 / line.schedule
        size = abs(line.slope) * scale  # of the slope where the rates are at their peak, as are all multiples here
        uphill = line.slope >= 0.0
        t = min(self._first(line, state, 1.0 if uphill else self.growth), self.largest, line.largest)
        allowance, begun = rounding_allowance(line, t * scale), t
        average, far = before, 0.1 * self.shrink  # after a loss that is not finite, too

        def accepts(t: float, value: float) -> bool:
            nonlocal average
            decrease, predicted = line.value - value + allowance, t * size + allowance
            ratio = min(decrease / predicted, 1.0) if predicted > 0.0 and math.isfinite(value) else -math.inf
            average = beta * before + (1.0 - beta) * ratio
            return (average >= self.slope or (uphill and t < begun)) and ratio >= LOWEST_RATIO

        found = backtrack(
            lambda t: line.value_at(t * scale),
            accepts,
            t,
            shorten=lambda t, value: t * (self.shrink if value - line.value <= FAR * t * size else far),
            hopeless=lambda t: not uphill and is_hopeless(line, t * scale),
            max_trials=self.max_trials,
        )
        memory = {"well_scaled": line.well_scaled, "wait": 0, "gap": 0}
        if found.value is None:
            state.update(memory, step=found.step / self.shrink)
            return SearchResult(0.0, num_trials=found.num_trials)
        if found.step == begun and known:
            memory["gap"] = memory["wait"] = min(state["gap"] + 1, self.every - 1)
        state.update(memory, step=found.step, average=max(average, self.slope))  # less could not be made up for
        value = found.value if line.schedule == 1.0 else None  # the step ends where nothing was evaluated
        return SearchResult(found.step, value, num_trials=found.num_trials)

    def _first(self, line: Line, state: State, growth: float) -> float:
        # A step along the bare gradient says nothing about the step along a well-scaled direction.
        if "step" in state and state["well_scaled"] == line.well_scaled:
            return growth * state["step"]
        if self.start_step is not None:
            return self.start_step
        return 1.0 if line.well_scaled else 1.0 / line.length
