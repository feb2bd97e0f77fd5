"""Gauss-Newton and Fisher matrices: the Jacobian of the predictions around a curvature in output space.

With the Jacobian `J` of all predictions and a matrix `C` in output space, block diagonal over targets, all of them are
`J^T C J`. `J v` comes from two backward passes: `J^T w` is linear in `w`, so that its own derivative with respect to
`w`, along `v`, is `J v`. No forward differentiation is needed, and `C` is applied in closed form by the head: a
vocabulary x vocabulary matrix never exists.
"""

import abc
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.curvature.check import check_jacobian
from thalweg.curvature.point import AbstractCurvature, Choice, added, vector_jacobian
from thalweg.heads.base import expand_to
from thalweg.objective import Objective
from thalweg.vectors import Vector

OutputCurvature = Callable[[Tensor], Tensor]


class AbstractSandwich(AbstractCurvature):
    """`J^T C J` over the micro-batches, divided once by the count, plus the penalty.

    A matrix of your own subclasses this class and says what `C` is.
    """

    _predictions: list[Tensor]
    _cotangents: list[Tensor]
    _pullback: Sequence[Tensor | None]
    _curvatures: list[OutputCurvature]

    @abc.abstractmethod
    def _output_curvature(self, batch: Batch, prediction: Tensor) -> OutputCurvature:
        """Return the multiplication with `C` for one micro-batch, undivided.

        It maps tensors of the prediction's shape to the like; more dimensions in front are so many vectors.
        """

    @override
    def _build(self) -> Tensor:
        objective, parameters = self.objective, self.like
        self._predictions, self._cotangents, self._curvatures = [], [], []
        pullback: list[Tensor | None] = [None] * len(parameters)
        counts = []
        for batch in objective.batches:
            prediction = objective.unchanged(lambda batch=batch: objective.prediction(batch))
            fixed = prediction.detach()
            counts.append(objective.head.loss(fixed, batch.targets, batch.mask, batch.weights)[1])
            cotangent = torch.zeros_like(prediction, requires_grad=True)
            self._predictions.append(prediction)
            self._cotangents.append(cotangent)
            self._curvatures.append(self._output_curvature(batch, fixed))
            if prediction.requires_grad:
                parts = torch.autograd.grad(prediction, parameters, cotangent, create_graph=True, allow_unused=True)
                pullback = added(pullback, parts)
        self._pullback = pullback
        return torch.stack(counts).sum()

    @override
    def _undivided(
        self, vector: Vector, sources: Sequence[int], wanted: Sequence[int], many: bool
    ) -> Sequence[Tensor | None]:
        slopes = self._forward(vector, sources, many)
        with torch.no_grad():
            curved = [curvature(slope) for curvature, slope in zip(self._curvatures, slopes, strict=True)]
        return self._backward(curved, wanted, many)

    def _forward(self, vector: Vector, sources: Sequence[int], many: bool) -> list[Tensor]:
        """Return `J v` for each micro-batch, with `v` zero outside `sources`."""
        pairs = zip((self._pullback[i] for i in sources), vector, strict=True)
        slopes = vector_jacobian(pairs, self._cotangents, many=many)
        stack = (len(vector[0]),) if many else ()
        return [
            cotangent.new_zeros(*stack, *cotangent.shape) if slope is None else slope
            for cotangent, slope in zip(self._cotangents, slopes, strict=True)
        ]

    def _backward(self, outer: Sequence[Tensor], wanted: Sequence[int], many: bool) -> Sequence[Tensor | None]:
        """Return `J^T u`, the rows `wanted`."""
        pairs = [(p if p.requires_grad else None, u.to(p.dtype)) for p, u in zip(self._predictions, outer, strict=True)]
        return vector_jacobian(pairs, [self.like[i] for i in wanted], many=many)

    @override
    def _check(self) -> None:
        every = range(len(self.like))

        def backward(outer: Sequence[Tensor]) -> list[Tensor]:
            parts = self._backward(outer, every, many=False)
            return [torch.zeros_like(t) if part is None else part for t, part in zip(self.like, parts, strict=True)]

        def forward(v: Vector) -> list[Tensor]:
            return self._forward(v, every, many=False)

        predictions = [prediction.detach() for prediction in self._predictions]
        point = self._point
        check_jacobian(
            self.objective,
            self.like,
            point.frozen,
            predictions,
            point.twice(forward),
            point.twice(backward),
            point.where,
        )


