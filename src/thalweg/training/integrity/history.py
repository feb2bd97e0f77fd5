"""A run's history: one JSON object a line, appended while it trains, and cut back to a checkpoint when it goes on."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, final

from thalweg.errors import InputError
from thalweg.storage.files import Sum, sum_of, write_file
from thalweg.storage.forms import number, parse_json, perhaps, record, table, text, whole

_ENTRY: Final = record(
    {"step": whole(0), "to_step": whole(0), "loss": perhaps(number()), "metrics": table(perhaps(number()))},
    event=text(),
)


@final
class HistoryFile:
    """Appends entries to a history, and knows its sum at any time.

    Args:
        path: the file.
        kept: what it begins with, in place of all that is in it.
    """

    def __init__(self, path: Path, kept: bytes) -> None:
        if path.is_symlink() or not path.is_file() or path.read_bytes() != kept:
            write_file(path, kept)
        self._file: BinaryIO = open(path, "ab")  # noqa: SIM115  (held open over the run)
        self._digest, self._num_bytes = hashlib.sha256(kept), len(kept)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Append an entry; it is on the disk after the next `flush`."""
        line = line_of(entry)
        self._file.write(line)
        self._digest.update(line)
        self._num_bytes += len(line)

    def show(self) -> None:
        """Let other programs see what has been written."""
        self._file.flush()

    def flush(self) -> Sum:
        """Wait until everything is on the disk; return the sum of what was to be written."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return Sum(self._num_bytes, self._digest.hexdigest())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def line_of(entry: Mapping[str, Any]) -> bytes:
    """Return an entry as its line; numbers that are not finite become null."""
    return (json.dumps(finite(entry), ensure_ascii=False, allow_nan=False) + "\n").encode(errors="replace")


def finite(value: Any) -> Any:
    """Return the value with None in place of NaN and infinities, which JSON has no words for."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read a history file; from a line that is damaged, such as one cut off by a crash, nothing more is read."""
    return [entry for entry in _entries(path) if entry is not None]


def damaged_line(path: Path) -> int | None:
    """Return the number of the line from which on a history file is not read, from 1; None where all of it is."""
    entries = list(_entries(path))
    return len(entries) if entries and entries[-1] is None else None


def damage(path: Path, expected: Sum) -> str:
    """Return how a history differs from what was written, "" where it begins with just that."""
    size = expected.num_bytes
    if not path.is_file():
        return "is missing"
    with open(path, "rb") as file:
        found = file.read(min(size, os.fstat(file.fileno()).st_size))  # a stranger's size may be any
    if sum_of(found) == expected:
        return ""
    line = damaged_line(path)
    if line is not None and sum(map(len, found.splitlines(keepends=True)[: line - 1])) < size:
        return f"is damaged in line {line:,}"
    if len(found) < size:
        return f"is cut short ({len(found):,} bytes instead of {size:,})"
    return "has changed (its checksum differs)"


def kept_until(path: Path, mark: Sum) -> bytes:
    """Return what a history held when a checkpoint was written; it begins anew where the file was removed.

    An InputError names the line that is damaged.
    """
    if not path.is_file():
        return b""
    if how := damage(path, mark):
        raise InputError(
            f"{path} {how}, so the run does not go on with it; restore the file, or remove it to go on with a history "
            "that begins here."
        )
    with open(path, "rb") as file:
        return file.read(mark.num_bytes)


def _entry(value: Any, where: str) -> dict[str, Any]:
    """Return an entry, in the form of what every reader relies on."""
    entry: dict[str, Any] = _ENTRY(value, where)
    return record(num_folds=whole(0))(entry, where) if entry["event"] == "selection" else entry


def _entries(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yield the entries of a history file, and None in the place of the first line that is damaged."""
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry: dict[str, Any] = parse_json(line.encode(), _entry)
            except ValueError:
                yield None
                return
            yield entry
