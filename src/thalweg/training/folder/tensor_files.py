"""Files of tensors: whole ones, and shards, each with the rows that one of several processes had."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from thalweg import sharded
from thalweg.errors import InputError, shown
from thalweg.storage.ledger import Ledger

SHARD: Final = "shard-{:05d}-of-{:05d}.safetensors"
_SHARD: Final = re.compile("shard-([0-9]{5,})-of-([0-9]{5,})[.]safetensors")
_KEPT: Final = {  # the types of tensors that a run writes; of others torch can do little more than hold them
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
_MAX_HEADER: Final = 2**23  # of a safetensors file: 300,000 tensors of nothing took 7 s


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as the content of a safetensors file."""
    return safetensors.torch.save(
        {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raise an InputError if it is missing or damaged."""
    try:
        with open(path, "rb") as file:
            if int.from_bytes(file.read(8), "little") > _MAX_HEADER:
                raise ValueError("its table of contents is longer than that of any run")
        tensors = safetensors.torch.load_file(path)
        for name, tensor in tensors.items():
            if tensor.dtype not in _KEPT:
                raise ValueError(f"{shown(name)} is of the type {str(tensor.dtype).removeprefix('torch.')}")
        return tensors
    except FileNotFoundError:
        raise InputError(f"{path} is missing; expected the weights of a run there.") from None
    except (SafetensorError, OSError, ValueError, AttributeError) as error:  # a type that torch lacks is the last one
        raise InputError(f"{path} is damaged ({error}); restore the file or train the run again.") from None


def is_shard(name: str) -> bool:
    """Whether a file is one of the shards of a checkpoint."""
    return _SHARD.fullmatch(name) is not None


def read_shards(ledger: Ledger, names: Iterable[str], like: Tensor | None) -> dict[str, Tensor]:
    """Return the divided tensors of a checkpoint: all rows, or those that this process is to have of one `like` it.

    Each shard is compared with its sum before it is read. An InputError names one that is missing or damaged; a
    ValueError tells that they do not belong together.
    """
    wanted, found = sorted(names), sorted(filter(is_shard, ledger.sums))
    if not wanted:
        return {}
    if found != [SHARD.format(number + 1, len(found)) for number in range(len(found))] or not found:
        raise ValueError(f"its shards are {', '.join(found) or 'missing'}")
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_opened(ledger.path(name))) for name in found]
        return {name: _joined([file.get_slice(name) for file in files], like) for name in wanted}


def _joined(parts: list[Any], like: Tensor | None) -> Tensor:
    """Return the rows of a tensor from the parts of its shards, those that are wanted; nothing else is read."""
    counts = [part.get_shape()[0] for part in parts]
    shape = [sum(counts), *parts[0].get_shape()[1:]]
    first, end = (0, shape[0]) if like is None else sharded.share_of(shape[0], like)
    rows, start = [], 0
    for part, count in zip(parts, counts, strict=True):
        begin, stop = max(first, start), min(end, start + count)
        if begin < stop:
            rows.append(part[begin - start : stop - start])
        start += count
    whole = torch.cat(rows) if rows else parts[0][:0]
    if whole.dtype not in _KEPT:
        raise ValueError(f"a tensor is of the type {str(whole.dtype).removeprefix('torch.')}")
    return whole if like is None else sharded.of_rows(whole, torch.Size(shape), like)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file of tensors of which parts are read; raise an InputError if it is damaged."""
    try:
        with open(path, "rb") as file:
            if int.from_bytes(file.read(8), "little") > _MAX_HEADER:
                raise ValueError("its table of contents is longer than that of any run")
        with safe_open(path, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}); restore the file or train the run again.") from None
