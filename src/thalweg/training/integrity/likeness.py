"""What a checkpoint has saved compared with what a fresh run has in its place: its keys, types and shapes."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def require_like(saved: Any, own: Any, where: str) -> None:
    """Raise a ValueError where a saved value cannot stand in the place of a run's own.

    Numbers may be others, as long as they are finite where its own is; where it has None, any plain value may stand,
    and where it has no value yet, numbers. A saved value may have names that came with the steps.

    Example:
        >>> require_like({"lr": 0.1, "betas": (0.9, 0.99)}, {"lr": 0.3, "betas": (0.9, 0.999)}, "group")
        >>> require_like({"lr": "0.1"}, {"lr": 0.3}, "group")
        Traceback (most recent call last):
            ...
        ValueError: expected a number at group.lr, got '0.1'
    """
    if own is None:
        if saved is not None and not isinstance(saved, bool | int | float | str):
            raise _other("a plain value", saved, where)
    elif isinstance(own, Mapping):
        if not isinstance(saved, Mapping) or own.keys() - saved.keys():
            raise _other(f"the names {', '.join(map(str, own))}", saved, where)
        for name, value in own.items():
            require_like(saved[name], value, f"{where}.{name}")
    elif isinstance(own, list | tuple):
        if type(saved) is not type(own) or len(saved) != len(own or saved):
            raise _other(f"{len(own)} values" if own else "a list", saved, where)
        for place, value in enumerate(own or [0.0] * len(saved)):
            require_like(saved[place], value, f"{where}[{place}]")
    elif isinstance(own, Tensor):
        if not isinstance(saved, Tensor) or (saved.shape, saved.dtype) != (own.shape, own.dtype):
            raise _other(f"a tensor of shape {list(own.shape)}", saved, where)
    elif isinstance(own, int | float) and not isinstance(own, bool):
        if isinstance(saved, bool) or not isinstance(saved, int | float):
            raise _other("a number", saved, where)
        if math.isfinite(own) and not math.isfinite(saved):
            raise _other("a finite number", saved, where)
    elif type(saved) is not type(own):
        raise _other(type(own).__name__, saved, where)


def _other(expected: str, saved: Any, where: str) -> ValueError:
    shown = f"a tensor of shape {list(saved.shape)}" if isinstance(saved, Tensor) else f"{saved!r:.60}"
    return ValueError(f"expected {expected} at {where}, got {shown}")
