"""The Hessian of an objective: double backward through a graph that is kept, or forward over reverse."""

import enum
import warnings
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.curvature.check import check_hessian
from thalweg.curvature.point import AbstractCurvature, Choice, added, vector_jacobian
from thalweg.objective import Objective
from thalweg.vectors import Vector


@final
class Scheme(enum.Enum):
    """How second derivatives are computed; both give the same numbers where both work."""

    KEPT_GRAPH = "Backward through the graph of the gradient, made once and kept: the fastest, and the most memory."
    REBUILT_GRAPH = "The same, with the graph rebuilt for each product, one micro-batch at a time: less memory."
    FORWARD_OVER_REVERSE = "The R-operator: the derivative of the gradient along a vector, by forward differentiation."


@final
class Hessian(AbstractCurvature):
    r"""The matrix of second derivatives of an objective at the present parameters.

    $$H v = \nabla_\theta \bigl(\nabla_\theta f(\theta) \cdot v\bigr)
      = \frac{1}{\sum_b n_b} \sum_b \nabla^2 S_b\, v + \text{l2}\, v_w$$

    with the sums $S_b$ and counts $n_b$ of the micro-batches and the penalized part $v_w$, exactly as the objective
    weighs them. Uneven micro-batches, masks, token losses and target weights are therefore right as they are.

    Before its first product it checks itself: two evaluations must agree (dropout is refused), the loss must
    change as its gradient says and the gradient as a product says, in float64, at one of several steps and places: what
    kinks or rounding disturb differs from step to step, and what a wrong formula does stays. A model that cannot
    compute in float64 is looked at in its own type, less closely. Where nothing can be said there is a warning.

    Args:
        objective: the function.
        parameters: rows and columns: a pattern for names, a module, tensors, or None for all parameters.
        scheme: how second derivatives are computed.
        check: whether to check. Leave it on for a model's first Hessian; an optimizer that makes one at each step
            turns it off after the first.

    Raises:
        ValueError: if `parameters` fits none. Products raise what `multiply` says.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(model, torch.nn.MSELoss(), torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1))
        >>> Hessian(objective).dense()  # 2 x x^T
        tensor([[2., 4.],
                [4., 8.]])

    Source: Pearlmutter (1994), Fast Exact Multiplication by the Hessian.

    Not for models whose loss is not a function of the parameters (dropout in training mode), and not for a piecewise
    linear network's kinks: there it gives the curvature of the piece.
    """

    def __init__(
        self, objective: Objective, parameters: Choice = None, *, scheme: Scheme = Scheme.KEPT_GRAPH, check: bool = True
    ) -> None:
        super().__init__(objective, parameters, check=check)
        self._scheme = scheme
        self._gradient: list[Tensor | None] = []

    @override
    def _build(self) -> Tensor:
        batches = self.objective.batches
        if self._scheme is Scheme.KEPT_GRAPH:
            count = torch.zeros(())
            for batch in batches:
                gradient, own = self._gradient_of(batch)
                count = count.to(own) + own
                self._gradient = added(self._gradient, gradient) if self._gradient else gradient
            return count
        counts = self.objective.without_graph(lambda: [self._sum_and_count(batch)[1] for batch in batches])
        return torch.stack(counts).sum()

    def _sum_and_count(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.objective.unchanged(lambda: self.objective.sum_and_count(batch))

    def _gradient_of(self, batch: Batch) -> tuple[list[Tensor | None], Tensor]:
        """Return the gradient of a micro-batch's sum, with its graph, and the count."""
        total, count = self._sum_and_count(batch)
        if not total.requires_grad:
            return [None] * len(self.like), count
        gradient = torch.autograd.grad(total, self.like, create_graph=True, allow_unused=True)
        return [part if part is not None and part.requires_grad else None for part in gradient], count

    @override
    def _undivided(
        self, vector: Vector, sources: Sequence[int], wanted: Sequence[int], many: bool
    ) -> Sequence[Tensor | None]:
        inputs = [self.like[i] for i in wanted]
        if self._scheme is Scheme.KEPT_GRAPH:
            pairs = zip((self._gradient[i] for i in sources), vector, strict=True)
            return vector_jacobian(pairs, inputs, many=many)
        result: list[Tensor | None] = [None] * len(wanted)
        for batch in self.objective.batches:
            if self._scheme is Scheme.REBUILT_GRAPH:
                gradient = self._gradient_of(batch)[0]
                pairs = zip((gradient[i] for i in sources), vector, strict=True)
                part = vector_jacobian(pairs, inputs, many=many, keep=False)
            elif many:
                part = self._forward_many(batch, vector, sources, wanted)
            else:
                part = self._forward(batch, vector, sources, wanted)
            result = added(result, part)
        return result

    def _forward(self, batch: Batch, vector: Vector, sources: Sequence[int], wanted: Sequence[int]) -> list[Tensor]:
        point = [tensor.detach() for tensor in self.like]
        tangent = [torch.zeros_like(tensor) for tensor in point]
        for i, v in zip(sources, vector, strict=True):
            tangent[i] = v

        def loss(tensors: list[Tensor]) -> Tensor:
            # Copied here, where they may be written to: what a transform is given may not.
            buffers = [(buffer, buffer.clone()) for buffer in self.objective.every_tensor()[1]]
            pairs = [*buffers, *zip(self.like, tensors, strict=True)]
            return self.objective.exchange(pairs, lambda: self.objective.sum_and_count(batch)[0])

        with warnings.catch_warnings():
            # PyTorch's forward mode uses its own deprecated torch.jit.script when it is first called.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            _, product, *_ = torch.func.jvp(torch.func.grad(loss), (point,), (tangent,))
        return [product[i] for i in wanted]

    def _forward_many(
        self, batch: Batch, vector: Vector, sources: Sequence[int], wanted: Sequence[int]
    ) -> list[Tensor]:
        """Return the products with several vectors at once; one by one where PyTorch's batching rules are wrong.

        Forward derivatives of batched backward passes are silently wrong for some layers (`nn.LayerNorm`). Products are
        linear: the product with the sum of all vectors, which is not batched, must be the sum of the products.
        """

        def product(*row: Tensor) -> tuple[Tensor, ...]:
            return tuple(self._forward(batch, row, sources, wanted))

        try:
            found = list(torch.func.vmap(product)(*vector))
        except RuntimeError:  # a layer without a batching rule
            found = None
        if found is not None:
            single = self._forward(batch, [stack.sum(0) for stack in vector], sources, wanted)
            pairs = [(one, many.sum(0)) for one, many in zip(single, found, strict=True)]
            error = torch.stack([(one - total).norm() for one, total in pairs]).norm()
            size = torch.stack([many.norm() for many in found]).norm()
            if bool(error <= torch.finfo(size.dtype).eps ** 0.5 * size):
                return found
        rows = [self._forward(batch, list(row), sources, wanted) for row in zip(*vector, strict=True)]
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    @override
    def _check(self) -> None:
        check_hessian(self.objective, self.like, self._point.frozen, self.product, self._point.where)
