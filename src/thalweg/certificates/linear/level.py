"""The level of the output layer: its bound, and what polishing it reaches."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from thalweg.certificates.attempts import Clock, Watch
from thalweg.certificates.certificate.interval import Certificate
from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.last_layer import FormRows, head_problem, split_last_layer
from thalweg.certificates.linear.polish import polish
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.losses import SoftmaxLoss, best_bias
from thalweg.certificates.number_losses import HingeLoss, LogisticLoss
from thalweg.errors import InputError
from thalweg.objective import Objective

TOLERANCE: Final = 1e-8  # relative gap to which the layer is polished
NOT_ATTAINED: Final = (
    "This layer classifies every training example correctly, so without a penalty its multiples have losses "
    "arbitrarily close to {}: that is the infimum, and no layer attains it."
)


def head_level(
    objective: Objective,
    rows: FormRows | None = None,
    *,
    seconds: float = math.inf,
    about: Mapping[str, str] | None = None,
) -> Certificate:
    """Return the certificate of the output layer; `reached` is the loss with the polished one.

    The objective is in float64 and evaluation mode, on all training data; polishing ends after some seconds. It raises
    an InputError where there is no layer whose loss is convex in it, or too much data for one piece. Rows and
    `about` are as for `head_problem`.
    """
    begin = time.perf_counter()
    head, point, offset = head_problem(objective, rows, about=about)
    small = not head.features.is_stored  # else the evidence is larger than what is ever saved
    level = head.certificate(point, offset=offset, evidence=small)
    if not _can_be_polished(head):
        least = f"{offset!r}, the penalty on the weights that stay as they are" if offset else "0"
        said = (NOT_ATTAINED.format(least),) if _fits_perfectly(head, point) else ()
        return dataclasses.replace(level, assumptions=(*level.assumptions, *said))
    left = max(0.0, seconds - (time.perf_counter() - begin))
    start = _start(head, point)
    del point  # as large as the predictions
    polished = polish(head, start, tolerance=TOLERANCE, seconds=left)
    del start
    better = head.certificate(polished.point, offset=offset, evidence=small)
    if better.bound > level.bound:
        own = {key: level.evidence[key] for key in ("W", "b") if key in level.evidence}
        level = dataclasses.replace(level, bound=min(better.bound, level.loss), evidence={**better.evidence, **own})
    reached = max(level.bound, min(level.loss, polished.point.total + offset))
    return dataclasses.replace(level, reached=reached, seconds=time.perf_counter() - begin)


def polished_layer(objective: Objective, *, seconds: float = math.inf) -> tuple[Tensor, Tensor | None]:
    """Return weight `[outputs, width]` and bias of the best output layer on the features as they are.

    Polishing ends after some seconds.
    It raises an InputError as `head_level` does, without a penalty on the layer, where there may be no best one, and
    where the features alone would take longer.
    """
    clock = Clock(seconds)
    rows = FormRows(split_last_layer(objective))
    rows.compute(Watch(clock, rows.objective.batches, "Computing the features of the training data for --polish"))
    head, point, _ = head_problem(objective, rows)
    if not _can_be_polished(head):
        raise InputError(
            "Polishing needs an L2 penalty on the output layer (--l2): without one the best layer may be at infinity."
        )
    best = polish(head, _start(head, point), tolerance=TOLERANCE, seconds=clock.left).point
    return best.weight.T.contiguous(), best.bias if head.intercept else None


def _start(head: Head, point: HeadPoint) -> HeadPoint | None:
    """Return where polishing starts; None: at zero, for a layer that is worse than zero.

    Such a layer may be so sure of its mistakes that the loss has no curvature there, and Newton steps lead nowhere.
    """
    zero = head.at(torch.zeros_like(point.weight), best_bias(head.loss) if head.intercept else None)
    return point if point.total <= zero.total else None


def _fits_perfectly(head: Head, point: HeadPoint) -> bool:
    """Whether a layer classifies every example correctly, so that its multiples bring the loss of hard targets to 0."""
    targets = head.loss.targets
    if not bool(((targets == 0.0) | (targets == 1.0)).all()):
        return False
    sizes = point.weight.abs().sum() * float(head.features.row_norms().max()) + point.z.abs().max()
    rounding = 1e-12 * float(sizes)  # more than a prediction is off
    if isinstance(head.loss, SoftmaxLoss):
        own = torch.where(targets == 1.0, point.z, -torch.inf).amax(1)
        others = torch.where(targets == 1.0, -torch.inf, point.z).amax(1)
        return bool((own - others > rounding).all())
    return isinstance(head.loss, LogisticLoss) and bool(((2.0 * targets - 1.0) * point.z > rounding).all())


def _can_be_polished(head: Head) -> bool:
    return isinstance(head.regularizer, L2) and not isinstance(head.loss, HingeLoss)
