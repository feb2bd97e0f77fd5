"""Where a run computes, in which precision, with which code, and on how many threads in a process that was forked."""

import contextlib
import os
import re
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from thalweg import noise
from thalweg.errors import InputError, shown


def choose_device(name: str) -> torch.device:
    """Return the device for a recipe's name; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        InputError: if the device is unknown or not there.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name, re.ASCII):
        raise InputError(f"--device must be auto, cpu, cuda, cuda:1 or mps; got {shown(name)}.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name != "cpu" and not (torch.cuda if name.startswith("cuda") else torch.backends.mps).is_available():
        raise InputError(f"--device {name} cannot be used here (PyTorch finds none); try --device cpu.")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name} cannot be used here ({reason}); try --device cpu.") from None
    return device


def choose_precision(name: str, device: torch.device) -> tuple[torch.dtype, torch.dtype | None]:
    """Return the type of the weights, and the type of the forward pass (None: the same).

    "auto" runs the forward pass in bfloat16 on a GPU that has it, and in float32 elsewhere; the weights stay float32.
    """
    if name == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.float32, torch.bfloat16 if fast else None
    if name == "bfloat16":
        return torch.float32, torch.bfloat16
    if name == "float64" and device.type == "mps":
        raise InputError("--precision float64 is not supported on mps; give --device cpu or --precision float32.")
    return (torch.float64 if name == "float64" else torch.float32), None


def compiled(model: nn.Module, device: torch.device) -> Callable[..., Any]:
    """Return what is called in the model's place; it is compiled at the first call. The model itself stays as it is.

    Raises:
        InputError: for a device whose code needs a compiler that is not there; at a call, where the model cannot be
            compiled.
    """
    from torch._dynamo.exc import TorchDynamoException  # takes a second

    if device.type == "cpu":
        _require_compiler()
    noise.leave_uncompiled()
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


_started_in = os.getpid()


def one_thread_after_fork() -> None:
    """Compute on one thread in a process that was forked from this one, as DataLoader's workers do.

    The threads of OpenMP do not live on in a forked process, which would wait for them for ever. This has no effect in
    the process that imported the package, and in one that was spawned.
    """
    global _started_in
    if os.getpid() != _started_in:
        _started_in = os.getpid()
        torch.set_num_threads(1)
