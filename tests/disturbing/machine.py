"""What a disk may hold after the machine has crashed: only what was synchronized is there for sure.

The written-down operations of a process are done again in memory, on files and folders that have two states: what a
program sees, and what is on the disk. A file's bytes are there for sure once it was synchronized, a name once its
folder was. Of the rest anything may be there that file systems leave: the first of the operations on names, all of them
or those of some folders only; and of bytes all, half, zeros or none.
"""

import random
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from disturbing.operations import Operation

NONE, ALL, PREFIX, BY_FOLDER = "none", "all", "prefix", "by folder"
SURVIVAL = (NONE, ALL, PREFIX, BY_FOLDER)


@final
@dataclass(eq=False)
class File:
    """A file: what a program sees, and what was synchronized last."""

    seen: bytes = b""
    kept: bytes = b""


@final
@dataclass(eq=False)
class Folder:
    """A folder: the names that a program sees, and those that are on the disk."""

    seen: dict[str, "File | Folder"] = field(default_factory=dict)
    kept: dict[str, "File | Folder"] = field(default_factory=dict)


Change = tuple[Folder, str, "File | Folder | None"]  # a name in a folder, and what it names from then on


@final
class Disk:
    """A folder's files as they are now, all of them on the disk for sure."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = _read(folder) if folder.is_dir() else Folder()
        self._pending: list[list[Change]] = []  # operations on names that are not on the disk for sure

    def follow(self, operations: Iterable[Operation]) -> None:
        """Do operations that a process has done."""
        for one in operations:
            getattr(self, f"_{one.name}")(one)

    def differs(self) -> list[str]:
        """Return the places where the folder is not as the operations would have left it; they should be none."""
        found, expected = contents(self._folder), dict(_listed(self._root, "", "seen"))
        return sorted({name for name, _ in found.items() ^ expected.items()})

    def crash(self, generator: random.Random, survival: str) -> None:
        """Leave the folder as the machine's crash may; from then on that is what is on the disk."""
        for changes in self._survivors(generator, survival):
            _apply(changes, "kept")
        self._pending.clear()
        _settle(self._root, generator, survival)
        shutil.rmtree(self._folder, ignore_errors=True)
        _write(self._root, self._folder)

    def _survivors(self, generator: random.Random, survival: str) -> list[list[Change]]:
        if survival == NONE:
            return []
        if survival == ALL:
            return self._pending
        if survival == PREFIX:
            return self._pending[: generator.randint(0, len(self._pending))]
        survivors, closed = [], set[int]()
        for changes in self._pending:
            folders = {id(folder) for folder, _, _ in changes}
            if folders & closed or generator.random() < 0.2:
                closed |= folders
            else:
                survivors.append(changes)
        return survivors

    def _at(self, place: str) -> tuple[Folder, str]:
        folder = self._root
        *parents, name = Path(place).parts
        for parent in parents:
            inner = folder.seen[parent]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name

    def _find(self, place: str) -> "File | Folder | None":
        if place == ".":
            return self._root
        folder, name = self._at(place)
        return folder.seen.get(name)

    def _change(self, *changes: Change) -> None:
        _apply(list(changes), "seen")
        self._pending.append(list(changes))

    def _create(self, one: Operation) -> None:
        folder, name = self._at(one.paths[0])
        known = folder.seen.get(name)
        if isinstance(known, File):
            known.seen = b""
        else:
            self._change((folder, name, File()))

    def _write(self, one: Operation) -> None:
        if one.paths[0].endswith(" (deleted)"):
            return
        file = self._find(one.paths[0])
        assert isinstance(file, File), one.paths
        before = file.seen.ljust(one.offset, b"\0")
        file.seen = before[: one.offset] + one.data + before[one.offset + len(one.data) :]

    def _truncate(self, one: Operation) -> None:
        file = self._find(one.paths[0])
        assert isinstance(file, File), one.paths
        file.seen = file.seen[: one.offset].ljust(one.offset, b"\0")

    def _fsync(self, one: Operation) -> None:
        found = self._find(one.paths[0])
        if isinstance(found, File):
            found.kept = found.seen
        elif found is not None:
            sure = [changes for changes in self._pending if any(folder is found for folder, _, _ in changes)]
            for changes in sure:
                _apply(changes, "kept")
            self._pending = [changes for changes in self._pending if changes not in sure]

    def _mkdir(self, one: Operation) -> None:
        if one.paths[0] == ".":
            return  # the root itself is there
        folder, name = self._at(one.paths[0])
        self._change((folder, name, Folder()))

    def _unlink(self, one: Operation) -> None:
        folder, name = self._at(one.paths[0])
        self._change((folder, name, None))

    _rmdir = _unlink

    def _rename(self, one: Operation) -> None:
        (old, old_name), (new, new_name) = map(self._at, one.paths)
        self._change((old, old_name, None), (new, new_name, old.seen[old_name]))

    def _link(self, one: Operation) -> None:
        (old, old_name), (new, new_name) = map(self._at, one.paths)
        self._change((new, new_name, old.seen[old_name]))

    def _ignore(self, one: Operation) -> None:
        """Locks, modes and times are not what a crash is about."""

    _lock = _chmod = _utime = _ignore


def _apply(changes: list[Change], state: str) -> None:
    for folder, name, inner in changes:
        names = getattr(folder, state)
        names.pop(name, None)
        if inner is not None:
            names[name] = inner


def _settle(folder: Folder, generator: random.Random, survival: str) -> None:
    """Make what is on the disk what a program sees, with each file's bytes as the crash left them."""
    folder.seen = dict(folder.kept)
    for inner in folder.seen.values():
        if isinstance(inner, Folder):
            _settle(inner, generator, survival)
        elif inner.seen != inner.kept:
            inner.seen = inner.kept = inner.kept if survival == NONE else _left(inner, generator)


def _left(file: File, generator: random.Random) -> bytes:
    """Return what may be left of bytes that were not synchronized."""
    pairs = zip(file.seen, file.kept, strict=False)
    same = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(file.seen), len(file.kept)))
    more = len(file.seen) - same
    half = file.seen[: same + more // 2]
    return generator.choice([file.seen, file.kept, half, half.ljust(len(file.seen), b"\0"), file.seen[:same]])


def _read(path: Path) -> Folder:
    inner = {one.name: _read(one) if one.is_dir() else File(*(one.read_bytes(),) * 2) for one in path.iterdir()}
    return Folder(dict(inner), dict(inner))


def _write(folder: Folder, path: Path) -> None:
    path.mkdir()
    for name, inner in folder.seen.items():
        if isinstance(inner, Folder):
            _write(inner, path / name)
        else:
            (path / name).write_bytes(inner.seen)


def _listed(folder: Folder, place: str, state: str) -> Iterable[tuple[str, bytes | None]]:
    for name, inner in getattr(folder, state).items():
        if isinstance(inner, Folder):
            yield f"{place}{name}/", None
            yield from _listed(inner, f"{place}{name}/", state)
        else:
            yield f"{place}{name}", getattr(inner, state)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return the bytes of every file below a folder, and None for every folder below it."""
    if not folder.is_dir():
        return {}
    paths = sorted(folder.rglob("*"))
    return {
        f"{path.relative_to(folder)}{'/' if path.is_dir() else ''}": None if path.is_dir() else path.read_bytes()
        for path in paths
    }
