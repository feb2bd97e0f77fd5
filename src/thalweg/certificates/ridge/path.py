"""A path of optima, from a strong penalty to a weak one: what the penalty is chosen from."""

import time
from collections.abc import Iterable, Iterator

from thalweg.certificates.linear.head import Head
from thalweg.certificates.linear.matrices import Features
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.losses import AbstractLoss
from thalweg.certificates.path_point import LOOSE, PathPoint
from thalweg.certificates.ridge.single import Iterate, SingleRidge


def ridge_path(
    features: Features,
    loss: AbstractLoss,
    penalties: Iterable[float],
    *,
    intercept: bool = True,
    tolerance: float = LOOSE,
) -> Iterator[PathPoint]:
    r"""Yield linear models near their optimum, one for each penalty, each started where the ones before it lead.

    The start is the best point on the line through the two optima before, which for penalties in a geometric series
    leaves a gap of some percent. Everything is computed in float32. The caller may stop at any point, and gets no
    further ones computed. The gaps are estimates: what is proved is what `solve` reaches from a point.

    Args:
        features: $X$; shared by all penalties.
        loss: $L$.
        penalties: $\lambda$, best in a geometric series from strong to weak (each a third of the one before).
        intercept: whether there is a bias; it is not penalized.
        tolerance: relative gap to stop at.

    Yields:
        For each penalty a point whose `weights` are $M$ `[num_features, outputs]` and $b$ `[outputs]`, float32.

    Raises:
        ValueError: for a penalty that is not above zero.

    Example:
        >>> import torch
        >>> from thalweg.certificates.losses import SoftmaxLoss
        >>> loss = SoftmaxLoss.of_labels(torch.tensor([0, 1, 0, 1]), 2)
        >>> for point in ridge_path(Features(torch.eye(4)), loss, [0.1, 0.03]):
        ...     print(point.l2, point.gap <= 1e-2)
        0.1 True
        0.03 True

    Source: Friedman, Hastie and Tibshirani (2010), Regularization Paths for Generalized Linear Models via Coordinate
    Descent (warm starts along a path).
    When not to use it: for a proof; give the point that was chosen to `thalweg.certificates.ridge.newton.solve`.
    """
    single: SingleRidge | None = None
    now: Iterate | None = None
    before: Iterate | None = None
    for l2 in penalties:
        began = time.process_time()
        problem = Head(features, loss, L2(l2), intercept=intercept) if single is None else None
        single = SingleRidge(problem) if problem is not None else single
        assert single is not None
        single.l2 = L2(l2).strength
        if now is None:
            now, gap, products = single.descend(tolerance)
        else:
            begin = now if before is None else single.extrapolated(now, before)
            before, (now, gap, products) = now, single.approach(begin, tolerance)
        yield PathPoint(l2, (now.weight, now.bias), gap, products, time.process_time() - began)
