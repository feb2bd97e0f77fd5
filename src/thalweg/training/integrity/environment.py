"""What the bits of a training depend on besides its recipe and data: versions, machine, device, threads, precision."""

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any, Final

import torch

from thalweg import distributed

_NAMES: Final = {
    "thalweg": "thalweg",
    "torch": "torch",
    "numpy": "numpy",
    "python": "Python",
    "device": "device",
    "threads": "threads",
    "processes": "processes",
    "precision": "precision",
    "instructions": "CPU instructions",
}


def environment(device: torch.device, dtype: torch.dtype, autocast: torch.dtype | None) -> dict[str, Any]:
    """Return what this process computes with, as plain values.

    Example:
        >>> sorted(environment(torch.device("cpu"), torch.float32, None))[:3]
        ['device', 'instructions', 'numpy']
    """
    versions = {name: importlib.metadata.version(name) for name in ("thalweg", "torch", "numpy")}
    on_gpu = device.type == "cuda"
    return versions | {
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "threads": torch.get_num_threads(),
        "processes": distributed.world_size(),
        "precision": str(autocast or dtype).removeprefix("torch."),
        "instructions": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what differs, for a sentence ("2 threads (now 4)"); "" where nothing does.

    Example:
        >>> differences({"threads": 2, "torch": "2.13.0"}, {"threads": 4, "torch": "2.13.0"})
        'threads 2 (now 4)'
    """
    said = [
        f"{word} {before[name]} (now {now[name]})"
        for name, word in _NAMES.items()
        if name in before and name in now and before[name] != now[name]
    ]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}" if said else ""
