"""Texts as ids in one pass over the data, before it is known which of them are for training."""

from collections.abc import Iterator
from typing import final

import numpy as np

from thalweg.data.arrays.ragged import Ragged, RaggedBuilder
from thalweg.data.arrays.split import text_keys
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.data.text.word_index import WordIndex
from thalweg.tasks.growing import tokenizer_from
from thalweg.tasks.reading.text_column import TextColumn
from thalweg.tasks.reading.text_reader import TextReader
from thalweg.tasks.settings import Settings

_ROWS = 8192  # whose ids are replaced at a time


@final
class TextDraft:
    """Takes normalized texts as they are read: their keys, and for words their ids as well.

    The vocabulary is that of the training texts, and the labels decide which those are; so words are numbered as they
    come, and get their ids afterwards. Other tokenizers read the texts once more. A vocabulary without room for what
    the tokenizer always has is an InputError.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys: list[np.ndarray] = []
        self._words: WordIndex | None = None
        self._numbers = self._builder()
        self._draft: Ragged | None = None
        self._tokenizer: AnyTokenizer | None = None  # that the table leads to
        self._table = np.zeros(0, dtype=np.int32)
        if settings.tokenizer == "word":
            Tokenizer.train((), "word", settings.vocabulary_size)  # checks the size before the data are read
            self._words = WordIndex()

    def add(self, texts: list[str]) -> None:
        """Take some normalized texts."""
        self._keys.append(text_keys(texts))
        if self._words is not None:
            self._numbers.extend_flat(*self._words.encode(texts))

    def keys(self) -> np.ndarray:
        """Return a 64-bit key of every text: equal texts have equal keys."""
        return np.concatenate(self._keys) if self._keys else np.zeros(0, dtype=np.uint64)

    def reader(self, texts: TextColumn, train: np.ndarray) -> TextReader:
        """Return a reader with the vocabulary of the rows for which `train` is True; `fit_features` comes later."""
        settings = self._settings
        if self._words is None:
            return TextReader.fit(texts.chosen(train), settings)
        self._draft = self._numbers.finish()
        for part in _parts(self._draft, train):
            self._words.count(part.values)
        tokenizer, self._table = self._words.finish(settings.vocabulary_size)
        if settings.start is not None:
            new = tokenizer
            tokenizer = tokenizer_from(settings.start.vocabulary, lambda: new, settings.vocabulary_size)
            self._table = self._words.table(tokenizer)
        self._tokenizer = tokenizer
        return TextReader(settings.normalizer(), tokenizer, None, settings.max_length, settings.spill)

    def ids(self, reader: TextReader, texts: TextColumn, rows: np.ndarray) -> Ragged:
        """Return the ids of the texts of the rows that are True; `reader` is the one from here."""
        if self._draft is None:
            return reader.encode(texts.chosen(rows))
        if reader.tokenizer is not self._tokenizer:  # it has taken in words that have vectors
            assert self._words is not None
            assert isinstance(reader.tokenizer, Tokenizer)
            self._tokenizer, self._table = reader.tokenizer, self._words.table(reader.tokenizer)
        builder = self._builder()
        for part in _parts(self._draft, rows):
            builder.extend_flat(self._table[part.values], part.lengths)
        return builder.finish()

    def _builder(self) -> RaggedBuilder:
        return RaggedBuilder(np.int32, self._settings.spill)


def _parts(ragged: Ragged, rows: np.ndarray) -> Iterator[Ragged]:
    """Yield the sequences of the rows that are True, some at a time."""
    chosen = np.flatnonzero(rows)
    for start in range(0, len(chosen), _ROWS):
        yield ragged.take(chosen[start : start + _ROWS])
