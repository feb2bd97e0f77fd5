"""What can be done with the eigenvalues of a curvature matrix: make them positive, or stay within a radius."""

import abc
import dataclasses
import math
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.optim.base import AbstractModel
from thalweg.optim.line_search import check_fraction


class AbstractEigenvalues(abc.ABC):
    """Makes eigenvalues positive, so that `-H^-1 g` leads downhill."""

    @abc.abstractmethod
    def positive(self, values: Tensor) -> Tensor:
        """Return positive eigenvalues for eigenvalues `[n]` in ascending order."""


@final
@dataclasses.dataclass(frozen=True)
class Absolute(AbstractEigenvalues):
    r"""Saddle-free: $|\lambda|$, so that the step leaves saddles along negative curvature.

    Args:
        least: smallest result as a fraction of the largest $|\lambda|$, in (0, 1).

    Source: Dauphin and others, "Identifying and attacking the saddle point problem in high-dimensional non-convex
    optimization" (2014).
    """

    least: float = 1e-8

    def __post_init__(self) -> None:
        check_fraction(self.least, "Absolute(least=...)")

    @override
    def positive(self, values: Tensor) -> Tensor:
        return _at_least(values.abs(), values, self.least)


@final
@dataclasses.dataclass(frozen=True)
class Floor(AbstractEigenvalues):
    r"""Modified Newton: $\max(\lambda, \text{least} \cdot \max|\lambda|)$.

    Args:
        least: fraction of the largest absolute eigenvalue, in (0, 1). The smaller, the longer the steps along
            negative and zero curvature.

    Source: Nocedal and Wright, "Numerical Optimization" (2006), section 3.4.
    """

    least: float = 1e-3

    def __post_init__(self) -> None:
        check_fraction(self.least, "Floor(least=...)")

    @override
    def positive(self, values: Tensor) -> Tensor:
        return _at_least(values, values, self.least)


@final
@dataclasses.dataclass(frozen=True)
class Shift(AbstractEigenvalues):
    r"""Moves all eigenvalues up until the smallest is not negative, $\lambda - \min(0, \lambda_\min)$.

    To be used with a `Damping`, which adds the rest.

    Args:
        least: smallest result as a fraction of the largest $|\lambda|$, in (0, 1).
    """

    least: float = 1e-12

    def __post_init__(self) -> None:
        check_fraction(self.least, "Shift(least=...)")

    @override
    def positive(self, values: Tensor) -> Tensor:
        return _at_least(values - values.min().clamp(max=0.0), values, self.least)


def _at_least(changed: Tensor, values: Tensor, fraction: float) -> Tensor:
    tiny = torch.finfo(values.dtype).tiny
    return torch.maximum(changed, (fraction * values.abs().max()).clamp(min=tiny))


@final
class SpectralModel(AbstractModel):
    r"""A quadratic model in the basis of its eigenvectors, minimized within a ball exactly.

    The step is $-(\Lambda + \sigma I)^{-1} \hat g$ in that basis, with the smallest $\sigma \ge \max(0, -\lambda_\min)$
    for which it is no longer than the radius; where even that is too short (the hard case), it goes on along the
    eigenvector of $\lambda_\min$.

    Args:
        values: eigenvalues `[k]` in ascending order.
        basis: eigenvectors `[n, k]`; all of the gradient lies in their span.
        gradient: flat, `[n]`.

    Source: More and Sorensen, "Computing a trust region step" (1983).
    """

    def __init__(self, values: Tensor, basis: Tensor, gradient: Tensor) -> None:
        self.values, self.basis = values, basis
        along = basis.T @ gradient
        # Rounding errors of the gradient must not be divided by eigenvalues that are nearly zero.
        noise = 20.0 * torch.finfo(gradient.dtype).eps * gradient.norm()
        self.coordinates = torch.where(along.abs() > noise, along, 0.0)

    @override
    def within(self, radius: float) -> tuple[Tensor, float]:
        lowest, largest = self.values[0].item(), self.values.abs().max().item()
        rounding = 10.0 * torch.finfo(self.values.dtype).eps * largest
        low = max(0.0, -lowest) + (rounding if lowest <= rounding else 0.0)
        step = self._step(low)
        length = step.norm().item()
        if length > radius:
            step = self._step(self._shift(radius, low))
        elif lowest < -rounding:  # the hard case: the gradient has nothing along the most negative curvature
            along = step[0].item()
            rest = math.sqrt(max(along * along + radius * radius - length * length, 0.0))
            step[0] = -math.copysign(rest, self.coordinates[0].item())
        predicted = -(self.coordinates @ step + 0.5 * (self.values * step) @ step)
        return self.basis @ step, predicted.item()

    def _step(self, shift: float) -> Tensor:
        return -self.coordinates / (self.values + shift).clamp(min=torch.finfo(self.values.dtype).tiny)

    def _shift(self, radius: float, low: float) -> float:
        """Return the shift that gives a step as long as the radius, by Newton's method on 1/length in a bracket."""
        high = low + self.coordinates.norm().item() / radius
        shift = low
        for _ in range(60):
            step = self._step(shift)
            length, curvature = torch.stack([step.norm(), (step * step / (self.values + shift)).sum()]).tolist()
            if abs(length - radius) <= 1e-8 * radius:
                break
            low, high = (shift, high) if length > radius else (low, shift)
            shift += length * length * (length - radius) / (radius * curvature) if curvature > 0.0 else 0.0
            if not low < shift < high:
                shift = 0.5 * (low + high)
        return shift


def spectral_model(dense: Tensor, gradient: Tensor) -> SpectralModel:
    """Return the model of a symmetric matrix and a gradient.

    Entries that neither know of (missing connections, units that are never active) are left out before the eigenvalues
    are computed, so that they stay where they are to the last bit.
    """
    known = (dense != 0.0).any(1) | (gradient != 0.0)
    if bool(known.all()) or not bool(known.any()):
        values, basis = torch.linalg.eigh(dense)
        return SpectralModel(values, basis, gradient)
    values, inner = torch.linalg.eigh(dense[known][:, known])
    basis = dense.new_zeros(len(gradient), len(values))
    basis[known] = inner
    return SpectralModel(values, basis, gradient)
