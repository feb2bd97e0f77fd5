"""Vectors that took long to compute, kept on disk from run to run: looked up by key, compared by checksum, dispensable.

Nothing is lost with it: what is missing, damaged or cannot be written is computed again.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import numpy as np

DIGEST: Final = 16  # bytes of a key
MOST_BYTES: Final = 4 * 2**30  # of all files; the oldest give way


def cache_folder() -> Path:
    """Return where things are kept: `THALWEG_CACHE`, or `thalweg` in the user's cache folder."""
    if given := os.environ.get("THALWEG_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "thalweg"


@final
class VectorCache:
    """Vectors of one width by keys of 16 bytes, in files whose names are the checksums of their contents.

    Args:
        kind: what the vectors are of; those of other kinds are never looked at.
        width: of the vectors.
        folder: where; None: `cache_folder()`.

    Example:
        >>> cache = VectorCache("squares", 2, getfixture("tmp_path"))
        >>> cache.put([b"k" * 16], np.array([[1.0, 4.0]], dtype=np.float32))
        >>> found, missing = cache.find([b"k" * 16, b"l" * 16])
        >>> found[0].tolist(), missing.tolist()
        ([1.0, 4.0], [1])
    """

    def __init__(self, kind: str, width: int, folder: Path | None = None) -> None:
        digest = hashlib.sha256(kind.encode()).hexdigest()[:32]
        self._root = cache_folder() / "vectors" if folder is None else folder
        self._folder, self._width = self._root / digest, width

    def find(self, keys: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Return the vectors of the keys, float32 `[keys, width]`, and the places of those that are not kept."""
        vectors = np.zeros((len(keys), self._width), dtype=np.float32)
        missing = np.ones(len(keys), dtype=bool)
        places: dict[bytes, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(key, []).append(place)
        for path in self._files():
            if not missing.any():
                break
            for key, vector in zip(*self._read(path), strict=True):
                for place in places.get(key.tobytes(), ()):
                    vectors[place], missing[place] = vector, False
        return vectors, np.flatnonzero(missing)

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keep vectors; where that is impossible nothing happens."""
        if not keys:
            return
        table = np.frombuffer(b"".join(keys), dtype=np.uint8)
        content = np.array([len(keys), self._width], dtype=np.int64).tobytes() + table.tobytes()
        content += np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=".")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                os.replace(name, self._folder / hashlib.sha256(content).hexdigest())
            except OSError:
                os.unlink(name)
                raise
            self._prune()

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if len(path.name) == 64)
        except OSError:
            return []

    def _read(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return keys and vectors of a file; none of one that is damaged."""
        nothing = np.zeros((0, DIGEST), dtype=np.uint8), np.zeros((0, self._width), dtype=np.float32)
        try:
            content = path.read_bytes()
        except OSError:
            return nothing
        if hashlib.sha256(content).hexdigest() != path.name or len(content) < 16:
            return nothing
        number, width = np.frombuffer(content[:16], dtype=np.int64).tolist()
        if width != self._width or len(content) != 16 + number * (DIGEST + 4 * width):
            return nothing
        keys = np.frombuffer(content, dtype=np.uint8, count=number * DIGEST, offset=16)
        vectors = np.frombuffer(content, dtype="<f4", offset=16 + number * DIGEST)
        return keys.reshape(number, DIGEST), vectors.reshape(number, width)

    def _prune(self) -> None:
        """Remove the oldest files where all together are too large."""
        files = [(path.stat(), path) for path in self._root.rglob("*") if path.is_file()]
        total = sum(about.st_size for about, _ in files)
        for about, path in sorted(files, key=lambda one: one[0].st_mtime):
            if total <= MOST_BYTES:
                break
            total -= about.st_size
            path.unlink()
