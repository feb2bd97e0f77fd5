"""Polishing a head with an L1 penalty: Newton steps on the few weights that matter, down to a proved relative gap."""

import math
from typing import Final

import torch
from torch import Tensor

from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.polish import Polished
from thalweg.certificates.linear.regularizers import L1, ElasticNet
from thalweg.certificates.losses import best_bias
from thalweg.certificates.number_losses import HingeLoss
from thalweg.status import Status

GROWTH: Final = 2  # the working set holds so many times the features in use
LEAST: Final = 50  # features of the first working set
MAX_SWEEPS: Final = 200


def polish_sparse(
    head: Head, point: HeadPoint | None = None, *, tolerance: float = 1e-6, max_steps: int = 100
) -> Polished:
    """Improve a head with an L1 or elastic-net penalty until its relative gap is proved to be at most the tolerance.

    Each step looks at all features once, takes the most promising ones into a working set, and goes a Newton step on
    them: the quadratic model with the penalty is minimized by accelerated proximal gradients on its dense matrix.

    Args:
        head: a problem with one output, an `L1` or `ElasticNet` penalty and a smooth loss.
        point: where to start; None: zero.
        tolerance: relative gap.
        max_steps: steps at most.

    Raises:
        ValueError: for another regularizer, several outputs, or a hinge loss.

    Example:
        >>> from thalweg.certificates.linear.matrices import Features
        >>> from thalweg.certificates.number_losses import LogisticLoss
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.0]])
        >>> head = Head(Features(x), LogisticLoss(torch.tensor([[1.0], [0], [1], [0]])), L1(0.02), intercept=False)
        >>> polished = polish_sparse(head)
        >>> polished.status.name, head.relative_gap(polished.point) <= 1e-6
        ('CONVERGED', True)

    Source: Massias, Gramfort and Salmon (2018), Celer: a Fast Solver for the Lasso with Dual Extrapolation (working
    sets); Yuan, Ho and Lin (2012), An Improved GLMNET for L1-regularized Logistic Regression (Newton steps).
    """
    if not isinstance(head.regularizer, L1 | ElasticNet) or isinstance(head.loss, HingeLoss):
        raise ValueError("polish_sparse(head) needs an L1 or elastic-net penalty and a smooth loss.")
    if head.loss.num_outputs != 1:
        raise ValueError(f"polish_sparse(head) is for one output; got {head.loss.num_outputs}.")
    regularizer = head.regularizer
    l1 = regularizer.strength if isinstance(regularizer, L1) else regularizer.l1
    l2 = 0.0 if isinstance(regularizer, L1) else regularizer.l2
    if point is None:
        zeros = torch.zeros(head.features.shape[1], 1, dtype=torch.float64, device=head.features.device)
        point = head.at(zeros, best_bias(head.loss) if head.intercept else None)
    before, best, size = point.total, -math.inf, LEAST
    for count in range(max_steps + 1):
        best = max(best, point.total - head.gap(point))
        if point.total - best <= tolerance * abs(point.total):
            return Polished(point, Status.CONVERGED, best, before - point.total, 0, count + 1)
        used = int((point.weight != 0.0).sum())
        size = min(len(point.weight), max(size, GROWTH * used))
        chosen = _promising(point, l1, size)
        new = _step(head, point, chosen, l1, l2)
        if new is None:
            return Polished(point, Status.NO_STEP, best, before - point.total, 0, count + 1)
        point = new
    return Polished(point, Status.OUT_OF_ITERATIONS, best, before - point.total, 0, max_steps)


def _promising(point: HeadPoint, l1: float, size: int) -> Tensor:
    """Return the features in use, and those whose derivatives come nearest to the penalty."""
    nearness = torch.where(point.weight != 0.0, math.inf, point.gradient.abs() / l1).squeeze(1)
    return torch.topk(nearness, size).indices.sort().values


def _step(head: Head, point: HeadPoint, chosen: Tensor, l1: float, l2: float) -> HeadPoint | None:
    """Go a Newton step in the chosen weights and the bias, with a backtracking search."""
    columns = head.features.columns(chosen).float()  # for the curvature and the way of the predictions: a few digits do
    curvature = head.loss.curvature(point.z.float()).diagonal
    free = 1.0 if head.intercept else 0.0
    joined = torch.cat([columns, torch.full_like(columns[:, :1], free)], dim=1)
    gram = (joined.T @ (curvature * joined)).double()
    gram.diagonal().add_(l2 + 1e-12)
    weight = torch.cat([point.weight[chosen, 0], point.bias])
    slope = torch.cat([l2 * point.weight[chosen, 0] - point.gradient[chosen, 0], -free * point.residual.sum(0)])
    penalty = torch.full_like(weight, l1)
    penalty[-1] = 0.0
    moved = _minimize(gram, slope - gram @ weight, penalty, weight) - weight
    moved[-1] *= free
    along = (joined @ moved.float()).double().unsqueeze(1)
    old = float((penalty * weight.abs()).sum())
    expected = float(slope @ moved + (penalty * (weight + moved).abs()).sum()) - old
    length = 1.0
    for _ in range(30):
        full = point.weight.clone()
        full[chosen, 0] += length * moved[:-1]
        value = float(head.loss.value(point.z + length * along) + head.regularizer.penalty(full))
        if value <= point.total + 1e-4 * length * expected + 1e-15 * abs(point.total):
            return head.at(full, point.bias + length * moved[-1:])
        length *= 0.5
    return None


def _minimize(gram: Tensor, linear: Tensor, penalty: Tensor, start: Tensor) -> Tensor:
    r"""Return the minimizer of $\frac12 w^\top G w + c^\top w + \sum_j p_j |w_j|$, by Newton's method on its signs.

    Proximal gradient steps find which entries are zero; the others solve a linear equation.
    """
    bend = 1.0 / float(torch.linalg.matrix_norm(gram, 2))
    w, momentum, t = start.clone(), start.clone(), 1.0
    for _ in range(MAX_SWEEPS):
        for _ in range(10):
            new = _shrink(momentum - bend * (gram @ momentum + linear), bend * penalty)
            after = (1.0 + math.sqrt(1.0 + 4.0 * t * t)) / 2.0
            momentum, w, t = new + (t - 1.0) / after * (new - w), new, after
        active = (w != 0.0) | (penalty == 0.0)
        sign = torch.sign(w)
        inside = torch.linalg.solve(gram[active][:, active], -(linear + penalty * sign)[active])
        solved = torch.zeros_like(w)
        solved[active] = inside
        slope = gram @ solved + linear
        kept = (torch.sign(solved) == sign)[active] | (penalty == 0.0)[active]
        rest = slope.abs()[~active] <= penalty[~active] * (1.0 + 1e-12)
        if bool(kept.all()) and bool(rest.all()):
            return solved
    return w


def _shrink(values: Tensor, by: Tensor) -> Tensor:
    return torch.sign(values) * (values.abs() - by).clamp_min(0.0)
