"""Muon with the exact polar factor, and NorMuon: orthogonalized momentum at the scale of Adam's steps."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.optim.polar import POLAR_EXPRESS, AbstractPolar, Automatic, Polynomial
from thalweg.optim.preconditioned import AbstractPreconditioned, Matrices, by_group

RMS = 0.2  # of the entries of a step at a rate of 1: that of Adam's steps in practice


@final
class PolarMuon(AbstractPreconditioned):
    r"""Muon: the orthogonal factor of the momentum, as long as Adam's steps.

    With the moving average $M$ of the gradient $G$ and, for `nesterov`, $N = \mu M + (1 - \mu) G$, the step of a matrix
    with $m$ rows and $n$ columns is

    $$-0.2 \, \mathrm{lr} \sqrt{\max(m, n)} \; \mathrm{polar}(N)$$

    where polar sets all singular values to one. The factor makes the entries of a step about as large as Adam's, so one
    rate serves matrices and everything else, which takes AdamW's steps.

    `torch.optim.Muon` approximates the factor by five steps of Newton-Schulz in bfloat16, which leaves singular values
    between 0.7 and 1.2. On a CPU the exact factor is as cheap, or much cheaper where it has no fast products of half
    precision. Weights of any rank, an LSTM's gates and packed attention projections are matrices, too.

    Args:
        params: parameters or groups of them, as in PyTorch; `thalweg.optim.parameter_groups` makes groups by the roles,
            without which embeddings with up to `largest_axis` rows are taken for matrices.
        lr: not negative.
        momentum: decay of the average, in [0, 1).
        nesterov: whether the present gradient counts once more.
        weight_decay: decoupled, not negative.
        adam_betas: decay of AdamW's moments for all that is no matrix, each in [0, 1).
        eps: added to AdamW's denominator, above 0.
        polar: how the factor is computed: `Exact`, `Polynomial`, or one of them by the device.
        largest_axis: a matrix with a longer axis takes AdamW's step, unless the group says `matrix=True`.
        maximize: whether to go up.
        spread: whether processes that train the same model (data parallel) share the work: each makes the factors of
            some matrices and sends them to the others. All must step with gradients of the same parameters.

    Raises:
        ValueError: for a number out of its range, or complex parameters; RuntimeError in `step` for sparse gradients.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(2, 2))
        >>> w.grad = torch.tensor([[3.0, 0.0], [0.0, -0.1]])
        >>> PolarMuon([w], lr=0.1, weight_decay=0.0).step()
        >>> torch.allclose(w.detach() / (0.1 * 0.2 * 2**0.5), torch.tensor([[-1.0, 0.0], [0.0, 1.0]]), atol=1e-5)
        True

    Source: Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks; Liu et al. (2025), Muon is
    Scalable for LLM Training, for the scale.

    Not for fine-tuning what was trained with Adam, where Adam does better, nor for embeddings and output layers.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 5e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        *,
        nesterov: bool = True,
        adam_betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        polar: AbstractPolar = Automatic(),  # noqa: B008 - a frozen value
        largest_axis: int = 4096,
        maximize: bool = False,
        spread: bool = False,
    ) -> None:
        self.polar = polar
        own = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
        others = {"adam_betas": adam_betas, "eps": eps, "largest_axis": largest_axis, "maximize": maximize}
        super().__init__(params, own | others, spread)

    @override
    def _is_matrix(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        return _is_small_matrix(super()._is_matrix(parameter, group), parameter, group)

    @override
    def _directions(self, matrices: Sequence[Matrices]) -> list[Tensor]:
        factors = self._apart(self.polar, [(average,) for average in _averages(matrices)])
        return [factor * (RMS * math.sqrt(max(factor.shape[1:]))) for factor in factors]


@final
class NorMuon(AbstractPreconditioned):
    r"""Muon with steps of equal size for all neurons.

    As `PolarMuon`, and the rows of the factor $O$ are divided by the root of a moving average of their mean squares,
    one number for each row (an output neuron):

    $$v \leftarrow \beta_2 v + (1 - \beta_2) \, \mathrm{mean}_j(O_{ij}^2), \qquad
      -0.2 \, \mathrm{lr} \, \sqrt{m n} \, \frac{\hat O}{\lVert \hat O \rVert}, \quad \hat O = O / \sqrt{v}$$

    Args:
        params: as for `PolarMuon`, and so are all the others.
        lr: not negative.
        momentum: decay of the average, in [0, 1).
        beta2: decay of the rows' mean squares, in [0, 1).
        nesterov: whether the present gradient counts once more.
        weight_decay: decoupled, not negative.
        adam_betas: decay of AdamW's moments for all that is no matrix, each in [0, 1).
        eps: added to AdamW's denominator, above 0.
        polar: how the factor is computed.
        polar_steps: by so many polynomials of Polar Express instead, at least 1; with rows of equal size three do about
            as well as the exact factor (docs/log.md). None: by `polar`.
        largest_axis: a matrix with a longer axis takes AdamW's step, unless the group says `matrix=True`.
        maximize: whether to go up.
        spread: whether data-parallel processes share the work.

    Raises:
        ValueError: for a number out of its range, or complex parameters; RuntimeError in `step` for sparse gradients.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(2, 3))
        >>> w.grad = torch.tensor([[3.0, 0.0, 1.0], [0.0, -0.1, 0.0]])
        >>> NorMuon([w], lr=0.1, weight_decay=0.0).step()
        >>> round(float(w.detach().square().mean().sqrt()), 6)  # 0.2 lr
        0.02

    Source: Li et al. (2025), NorMuon: Making Muon more efficient and scalable.

    Not for fine-tuning what was trained with Adam, nor for embeddings and output layers.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 5e-3,
        momentum: float = 0.95,
        beta2: float = 0.95,
        weight_decay: float = 0.01,
        *,
        nesterov: bool = True,
        adam_betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        polar: AbstractPolar = Automatic(),  # noqa: B008 - a frozen value
        polar_steps: int | None = None,
        largest_axis: int = 4096,
        maximize: bool = False,
        spread: bool = False,
    ) -> None:
        self.polar = polar if polar_steps is None else Polynomial(POLAR_EXPRESS, steps=polar_steps)
        own = {"lr": lr, "momentum": momentum, "beta2": beta2, "weight_decay": weight_decay, "nesterov": nesterov}
        others = {"adam_betas": adam_betas, "eps": eps, "largest_axis": largest_axis, "maximize": maximize}
        super().__init__(params, own | others, spread)

    @override
    def _is_matrix(self, parameter: Tensor, group: dict[str, Any]) -> bool:
        return _is_small_matrix(super()._is_matrix(parameter, group), parameter, group)

    @override
    def _directions(self, matrices: Sequence[Matrices]) -> list[Tensor]:
        factors = self._apart(self.polar, [(average,) for average in _averages(matrices)])
        return _normalized(matrices, factors)


def _is_small_matrix(is_matrix: bool, parameter: Tensor, group: dict[str, Any]) -> bool:
    """A vocabulary's table is no matrix, unless somebody says so."""
    return is_matrix and (bool(group["matrix"]) or max(parameter.shape) <= group["largest_axis"])


def _averages(matrices: Sequence[Matrices]) -> list[Tensor]:
    """The momentum of each, with the gradient in it, or once more."""
    results: dict[int, Tensor] = {}
    for entries in by_group(matrices):
        decay = entries[0].group["momentum"]
        for entry in entries:
            if "momentum" not in entry.state:
                entry.state["momentum"] = torch.zeros_like(entry.gradient, memory_format=torch.contiguous_format)
        momenta, gradients = [entry.state["momentum"] for entry in entries], [entry.gradient for entry in entries]
        torch._foreach_lerp_(momenta, gradients, 1.0 - decay)
        averages = torch._foreach_lerp(gradients, momenta, decay) if entries[0].group["nesterov"] else momenta
        results |= dict(zip(map(id, entries), averages, strict=True))
    return [results[id(entry)] for entry in matrices]


def _normalized(matrices: Sequence[Matrices], factors: Sequence[Tensor]) -> list[Tensor]:
    """The factors with rows of equal size in the long run, their entries as large as those of Adam's steps."""
    stacks: dict[Any, list[int]] = {}
    for index, (entry, factor) in enumerate(zip(matrices, factors, strict=True)):
        stacks.setdefault((factor.shape[1:], factor.dtype, factor.device, id(entry.group)), []).append(index)
    results = list(factors)
    for indices in stacks.values():
        stack = torch.cat([factors[index] for index in indices])
        counts, tiny = [len(factors[index]) for index in indices], torch.finfo(stack.dtype).tiny
        squares = stack.square().mean(-1, keepdim=True).split(counts)
        for index, new in zip(indices, squares, strict=True):
            if "squares" not in matrices[index].state:
                matrices[index].state["squares"] = torch.zeros_like(new)
        held = [matrices[index].state["squares"] for index in indices]
        torch._foreach_lerp_(held, list(squares), 1.0 - matrices[indices[0]].group["beta2"])
        stack = stack * torch.cat(held).clamp(min=tiny).rsqrt()
        size = torch.linalg.matrix_norm(stack, keepdim=True).clamp(min=tiny)
        stack = stack * (RMS * math.sqrt(math.prod(stack.shape[1:])) / size)
        for index, part in zip(indices, stack.split(counts), strict=True):
            results[index] = part
    return results
