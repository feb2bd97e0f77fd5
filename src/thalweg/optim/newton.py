"""Newton's method with the exact, dense curvature matrix."""

import dataclasses
from typing import ClassVar, final

import torch
from typing_extensions import override

from thalweg.curvature.hessian import Hessian
from thalweg.curvature.operators import MAX_DENSE_BYTES, require_memory
from thalweg.optim.base import (
    AS_OPTIONS,
    AbstractDirection,
    AbstractModel,
    Groups,
    Point,
    Recovery,
    Requires,
    SearchDirection,
    State,
    StepInfo,
    name_of,
)
from thalweg.optim.damping import Damping
from thalweg.optim.matrix import CurvatureFactory, curvature_at
from thalweg.optim.spectral import Absolute, AbstractEigenvalues, SpectralModel, spectral_model

ESCAPE_FRACTION = 0.01


@final
@dataclasses.dataclass(frozen=True)
class Newton(AbstractDirection):
    r"""Newton's step with the whole Hessian, made downhill through its eigenvalues.

    With $H = V \Lambda V^\top$, the direction is $d = -V (\Lambda_+ + \mu I)^{-1} V^\top g$, where $\Lambda_+$ are the
    eigenvalues made positive by `eigenvalues` and mu comes from `damping`. Within a `TrustRegion` the exact minimizer
    in the ball is used instead, negative eigenvalues as they are.

    On or near a saddle, where the gradient has nearly nothing to say but an eigenvalue is negative, the step goes along
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
    max_bytes: float = MAX_DENSE_BYTES
    requires: ClassVar[Requires] = Requires.GRADIENT | Requires.CURVATURE | Requires.END_VALUE

    @override
    def start(self, groups: Groups) -> State:
        return {"checked": False, "escapes": True}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        model = self._spectrum(point, state)
        values, along = model.values, model.coordinates
        positive = self.eigenvalues.positive(values)
        if self.damping is not None:
            positive = positive + self.damping.value(state, values.abs().max().item())
        step = -along / positive
        size = 1.0 + torch.stack([parameter.detach().norm() for parameter in point.parameters]).norm()
        distance = ESCAPE_FRACTION * size
        measured = torch.stack([(values * step) @ step, -(along @ step), values[0], distance, along[0]])
        curvature, predicted, lowest, length, slope = measured.tolist()
        if state["escapes"] and -lowest * length * length > predicted:
            state["escaping"] = True
            sign = -1.0 if slope > 0.0 else 1.0
            return SearchDirection(
                sign * length * model.basis[:, 0], curvature=lowest * length * length, negative_curvature=True
            )
        state["escaping"] = False
        return SearchDirection(model.basis @ step, curvature=curvature, negative_curvature=curvature < 0.0)

    @override
    def model(self, point: Point, state: State) -> AbstractModel:
        return self._spectrum(point, state)

    @override
    def learn(self, info: StepInfo, state: State) -> None:
        if self.damping is not None and not state.get("escaping"):
            self.damping.learn(state, info.gain)
        state["escapes"] = True
        state.pop("spectrum", None)

    @override
    def pack(self, state: State) -> State:
        return {key: value for key, value in state.items() if key != "spectrum"}

    @override
    def on_failure(self, state: State) -> Recovery:
        if state.get("escaping"):
            state.update(escapes=False, escaping=False)
            return Recovery.DAMP
        if self.damping is None:
            return Recovery.NONE
        self.damping.increase(state)
        return Recovery.DAMP

    def _spectrum(self, point: Point, state: State) -> SpectralModel:
        kept = state.get("spectrum")
        if kept is not None and kept[0] is point:
            return kept[1]
        n, dtype = point.gradient.numel(), point.gradient.dtype
        instead = f"NewtonCG or LBFGS{AS_OPTIONS}"
        require_memory(name_of(self), n, n, dtype, self.max_bytes, instead, copies=3)
        dense = curvature_at(self.curvature, point, state).dense()
        if not bool(torch.isfinite(dense).all()):
            dense = torch.eye(n, dtype=dtype, device=dense.device)
        model = spectral_model(dense, point.clipped)
        state["spectrum"] = point, model
        return model
