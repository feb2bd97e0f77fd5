"""Words as the pieces that they are spelled with: character n-grams in buckets, counted by numpy."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, final

import numpy as np
from scipy import sparse

from thalweg.data.arrays.ragged import flat_positions
from thalweg.data.text.word_index import FACTOR, RANDOM

_BITS: Final = 16
BUCKETS: Final = 2**_BITS
_EDGE: Final = 0x20  # stands before and after each word: no word has it
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)


@final
class Spelling(NamedTuple):
    """The characters of some words, with a mark before and after each."""

    codes: np.ndarray  # uint32, one word after the other
    starts: np.ndarray  # where each word begins, int64 [words]
    lengths: np.ndarray  # with both marks, int64 [words]

    @classmethod
    def of(cls, characters: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> "Spelling":
        """Return the words that lie at these places of a flat array of code points."""
        ends = np.cumsum(lengths + 2)
        begins = ends - lengths - 2
        codes = np.full(int(ends[-1]) if len(ends) else 0, _EDGE, dtype=np.uint32)
        codes[flat_positions(begins + 1, lengths)] = characters[flat_positions(starts, lengths)]
        return cls(codes, begins, lengths + 2)

    def has_digit(self) -> np.ndarray:
        """Return which words have a decimal digit of any script, bool `[words]`."""
        kinds, places = np.unique(self.codes, return_inverse=True)
        digits = np.array([chr(code).isdecimal() for code in kinds.tolist()], dtype=bool)
        if not len(self.starts):
            return np.zeros(0, dtype=bool)
        return np.logical_or.reduceat(digits[places], self.starts)

    def vectors(self, orders: Sequence[int]) -> Any:
        """Return each word's n-grams of these lengths as one vector of length 1, CSR `[words, orders * buckets]`."""
        pieces: Any = sparse.hstack([grams(self, order) for order in orders], format="csr")
        pieces.data[:] = 1.0
        sizes = np.diff(pieces.indptr)
        pieces.data /= np.repeat(np.sqrt(sizes), sizes)
        return pieces


def grams(words: Spelling, order: int) -> Any:
    r"""Return how often each n-gram is in each word, CSR `[words, buckets]`.

    A word shorter than `order`, its marks included, is one n-gram as a whole. Buckets are the upper bits of the hash
    $\sum_i r_{c_i} p^i$ of the characters $c$.
    """
    numbers = np.maximum(words.lengths - order + 1, 1)
    places = flat_positions(words.starts, numbers)
    limits = np.repeat(words.starts + words.lengths, numbers)
    hashes = np.zeros(len(places), dtype=np.uint64)
    powers = np.full(order, FACTOR)
    powers[0] = 1
    for step, power in enumerate(np.multiply.accumulate(powers)):
        inside = places + step < limits
        values = RANDOM[words.codes[np.where(inside, places + step, 0)]] * power
        hashes += np.where(inside, values, np.uint64(0))
    buckets = ((hashes * _MULTIPLIER) >> np.uint64(64 - _BITS)).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(numbers)])
    found = sparse.csr_array((np.ones(len(buckets)), buckets, ends), shape=(len(numbers), BUCKETS))
    found.sum_duplicates()
    return found


def cosine(rows: Any, size: int) -> np.ndarray:
    """Return the cosines of the first `size` rows of a sparse matrix with the others.

    1 where both are zero, 0 where one is.
    """
    lengths = np.sqrt(rows.multiply(rows).sum(axis=1))
    products = rows[:size].multiply(rows[size:]).sum(axis=1)
    both, none = lengths[:size] * lengths[size:], lengths[:size] + lengths[size:] == 0.0
    return np.where(both > 0.0, np.minimum(products / np.where(both > 0.0, both, 1.0), 1.0), none.astype(np.float64))
