"""An objective evaluated in float64, whatever its own type: at its parameters, and near them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from thalweg import distributed
from thalweg.batch import Batch
from thalweg.curvature.differentiable import twice_differentiable, uncompiled
from thalweg.objective import Objective
from thalweg.vectors import Vector

Result = TypeVar("Result")
_WIDER = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}


@final
class Widening(TorchFunctionMode):
    """Computes in float64 also where the code says another type: `x.float()`, `dtype=torch.float32`, constants."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func` with wider numbers."""
        del types
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _NARROWING:
            func = torch.Tensor.double
        # What is written to must stay the tensor that it is.
        kept = 1 if name == "__set__" or name == "__setitem__" or (name.endswith("_") and name[-2:] != "__") else 0
        args = (*args[:kept], *(_wider(value) for value in args[kept:]))
        result = func(*args, **{key: value if key == "out" else _wider(value) for key, value in kwargs.items()})
        return result if kept else _wider(result)


_NARROWING = {"float", "half", "bfloat16"}


def _wider(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return _WIDER.get(value, value)
    if isinstance(value, Tensor):
        return value.to(_WIDER[value.dtype]) if value.dtype in _WIDER else value
    if type(value) in (list, tuple) and any(isinstance(part, Tensor) for part in value):
        return type(value)(_wider(part) for part in value)
    return value


@contextlib.contextmanager
def plainly(*, widen: bool = True) -> Iterator[None]:
    """Run as written: uncompiled, without the shortcut that encoders take where nothing is differentiated."""
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with uncompiled(), Widening() if widen else contextlib.nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@final
class Nearby:
    """An objective at places near its parameters, by copies of all of its tensors.

    Args:
        objective: the function.
        parameters: what is moved; the others stay.
        double: whether in float64, or in the types that the tensors have.
    """

    def __init__(self, objective: Objective, parameters: Sequence[Tensor], *, double: bool = True) -> None:
        self._objective, self._parameters, self._double = objective, list(parameters), double

    def value_and_gradient(self, shift: Vector) -> tuple[Tensor, list[Tensor]]:
        """Return loss and gradient at the parameters plus a shift."""
        self._objective.num_gradients += 1
        with torch.enable_grad(), plainly(widen=self._double):
            moved, replaced = self._place(shift)
            *total, loss, count = self._summed(moved, replaced, self._gradient_of)
        return self._objective_of(total, loss, count, moved)

    def hessian_product(self, shift: Vector, vector: Vector) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return loss, gradient, and product of the Hessian with a vector, by differentiating twice."""
        self._objective.num_gradients += 1
        self._objective.num_products += 1
        with torch.enable_grad(), twice_differentiable(), plainly(widen=self._double):
            moved, replaced = self._place(shift)
            sums = self._summed(moved, replaced, lambda batch, moved: self._product_of(batch, moved, vector))
        size = len(moved)
        loss, gradient = self._objective_of(sums[:size], sums[-2], sums[-1], moved)
        penalties = self._objective.penalties(self._parameters)
        pairs = zip(sums[size : 2 * size], vector, penalties, strict=True)
        count = self._objective.head.divisor(sums[-1])
        return loss, gradient, [part / count + penalty * v.to(part) for part, v, penalty in pairs]

    def predictions(self, shift: Vector) -> list[Tensor]:
        """Return the predictions of all micro-batches."""
        objective = self._objective

        def evaluate() -> list[Tensor]:
            _, replaced = self._place(shift)
            batches = [self._batch(batch) for batch in objective.batches]
            return objective.exchange(replaced, lambda: [objective.prediction(batch) for batch in batches])

        with plainly(widen=self._double):
            return objective.without_graph(evaluate)

    def jacobian_product(self, shift: Vector, vector: Vector) -> list[Tensor]:
        """Return the product of the Jacobian of the predictions with a vector, by two backward passes."""
        objective, result = self._objective, []
        with torch.enable_grad(), twice_differentiable(), plainly(widen=self._double):
            moved, replaced = self._place(shift)
            for batch in objective.batches:
                result.append(
                    objective.exchange(replaced, lambda batch=batch: self._slope_of(self._batch(batch), moved, vector))
                )
        return result

    def _slope_of(self, batch: Batch, moved: list[Tensor], vector: Vector) -> Tensor:
        prediction = self._objective.prediction(batch)
        if not prediction.requires_grad:
            return torch.zeros_like(prediction)
        cotangent = torch.zeros_like(prediction, requires_grad=True)
        pulled = torch.autograd.grad(prediction, moved, cotangent, create_graph=True, allow_unused=True)
        along = [(part * v.to(part)).sum() for part, v in zip(pulled, vector, strict=True) if part is not None]
        total = torch.stack(along).sum() if along else prediction.new_zeros(())
        if not total.requires_grad:
            return torch.zeros_like(prediction)
        (slope,) = torch.autograd.grad(total, cotangent, allow_unused=True)
        return torch.zeros_like(prediction) if slope is None else slope.detach()

    def _gradient_of(self, batch: Batch, moved: list[Tensor]) -> list[Tensor | None]:
        loss, count = self._objective.sum_and_count(batch)
        parts = [None] * len(moved)
        if loss.requires_grad:
            parts = torch.autograd.grad(loss, moved, allow_unused=True)
        return [*(None if part is None else part.to_dense() for part in parts), loss.detach(), count.detach()]

    def _product_of(self, batch: Batch, moved: list[Tensor], vector: Vector) -> list[Tensor | None]:
        loss, count = self._objective.sum_and_count(batch)
        nothing: list[Tensor | None] = [None] * len(moved)
        gradient = products = nothing
        if loss.requires_grad:
            gradient = torch.autograd.grad(loss, moved, create_graph=True, allow_unused=True)
        pairs = [(g, v) for g, v in zip(gradient, vector, strict=True) if g is not None and g.requires_grad]
        if pairs:
            along = torch.stack([(g * v.to(g)).sum() for g, v in pairs]).sum()
            products = torch.autograd.grad(along, moved, allow_unused=True)
        gradient = [None if part is None else part.detach() for part in gradient]
        return [*gradient, *products, loss.detach(), count.detach()]

    def _summed(
        self,
        moved: list[Tensor],
        replaced: list[tuple[Tensor, Tensor]],
        evaluate: Callable[[Batch, list[Tensor]], list[Tensor | None]],
    ) -> Sequence[Tensor]:
        """Return the sums over micro-batches and ranks of a gradient, perhaps a product, the loss and the count."""

        def sums() -> list[Tensor]:
            total: list[Tensor] = []
            for batch in self._objective.batches:
                parts = evaluate(self._batch(batch), moved)
                like = [*moved * ((len(parts) - 2) // len(moved)), torch.zeros(()), torch.zeros(())]
                filled = [torch.zeros_like(t) if p is None else p for t, p in zip(like, parts, strict=True)]
                total = [a + b for a, b in zip(total, filled, strict=True)] if total else filled
            return [part.detach() for part in total]

        return distributed.sum_over_ranks(self._objective.exchange(replaced, sums))

    def _objective_of(
        self, total: Sequence[Tensor], loss: Tensor, count: Tensor, moved: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        penalties, count = self._objective.penalties(self._parameters), self._objective.head.divisor(count)
        pairs = list(zip(total, moved, penalties, strict=True))
        gradient = [part / count + penalty * place.detach() for part, place, penalty in pairs]
        squares = [0.5 * penalty * place.detach().square().sum() for _, place, penalty in pairs if penalty]
        value = loss / count
        return (value + torch.stack(squares).sum() if squares else value), gradient

    def _place(self, shift: Vector) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Return the moved parameters, and all tensors of the model with what stands for them."""
        moved = [
            (self._copied(parameter) + part.to(parameter.device)).to(self._type(parameter)).requires_grad_()
            for parameter, part in zip(self._parameters, shift, strict=True)
        ]
        others = {id(parameter): other for parameter, other in zip(self._parameters, moved, strict=True)}
        every = [tensor for tensors in self._objective.every_tensor() for tensor in tensors]
        return moved, [(t, others[id(t)] if id(t) in others else self._copied(t)) for t in every]

    def _batch(self, batch: Batch) -> Batch:
        inputs: dict[str, Any] = {n: self._copied(t) if isinstance(t, Tensor) else t for n, t in batch.inputs.items()}
        weights = None if batch.weights is None else self._copied(batch.weights)
        return Batch(inputs, self._copied(batch.targets), batch.mask, weights)

    def _copied(self, tensor: Tensor) -> Tensor:
        # A copy in any case: buffers may be written to.
        return tensor.detach().to(self._type(tensor), copy=True)

    def _type(self, tensor: Tensor) -> torch.dtype:
        return _WIDER.get(tensor.dtype, tensor.dtype) if self._double else tensor.dtype
