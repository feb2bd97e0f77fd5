"""The refusal of a missing or wrong second derivative, and which module it comes from.

To find it, each module is tried alone, innermost first.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, final

import torch
from torch import Tensor, nn

from thalweg import vectors
from thalweg.curvature.agreement import DOUBLE, Agreement, Verdict, compare, directions, scales, settled
from thalweg.curvature.differentiable import Replacing, twice_differentiable
from thalweg.curvature.precise import plainly
from thalweg.models.exchange import exchanged

_OFFSETS = (0.0, 1e-3, 1e-2)
Result = TypeVar("Result")
Call = tuple[tuple[Any, ...], dict[str, Any]]


@final
class CurvatureError(RuntimeError):
    """A curvature matrix cannot be multiplied with, or would give wrong numbers; the message says which module."""


UNCHECKED = (
    "The derivatives of this model could not be checked here: differences of its values and gradients depend on the "
    "step, as kinks and rounding make them."
)


@final
class UncheckedWarning(UserWarning):
    """Nothing can be said about whether derivatives are right; they are used all the same."""


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


def culprit(
    model: nn.Module, head: nn.Module, evaluate: Callable[[], object], order: int = 2
) -> tuple[str, str] | None:
    """Return name and class of the module whose derivative of this order fails or is wrong, or None if none is found.

    The modules' inputs are recorded in one forward pass. Then, innermost modules first, a random combination of each
    one's outputs is differentiated and compared with differences, in float64.
    """
    modules = {"head": head} | {name: module for name, module in model.named_modules() if name} | {"model": model}
    innermost_first = sorted(modules, key=lambda name: (name == "model", -name.count(".")))
    calls: dict[str, Call] = {}
    with contextlib.suppress(Exception), _recorded(modules, calls), torch.enable_grad(), twice_differentiable():
        evaluate()
    for name in innermost_first:
        if name in calls and not _is_right(modules[name], *calls[name], order):
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


def _is_right(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], order: int) -> bool:
    """Whether the module's derivatives exist and equal differences; True where that cannot be said."""
    try:
        alone = _Alone(module, args, kwargs)
        if not alone.leaves or not bool(alone.slopes(0.0, 0, again=False)[0].isfinite()):
            return True
    except Exception:  # it cannot be evaluated alone or in float64: nothing can be said
        return True

    def attempts() -> Iterator[Agreement]:
        for attempt in range(len(_OFFSETS)):
            value, slopes, seconds = alone.slopes(0.0, attempt, again=order == 2)
            along = sum(float((a * b).sum()) for a, b in zip(slopes, alone.direction(attempt), strict=True))
            size = max(float(vectors.norm(slopes)), 1e-300)
            first = torch.tensor([along / size], dtype=torch.float64)

            def difference(step: float, attempt: int = attempt, size: float = size) -> list[Tensor]:
                (high, up, _), (low, down, _) = (
                    alone.slopes(sign * step, attempt, again=False) for sign in (1.0, -1.0)
                )
                parts = [(a - b) / (2.0 * step) for a, b in zip(up, down, strict=True)] if order == 2 else []
                return [*parts, ((high - low) / (2.0 * step * size)).reshape(1).cpu()]

            noise = [1e-14 * float(part.norm()) for part in slopes] if order == 2 else []
            yield compare([*seconds, first], difference, DOUBLE, [*noise, 1e-14 * abs(float(value)) / size], alone=1)

    try:
        return settled(attempts())[0] is not Verdict.WRONG
    except RuntimeError:
        return False


@final
class _Alone:
    """A random combination of a module's outputs, as a function of its parameters and inputs, in float64."""

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._module, self._keywords, self._num_args = module, list(kwargs), len(args)
        self._values = [_double(value) for value in (*args, *kwargs.values())]
        self._parameters = list(module.parameters())
        self.leaves = [_double(p) for p in self._parameters] + [v for v in self._values if _is_real(v)]
        self._frozen: list[Tensor | None] = [None] * len(self.leaves)
        replacing = Replacing()
        with torch.enable_grad(), plainly(), replacing:
            self._evaluated([leaf.requires_grad_() for leaf in self.leaves], self._output)
        for i, leaf in enumerate(self.leaves):
            self._frozen[i] = replacing.rows_of(leaf)
        self._sizes = scales(self.leaves)

    def direction(self, attempt: int) -> list[Tensor]:
        """Return a random direction, in units of the leaves' sizes."""
        return directions(self.leaves, [torch.ones_like(size) for size in self._sizes], self._frozen, 2 * attempt)

    def slopes(self, step: float, attempt: int, *, again: bool) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return value, slopes and perhaps second derivatives along the direction, in units of the leaves' sizes."""
        along = directions(self.leaves, self._sizes, self._frozen, 2 * attempt)
        offset = [
            _OFFSETS[attempt] * part for part in directions(self.leaves, self._sizes, self._frozen, 2 * attempt + 1)
        ]
        leaves = [
            (leaf.detach() + a + step * b).requires_grad_()
            for leaf, a, b in zip(self.leaves, offset, along, strict=True)
        ]

        def derivatives(leaves: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
            value = self._output(leaves)
            slopes = [torch.zeros_like(leaf) for leaf in leaves]
            seconds = slopes
            if value.requires_grad:
                slopes = torch.autograd.grad(value, leaves, create_graph=again, materialize_grads=True)
                slope = torch.stack([(a.to_dense() * b).sum() for a, b in zip(slopes, along, strict=True)]).sum()
                if again and slope.requires_grad:
                    seconds = torch.autograd.grad(slope, leaves, materialize_grads=True)
            return value.detach(), self._scaled(slopes), self._scaled(seconds) if again else []

        # With kernels that have second derivatives only where these are wanted: the differences shall not share them.
        kernels = twice_differentiable() if again else contextlib.nullcontext()
        with torch.enable_grad(), kernels, plainly():
            return self._evaluated(leaves, derivatives)

    def _evaluated(self, leaves: list[Tensor], evaluate: Callable[[list[Tensor]], Result]) -> Result:
        buffers = [(buffer, _double(buffer).clone()) for buffer in self._module.buffers()]
        pairs = [*buffers, *zip(self._parameters, leaves, strict=False)]
        return exchanged(self._module, pairs, lambda: evaluate(leaves))

    def _output(self, leaves: list[Tensor]) -> Tensor:
        inputs = iter(leaves[len(self._parameters) :])
        # A module may write to its inputs.
        every = [next(inputs).clone() if _is_real(value) else value for value in self._values]
        keywords = dict(zip(self._keywords, every[self._num_args :], strict=True))
        result = self._module(*every[: self._num_args], **keywords)
        flat = torch.cat([part.double().reshape(-1) for part in _tensors(result) if _is_real(part)])
        noise = torch.randn(flat.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        # Squared, so that even a linear module has a curvature to get wrong.
        return (flat * noise.to(flat.device)).sum() + 0.5 * (flat * flat).mean()

    def _scaled(self, parts: Sequence[Tensor]) -> list[Tensor]:
        return [part.detach().to_dense() * size for part, size in zip(parts, self._sizes, strict=True)]


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
    elif hasattr(result, "__dict__") and not isinstance(result, nn.Module):
        for part in vars(result).values():
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
