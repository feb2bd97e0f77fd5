"""Levenberg-Marquardt: damped Gauss-Newton with each example's own Jacobian."""

import dataclasses
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg import distributed
from thalweg.curvature.diagonal import penalty_diagonal
from thalweg.curvature.operators import MAX_DENSE_BYTES
from thalweg.curvature.root import Root, gauss_newton_root, output_roots
from thalweg.heads.base import upcast
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, Groups, Point, Recovery, Requires, SearchDirection, State, StepInfo
from thalweg.optim.damping import Damping
from thalweg.optim.matrix import require_room, running_scale
from thalweg.optim.newton import SpectralModel, spectral_model

# Squares of columns below that part of the largest, in rounding errors, are none: the loss does not depend on the bias
# of attention's keys but for rounding, and a step in the unit of that would be 1e12 long.
LEAST_COLUMN = 1e-2


@final
@dataclasses.dataclass(frozen=True)
class LevenbergMarquardt(AbstractDirection):
    r"""Solves $(A^\top A + D + \mu S^2) d = -g$ directly, where $A^\top A$ is the Gauss-Newton matrix.

    A has one row for each number that the network predicts and one column for each parameter; D is the penalty of the
    objective, and the diagonal S holds the largest lengths of the columns so far, so that the units of single
    parameters change nothing; a column that is zero but for rounding errors counts as the longest and stays. With fewer
    rows than parameters the dual system is solved, as large as the number of rows. Where a step fails, mu rises and the
    same factors are used again. Works with every head; for squared errors it is the classical method.

    On networks `Armijo()` is the better step size, on nonlinear data fits `TrustRegion()`, which has its radius in
    place of mu: it solves all problems of More, Garbow and Hillstrom in 0.9 of MINPACK's evaluations.

    Args:
        damping: adapts mu to the gain ratio.
        max_bytes: largest dense matrix allowed; A, and a square one of its shorter side, are kept.

    Raises:
        InputError: at the first step, where a matrix is larger than `max_bytes`, the loss is not a function of the
            parameters (dropout).

    Example:
        >>> from thalweg.objective import Objective
        >>> from thalweg.optim.descent import Descent
        >>> x = torch.linspace(-1, 1, 20).unsqueeze(1)
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        >>> objective = Objective(model, torch.nn.MSELoss(), x, torch.sin(3.0 * x))
        >>> optimizer = Descent(model.parameters(), LevenbergMarquardt())
        >>> for _ in range(30):
        ...     loss = optimizer.step(objective)
        >>> bool(loss < 1e-4)
        True

    Source: Levenberg, "A method for the solution of certain non-linear problems in least squares" (1944); Marquardt,
    "An algorithm for least-squares estimation of nonlinear parameters" (1963); More, "The Levenberg-Marquardt
    algorithm: implementation and theory" (1978) for S.

    Slow (linear) where the residuals stay large at the minimum: `Newton` is not. Not where rows and parameters both go
    into the ten thousands (A is kept), nor for noisy batches; `NewtonCG` is the same step without matrices. Models
    whose examples can't be differentiated one by one (flat bags of tokens) take a backward pass per row.
    """

    damping: Damping = Damping()  # noqa: RUF009  (frozen)
    max_bytes: float = MAX_DENSE_BYTES
    requires: ClassVar[Requires] = Requires.GRADIENT | Requires.CURVATURE | Requires.END_VALUE

    @override
    def start(self, groups: Groups) -> State:
        return {"checked": False}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        factors = self._factors(point, state)
        damping = self.damping.value(state, factors.largest)
        step = factors.solve(damping)
        return SearchDirection(step, curvature=factors.curvature(step))

    @override
    def model(self, point: Point, state: State) -> SpectralModel:
        return self._factors(point, state).spectrum()

    @override
    def learn(self, info: StepInfo, state: State) -> None:
        self.damping.learn(state, info.gain)
        state.pop("factors", None)

    @override
    def on_failure(self, state: State) -> Recovery:
        self.damping.increase(state)
        return Recovery.DAMP

    @override
    def pack(self, state: State) -> State:
        return {key: value for key, value in state.items() if key != "factors"}

    def _factors(self, point: Point, state: State) -> "Factors":
        """Return the matrices at this point, those of the last proposal where it was made here."""
        kept: Factors | None = state.get("factors")
        if kept is not None and kept.point is point:
            return kept
        objective = point.objective
        assert objective is not None
        if not state["checked"]:
            objective.require_determinism()
            n = point.gradient.numel()
            predictions = objective.without_graph(lambda: [objective.prediction(batch) for batch in objective.batches])
            own = sum(prediction.numel() for prediction in predictions)
            rows = int(distributed.sum_over_ranks([torch.tensor(own, device=point.gradient.device)])[0])
            sides = (min(rows, n), max(rows, n))
            require_room(self, sides, point.gradient, self.max_bytes, "NewtonCG", copies=2)
        root = gauss_newton_root(
            objective, point.parameters, per_example=state.get("per_example"), max_bytes=int(self.max_bytes)
        )
        state.update(checked=True, per_example=root.per_example)
        columns = root.matrix.square().sum(0) + penalty_diagonal(objective, point.parameters)
        scale = running_scale(state, columns, least=LEAST_COLUMN * torch.finfo(columns.dtype).eps)
        state["factors"] = Factors(point, root, scale)
        return state["factors"]


