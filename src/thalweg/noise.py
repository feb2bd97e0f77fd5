"""PyTorch's random state, of which a process has one: borrowed by one thread at a time, and given back as it was."""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

_locks = [threading.RLock()]


def _new_lock() -> None:
    _locks[0] = threading.RLock()  # the thread that held it is not in the forked process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other threads of this package from the random state in a block that sets it, or counts on it."""
    with _locks[0]:
        yield


@contextlib.contextmanager
def borrowed(devices: Iterable[torch.device] = ()) -> Iterator[None]:
    """Put the random state back after a block, that of the CPU and of other `devices`; no other thread changes it.

    Example:
        >>> before = torch.get_rng_state()
        >>> with borrowed():
        ...     seed(3)
        ...     first = torch.rand(1)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    with _locks[0]:
        generators = [torch.default_generator, *_generators(devices)]
        states: list[Tensor] = [generator.get_state() for generator in generators]
        try:
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def seed(number: int, devices: Iterable[torch.device] = ()) -> None:
    """Set the random state of the CPU and of other devices, as `torch.manual_seed` does for all there are."""
    for generator in (torch.default_generator, *_generators(devices)):
        generator.manual_seed(number)


def accelerators(tensors: Iterable[Tensor]) -> list[torch.device]:
    """Return the devices of these tensors that have a random state of their own."""
    return list(dict.fromkeys(tensor.device for tensor in tensors if tensor.device.type in ("cuda", "mps")))


def _generators(devices: Iterable[torch.device]) -> list[torch.Generator]:
    found = []
    for device in devices:
        if device.type == "cuda":
            torch.cuda.init()
            index = torch.cuda.current_device() if device.index is None else device.index
            found.append(torch.cuda.default_generators[index])
        elif device.type == "mps":
            found.append(torch.mps._get_default_mps_generator())
    return found
