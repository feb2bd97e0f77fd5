"""Whether the machine holds a network, or a batch of tokens, known before anything of it is built."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from thalweg import names
from thalweg.errors import InputError
from thalweg.models.presets import ModelOptions
from thalweg.models.shape import ModelShape
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.steps.feed import Feed

COPIES: Final = (
    3  # of the weights while they are trained, at least: themselves, the gradient, the optimizer's or kept ones
)
_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def require_memory(
    values: Mapping[str, Any],
    builder: Callable[[ModelShape, ModelOptions], nn.Module],
    shape: ModelShape,
    options: ModelOptions,
    *,
    trained: bool,
) -> None:
    """Raise an InputError where the weights, or what training keeps of them, are more than the machine's memory.

    The network is built of tensors that have a shape and no memory. `values` are the
    recipe's, `shape` and `options` the builder's arguments.
    """
    if not (large := _sizes(values)):  # it is as small as the data allow
        return
    with torch.device("meta"), _Undrawn():
        model = builder(shape, dataclasses.replace(options, sparsity=0.0))  # masks are drawn, which takes memory
    outputs = max(shape.num_outputs, shape.target_vocabulary_size, shape.vocabulary_size)
    number = sum(weight.numel() for weight in model.parameters()) + outputs * int(getattr(model, "width", 0))
    size = 8 if values["precision"] == "float64" else 4
    needed, there = number * size * (COPIES if trained else 1), memory_bytes()
    if needed <= there:
        return
    raise InputError(
        f"--model {values['model']} would have about {number:,} weights, and take {needed / 2**30:,.1f} GB of "
        f"memory; the machine has {there / 2**30:,.1f}. Give a smaller {' or '.join(large)}."
    )


def require_batch(values: Mapping[str, Any], feed: Feed) -> None:
    """Raise an InputError where the states of the largest batch of tokens are more than the machine's memory.

    Counted are its ids and, for each token, its vector and one state in each layer; a training keeps more.
    """
    if values["model"] not in OPTIONS["max_length"].models:
        return
    size, there = 8 if values["precision"] == "float64" else 4, memory_bytes()
    each = 8 + size * (values["width"] + values["layers"] * values["hidden"])
    if feed.most_tokens * each <= there or (number := feed.num_tokens()) * each <= there:
        return
    raise InputError(
        f"The largest batch would have {number:,} tokens, padding included, and take {number * each / 2**30:,.1f} GB "
        f"of memory or more; the machine has {there / 2**30:,.1f}. Give a smaller --batch-size or --max-length."
    )


def _sizes(values: Mapping[str, Any]) -> list[str]:
    """Return the flags of the sizes that are larger than usual."""
    model, traits = values["model"], names.task_spec(values["task"]).traits
    sizes = [
        option
        for option in OPTIONS.values()
        if option.kind is int and option.section in ("data", "model") and not option.continuous
        if option.trait in ("", *traits) and model in (option.models or (model,))
    ]
    return [one.flag for one in sizes if values[one.name] > one.by_model.get(model, one.default)]


@final
class _Undrawn(TorchFunctionMode):
    """Writes no numbers into tensors: for some, PyTorch loads its compiler (over a second) where there is no memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        given, name = kwargs or {}, getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__") and name != "requires_grad_":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def memory_bytes() -> float:
    """Return how much memory the machine has, or its container or process may take; infinity where none says so."""
    found = [float("inf")]
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        found.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for path in map(Path, _LIMITS):
        text = path.read_text(encoding="ascii").strip() if path.is_file() else ""
        found += [float(text)] if text.isdigit() else []
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        found += [float(limit)] if limit != resource.RLIM_INFINITY else []
    except ImportError:  # not on Windows
        pass
    return min(found)
