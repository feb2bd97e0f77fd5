"""Linear models in two factors: where training starts, balanced factors, and columns put to use."""

import math
from typing import Final

import torch
from torch import Tensor

from thalweg.certificates.factored.problem import Factored, FactoredPoint
from thalweg.certificates.losses import best_bias

DROPPED: Final = 1e-10  # singular values below this fraction of the largest are zero


def start(problem: Factored, width: int) -> FactoredPoint:
    r"""Return where training starts: one proximal step from zero, of the best length, in factors of `width` columns.

    With $b$ from the frequencies of the targets and the residuals there, $X^\top R = U S V^\top$;
    the start is $t\, U (S - \lambda)_+ V^\top$, in balanced factors.
    """
    features, loss = problem.features, problem.loss
    outputs = loss.num_outputs
    bias = best_bias(loss) if problem.intercept else torch.zeros_like(loss.targets[0])
    base = bias.expand(features.shape[0], outputs)
    gradient = features.adjoint(loss.value_and_residual(base)[1])
    left, singular, right = _thin_svd(gradient)
    grown = (singular - problem.l2).clamp_min(0.0)[:width]
    along = features.times((left[:, : len(grown)] * grown) @ right[:, : len(grown)].T)
    length = _best_length(problem, base, along, problem.l2 * float(grown.sum())) if bool(grown.any()) else 0.0
    root = (length * grown).sqrt()
    embedding = zero_embedding(problem, width).index_copy_(1, _places(root), left[:, : len(root)] * root)
    weight = gradient.new_zeros(outputs, width).index_copy_(1, _places(root), right[:, : len(root)] * root)
    return problem.after(embedding, weight, bias.clone(), base + length * along)


def zero_embedding(problem: Factored, width: int) -> Tensor:
    """Return zeros in the shape of the embeddings."""
    return torch.zeros(problem.features.shape[1], width, dtype=torch.float64, device=problem.features.device)


def balance(problem: Factored, point: FactoredPoint) -> FactoredPoint:
    r"""Return the point with the same product $E W^\top = U S V^\top$ in the factors $U \sqrt S$ and $V \sqrt S$."""
    width = point.embedding.shape[1]
    squares, basis = torch.linalg.eigh(point.embedding.T @ point.embedding)
    root = squares.clamp_min(0.0).sqrt()
    kept = root > 1e-10 * root[-1]
    left, singular, right = torch.linalg.svd((basis * root).T @ point.weight.T, full_matrices=False)
    keep = singular > DROPPED * singular[0]
    singular = torch.where(keep, singular, 0.0)
    turn = (basis * torch.where(kept, 1.0 / root.clamp_min(1e-300), 0.0)) @ left
    scale, places = singular.sqrt(), _places(singular)
    embedding = zero_embedding(problem, width).index_copy_(1, places, (point.embedding @ turn) * scale)
    weight = torch.zeros_like(point.weight).index_copy_(1, places, right.T * scale)
    penalty = 0.5 * problem.l2 * float(embedding.square().sum() + weight.square().sum())
    if not penalty <= point.penalty:
        return point
    return FactoredPoint(embedding, weight, point.bias, point.z, point.residual, point.gradient, point.value, penalty)


def grow(problem: Factored, point: FactoredPoint) -> FactoredPoint:
    r"""Return the point with unused columns put to use, where that lowers the loss.

    Columns that are zero in both factors stay zero under any gradient. They are of use where a singular value of
    $X^\top R$ in the directions that the other columns leave free is above the penalty.
    """
    free = ~point.weight.any(0)
    if not bool(free.any()):
        return point
    used = point.weight[:, ~free]
    outside = torch.eye(len(used), dtype=used.dtype, device=used.device)
    if used.shape[1]:
        basis = torch.linalg.qr(used)[0]
        outside = outside - basis @ basis.T
    left, singular, right = _thin_svd(point.gradient @ outside)
    grown = (singular - problem.l2 * (1.0 + 1e-9)).clamp_min(0.0)[: int(free.sum())]
    if not bool(grown.any()):
        return point
    columns = free.nonzero().squeeze(1)[: len(grown)]
    left, right = left[:, : len(grown)], right[:, : len(grown)]
    along = problem.features.times((left * grown) @ right.T)
    length = _best_length(problem, point.z, along, problem.l2 * float(grown.sum()))
    root = (length * grown).sqrt()
    embedding = point.embedding.index_copy(1, columns, left * root)
    weight = point.weight.index_copy(1, columns, right * root)
    new = problem.after(embedding, weight, point.bias, point.z + length * along)
    return new if new.total < point.total else point


def _best_length(problem: Factored, base: Tensor, along: Tensor, slope: float) -> float:
    """Return the length t that minimizes L(base + t along) + t slope, nearly, by Newton's method with halving."""
    loss, length = problem.loss, 0.0
    value, residual = loss.value_and_residual(base)
    best = float(value)
    for _ in range(30):
        first = slope - float((residual * along).sum())
        second = float((loss.curvature(base + length * along).product(along) * along).sum())
        if not second > 0.0 or not math.isfinite(first / second):
            break
        change = max(-first / second, -0.5 * length)
        while True:
            value, residual = loss.value_and_residual(base + (length + change) * along)
            if float(value) + slope * (length + change) <= best or abs(change) < 1e-6 * (length + 1e-300):
                break
            change *= 0.5
        length += change
        best = float(value) + slope * length
        if abs(change) <= 0.01 * length:
            break
    return max(length, 0.0)


def _thin_svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, S, V of a tall matrix, largest first, by its Gram matrix: good to half the digits, for directions."""
    squares, right = torch.linalg.eigh(matrix.T @ matrix)
    singular, right = squares.clamp_min(0.0).sqrt().flip(0), right.flip(1)
    return (matrix @ right) / singular.clamp_min(1e-300), singular, right


def _places(values: Tensor) -> Tensor:
    return torch.arange(len(values), device=values.device)
