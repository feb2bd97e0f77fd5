"""Words to ids and a vocabulary in one pass over the texts, by 64-bit hashes in numpy, not one object per word."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, final

import numpy as np

from thalweg.data.arrays.split import splitmix64
from thalweg.data.text.codecs import SPECIALS, UNK, joined
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.data.text.words import IDEOGRAPHS, MARKS, SURROGATES, UNSEEN

MAX_WORDS: Final = 2**22
_COUNT_VALUES: Final = 2**22  # counted at a time
_NUM_CHARACTERS: Final = 2**18  # read at a time: what is made of them fits into the processor's caches
_FIRST_BITS, _LAST_BITS = 16, 22  # of the number of slots
_MULTIPLIER: Final = 0x9E3779B97F4A7C15
_NUM_CODES: Final = 0x110000  # of Unicode
_INSIDE, _ALONE = 1, 2  # kinds of characters: part of a word, a word by itself; 0 stands between words
FACTOR: Final = np.uint64(0xD1B54A32D192ED03)
_INVERSE: Final = np.uint64(pow(int(FACTOR), -1, 2**64))


@final
class WordIndex:
    """Numbers words as they come; when all have come, the frequent ones get their ids in a vocabulary.

    This takes a fourth of the time of `Tokenizer.train` and then `encode_many`, and leads to the same ids: of equally
    frequent words those that came first are taken. At most `max_words` distinct words are kept, so that memory stays
    bounded; later ones are `<unk>`.
    """

    def __init__(self, max_words: int = MAX_WORDS) -> None:
        self._max_words = max_words
        self._words: list[str] = []
        self._numbers: dict[int, int] = {}  # by hash
        # The same again for numpy, a slot for each hash; whoever comes first keeps it, so frequent words mostly do.
        self._bits = _FIRST_BITS
        self._slots = np.zeros(2**self._bits, dtype=np.int32)
        self._hashes = np.zeros(2**self._bits, dtype=np.uint64)
        self._counts = np.zeros(0, dtype=np.int64)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return provisional ids of all texts, one after the other, int32; and how many each text has, int64.

        Collect them with `RaggedBuilder.extend_flat`, and give `RaggedBuilder.finish` the table that replaces them.
        """
        return joined([self._encode(part) for part in _parts(texts)])

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        words = word_hashes(texts)
        slots = self._slot(words.hashes)
        ids = self._slots[slots]
        missing = np.flatnonzero((ids == 0) | (self._hashes[slots] != words.hashes))
        numbers = self._numbers
        for index, key in zip(missing.tolist(), words.hashes[missing].tolist(), strict=True):
            number = numbers.get(key)
            if number is None:
                number = self._add(key, words.word(index)) if len(numbers) < self._max_words else 0
            ids[index] = number
        return ids, words.words_of

    def _add(self, key: int, word: str) -> int:
        self._words.append(word)
        self._numbers[key] = number = len(self._words)
        if 4 * number > len(self._slots) and self._bits < _LAST_BITS:
            self._bits += 2
            self._slots = np.zeros(2**self._bits, dtype=np.int32)
            self._hashes = np.zeros(2**self._bits, dtype=np.uint64)
            known = np.fromiter(self._numbers, dtype=np.uint64, count=number)[::-1]
            slots = self._slot(known)  # of several words in one slot the last one stays, which came first
            self._slots[slots], self._hashes[slots] = np.arange(number, 0, -1), known
        else:
            slot = (key * _MULTIPLIER % 2**64) >> (64 - self._bits)
            if not self._slots[slot]:
                self._slots[slot], self._hashes[slot] = number, key
        return number

    def _slot(self, hashes: np.ndarray) -> np.ndarray:
        return ((hashes * np.uint64(_MULTIPLIER)) >> np.uint64(64 - self._bits)).astype(np.int64)

    def count(self, ids: np.ndarray) -> None:
        """Let these provisional ids count for the vocabulary: those of the training texts."""
        for start in range(0, len(ids), _COUNT_VALUES):
            counts = np.bincount(ids[start : start + _COUNT_VALUES], minlength=len(self._counts))
            counts[: len(self._counts)] += self._counts
            self._counts = counts

    def finish(self, vocabulary_size: int = 30_000, *, min_count: int = 1) -> tuple[Tokenizer, np.ndarray]:
        """Return a tokenizer of kind "word", and for each provisional id the id in its vocabulary, int32.

        The maximum vocabulary size includes the four special entries.
        """
        counts = np.zeros(len(self._words) + 1, dtype=np.int64)
        counts[: len(self._counts)] = self._counts
        counts[0] = 0  # the words beyond max_words
        order = np.argsort(-counts, kind="stable")[: max(0, vocabulary_size - len(SPECIALS))]
        order = order[counts[order] >= max(1, min_count)]
        table = np.full(len(counts), UNK, dtype=np.int32)
        table[order] = np.arange(len(SPECIALS), len(SPECIALS) + len(order), dtype=np.int32)
        return Tokenizer.from_vocabulary((self._words[number - 1] for number in order.tolist()), "word"), table

    def table(self, tokenizer: Tokenizer) -> np.ndarray:
        """Return for each provisional id the id in another vocabulary of words, int32."""
        return np.array([UNK, *tokenizer.encode_words(self._words)], dtype=np.int32)


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut the texts into parts of about a million characters, for the arrays on the way are larger than the texts."""
    lengths = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
    start = before = 0
    while start < len(texts):
        stop = max(start + 1, int(np.searchsorted(lengths, before + _NUM_CHARACTERS, side="right")))
        yield texts[start:stop]
        start, before = stop, int(lengths[stop - 1])


@final
class WordHashes(NamedTuple):
    """The words of some texts, one text after the other."""

    hashes: np.ndarray  # uint64 [num_words], equal exactly where the words are (but for one pair in 2^64)
    starts: np.ndarray  # where each word begins among `characters`, int64 [num_words]
    lengths: np.ndarray  # characters of each word, int64 [num_words]
    words_of: np.ndarray  # number of words of each text, int64 [num_texts]
    characters: np.ndarray  # the code points of all words, uint32

    def word(self, index: int) -> str:
        """Return one word as text."""
        start = int(self.starts[index])
        return self.characters[start : start + int(self.lengths[index])].tobytes().decode("utf-32-le")


def word_hashes(texts: Sequence[str]) -> WordHashes:
    r"""Return the hashes of the words that `split_words` finds in each text; takes forty bytes a character.

    With a random number $r_c$ for each character, the hash of $c_0 c_1 \dots$ is $\sum_i r_{c_i} p^i$ modulo $2^{64}$.

    Source: Karp and Rabin (1987), Efficient randomized pattern-matching algorithms.
    """
    # A line feed is not part of a word; one after each text keeps them apart, and no text without a character.
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
    # Powers go on from word to word; what a word's are too high by is taken back by the inverse, as p is odd.
    terms = RANDOM[characters]
    terms *= _powers(FACTOR, len(terms))
    hashes = np.add.reduceat(terms, starts)
    hashes *= _powers(_INVERSE, len(terms))[starts]
    return WordHashes(hashes, starts, lengths, words_of, characters)


def _powers(factor: np.uint64, count: int) -> np.ndarray:
    powers = np.full(count, factor)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _kinds() -> np.ndarray:
    """Return the kind of every character, as `split_words` has it."""
    kinds = np.full(_NUM_CODES, _INSIDE, dtype=np.uint8)
    for ranges, kind in ((MARKS, _ALONE), (IDEOGRAPHS, _ALONE), (UNSEEN, 0), (SURROGATES, 0)):
        for first, last in ranges:
            kinds[first : last + 1] = kind
    return kinds


_KINDS: Final = _kinds()
RANDOM: Final = splitmix64(np.arange(1, _NUM_CODES + 1, dtype=np.uint64) * np.uint64(_MULTIPLIER))
