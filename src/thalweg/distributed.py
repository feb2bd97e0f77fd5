"""Processes that work as one: who they are, sums over them, and what one does for all; on one process nothing happens.

What is sent is numbers and JSON. Every process must call the same functions in the same order.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from thalweg.errors import InputError, RankError, is_out_of_memory, shown

T = TypeVar("T")
_SECONDS_FOR_WORD: Final = 3.0  # that the others have to say that they wait, too
_alone = [0]  # how many blocks in which this process works by itself are entered


def is_active() -> bool:
    """Whether several processes work together."""
    return not _alone[0] and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Work by oneself for the length of a block: what all have is not added up, and nobody is waited for."""
    _alone[0] += 1
    try:
        yield
    finally:
        _alone[0] -= 1


def rank() -> int:
    """Number of this process, 0 on one process."""
    return dist.get_rank() if is_active() else 0


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def world_size() -> int:
    """Number of processes, 1 on one process."""
    return dist.get_world_size() if is_active() else 1


def sum_over_ranks(tensors: list[Tensor]) -> list[Tensor]:
    """Return each tensor's sum over all processes, by one message; the tensors, of one dtype and device, stay as is."""
    if not is_active() or not tensors:
        return tensors
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    begin_sum(flat)()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def begin_sum(flat: Tensor) -> Callable[[], None]:
    """Begin to overwrite a tensor with its sum over all processes; return what waits for it. Only between several."""
    with _told():
        message = dist.all_reduce(flat, async_op=True)

    def wait() -> None:
        assert message is not None
        with _told():
            message.wait()

    return wait


def gather_rows(tensor: Tensor) -> Tensor:
    """Return the rows of a tensor `[n, ...]` of all processes, one after the other; `n` may differ.

    No gradient flows through it.
    """
    if not is_active():
        return tensor
    counts = torch.zeros(world_size(), dtype=torch.long, device=tensor.device)
    counts[rank()] = len(tensor)
    with _told():
        dist.all_reduce(counts)
    sizes = counts.tolist()
    padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]), dtype=_sent(tensor.dtype))
    padded[: len(tensor)] = tensor.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    with _told():
        dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]).to(tensor.dtype)


def gather(value: Any) -> list[Any]:
    """Return the value, of JSON, of every process, in the order of their numbers."""
    if not is_active():
        return [value]
    content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    sizes = [int(size) for size in gather_rows(torch.tensor([len(content)]))]
    content, parts = gather_rows(content), []
    for size in sizes:
        parts.append(json.loads(bytes(content[:size].tolist())))
        content = content[size:]
    return parts


def of_first(value: T) -> T:
    """Return the value, of JSON, that the first process has: what is measured, or read off a clock, is one's own."""
    return gather(value if is_first() else None)[0] if is_active() else value


def most(values: list[float]) -> list[float]:
    """Return the largest of each of these numbers over all processes."""
    if not is_active():
        return values
    found = torch.tensor(values, dtype=torch.float64)
    with _told():
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return found.tolist()


def send_first(tensors: Iterable[Tensor]) -> None:
    """Write into tensors what they hold on the first process."""
    if is_active():
        for tensor in tensors:
            with _told():
                dist.broadcast(tensor.detach(), 0)


def by_first(work: Callable[[], T]) -> T:
    """Return what `work` returns, a value of JSON; only the first process does it, and all have it when it is done.

    Raises:
        InputError, OSError: on every process, if `work` raises it.
        RankError: on the others, if it raises anything else.
    """
    if not is_active():
        return work()
    if not is_first():
        return _answer(gather(None)[0])
    try:
        with alone():
            result = work()
    except InputError as error:
        gather({"error": "user", "about": str(error)})
        raise
    except OSError as error:
        about = [error.errno, error.strerror, str(error.filename or "")]
        gather({"error": "system", "about": about})
        raise
    except BaseException as error:
        gather({"error": "own", "about": type(error).__name__})
        raise
    return gather({"result": result})[0]["result"]


def _answer(answer: dict[str, Any]) -> Any:
    """Return what the first process has told, or raise what it has met."""
    match answer:
        case {"error": "user", "about": about}:
            raise InputError(about)
        case {"error": "system", "about": [number, what, name]}:
            raise OSError(number, what, name) if name else OSError(number, what)
        case {"error": _, "about": about}:
            raise RankError(f"Process 0 of {world_size()} has stopped ({about}).")
    return answer["result"]


def post(key: str, number: int, value: Any) -> None:
    """Leave a value, of JSON, of the process with this number, for whoever takes it with `posted`; nobody waits."""
    dist.distributed_c10d._get_default_store().set(f"thalweg/post/{key}/{number}", json.dumps(value))


def posted(key: str, numbers: Iterable[int], gives_up: Callable[[], bool] = lambda: False) -> list[Any]:
    """Return what processes have posted under a key, once all have; other messages may be under way meanwhile.

    Raises:
        RankError: if one has not in the time that messages have, or soon after `gives_up` says so.
    """
    store: Any = dist.distributed_c10d._get_default_store()
    deadline, values = time.monotonic() + store.timeout.total_seconds(), []
    for number in numbers:
        name = f"thalweg/post/{key}/{number}"
        while not store.check([name]):
            if gives_up():
                deadline, gives_up = min(deadline, time.monotonic() + _SECONDS_FOR_WORD), lambda: False
            if time.monotonic() > deadline:
                raise RankError(
                    f"Process {number} of {dist.get_world_size()} does not answer, so this one cannot go on."
                )
            time.sleep(0.01)
        values.append(json.loads(store.get(name)))
        store.delete_key(name)
    return values


def require_alike(values: dict[str, Any]) -> None:
    """Raise an InputError unless all processes have the same `values`, of JSON; it names who differs, and in what."""
    if not is_active():
        return
    everyone = gather(values)
    for name, expected in everyone[0].items():
        others = [number for number, one in enumerate(everyone) if one.get(name) != expected]
        if others:
            found = everyone[others[0]].get(name)
            raise InputError(
                f"All {len(everyone)} processes must have the same {name}; process 0 has {shown(expected)}, process "
                f"{others[0]} {shown(found)}. Start them with the same command on the same files and versions."
            )


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what a backend says of a message that did not arrive into a sentence that names who is missing."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        missing = _missing()
        who = f"process {missing[0]}" if len(missing) == 1 else f"processes {', '.join(map(str, missing))}"
        reason = "does not answer" if "imed out" in str(error) else "has ended"
        raise RankError(
            f"{who[0].upper()}{who[1:]} of {world_size()} {reason}, so this one cannot go on."
            if missing
            else f"The connection to the other processes has broken ({' '.join(str(error).split())[:200]})."
        ) from None


def _missing() -> list[int]:
    """Return the processes that do not wait for others, as all wait where one has hung or ended."""
    missing = [0]  # which holds the place where all write that they wait
    with contextlib.suppress(Exception):
        store = dist.distributed_c10d._get_default_store()
        store.set(f"thalweg/waits/{rank()}", "")
        deadline = time.monotonic() + _SECONDS_FOR_WORD
        while time.monotonic() < deadline:
            time.sleep(0.1)
            missing = [one for one in range(world_size()) if not store.check([f"thalweg/waits/{one}"])]
    return missing


def _sent(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which a tensor travels: no backend sends truth values."""
    return torch.uint8 if dtype == torch.bool else dtype
