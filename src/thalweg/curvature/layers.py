"""The layers that a forward pass goes through: what went in, and where the slope at what came out is found.

Whoever calls `F.linear`, `F.embedding`, `F.embedding_bag` or `F.layer_norm` with a parameter is noted, so that modules
of PyTorch, attention's projections and tied output layers are found alike, under whatever names.
"""

import abc
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from thalweg.curvature.differentiable import uncompiled

Positions = dict[int, int]  # of the parameters, by id


@dataclasses.dataclass(eq=False)
class AbstractUse(abc.ABC):
    """One use of a layer's parameters; example by example its gradient is a sum of outer products, one a row.

    Args:
        members: positions of the parameters: a weight, a bias, or both.
        edge: where the slope at the layer's output is found.
        outputs: size of the side of the weight that belongs to the slope at the output.
        inputs: size of the other side.
    """

    members: tuple[int, ...]
    edge: GradientEdge
    outputs: int
    inputs: int
    transposed: ClassVar[bool] = False  # whether the weight has its inputs first


@final
@dataclasses.dataclass(eq=False)
class DenseUse(AbstractUse):
    """A linear layer, or the scale and shift of a normalization, whose only input is 1.

    Args:
        rows: what went in, `[..., inputs]` without the 1 of the bias; None: only that 1.
        with_one: whether a 1 for the bias is one of several inputs.
        normalized: what the scale multiplied, `[..., width]`; None: nothing, the slope at the output is taken itself.
    """

    rows: Tensor | None
    with_one: bool = False
    normalized: Tensor | None = None

    def output_rows(self, slope: Tensor) -> Tensor:
        """Return the slopes' side of the outer products, `[..., outputs]`."""
        if self.normalized is None:
            return slope
        scaled = slope * self.normalized.to(slope)
        return scaled if slope.shape[-1] == self.outputs else torch.cat([scaled, slope], -1)

    def input_rows(self) -> Tensor | None:
        """Return the inputs' side, `[..., inputs]`; None where it is all ones."""
        if self.rows is None or not self.with_one:
            return self.rows
        return torch.cat([self.rows, self.rows.new_ones(*self.rows.shape[:-1], 1)], -1)


@final
@dataclasses.dataclass(eq=False)
class TableUse(AbstractUse):
    """A table of vectors: each input is a row's number, alone or in a bag with others.

    Args:
        ids: rows of the table, `[n]`, each once in a bag.
        places: which row of the output each went to, `[n]`; None: the n-th.
        factors: what each was multiplied with, `[n]`; None: 1.
    """

    ids: Tensor
    places: Tensor | None = None
    factors: Tensor | None = None
    transposed: ClassVar[bool] = True


@contextlib.contextmanager
def layer_uses(positions: Positions) -> Iterator[list[AbstractUse]]:
    """Note the layers that use parameters with these ids, as long as it lasts."""
    noting = _Noting(positions)
    with uncompiled(), noting:
        yield noting.uses


@final
class _Noting(TorchFunctionMode):
    def __init__(self, positions: Positions) -> None:
        super().__init__()
        self.positions = positions
        self.uses: list[AbstractUse] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, and note what it does where it is one of the layers."""
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        note = _NOTES.get(func)
        if note is not None and isinstance(result, Tensor) and result.requires_grad:
            use = note(self.positions, get_gradient_edge(result), result, *args, **kwargs)
            if use is not None:
                self.uses.append(use)
        return result


def _members(positions: Positions, *tensors: Tensor | None) -> tuple[int, ...]:
    return tuple(positions[id(tensor)] for tensor in tensors if tensor is not None and id(tensor) in positions)


def _linear(
    positions: Positions,
    edge: GradientEdge,
    result: Tensor,
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
) -> AbstractUse | None:
    members, outputs = _members(positions, weight, bias), result.shape[-1]
    if id(weight) not in positions:
        return DenseUse(members, edge, outputs, 1, None) if members else None
    with_one = len(members) == 2
    return DenseUse(members, edge, outputs, weight.shape[1] + with_one, input.detach(), with_one)


def _layer_norm(
    positions: Positions,
    edge: GradientEdge,
    result: Tensor,
    input: Tensor,  # noqa: A002
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> AbstractUse | None:
    members, width = _members(positions, weight, bias), result.shape[-1]
    if not members or len(normalized_shape) != 1:
        return None
    if weight is None or id(weight) not in positions:
        return DenseUse(members, edge, width, 1, None)
    normalized = F.layer_norm(input.detach(), normalized_shape, eps=eps)
    return DenseUse(members, edge, width * len(members), 1, None, normalized=normalized)


def _embedding(
    positions: Positions,
    edge: GradientEdge,
    result: Tensor,
    input: Tensor,  # noqa: A002
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> AbstractUse | None:
    del norm_type, sparse
    members = _members(positions, weight)
    if not members or max_norm is not None or scale_grad_by_freq:
        return None
    factors = None if padding_idx is None else (input != padding_idx % len(weight)).reshape(-1).to(result.dtype)
    return TableUse(members, edge, result.shape[-1], len(weight), input.reshape(-1), factors=factors)


def _embedding_bag(
    positions: Positions,
    edge: GradientEdge,
    result: Tensor,
    input: Tensor,  # noqa: A002
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> AbstractUse | None:
    del norm_type, sparse
    members = _members(positions, weight)
    if not members or max_norm is not None or scale_grad_by_freq or mode == "max":
        return None
    ids, num_bags = input.reshape(-1), len(result)
    if offsets is None:
        bags = torch.arange(num_bags, device=ids.device).repeat_interleave(input.shape[1])
    else:
        starts = offsets[:-1] if include_last_offset else offsets
        numbers = torch.arange(len(ids), device=ids.device)
        bags = torch.searchsorted(starts.to(numbers.dtype), numbers, right=True) - 1
    factors = torch.ones(len(ids), dtype=result.dtype, device=ids.device)
    if per_sample_weights is not None:
        factors = per_sample_weights.detach().reshape(-1).to(factors)
    if padding_idx is not None:
        factors = factors * (ids != padding_idx % len(weight))
    if mode == "mean":
        sizes = torch.zeros_like(factors[:1]).repeat(num_bags).index_add(0, bags, (factors != 0.0).to(factors))
        factors = factors / sizes.clamp(min=1.0).index_select(0, bags)
    # What stands in a bag several times counts as one with the sum of the factors.
    keys, inverse = torch.unique(bags * len(weight) + ids, return_inverse=True)
    factors = torch.zeros(len(keys), dtype=factors.dtype, device=ids.device).index_add(0, inverse, factors)
    places = torch.div(keys, len(weight), rounding_mode="floor")
    return TableUse(members, edge, result.shape[-1], len(weight), keys % len(weight), places, factors)


_NOTES: dict[Callable[..., Any], Callable[..., AbstractUse | None]] = {
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.embedding: _embedding,
    F.embedding_bag: _embedding_bag,
}
