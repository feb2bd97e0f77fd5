"""Words to ids and a vocabulary in one pass over the texts, for data that are read once."""

from collections.abc import Sequence
from itertools import chain
from typing import Final, final

import numpy as np

from thalweg.data.codecs import SPECIALS, UNK
from thalweg.data.tokenizer import Tokenizer
from thalweg.data.word_split import split_words

MAX_WORDS: Final = 2**22
_COUNT_VALUES: Final = 2**22  # counted at a time


@final
class WordIndex:
    """Numbers words as they come; when all have come, the frequent ones get their ids in a vocabulary.

    This takes half the time of `Tokenizer.train` and then `encode_many`, and leads to the same ids: of equally frequent
    words those that came first are taken.

    Args:
        max_words: different words that are told apart, so that memory stays bounded; later ones are `<unk>`.

    Example:
        >>> index = WordIndex()
        >>> ids, lengths = index.encode(["a b c", "c c"])
        >>> index.count(ids)
        >>> tokenizer, table = index.finish(vocabulary_size=6)
        >>> table[ids].tolist(), tokenizer.encode("a b c")
        ([5, 1, 4, 4, 4], [5, 1, 4])
    """

    def __init__(self, max_words: int = MAX_WORDS) -> None:
        self._numbers = _Numbers(max_words)
        self._counts = np.zeros(0, dtype=np.int64)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return provisional ids of all texts, one after the other, int32; and how many each text has, int64.

        Collect them with `RaggedBuilder.extend_flat`, and give `RaggedBuilder.finish` the table that replaces them.
        """
        words = list(map(split_words, texts))
        lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        numbers = map(self._numbers.__getitem__, chain.from_iterable(words))
        return np.fromiter(numbers, dtype=np.int32, count=int(lengths.sum())), lengths

    def count(self, ids: np.ndarray) -> None:
        """Let these provisional ids count for the vocabulary: those of the training texts."""
        for start in range(0, len(ids), _COUNT_VALUES):
            counts = np.bincount(ids[start : start + _COUNT_VALUES], minlength=len(self._counts))
            counts[: len(self._counts)] += self._counts
            self._counts = counts

    def finish(self, vocabulary_size: int = 30_000, *, min_count: int = 1) -> tuple[Tokenizer, np.ndarray]:
        """Return a tokenizer of kind "word", and for each provisional id the id in its vocabulary, int32.

        Args:
            vocabulary_size: most entries, the four special ones included.
            min_count: words counted less often are left out.
        """
        counts = np.zeros(len(self._numbers) + 1, dtype=np.int64)
        counts[: len(self._counts)] = self._counts
        counts[0] = 0  # the words beyond max_words
        order = np.argsort(-counts, kind="stable")[: max(0, vocabulary_size - len(SPECIALS))]
        order = order[counts[order] >= max(1, min_count)]
        table = np.full(len(counts), UNK, dtype=np.int32)
        table[order] = np.arange(len(SPECIALS), len(SPECIALS) + len(order), dtype=np.int32)
        words = list(self._numbers)
        return Tokenizer.from_vocabulary((words[number - 1] for number in order.tolist()), "word"), table


@final
class _Numbers(dict[str, int]):
    """Gives each new word the next number, from 1 on; 0 once there are too many."""

    def __init__(self, max_words: int) -> None:
        self._max_words = max_words

    def __missing__(self, word: str) -> int:
        if len(self) >= self._max_words:
            return 0
        self[word] = number = len(self) + 1
        return number
