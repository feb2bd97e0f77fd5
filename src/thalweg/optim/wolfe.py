"""A line search for the strong Wolfe conditions: bracket a minimum along the line, then zoom in."""

import dataclasses
import math
from typing import ClassVar, NamedTuple, final

from typing_extensions import override

from thalweg.errors import require
from thalweg.optim.base import AbstractStepSize, Line, Requires, SearchResult, State
from thalweg.optim.line_search import falls_enough, first_trial, is_hopeless, remember_trial

# Where the loss has risen by so many times what it was to fall by, the step is orders of magnitude too long: a cubic
# through numbers of a function that grows like a high power would shorten it by a third only.
FAR = 1e8


@final
class _Trial(NamedTuple):
    t: float
    value: float
    slope: float


@final
@dataclasses.dataclass(frozen=True)
class StrongWolfe(AbstractStepSize):
    r"""Searches along the line until the loss has fallen enough **and** the slope has flattened.

    With $\varphi(t) = f(x + t d)$, it ends where

    $$\varphi(t) \le \varphi(0) + c_1 \, t \, \varphi'(0), \qquad |\varphi'(t)| \le c_2 \, |\varphi'(0)|,$$

    which makes $s^\top y > 0$ for the pair that quasi-Newton methods learn from. It grows the step until a minimum is
    bracketed, then interpolates with cubics. Close to a minimum, where differences of the loss drown in rounding, the
    first condition is judged by the slopes instead (the approximate Wolfe conditions).

    Where the trials are used up, the lowest point that fulfils the first condition is taken.

    Args:
        slope: c1, in (0, 1), below `flatness`.
        flatness: c2, in (0, 1): 0.9 for quasi-Newton directions, 0.1 for a nearly exact search.
        max_trials: evaluations of loss and gradient, at least 1.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> StrongWolfe(flatness=0.1).slope
        0.0001

    Source: Wolfe, "Convergence conditions for ascent methods" (1969); Nocedal and Wright, "Numerical Optimization"
    (2006), algorithms 3.5 and 3.6; Hager and Zhang, "A new conjugate gradient method with guaranteed descent and an
    efficient line search" (2005).

    Not for noisy losses; nor where a gradient costs much more than a value and the direction needs no pairs: `Armijo`.
    """

    slope: float = 1e-4
    flatness: float = 0.9
    max_trials: int = 25
    requires: ClassVar[Requires] = Requires.VALUES | Requires.SLOPES

    def __post_init__(self) -> None:
        require(0.0 < self.slope < 1.0, "StrongWolfe(slope=...) must lie in (0, 1)", self.slope)
        require(0.0 < self.flatness < 1.0, "StrongWolfe(flatness=...) must lie in (0, 1)", self.flatness)
        require(self.max_trials >= 1, "StrongWolfe(max_trials=...) must be at least 1", self.max_trials)
        if not self.slope < self.flatness:
            raise ValueError(
                f"StrongWolfe(slope=..., flatness=...) needs slope < flatness; got {self.slope!r}, {self.flatness!r}."
            )

    @override
    def search(self, line: Line, state: State) -> SearchResult:
        low, high = _Trial(0.0, line.value, line.slope), None
        best: _Trial | None = None
        widths: list[float] = []
        t, trial = first_trial(line, state), 0
        for trial in range(1, self.max_trials + 1):
            now = _Trial(t, *line.value_and_slope_at(t))
            finite = math.isfinite(now.value) and math.isfinite(now.slope)
            enough = finite and self._falls_enough(line, now)
            if enough and (best is None or now.value <= best.value):
                best = now
            if enough and (abs(now.slope) <= -self.flatness * line.slope or (now.t >= line.largest and now.slope < 0)):
                remember_trial(line, state, t)
                return SearchResult(t, now.value, num_trials=trial)
            if not enough or (low.t > 0.0 and now.value > low.value + line.rounding):
                high = now
            elif high is None:
                if now.slope >= 0.0:
                    low, high = now, low
                else:
                    before, low = low, now
                    t = min(_further(before, now), line.largest)
                    continue
            else:
                if now.slope * (high.t - low.t) >= 0.0:
                    high = low
                low = now
            widths.append(abs(high.t - low.t))
            if widths[-1] <= 1e-14 * max(abs(low.t), abs(high.t)):
                break
            t = _between(low, high, halve=len(widths) > 2 and widths[-1] > 0.6 * widths[-3])
            if is_hopeless(line, t):
                break
        if best is None:
            return SearchResult(0.0, num_trials=trial)
        remember_trial(line, state, best.t)
        return SearchResult(best.t, best.value, num_trials=trial)

    def _falls_enough(self, line: Line, now: _Trial) -> bool:
        if falls_enough(line, now.t, now.value, self.slope):
            return True
        # On a parabola, falling enough is the same as this condition on the slope.
        flat = abs(now.slope) <= -self.flatness * line.slope and now.slope <= (2.0 * self.slope - 1.0) * line.slope
        return flat and now.value <= line.value + line.rounding


def _further(before: _Trial, now: _Trial) -> float:
    """A step beyond `now`: where the cubic has its minimum, between 2 and 10 times as far."""
    gap = now.t - before.t
    guess = _cubic_minimum(before, now)
    return min(max(guess, now.t + gap), now.t + 9.0 * gap) if guess is not None else now.t + 3.0 * gap


def _between(low: _Trial, high: _Trial, *, halve: bool) -> float:
    """A step inside the bracket: the cubic's minimum, kept off both ends."""
    gap = high.t - low.t
    if halve or not (math.isfinite(high.value) and math.isfinite(high.slope)):
        return low.t + (0.5 if halve else 0.2) * gap
    if high.value - low.value > FAR * abs(low.slope * gap):
        return low.t + 0.1 * gap
    guess = _cubic_minimum(low, high)
    if guess is None:
        return low.t + 0.5 * gap
    return low.t + min(max((guess - low.t) / gap, 0.1), 0.9) * gap


def _cubic_minimum(a: _Trial, b: _Trial) -> float | None:
    """Where the cubic with these values and slopes has its minimum; None where it has none."""
    gap = b.t - a.t
    theta = a.slope + b.slope - 3.0 * (b.value - a.value) / gap
    inside = theta * theta - a.slope * b.slope
    if not inside >= 0.0 or not math.isfinite(inside):
        return None
    root = math.copysign(math.sqrt(inside), gap)
    below = b.slope - a.slope + 2.0 * root
    guess = b.t - gap * (b.slope + root - theta) / below if below != 0.0 else math.nan
    return guess if math.isfinite(guess) else None
