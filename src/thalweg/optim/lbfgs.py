"""L-BFGS: the inverse Hessian of the last few pairs, never written down; and what all quasi-Newton methods share."""

import abc
import dataclasses
import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from thalweg import distributed
from thalweg.curvature.diagonal import gauss_newton_diagonal, penalty_diagonal
from thalweg.errors import require
from thalweg.noise import accelerators, borrowed
from thalweg.objective import Objective
from thalweg.optim.base import AbstractDirection, Groups, Point, Recovery, Requires, SearchDirection, State, StepInfo
from thalweg.optim.catalog import MOST_PAIRS


class AbstractInitial(abc.ABC):
    """Makes the inverse Hessian that a quasi-Newton method starts from.

    Attributes:
        refresh: after how many pairs the memory is started again from a new one; None: never.
    """

    refresh: int | None

    @abc.abstractmethod
    def inverse(self, point: Point, state: State) -> Tensor | None:
        """Return a positive definite matrix `[n, n]`, its diagonal `[n]`, or None: the first pair is to tell the scale.

        Args:
            point: where the memory starts.
            state: the direction's memory.
        """


@final
@dataclasses.dataclass(frozen=True)
class ScaledIdentity(AbstractInitial):
    """The identity, times `s'y / y'y` of a pair; the first step goes along the gradient.

    Source: Nocedal and Wright, "Numerical Optimization" (2006), equation 6.20.
    """

    refresh: int | None = dataclasses.field(default=None, init=False, repr=False)

    @override
    def inverse(self, point: Point, state: State) -> Tensor | None:
        return None


@final
@dataclasses.dataclass(frozen=True)
class AutomaticInitial(AbstractInitial):
    r"""The inverse diagonal where it is known to help, else the scaled identity; so that nobody has to choose.

    It helps where predictions are affine in the parameters: linear and logistic regression and their kin, the last
    layer of a network that is frozen below it. That is found out once, from three predictions along a line (which must
    be collinear), and where it is so, the diagonal h of the Gauss-Newton matrix costs about two gradients more. With
    its quantiles the inverse is

    $$\frac{1 + \mu / h_{0.9}}{h + \mu}, \qquad \mu = \frac{30 \, h_{0.1}^2}{h_{0.9}},$$

    which is the diagonal where entries differ by orders of magnitude and close to the identity where they are alike.
    Parameters that the data say nothing about (h is the penalty's) get $1 / h_{0.9}$.

    Other models, plain closures, half precision, and layers other than `nn.Linear`, whose diagonal is only estimated,
    get the scaled identity.

    Example:
        >>> AutomaticInitial()
        AutomaticInitial()

    On small networks the diagonal may saturate units at the first step, which is why they don't get it.
    """

    refresh: int | None = dataclasses.field(default=None, init=False, repr=False)

    @override
    def inverse(self, point: Point, state: State) -> Tensor | None:
        objective, parameters = point.objective, point.parameters
        if objective is None or not parameters:
            return None
        outputs = state.get("outputs")  # a restart is no reason to look again
        if outputs is None:
            outputs = state["outputs"] = affine_outputs(objective, parameters)
        if not outputs:
            return None
        diagonal = gauss_newton_diagonal(objective, parameters, num_samples=1 if outputs == 1 else 4)
        seen = diagonal > (1.0 + 1e-6) * penalty_diagonal(objective, parameters)
        entries = diagonal[seen]
        if not (len(entries) and bool(torch.isfinite(entries).all())):
            return None
        low, high = (entries.kthvalue(1 + int(share * (len(entries) - 1))).values for share in (0.1, 0.9))
        damping = torch.maximum(30.0 * low * (low / high), 1e-8 * entries.amax())
        return (1.0 + damping / high) / (torch.where(seen, diagonal, high) + damping)


def affine_outputs(objective: Objective, parameters: list[Tensor]) -> int:
    """Return how many numbers are predicted at a time, 0 unless predictions are affine in the parameters.

    Zero, too, where a parameter is not of an `nn.Linear`, or numbers are too coarse to tell. Every rank answers alike.
    """
    modules = [*objective.model.modules(), *objective.head.modules()]
    linear = {id(tensor) for module in modules if type(module) is nn.Linear for tensor in module.parameters()}
    outputs = 0
    if all(id(tensor) in linear and tensor.dtype.itemsize >= 4 for tensor in parameters):
        generator = torch.Generator().manual_seed(0)
        ahead = []
        for tensor in parameters:
            scale = tensor.detach().square().mean().sqrt()
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
            ahead.append(noise * torch.where(scale > 0.0, scale, 1.0))

        def predictions() -> list[Tensor]:
            moved = ([(x, x.detach() + t * d) for x, d in zip(parameters, ahead, strict=True)] for t in (0.0, 1.0, 2.0))
            batch = objective.batches[0]
            return [objective.exchange(pairs, lambda: objective.prediction(batch)) for pairs in moved]

        with borrowed(accelerators(parameters)):
            first, second, third = objective.unchanged(lambda: objective.without_graph(predictions))
        exact = 1e3 * torch.finfo(first.dtype).eps
        bend, size = (first - 2.0 * second + third).abs().amax(), torch.stack([first, second, third]).abs().amax()
        if exact < 1e-2 and bool(bend <= exact * size):
            outputs = first.shape[-1]
    alike = distributed.sum_over_ranks([torch.tensor([float(outputs > 0), 1.0], device=parameters[0].device)])[0]
    return outputs if bool(alike[0] == alike[1]) else 0


