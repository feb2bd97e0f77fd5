"""K-FAC: steps by the inverse of a Kronecker product for each layer."""

import dataclasses
import math
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.curvature.eigenbasis import Eigenbasis, KroneckerInverse, second_moments
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.kronecker import MAX_SIDE, Block, Sharing, averaged, kronecker_factors, require_samples
from thalweg.curvature.operators import AbstractOperator
from thalweg.errors import require
from thalweg.optim.base import (
    AbstractDirection,
    Groups,
    Point,
    Recovery,
    Requires,
    SearchDirection,
    State,
    StepInfo,
)
from thalweg.optim.damping import Damping

EARLY = (1, 2, 4)  # estimates after which the eigenvectors are found again while the factors are still changing fast


@final
@dataclasses.dataclass(frozen=True)
class KFAC(AbstractDirection):
    r"""Natural-gradient steps with Kronecker factors: $d = -(L \otimes R + \mu I)^{-1} m$ for each layer.

    The factors are those of the Gauss-Newton matrix through the head's own output curvature (`kronecker_factors`),
    averaged over the steps; parameters outside of layers with factors get a diagonal. It works in two ways:

    - **Mini-batches**, with a number as damping: m is an average of the gradients, and the step is shortened where the
      model's change of the outputs, $\tfrac12 d^\top (L \otimes R) d$, would be above half of `trust`. With `Fixed`
      steps the groups' `lr` multiplies that, so that schedules work as usual from a peak of 1.
    - **Full batches**, with a `Damping`: m is the gradient, and the step is the best combination of K-FAC's and the
      last one in the exact Gauss-Newton model, for two products; mu follows the gain ratio.

    Args:
        damping: mu as a fraction of the mean eigenvalue, positive; or a `Damping`.
        momentum: part of the average that each step keeps, in [0, 1); not with a `Damping`.
        trust: largest squared length of a step in the model's norm, positive; None: no limit. Not with a `Damping`.
        decay: part of the averaged factors that each estimate keeps, at most (early on less), in [0, 1).
        every: steps between estimates of the factors, at least 1; an estimate costs about a gradient. None: 5; with a
            `Damping` 1.
        refresh: steps between decompositions, at least 1; None: 20; with a `Damping` 1.
        num_samples: random backward passes an estimate, from 1 to 10,000; None: one for each output, without noise.
        corrected: measure the diagonal of the Gauss-Newton matrix in the factors' eigenvectors (EKFAC) instead of
            taking products of eigenvalues; costs another estimate at each decomposition.
        reduce: average inputs over the positions of an example (`Sharing.REDUCE`), for one loss an example.
        max_side: a factor of more rows, such as that of a vocabulary, is a diagonal.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> from thalweg.objective import Objective
        >>> from thalweg.optim.descent import Descent
        >>> from thalweg.optim.line_search import Armijo
        >>> x = torch.linspace(-1, 1, 20).unsqueeze(1)
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        >>> objective = Objective(model, torch.nn.MSELoss(), x, torch.sin(3.0 * x))
        >>> optimizer = Descent(model.parameters(), KFAC(Damping()), Armijo())
        >>> for _ in range(30):
        ...     loss = optimizer.step(objective)
        >>> bool(loss < 2e-2)
        True

    Source: Martens and Grosse, "Optimizing Neural Networks with Kronecker-factored Approximate Curvature" (2015); Ba,
    Grosse, Martens, "Distributed Second-order Optimization using Kronecker-factored Approximations" (2017) for `trust`;
    George and others, "Fast Approximate Natural Gradient Descent in a Kronecker-factored Eigenbasis" (2018) for
    `corrected`.

    Not for recurrent networks of PyTorch, of which it has a noisy diagonal only; nor for models of a few hundred
    parameters, where `LevenbergMarquardt` has the matrix itself.
    """

    damping: float | Damping = 0.03
    momentum: float = 0.9
    trust: float | None = 1e-3
    decay: float = 0.95
    every: int | None = None
    refresh: int | None = None
    num_samples: int | None = 1
    corrected: bool = False
    reduce: bool = False
    max_side: int = MAX_SIDE

    def __post_init__(self) -> None:
        if not isinstance(self.damping, Damping):
            require(0.0 < self.damping < math.inf, "KFAC(damping=...) must be positive and finite", self.damping)
        for name in ("momentum", "decay"):
            require(0.0 <= getattr(self, name) < 1.0, f"KFAC({name}=...) must lie in [0, 1)", getattr(self, name))
        for name in ("trust", "every", "refresh", "max_side"):
            value = getattr(self, name)
            least = "positive" if name == "trust" else "at least 1"
            require(value is None or value > 0, f"KFAC({name}=...) must be {least}", value)
        require_samples("KFAC", self.num_samples)

    @property
    def requires(self) -> Requires:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the problem must give; with a `Damping`, the loss where the step ends."""
        needs = Requires.GRADIENT | Requires.CURVATURE
        return needs | Requires.END_VALUE if isinstance(self.damping, Damping) else needs

    @override
    def start(self, groups: Groups) -> State:
        return {"num_steps": 0, "blocks": [], "bases": [], "average": None, "last": None}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        is_new = state.get("gradient") is not point.clipped  # not the same point once more, after a failure
        state["gradient"] = point.clipped
        if is_new:
            self._estimate(point, state)
        if isinstance(self.damping, Damping):
            damping = self.damping.value(state, state["largest"])
            return _by_model(point, self._inverse(point, state, damping), damping, state["last"])
        average = state["average"]
        if is_new or average is None:
            average = point.clipped.clone() if average is None else average.lerp(point.clipped, 1.0 - self.momentum)
            state["average"] = average
        step = self._inverse(point, state, self.damping * state["mean"]) @ average
        if self.trust is not None:
            length = (average @ step).clamp(min=torch.finfo(step.dtype).tiny)
            step = step * (self.trust / length).sqrt().clamp(max=1.0)
        return SearchDirection(-step)

    @override
    def learn(self, info: StepInfo, state: State) -> None:
        if isinstance(self.damping, Damping):
            self.damping.learn(state, info.gain)
            state["last"] = info.step

    @override
    def on_failure(self, state: State) -> Recovery:
        if isinstance(self.damping, Damping):
            state["last"] = None
            self.damping.increase(state)
            return Recovery.DAMP
        had, state["average"] = state["average"], None  # what was averaged leads uphill
        return Recovery.NONE if had is None or self.momentum == 0.0 else Recovery.RESTART

    @override
    def pack(self, state: State) -> State:
        return {key: value for key, value in state.items() if key != "gradient"}

    def _inverse(self, point: Point, state: State, damping: float) -> AbstractOperator:
        assert point.objective is not None
        bases = [Eigenbasis.unpacked(packed) for packed in state["bases"]]
        penalties = point.objective.penalties(point.parameters)
        return KroneckerInverse(bases, point.parameters, [damping + penalty for penalty in penalties])

    def _estimate(self, point: Point, state: State) -> None:
        """Bring factors and eigenvectors up to date, as often as they are to be."""
        assert point.objective is not None
        step, objective, parameters = state["num_steps"], point.objective, point.parameters
        state["num_steps"] = step + 1
        adapts = isinstance(self.damping, Damping)
        every, refresh = self.every or (1 if adapts else 5), self.refresh or (1 if adapts else 20)
        if step % every:
            return
        sharing = Sharing.REDUCE if self.reduce else Sharing.EXPAND
        blocks = kronecker_factors(
            objective, parameters, num_samples=self.num_samples, seed=step, sharing=sharing, max_side=self.max_side
        )
        number = step // every
        fraction = max(1.0 / (number + 1), 1.0 - self.decay)
        state["blocks"] = averaged(state["blocks"], blocks, fraction)
        if number == 0 or number in EARLY or step - state["refreshed"] >= refresh:
            state["refreshed"] = step
            moments = {tuple(basis["members"]): basis["moments"] for basis in state["bases"]}
            bases = [Eigenbasis.of(Block.unpacked(packed)) for packed in state["blocks"]]
            bases = [dataclasses.replace(basis, moments=_fitting(moments.get(basis.members), basis)) for basis in bases]
            state["bases"] = [basis.packed() for basis in bases]
        if self.corrected:
            bases = [Eigenbasis.unpacked(packed) for packed in state["bases"]]
            found = second_moments(objective, parameters, bases, num_samples=self.num_samples, seed=step)
            for basis, own in zip(state["bases"], found, strict=True):
                had = basis["moments"]
                if own is not None:
                    basis["moments"] = own if had is None else had.lerp(own, fraction)
        diagonals = [Eigenbasis.unpacked(packed).diagonal for packed in state["bases"]]
        size = point.clipped.numel()
        figures = torch.stack([torch.stack([each.sum() / size, each.amax()]) for each in diagonals])
        state["mean"], state["largest"] = figures[:, 0].sum().item(), figures[:, 1].amax().item()


def _fitting(moments: Tensor | None, basis: Eigenbasis) -> Tensor | None:
    return moments if moments is not None and moments.shape == basis.shape else None


def _by_model(point: Point, inverse: AbstractOperator, damping: float, last: Tensor | None) -> SearchDirection:
    """Return the best combination of K-FAC's step and the last one in the damped Gauss-Newton model."""
    assert point.objective is not None
    steps = torch.stack([-(inverse @ point.clipped), *([] if last is None else [last])], 1)
    matrix = GaussNewton(point.objective, point.parameters, check=False)
    curvature = (steps.T @ (matrix @ steps)).double()
    system = curvature + damping * (steps.T @ steps).double()
    scale = system.diagonal().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    # In units of the steps' own lengths; two that are nearly parallel count as one.
    inner = torch.linalg.pinv(system / torch.outer(scale, scale), rtol=1e-6, hermitian=True)
    weights = -(inner @ ((steps.T @ point.clipped).double() / scale)) / scale
    vector = steps @ weights.to(steps.dtype)
    return SearchDirection(vector, curvature=(weights @ curvature @ weights).item())
