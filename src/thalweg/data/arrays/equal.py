"""Which examples a model cannot tell apart: equal inputs, found exactly and in one pass of hashing."""

import dataclasses
import math
from typing import Final, final

import numpy as np

from thalweg.data.arrays.ragged import flat_positions

Column = np.ndarray | tuple[np.ndarray, np.ndarray]
_SEED: Final = 5


@final
@dataclasses.dataclass(frozen=True)
class WholeExamples:
    """A model that answers each example, or each place of it, from the whole example."""

    groups: np.ndarray  # which examples look the same, int [num_examples] (from `same_rows`)
    describes: str  # what the model sees, as the end of "a model that sees only ..."
    lengths: np.ndarray | None = None  # places of each example, int [num_examples]; None: one each
    given: np.ndarray | None = None  # which places have a target, bool, one example after the other; None: all

    def of(self, indices: np.ndarray) -> np.ndarray:
        """Return the group of each target of these examples, one example after the other."""
        if self.lengths is None:
            return self.groups[indices]
        lengths = self.lengths[indices]
        places = flat_positions(np.zeros_like(lengths), lengths)
        # Equal examples have equal lengths, so group * longest + place tells their places apart.
        found = np.repeat(self.groups[indices], lengths) * (int(self.lengths.max(initial=0)) + 1) + places
        if self.given is None:
            return found
        return found[self.given[flat_positions((np.cumsum(self.lengths) - self.lengths)[indices], lengths)]]


@final
@dataclasses.dataclass(frozen=True)
class Prefixes:
    """A model that predicts each symbol of a sequence from what is given first and the symbols before it."""

    symbols: np.ndarray  # what is predicted, all sequences one after the other, int [total]
    lengths: np.ndarray  # of each sequence, int [num_sequences]
    first: np.ndarray  # what is known before the first symbol, as a number, int [num_sequences]
    describes: str  # what the model sees, as the end of "a model that sees only ..."
    first_is_symbol: bool = False  # whether `first` is a symbol like those after it


View = WholeExamples | Prefixes


def same_rows(*columns: Column) -> np.ndarray:
    """Return a group id for each example: two have the same one exactly if they agree in every bit of every column.

    Rows are hashed to 64 bits, and those with equal hashes are compared value by value, so the answer is exact; where
    a hash deceives (which is about as likely as never), the column is grouped by its bytes. Two examples of one group
    are the same to every function: 0 and -0, which a function may tell apart, are two values; NaN equals a NaN of the
    same bits.

    Args:
        *columns: an array `[num_examples, ...]`, or two arrays: the values of all examples one after the other, and the
            length of each example. Numbers and truth values of any type, each as exact as it is.

    Returns:
        Ids int64 `[num_examples]`, from 0, in no particular order.

    Raises:
        ValueError: without a column, for columns of different lengths, or for values that are no numbers.

    Example:
        >>> ids = same_rows((np.array([5, 7, 8, 5, 7]), np.array([2, 1, 2])), np.array([1.0, 1.0, 1.0]))
        >>> bool(ids[0] == ids[2] != ids[1])
        True
    """
    if not columns:
        raise ValueError("same_rows(*columns) needs at least one column.")
    groups = [_ragged(*column) if isinstance(column, tuple) else _fixed(column) for column in columns]
    if len({len(group) for group in groups}) != 1:
        raise ValueError(f"same_rows(*columns) needs columns of one length; got {[len(group) for group in groups]}.")
    result = groups[0]
    for group in groups[1:]:
        result = renumbered(result * (int(group.max(initial=0)) + 1) + group)
    return result


def one_of_each(keys: np.ndarray) -> np.ndarray:
    """Return one example of each key, drawn without looking at anything else, int in rising order.

    The first ones would not do: in a file that is sorted by label they have the first label.
    """
    order = np.random.default_rng(_SEED).permutation(len(keys))
    return np.sort(order[np.unique(keys[order], return_index=True)[1]])


def renumbered(keys: np.ndarray) -> np.ndarray:
    """Return ids from 0 without gaps, equal where the keys are."""
    return np.unique(keys, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _fixed(array: np.ndarray) -> np.ndarray:
    """Group the rows of an array, all of one length."""
    rows = np.ascontiguousarray(array).reshape(len(array), math.prod(array.shape[1:]))
    return _ragged(rows.reshape(-1), np.full(len(rows), rows.shape[1], dtype=np.int64))


def _ragged(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Group sequences of different lengths."""
    lengths = np.asarray(lengths, dtype=np.int64)
    bits, words = _bits(values)
    lengths = lengths * words
    starts = np.cumsum(lengths) - lengths
    hashes = _hashes(bits, starts, lengths)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    before, after = order[:-1][same], order[1:][same]
    if not _equal(bits, starts, lengths, before, after):
        seen: dict[bytes, int] = {}
        rows = (bits[start : start + length].tobytes() for start, length in zip(starts, lengths, strict=True))
        return np.array([seen.setdefault(row, len(seen)) for row in rows], dtype=np.int64)
    ids = np.empty(len(lengths), dtype=np.int64)
    ids[order] = np.cumsum(np.concatenate([[0], ~same])) if len(order) else 0
    return ids


def _bits(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the bits of values as unsigned 64-bit numbers, and how many of these there are for each value."""
    if values.dtype.kind not in "iubfc":
        raise ValueError(f"same_rows(*columns) compares numbers; got an array of the type {values.dtype}.")
    size = values.dtype.itemsize
    flat = np.ascontiguousarray(values).reshape(-1)
    if size <= 8:
        return flat.view(f"u{size}").astype(np.uint64), 1
    return flat.view(np.uint64), size // 8


def _hashes(bits: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each sequence: a sum of scrambled values times a random odd number for each place."""
    longest = int(lengths.max(initial=0))
    factors = np.random.default_rng(_SEED).integers(0, 2**63, longest + 1, dtype=np.uint64)
    factors = factors * np.uint64(2) + np.uint64(1)
    mixed = (bits ^ (bits >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    places = np.arange(len(bits)) - np.repeat(starts, lengths)
    sums = np.concatenate([[np.uint64(0)], np.cumsum(mixed * factors[places])])  # wraps around, and so does -
    hashes = sums[starts + lengths] - sums[starts]
    hashes += lengths.astype(np.uint64) * factors[longest]
    return hashes


def _equal(bits: np.ndarray, starts: np.ndarray, lengths: np.ndarray, left: np.ndarray, right: np.ndarray) -> bool:
    """Whether the sequences `left` and `right` (indices) are equal, pair by pair."""
    if not np.array_equal(lengths[left], lengths[right]):
        return False
    one, other = (bits[flat_positions(starts[rows], lengths[rows])] for rows in (left, right))
    return np.array_equal(one, other)
