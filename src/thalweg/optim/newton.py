"""Newton's method with the exact, dense curvature matrix."""

import dataclasses
from typing import ClassVar, final

import torch

from thalweg.curvature.hessian import Hessian
from thalweg.optim.base import AbstractDirection, AbstractModel, Groups, Move, Needs, Point, State, Taken, Way, name_of
from thalweg.optim.damping import Damping
from thalweg.optim.dense_memory import DENSE_BYTES, check_dense
from thalweg.optim.matrix import CurvatureFactory, curvature_at
from thalweg.optim.spectral import Absolute, AbstractEigenvalues, SpectralModel, spectral_model

ESCAPE_SHARE = 0.01


@final
@dataclasses.dataclass(frozen=True)
class Newton(AbstractDirection):
    r"""Newton's step with the whole Hessian, made downhill through its eigenvalues.

    With $H = V \Lambda V^\top$, the direction is $d = -V (\Lambda_+ + \mu I)^{-1} V^\top g$, where $\Lambda_+$ are the
    eigenvalues made positive by `eigenvalues` and mu comes from `damping`. Within a `TrustRegion` the exact minimizer
    in the ball is used instead, negative eigenvalues as they are.

    On or near a saddle, where the gradient has nearly nothing to say but an eigenvalue is negative, the move goes along
    that eigenvector.

    Args:
        eigenvalues: `Absolute()` (saddle-free), `Floor()` (modified), `Shift()` (to be damped).
        damping: adapts mu to the gain ratio; None: no damping.
        curvature: `Hessian` or `GaussNewton`.
        max_bytes: largest dense matrix allowed, three of which are needed.

    Raises:
        InputError: at the first step, where the matrix is larger than `max_bytes`, or the loss has no second
            derivative.

    Example:
        >>> from thalweg.objective import Objective
        >>> from thalweg.optim.descent import Descent
        >>> x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
        >>> model = torch.nn.Linear(1, 1)
        >>> objective = Objective(model, torch.nn.MSELoss(), x, y)
        >>> optimizer = Descent(model.parameters(), Newton())
        >>> for _ in range(2):
        ...     loss = optimizer.step(objective)
        >>> bool(loss < 1e-8)
        True

    Source: Nocedal and Wright, "Numerical Optimization" (2006), chapter 3; Dauphin and others (2014) for the absolute
    eigenvalues.

    Not above about 3,000 parameters: the eigenvalues take 10 n^3 operations a step. `NewtonCG` needs no matrix.
    """

    eigenvalues: AbstractEigenvalues = Absolute()  # noqa: RUF009  (frozen)
    damping: Damping | None = None
    curvature: CurvatureFactory = Hessian
    max_bytes: float = DENSE_BYTES
    needs: ClassVar[Needs] = Needs.GRADIENT | Needs.CURVATURE | Needs.END_VALUE

    def start(self, groups: Groups) -> State:
        """Return an empty memory."""
        del groups
        return {"checked": False, "escapes": True}

    def propose(self, point: Point, state: State) -> Move:
        """Return the damped step, or the way out of a saddle."""
        model = self._spectrum(point, state)
        values, along = model.values, model.coordinates
        positive = self.eigenvalues.positive(values)
        if self.damping is not None:
            positive = positive + self.damping.value(state, values.abs().max().item())
        step = -along / positive
        size = 1.0 + torch.stack([parameter.detach().norm() for parameter in point.parameters]).norm()
        distance = ESCAPE_SHARE * size
        measured = torch.stack([(values * step) @ step, -(along @ step), values[0], distance, along[0]])
        curvature, promised, lowest, length, slope = measured.tolist()
        if state["escapes"] and -lowest * length * length > promised:
            state["escaping"] = True
            sign = -1.0 if slope > 0.0 else 1.0
            return Move(sign * length * model.basis[:, 0], curvature=lowest * length * length, negative=True)
        state["escaping"] = False
        return Move(model.basis @ step, curvature=curvature, negative=curvature < 0.0)

    def model(self, point: Point, state: State) -> AbstractModel:
        """Return the exact quadratic model."""
        return self._spectrum(point, state)

    def learn(self, taken: Taken, state: State) -> None:
        """Let the damping follow the gain ratio."""
        if self.damping is not None and not state.get("escaping"):
            self.damping.learn(state, taken.gain)
        state["escapes"] = True
        state.pop("spectrum", None)

    def pack(self, state: State) -> State:
        """Return the memory without the present point's matrix."""
        return {key: value for key, value in state.items() if key != "spectrum"}

    def give_way(self, state: State) -> Way:
        """Raise the damping; after a failed way out of a saddle, don't try that one."""
        if state.get("escaping"):
            state.update(escapes=False, escaping=False)
            return Way.CAUTION
        if self.damping is None:
            return Way.NONE
        self.damping.worsen(state)
        return Way.CAUTION

    def _spectrum(self, point: Point, state: State) -> SpectralModel:
        kept = state.get("spectrum")
        if kept is not None and kept[0] is point:
            return kept[1]
        n, dtype = point.gradient.numel(), point.gradient.dtype
        check_dense(name_of(self), n, n, dtype, copies=3.0, limit=self.max_bytes, instead="NewtonCG or LBFGS")
        dense = curvature_at(self.curvature, point, state).dense()
        if not bool(torch.isfinite(dense).all()):
            dense = torch.eye(n, dtype=dtype, device=dense.device)
        model = spectral_model(dense, point.clipped)
        state["spectrum"] = point, model
        return model
