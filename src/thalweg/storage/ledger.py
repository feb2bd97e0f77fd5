"""What belongs to a folder: every file's checksum, known before the file is written, and changes of several at once.

The ledger is the file `manifest.json`. Its sums come from what was meant to be written, never from the disk, and it has
a sum of its own. To change files, their new contents are written beside them under temporary names; then the ledger,
which is the moment of the change; then they take their names. So after a crash at any moment either all files are as
before, or what is missing can be completed from what is there.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, final

from thalweg.errors import InputError, shown
from thalweg.storage.files import TEMPORARY, Sum, leftovers, sum_of, sum_of_file, sync_folder, write_file, write_new
from thalweg.storage.forms import anything, many, parse_json, record, table, text, whole

MANIFEST: Final = "manifest.json"
FORMAT: Final = 2
_MAX_BYTES: Final = 2**24
_LONGEST_NAME: Final = 200
_FILES: Final = record(files=table(anything()))
_CONTENT: Final = record(
    files=table(record(bytes=whole(0), sha256=text(most=64))), about=table(anything()), moved=many(text()),
    removed=many(text()),
)  # fmt: skip
_PATIENCE: Final = (0.0, 0.01, 0.1, 0.5)  # seconds between looks at a folder that another process is changing


@final
class Ledger:
    """The ledger of a folder, as it is on the disk.

    Args:
        folder: what it is about.
        remedy: how messages end that tell of damage, or what returns it where that takes a look at other files.

    Raises:
        InputError: if it is missing, damaged, or of another format.
    """

    def __init__(self, folder: Path, *, remedy: str | Callable[[], str] = "restore it or train the run again") -> None:
        self.folder = folder
        self._remedy = remedy
        self.sums: dict[str, Sum] = {}
        self.about: dict[str, Any] = {}  # plain values that belong to the folder as its files do
        self._moved: list[str] = []
        self._removed: list[str] = []
        self._known: tuple[int, ...] | None = None  # the version of it that was read
        self._read()

    @classmethod
    def create(
        cls,
        folder: Path,
        files: Mapping[str, bytes],
        about: Mapping[str, Any] | None = None,
        links: Mapping[str, tuple[Path, Sum]] | None = None,
        noted: Mapping[str, Sum] | None = None,
    ) -> "Ledger":
        """Write files and their ledger into a folder, and wait until they are on the disk.

        `links` are files elsewhere, with their sums, that get a second name here (or are copied); `noted` are sums of
        files that others have written here.
        """
        sums = {name: sum_of(data) for name, data in files.items()} | dict(noted or {})
        for name, data in files.items():
            write_new(folder / name, data)
        for name, (path, expected) in (links or {}).items():
            sums[name] = expected
            try:
                os.link(path, folder / name)
            except FileNotFoundError:
                raise
            except OSError:  # a file system without links
                write_new(folder / name, path.read_bytes())
        write_file(folder / MANIFEST, _content(sums, about or {}, [], []))  # the folder may have its name already
        return cls(folder)

    @classmethod
    def at(cls, folder: Path) -> "Ledger":
        """Return the ledger of a folder, made anew where it has none."""
        return cls(folder) if (folder / MANIFEST).exists() else cls.create(folder, {})

    def refresh(self) -> None:
        """Read it again, after another process has changed it."""
        self._read()

    def __contains__(self, name: str) -> bool:
        return name in self.sums

    @property
    def remedy(self) -> str:
        """How messages end that tell of damage."""
        return self._remedy if isinstance(self._remedy, str) else self._remedy()

    def read(self, name: str) -> bytes:
        """Return the content of a file; an InputError says that it is missing or damaged."""
        path = self.path(name)
        data = path.read_bytes()
        if sum_of(data) != self.sums[name]:  # changed since: by another process, or on a failing disk
            raise self._damaged(name)
        return data

    def path(self, name: str) -> Path:
        """Return where the content of a file stands, compared with its sum; InputError as for `read`."""
        if name not in self.sums:
            raise InputError(f"{self.folder / name} is missing; {self.remedy}.")
        for wait in _PATIENCE:
            if wait:
                time.sleep(wait)
            for path in (self.folder / name, self._new(name)):
                if _is(path, self.sums[name]):
                    return path
            before = self.sums[name]
            if self._version() != self._known:
                self._read()
            if name not in self.sums or (self.sums[name] == before and name not in self._moved):
                break
        raise self._damaged(name)

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Compare files, all unless they are named, with their sums; an InputError names the first that differs."""
        for name in sorted(self.sums if names is None else names):
            self.path(name)

    def write(
        self,
        files: Mapping[str, bytes],
        *,
        removed: Iterable[str] = (),
        noted: Mapping[str, Sum] | None = None,
        forgotten: Iterable[str] = (),
    ) -> None:
        """Change files and remove others, all at once, whatever happens meanwhile. The caller has the folder's `Lock`.

        Args:
            files: their new contents.
            removed: the names of those that go.
            noted: sums of files that have been written otherwise, and are whole.
            forgotten: names of files that stay and are no longer in the ledger.
        """
        self._read()
        self.complete()
        with contextlib.ExitStack() as undo:
            for name, data in files.items():
                new = self._new(name)
                new.unlink(missing_ok=True)
                undo.callback(new.unlink, missing_ok=True)
                write_new(new, data)
            gone = [name for name in removed if name in self.sums and name not in files]
            before = self.sums, self._moved, self._removed
            kept = {name: found for name, found in self.sums.items() if name not in {*gone, *forgotten}}
            self.sums = kept | {name: sum_of(data) for name, data in files.items()} | dict(noted or {})
            self._moved, self._removed = list(files), gone
            try:
                write_file(self.folder / MANIFEST, _content(self.sums, self.about, self._moved, self._removed))
            except BaseException:
                self.sums, self._moved, self._removed = before
                raise
            undo.pop_all()  # from here on the change is made
        self._complete(known=True)
        if gone:  # from now on such a name is free for a file of the user's
            self._removed = []
            write_file(self.folder / MANIFEST, _content(self.sums, self.about, self._moved, self._removed))

    def complete(self) -> list[str]:
        """Finish a change that a crash has interrupted, and remove what one left that was not made.

        Returns the names of the files that were changed or removed. The caller has the folder's `Lock`.
        """
        done = self._complete(known=False)
        for path in leftovers(self.folder):
            if path.is_file():
                path.unlink()
                done.append(path.name)
        return done

    def _complete(self, *, known: bool) -> list[str]:
        done = []
        for name in self._moved:
            new = self._new(name)
            if not new.exists():
                continue
            if known or _is(new, self.sums[name]):
                os.replace(new, self.folder / name)
                done.append(name)
            else:  # of a later change that did not come to its moment
                new.unlink()
                done.append(new.name)
        for name in self._removed:
            if (self.folder / name).exists():
                (self.folder / name).unlink()
                done.append(name)
        if done:
            sync_folder(self.folder)
        return done

    @property
    def is_complete(self) -> bool:
        """Whether no change waits for being completed."""
        waiting = [name for name in self._moved if self._new(name).exists()]
        return not waiting and not any((self.folder / name).exists() for name in self._removed)

    @property
    def waiting(self) -> frozenset[str]:
        """The names of the files whose contents have changed at once, where that waits for being completed."""
        return frozenset() if self.is_complete else frozenset(self._moved)

    def _new(self, name: str) -> Path:
        return self.folder / f".{name}.new{TEMPORARY}"

    def _damaged(self, name: str) -> InputError:
        path = self.folder / name
        if not path.is_file():
            return InputError(f"{path} is missing; {self.remedy}.")
        expected, size = self.sums[name].num_bytes, path.stat().st_size
        how = "its checksum differs" if expected == size else f"{size:,} bytes long instead of {expected:,}"
        return InputError(f"{path} is damaged ({how}); {self.remedy}.")

    def _version(self) -> tuple[int, ...] | None:
        """Return what differs once another ledger has taken the place of this one."""
        try:
            found = (self.folder / MANIFEST).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> None:
        path = self.folder / MANIFEST
        self._known = self._version()
        if not path.is_file():
            raise InputError(
                f"{path} is missing, so that the files in {self.folder} cannot be verified; {self.remedy}."
            )
        if path.stat().st_size > _MAX_BYTES:
            raise self._unreadable("it is longer than any that this version writes")
        try:
            content = parse_json(path.read_bytes(), _FILES)
            found, own = content.get("format"), content.pop("sum", None)
            is_whole = own == _sum_of_content(content)
            known = _CONTENT(content, "") if found == FORMAT and is_whole else {}
        except OSError as error:
            raise self._unreadable(str(error.strerror)) from None
        except (ValueError, RecursionError) as error:
            raise self._unreadable(str(error)) from None
        if found != FORMAT:
            raise InputError(
                f"{path} has format {shown(found)}; this version reads {FORMAT}. Use the version of thalweg that wrote "
                f"it; {self.remedy}."
            )
        if not is_whole:
            raise self._unreadable("its checksum differs")
        sums = {name: Sum(one["bytes"], one["sha256"]) for name, one in known["files"].items()}
        for name in (*sums, *known["moved"], *known["removed"]):
            if not name.strip(".") or Path(name).name != name or len(name) > _LONGEST_NAME:
                raise self._unreadable(f"{shown(name)} is not the name of a file in its folder")
        if unknown := [name for name in known["moved"] if name not in sums]:
            raise self._unreadable(f"it has no checksum of {shown(unknown[0])}")
        self.sums, self.about = sums, known["about"]
        self._moved, self._removed = known["moved"], known["removed"]

    def _unreadable(self, how: str) -> InputError:
        return InputError(f"{self.folder / MANIFEST} is damaged ({how}); {self.remedy}.")


def _content(sums: Mapping[str, Sum], about: Mapping[str, Any], moved: list[str], removed: list[str]) -> bytes:
    """Return a ledger as the content of its file."""
    files = {name: {"bytes": one.num_bytes, "sha256": one.sha256} for name, one in sorted(sums.items())}
    content = {"format": FORMAT, "files": files, "about": dict(about), "moved": moved, "removed": removed}
    return (json.dumps(content | {"sum": _sum_of_content(content)}, indent=1, allow_nan=False) + "\n").encode()


def _sum_of_content(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _is(path: Path, expected: Sum) -> bool:
    """Whether a file is there and has this sum."""
    try:
        return path.is_file() and path.stat().st_size == expected.num_bytes and sum_of_file(path) == expected
    except FileNotFoundError:  # another process has moved it
        return False
