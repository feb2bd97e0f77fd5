r"""Dense quasi-Newton methods: the inverse Hessian learned from pairs of steps and changes of the gradient.

With a step s and the change y of the gradient over it, all of them set

$$H_+ = \frac{1}{\tau} \left[ H - \frac{H y y^\top H}{y^\top H y} + \phi \, v v^\top \right]
+ \frac{s s^\top}{s^\top y}, \qquad v = \sqrt{y^\top H y} \left[ \frac{s}{s^\top y} - \frac{H y}{y^\top H y} \right],$$

which takes one product with H and one update of rank two, n^2 numbers read and written. They differ in the scaling tau
and in phi.
"""

import abc
import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.curvature.operators import MAX_DENSE_BYTES
from thalweg.errors import require
from thalweg.optim.base import AbstractDirection, Groups, Point, Recovery, Requires, SearchDirection, State, StepInfo
from thalweg.optim.lbfgs import AbstractInitial, AutomaticInitial, ScaledIdentity, curvature_condition, damped_step
from thalweg.optim.matrix import require_room


@dataclasses.dataclass(frozen=True)
class AbstractDenseQuasiNewton(AbstractDirection):
    """A member of Broyden's family with a dense inverse; subclasses choose tau and phi."""

    damping: float = 0.0
    initial: AbstractInitial = AutomaticInitial()  # noqa: RUF009  (frozen)
    max_bytes: float = MAX_DENSE_BYTES
    requires: ClassVar[Requires] = Requires.GRADIENT | Requires.END_GRADIENT

    def __post_init__(self) -> None:
        require(0.0 <= self.damping < 1.0, f"{type(self).__name__}(damping=...) must lie in [0, 1)", self.damping)

    @abc.abstractmethod
    def _scaling(self, sy: float, yhy: float, sbs: float, n: int) -> tuple[float, float]:
        """Return tau and phi from `s'y`, `y'Hy`, `s'Bs` and the number of parameters."""

    @override
    def start(self, groups: Groups) -> State:
        return {"inverse": None, "num_learned": 0, "num_pairs": 0, "num_skipped": 0}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        refresh = self.initial.refresh
        if refresh is not None and state["num_learned"] >= refresh:
            state.update(inverse=None, num_learned=0)
        if state["inverse"] is None and not isinstance(self.initial, ScaledIdentity):
            self._require_memory(point.gradient)
            first = self.initial.inverse(point, state)
            state["inverse"] = torch.diag(first) if first is not None and first.dim() == 1 else first
        inverse = state["inverse"]
        if inverse is None:
            return SearchDirection(-point.clipped, well_scaled=False)
        return SearchDirection(-(inverse @ point.clipped), minimizes_model=True)

    @override
    def learn(self, info: StepInfo, state: State) -> None:
        step, change = info.step, info.change
        assert change is not None
        sy, yy, good = curvature_condition(step, change)
        inverse, n = state["inverse"], step.numel()
        multiple = info.multiple
        if inverse is None:
            if not good:
                state["num_skipped"] += 1
                return
            self._require_memory(step)
            inverse = torch.zeros(n, n, dtype=step.dtype, device=step.device)
            inverse.diagonal().fill_(sy / yy)
            state["inverse"], multiple = inverse, None
        hy = inverse @ change
        yhy = (change @ hy).item()
        if self.damping > 0.0 and yhy > 0.0 and math.isfinite(yhy) and sy < self.damping * yhy:
            step, sy = damped_step(step, hy, sy, yhy, self.damping)
            good, multiple = True, None
        if not (good and yhy > 0.0 and math.isfinite(yhy)):
            state["num_skipped"] += 1
            return
        tau, phi = 1.0, 1.0
        if multiple is not None:  # the step was -multiple * H g, so that B s = -multiple * g
            tau, phi = self._scaling(sy, yhy, -multiple * (step @ info.point.clipped).item(), n)
        # All three terms as one update of rank two in the basis [s, Hy].
        ss, sh, hh = phi * yhy / (tau * sy * sy) + 1.0 / sy, -phi / (tau * sy), (phi - 1.0) / (tau * yhy)
        basis = torch.stack([step, hy])
        mixed = torch.stack([ss * step + sh * hy, sh * step + hh * hy])
        inverse.addmm_(basis.T, mixed, beta=1.0 / tau)
        state["num_learned"] += 1
        state["num_pairs"] += 1

    @override
    def on_failure(self, state: State) -> Recovery:
        learned = state["num_learned"]
        state.update(inverse=None, num_learned=0)
        return Recovery.RESTART if learned else Recovery.NONE

    def _require_memory(self, vector: Tensor) -> None:
        n = vector.numel()
        require_room(self, (n, n), vector, self.max_bytes, "LBFGS or NewtonCG", copies=2)


