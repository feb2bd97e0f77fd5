"""The refusal of a missing or wrong second derivative, and which module it comes from.

To find it, each module is tried alone, innermost first.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from thalweg.curvature.differentiable import twice_differentiable
from thalweg.models.exchange import exchanged

_STEP = 1e-7
_TOLERANCE = 1e-4
Call = tuple[tuple[Any, ...], dict[str, Any]]


@final
class CurvatureError(RuntimeError):
    """A curvature matrix cannot be multiplied with, or would give wrong numbers; the message says which module."""


@contextlib.contextmanager
def refusing(where: Callable[[], str]) -> Iterator[None]:
    """Turn PyTorch's complaint about a missing second derivative into one sentence that names the module."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, CurvatureError) or "memory" in str(error):
            raise
        reason = str(error).strip().split("\n")[0].removesuffix(".")
        raise CurvatureError(
            f"This model cannot be differentiated twice{where()}. PyTorch says: {reason}. {_advice(str(error))}"
        ) from error


def culprit(model: nn.Module, head: nn.Module, evaluate: Callable[[], object]) -> tuple[str, str] | None:
    """Return name and class of the module whose second derivative fails or is wrong, or None if none is found.

    The modules' inputs are recorded in one forward pass. Then, innermost modules first, a random combination of each
    one's outputs is differentiated twice and compared with a difference of first derivatives, in float64.
    """
    modules = {"head": head} | {name: module for name, module in model.named_modules() if name} | {"model": model}
    innermost_first = sorted(modules, key=lambda name: (name == "model", -name.count(".")))
    calls: dict[str, Call] = {}
    with contextlib.suppress(Exception), _recorded(modules, calls), torch.no_grad(), twice_differentiable():
        evaluate()
    for name in innermost_first:
        if name in calls and not _is_right(modules[name], *calls[name]):
            return name, type(modules[name]).__name__
    return None


@contextlib.contextmanager
def _recorded(modules: dict[str, nn.Module], calls: dict[str, Call]) -> Iterator[None]:
    def record(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del module
        calls.setdefault(name, (args, kwargs))

    handles = [
        module.register_forward_pre_hook(functools.partial(record, name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_right(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the module's second derivative exists and equals a difference; True where that cannot be said."""
    generator = torch.Generator().manual_seed(0)
    values = [_double(value) for value in (*args, *kwargs.values())]
    parameters = list(module.parameters())
    buffers = [(buffer, _double(buffer).clone()) for buffer in module.buffers()]
    start = [_double(p) for p in parameters] + [v for v in values if _is_real(v)]
    directions = [torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.device) for t in start]
    if not start:
        return True

    def outputs(leaves: Sequence[Tensor]) -> Tensor:
        inputs = iter(leaves[len(parameters) :])
        every = [next(inputs) if _is_real(value) else value for value in values]
        keywords = dict(zip(kwargs, every[len(args) :], strict=True))
        result = module(*every[: len(args)], **keywords)
        real = [part.double().reshape(-1) for part in _tensors(result) if _is_real(part)]
        flat = torch.cat(real)
        noise = torch.randn(flat.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        # Squared, so that even a linear module has a curvature to get wrong.
        return (flat * noise.to(flat.device)).sum() + 0.5 * (flat * flat).mean()

    def slope(step: float, again: bool) -> tuple[Tensor, Tensor | None]:
        leaves = [(t + step * d).requires_grad_() for t, d in zip(start, directions, strict=True)]

        def slopes() -> tuple[Tensor, Tensor | None]:
            gradient = torch.autograd.grad(outputs(leaves), leaves, create_graph=again, allow_unused=True)
            along = _dot(gradient, directions)
            if not again:
                return along.detach(), None
            if not along.requires_grad:
                return along, torch.zeros(())
            return along, _dot(torch.autograd.grad(along, leaves, allow_unused=True), directions)

        return exchanged(module, [*buffers, *zip(parameters, leaves, strict=False)], slopes)

    try:
        reference = (slope(_STEP, False)[0] - slope(-_STEP, False)[0]) / (2 * _STEP)
    except Exception:  # it cannot be evaluated alone or in float64: nothing can be said
        return True
    try:
        with torch.enable_grad(), twice_differentiable():
            _, second = slope(0.0, True)
    except RuntimeError:
        return False
    assert second is not None
    return bool((second - reference).abs() <= _TOLERANCE * reference.abs() + 1e-6)


def _dot(left: Sequence[Tensor | None], right: Sequence[Tensor]) -> Tensor:
    products = [(a * b).sum() for a, b in zip(left, right, strict=True) if a is not None]
    return torch.stack(products).sum() if products else torch.zeros(())


def _is_real(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _double(value: Any) -> Any:
    return value.detach().to(torch.float64, copy=True) if _is_real(value) else value


def _tensors(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, dict):
        for part in result.values():
            yield from _tensors(part)
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _tensors(part)


def _advice(message: str) -> str:
    """Return what to do about PyTorch's message, one sentence."""
    if "checkpoint" in message:
        return "Checkpoint with use_reentrant=False, or switch checkpointing off for the curvature."
    if "torch.func" in message or "transform" in message or "forward AD" in message:
        return "Leave scheme at its default, Scheme.KEPT_GRAPH, which needs no forward differentiation."
    if "once_differentiable" in message:
        return "Write its backward in differentiable operations, or use gauss_newton with a head that allows it."
    if "aot_autograd" in message or "compile" in message:
        return "Give the objective the model from before torch.compile."
    return "Replace that operation, or keep its parameters out with parameters=...."
