r"""Modified Bessel functions of large order, as the von Mises-Fisher distribution needs them, in plain torch.

With $v = m/2 - 1$ and concentration $\kappa$, everything follows from one function, smooth also at $\kappa = 0$:

$$L_m(\kappa) = \log\frac{\Gamma(v+1)\,(2/\kappa)^v\,I_v(\kappa)}{1} = \log \mathbb E_u\, e^{\kappa\, u_1},$$

$u$ uniform on the unit sphere of $\mathbb R^m$. It is what the distribution's normalizer is above that of the uniform
distribution; its derivative is the ratio $A_m(\kappa) = I_{v+1}(\kappa)/I_v(\kappa)$. The argument is $q = \kappa^2$,
in which $L_m$ is smooth: a prediction of exactly zero is not a special case.

Debye's uniform expansion, summed in the logarithm, with $z = \kappa/v$, $s = \sqrt{1 + z^2}$, $p = 1/s$:

$$L_m = v\Big[(s-1) - \log\big(1 + \tfrac{s-1}{2}\big)\Big] - \tfrac12\log s + \sum_k \frac{D_k(p) - D_k(1)}{v^k}.$$

No difference of large numbers occurs in it or in its derivatives. Orders too small for it are reached by the recurrence
$\rho_v = 1/(2(v+1) + q\,\rho_{v+1})$ of $\rho_v = A/\kappa$, downward, where it is stable.

Source: NIST Digital Library of Mathematical Functions, 10.41 (uniform expansions) and 10.29 (recurrences).
"""

import dataclasses
import functools
import math
from fractions import Fraction
from typing import Any, final

import torch
from torch import Tensor

from thalweg.errors import require

# The expansion is used from this order on: with 8 terms its ratio is accurate to 3e-13 there.
MIN_ORDER = 24.0


def log_partition(square: Tensor, width: int) -> Tensor:
    r"""Return $L_m(\kappa)$, the logarithm of the mean of $e^{\kappa u_1}$ over the unit sphere.

    Differentiable any number of times, forward and backward; the derivative with respect to $\kappa^2$ is
    $A_m(\kappa)/(2\kappa)$, and $1/(2m)$ at zero.

    Args:
        square: $\kappa^2 \ge 0$, any shape, float32 or float64.
        width: $m$, at least 2.

    Returns:
        The shape of `square`; zero at zero, close to $\kappa^2/(2m)$ for small and to $\kappa$ for large $\kappa$.

    Raises:
        ValueError: `width` is below 2, or `square` is neither float32 nor float64.

    Example:
        >>> log_partition(torch.tensor([0.0, 225.0]), 128)
        tensor([0.0000, 0.8731])

    With `width` below 16 it is right, and slower than the Bessel functions of SciPy would be.
    """
    _check(square, width)
    return _LogPartition.apply(square, width)[0]


def bessel_ratio(kappa: Tensor, width: int) -> Tensor:
    r"""Return $A_m(\kappa) = I_{m/2}(\kappa) / I_{m/2-1}(\kappa)$, the mean length of the projection on the mean.

    Args:
        kappa: concentration, not negative, any shape, float32 or float64.
        width: $m$, at least 2.

    Returns:
        Numbers in [0, 1), the shape of `kappa`, twice differentiable. Relative error below 1e-12 in float64 and 5e-7 in
        float32.

    Raises:
        ValueError: `width` is below 2, or `kappa` is neither float32 nor float64.

    Example:
        >>> bessel_ratio(torch.tensor([0.0, 15.0], dtype=torch.float64), 128)
        tensor([0.0000, 0.1156], dtype=torch.float64)
    """
    _check(kappa, width)
    return 2.0 * kappa * _Slope.apply(kappa.square(), width)


@final
class _LogPartition(torch.autograd.Function):
    """The function of the module's text, and its slope, which most often is wanted as well."""

    generate_vmap_rule = True

    @staticmethod
    def forward(square: Tensor, width: int) -> tuple[Tensor, Tensor]:
        expansion, orders = _plan(width, square.dtype)
        value, half = expansion.value_and_slope(square)
        for order in orders:
            step = square * half / (order + 1.0)
            value = value + torch.log1p(step)
            half = 0.25 / ((order + 1.0) * (1.0 + step))
        return value, half

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0], output[1])
        ctx.save_for_forward(inputs[0])
        ctx.width = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        square, half = ctx.saved_tensors
        return grad_outputs[0] * (_Slope.apply(square, ctx.width) if torch.is_grad_enabled() else half), None

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> tuple[Tensor, None]:
        return grad_inputs[0] * _Slope.apply(ctx.saved_tensors[0], ctx.width), None


@final
class _Slope(torch.autograd.Function):
    r"""The derivative with respect to $q$, $A/(2\kappa)$; its own derivative is made of differentiable operations."""

    generate_vmap_rule = True

    @staticmethod
    def forward(square: Tensor, width: int) -> Tensor:
        expansion, orders = _plan(width, square.dtype)
        half = expansion.slope(square)
        for order in orders:
            half = 0.5 / (2.0 * (order + 1.0) + 2.0 * square * half)
        return half

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        del output
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])
        ctx.width = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0] * _second_derivative(ctx.saved_tensors[0], ctx.width), None

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Tensor:
        return grad_inputs[0] * _second_derivative(ctx.saved_tensors[0], ctx.width)


