"""PyTorch's random state, of which a process has one: borrowed by one thread at a time, and given back as it was.

And random bits that are a function of the example, so that it makes no difference which process has it, or beside
which others it stands in a batch.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast, final

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


_drawing: list["Drawing | None"] = [None]


@contextlib.contextmanager
def of_examples(keys: Tensor | None) -> Iterator[None]:
    """Let what is random in a block depend on the examples alone, where their `keys` are known.

    They also depend on PyTorch's random state, of which one number is drawn at the first use.
    """
    before = _drawing[0]
    _drawing[0] = None if keys is None else Drawing(keys)
    try:
        yield
    finally:
        _drawing[0] = before


def _bits_for(shape: Sequence[int]) -> Tensor | None:
    drawing = _drawing[0]
    return None if drawing is None else drawing.bits(shape)


_drawn: list[Callable[[Sequence[int]], Tensor | None]] = [_bits_for]


def bits_for(shape: Sequence[int]) -> Tensor | None:
    """Return bits as `Drawing.bits` does inside of `of_examples`; None elsewhere."""
    return _drawn[0](shape)


def leave_uncompiled() -> None:
    """Keep the order of the draws outside of what is compiled from now on. Loads PyTorch's compiler: a second."""
    _drawn[0] = cast(Any, torch.compiler.disable)(_bits_for)


@final
class Drawing:
    """Random bits for the examples of one forward pass, anew at each call, in the order of the calls.

    Args:
        keys: a number for each example, int64 `[batch]`.
    """

    def __init__(self, keys: Tensor) -> None:
        self._keys, self._number = keys, 0
        self._bases: dict[tuple[int, ...], Tensor] = {}  # bits for all dimensions but the last, for all calls alike
        self._along: dict[int, Tensor] = {}

    def bits(self, shape: Sequence[int]) -> Tensor | None:
        """Return 16 random bits for each entry as int16, `shape` being `[batch, ...]`; None where it is not.

        They are a function of the example's key, the entry's place in the example, PyTorch's random state at the first
        call and the number of the call: padding after an example, and other examples beside it, change nothing.
        """
        if not shape or shape[0] != len(self._keys):
            return None
        self._number = self._number + 1 if self._number else int(torch.randint(1, 2**62, ()))
        *front, size = shape if len(shape) > 1 else (*shape, 1)
        number = int(scattered(torch.tensor(self._number)).to(torch.int32))
        base = self._bases.get(tuple(front))
        if base is None:
            base = self._bases[tuple(front)] = bits_of(self._keys, front, 0)
        num_pairs = (size + 1) // 2
        along = self._along.get(num_pairs)
        if along is None:
            along = _mix_(torch.arange(num_pairs, dtype=torch.int32, device=self._keys.device))
            self._along[num_pairs] = along
        # Two entries share a hash, of which each has a half.
        both = _mix_((base ^ number).unsqueeze(-1) + along).view(torch.int16)
        return both[..., :size] if len(shape) > 1 else both[..., 0]


def bits_of(keys: Tensor, shape: Sequence[int], number: int) -> Tensor:
    """Return 32 random bits as int32 for each entry of `shape`, `[batch, ...]`.

    They are a function of the example's key, the entry's place in the example, and `number`: padding after an example,
    and other examples beside it, change nothing.

    Args:
        keys: a number for each example, int64 `[batch]`.
        shape: of the result.
        number: others for the same keys.

    Example:
        >>> both, one = bits_of(torch.tensor([7, 8]), (2, 3), 0), bits_of(torch.tensor([8]), (1, 5), 0)
        >>> torch.equal(both[1], one[0, :3])
        True

    Source of the mixing: Wellons (2018), Prospecting for Hash Functions (lowbias32).
    """
    mixed = scattered(keys ^ scattered(torch.tensor(number, device=keys.device))).to(torch.int32)
    for place, size in enumerate(shape[1:]):
        along = torch.arange(size, dtype=torch.int32, device=keys.device).add_(place << 24)
        mixed = _mix_(mixed.unsqueeze(-1) + _mix_(along))
    return mixed


def signs(like: Tensor, generator: torch.Generator, keys: Tensor | None = None) -> Tensor:
    """Return random signs, -1 or 1, in the shape and type of a tensor `[batch, ...]`; an example's by its key."""
    if keys is None:
        return torch.randint(0, 2, like.shape, generator=generator, dtype=torch.int8).to(like) * 2.0 - 1.0
    number = int(torch.randint(2**62, (), generator=generator))
    return (bits_of(keys, like.shape, number) >= 0).to(like) * 2.0 - 1.0


def scattered(x: Tensor) -> Tensor:
    """Scatter the bits of int64 numbers; multiplications wrap around (the finalizer of Vigna's SplitMix64)."""
    x = x - 7046029254386353131
    x = (x ^ ((x >> 30) & (2**34 - 1))) * -4658895280553007687
    x = (x ^ ((x >> 27) & (2**37 - 1))) * -7723592293110705685
    return x ^ ((x >> 31) & (2**33 - 1))


def _mix_(bits: Tensor) -> Tensor:
    """Scatter the bits of int32 numbers, in place; multiplications wrap around."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        bits ^= (bits >> shift) & (2 ** (32 - shift) - 1)
        bits *= factor
    bits ^= (bits >> 16) & 0xFFFF
    return bits


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
