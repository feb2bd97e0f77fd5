"""Where a loss or a gradient first was NaN or infinite, found by evaluating the same batches once more."""

import contextlib
from collections.abc import Iterable
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn

from thalweg import noise
from thalweg.objective import Objective
from thalweg.training.steps.sites import names_of_modules

OUTPUT, PARAMETER, INPUT, GRADIENT = "output of the forward pass", "parameter", "input", "gradient"


@final
class Culprit(NamedTuple):
    """What was not finite.

    Args:
        where: path of the module (or name of the input).
        what: "output of the forward pass", "parameter", "input" or "gradient".
    """

    where: str
    what: str

    def __str__(self) -> str:
        if self.what == INPUT:
            return f"the {self.where} of the batch"
        kinds = {OUTPUT: "the output", PARAMETER: "a parameter", GRADIENT: "the gradient"}
        return f"{kinds[self.what]} of {self.where}"


def find_culprit(objective: Objective) -> Culprit | None:
    """Return what of an objective is not finite, or None where everything is.

    In this order: parameters and inputs; of one forward pass the first module, in the order in which they end, whose
    output is not finite; of a backward pass the first layer, from the last one on. Weights, buffers, gradients and
    random state are left as they are; nothing is exchanged with other processes.
    """
    networks = (("", objective.model), ("head", objective.head))
    names = names_of_modules(networks)
    for module, name in names.items():
        if not all(map(_is_finite, module.parameters(recurse=False))):
            return Culprit(name, PARAMETER)
    for batch in objective.batches:
        for name, tensor in {**batch.inputs, "targets": batch.targets, "weights": batch.weights}.items():
            if tensor is not None and not _is_finite(tensor):
                return Culprit(name, INPUT)
    parameters: list[Tensor] = [parameter for _, network in networks for parameter in network.parameters()]
    held = [parameter.grad for parameter in parameters]
    try:
        with noise.borrowed(noise.accelerators(parameters)), torch.enable_grad():
            return objective.unchanged(lambda: _in_a_pass(objective, names, parameters))
    finally:
        for parameter, gradient in zip(parameters, held, strict=True):
            parameter.grad = gradient


def _in_a_pass(objective: Objective, names: dict[nn.Module, str], parameters: list[Tensor]) -> Culprit | None:
    called: list[nn.Module] = []
    spoiled: list[nn.Module] = []

    def ended(module: nn.Module, _: Any, output: Any) -> None:
        called.append(module)
        if not spoiled and not all(map(_is_finite, _tensors(output))):
            spoiled.append(module)

    for parameter in parameters:
        parameter.grad = None
    total: Tensor | None = None
    with contextlib.ExitStack() as hooks:
        for module in names:
            hooks.callback(module.register_forward_hook(ended).remove)
        for batch in objective.batches:
            total, _ = objective.sum_and_count(batch)
            if spoiled:
                return Culprit(names[spoiled[0]], OUTPUT)
            if not _is_finite(total):
                return Culprit(names[objective.head], OUTPUT)
            total.backward()
    for module in dict.fromkeys([*reversed(called), *names]):
        gradients = [parameter.grad for parameter in module.parameters(recurse=False) if parameter.grad is not None]
        if not all(map(_is_finite, gradients)):
            return Culprit(names[module], GRADIENT)
    return None


def _tensors(output: Any) -> Iterable[Tensor]:
    """Yield the tensors of a module's output, those in tuples, lists and dictionaries as well."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, tuple | list):
        for part in output:
            yield from _tensors(part)


def _is_finite(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex()) or bool(torch.isfinite(tensor.detach()).all())
