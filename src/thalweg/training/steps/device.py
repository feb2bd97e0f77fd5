"""Where a run computes, in which precision, and on how many threads in a process that was forked."""

import os
import re

import torch

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