@final
class Factors:
    """The matrices of one point, made of the root A, in parameters that are multiplied by the scale."""

    def __init__(self, point: Point, root: Root, scale: Tensor) -> None:
        objective = point.objective
        assert objective is not None
        self.point, self.scale = point, scale
        self.gradient = point.clipped / scale
        a = self.root = root.matrix / scale
        self.penalty = penalty_diagonal(objective, point.parameters) / scale.square()
        self.has_penalty = bool(objective.penalized)
        self.dual = a.shape[0] < a.shape[1]
        if self.dual:
            self.gram = a @ a.T if not self.has_penalty else a.new_zeros(0)
            counts = objective.without_graph(lambda: [objective.sum_and_count(batch)[1] for batch in objective.batches])
            count = distributed.sum_over_ranks([torch.stack(counts).sum()])[0]
            divisor = objective.head.divisor(count).to(a)
            self.residuals = _residuals(objective, root.per_example) * divisor.rsqrt()
        else:
            self.gram = a.T @ a
            self.gram.diagonal().add_(self.penalty)
        self.largest: float = (a.square().sum(0) + self.penalty).amax().item()

    def solve(self, damping: float) -> Tensor:
        """Return `-(A^T A + D + damping S^2)^-1 g`; not finite where it is singular to the last digit."""
        return self._solve(damping) / self.scale

    def _solve(self, damping: float) -> Tensor:
        gradient = self.gradient
        if not self.dual:
            shifted = self.gram.clone()
            shifted.diagonal().add_(damping)
            return -_solve_positive(shifted, gradient)
        # With M = D + damping I and g = A'r + e:
        # (A'A + M)^-1 g = M^-1 (A' (A M^-1 A' + I)^-1 (r - A M^-1 e) + e), where for squared errors e = 0.
        # The textbook form in g alone subtracts numbers of one size, and fails where the damping is small.
        a = self.root
        rest = gradient - a.T @ self.residuals
        sizes = torch.stack([rest.norm(), gradient.norm()]).tolist()
        if self.has_penalty:
            inverse = 1.0 / (self.penalty + damping)
            inner = (a * inverse) @ a.T
            inner.diagonal().add_(1.0)
            return -inverse * (a.T @ _solve_positive(inner, self.residuals - a @ (inverse * rest)) + rest)
        inner = self.gram.clone()
        inner.diagonal().add_(damping)
        if sizes[0] <= 1e-6 * sizes[1]:
            return -(a.T @ _solve_positive(inner, self.residuals))
        return -(a.T @ _solve_positive(inner, self.residuals - (a @ rest) / damping) + rest / damping)

    def curvature(self, step: Tensor) -> float:
        """Return `step' (A'A + D) step`."""
        scaled = self.scale * step
        return ((self.root @ scaled).square().sum() + (self.penalty * scaled) @ scaled).item()

    def spectrum(self) -> SpectralModel:
        """Return the eigenvalues and eigenvectors of `A'A + D`; those of zero are left out in the dual."""
        if not self.dual or self.has_penalty:
            full = self.gram if not self.dual else self.root.T @ self.root + torch.diag(self.penalty)
            return spectral_model(full, self.gradient, self.scale)
        values, left = torch.linalg.eigh(self.gram)
        kept = values > 10.0 * torch.finfo(values.dtype).eps * values[-1]
        values, left = values[kept], left[:, kept]
        return SpectralModel(values, (self.root.T @ left) / values.sqrt(), self.gradient, self.scale)


def _residuals(objective: Objective, per_example: bool) -> Tensor:
    """Return r with `S r = delta` for every target, in the order of the root's rows.

    S is the root of the head's curvature, and delta the derivative of the summed loss by the prediction.
    """
    parts = []
    predictions = objective.without_graph(lambda: [objective.prediction(batch) for batch in objective.batches])
    for batch, prediction in zip(objective.batches, predictions, strict=True):
        outputs = prediction.shape[-1]
        root = upcast(output_roots(objective, batch, prediction).movedim(0, -1))
        with torch.enable_grad():
            leaf = prediction.detach().requires_grad_()
            total, _ = objective.head.loss(leaf, batch.targets, batch.mask, batch.weights)
            slope = upcast(torch.autograd.grad(total, leaf)[0])
        if outputs == 1:
            solved = torch.where(root[..., 0] > 0.0, slope / root[..., 0], 0.0)
        else:
            solved = (torch.linalg.pinv(root) @ slope.unsqueeze(-1)).squeeze(-1)
        # Example by example the rows of one output at all times follow one another.
        solved = solved.reshape(len(solved), -1, outputs)
        parts.append((solved.mT if per_example else solved).flatten())
    return distributed.gather_rows(torch.cat(parts))


def _solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(matrix)
    solution = torch.cholesky_solve(right.unsqueeze(1), factor).squeeze(1)
    return torch.where(info == 0, solution, torch.full_like(solution, float("nan")))