@final
@dataclasses.dataclass(frozen=True)
class LBFGS(AbstractDirection):
    r"""Limited-memory BFGS: `d = -H g` with the inverse that BFGS makes of the last pairs, by the two-loop recursion.

    Both loops are products of the matrices that hold the pairs, one row each, so that a step takes a dozen operations
    whatever the memory; 2 * memory * n numbers are kept.

    Each pair is measured on **one** batch: the gradient where the step ends is evaluated on the batch that the step was
    made with (full overlap), so that the difference between two batches never passes for curvature. On the same
    `Objective` again, the next step starts from that evaluation, so it costs nothing; with a new batch at every step it
    costs one gradient, unless the line search has evaluated it.

    Args:
        memory: number of pairs, from 1 to 10,000; 5 * memory * n multiplications a step.
        damping: for noisy gradients, as for `BFGS`; adds a product with the inverse to each step.
        initial: what the recursion starts from, multiplied by `s'y / y'H0 y` of the last pair: `AutomaticInitial()`,
            `ScaledIdentity()`, or, with an objective, `InverseDiagonal()` or `InverseGaussNewton()`.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> LBFGS(memory=20)
        LBFGS(memory=20, damping=0.0, initial=AutomaticInitial())

    Source: Nocedal, "Updating quasi-Newton matrices with limited storage" (1980); Liu and Nocedal, "On the limited
    memory BFGS method for large scale optimization" (1989); Berahas, Nocedal, Takac, "A multi-batch L-BFGS method for
    machine learning" (2016).

    Not for small batches of a model far from fitting its data, even damped: the pairs are mostly noise.
    """

    memory: int = 20
    damping: float = 0.0
    initial: AbstractInitial = AutomaticInitial()
    requires: ClassVar[Requires] = Requires.GRADIENT | Requires.END_GRADIENT

    def __post_init__(self) -> None:
        require(1 <= self.memory <= MOST_PAIRS, f"LBFGS(memory=...) must lie in [1, {MOST_PAIRS}]", self.memory)
        require(0.0 <= self.damping < 1.0, "LBFGS(damping=...) must lie in [0, 1)", self.damping)

    @override
    def start(self, groups: Groups) -> State:
        counts = {"num_pairs": 0, "num_skipped": 0, "num_learned": 0, "num_kept": 0, "place": 0}
        return {"steps": None, "changes": None, "solver": None, "scale": 1.0, "initial": None, **counts}

    @override
    def propose(self, point: Point, state: State) -> SearchDirection:
        refresh = self.initial.refresh
        if refresh is not None and state["num_learned"] >= refresh:
            _forget(state)
        if not state["num_kept"]:
            state["initial"], state["scale"] = self.initial.inverse(point, state), 1.0
            if state["initial"] is None:
                return SearchDirection(-point.clipped, well_scaled=False)
        return SearchDirection(_inverse_times(-point.clipped, state), minimizes_model=True)

    @override
    def learn(self, info: StepInfo, state: State) -> None:
        step, change = info.step, info.change
        assert change is not None
        sy, yy, good = curvature_condition(step, change)
        if self.damping > 0.0 and state["num_kept"] and math.isfinite(yy) and yy > 0.0:
            inverse_change = _inverse_times(change, state)
            yhy = (change @ inverse_change).item()
            if math.isfinite(yhy) and yhy > 0.0 and sy < self.damping * yhy:
                step, sy = damped_step(step, inverse_change, sy, yhy, self.damping)
                good = True
        first = state["initial"]
        size = yy if first is None else (change @ _times(first, change)).item()
        if not (good and size > 0.0):
            state["num_skipped"] += 1
            return
        state["scale"] = sy / size
        self._keep(step, change, sy, state)
        state["num_pairs"] += 1
        state["num_learned"] += 1

    @override
    def on_failure(self, state: State) -> Recovery:
        if not state["num_kept"]:
            return Recovery.NONE
        _forget(state)
        return Recovery.RESTART

    @override
    def pack(self, state: State) -> State:
        """Return the memory without the rows that hold no pair yet."""
        if state["steps"] is None:
            return state
        steps, changes, solver = _pairs(state)
        return {**state, "steps": steps.clone(), "changes": changes.clone(), "solver": solver.clone()}

    @override
    def unpack(self, packed: State, groups: Groups) -> State:
        """Return the memory from what `pack` gave; another `memory` keeps the last of the pairs."""
        state = super().unpack(packed, groups)
        if "solver" not in state:  # written by an older version: a memory can always be started again
            return self.start(groups)
        if state["steps"] is None:
            return state
        steps, changes, solver = _pairs(state)
        count, place = state["num_kept"], state["place"]
        self._make_room(steps, state)
        if count == self.memory or (count < self.memory and place == count):  # the places stay as they were
            state["steps"][:count], state["changes"][:count], state["solver"][:count, :count] = steps, changes, solver
            state["place"] = place % self.memory
            return state
        state.update(num_kept=0, place=0)
        products = solver.diagonal().reciprocal().tolist()
        for i in [*range(place, count), *range(place)][-self.memory :]:
            self._keep(steps[i], changes[i], products[i], state)
        return state

    def _make_room(self, like: Tensor, state: State) -> None:
        """Make the memory: twice `memory` rows of n numbers, in float32 at least."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        for name, columns in (("steps", like.shape[-1]), ("changes", like.shape[-1]), ("solver", self.memory)):
            state[name] = torch.zeros(self.memory, columns, dtype=dtype, device=like.device)

    def _keep(self, step: Tensor, change: Tensor, sy: float, state: State) -> None:
        """Put a pair in the place of the oldest one.

        `solver` is the inverse of the triangle R of all `s_i'y_j` with i no younger than j. Its rows and columns may
        lie anywhere: without those of the oldest pair it is the inverse of the triangle without them.
        """
        if state["steps"] is None:
            self._make_room(step, state)
        place = state["place"]
        state["place"] = (place + 1) % self.memory
        state["num_kept"] = min(state["num_kept"] + 1, self.memory)
        steps, changes, solver = _pairs(state)
        steps[place], changes[place] = step, change
        solver[place] = 0.0
        solver[:, place] = 0.0
        solver[:, place] = (solver @ (steps @ changes[place])).div_(-sy)
        solver[place, place] = 1.0 / sy


def _pairs(state: State) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of steps and changes in use, and the inverse of their triangle."""
    count = state["num_kept"]
    if count == len(state["steps"]):
        return state["steps"], state["changes"], state["solver"]
    return state["steps"][:count], state["changes"][:count], state["solver"][:count, :count]