@final
class GaussNewton(AbstractSandwich):
    r"""The generalized Gauss-Newton matrix of an objective: its curvature if the network were linear in its parameters.

    $$G = \frac{1}{\sum_b n_b} \sum_b J_b^\top H_b J_b + \text{l2}\, I_w$$

    with the Jacobian $J_b$ of micro-batch $b$'s predictions, the head's curvature $H_b$ in output space
    (`AbstractHead.curvature_product`), the counts $n_b$ and the identity $I_w$ on the penalized parameters. It is
    positive semidefinite wherever the head's curvature is, and equals the Hessian where the loss fits perfectly or the
    network is linear.

    Before its first product it checks itself: two evaluations must agree (dropout is refused), the Jacobian must equal
    a difference of two predictions in float64 (as `Hessian` compares), and its transpose must fit.

    Args:
        objective: the function.
        parameters: rows and columns: a pattern for names, a module, tensors, or None for all parameters.
        check: whether to check. Leave it on for a model's first matrix; an optimizer that makes one at each step
            turns it off after the first.

    Raises:
        ValueError: if `parameters` fits none. Products raise what `multiply` says.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(model, torch.nn.MSELoss(), torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1))
        >>> GaussNewton(objective).dense()  # 2 x x^T
        tensor([[2., 4.],
                [4., 8.]])

    Source: Schraudolph (2002), Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent.
    """

    @override
    def _output_curvature(self, batch: Batch, prediction: Tensor) -> OutputCurvature:
        head = self.objective.head
        return lambda v: head.curvature_product(prediction, batch.targets, batch.mask, v, batch.weights)


@final
class Fisher(AbstractSandwich):
    r"""The Fisher information of the head's distribution, exact or by sampling.

    Exact, it is the Gauss-Newton matrix: the heads' distributions are exponential families in the prediction, where
    the curvature in output space is the covariance of the score. Sampled, each target's curvature $H = S S^\top$ is
    replaced by

    $$\frac1m \sum_{s=1}^m u_s u_s^\top, \qquad u_s = S \varepsilon_s,\; \varepsilon_s \sim \mathcal N(0, I),$$

    with $m$ = `num_samples` and the head's root $S$ (`AbstractHead.curvature_root`), an unbiased estimate of low rank.
    The samples are drawn once and kept, so that it is one matrix.

    Args:
        objective: the function.
        parameters: rows and columns: a pattern for names, a module, tensors, or None for all parameters.
        num_samples: samples for each target, at least 1; None: exact.
        seed: of the samples.
        check: as for `GaussNewton`.

    Raises:
        ValueError: for `num_samples` below 1, or if `parameters` fits none.

    Source: Amari (1998), Natural Gradient Works Efficiently in Learning; Martens (2020), New Insights and Perspectives
    on the Natural Gradient Method.
    """

    def __init__(
        self,
        objective: Objective,
        parameters: Choice = None,
        *,
        num_samples: int | None = None,
        seed: int = 0,
        check: bool = True,
    ) -> None:
        if num_samples is not None and num_samples < 1:
            raise ValueError(
                f"Fisher(num_samples=...) must be at least 1, or None for the exact one; got {num_samples!r}."
            )
        super().__init__(objective, parameters, check=check)
        self._num_samples = num_samples
        self._generator = torch.Generator().manual_seed(seed)

    @override
    def _output_curvature(self, batch: Batch, prediction: Tensor) -> OutputCurvature:
        head = self.objective.head
        if self._num_samples is None:
            return lambda v: head.curvature_product(prediction, batch.targets, batch.mask, v, batch.weights)
        shape = (self._num_samples, *prediction.shape)
        noise = torch.randn(shape, generator=self._generator, dtype=torch.float64).to(prediction)
        scores = head.curvature_root(prediction, batch.targets, batch.mask, noise, batch.weights)
        scores = scores * self._num_samples**-0.5
        return lambda v: _outer_products(scores, v)


@final
class EmpiricalFisher(AbstractSandwich):
    r"""The sum of outer products of the gradients of single targets, divided by the count.

    $$E = \frac{1}{\sum_t w_t} \sum_t w_t\, g_t g_t^\top + \text{l2}\, I_w$$

    with the gradient $g_t$ of target $t$'s own loss and its weight $w_t$ (1 unless given). A token of a sequence is a
    target. It is not an approximation of the Hessian, even at a minimum that fits noise; use it as a measure of
    gradient noise or as a preconditioner.

    Args:
        objective: the function.
        parameters: rows and columns: a pattern for names, a module, tensors, or None for all parameters.
        check: as for `GaussNewton`.

    Raises:
        ValueError: if `parameters` fits none.

    When not to use it: Kunstner, Balles and Hennig (2019), Limitations of the Empirical Fisher Approximation.
    """

    @override
    def _output_curvature(self, batch: Batch, prediction: Tensor) -> OutputCurvature:
        leaf = prediction.detach().requires_grad_()
        loss, _ = self.objective.head.loss(leaf, batch.targets, batch.mask, None)
        (score,) = torch.autograd.grad(loss, leaf)
        if batch.weights is not None:
            root = batch.weights.to(score.dtype).sqrt()
            shape = score.shape if root.dim() == score.dim() else score.shape[:-1]
            root = expand_to(root, shape, "weights")
            score = score * (root if root.dim() == score.dim() else root.unsqueeze(-1))
        return lambda v: _outer_products(score.unsqueeze(0), v)


def _outer_products(scores: Tensor, v: Tensor) -> Tensor:
    """Return the sum over `s` of `u_s (u_s . v)`, target by target, for scores `[m, ..., outputs]`."""
    total = torch.zeros_like(v)
    for score in scores:
        total += score * (score * v).sum(-1, keepdim=True)
    return total
