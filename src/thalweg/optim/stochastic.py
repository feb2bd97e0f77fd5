"""A line search for mini-batches: the step grows between steps, and the decrease is judged on average."""

import dataclasses
import math
from typing import ClassVar, final

from thalweg.optim.base import AbstractStepSize, Found, Line, Needs, State
from thalweg.optim.line_search import check_share, check_trials


@final
@dataclasses.dataclass(frozen=True)
class StochasticArmijo(AbstractStepSize):
    r"""Shrinks the step until the batch losses fall enough **on average over the last steps**.

    With the step's own batch before and after it, $\varphi_k(t)$, exponential averages of what was promised and of what
    came are kept, and the first t is taken for which

    $$\beta h_{k-1} + (1-\beta) \left( \varphi_k(0) - \varphi_k(t) \right) \ge
      c \left[ \beta s_{k-1} + (1-\beta) \, t \, |\varphi_k'(0)| \right].$$

    Between steps t grows by the factor `growth`, so that it follows the curvature both ways. One step may raise the
    loss of its batch as long as the last ones together lowered theirs by enough. Where a direction with momentum does
    not lead downhill on this batch, it promises nothing, and the averages decide.

    Args:
        slope: c, in (0, 1): 0.1 for the gradient, 0.3 for Adam's direction.
        smoothing: beta, in [0, 1); 0 judges each step by itself.
        growth: factor between steps, at least 1.
        shrink: factor between trials, in (0, 1).
        start_step: t of the first trial of all; None: 1 where the move has a length of its own, else a move of length
            1.
        largest: t never exceeds it; positive.
        max_trials: at least 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> StochasticArmijo(slope=0.3, smoothing=0.9).growth
        1.3

    Source: Vaswani and others, "Painless Stochastic Gradient: Interpolation, Line-Search, and Convergence Rates"
    (2019); Kenneweg and others, "No learning rates needed: Introducing SALSA, Stable Armijo Line Search Adaptation"
    (2024).

    Where the gradient's noise outweighs the gradient, as in training a language model from scratch, a tuned schedule
    needs fewer evaluations; it is at its best where the model can fit all of its data.
    """

    slope: float = 0.1
    smoothing: float = 0.9
    growth: float = 1.3
    shrink: float = 0.5
    start_step: float | None = None
    largest: float = math.inf
    max_trials: int = 20
    needs: ClassVar[Needs] = Needs.VALUES
    needs_downhill: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_share(self.slope, "StochasticArmijo(slope=...)")
        check_share(self.shrink, "StochasticArmijo(shrink=...)")
        check_trials(self.max_trials, "StochasticArmijo(max_trials=...)")
        if not 0.0 <= self.smoothing < 1.0:
            raise ValueError(f"StochasticArmijo(smoothing=...) must lie in [0, 1); got {self.smoothing!r}.")
        if not self.growth >= 1.0:
            raise ValueError(f"StochasticArmijo(growth=...) must be at least 1; got {self.growth!r}.")
        for name, value in (("start_step", self.start_step), ("largest", self.largest)):
            if value is not None and not value > 0.0:
                raise ValueError(f"StochasticArmijo({name}=...) must be positive; got {value!r}.")

    def search(self, line: Line, state: State) -> Found:
        """Return the first step that keeps the averages in order."""
        if not (math.isfinite(line.slope) and line.length > 0.0):
            return Found(0.0)
        beta = self.smoothing
        came, promised = state.get("came", 0.0), state.get("promised", 0.0)
        t = min(self._first(line, state), self.largest, line.largest)
        for trial in range(1, self.max_trials + 1):
            value = line.value_at(t)
            now_came = beta * came + (1.0 - beta) * (line.value - value)
            now_promised = beta * promised + (1.0 - beta) * t * max(-line.slope, 0.0)
            close = line.rounding if t * abs(line.slope) <= line.rounding else 0.0
            if now_came + (1.0 - beta) * close >= self.slope * now_promised:
                state.update(step=t, came=now_came, promised=now_promised, natural=line.natural)
                return Found(t, value, num_trials=trial)
            t *= self.shrink if math.isfinite(value) else 0.1 * self.shrink
        state.update(step=t / self.shrink, natural=line.natural)
        return Found(0.0, num_trials=self.max_trials)

    def _first(self, line: Line, state: State) -> float:
        # A step along the bare gradient says nothing about the step along a direction with a length of its own.
        if "step" in state and state["natural"] == line.natural:
            return self.growth * state["step"]
        if self.start_step is not None:
            return self.start_step
        return 1.0 if line.natural else 1.0 / line.length
