"""Words of many texts at once, as 64-bit hashes: in numpy, without a Python object for each word."""

from collections.abc import Sequence
from typing import Final, NamedTuple, final

import numpy as np

from thalweg.data.text.words import IDEOGRAPHS, MARKS, SURROGATES, UNSEEN

_NUM_CODES: Final = 0x110000  # of Unicode
_INSIDE, _ALONE = 1, 2  # kinds of characters: part of a word, a word by itself; 0 stands between words
_FACTOR: Final = np.uint64(0xD1B54A32D192ED03)


@final
class WordHashes(NamedTuple):
    """The words of some texts, one text after the other.

    Args:
        hashes: uint64 `[num_words]`; equal words have equal hashes, and different ones different hashes (but for one
            pair in 2^64).
        starts: where each word begins among `characters`, int64 `[num_words]`.
        lengths: characters of each word, int64 `[num_words]`.
        words_of: number of words of each text, int64 `[num_texts]`.
        characters: the code points of all words, uint32.
    """

    hashes: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    words_of: np.ndarray
    characters: np.ndarray

    def word(self, index: int) -> str:
        """Return one word as text."""
        start = int(self.starts[index])
        return self.characters[start : start + int(self.lengths[index])].tobytes().decode("utf-32-le")


def word_hashes(texts: Sequence[str]) -> WordHashes:
    r"""Return the hashes of the words that `split_words` finds in each text.

    With a random number $r_c$ for each character, the hash of $c_0 c_1 \dots$ is $\sum_i r_{c_i} p^i$ modulo $2^{64}$.

    Args:
        texts: any texts; what is made of them on the way takes about forty bytes a character.

    Example:
        >>> words = word_hashes(["a b", "b!"])
        >>> words.words_of.tolist(), [words.word(i) for i in range(4)], len(set(words.hashes.tolist()))
        ([2, 2], ['a', 'b', 'b', '!'], 3)

    Source: Karp and Rabin (1987), Efficient randomized pattern-matching algorithms.
    """
    # A line feed is no part of a word; one after each text keeps them apart, and no text without a character.
    codes = np.frombuffer("".join([f"{text}\n" for text in texts]).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kinds = _KINDS[codes]
    is_inside = kinds == _INSIDE
    begins = kinds == _ALONE
    begins[1:] |= is_inside[1:] & ~is_inside[:-1]
    begins[:1] |= is_inside[:1]
    ends_of_texts = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 1)
    words_of = np.add.reduceat(begins, ends_of_texts - np.diff(ends_of_texts, prepend=0), dtype=np.int64)
    is_kept = kinds != 0
    characters = codes[is_kept]
    starts = np.flatnonzero(begins[is_kept])
    lengths = np.diff(starts, append=len(characters))
    if not len(starts):
        return WordHashes(np.empty(0, dtype=np.uint64), starts, lengths, words_of, characters)
    places = np.arange(len(characters)) - np.repeat(starts, lengths)
    terms = _RANDOM[characters]
    terms *= _powers(int(lengths.max()))[places]
    return WordHashes(np.add.reduceat(terms, starts), starts, lengths, words_of, characters)


def _kinds() -> np.ndarray:
    """Return the kind of every character, as `split_words` has it."""
    kinds = np.full(_NUM_CODES, _INSIDE, dtype=np.uint8)
    for ranges, kind in ((MARKS, _ALONE), (IDEOGRAPHS, _ALONE), (UNSEEN, 0), (SURROGATES, 0)):
        for first, last in ranges:
            kinds[first : last + 1] = kind
    return kinds


def _powers(number: int) -> np.ndarray:
    powers = np.full(number, _FACTOR)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return uint64 numbers spread over all bits, one to one: the finalizer of SplitMix64.

    Source: Steele, Lea and Flood (2014), Fast Splittable Pseudorandom Number Generators.
    """
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


_KINDS: Final = _kinds()
_RANDOM: Final = mixed(np.arange(1, _NUM_CODES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
