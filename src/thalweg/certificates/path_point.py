"""A point of a path of optima, from a strong penalty to a weak one."""

import dataclasses
from typing import Final, final

from torch import Tensor

LOOSE: Final = 1e-2  # relative gap of a path's points; what a smaller one changes in validation scores: docs/log.md


@final
@dataclasses.dataclass(frozen=True, eq=False)
class PathPoint:
    """A point of a path, near the optimum under its penalty."""

    l2: float  # the penalty
    weights: tuple[Tensor, ...]  # as the problem's `at` takes them
    gap: float  # relative; what is said of it is with the function that made the path
    products: int  # with the curvature, for this point
    seconds: float  # of the processor, for this point
