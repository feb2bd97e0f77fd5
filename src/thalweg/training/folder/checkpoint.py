"""Checkpoints: saved as a whole or not at all, verified before use, without pickle.

A checkpoint is a folder `step-00001200` with `state.safetensors` (every tensor), `state.json` (everything else, with
references to the tensors), second names of files elsewhere that belong to it, and its ledger. It is written under a
temporary name, each file and the folder synced to disk, and renamed; so after a crash at any moment a folder with the
right name is whole.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from thalweg.errors import InputError, is_out_of_memory, shown
from thalweg.storage.files import Sum, leftovers, make_folder, remove, remove_folder, sync_folder, temporary_name
from thalweg.storage.forms import anything, parse_json, record, text, whole
from thalweg.storage.ledger import MANIFEST, Ledger

CHECKPOINTS: Final = "checkpoints"  # the folder of a run's
TENSORS: Final = "state.safetensors"
TREE: Final = "state.json"
_NAME: Final = re.compile("step-[0-9]{8,}")


_KEPT: Final = {  # the types of tensors that a run writes; of others torch can do little more than hold them
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
_MAX_HEADER: Final = 2**23  # of a safetensors file: 300,000 tensors of nothing took 7 s
_DTYPES: Final = {str(one).removeprefix("torch."): one for one in vars(torch).values() if isinstance(one, torch.dtype)}


def pack(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split a tree of dictionaries, lists, tuples, tensors and plain values into JSON and named tensors, exactly.

    The tree is as `state_dict()` gives it; its keys may be strings or whole numbers. Tensors that share memory are
    stored once each, as copies. A value that is none of these is a TypeError, which names its place in the tree.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(tree, "state", tensors), tensors


def _packed(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON; its tensors go to `tensors`."""
    # A function inside `pack` would hold itself and with it all tensors, until the garbage collector comes, which may
    # be never: a stream's memory grew by its table with each save.
    if isinstance(value, Tensor):
        tensors[place] = value.detach().to("cpu", copy=True).contiguous()
        return {"!": "tensor", "name": place}
    if isinstance(value, Mapping):
        items = [
            [_packed(key, f"{place}.key", tensors), _packed(entry, f"{place}.{key}", tensors)]
            for key, entry in value.items()
        ]
        return {"!": "dict", "items": items}
    if isinstance(value, tuple):
        return {"!": "tuple", "items": [_packed(entry, f"{place}.{i}", tensors) for i, entry in enumerate(value)]}
    if isinstance(value, list):
        return [_packed(entry, f"{place}.{i}", tensors) for i, entry in enumerate(value)]
    if isinstance(value, float):
        return {"!": "float", "hex": value.hex()}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, torch.dtype):
        return {"!": "dtype", "name": str(value).removeprefix("torch.")}
    raise TypeError(f"A checkpoint holds tensors and plain values only; got {type(value).__name__} at {place!r}.")


def unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Put together what `pack` split."""
    if isinstance(tree, list):
        return [unpack(entry, tensors) for entry in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree["!"]
    if kind == "tensor":
        return tensors[tree["name"]]
    if kind == "dict":
        return {unpack(key, tensors): unpack(entry, tensors) for key, entry in tree["items"]}
    if kind == "tuple":
        return tuple(unpack(entry, tensors) for entry in tree["items"])
    if kind == "dtype":
        return _DTYPES[tree["name"]]
    if kind == "float":
        return float.fromhex(tree["hex"])
    raise ValueError(f"there is no kind {kind!r:.40}")


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


def save(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    keep: int = 2,
    *,
    about: Mapping[str, Any] | None = None,
    links: Mapping[str, tuple[Path, Sum]] | None = None,
) -> Path:
    """Save a checkpoint, named after the number of steps taken, under `folder`; return its own folder.

    Then all but the `keep` >= 1 newest are removed.

    Args:
        folder: where the checkpoints are.
        step: how many steps were taken.
        state: tensors and plain values (see `pack`).
        keep: how many checkpoints are there afterwards, at most.
        about: plain values that can be read alone.
        links: files elsewhere that belong to it, by their names in it, with their sums (see `Ledger.create`).
    """
    make_folder(folder)
    final = folder / f"step-{step:08d}"
    _clear(folder)
    temporary = temporary_name(final)
    temporary.mkdir()
    try:
        tree, tensors = pack(state)
        files = {TENSORS: safetensors.torch.save(tensors), TREE: json.dumps(tree).encode()}
        Ledger.create(temporary, files, {**(about or {}), "step": step}, links)
        remove_folder(final)  # the same step again (after going back): the older one makes room
        os.rename(temporary, final)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    prune(folder, keep)
    return final


def prune(folder: Path, keep: int = 2) -> None:
    """Remove all but the newest checkpoints under a folder, and what killed processes have left unfinished there."""
    _clear(folder)
    for old in steps(folder)[:-keep]:
        remove_folder(old)


def _clear(folder: Path) -> None:
    for leftover in leftovers(folder):
        with contextlib.suppress(OSError):
            remove(leftover)


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint under `folder`, or None when there is none."""
    found = steps(folder)
    return found[-1] if found else None


