r"""Dense quasi-Newton methods: the inverse Hessian learned from pairs of steps and changes of the gradient.

With a step s and the change y of the gradient over it, all of them set

$$H_+ = \frac{1}{\tau} \left[ H - \frac{H y y^\top H}{y^\top H y} + \phi \, v v^\top \right]
+ \frac{s s^\top}{s^\top y}, \qquad v = \sqrt{y^\top H y} \left[ \frac{s}{s^\top y} - \frac{H y}{y^\top H y} \right],$$

which takes one product with H and one update of rank two, n^2 numbers read and written. They differ in the scaling tau
and in phi.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor

from thalweg.optim.base import AbstractDirection, Groups, Move, Needs, Point, State, Taken, Way, name_of
from thalweg.optim.dense_memory import DENSE_BYTES, check_dense
from thalweg.optim.initial import AbstractInitial, ScaledIdentity

# s'y, y'Hy, s'Bs, n -> tau, phi
Scaling = Callable[[float, float, float, int], tuple[float, float]]
START: State = {"inverse": None, "num_learned": 0, "num_pairs": 0, "num_skipped": 0}


@final
@dataclasses.dataclass(frozen=True)
class BFGS(AbstractDirection):
    """The Broyden-Fletcher-Goldfarb-Shanno method with a dense inverse: tau = phi = 1, `d = -H g`.

    A pair with `s'y <= 0` (up to rounding) would
    make the inverse indefinite: it is left out, or damped.

    Args:
        damping: 0 leaves such pairs out. In (0, 1): where `s'y < damping * y'Hy`, s is moved towards `H y` until both
            are equal (Powell's damping, in its form for the inverse), so that noisy gradients don't spoil the inverse.
            0.2 is usual.
        initial: what the inverse starts from: `ScaledIdentity()`; or, with an objective, `InverseGaussNewton()` or
            `InverseDiagonal()`.
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

    damping: float = 0.0
    initial: AbstractInitial = ScaledIdentity()  # noqa: RUF009  (frozen)
    max_bytes: float = DENSE_BYTES
    needs: ClassVar[Needs] = Needs.GRADIENT | Needs.END_GRADIENT

    def __post_init__(self) -> None:
        """Check the damping."""
        check_damping(self.damping, "BFGS")

    def start(self, groups: Groups) -> State:
        """Return a memory without a matrix."""
        del groups
        return dict(START)

    def propose(self, point: Point, state: State) -> Move:
        """Return `-H g`."""
        return _propose(point, state, self.initial, self.max_bytes, name_of(self))

    def learn(self, taken: Taken, state: State) -> None:
        """Update the inverse with the step's pair."""
        _learn(taken, state, _unscaled, self.damping, self.max_bytes, name_of(self))

    def give_way(self, state: State) -> Way:
        """Forget the inverse."""
        return _forget(state)


@final
@dataclasses.dataclass(frozen=True)
class SelfScaledBFGS(AbstractDirection):
    r"""BFGS that scales down its old inverse where it has promised too much: $\phi = 1$, $\tau = \min(1, s'y / s'Bs)$.

    Args:
        damping: as for `BFGS`.
        initial: as for `BFGS`.
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

    damping: float = 0.0
    initial: AbstractInitial = ScaledIdentity()  # noqa: RUF009  (frozen)
    max_bytes: float = DENSE_BYTES
    needs: ClassVar[Needs] = Needs.GRADIENT | Needs.END_GRADIENT

    def __post_init__(self) -> None:
        """Check the damping."""
        check_damping(self.damping, "SelfScaledBFGS")

    def start(self, groups: Groups) -> State:
        """Return a memory without a matrix."""
        del groups
        return dict(START)

    def propose(self, point: Point, state: State) -> Move:
        """Return `-H g`."""
        return _propose(point, state, self.initial, self.max_bytes, name_of(self))

    def learn(self, taken: Taken, state: State) -> None:
        """Update the inverse with the step's pair."""
        _learn(taken, state, _self_scaled_bfgs, self.damping, self.max_bytes, name_of(self))

    def give_way(self, state: State) -> Way:
        """Forget the inverse."""
        return _forget(state)


@final
@dataclasses.dataclass(frozen=True)
class SelfScaledBroyden(AbstractDirection):
    r"""A self-scaled member of Broyden's family, chosen anew at every step: between BFGS and DFP and beyond.

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
        initial: as for `BFGS`.
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

    damping: float = 0.0
    initial: AbstractInitial = ScaledIdentity()  # noqa: RUF009  (frozen)
    max_bytes: float = DENSE_BYTES
    needs: ClassVar[Needs] = Needs.GRADIENT | Needs.END_GRADIENT

    def __post_init__(self) -> None:
        """Check the damping."""
        check_damping(self.damping, "SelfScaledBroyden")

    def start(self, groups: Groups) -> State:
        """Return a memory without a matrix."""
        del groups
        return dict(START)

    def propose(self, point: Point, state: State) -> Move:
        """Return `-H g`."""
        return _propose(point, state, self.initial, self.max_bytes, name_of(self))

    def learn(self, taken: Taken, state: State) -> None:
        """Update the inverse with the step's pair."""
        _learn(taken, state, _self_scaled_broyden, self.damping, self.max_bytes, name_of(self))

    def give_way(self, state: State) -> Way:
        """Forget the inverse."""
        return _forget(state)


def enough_curvature(step: Tensor, change: Tensor) -> tuple[float, float, bool]:
    """Return `s'y`, `y'y`, and whether `s'y` is positive beyond rounding, however s and y are scaled."""
    sy, yy, ss = torch.stack([step @ change, change @ change, step @ step]).tolist()
    eps = 10.0 * torch.finfo(step.dtype).eps
    return sy, yy, math.isfinite(sy) and math.isfinite(yy) and sy > eps * math.sqrt(ss * yy) > 0.0


def damped_step(step: Tensor, inverse_change: Tensor, sy: float, yhy: float, damping: float) -> tuple[Tensor, float]:
    """Return the step moved towards `H y` so that `s'y = damping * y'Hy`, and the new `s'y`; unchanged if it is larger.

    Args:
        step: s.
        inverse_change: H y.
        sy: s'y.
        yhy: y'Hy, positive.
        damping: in [0, 1).
    """
    if damping == 0.0 or sy >= damping * yhy:
        return step, sy
    share = (1.0 - damping) * yhy / (yhy - sy)
    return torch.lerp(inverse_change, step, share), damping * yhy


def check_damping(damping: float, name: str) -> None:
    """Raise ValueError unless the damping lies in [0, 1)."""
    if not 0.0 <= damping < 1.0:
        raise ValueError(f"{name}(damping=...) must lie in [0, 1); got {damping!r}.")


def _propose(point: Point, state: State, initial: AbstractInitial, max_bytes: float, name: str) -> Move:
    if initial.every is not None and state["num_learned"] >= initial.every:
        state.update(inverse=None, num_learned=0)
    if state["inverse"] is None and not isinstance(initial, ScaledIdentity):
        _check_size(point.gradient, max_bytes, name)
        first = initial.inverse(point, state)
        state["inverse"] = torch.diag(first) if first is not None and first.dim() == 1 else first
    inverse = state["inverse"]
    if inverse is None:
        return Move(-point.clipped, natural=False)
    return Move(-(inverse @ point.clipped), minimizes=True)


def _forget(state: State) -> Way:
    learned = state["num_learned"]
    state.update(inverse=None, num_learned=0)
    return Way.RESTART if learned else Way.NONE


def _check_size(vector: Tensor, max_bytes: float, name: str) -> None:
    n = vector.numel()
    check_dense(name, n, n, vector.dtype, copies=2.0, limit=max_bytes, instead="LBFGS or NewtonCG")


def _learn(taken: Taken, state: State, scaling: Scaling, damping: float, max_bytes: float, name: str) -> None:
    step, change = taken.step, taken.change
    assert change is not None
    sy, yy, good = enough_curvature(step, change)
    inverse, n = state["inverse"], step.numel()
    if inverse is None:
        if not good:
            state["num_skipped"] += 1
            return
        _check_size(step, max_bytes, name)
        inverse = torch.zeros(n, n, dtype=step.dtype, device=step.device)
        inverse.diagonal().fill_(sy / yy)
        state["inverse"], along = inverse, None
    else:
        along = taken.multiple
    hy = inverse @ change
    yhy = (change @ hy).item()
    if damping > 0.0 and yhy > 0.0 and math.isfinite(yhy) and sy < damping * yhy:
        step, sy = damped_step(step, hy, sy, yhy, damping)
        good, along = True, None
    if not (good and yhy > 0.0 and math.isfinite(yhy)):
        state["num_skipped"] += 1
        return
    tau, phi = 1.0, 1.0
    if along is not None:  # the step was -along * H g, so that B s = -along * g
        tau, phi = scaling(sy, yhy, -along * (step @ taken.point.clipped).item(), n)
    # All three terms as one update of rank two in the basis [s, Hy].
    ss, sh, hh = phi * yhy / (tau * sy * sy) + 1.0 / sy, -phi / (tau * sy), (phi - 1.0) / (tau * yhy)
    basis = torch.stack([step, hy])
    mixed = torch.stack([ss * step + sh * hy, sh * step + hh * hy])
    inverse.addmm_(basis.T, mixed, beta=1.0 / tau)
    state["num_learned"] += 1
    state["num_pairs"] += 1


def _unscaled(sy: float, yhy: float, sbs: float, n: int) -> tuple[float, float]:
    del sy, yhy, sbs, n
    return 1.0, 1.0


def _self_scaled_bfgs(sy: float, yhy: float, sbs: float, n: int) -> tuple[float, float]:
    del yhy, n
    return (min(1.0, sy / sbs) if sbs > 0.0 else 1.0), 1.0


def _self_scaled_broyden(sy: float, yhy: float, sbs: float, n: int) -> tuple[float, float]:
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
