"""The diagonal of the Gauss-Newton matrix, from what goes into linear layers and comes out of them."""

import contextlib
from collections.abc import Collection, Iterator
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from thalweg import distributed, noise, vectors
from thalweg.curvature.differentiable import twice_differentiable
from thalweg.curvature.kronecker import WholeSlopes
from thalweg.curvature.operators import require_real
from thalweg.objective import Objective


@final
class LinearCall(NamedTuple):
    """One call of a linear layer: its input without a graph, and its output with one."""

    layer: nn.Linear
    input: Tensor
    output: Tensor


@contextlib.contextmanager
def linear_calls(objective: Objective, wanted: Collection[int]) -> Iterator[list[LinearCall]]:
    """Note the calls of every linear layer of model and head that has one of the parameters with these ids."""
    calls: list[LinearCall] = []

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        if output.requires_grad:
            calls.append(LinearCall(module, args[0].detach(), output))

    modules = {m for part in (objective.model, objective.head) for m in part.modules() if type(m) is nn.Linear}
    hooks = [
        m.register_forward_hook(note)
        for m in modules
        if id(m.weight) in wanted or (m.bias is not None and id(m.bias) in wanted)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def gauss_newton_diagonal(
    objective: Objective, parameters: list[Tensor], num_samples: int = 1, seed: int = 0
) -> Tensor:
    r"""Estimate the diagonal of the Gauss-Newton matrix from backward passes.

    With random signs $\varepsilon$ in output space and the head's root S of the output curvature, the vector
    $\delta = J_l^\top S \varepsilon$ at the output of a linear layer l gives $\sum_n \delta_n^2 x_n^2$ for its weights,
    example by example. That is unbiased where each example passes the layer once, and exact there for one output; where
    many tokens of one example pass it, what they have in common is left out. Other parameters get the square of their
    whole $J^\top S \varepsilon$, which is unbiased and noisier.

    Args:
        objective: the function.
        parameters: the tensors wanted, in the order of the result.
        num_samples: random vectors, at least 1.
        seed: of the signs.

    Returns:
        Flat tensor `[n]`, the penalty included.

    Source: Dangel, Kunstner, Hennig, "BackPACK: Packing more into backprop" (2020).
    """
    require_real(parameters)
    objective.num_gradients += num_samples  # each pass costs what a gradient does
    generator = torch.Generator().manual_seed(seed)
    diagonal = {id(tensor): torch.zeros_like(tensor) for tensor in parameters}
    positions = {id(tensor): i for i, tensor in enumerate(parameters)}
    whole = WholeSlopes(parameters, parameters[0].dtype)
    count = torch.zeros(())
    for batch in objective.batches:
        with torch.enable_grad(), twice_differentiable(), linear_calls(objective, diagonal) as calls:
            prediction = objective.unchanged(lambda batch=batch: objective.prediction(batch))
        fixed = prediction.detach()
        own = objective.head.loss(fixed, batch.targets, batch.mask, batch.weights)[1]
        count = count.to(own) + own
        within = {id(tensor) for layer, _, _ in calls for tensor in (layer.weight, layer.bias) if tensor is not None}
        others = [tensor for tensor in parameters if id(tensor) not in within]
        outputs = [output for _, _, output in calls]
        slopes: dict[int, list[Tensor]] = {positions[id(tensor)]: [] for tensor in others}
        for sample in range(num_samples):
            signs = noise.signs(fixed, generator, batch.keys)
            root = objective.head.curvature_root(fixed, batch.targets, batch.mask, signs, batch.weights)
            keep = sample < num_samples - 1
            found = torch.autograd.grad(prediction, [*outputs, *others], root, retain_graph=keep, allow_unused=True)
            for (layer, x, _), delta in zip(calls, found, strict=False):
                if delta is None:
                    continue
                square = delta.reshape(-1, delta.shape[-1]).square()
                if id(layer.weight) in diagonal:
                    diagonal[id(layer.weight)] += square.T @ x.reshape(-1, x.shape[-1]).square().to(square)
                if layer.bias is not None and id(layer.bias) in diagonal:
                    diagonal[id(layer.bias)] += square.sum(0)
            for tensor, slope in zip(others, found[len(outputs) :], strict=True):
                if slope is not None:
                    slopes[positions[id(tensor)]].append(slope)
        whole.add(slopes)
    flat = vectors.flatten([diagonal[id(tensor)] for tensor in parameters])
    flat, count = distributed.sum_over_ranks([flat])[0], distributed.sum_over_ranks([count])[0]
    flat = (flat + vectors.flatten([whole.squares(i) for i in range(len(parameters))])) / num_samples
    return flat / objective.head.divisor(count) + penalty_diagonal(objective, parameters)


def penalty_diagonal(objective: Objective, parameters: list[Tensor]) -> Tensor:
    """Return the penalty's second derivatives, flat `[n]`."""
    penalties = zip(parameters, objective.penalties(parameters), strict=True)
    return vectors.flatten([torch.full_like(tensor, penalty) for tensor, penalty in penalties])
