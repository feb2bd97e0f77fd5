"""L-BFGS: the inverse Hessian of the last few pairs, never written down."""

import dataclasses
import math
from typing import ClassVar, final

from torch import Tensor

from thalweg.optim.base import AbstractDirection, Groups, Move, Needs, Point, State, Taken, Way
from thalweg.optim.initial import AbstractInitial, ScaledIdentity
from thalweg.optim.quasi_newton import check_damping, damped_step, enough_curvature


@final
@dataclasses.dataclass(frozen=True)
class LBFGS(AbstractDirection):
    r"""Limited-memory BFGS: `d = -H g` with the inverse that BFGS makes of the last pairs, by the two-loop recursion.

    Each pair is measured on **one** batch: the
    gradient where the step ends is evaluated on the batch that the step was made with (full overlap), so that the
    difference between two batches never passes for curvature. On the same `Objective` again, the next step starts from
    that evaluation, so it costs nothing; with a new batch at every step it costs one gradient, unless the line search
    has evaluated it.

    Args:
        memory: number of pairs, at least 1; 4 * memory * n multiplications a step.
        damping: for noisy gradients, as for `BFGS`; doubles the work of the recursion.
        initial: what the recursion starts from: `ScaledIdentity()`; or, with an objective, `InverseDiagonal()`, which
            pays where inputs or parameters are scaled differently; then it is multiplied by `s'y / y'H0 y`.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> LBFGS(memory=20)
        LBFGS(memory=20, damping=0.0, initial=ScaledIdentity())

    Source: Nocedal, "Updating quasi-Newton matrices with limited storage" (1980); Liu and Nocedal, "On the limited
    memory BFGS method for large scale optimization" (1989); Berahas, Nocedal, Takac, "A multi-batch L-BFGS method for
    machine learning" (2016).

    Not for small batches of a model far from fitting its data, even damped: the pairs are mostly noise.
    """

    memory: int = 20
    damping: float = 0.0
    initial: AbstractInitial = ScaledIdentity()  # noqa: RUF009  (frozen)
    needs: ClassVar[Needs] = Needs.GRADIENT | Needs.END_GRADIENT

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.memory < 1:
            raise ValueError(f"LBFGS(memory=...) must be at least 1; got {self.memory!r}.")
        check_damping(self.damping, "LBFGS")

    def start(self, groups: Groups) -> State:
        """Return a memory without pairs."""
        del groups
        counts = {"num_pairs": 0, "num_skipped": 0, "num_learned": 0}
        return {"steps": [], "changes": [], "products": [], "scale": 1.0, "initial": None, **counts}

    def propose(self, point: Point, state: State) -> Move:
        """Return `-H g`."""
        every = self.initial.every
        if every is not None and state["num_learned"] >= every:
            state.update(steps=[], changes=[], products=[], num_learned=0)
        if not state["steps"]:
            state["initial"], state["scale"] = self.initial.inverse(point, state), 1.0
            if state["initial"] is None:
                return Move(-point.clipped, natural=False)
        return Move(_two_loop(-point.clipped, state), minimizes=True)

    def learn(self, taken: Taken, state: State) -> None:
        """Remember the step's pair, and forget the oldest."""
        step, change = taken.step, taken.change
        assert change is not None
        sy, yy, good = enough_curvature(step, change)
        if self.damping > 0.0 and state["steps"] and math.isfinite(yy) and yy > 0.0:
            inverse_change = _two_loop(change, state)
            yhy = (change @ inverse_change).item()
            if math.isfinite(yhy) and yhy > 0.0 and sy < self.damping * yhy:
                step, sy = damped_step(step, inverse_change, sy, yhy, self.damping)
                good = True
        if not good:
            state["num_skipped"] += 1
            return
        pairs = (("steps", step), ("changes", change), ("products", sy))
        for name, value in pairs:
            state[name] = [*state[name], value][-self.memory :]
        if state["initial"] is None:
            state["scale"] = sy / yy
        else:
            state["scale"] = sy / (change @ _times(state["initial"], change)).item()
        state["num_pairs"] += 1
        state["num_learned"] += 1

    def give_way(self, state: State) -> Way:
        """Forget the pairs."""
        if not state["steps"]:
            return Way.NONE
        state.update(steps=[], changes=[], products=[], num_learned=0)
        return Way.RESTART


def _times(inverse: Tensor, vector: Tensor) -> Tensor:
    return inverse * vector if inverse.dim() == 1 else inverse @ vector


def _two_loop(vector: Tensor, state: State) -> Tensor:
    """Return the inverse Hessian's product with a vector; no number leaves the device."""
    pairs = list(zip(state["steps"], state["changes"], state["products"], strict=True))
    result = vector.clone()
    shares = []
    for step, change, product in reversed(pairs):
        share = (step @ result) / product
        result.addcmul_(change, share, value=-1.0)
        shares.append(share)
    if state["initial"] is not None:
        result = _times(state["initial"], result)
    result *= state["scale"]
    for (step, change, product), share in zip(pairs, reversed(shares), strict=True):
        result.addcmul_(step, share - (change @ result) / product)
    return result
