"""Second derivatives where PyTorch's fast kernels have none: other kernels, or a form of our own, for a while.

Fused kernels compute a first derivative by hand and forget the second. Inside `twice_differentiable()` attention runs
in its plain form, recurrent layers and transformer encoders leave their fused kernels, compiled functions run as
written, and the functions in `_REPLACEMENTS` are said in operations that can be differentiated as often as one likes.
Values and first derivatives are the same.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


@contextlib.contextmanager
def twice_differentiable(replace: "Replacing | None" = None) -> Iterator[None]:
    """Run with kernels that have second derivatives; everything is put back at the end.

    Who wants the counts of the functions' replacement passes one.
    """
    recurrent, encoder = torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()
    try:
        # `mkldnn.flags(...)` warns about other settings on machines without an Intel GPU; the property doesn't.
        torch.backends.mkldnn.enabled = False  # pyright: ignore[reportAttributeAccessIssue]
        torch.backends.mha.set_fastpath_enabled(False)
        with (
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.cudnn.flags(enabled=False),
            uncompiled(),
            replace or Replacing(),
        ):
            yield
    finally:
        torch.backends.mkldnn.enabled = recurrent  # pyright: ignore[reportAttributeAccessIssue]
        torch.backends.mha.set_fastpath_enabled(encoder)


def uncompiled() -> contextlib.AbstractContextManager[object]:
    """Run compiled functions as they are written, for a while."""
    # Nothing is compiled where the compiler was never imported, and importing it takes a second.
    if "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")


@final
class Replacing(TorchFunctionMode):
    """Calls our form of a function where PyTorch's cannot be differentiated twice, whoever calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_activations = 0  # numbers that passed through functions so far: a measure of the graph's memory
        # Rows of tables that are padding, by the table's id: PyTorch's gradient of them is zero, whatever the function.
        self.padding: dict[int, set[int]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func` or what stands for it."""
        del types
        if func is F.embedding:
            self._note(*args, **(kwargs or {}))
        result = _REPLACEMENTS.get(func, func)(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.num_activations += result.numel()
        return result

    def rows_of(self, tensor: Tensor) -> Tensor | None:
        """Return where a table holds padding, or None if nowhere."""
        if id(tensor) not in self.padding:
            return None
        where = torch.zeros_like(tensor, dtype=torch.bool)
        where[list(self.padding[id(tensor)])] = True
        return where

    def _note(self, input: Tensor, weight: Tensor, padding_idx: int | None = None, *rest: Any, **others: Any) -> None:  # noqa: A002
        del input, rest, others
        if padding_idx is not None:
            self.padding.setdefault(id(weight), set()).add(padding_idx % len(weight))


def embedding(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Return `F.embedding` with a dense gradient; a sparse one has no derivative."""
    del sparse
    return F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, False)


def embedding_bag(
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
) -> Tensor:
    r"""Return `F.embedding_bag` by gathering rows and adding them up by bag, arguments as there.

    With bags $b$ of features $t$ and weights $w$, $h_b = \sum_{t \in b} w_t E_t$; or the mean, or the largest entry.
    """
    if max_norm is not None or scale_grad_by_freq:
        # Neither is the gradient of any function; the caller gets PyTorch's own message about the second derivative.
        return F.embedding_bag(
            *(input, weight, offsets, max_norm, norm_type, scale_grad_by_freq, mode, sparse),
            *(per_sample_weights, include_last_offset, padding_idx),
        )
    flat = input.reshape(-1)
    if offsets is None:
        num_bags = input.shape[0]
        bags = torch.arange(num_bags, device=flat.device).repeat_interleave(input.shape[1])
    else:
        starts = offsets[:-1] if include_last_offset else offsets
        num_bags = len(starts)
        places = torch.arange(len(flat), device=flat.device)
        bags = torch.searchsorted(starts.to(places.dtype), places, right=True) - 1
    real = torch.ones_like(flat, dtype=torch.bool) if padding_idx is None else flat != padding_idx % len(weight)
    rows = weight.index_select(0, flat)
    if mode == "max":
        return _largest_of_bags(rows, bags, real, num_bags)
    factor = real.to(weight.dtype)
    if per_sample_weights is not None:
        factor = factor * per_sample_weights.reshape(-1)
    sums = weight.new_zeros(num_bags, weight.shape[1]).index_add(0, bags, rows * factor.unsqueeze(-1))
    if mode == "sum":
        return sums
    counts = torch.zeros(num_bags, dtype=weight.dtype, device=weight.device).index_add(0, bags, real.to(weight.dtype))
    return sums / counts.clamp(min=1.0).unsqueeze(-1)


def _largest_of_bags(rows: Tensor, bags: Tensor, real: Tensor, num_bags: int) -> Tensor:
    """Return the largest entry of each column in each bag, the first where there are several; 0 in an empty bag."""
    with torch.no_grad():
        index = bags.unsqueeze(-1).expand_as(rows)
        values = rows.masked_fill(~real.unsqueeze(-1), -torch.inf)
        top = values.new_full((num_bags, rows.shape[1]), -torch.inf).scatter_reduce(0, index, values, "amax")
        places = torch.arange(len(rows), device=rows.device).unsqueeze(-1).expand_as(rows)
        places = places.masked_fill(values != top.index_select(0, bags), len(rows))
        first = places.new_full((num_bags, rows.shape[1]), len(rows)).scatter_reduce(0, index, places, "amin")
        empty = (first >= len(rows)) | top.isneginf()
    if not len(rows):
        return rows.new_zeros(num_bags, rows.shape[1])
    return rows.gather(0, first.masked_fill(empty, 0)).masked_fill(empty, 0.0)


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    r"""Return $g\, v / \lVert v \rVert$ with one norm for each index of `dim` (-1: one for all)."""
    others = [i for i in range(v.dim()) if i != dim]
    return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=True))


def squared_error(
    input: Tensor,  # noqa: A002
    target: Tensor,
    *settings: Any,
    reduction: str = "mean",
    **others: Any,
) -> Tensor:
    """Return `F.mse_loss`; its own derivative is not differentiable in forward mode."""
    if settings or others or input.shape != target.shape:
        return F.mse_loss(input, target, *settings, reduction=reduction, **others)
    square = (input - target).square()
    return square if reduction == "none" else square.sum() if reduction == "sum" else square.mean()


_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.embedding: embedding,
    F.embedding_bag: embedding_bag,
    F.mse_loss: squared_error,
    torch._weight_norm: weight_norm,
}
