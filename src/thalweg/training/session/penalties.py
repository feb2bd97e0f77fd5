"""Which penalty and which model validation examples speak for: the order in which they are tried, and the rule."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Final, final

import numpy as np

# Strengths are l2 * N, where N is what the loss is divided by: 1 / C of the books. The figures were chosen by looking
# at TREC, SST-2 and BANKING77 (docs/training.md).
FIRST: Final = 1.0
WEAKEST: Final = 1e-3
STRONGEST: Final = 1e2
STEP: Final = math.sqrt(10.0)
PATIENCE: Final = 2  # points without progress after which a path ends
PROGRESS: Final = 0.02  # a loss that falls by a smaller fraction is none


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """How good a model with a penalty is on examples that it was not trained on.

    Args:
        model: name of the model.
        l2: its penalty.
        loss: mean loss per target, without the penalty.
        losses: of each example, `[examples]`.
        right: whether each example was answered correctly, bool `[examples]`; None: there is no right or wrong.
    """

    model: str
    l2: float
    loss: float
    losses: np.ndarray
    right: np.ndarray | None = None

    @property
    def accuracy(self) -> float | None:
        """Fraction of the examples that were answered correctly."""
        return None if self.right is None else float(self.right.mean())


@final
class Path:
    """The strengths of one model in the order in which they are tried: from strong to weak, until it gets no better.

    Where the first is the best, stronger ones follow, until those get no better. `take` says how the last one did.

    Example:
        >>> path, losses = Path(), iter([0.9, 0.5, 0.6, 0.7])
        >>> for strength in path:
        ...     path.take(Judged("linear", strength, next(losses), np.zeros(1)))
        >>> [round(strength, 3) for strength in path.tried]
        [1.0, 0.316, 0.1, 0.032]
    """

    def __init__(self, first: float = FIRST) -> None:
        self.tried: list[float] = []
        self._first = first
        self._points: list[Judged] = []
        self._without_progress = 0

    def take(self, point: Judged) -> None:
        """Say how good the last strength is."""
        before = self._points
        better = not before or (
            point.loss < (1.0 - PROGRESS) * min(other.loss for other in before)
            or not any(is_as_accurate(other, point) for other in before)
        )
        self._points.append(point)
        self._without_progress = 0 if better else self._without_progress + 1

    def __iter__(self) -> Iterator[float]:
        strength = self._first
        while self._without_progress < PATIENCE and strength > WEAKEST * (1.0 - 1e-9):
            self.tried.append(strength)
            yield strength
            strength /= STEP
        if choose(self._points) > 0:
            return
        strength, self._without_progress = self._first * STEP, 0
        while self._without_progress < PATIENCE and strength < STRONGEST * (1.0 + 1e-9):
            self.tried.append(strength)
            yield strength
            strength *= STEP


def choose(points: Sequence[Judged]) -> int:
    """Return which of the points, all judged on the same examples, is taken: the first of the best.

    Of the points that are as accurate as the most accurate one (`is_as_accurate`), it is the one with the lowest loss.
    The loss judges probabilities too, and varies far less with the draw of the examples than the number of right
    answers does. Where nothing is right or wrong the loss alone decides.
    """
    allowed = list(range(len(points)))
    if points[0].right is not None:
        best = max(allowed, key=lambda place: (points[place].accuracy, -points[place].loss))
        allowed = [place for place in allowed if is_as_accurate(points[place], points[best])]
    return min(allowed, key=lambda place: points[place].loss)


def is_as_accurate(point: Judged, other: Judged) -> bool:
    r"""Return whether another point's accuracy on the same examples is not higher by more than chance explains.

    With $b$ examples that only the other one has right and $c$ that only this one has, $b - c - 1 \le \sqrt{b + c}$:
    one standard error of the paired difference, with the correction for continuity. Where nothing is right or wrong
    all points are alike.

    Source: McNemar (1947), Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages.
    """
    if point.right is None or other.right is None:
        return True
    lost, won = int((other.right & ~point.right).sum()), int((point.right & ~other.right).sum())
    return lost - won - 1 <= math.sqrt(lost + won)
