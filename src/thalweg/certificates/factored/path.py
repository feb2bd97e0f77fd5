"""A path of optima of linear models in two factors, from a strong penalty to a weak one."""

import time
from collections.abc import Iterable, Iterator

from thalweg.certificates.factored.newton import NewtonState, step
from thalweg.certificates.factored.problem import Factored, FactoredPoint
from thalweg.certificates.factored.start import start
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.losses import AbstractLoss
from thalweg.certificates.path_point import LOOSE, PathPoint
from thalweg.status import Status

MAX_STEPS = 60


def factored_path(
    features: Features,
    loss: AbstractLoss,
    penalties: Iterable[float],
    *,
    width: int,
    intercept: bool = True,
    tolerance: float = LOOSE,
) -> Iterator[PathPoint]:
    r"""Yield linear models in two factors near their optimum, one for each penalty, each started from the one before.

    The gaps are proved ones. The caller may stop at any point, and gets no further ones computed.

    Args:
        features: $X$; shared by all penalties.
        loss: $L$.
        penalties: $\lambda$ of both factors, best in a geometric series from strong to weak.
        width: columns of the factors; the number of outputs is always enough.
        intercept: whether there is a bias; it is not penalized.
        tolerance: relative gap to stop at.

    Yields:
        For each penalty a point whose `weights` are $E$ `[num_features, width]`, $W$ `[outputs, width]` and $b$.

    Raises:
        ValueError: for a penalty that is not above zero.

    Example:
        >>> import torch
        >>> from thalweg.certificates.losses import SoftmaxLoss
        >>> loss = SoftmaxLoss.of_labels(torch.tensor([0, 1, 0, 1]), 2)
        >>> for point in factored_path(Features(torch.eye(4)), loss, [0.1, 0.03], width=2):
        ...     print(point.l2, point.gap <= 1e-2)
        0.1 True
        0.03 True

    When not to use it: for a proof to more digits; give the point that was chosen to
    `thalweg.certificates.factored.newton.solve`.
    """
    now: FactoredPoint | None = None
    for l2 in penalties:
        began = time.process_time()
        problem, state = Factored(features, loss, l2, intercept=intercept), NewtonState()
        now = start(problem, width) if now is None else problem.after(now.embedding, now.weight, now.bias, now.z)
        gap = problem.relative_gap(now)
        while gap > tolerance and state.steps < MAX_STEPS:
            now, status = step(problem, now, state)
            if status is Status.STATIONARY:
                break
            gap = problem.relative_gap(now)
        seconds = time.process_time() - began
        yield PathPoint(l2, (now.embedding, now.weight, now.bias), gap, state.products, seconds)
