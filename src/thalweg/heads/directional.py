r"""Losses of a prediction's length and its inner product with one vector: value, curvature, both in closed form.

With the prediction $e$, a vector $u$, $q = \lVert e\rVert^2$ and $t = e \cdot u$, the loss of a row is $f(q, t)$. Its
curvature in $e$ follows from five derivatives of $f$:

$$H = 2 f_q I + 4 f_{qq}\, e e^\top + 2 f_{qt} (e u^\top + u e^\top) + f_{tt}\, u u^\top,$$

a multiple of the identity and a matrix on the span of $e$ and $u$, whose two eigenvalues there are known. Nothing is
divided by $\lVert e\rVert$, so a prediction of zero is not a special case.
"""

import abc
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from thalweg.heads.continuous import AbstractContinuous

# Added to the square of a length before its root, so that the length has a derivative at zero.
SMALL_SQUARE = 1e-8


class AbstractDirectional(AbstractContinuous):
    """A family whose loss is a function of the prediction's square and of one inner product.

    A family of your own writes `potential`; gradient, curvature, masks, decoding and perplexity follow.
    """

    @abc.abstractmethod
    def potential(self, square: Tensor, dot: Tensor) -> Tensor:
        r"""Return the loss of each row, `[n]`, in operations that differentiate twice.

        Args:
            square: $q = \lVert e \rVert^2$, `[n]`.
            dot: $t = e \cdot u_y$, `[n]`.
        """

    def _against(self, prediction: Tensor, ids: Tensor, real: Tensor | None) -> Tensor:
        """Return the vectors `[n, m]` of the inner products."""
        del prediction, real
        return self.targets(ids)

    @final
    def _losses(self, prediction: Tensor, ids: Tensor, real: Tensor | None) -> Tensor:
        vectors = self._against(prediction, ids, real).to(prediction.dtype)
        return self.potential(prediction.square().sum(-1), (prediction * vectors).sum(-1))

    @final
    def _curvature(self, prediction: Tensor, ids: Tensor, real: Tensor | None, v: Tensor, root: bool) -> Tensor:
        with torch.no_grad():
            vectors = self._against(prediction, ids, real).to(prediction.dtype)
            square, dot = prediction.square().sum(-1), (prediction * vectors).sum(-1)
        with torch.enable_grad():
            q, t = square.requires_grad_(), dot.requires_grad_()
            slope_q, slope_t = _derivatives(self.potential(q, t), q, t)
            second_qq, second_qt = _derivatives(slope_q, q, t)
            _, second_tt = _derivatives(slope_t, q, t)
        with torch.no_grad():
            curved = PlaneCurvature(prediction, vectors, 2.0 * slope_q, 4.0 * second_qq, 2.0 * second_qt, second_tt)
            return curved.apply(v, root)


def _derivatives(of: Tensor, q: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of each number with respect to its own two; zeros where it does not depend on them."""
    if not of.requires_grad:
        return torch.zeros_like(q), torch.zeros_like(t)
    slope_q, slope_t = torch.autograd.grad(of.sum(), (q, t), create_graph=True, materialize_grads=True)
    return slope_q, slope_t


@final
class PlaneCurvature:
    r"""For each row a matrix $H = c I + a\, x x^\top + b (x y^\top + y x^\top) + d\, y y^\top$, made semidefinite.

    `x` and `y` are `[n, m]`; `identity`, `xx`, `xy` and `yy` are the factors $c, a, b, d$, `[n]`.
    """

    def __init__(self, x: Tensor, y: Tensor, identity: Tensor, xx: Tensor, xy: Tensor, yy: Tensor) -> None:
        tiny = torch.finfo(x.dtype).eps
        length = x.norm(dim=-1)
        self._first = F.normalize(x, dim=-1, eps=tiny)
        along = (y * self._first).sum(-1)
        rest = y - along.unsqueeze(-1) * self._first
        rest = rest - (rest * self._first).sum(-1, keepdim=True) * self._first  # once more, for rounding
        across = rest.norm(dim=-1)
        self._second = F.normalize(rest, dim=-1, eps=tiny)
        self._identity = identity
        self._block = (
            identity + xx * length.square() + 2.0 * xy * length * along + yy * along.square(),
            xy * length * across + yy * along * across,
            identity + yy * across.square(),
        )

    def apply(self, v: Tensor, root: bool) -> Tensor:
        """Return the positive semidefinite part of `H`, or its symmetric root, times `v` `[..., n, m]`."""
        a, b, d = self._block
        middle, half = 0.5 * (a + d), 0.5 * (a - d)
        radius = torch.sqrt(half.square() + b.square())
        high, low, others = (
            part.clamp_min(0.0).sqrt() if root else part.clamp_min(0.0)
            for part in (middle + radius, middle - radius, self._identity)
        )
        # f(B) = mean of f over the eigenvalues + difference of f * (B - middle) / (2 radius)
        mean, turn = 0.5 * (high + low), 0.5 * (high - low) / radius.clamp_min(torch.finfo(v.dtype).tiny)
        first, second = ((v * part).sum(-1) for part in (self._first, self._second))
        along = (mean - others + turn * half) * first + turn * b * second
        across = turn * b * first + (mean - others - turn * half) * second
        return others.unsqueeze(-1) * v + along.unsqueeze(-1) * self._first + across.unsqueeze(-1) * self._second


def length_of(square: Tensor) -> Tensor:
    r"""Return $\sqrt{q + 10^{-8}}$, a length that has a derivative at zero."""
    return torch.sqrt(square + SMALL_SQUARE)
