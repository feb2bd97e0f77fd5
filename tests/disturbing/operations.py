"""A process's file operations under one folder: counted, written down, and made to fail or to be the last.

They are taken hold of where Python makes them: `open`, `os`, and safetensors' own writing. Nothing is synchronized with
the disk, so that many small runs are quick; what would have been is written down.
"""

import builtins
import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import safetensors.numpy
import safetensors.torch

BEFORE, MIDDLE, AFTER = "before", "middle", "after"


@final
@dataclass(frozen=True)
class Fault:
    """What goes wrong in a process.

    Args:
        at: the file operation, counted from 0, at which the process is killed; None: none.
        moment: whether that is before it, after it, or in the middle of what it writes.
        full_after: bytes after which the disk is full; None: never.
        read_only: whether the folder cannot be written to.
        clock: seconds by which the clock of the wall is off.
        threads: of torch.
    """

    at: int | None = None
    moment: str = BEFORE
    full_after: int | None = None
    read_only: bool = False
    clock: float = 0.0
    threads: int = 1


class Operation(NamedTuple):
    """An operation that was done: its name, the paths below the folder, what it wrote and where."""

    name: str
    paths: tuple[str, ...]
    offset: int = 0
    data: bytes = b""


@final
class Operations:
    """The file operations of this process under a folder; `install` cannot be taken back, so it is for a child.

    Args:
        folder: whose operations count; those elsewhere are left alone.
        fault: what goes wrong.
        log: the file that the operations are appended to, outside the folder.
    """

    def __init__(self, folder: Path, fault: Fault, log: Path) -> None:
        self._root = os.path.realpath(folder)
        self._fault, self._num_done, self._num_written = fault, 0, 0
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._write, self._open, self._kill = os.write, os.open, os.kill

    def install(self) -> None:
        """Take hold of every way to write."""
        for name in ("unlink", "remove", "rmdir", "mkdir", "chmod", "utime"):
            self._wrap(name, num_paths=1)
        for name in ("rename", "replace", "link", "symlink"):
            self._wrap(name, num_paths=2)
        shutil._use_fd_functions = False  # as paths, they are told apart
        shutil._USE_CP_SENDFILE = False
        os.open, os.write = self._os_open, self._os_write
        os.fsync = os.fdatasync = self._synchronize
        os.truncate, os.ftruncate = self._os_truncate, self._os_truncate
        builtins.open = io.open = self._opened
        flock, lockf = fcntl.flock, fcntl.lockf
        fcntl.flock = lambda file, *more: self._locked(flock, file, *more)
        fcntl.lockf = lambda file, *more: self._locked(lockf, file, *more)
        for library in (safetensors.torch, safetensors.numpy):
            library.serialize_file = partial(self._safetensors, library.serialize_file)
        if self._fault.clock:
            now, now_ns, off = time.time, time.time_ns, self._fault.clock
            time.time, time.time_ns = lambda: now() + off, lambda: now_ns() + int(off * 1e9)

    def place(self, path: Any, folder: int | None = None) -> str | None:
        """Return the path below the folder, or None where it is elsewhere; a file may be given by its number."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        path = os.fsdecode(path)
        if folder is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        path = os.path.abspath(path)
        inside = path == self._root or path.startswith(self._root + os.sep)
        return os.path.relpath(path, self._root) if inside else None

    def _do(self, done: Operation, act: Callable[[], Any]) -> Any:
        """Do an operation, unless it is the last; write it down."""
        fault, number = self._fault, self._num_done
        if number == fault.at and fault.moment == BEFORE:
            self._die()
        if fault.read_only and done.name not in ("fsync", "lock"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.path.join(self._root, done.paths[0]))
        result = act()
        self._num_done += 1  # what fails has done nothing
        head = {"name": done.name, "paths": done.paths, "offset": done.offset, "size": len(done.data)}
        self._write(self._log, json.dumps(head).encode() + b"\n" + done.data)
        if number == fault.at:  # the middle of what has none is its end
            self._die()
        return result

    def _die(self) -> None:
        self._kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def _wrap(self, name: str, num_paths: int) -> None:
        real = getattr(os, name)

        def wrapped(*given: Any, **named: Any) -> Any:
            folders = [named.get("dir_fd")] if num_paths == 1 else [named.get("src_dir_fd"), named.get("dst_dir_fd")]
            paths = [self.place(path, folder) for path, folder in zip(given[:num_paths], folders, strict=True)]
            if all(path is None for path in paths):
                return real(*given, **named)
            return self._do(
                Operation({"remove": "unlink", "replace": "rename"}.get(name, name), tuple(p or "" for p in paths)),
                lambda: real(*given, **named),
            )

        setattr(os, name, wrapped)

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        real = self._open
        place = self.place(path, dir_fd)
        if place is None or not flags & (os.O_CREAT | os.O_TRUNC):
            return real(path, flags, mode, dir_fd=dir_fd)
        is_new = not os.path.lexists(os.path.join(self._root, place))
        if not is_new and not flags & os.O_TRUNC:
            return real(path, flags, mode, dir_fd=dir_fd)
        return self._do(Operation("create", (place,)), lambda: real(path, flags, mode, dir_fd=dir_fd))

    def _os_write(self, file: int, data: Any) -> int:
        return self.write(file, data, lambda part: self._write(file, part))

    def write(self, file: int, data: Any, act: Callable[[Any], int]) -> int:
        """Write what the disk has room for; a process that is killed meanwhile has written half."""
        is_regular = stat.S_ISREG(os.fstat(file).st_mode)
        place = self.place(file) if is_regular else None
        if place is None:
            return act(data)
        data = bytes(memoryview(data).cast("B"))
        fault = self._fault
        if fault.full_after is not None and data:
            room = max(0, fault.full_after - self._num_written)
            if room == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[:room]
        if fault.moment == MIDDLE and self._num_done == fault.at:
            data = data[: len(data) // 2]
        is_end = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_APPEND
        offset = os.fstat(file).st_size if is_end else os.lseek(file, 0, os.SEEK_CUR)
        written = self._do(Operation("write", (place,), offset, data), lambda: act(data))
        self._num_written += written
        return written

    def _synchronize(self, file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        os.fstat(number)
        place = self.place(number)
        if place is not None:
            self._do(Operation("fsync", (place,)), lambda: None)

    def _os_truncate(self, file: Any, length: int) -> None:
        place = self.place(file)

        def act() -> None:
            if isinstance(file, int):
                return self._truncate_open(file, length)
            with self._opened(file, "rb+", buffering=0) as opened:
                return self._truncate_open(opened.fileno(), length)

        return act() if place is None else self._do(Operation("truncate", (place,), length), act)

    _truncate_open = staticmethod(os.ftruncate)

    def _locked(self, real: Callable[..., Any], file: Any, *more: Any) -> Any:
        place = self.place(file if isinstance(file, int) else file.fileno())
        return real(file, *more) if place is None else self._do(Operation("lock", (place,)), lambda: real(file, *more))

    def _safetensors(self, real: Callable[..., Any], tensors: Any, path: Any, *more: Any, **named: Any) -> None:
        if self.place(path) is None:
            return real(tensors, path, *more, **named)
        with tempfile.TemporaryDirectory() as folder:
            inner = os.path.join(folder, "tensors")
            real(tensors, inner, *more, **named)
            with open(inner, "rb") as file:
                data = file.read()
        with self._opened(path, "wb") as file:
            file.write(data)
        return None

    def _opened(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """`open` with a raw file whose writes are taken hold of."""
        if not set(mode) & set("wax+") or self.place(file) is None:
            return _REAL_OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        plain = "".join(sorted(set(mode) - set("tbU"), key=mode.index))
        place = self.place(file)
        exists = isinstance(file, int) or os.path.lexists(file)
        if exists and "x" in mode:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fsdecode(file))
        if (not exists and "r" not in mode) or (exists and "w" in mode):
            make = lambda: _File(self, file, plain, closefd, opener)  # noqa: E731
            raw = self._do(Operation("create", (str(place),)), make)
        else:
            raw = _File(self, file, plain, closefd, opener)
        if buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffer = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
        if "b" in mode:
            return buffer
        text = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)
        text.mode = mode
        return text


_REAL_OPEN = open


class _File(io.FileIO):
    """A raw file whose writes are operations."""

    def __init__(self, operations: Operations, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        super().__init__(file, mode, closefd, opener)
        self._operations = operations

    def write(self, data: Any) -> int:
        return self._operations.write(self.fileno(), data, super().write)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        self._operations._os_truncate(self.fileno(), size)
        return size


def read_log(path: Path) -> Iterator[Operation]:
    """Yield the operations that a process has written down."""
    with contextlib.suppress(FileNotFoundError), _REAL_OPEN(path, "rb") as file:
        while line := file.readline():
            head = json.loads(line)
            yield Operation(head["name"], tuple(head["paths"]), head["offset"], file.read(head["size"]))
