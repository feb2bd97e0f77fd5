"""Checkpoints: saved as a whole or not at all, verified before use, without pickle.

A checkpoint is a folder `step-00001200` with `state.safetensors` (every tensor), `state.json` (everything else, with
references to the tensors) and `manifest.json` (sizes and SHA-256 sums). It is written under a temporary name, each
file and the folder synced to disk, and renamed; so after a crash at any moment a folder with the right name is whole.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from thalweg.errors import InputError

FORMAT = 1
MANIFEST = "manifest.json"


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
        return getattr(torch, tree["name"])
    return float.fromhex(tree["hex"])


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file so that it is there as a whole or as it was before."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, as a whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}, temporary)
    _sync_file(temporary)
    os.replace(temporary, path)
    _sync_folder(path.parent)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raise an InputError if it is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; expected the weights of a run there.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); restore the file or train the run again.") from None


def save(folder: Path, step: int, state: Mapping[str, Any], keep: int = 2) -> Path:
    """Save a checkpoint, named after the number of steps taken, under `folder`; return its own folder.

    Then all but the `keep` >= 1 newest are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:08d}"
    temporary = folder / f".tmp-{final.name}"
    for leftover in (temporary, *folder.glob(".tmp-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    tree, tensors = pack(state)
    save_file(tensors, temporary / "state.safetensors")
    (temporary / "state.json").write_text(json.dumps(tree), encoding="utf-8")
    sums = {name: _checksum(temporary / name) for name in ("state.safetensors", "state.json")}
    manifest = {"format": FORMAT, "step": step, "files": sums}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for file in temporary.iterdir():
        _sync_file(file)
    _sync_folder(temporary)
    if final.exists():  # the same step again (after going back): the older one makes room
        shutil.rmtree(final)
    os.rename(temporary, final)
    _sync_folder(folder)
    for old in _steps(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest(folder: Path) -> Path | None:
    """Return the newest checkpoint under `folder`, or None when there is none."""
    steps = _steps(folder)
    return steps[-1] if steps else None


def load(checkpoint: Path) -> dict[str, Any]:
    """Verify a checkpoint against its manifest and read it.

    An InputError names a file that is missing, cut short or changed, and an older checkpoint if there is one.
    """
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(_damaged(checkpoint, MANIFEST, "missing or unreadable")) from None
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{checkpoint / MANIFEST} has format {manifest.get('format')!r}; this version reads {FORMAT}. "
            "Use the version of thalweg that wrote it, or start again with --overwrite."
        )
    for name in ("state.safetensors", "state.json"):
        path = checkpoint / name
        if not path.is_file() or name not in files:
            raise InputError(_damaged(checkpoint, name, "missing"))
        if path.stat().st_size != files[name]["bytes"]:
            raise InputError(
                _damaged(checkpoint, name, f"{path.stat().st_size} bytes long instead of {files[name]['bytes']}")
            )
        if _checksum(path) != files[name]:
            raise InputError(_damaged(checkpoint, name, "changed (its checksum differs)"))
    tree = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    # A copy has memory that is aligned as PyTorch's own. Tensors that point into the file may not be, and a matrix
    # library's sums depend on it in the last bits, so the resumed run would not match bit for bit.
    tensors = {name: tensor.clone() for name, tensor in load_tensors(checkpoint / "state.safetensors").items()}
    return unpack(tree, tensors)


def _damaged(checkpoint: Path, name: str, how: str) -> str:
    older = [path for path in _steps(checkpoint.parent) if path.name < checkpoint.name]
    way_out = f"remove {checkpoint} to resume from {older[-1].name}" if older else "start again with --overwrite"
    return f"The checkpoint file {checkpoint / name} is {how}, so it is not used; {way_out}."


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir()) if folder.is_dir() else []


def checksum(path: Path) -> str:
    """Return the SHA-256 sum of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": checksum(path)}


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