def _second_derivative(square: Tensor, width: int) -> Tensor:
    """The second derivative of the logarithm of the partition function with respect to the square of kappa."""
    expansion, orders = _plan(width, square.dtype)
    curvature = expansion.curvature(square)
    if orders:
        half = expansion.slope(square)
        for order in orders:
            lower = 0.5 / (2.0 * (order + 1.0) + 2.0 * square * half)
            curvature = -4.0 * lower.square() * (half + square * curvature)
            half = lower
    return curvature


@final
@dataclasses.dataclass(frozen=True)
class _Expansion:
    r"""Debye's expansion for one order, as three polynomials in $p$: of the value and its two derivatives."""

    order: float
    value_terms: tuple[float, ...]  # sum_k (D_k(p) - D_k(1)) / v^k
    slope_terms: tuple[float, ...]  # E(p) = p^2 (1 + 2 p D'(p)) / (2 v)
    curvature_terms: tuple[float, ...]  # E'(p)

    def value_and_slope(self, square: Tensor) -> tuple[Tensor, Tensor]:
        """Without a graph only: it works in place."""
        ratio = square * (1.0 / self.order**2)
        root = (ratio + 1.0).sqrt_()
        inverse = (root + 1.0).reciprocal_()
        above = ratio.mul_(inverse)
        # log(1 + above / 2) with the rounding of the sum put back; several times faster than log1p in float32.
        half = 0.5 * above
        one = half + 1.0
        value = above.sub_(one.log()).sub_(half.sub_(one - 1.0).div_(one)).mul_(self.order)
        p = root.reciprocal_()
        value.add_(p.log(), alpha=0.5).add_(_polynomial(self.value_terms, p))
        return value, inverse.sub_(_polynomial(self.slope_terms, p)).mul_(0.5 / self.order)

    def slope(self, square: Tensor) -> Tensor:
        p = torch.rsqrt(1.0 + square / self.order**2)
        return (p / (1.0 + p) - _polynomial(self.slope_terms, p)) / (2.0 * self.order)

    def curvature(self, square: Tensor) -> Tensor:
        p = torch.rsqrt(1.0 + square / self.order**2)
        return -p.pow(3) / (4.0 * self.order**3) * ((1.0 + p).pow(-2) - _polynomial(self.curvature_terms, p))


def _polynomial(terms: tuple[float, ...], p: Tensor) -> Tensor:
    """Horner's rule; `terms[i]` belongs to the power `i`."""
    result = p * terms[-1] + terms[-2]
    in_place = not torch.is_grad_enabled()
    for term in reversed(terms[:-2]):
        result = result.mul_(p).add_(term) if in_place else result * p + term
    return result


@functools.lru_cache(maxsize=64)
def _plan(width: int, dtype: torch.dtype) -> tuple[_Expansion, tuple[float, ...]]:
    """The expansion to begin with, and the orders to step down through, largest first."""
    order = width / 2 - 1.0
    num_steps = max(0, math.ceil(MIN_ORDER - order))
    start = order + num_steps
    return _expansion(start, _num_terms(start, dtype)), tuple(order + i for i in reversed(range(num_steps)))


def _num_terms(order: float, dtype: torch.dtype) -> int:
    """Terms after which the next is below a few units of rounding (measured against mpmath)."""
    if dtype == torch.float32:
        return 2 if order >= 127 else 3 if order >= 63 else 4
    return 5 if order >= 127 else 6 if order >= 63 else 8


def _expansion(order: float, num_terms: int) -> _Expansion:
    series = _debye(num_terms)
    degree = 3 * num_terms
    value = [sum(float(d.get(power, 0)) / order**k for k, d in enumerate(series)) for power in range(degree + 1)]
    value[0] -= sum(value)
    slope = [0.0, 0.0, 0.5 / order] + [0.0] * degree
    for power in range(1, degree + 1):
        slope[power + 2] += power * value[power] / order
    curvature = [power * term for power, term in enumerate(slope)][1:]
    return _Expansion(order, tuple(value), tuple(slope), tuple(curvature))


@functools.lru_cache(maxsize=16)
def _debye(num_terms: int) -> tuple[dict[int, Fraction], ...]:
    r"""The polynomials $D_0 = 0, D_1, \dots$ with $\log\sum_k U_k(p)/v^k = \sum_k D_k(p)/v^k$, as {power: factor}.

    $U_{k+1} = \frac{p^2(1-p^2)}2 U_k' + \frac18\int_0^p (1-5t^2) U_k(t)\,dt$, $U_0 = 1$.
    """
    plain: list[dict[int, Fraction]] = [{0: Fraction(1)}]
    for _ in range(num_terms):
        following: dict[int, Fraction] = {}
        for power, factor in plain[-1].items():
            for up, change in (
                (1, factor * power / 2 + factor / (8 * (power + 1))),
                (3, -factor * power / 2 - 5 * factor / (8 * (power + 3))),
            ):
                following[power + up] = following.get(power + up, Fraction(0)) + change
        plain.append(following)
    series: list[dict[int, Fraction]] = [{}]
    for n in range(1, num_terms + 1):
        # n U_n = sum_k k D_k U_{n-k}, the derivative of the logarithm
        rest = {power: factor * n for power, factor in plain[n].items()}
        for k in range(1, n):
            for a, first in series[k].items():
                for b, second in plain[n - k].items():
                    rest[a + b] = rest.get(a + b, Fraction(0)) - k * first * second
        series.append({power: factor / n for power, factor in rest.items()})
    return tuple(series)


def _check(tensor: Tensor, width: int) -> None:
    require(width >= 2, "The width of the vectors must be at least 2", width)
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"Bessel functions are computed in float32 or float64; got {tensor.dtype}.")
