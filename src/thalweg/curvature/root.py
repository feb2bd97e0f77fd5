"""A dense root of the Gauss-Newton matrix, one row a target and output: what Levenberg-Marquardt solves with."""

import dataclasses
from typing import final

import torch
from torch import Tensor

from thalweg import distributed, vectors
from thalweg.batch import Batch
from thalweg.curvature.diagonal import penalty_diagonal
from thalweg.curvature.differentiable import twice_differentiable
from thalweg.curvature.gauss_newton import GaussNewton
from thalweg.curvature.operators import MAX_DENSE_BYTES, require_memory, require_real
from thalweg.curvature.point import Choice
from thalweg.objective import Objective

# Numbers of per-example gradients that are made at once.
_CHUNK_NUMBERS = 2**24


@final
@dataclasses.dataclass(frozen=True)
class Root:
    r"""A matrix $A$ with $A^\top A = G$.

    Args:
        matrix: $A$, shape `[rows, n]`.
        per_example: whether it was made example by example, which is faster where it is possible.
    """

    matrix: Tensor
    per_example: bool


def gauss_newton_root(
    objective: Objective,
    parameters: Choice = None,
    *,
    per_example: bool | None = None,
    max_bytes: int = MAX_DENSE_BYTES,
) -> Root:
    r"""Return $A$ with $A^\top A = G$, the Gauss-Newton matrix without the penalty.

    $$A_{(t,k)} = n^{-1/2}\, e_k^\top S_t^\top J_t$$

    with the Jacobian $J_t$ of target t's prediction, the root $S_t$ of the head's curvature there, and the count n.
    A system with $A^\top A + \lambda I$ can then be solved with as many unknowns as there are rows, where these are
    fewer than the parameters:

    $$(A^\top A + \lambda I)^{-1} g = \tfrac1\lambda \bigl(g - A^\top (A A^\top + \lambda I)^{-1} A g\bigr).$$

    Args:
        objective: the function; of several processes each makes the rows of its examples, and gets those of all.
        parameters: the columns, as for `GaussNewton`.
        per_example: whether examples may be differentiated one by one: right only if no example's prediction depends on
            another example. None: try it and compare with a Gauss-Newton product; pass what `Root.per_example` was from
            then on.
        max_bytes: memory that the matrix may take.

    Raises:
        InputError: if it would take more memory.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> objective = Objective(model, torch.nn.MSELoss(), torch.tensor([[3.0, 4.0]]), torch.zeros(1, 1))
        >>> root = gauss_newton_root(objective).matrix
        >>> root.T @ root  # 2 x x^T
        tensor([[18.0000, 24.0000],
                [24.0000, 32.0000]])
    """
    chosen = objective.choose(parameters)
    require_real(chosen)
    name, instead = "gauss_newton_root(...)", "a method that only multiplies (Newton-CG), or fewer examples"
    parts: list[Tensor] = []
    counts: list[Tensor] = []
    by_example = per_example is not False
    with torch.no_grad(), twice_differentiable():
        for batch in objective.batches:
            (prediction,) = objective.without_graph(
                lambda batch=batch: [objective.unchanged(lambda: objective.prediction(batch))]
            )
            counts.append(objective.head.loss(prediction, batch.targets, batch.mask, batch.weights)[1])
            sides = prediction.numel(), sum(tensor.numel() for tensor in chosen)
            require_memory(name, *sides, prediction.dtype, max_bytes, instead)
            cotangents = output_roots(objective, batch, prediction)
            rows = None
            if by_example:
                rows = _rows_by_example(objective, batch, cotangents, chosen)
                by_example = rows is not None
            if rows is None:
                rows = _rows_of_batch(objective, batch, cotangents, chosen)
                objective.num_products += len(rows)
            else:  # each row goes back through one example only
                objective.num_products += len(rows) // max(1, batch.num_examples)
            parts.append(rows)
    count = distributed.sum_over_ranks([torch.stack(counts).sum()])[0]
    matrix = distributed.gather_rows(torch.cat(parts)) / objective.head.divisor(count).sqrt()
    if by_example and per_example is None and not _fits(objective, chosen, matrix):
        return gauss_newton_root(objective, chosen, per_example=False, max_bytes=max_bytes)
    return Root(matrix, by_example)


