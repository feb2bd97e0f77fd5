"""Shampoo: gradients times inverse roots of their second moments on either side, as long as Adam's steps."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.optim.decompositions import inverse_root
from thalweg.optim.preconditioned import AbstractPreconditioned, Matrices, adam_steps, by_group
from thalweg.optim.soap import SIDES, update_factors


@final
class Shampoo(AbstractPreconditioned):
    r"""Momentum times inverse fourth roots of the gradient's second moments, with the length of Adam's step.

    For a matrix with gradient $G$, the factors $L$ and $R$ are moving averages of $G G^\top$ and $G^\top G$ with rate
    `shampoo_beta`, and $M$ that of $G$ with the first of the betas. The step is a multiple of

    $$-L^{-1/4} M R^{-1/4}$$

    with the norm that Adam's step would have, in each block by itself ("grafting"), so that the rates of Adam fit.
    Where one side only is preconditioned its root is the second. Until the first roots are there the step is Adam's.

    Args:
        params: parameters or groups of them, as in PyTorch; `thalweg.optim.parameter_groups` makes groups by the roles.
        lr: not negative.
        betas: decay of the moments, each in [0, 1).
        shampoo_beta: decay of the factors, in [0, 1).
        eps: added to Adam's denominator, above 0.
        weight_decay: decoupled, not negative.
        floor: added to the factors' eigenvalues, as a share of the largest, above 0.
        frequency: steps from one decomposition of a matrix to the next, at least 1; different matrices take turns.
        block_size: longest axis of a block; 0: no blocks.
        largest_axis: longest axis that is preconditioned, unless the group says `matrix=True`.
        maximize: whether to go up.
        spread: as for `SOAP`.

    Raises:
        ValueError: for a number out of its range, or complex parameters; RuntimeError in `step` for sparse gradients.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([[3.0, 1.0], [1.0, 2.0]]))
        >>> optimizer = Shampoo([w], lr=0.1, weight_decay=0.0)
        >>> for _ in range(100):
        ...     w.grad = w.detach() - torch.eye(2)
        ...     optimizer.step()
        >>> bool((w - torch.eye(2)).abs().max() < 0.1)
        True

    Source: Gupta, Koren and Singer (2018), Shampoo: Preconditioned Stochastic Tensor Optimization; Shi et al. (2023), A
    Distributed Data-Parallel PyTorch Implementation of the Distributed Shampoo Optimizer.

    Not for embeddings. `SOAP` needs fewer steps in most comparisons, Shampoo less time for a step.
    """

    refreshes = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        shampoo_beta: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        floor: float = 1e-6,
        frequency: int = 10,
        block_size: int = 512,
        largest_axis: int = 4096,
        maximize: bool = False,
        spread: bool = False,
    ) -> None:
        sizes = {"frequency": frequency, "block_size": block_size, "largest_axis": largest_axis, "floor": floor}
        moments = {"betas": betas, "shampoo_beta": shampoo_beta, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, "maximize": maximize} | moments | sizes, spread)

    @override
    def _directions(self, matrices: Sequence[Matrices]) -> list[Tensor]:
        directions: dict[int, Tensor] = {}
        for entries in by_group(matrices):
            grafts = adam_steps(entries, [entry.gradient for entry in entries], entries[0].group["betas"])
            for entry, graft in zip(entries, grafts, strict=True):
                directions[id(entry.parameter)] = _preconditioned(entry.state, graft)
                update_factors(entry)
        return [directions[id(entry.parameter)] for entry in matrices]

    @override
    def _refresh(self, due: Sequence[Matrices]) -> None:
        for entries in by_group(due):
            for exponent in (2.0, 4.0):
                chosen = [entry for entry in entries if 2.0 * sum(side in entry.state for side in SIDES) == exponent]
                sides = [(entry, side) for entry in chosen for side in SIDES if side in entry.state]
                root = functools.partial(inverse_root, exponent=exponent, floor=entries[0].group["floor"])
                found = self._apart(root, [(entry.state[side],) for entry, side in sides])
                for (entry, side), new in zip(sides, found, strict=True):
                    entry.state[f"{side}_root"] = new


def _preconditioned(state: dict[str, Any], graft: Tensor) -> Tensor:
    """The momentum between the roots, with the norm of another step; that step where there are no roots yet."""
    direction = state["exp_avg"]
    if not any(f"{side}_root" in state for side in SIDES):
        return graft
    if "left_root" in state:
        direction = state["left_root"] @ direction
    if "right_root" in state:
        direction = direction @ state["right_root"]
    tiny = torch.finfo(graft.dtype).tiny
    # Its squares might underflow.
    direction = direction / direction.abs().amax((-2, -1), keepdim=True).clamp(min=tiny)
    norms = [torch.linalg.matrix_norm(stack, keepdim=True) for stack in (graft, direction)]
    return direction * (norms[0] / norms[1].clamp(min=tiny))
