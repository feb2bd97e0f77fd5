"""A probe looks, and leaves everything as it was: weights, buffers, gradients, modes, and the random state."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from thalweg import noise
from thalweg.diagnosis.subject import Subject
from thalweg.errors import InputError

Measure = Callable[[Subject], dict[str, Any]]
_SEED: Final = 0


def probe(*, finite: bool = True) -> Callable[[Measure], Measure]:
    """Make a measurement a probe: in evaluation mode, with a seed of its own, everything put back, plain values.

    Args:
        finite: whether it is refused where a weight is NaN or infinite.
    """

    def made(measure: Measure) -> Measure:
        @functools.wraps(measure)
        def undisturbed(subject: Subject) -> dict[str, Any]:
            if not subject.train:
                raise InputError("At least one training batch is needed to look at; the subject has none.")
            if finite and (names := not_finite(subject)):
                raise InputError(f"The weights of '{names[0]}' are not finite, so nothing can be measured with them.")
            with untouched(subject):
                return plain(measure(subject))

        return undisturbed

    return made


def not_finite(subject: Subject) -> list[str]:
    """Return the names of parameters and buffers that hold a number that is NaN or infinite."""
    found = []
    for name, tensor in named_tensors(subject.model, subject.head):
        if tensor.is_floating_point() and not bool(tensor.detach().isfinite().all()):
            found.append(name)
    return found


def named_tensors(model: nn.Module, head: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Return parameters and buffers with their names, the model's as they are and the head's after `head.`."""
    seen: set[int] = set()
    for prefix, module in (("", model), ("head.", head)):
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{prefix}{name}", tensor


@contextlib.contextmanager
def untouched(subject: Subject, *, training: bool = False) -> Iterator[None]:
    """Evaluate with a seed of its own; afterwards weights, buffers, gradients, modes and random state are as before.

    Inside, both networks are in evaluation mode (or, with `training`, in training mode), and derivatives can be taken.
    """
    model, head = subject.model, subject.head
    modules = list(dict.fromkeys([*model.modules(), *head.modules()]))
    modes = [module.training for module in modules]
    tensors = list(dict.fromkeys(tensor for _, tensor in named_tensors(model, head)))
    values = [tensor.detach().clone() for tensor in tensors]
    asked = [tensor.requires_grad for tensor in tensors]
    gradients = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None  # else what a backward pass adds would be added to the caller's
    try:
        model.train(training)
        head.train(training)
        devices = noise.accelerators(tensors)
        with noise.borrowed(devices), torch.inference_mode(False), torch.enable_grad():
            noise.seed(_SEED, devices)
            yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training
        with torch.no_grad():
            for tensor, value, gradient, asks in zip(tensors, values, gradients, asked, strict=True):
                if not torch.equal(tensor.detach(), value):  # also where there is a NaN
                    tensor.data.copy_(value)
                tensor.requires_grad_(asks)
                tensor.grad = gradient


def plain(value: Any) -> Any:
    """Return plain values: tensors as numbers or lists, numbers that are not finite as None.

    Example:
        >>> plain({"a": torch.tensor([1.0, float("nan")]), "b": (1, True)})
        {'a': [1.0, None], 'b': [1, True]}
    """
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