def output_roots(objective: Objective, batch: Batch, prediction: Tensor) -> Tensor:
    """Return the columns of the root of the head's curvature for one micro-batch, `[outputs, *prediction.shape]`."""
    outputs = prediction.shape[-1]
    units = torch.eye(outputs, dtype=prediction.dtype, device=prediction.device)
    units = units.reshape(outputs, *(1,) * (prediction.dim() - 1), outputs).expand(outputs, *prediction.shape)
    roots = objective.head.curvature_root(prediction, batch.targets, batch.mask, units, batch.weights)
    return roots.to(prediction.dtype)


def _rows_by_example(objective: Objective, batch: Batch, cotangents: Tensor, chosen: list[Tensor]) -> Tensor | None:
    """Return `[targets * outputs, n]` by differentiating each example alone, or None where that cannot be done."""
    num_examples = cotangents.shape[1]
    if any(tensor.dim() == 0 or len(tensor) != num_examples for tensor in batch.inputs.values()):
        return None
    times = cotangents[0, 0].numel() // cotangents.shape[-1]
    # One vector for each output k at each time t, zero at the other times; of one example with two outputs and times:
    #   row (k, t)   k=0,t=0   k=0,t=1   k=1,t=0   k=1,t=1
    #   at time 0     S[0,0]      0       S[1,0]      0        S[k,t]: column k of the head's root at time t, [outputs]
    #   at time 1       0       S[0,1]      0       S[1,1]
    stacked = cotangents.movedim(1, 0).reshape(num_examples, -1, times, cotangents.shape[-1])
    apart = torch.eye(times, dtype=stacked.dtype, device=stacked.device)[None, None, :, :, None] * stacked[:, :, None]
    apart = apart.reshape(num_examples, -1, *cotangents.shape[2:])

    point = [tensor.detach() for tensor in chosen]

    def rows(inputs: dict[str, Tensor], outer: Tensor) -> list[Tensor]:
        one = Batch({name: tensor.unsqueeze(0) for name, tensor in inputs.items()}, batch.targets[:1])

        def predict(tensors: list[Tensor]) -> Tensor:
            return objective.exchange(list(zip(chosen, tensors, strict=True)), lambda: objective.prediction(one))[0]

        pullback = torch.func.vjp(predict, point)[1]
        if len(outer) == 1:
            return [part.unsqueeze(0) for part in pullback(outer[0])[0]]
        return torch.func.vmap(lambda each: pullback(each)[0])(outer)

    numbers = sum(tensor.numel() for tensor in point) * apart.shape[1]
    chunk = max(1, _CHUNK_NUMBERS // numbers)
    try:
        result = torch.func.vmap(rows, chunk_size=chunk)(batch.inputs, apart)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, UserWarning):  # functions without a batching rule, or that read their values
        return None
    return vectors.flatten_rows([part.flatten(0, 1) for part in result])


def _rows_of_batch(objective: Objective, batch: Batch, cotangents: Tensor, chosen: list[Tensor]) -> Tensor:
    """Return the rows by going back through the whole batch for each of them."""
    with torch.enable_grad():
        prediction = objective.unchanged(lambda: objective.prediction(batch))
    columns = cotangents.movedim(0, -1).reshape(-1, len(cotangents))
    rows = []
    for place, roots in enumerate(columns.reshape(-1, prediction.shape[-1], len(cotangents))):
        for root in roots.T:
            outer = torch.zeros_like(prediction).reshape(-1, prediction.shape[-1])
            outer[place] = root
            outer = outer.reshape(prediction.shape)
            parts = torch.autograd.grad(prediction, chosen, outer, retain_graph=True, materialize_grads=True)
            rows.append(vectors.flatten(parts))
    return torch.stack(rows)


def _fits(objective: Objective, chosen: list[Tensor], matrix: Tensor) -> bool:
    """Whether the root gives the product of the Gauss-Newton matrix with a random vector."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(matrix.shape[1], generator=generator, dtype=torch.float64).to(matrix)
    expected = GaussNewton(objective, chosen) @ v - penalty_diagonal(objective, chosen) * v
    return bool((matrix.T @ (matrix @ v) - expected).norm() <= torch.finfo(v.dtype).eps ** 0.5 * expected.norm())
