"""Figures of a step from gradients and weights: by layer, against the step before, and what its targets are."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thalweg import sharded
from thalweg.batch import Batch

IGNORED = -100  # the id that PyTorch's losses leave out
MAX_COUNTED = 2**14  # entries of a matrix that are compared bit by bit, in rows spread over it


def layer_names(model: nn.Module, head: nn.Module | None = None) -> dict[str, list[Tensor]]:
    """Return the parameters by layer: the module that owns them, "head" for the output layer's; tied ones once."""
    seen: set[int] = set()
    layers: dict[str, list[Tensor]] = {}
    for prefix, module in (("", model), *((("head", head),) if head is not None else ())):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                owner = ".".join(filter(None, [prefix, *name.split(".")[:-1]])) or type(module).__name__.lower()
                layers.setdefault(owner.replace("_orig_mod.", ""), []).append(parameter)
    return layers


def layer_figures(layers: Mapping[str, list[Tensor]], before: Mapping[int, Tensor]) -> dict[str, dict[str, Any]]:
    """Return gradient norm, update/weight ratio and unchanged share of each layer after a step.

    Args:
        layers: parameters by layer.
        before: for the id of each parameter a copy from before the step; it is overwritten with the change.

    Returns:
        For each layer `grad_norm`, `update_ratio`, and `unchanged`: the share of the entries with a nonzero gradient
        that the step has left at the same bits, of large matrices in some rows; None where no gradient is nonzero.
    """
    parameters = [parameter for tensors in layers.values() for parameter in tensors]
    changes = [sharded.own(before[id(parameter)]) for parameter in parameters]
    sizes = torch._foreach_norm(changes)
    torch._foreach_sub_(changes, [sharded.own(parameter.detach()) for parameter in parameters])
    gradients = [_values(parameter) for parameter in parameters]
    norms = torch._foreach_norm(gradients)
    columns = [*sizes, *torch._foreach_norm(changes), *norms]
    counts = [count for parts in zip(parameters, changes, strict=True) for count in _counts(*parts)]
    number = len(parameters)
    owners = [*parameters * 3, *(parameter for parameter in parameters for _ in range(2))]
    numbers = _of_all(_fetched([*columns, *counts]), owners, num_norms=len(columns))
    figures: dict[str, dict[str, Any]] = {}
    place = 0
    for name, tensors in layers.items():
        places = range(place, place := place + len(tensors))
        size, change, gradient = (
            math.hypot(*(numbers[i * number + j] for j in places)) for i in range(len(columns) // number)
        )
        nonzero, stayed = (sum(numbers[3 * number + 2 * j + i] for j in places) for i in range(2))
        figures[name] = {
            "grad_norm": gradient,
            "update_ratio": change / size if size > 0 else 0.0,
            "unchanged": stayed / nonzero if nonzero else None,
        }
    return figures


def alignment(before: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> float | None:
    """Return the cosine between gradients of before and the present ones; None where either is zero or not finite."""
    both = [
        (old, parameter.grad.detach())
        for old, parameter in zip(before, parameters, strict=True)
        if old is not None and parameter.grad is not None and not parameter.grad.is_sparse
    ]
    if not both:
        return None
    owners = [old for old, _ in both]
    pairs = [(sharded.own(old), sharded.own(new)) for old, new in both]
    totals = [torch.dot(_flat(old), _flat(new)) for old, new in pairs]
    norms = [torch._foreach_norm(list(side)) for side in zip(*pairs, strict=True)]
    numbers = _of_all(_fetched([*norms[0], *norms[1], *totals]), owners * 3, num_norms=2 * len(pairs))
    number = len(pairs)
    products = numbers[2 * number :]
    product = math.fsum(products) if all(map(math.isfinite, products)) else math.nan
    scale = math.hypot(*numbers[:number]) * math.hypot(*numbers[number : 2 * number])
    return product / scale if scale > 0 and math.isfinite(product / scale) else None


def label_figures(batches: Iterable[Batch]) -> dict[str, Any]:
    """Return how many different labels the real targets of batches have, and the share of the most frequent one.

    Targets that are not whole numbers, and what no loss counts (masked, or -100), are left out.
    """
    parts = []
    for batch in batches:
        targets = batch.targets
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            return {}
        mask = batch.mask
        targets = targets if mask is None or mask.shape != targets.shape else targets[mask]
        parts.append(targets[targets != IGNORED].flatten())
    counts = torch.cat(parts).unique(return_counts=True)[1].tolist() if parts else []
    return {"label_kinds": len(counts), "label_share": max(counts) / sum(counts)} if counts else {}


def parameter_facts(networks: Iterable[tuple[str, nn.Module]], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return which parameters are frozen, which trainable ones no optimizer has, and how many numbers there are."""
    given = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    frozen, left_out, number = [], [], 0
    for prefix, network in networks:
        for name, parameter in network.named_parameters():
            if sharded.is_table(parameter):  # a buffer, but for being divided
                continue
            number += parameter.numel()
            path = ".".join(filter(None, [prefix, name.replace("_orig_mod.", "")]))
            if not parameter.requires_grad:
                frozen.append(path)
            elif id(parameter) not in given:
                left_out.append(path)
    return {"not_in_optimizer": left_out, "frozen": frozen, "num_parameters": number}


def _values(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    if gradient is None:
        return parameter.detach().new_zeros(())
    return gradient.coalesce().values() if gradient.is_sparse else sharded.own(gradient.detach())


def _counts(parameter: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many entries have a nonzero gradient, and how many of these have not changed; of rows in between."""
    gradient = parameter.grad
    if gradient is None or gradient.is_sparse:
        zero = torch.zeros((), device=change.device)
        return zero, zero
    step = max(1, math.ceil(change.numel() / MAX_COUNTED)) if change.dim() > 1 else 1
    nonzero, moved = (torch.atleast_1d(part)[::step] != 0 for part in (sharded.own(gradient), change))
    moved.logical_and_(nonzero)
    return nonzero.count_nonzero() * step, (nonzero ^ moved).count_nonzero() * step


def _flat(x: Tensor) -> Tensor:
    return x.flatten() if x.dtype in (torch.float32, torch.float64) else x.flatten().float()


def _of_all(numbers: list[float], of: Sequence[Tensor], *, num_norms: int) -> list[float]:
    """Return numbers, the first of them norms and the rest sums, of all rows of tensors that processes have divided."""
    if not sharded.any_divided(of):
        return numbers
    squares = [number * number for number in numbers[:num_norms]]
    found = sharded.added(torch.tensor(squares + numbers[num_norms:], dtype=torch.float64), of).tolist()
    return [*map(math.sqrt, found[:num_norms]), *found[num_norms:]]


def _fetched(tensors: Sequence[Tensor]) -> list[float]:
    """Return 0-dim tensors as numbers; those of one accelerator are fetched at once."""
    if len({tensor.device for tensor in tensors}) > 1 or tensors[0].is_cpu:
        return [tensor.item() for tensor in tensors]
    return torch.stack([tensor if tensor.device.type == "mps" else tensor.double() for tensor in tensors]).tolist()
