"""Checkpoints: saved as a whole or not at all, verified before use, without pickle.

A checkpoint is a folder `step-00001200` with `state.safetensors` (every tensor), `state.json` (everything else, with
references to the tensors), second names of files elsewhere that belong to it, and its ledger. Of tensors that are
divided among processes each process writes its rows, to `shard-00002-of-00004.safetensors`; any number of processes can
read them. It is written under a temporary name, each file and the folder synced to disk, and renamed; so after a crash
at any moment a folder with the right name is whole.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, final

import safetensors.torch
import torch
from torch import Tensor

from thalweg import distributed, sharded
from thalweg.errors import RankError, shown
from thalweg.storage.files import (
    Sum,
    leftovers,
    make_folder,
    remove,
    remove_folder,
    sum_of,
    sync_folder,
    temporary_name,
    write_new,
)
from thalweg.storage.forms import anything, parse_json
from thalweg.storage.ledger import Ledger
from thalweg.training.folder.tensor_files import SHARD, is_shard, load_tensors, read_shards
from thalweg.training.integrity.checkpoint_names import ledger_of, sound, steps

TENSORS: Final = "state.safetensors"
TREE: Final = "state.json"
_DTYPES: Final = {str(one).removeprefix("torch."): one for one in vars(torch).values() if isinstance(one, torch.dtype)}


def pack(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split a tree of dictionaries, lists, tuples, tensors and plain values into JSON and named tensors, exactly.

    The tree is as `state_dict()` gives it; its keys may be strings or whole numbers. Tensors that share memory are
    stored once each, as copies. A value that is none of these is a TypeError, which names its place in the tree. Of a
    tensor that is divided among processes the rows of this one are returned, and JSON has the shape of all of them.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(tree, "state", tensors), tensors


def _packed(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON; its tensors go to `tensors`."""
    # A function inside `pack` would hold itself and with it all tensors, until the garbage collector comes, which may
    # be never: a stream's memory grew by its table with each save.
    if isinstance(value, Tensor):
        tensors[place] = sharded.own(value).detach().to("cpu", copy=True).contiguous()
        about = {"shape": list(value.shape)} if sharded.is_divided(value) else {}
        return {"!": "tensor", "name": place, **about}
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
    """Put together what `pack` split; of divided tensors `tensors` has all rows."""
    if isinstance(tree, list):
        return [unpack(entry, tensors) for entry in tree]
    if not isinstance(tree, dict):
        return tree
    kind = tree["!"]
    if kind == "tensor":
        tensor = tensors[tree["name"]]
        if "shape" in tree and [*tensor.shape] != tree["shape"]:
            raise ValueError(f"the shards have other rows of {shown(tree['name'])} than it needs")
        return tensor
    if kind == "dict":
        return {unpack(key, tensors): unpack(entry, tensors) for key, entry in tree["items"]}
    if kind == "tuple":
        return tuple(unpack(entry, tensors) for entry in tree["items"])
    if kind == "dtype":
        return _DTYPES[tree["name"]]
    if kind == "float":
        return float.fromhex(tree["hex"])
    raise ValueError(f"there is no kind {kind!r:.40}")


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
    saving = Saving(folder, step, state)
    saving.begin()
    return saving.write(keep, about=about, links=links)


