"""Many sequences of different lengths in one flat array, which moves to a file when it grows too large for memory."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final, overload

import numpy as np
from numpy.typing import DTypeLike

_WRITE_BYTES = 2**24  # held in memory before they are appended to the file
_REMAP_VALUES = 2**22  # read, replaced and written back at a time


@final
@dataclass(frozen=True, eq=False)
class Ragged:
    """Sequences one after the other: sequence `i` is `values[offsets[i] : offsets[i + 1]]`.

    Args:
        values: all sequences joined, 1-d (may be a `np.memmap`).
        offsets: where each sequence begins and the last one ends, int64 `[num_sequences + 1]`, never falling.

    Raises:
        ValueError: if the shapes do not fit together.

    Example:
        >>> ragged = Ragged.from_lists([[5, 7], [], [8]])
        >>> len(ragged), ragged[0].tolist(), ragged.lengths.tolist()
        (3, [5, 7], [2, 0, 1])
        >>> ragged.take([2, 0]).values.tolist()
        [8, 5, 7]
    """

    values: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.offsets.ndim != 1 or not len(self.offsets):
            raise ValueError("Ragged(values, offsets) needs two 1-d arrays, offsets with one entry at least.")
        if int(self.offsets[-1]) > len(self.values):
            raise ValueError(f"Ragged(offsets=...) end at {self.offsets[-1]}, after the {len(self.values)} values.")

    @classmethod
    def from_lists(cls, sequences: Iterable[Sequence[Any] | np.ndarray], dtype: DTypeLike = np.int32) -> "Ragged":
        """Return the sequences as one ragged array in memory."""
        builder = RaggedBuilder(dtype)
        builder.extend(sequences)
        return builder.finish()

    @classmethod
    def from_lengths(cls, values: np.ndarray, lengths: np.ndarray) -> "Ragged":
        """Return `values` cut into sequences of these lengths (whose sum is `len(values)`)."""
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(values, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> "Ragged": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | Ragged":
        """Return one sequence (a view), or the sequences of a slice (a view too where the step is 1)."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.take(np.arange(start, stop, step))
            # Offsets begin at 0 again, so that the values of a part are exactly its own.
            offsets = np.asarray(self.offsets[start : max(start, stop) + 1])
            return Ragged(self.values[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0])
        if not -len(self) <= index < len(self):
            raise IndexError(f"Ragged has {len(self)} sequences; there is no sequence {index}.")
        index = int(index) % len(self)
        return self.values[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """Length of each sequence, int64 `[num_sequences]`."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray | Sequence[int]) -> "Ragged":
        """Return a copy of some sequences, in the order of `indices` (int `[k]`, or bool `[num_sequences]`)."""
        starts, lengths = self.spans(indices)
        return Ragged.from_lengths(self.values[flat_positions(starts, lengths)], lengths)

    def followed_by(self, *others: "Ragged") -> "Ragged":
        """Return a copy of these sequences and then those of `others`."""
        parts = [part.values[int(part.offsets[0]) : int(part.offsets[-1])] for part in (self, *others)]
        return Ragged.from_lengths(
            np.concatenate(parts), np.concatenate([self.lengths, *(other.lengths for other in others)])
        )

    def spans(self, indices: np.ndarray | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return where the sequences with these indices begin in `values`, and their lengths."""
        chosen = np.asarray(indices)
        if chosen.dtype == bool:
            chosen = np.flatnonzero(chosen)
        elif not chosen.size:
            chosen = chosen.astype(np.int64)
        starts = self.offsets[:-1][chosen]  # the slice refuses an index that is one too high, and lets -1 be the last
        return starts, self.offsets[1:][chosen] - starts


def flat_positions(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return where spans lie in a flat array: `starts[0], starts[0] + 1, ... (lengths[0] of them), starts[1], ...`."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    positions = np.repeat(starts - ends + lengths, lengths)
    positions += np.arange(total)
    return positions


@final
@dataclass(frozen=True)
class Spill:
    """When arrays leave memory: each of more than `threshold_bytes` is mapped from a file in `folder`."""

    folder: Path | None = None  # the caller deletes it with its files; None: everything stays in memory
    threshold_bytes: int = 256 * 2**20


IN_MEMORY: Final = Spill()


@final
class RaggedBuilder:
    """Collects sequences into a `Ragged`, in memory or, once they are large, in files (see `Spill`)."""

    def __init__(self, dtype: DTypeLike = np.int32, spill: Spill = IN_MEMORY) -> None:
        self._dtype = np.dtype(dtype)
        self._values = _Spool(self._dtype, spill)
        self._offsets = _Spool(np.dtype(np.int64), spill)
        self._offsets.add(np.zeros(1, dtype=np.int64))
        self._num_sequences = 0
        self._num_values = 0

    def __len__(self) -> int:
        return self._num_sequences

    def append(self, sequence: Sequence[Any] | np.ndarray) -> None:
        """Add one sequence."""
        self.extend([sequence])

    def extend(self, sequences: Iterable[Sequence[Any] | np.ndarray]) -> None:
        """Add sequences."""
        arrays = [np.asarray(sequence, dtype=self._dtype) for sequence in sequences]
        if arrays:
            self.extend_flat(np.concatenate(arrays), np.array([len(array) for array in arrays], dtype=np.int64))

    def extend_flat(self, values: np.ndarray, lengths: np.ndarray) -> None:
        """Add sequences of these lengths that are joined already, which is fast.

        The values (1-d) are kept, not copied, so do not change them afterwards. Raises `ValueError` if the lengths do
        not sum to their number.
        """
        ends = np.cumsum(lengths, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        if total != len(values):
            raise ValueError(f"extend_flat(lengths=...) must sum to the {len(values)} values; they sum to {total}.")
        self._values.add(values.astype(self._dtype, copy=False))
        ends += self._num_values
        self._offsets.add(ends)
        self._num_values += total
        self._num_sequences += len(lengths)

    def finish(self, table: np.ndarray | None = None) -> Ragged:
        """Return everything that was added; the builder cannot be used afterwards.

        With a `table` every value `v` becomes `table[v]`: for ids that were provisional until all data had been seen.
        """
        return Ragged(self._values.finish(table), self._offsets.finish(None))


@final
class _Spool:
    """A growing 1-d array: pieces in memory, or appended to a file once they are too many."""

    def __init__(self, dtype: np.dtype, spill: Spill) -> None:
        self._dtype = dtype
        self._spill = spill
        self._pieces: list[np.ndarray] = []
        self._num_bytes = 0
        self._file: Any = None

    def add(self, piece: np.ndarray) -> None:
        self._pieces.append(piece)
        self._num_bytes += piece.nbytes
        limit = _WRITE_BYTES if self._file else self._spill.threshold_bytes
        if self._spill.folder is not None and self._num_bytes > limit:
            self._write()

    def finish(self, table: np.ndarray | None) -> np.ndarray:
        if self._file is None:
            values = np.concatenate(self._pieces) if self._pieces else np.empty(0, dtype=self._dtype)
            self._pieces = []
            return values if table is None else table.astype(self._dtype, copy=False)[values]
        self._write()
        self._file.close()
        values = np.memmap(self._file.name, dtype=self._dtype, mode="r" if table is None else "r+")
        if table is not None:
            for start in range(0, len(values), _REMAP_VALUES):
                part = slice(start, start + _REMAP_VALUES)
                values[part] = table[values[part]]
            values.flush()
            values = np.memmap(self._file.name, dtype=self._dtype, mode="r")
        return values

    def _write(self) -> None:
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 (closed by finish)
                dir=self._spill.folder, prefix="ragged-", suffix=f".{self._dtype.name}", delete=False
            )
        try:
            for piece in self._pieces:
                self._file.write(np.ascontiguousarray(piece).data.cast("B"))
            self._file.flush()
        except OSError as error:
            self._file.raw.close()  # so that closing it does not write again what there was no room for
            raise OSError(error.errno, error.strerror, self._file.name) from None
        self._pieces, self._num_bytes = [], 0
