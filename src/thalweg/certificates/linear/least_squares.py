"""Ridge regression of the output layer as a `torch.optim.Optimizer` that knows how far from the best possible it is."""

from collections.abc import Iterable
from typing import Any, Final, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from thalweg.certificates.linear.head import Head, HeadPoint
from thalweg.certificates.linear.last_layer import FormRows, head_problem, split_last_layer
from thalweg.certificates.linear.regularizers import L2
from thalweg.certificates.number_losses import SquaredLoss
from thalweg.errors import InputError
from thalweg.objective import Objective
from thalweg.status import Status

ROWS: Final = 2**16  # of the features that are worked on at once


@final
class LeastSquares(Optimizer):
    r"""Solves for the output layer of a squared loss with an L2 penalty, by its normal equations.

    $$\min_{W, b} \frac{1}{n} \sum_i c_i \lVert y_i - W^\top x_i - b \rVert^2 + \frac{\lambda}{2} \lVert W \rVert^2$$

    has its optimum where the gradient is zero: a linear system. `step(objective)` goes there at once, in float64; a
    second step refines it. Everything below the layer stays as it is. `relative_gap` says how far the loss may be above
    the optimum, by the duality gap.

    Args:
        params: all parameters of model and head.

    Attributes:
        status: how the last step ended; `Status.RUNNING` before the first.
        relative_gap: of the weights as they are now, as a fraction of the loss; None before the first step.

    Example:
        >>> from thalweg.heads.squared import Squared
        >>> x = torch.arange(6, dtype=torch.float64).reshape(6, 1)
        >>> model, head = torch.nn.Identity(), Squared(1).double()
        >>> objective = Objective(model, head, {"input": x}, 2.0 * x + 1.0, l2=1e-6)
        >>> optimizer = LeastSquares(head.parameters())
        >>> loss = optimizer.step(objective)
        >>> optimizer.relative_gap < 1e-4, round(head.output.weight.item(), 3), round(head.output.bias.item(), 3)
        (True, 2.0, 1.0)

    Source: Hoerl and Kennard (1970), Ridge Regression: Biased Estimation for Nonorthogonal Problems.
    When not to use it: for layers below the output that should be trained, too; on mini-batches.
    """

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, {"lr": 1.0})
        self.status = Status.RUNNING
        self.relative_gap: float | None = None

    @torch.no_grad()
    def step(self, closure: Objective | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Go to the optimum and return the loss where it started.

        Args:
            closure: an `Objective` on all the data.

        Raises:
            ValueError: without an objective.
            InputError: where its loss is no squared error of a linear layer with an L2 penalty.
        """
        if not isinstance(closure, Objective):
            raise ValueError("LeastSquares.step(objective) needs a thalweg Objective; a closure or none is not enough.")
        rows = FormRows(split_last_layer(closure))
        rows.compute()
        problem, point, _ = head_problem(closure, rows)
        if not isinstance(problem.loss, SquaredLoss) or not isinstance(problem.regularizer, L2):
            raise InputError("least-squares needs a squared error with an L2 penalty: --l2 above 0.")
        features = rows.matrix
        best = solved(problem, point, features if isinstance(features, Tensor) else features.rows)
        layer = rows.layer
        layer.weight.copy_(best.weight.T)
        layer.weight.grad = (problem.regularizer.strength * point.weight - point.gradient).T.to(layer.weight.dtype)
        if layer.bias is not None:
            layer.bias.copy_(best.bias)
            layer.bias.grad = -point.slope_bias.to(layer.bias.dtype)
        closure.num_gradients += 1
        at = problem.at(layer.weight.T, layer.bias)  # where the parameters are rounded, so is the gap
        self.relative_gap = problem.relative_gap(at)
        self.status = Status.STEPPED
        return torch.tensor(point.total, dtype=torch.float64)


def solved(problem: Head, point: HeadPoint, x: Tensor) -> HeadPoint:
    r"""Return the optimum of a squared loss from a point: one Newton step, since its curvature is the same everywhere.

    With $h_i$ the second derivative of example i's loss, and a bias, the step solves

    $$\begin{pmatrix} X^\top H X + \lambda I & X^\top h \\ h^\top X & 1^\top h \end{pmatrix}
    \begin{pmatrix} \Delta W \\ \Delta b \end{pmatrix} = -\nabla .$$

    Args:
        problem: with a `SquaredLoss` and an `L2` penalty.
        point: of the problem.
        x: its features, `[num_examples, num_features]`.
    """
    loss, regularizer = problem.loss, problem.regularizer
    assert isinstance(loss, SquaredLoss)
    assert isinstance(regularizer, L2)
    slopes = torch.cat([point.gradient - regularizer.strength * point.weight, point.slope_bias[None]])
    second = (2.0 * loss.scale * loss.factor).expand_as(loss.targets)
    step = torch.zeros_like(slopes)
    size = x.shape[1] + int(problem.intercept)
    equal = bool((second == second[:, :1]).all())  # else each output has a system of its own
    for outputs in [slice(None)] if equal else [slice(i, i + 1) for i in range(second.shape[1])]:
        matrix = x.new_zeros(x.shape[1] + 1, x.shape[1] + 1)
        for rows in torch.arange(len(x)).split(ROWS):
            part = torch.cat([x[rows], x.new_ones(len(rows), 1)], dim=1)
            matrix += part.T @ (second[rows][:, outputs][:, :1] * part)
        matrix.diagonal()[:-1] += regularizer.strength
        step[:size, outputs] = torch.linalg.solve(matrix[:size, :size], slopes[:size, outputs])
    best = problem.at(point.weight + step[:-1], point.bias + step[-1])
    return best if best.total <= point.total else point