@final
class Saving:
    """A checkpoint that is saved: `begin` makes its folder, and `write`, of each process, its part of it.

    What `state` holds is copied at once, so that training may go on while it is written. Arguments as for `save`; where
    tensors are divided among processes, all of them make one and write.
    """

    def __init__(self, folder: Path, step: int, state: Mapping[str, Any]) -> None:
        self._folder, self._step = folder, step
        self._number, self._num = distributed.rank(), distributed.world_size()
        self._tree, tensors = pack(state)
        self._shards = _divided(self._tree)
        self._pieces = {name: tensor for name, tensor in tensors.items() if name in self._shards}
        self._tensors = {name: tensor for name, tensor in tensors.items() if name not in self._shards}
        self._temporary: Path | None = None
        self.gives_up: Callable[[], bool] = lambda: False  # whether the others may be gone, who write a part

    @property
    def is_shared(self) -> bool:
        """Whether every process has to write a part of it."""
        return bool(self._shards)

    def begin(self) -> str:
        """Make its folder, under a temporary name; return that name, which other processes take with `join`."""
        make_folder(self._folder)
        _clear(self._folder)
        self.join(temporary_name(self._folder / f"step-{self._step:08d}").name)
        assert self._temporary is not None
        self._temporary.mkdir()
        return self._temporary.name

    def join(self, name: str) -> None:
        """Take the folder that the first process has made."""
        self._temporary = self._folder / name

    def write(
        self,
        keep: int = 2,
        *,
        about: Mapping[str, Any] | None = None,
        links: Mapping[str, tuple[Path, Sum]] | None = None,
    ) -> Path:
        """Write it, give it its name, and remove all but the newest; the first process does it, or the only one."""
        assert self._temporary is not None
        final = self._folder / f"step-{self._step:08d}"
        try:
            files = {TENSORS: safetensors.torch.save(self._tensors), TREE: json.dumps(self._tree).encode()}
            noted = self._write_shards() if self.is_shared else {}
            about = {**(about or {}), "step": self._step, **({"shards": len(noted)} if noted else {})}
            Ledger.create(self._temporary, files, about, links, noted)
            remove_folder(final)  # the same step again (after going back): the older one makes room
            os.rename(self._temporary, final)
            sync_folder(self._folder)
        except BaseException:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        prune(self._folder, keep)
        return final

    def write_part(self) -> None:
        """Write the rows that this process has; the first one is told of whatever goes wrong."""
        assert self._temporary is not None
        try:
            name, found = self._write_own()
        except OSError as error:
            self._post({"error": [error.errno, error.strerror, str(error.filename or "")]})
        except BaseException as error:
            self._post({"error": [None, f"{type(error).__name__}: {error}", ""]})
            raise
        else:
            self._post({"name": name, "sum": [found.num_bytes, found.sha256]})

    def _post(self, answer: dict[str, Any]) -> None:
        assert self._temporary is not None
        distributed.post(self._temporary.name, self._number, answer)

    def _write_shards(self) -> dict[str, Sum]:
        """Write this process's rows, and return the sums of everybody's."""
        assert self._temporary is not None
        sums = dict([self._write_own()])
        for answer in distributed.posted(self._temporary.name, range(1, self._num), self.gives_up):
            match answer.get("error"):
                case [int(number), what, name]:
                    raise OSError(number, what, name) if name else OSError(number, what)
                case [_, what, _]:
                    raise RankError(f"A process could not write its part of a checkpoint ({what}).")
            sums[answer["name"]] = Sum(*answer["sum"])
        return sums

    def _write_own(self) -> tuple[str, Sum]:
        assert self._temporary is not None
        name = SHARD.format(self._number + 1, self._num)
        data = safetensors.torch.save(self._pieces)
        write_new(self._temporary / name, data)
        return name, sum_of(data)


def _divided(tree: Any) -> frozenset[str]:
    """Return the names of the divided tensors in a tree that `pack` has made."""
    if isinstance(tree, dict) and "shape" in tree:
        return frozenset([tree["name"]])
    parts = tree if isinstance(tree, list) else tree.get("items", ()) if isinstance(tree, dict) else ()
    return frozenset().union(*map(_divided, parts))


def load(checkpoint: Path, *, like: Tensor | None = None) -> dict[str, Any]:
    """Verify a checkpoint against its ledger and read it.

    Tensors that were divided are read as a whole, whatever the number of processes was; or, with a divided tensor
    `like`, those rows of them that this process is to have, divided in the same way.

    An InputError names a file that is missing, cut short or changed, and an older checkpoint if there is one.
    """
    ledger = ledger_of(checkpoint)
    ledger.verify(name for name in ledger.sums if name not in (TENSORS, TREE) and not is_shard(name))
    # A copy has memory that is aligned as PyTorch's own. Tensors that point into the file may not be, and a matrix
    # library's sums depend on it in the last bits, so the resumed run would not match bit for bit.
    tensors = {name: tensor.clone() for name, tensor in load_tensors(ledger.path(TENSORS)).items()}
    with sound(checkpoint / TREE):
        tree = parse_json(ledger.read(TREE), anything())
        tensors |= read_shards(ledger, _divided(tree), like)
        state = unpack(tree, tensors)
        if not isinstance(state, dict):
            raise ValueError("it holds no state by name")
        return state


def prune(folder: Path, keep: int = 2) -> None:
    """Remove all but the newest checkpoints under a folder, and what killed processes have left unfinished there."""
    _clear(folder)
    for old in steps(folder)[:-keep]:
        remove_folder(old)


def _clear(folder: Path) -> None:
    for leftover in leftovers(folder):
        with contextlib.suppress(OSError):
            remove(leftover)
