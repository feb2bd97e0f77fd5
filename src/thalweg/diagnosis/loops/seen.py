"""What a model in anyone's loop is called with, and what it returns: some batches of it."""

import collections
import copy
import functools
import inspect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from thalweg.batch import Batch
from thalweg.errors import InputError
from thalweg.frameworks.whole_loss import WholeLoss
from thalweg.heads.base import AbstractHead
from thalweg.heads.value import Value

MAX_KEPT: Final = 16  # batches; more are taken over a longer time instead
_NO_CURVATURE = (
    "The loss is one number that the model computes, so that it has no Gauss-Newton matrix; give Watch(..., head=...) "
    "the loss of the model's output."
)


@final
class Kept:
    """Some batches out of many: at most so many, spread evenly over all that were offered."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._offered, self._every = 0, 1

    def offer(self, batch: Batch) -> None:
        """Keep a copy of a batch, if its turn has come."""
        if self._offered % self._every == 0:
            self.batches.append(copied(batch))
            if len(self.batches) > MAX_KEPT:
                self.batches = self.batches[::2]
                self._every *= 2
        self._offered += 1


@final
class Call:
    """One call of a model: its arguments by name, and what it returned.

    Args:
        model: with the `forward` that was called.
        args, kwargs: what it was called with.
        output: what it returned.
    """

    def __init__(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        bound = _signature(type(model)).bind(model, *args, **kwargs)
        self.inputs: dict[str, Tensor] = {}
        self.is_complete = True  # whether the tensors by name are all that it was called with
        for name, value in itertools.islice(bound.arguments.items(), 1, None):  # without `self`
            kind = bound.signature.parameters[name].kind
            named = value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
            for key, part in named.items():
                if isinstance(part, Tensor) and kind is not inspect.Parameter.POSITIONAL_ONLY:
                    self.inputs[key] = part.detach()
                elif part is not None and not isinstance(part, bool):
                    self.is_complete = False
        loss, result = _field(output, "loss"), answer(output)
        self.loss = None if loss is None else loss.detach()
        self.output = None if result is None else result.detach()
        self.shape = None if result is None else tuple(result.shape)
        self.is_part = result is not None and not isinstance(output, Tensor)  # whether the output has more to it

    @property
    def num_examples(self) -> int:
        """Rows of the first input."""
        return next((len(tensor) for tensor in self.inputs.values() if tensor.dim()), 0)

    def batch(self, targets: Tensor) -> Batch:
        """Return the inputs with targets."""
        return Batch(dict(self.inputs), targets.detach())


@functools.cache
def _signature(kind: type[nn.Module]) -> inspect.Signature:
    return inspect.signature(kind.forward)


def copied(batch: Batch) -> Batch:
    """Return a batch of copies, since loops write into their tensors."""
    inputs = {name: tensor.clone() for name, tensor in batch.inputs.items()}
    return Batch(inputs, batch.targets.clone())


def answer(output: Any) -> Tensor | None:
    """Return what a model answers: its output, its `logits`, else the first floating-point tensor in it."""
    if isinstance(output, Tensor):
        return output
    if (logits := _field(output, "logits")) is not None:
        return logits
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    found = (part for part in parts if isinstance(part, Tensor) and part.is_floating_point() and part.dim() > 0)
    return next(found, None)


def answering(model: nn.Module) -> nn.Module:
    """Return a model of the same modules and weights that returns nothing but its answer (see `answer`)."""
    other = copy.copy(model)
    other._forward_hooks = collections.OrderedDict(model._forward_hooks)
    other.register_forward_hook(_only_the_answer)
    return other


def _only_the_answer(module: nn.Module, args: Any, output: Any) -> Tensor | None:
    del module, args
    return answer(output)


def own_loss(model: nn.Module) -> tuple[nn.Module, AbstractHead]:
    """Return networks for a model that computes its loss itself, as those of Hugging Face do when they get labels."""

    def loss(network: nn.Module, inputs: dict[str, Any]) -> Tensor:
        found = _field(network(**inputs), "loss")
        assert found is not None
        return found

    return WholeLoss(model, loss), Value(_NO_CURVATURE, averages=True)


def output_sum(model: nn.Module) -> tuple[nn.Module, AbstractHead]:
    """Return networks for a model whose loss nobody knows: they add up its output."""
    return WholeLoss(model, lambda network, inputs: _sum(network(**inputs))), Value(_NO_CURVATURE, averages=True)


def inside(name: str) -> str:
    """Return the name that a module of a model with such a loss has in the model itself."""
    return name.removeprefix("model.")


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside of what data parallelism and compilation have made of it."""
    for _ in range(4):
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def bare(optimizer: Any) -> torch.optim.Optimizer:
    """Return PyTorch's optimizer inside of what frameworks have made of it.

    Raises:
        InputError: if there is none.
    """
    for _ in range(5):
        inner = getattr(optimizer, "optimizer", None)
        if inner is None:
            break
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"Watch(model, optimizer) needs a torch.optim.Optimizer; got a {type(optimizer).__name__}.")
    return optimizer


def _field(output: Any, name: str) -> Tensor | None:
    value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    return value if isinstance(value, Tensor) and not isinstance(output, Tensor) else None


def _sum(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output.sum()
    parts = output.values() if isinstance(output, Mapping) else output
    return sum((_sum(part) for part in parts), torch.zeros(()))
