"""SOAP: Adam in the eigenbasis of Shampoo's factors."""

from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.optim.decompositions import basis
from thalweg.optim.preconditioned import AbstractPreconditioned, Matrices, adam_steps, by_group

SIDES = ("left", "right")


@final
class SOAP(AbstractPreconditioned):
    r"""Adam in the slowly turning eigenbasis of the gradient's second moments.

    For a matrix with gradient $G$, the factors $L$ and $R$ are moving averages of $G G^\top$ and $G^\top G$ with rate
    `shampoo_beta`, and $Q_L$, $Q_R$ their eigenvectors. The step is

    $$-\mathrm{lr} \; Q_L \, \mathrm{Adam}(Q_L^\top G \, Q_R) \, Q_R^\top$$

    with Adam's moments kept in the rotated coordinates. When the basis turns, the first moment is turned with it; the
    second one stays, coordinate by coordinate: the vectors keep their order while they turn.

    - Each matrix is decomposed every `frequency` steps, different matrices at different steps, so that no step takes
      much longer than another: the first time by an eigenvalue routine, within the first three steps (which before
      that are Adam's own), afterwards by a step of orthogonal iteration.
    - Axes longer than `block_size` are cut into blocks, each preconditioned by itself. Those longer than
      `largest_axis`, such as a vocabulary's, are left as they are, unless the group says `matrix=True`.
    - Vectors, and groups with `matrix=False`, take AdamW's step with the same rate and betas.

    Args:
        params: parameters or groups of them, as in PyTorch; `thalweg.optim.parameter_groups` makes groups by the roles.
        lr: not negative.
        betas: decay of Adam's moments, each in [0, 1).
        shampoo_beta: decay of the factors, in [0, 1); None: the second of the betas.
        eps: added to Adam's denominator, above 0.
        weight_decay: decoupled, not negative.
        frequency: steps from one decomposition of a matrix to the next, at least 1.
        block_size: longest axis of a block; 0: no blocks.
        largest_axis: longest axis that is preconditioned.
        maximize: whether to go up.
        spread: whether processes that train the same model (data parallel) share the decompositions: each makes some
            and sends them to the others. All must step with gradients of the same parameters.

    Raises:
        ValueError: for a number out of its range, or complex parameters; RuntimeError in `step` for sparse gradients.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([[3.0, 1.0], [1.0, 2.0]]))
        >>> optimizer = SOAP([w], lr=0.1, weight_decay=0.0)
        >>> for _ in range(200):
        ...     w.grad = w.detach() - torch.eye(2)
        ...     optimizer.step()
        >>> bool((w - torch.eye(2)).abs().max() < 0.1)
        True

    Source: Vyas et al. (2024), SOAP: Improving and Stabilizing Shampoo using Adam.

    Not for embeddings: their rows are seen too seldom. Not where memory is short: with square matrices it keeps six
    numbers for each weight, where Adam keeps two.
    """

    refreshes = True
    begins_within = 3

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        frequency: int = 10,
        block_size: int = 512,
        largest_axis: int = 4096,
        maximize: bool = False,
        spread: bool = False,
    ) -> None:
        beta = betas[-1] if shampoo_beta is None else shampoo_beta
        sizes = {"frequency": frequency, "block_size": block_size, "largest_axis": largest_axis}
        moments = {"betas": betas, "shampoo_beta": beta, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, "maximize": maximize} | moments | sizes, spread)

    @override
    def _directions(self, matrices: Sequence[Matrices]) -> list[Tensor]:
        directions: dict[int, Tensor] = {}
        for entries in by_group(matrices):
            rotated = [_rotate(entry.state, entry.gradient) for entry in entries]
            steps = adam_steps(entries, rotated, entries[0].group["betas"])
            for entry, step in zip(entries, steps, strict=True):
                directions[id(entry.parameter)] = _rotate_back(entry.state, step)
                update_factors(entry)
        return [directions[id(entry.parameter)] for entry in matrices]

    @override
    def _refresh(self, due: Sequence[Matrices]) -> None:
        sides = [(entry, side) for entry in due for side in SIDES if side in entry.state]
        found = self._apart(basis, [(entry.state[side], entry.state.get(f"{side}_basis")) for entry, side in sides])
        begun = {id(entry): entry for entry, side in sides if f"{side}_basis" not in entry.state}
        for (entry, side), new in zip(sides, found, strict=True):
            old, mean = entry.state.get(f"{side}_basis"), entry.state["exp_avg"]
            turn = new if old is None else old.mT @ new
            entry.state["exp_avg"] = turn.mT @ mean if side == "left" else mean @ turn
            entry.state[f"{side}_basis"] = new
        for entry in begun.values():
            _begin_squares(entry.state, *entry.group["betas"])


def update_factors(entry: Matrices) -> None:
    """Add the gradient to the moving averages of its products, on each side that is preconditioned."""
    gradient, state, beta = entry.gradient, entry.state, entry.group["shampoo_beta"]
    for side, size in zip(SIDES, entry.layout.matrix, strict=True):
        if entry.layout.reaches(size):
            wide = gradient if side == "left" else gradient.mT
            if side not in state:
                state[side] = torch.zeros_like(wide @ wide.mT)
            torch.baddbmm(state[side], wide, wide.mT, beta=beta, alpha=1.0 - beta, out=state[side])


def _rotate(state: dict[str, Any], stack: Tensor) -> Tensor:
    """Into the eigenbasis."""
    if "left_basis" in state:
        stack = state["left_basis"].mT @ stack
    return stack @ state["right_basis"] if "right_basis" in state else stack


def _rotate_back(state: dict[str, Any], stack: Tensor) -> Tensor:
    """Out of the eigenbasis."""
    if "left_basis" in state:
        stack = state["left_basis"] @ stack
    return stack @ state["right_basis"].mT if "right_basis" in state else stack


def _begin_squares(state: dict[str, Any], beta1: float, beta2: float) -> None:
    """Begin the second moment in the first basis as the square of the first moment, both without their bias."""
    step = state["step"]
    state["exp_avg_sq"] = state["exp_avg"].square().mul_((1.0 - beta2**step) / (1.0 - beta1**step) ** 2)
