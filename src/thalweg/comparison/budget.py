"""How long a run lasts, and when in it it is scored. Imports no torch."""

import dataclasses
import math
from typing import Final, final

from thalweg.training.recipe.recipe import Recipe

# Fractions of a run at which it is scored: close together at its beginning, where the quick ones reach the target.
MOMENTS: Final = (
    0.0, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45,
    0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0,
)  # fmt: skip
OVERTIME: Final = 1.1  # of its budget, after which a run whose schedule is planned is stopped all the same


@final
@dataclasses.dataclass(frozen=True)
class Limit:
    """When a run ends: after so many steps, or after so many seconds of training, whichever comes first."""

    steps: int
    seconds: float = math.inf

    def progress(self, step: int, seconds: float) -> float:
        """Return the fraction of the run that is behind."""
        return max(step / self.steps, seconds / self.seconds)


def limit_of(recipe: Recipe, seconds: float | None, steps: int | None, pace: float) -> Limit:
    """Return when the runs of an entrant end.

    Where a schedule has to know its end, as many steps are planned as fit into the seconds at the pace that was
    measured; such a run is stopped at 1.1 times the seconds. Without a schedule it is stopped at the seconds.
    """
    if steps is not None:
        return Limit(steps)
    assert seconds is not None
    planned = max(1, int(seconds / pace)) if math.isfinite(pace) and pace > 0 else 1
    if recipe.training.schedule == "constant":
        return Limit(20 * planned, seconds)
    return Limit(planned, OVERTIME * seconds)
