"""Texts as hashed features: words and bigrams in a fixed number of buckets.

No vocabulary is built, so nothing grows with the words of the stream except a bounded cache. The hash is CRC-32, which
is the same in every process and on every machine (Python's own hash of a text is not).
"""

import itertools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from thalweg.data.text.words import split_words

_CHARACTERS_PER_WORD = 16  # a text is cut to max_words times this many characters before it is split
_CACHED_WORD = 40  # longer words are hashed anew each time
_MIXED = (0x9E3779B1, 0x85EBCA77)  # odd multipliers that make a bigram's hash depend on the order of its words


@final
@dataclass(frozen=True, kw_only=True)
class HashingOptions:
    """How a row becomes features; all of it is saved with a model. Raises `ValueError` for a number out of range."""

    num_buckets: int = 2**18  # number of hashed features, 2 or more
    ngrams: int = 2  # 1 for words, 2 for words and bigrams
    bigram_weight: float = 0.5  # next to a word's 1, before the text is normalized to length 1
    bins: int = 8  # a number is also one of so many intervals of [-2, 2] deviations, to follow curves; 0: none
    max_words: int = 1000  # that are read of one text
    max_columns: int = 1000  # of a stream
    columns: tuple[str, ...] | None = None  # those that are read; None for all

    def __post_init__(self) -> None:
        if self.num_buckets < 2:
            raise ValueError(f"HashingOptions(num_buckets=...) must be 2 or more; got {self.num_buckets}.")
        if self.ngrams not in (1, 2):
            raise ValueError(f"HashingOptions(ngrams=...) must be 1 or 2; got {self.ngrams}.")
        if not (self.bigram_weight > 0 and math.isfinite(self.bigram_weight)):
            raise ValueError(f"HashingOptions(bigram_weight=...) must be above 0; got {self.bigram_weight}.")
        if self.bins < 0:
            raise ValueError(f"HashingOptions(bins=...) must be 0 or more; got {self.bins}.")
        if self.max_words < 1 or self.max_columns < 1:
            raise ValueError("HashingOptions(max_words=..., max_columns=...) must be 1 or more.")


def stable_hash(text: str) -> int:
    """Return the CRC-32 of a text's UTF-8 form: the same number in every process."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def pair_hash(first: int, second: int) -> int:
    """Return the 32-bit hash of an ordered pair of 32-bit hashes."""
    return (first * _MIXED[0] + second * _MIXED[1]) & 0xFFFFFFFF


@final
class TextHasher:
    """Turns a text into hashed words and bigrams, as values of length 1 together.

    Words are those of `split_words`, after `normalize`; the hashes of `cache_size` of them are remembered. A word or
    bigram counts once however often it occurs in the text (measured against counts and their square roots: no
    difference on short texts, and faster).

    Source: Weinberger, Dasgupta, Langford, Smola and Attenberg (2009), Feature hashing for large scale multitask
    learning. The sign bit that they add is left out: it makes collisions cancel in sums of counts, while here every
    bucket has a learned weight.
    """

    def __init__(
        self, options: HashingOptions, normalize: Callable[[str], str] = str.lower, cache_size: int = 2**17
    ) -> None:
        self._options = options
        self._normalize = normalize
        self._cache: dict[str, int] = {}
        self._cache_size = cache_size
        self._lengths: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, text: str, salt: int = 0) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return buckets (int64 [k], no two alike), their values (float32 [k]), and whether the text was cut.

        An empty text has no features; another `salt` gives the same words other buckets.
        """
        options = self._options
        limit = options.max_words * _CHARACTERS_PER_WORD
        truncated = len(text) > limit
        words = split_words(self._normalize(text[:limit] if truncated else text))
        if len(words) > options.max_words:
            truncated = True
            del words[options.max_words :]
        hashes: list[Any] = list(map(self._cache.get, words))
        if None in hashes:
            hashes = [self.word_hash(word) if h is None else h for word, h in zip(words, hashes, strict=True)]
        num_buckets = options.num_buckets
        if salt:
            hashes = [pair_hash(value, salt) for value in hashes]
        buckets = dict.fromkeys([value % num_buckets for value in hashes])
        num_words = len(buckets)
        if options.ngrams == 2:
            first, second = _MIXED  # pair_hash, written out: this is the innermost loop
            pairs = itertools.pairwise(hashes)
            buckets.update(dict.fromkeys([((a * first + b * second) & 0xFFFFFFFF) % num_buckets for a, b in pairs]))
        values = self._lengths.get((num_words, len(buckets)))
        if values is None:
            values = self._values(num_words, len(buckets))
        return np.array(list(buckets), dtype=np.int64), values, truncated

    def word_hash(self, word: str) -> int:
        """Return `stable_hash` of a word, remembered."""
        value = self._cache.get(word)
        if value is None:
            value = stable_hash(word)
            if len(word) <= _CACHED_WORD:
                if len(self._cache) >= self._cache_size:
                    self._cache.clear()  # rare words go, frequent ones are back at once
                self._cache[word] = value
        return value

    def _values(self, num_words: int, num_features: int) -> np.ndarray:
        """Return the values of a text's features, words first, of length 1 together."""
        values = np.ones(num_features)
        values[num_words:] = self._options.bigram_weight
        values = (values / math.sqrt(max(1e-30, float(values @ values)))).astype(np.float32)
        values.flags.writeable = False
        if num_features < 200:
            self._lengths[num_words, num_features] = values
        return values
