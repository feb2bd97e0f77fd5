"""Dense matrices that are too large for memory: mapped from a file that has no name, and read some rows at a time."""

import ctypes
import errno
import mmap
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Final, final

import torch

from thalweg.errors import InputError

LEAST_BYTES: Final = 2**28  # of what is stored: less stays in memory
BLOCK: Final = 2**20  # numbers that are read at a time
_DONTNEED: Final[int | None] = getattr(mmap, "MADV_DONTNEED", None)


@final
class Stored:
    """A matrix in a temporary file, which goes when nothing refers to it any more.

    Args:
        num_rows: rows that there is room for.
        width: columns.
        dtype: of the numbers.

    Attributes:
        rows: `[num_rows, width]`, on the CPU; what is written into it is in the file.

    Raises:
        InputError: where the disk that holds temporary files has no room for it.
    """

    def __init__(self, num_rows: int, width: int, dtype: torch.dtype = torch.float64) -> None:
        size = num_rows * width * dtype.itemsize
        try:
            with tempfile.TemporaryFile(prefix="thalweg-") as file:
                if shutil.disk_usage(tempfile.gettempdir()).free < size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                _reserve(file.fileno(), size)
                self._map = mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise InputError(
                f"{size / 1e9:.1f} GB cannot be stored in the folder of temporary files (TMPDIR): {error.strerror}."
            ) from None
        self.rows = torch.frombuffer(self._map, dtype=dtype).view(num_rows, width)

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self) -> Iterator[slice]:
        """Yield which rows to read, one block after the other; memory holds no block but the last."""
        for part in blocks(*self.rows.shape):
            yield part
            self.release()

    def release(self) -> None:
        """Let go of what memory holds of it; the file keeps it."""
        if _DONTNEED is not None:
            self._map.madvise(_DONTNEED)


def _reserve(file: int, size: int) -> None:
    """Make a file of this size, so that a full disk is found now, where that is possible, and not on the way."""
    try:
        os.posix_fallocate(file, 0, size)
    except AttributeError:  # macOS, Windows
        os.truncate(file, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.truncate(file, size)


def give_back() -> None:
    """Give free memory back to the system, where the C library can: what is kept of each batch lies among it."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def blocks(num_rows: int, width: int) -> Iterator[slice]:
    """Yield slices of rows of `BLOCK` numbers at most."""
    step = max(1, BLOCK // max(1, width))
    for start in range(0, max(1, num_rows), step):
        yield slice(start, min(start + step, num_rows))
