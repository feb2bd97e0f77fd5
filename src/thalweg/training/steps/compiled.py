"""A model's forward and backward pass compiled by `torch.compile`, with errors in sentences."""

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from thalweg.errors import InputError


def compiled(model: nn.Module, device: torch.device) -> Callable[..., Any]:
    """Return what is called in the model's place; it is compiled at the first call. The model itself stays as it is.

    Raises:
        InputError: for a device whose code needs a compiler that is not there; at a call, where the model cannot be
            compiled.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes a second

    if device.type == "cpu":
        _require_compiler()
    run = torch.compile(model)

    def call(*inputs: Any, **named: Any) -> Any:
        try:
            with warnings.catch_warnings():  # what the compiler looks at is no mistake of the user's
                warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor", category=UserWarning)
                return run(*inputs, **named)
        except TorchDynamoException as error:
            said = " ".join(str(error).split())[:200]
            raise InputError(f"torch.compile cannot compile this model ({said}); leave --compile out.") from error

    return call


def _require_compiler() -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler  # takes a second

    with contextlib.suppress(Exception):
        if get_cpp_compiler():
            return
    raise InputError(
        "--compile needs a C++ compiler on --device cpu, and there is none; install g++, or leave --compile out."
    )