def ledger_of(checkpoint: Path) -> Ledger:
    """Return the ledger of a checkpoint; an InputError tells of damage, and names an older one that is whole."""
    return Ledger(checkpoint, remedy=lambda: f"it is not used; {_instead_of(checkpoint)}")


def _instead_of(checkpoint: Path) -> str:
    """Return what to do about a checkpoint that is damaged."""
    older = [path for path in steps(checkpoint.parent) if path.name < checkpoint.name and _is_whole(path)]
    if not older:
        return "start again with --overwrite"
    if checkpoint.parent.name == CHECKPOINTS:
        return f"give --resume-from {older[-1]} to go on from there"
    return f"remove {checkpoint} to go on from {older[-1].name}"  # a stream's model, which has nothing but checkpoints


def _is_whole(checkpoint: Path) -> bool:
    try:
        Ledger(checkpoint).verify()
    except InputError:
        return False
    return True


def load(checkpoint: Path) -> dict[str, Any]:
    """Verify a checkpoint against its ledger and read it.

    An InputError names a file that is missing, cut short or changed, and an older checkpoint if there is one.
    """
    ledger = ledger_of(checkpoint)
    ledger.verify(ledger.sums.keys() - {TENSORS, TREE})  # these two are compared when they are read
    # A copy has memory that is aligned as PyTorch's own. Tensors that point into the file may not be, and a matrix
    # library's sums depend on it in the last bits, so the resumed run would not match bit for bit.
    tensors = {name: tensor.clone() for name, tensor in load_tensors(ledger.path(TENSORS)).items()}
    with sound(checkpoint / TREE):
        state = unpack(parse_json(ledger.read(TREE), anything()), tensors)
        if not isinstance(state, dict):
            raise ValueError("it holds no state by name")
        return state


@contextlib.contextmanager
def sound(path: Path) -> Iterator[None]:
    """Tell of a file that does not hold what was saved there, whatever is wrong with it; `path` is in a checkpoint."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if (
            isinstance(error, InputError)
            or is_out_of_memory(error)
            or (isinstance(error, RuntimeError) and type(error) not in (RuntimeError, RecursionError))
        ):
            raise  # an error that says itself what it is, such as one of second derivatives or of no memory
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = ledger_of(path.parent).remedy
        raise InputError(
            f"{path} is damaged, or from another model or optimizer ({type(error).__name__}: {reason}); {remedy}."
        ) from None


_HISTORY_OF: Final = record(num_bytes=whole(0), sha256=text())


def history_of(checkpoint: Path) -> Sum:
    """Return the sum of what a run's history held when a checkpoint was written; an InputError tells of damage."""
    with sound(checkpoint / MANIFEST):
        known = _HISTORY_OF(ledger_of(checkpoint).about.get("history"), "about.history")
    return Sum(known["num_bytes"], known["sha256"])


def steps(folder: Path) -> list[Path]:
    """Return the checkpoints under a folder, the oldest first; what has another name, such as a copy, is none."""
    found = (path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir())
    return sorted(found, key=lambda path: int(path.name[5:]))