@final
@dataclasses.dataclass(frozen=True)
class BFGS(AbstractDenseQuasiNewton):
    """The Broyden-Fletcher-Goldfarb-Shanno method with a dense inverse: tau = phi = 1, `d = -H g`.

    A pair with `s'y <= 0` (up to rounding) would
    make the inverse indefinite: it is left out, or damped.

    Args:
        damping: 0 leaves such pairs out. In (0, 1): where `s'y < damping * y'Hy`, s is moved towards `H y` until both
            are equal (Powell's damping, in its form for the inverse), so that noisy gradients don't spoil the inverse.
            0.2 is usual.
        initial: what the inverse starts from: `AutomaticInitial()`, `ScaledIdentity()`, or, with an objective,
            `InverseGaussNewton()` or `InverseDiagonal()`.
        max_bytes: largest dense matrix allowed.

    Raises:
        ValueError: `damping` outside [0, 1).
        InputError: at the first step, where the matrix is larger than `max_bytes`.

    Example:
        >>> BFGS(damping=0.2).damping
        0.2

    Source: Nocedal and Wright, "Numerical Optimization" (2006), chapter 6; Powell, "Algorithms for nonlinear
    constraints that use Lagrangian functions" (1978); Goldfarb, Ren, Bahamou, "Practical Quasi-Newton Methods for
    Training Deep Neural Networks" (2020).

    Not above some thousands of parameters (n^2 numbers): `LBFGS`. On small smooth problems `SelfScaledBroyden` goes
    much further.
    """

    @override
    def _scaling(self, sy: float, yhy: float, sbs: float, n: int) -> tuple[float, float]:
        return 1.0, 1.0


@final
@dataclasses.dataclass(frozen=True)
class SelfScaledBFGS(AbstractDenseQuasiNewton):
    r"""BFGS that scales its old inverse down where its steps were too long: $\phi = 1$, $\tau = \min(1, s'y / s'Bs)$.

    Args:
        damping: as for `BFGS`.
        initial: as for `BFGS`; by default the scaled identity, which these methods correct by themselves.
        max_bytes: largest dense matrix allowed.

    Raises:
        ValueError: `damping` outside [0, 1).
        InputError: at the first step, where the matrix is larger than `max_bytes`.

    Example:
        >>> SelfScaledBFGS().damping
        0.0

    Source: Oren and Luenberger, "Self-scaling variable metric algorithms" (1974); Al-Baali, "Global and superlinear
    convergence of a restricted class of self-scaling methods" (1998); Urban, Stefanou, Pons, "Unveiling the
    optimization process of physics informed neural networks" (2025).

    Not above some thousands of parameters, nor for noisy gradients.
    """

    initial: AbstractInitial = ScaledIdentity()  # noqa: RUF009  (frozen)

    @override
    def _scaling(self, sy: float, yhy: float, sbs: float, n: int) -> tuple[float, float]:
        return (min(1.0, sy / sbs) if sbs > 0.0 else 1.0), 1.0


@final
@dataclasses.dataclass(frozen=True)
class SelfScaledBroyden(AbstractDenseQuasiNewton):
    r"""A self-scaled member of Broyden's family, chosen again at every step: between BFGS and DFP and beyond.

    With $b = s'Bs / s'y$, $h = y'Hy / s'y$ and $a = bh - 1$, the member is

    $$\theta = \max\left( \frac{\rho - 1}{a}, \min\left( \frac{1}{\rho}, \frac{1-b}{b} \right) \right), \qquad
      \rho = \min\left( 1, h \left( 1 - \sqrt{a / (1+a)} \right) \right),$$

    $\phi = (1-\theta) / (1 + a\theta)$, and, with $\sigma = 1 + a\theta$ and n parameters, the scaling is
    $\tau = \min(1, 1/b) \min(\sigma^{-1/(n-1)}, 1/\theta)$ for positive theta, else
    $\tau = \min(\min(1, 1/b) \, \sigma^{-1/(n-1)}, \sigma)$.

    On small networks with a smooth target and all of the data at every step it ends orders of magnitude lower than
    L-BFGS and plain BFGS, with a search for the strong Wolfe conditions.

    Args:
        damping: as for `BFGS`.
        initial: as for `BFGS`; by default the scaled identity, which these methods correct by themselves.
        max_bytes: largest dense matrix allowed.

    Raises:
        ValueError: `damping` outside [0, 1).
        InputError: at the first step, where the matrix is larger than `max_bytes`.

    Example:
        >>> SelfScaledBroyden().damping
        0.0

    Source: Al-Baali, Spedicato, Maggioni, "Broyden's quasi-Newton methods for a nonlinear system of equations and
    unconstrained optimization: a review and open problems" (2014); Urban, Stefanou, Pons, "Unveiling the optimization
    process of physics informed neural networks" (2025).

    Not above some thousands of parameters, nor for noisy gradients.
    """

    initial: AbstractInitial = ScaledIdentity()  # noqa: RUF009  (frozen)

    @override
    def _scaling(self, sy: float, yhy: float, sbs: float, n: int) -> tuple[float, float]:
        if not sbs > 0.0 or n < 2:
            return 1.0, 1.0
        b, h = sbs / sy, yhy / sy
        a = max(b * h - 1.0, 0.0)  # Cauchy and Schwarz: never negative but for rounding
        if a < 1e-12:  # then all members of the family are the same
            return min(1.0, 1.0 / b), 1.0
        rho = min(1.0, h * (1.0 - math.sqrt(a / (1.0 + a))))
        theta = max((rho - 1.0) / a, min(1.0 / rho, (1.0 - b) / b))
        sigma = 1.0 + a * theta
        scale = min(1.0, 1.0 / b)
        volume = sigma ** (-1.0 / (n - 1))
        tau = scale * min(volume, 1.0 / theta) if theta > 0.0 else min(scale * volume, sigma)
        return tau, (1.0 - theta) / sigma