def _forget(state: State) -> None:
    state.update(num_learned=0, num_kept=0, place=0)


def _inverse_times(vector: Tensor, state: State) -> Tensor:
    r"""Return the inverse Hessian's product with a vector; no number leaves the device.

    The recursion's first loop solves $R a = S g$ and its second $R^\top c = D a - Y H_0 (g - Y^\top a)$, a row at a
    time; here each is one product, which gives the same numbers up to rounding.
    """
    first, scale = state["initial"], state["scale"]
    if not state["num_kept"]:
        return _times(first, vector)
    steps, changes, solver = _pairs(state)
    wide = vector.to(steps.dtype)
    ahead = torch.mv(solver, torch.mv(steps, wide))
    result = torch.addmv(wide, changes.T, ahead, alpha=-1.0)
    if first is not None:
        result = _times(first, result)
    result *= scale
    back = (ahead / solver.diagonal()).sub_(torch.mv(changes, result))
    return result.addmv_(steps.T, torch.mv(solver.T, back)).to(vector.dtype)


def curvature_condition(step: Tensor, change: Tensor) -> tuple[float, float, bool]:
    """Return `s'y`, `y'y`, and whether `s'y` is positive beyond rounding, however s and y are scaled.

    Numbers so small that their reciprocals overflow are no use, either.
    """
    sy, yy, ss = torch.stack([step @ change, change @ change, step @ step]).tolist()
    eps, tiny = 10.0 * torch.finfo(step.dtype).eps, torch.finfo(step.dtype).tiny
    good = math.isfinite(sy) and math.isfinite(yy) and sy > eps * math.sqrt(ss * yy) > 0.0
    return sy, yy, good and min(sy, yy) >= tiny


def damped_step(step: Tensor, inverse_change: Tensor, sy: float, yhy: float, damping: float) -> tuple[Tensor, float]:
    """Return the step moved towards `H y` so that `s'y = damping * y'Hy`, and `s'y`, which was less."""
    return torch.lerp(inverse_change, step, (1.0 - damping) * yhy / (yhy - sy)), damping * yhy


def _times(inverse: Tensor, vector: Tensor) -> Tensor:
    return inverse * vector if inverse.dim() == 1 else inverse @ vector
