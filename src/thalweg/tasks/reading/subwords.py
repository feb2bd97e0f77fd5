"""Sentences of words for a pretrained model: subwords, and where each word begins among them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, final

import numpy as np

from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.pretrained_folder import PretrainedFolder
from thalweg.data.text.pretrained_tokenizer import PretrainedTokenizer
from thalweg.data.text.words import split_tokens
from thalweg.tasks.reading.text_reader import check_length
from thalweg.tasks.settings import Settings

_MOST_KNOWN: Final = 500_000  # words whose ids are remembered


@final
class SubwordReader:
    """From words to the ids of a pretrained model's tokenizer; a word's state is that of its first subword.

    Args:
        normalizer: steps before tokenizing.
        pretrained: the model that the tokenizer belongs to.
        max_length: longest piece of a sentence in subwords, the special ones included.
    """

    def __init__(self, normalizer: Normalizer, pretrained: PretrainedFolder, max_length: int) -> None:
        check_length(pretrained, max_length)
        self.normalizer = normalizer
        self.pretrained = pretrained
        self.tokenizer: PretrainedTokenizer = pretrained.tokenizer
        self._before, self._after = self.tokenizer.frame
        self._room = max_length - len(self._before) - len(self._after)
        self._known: dict[tuple[bool, str], np.ndarray] = {}

    @classmethod
    def open(cls, settings: Settings, old: "SubwordReader | None" = None) -> "SubwordReader":
        """Make the reader of the model that the settings name, or of a run to start from."""
        found = PretrainedFolder.open(settings.pretrained) if old is None else old.pretrained
        return cls(settings.normalizer(), found, settings.max_length)

    def bounds(self, words: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Yield where the pieces of a sentence begin and end, in words; each has room for all subwords of its words."""
        start, used = 0, 0
        for place, word in enumerate(words):
            number = len(self._ids(word, is_first=place == start))
            if used + number > self._room and place > start:
                yield start, place
                start, used, number = place, 0, len(self._ids(word, is_first=True))
            used += number
        if start < len(words):
            yield start, len(words)

    def encode(self, words: Sequence[str]) -> list[int]:
        """Return the ids of a piece, the special ones around it among them."""
        return [*self._before, *np.concatenate(self._subwords(words)).tolist(), *self._after]

    def places(self, words: Sequence[str]) -> list[int]:
        """Return where each word of a piece begins among its ids."""
        lengths = [len(ids) for ids in self._subwords(words)]
        return (len(self._before) + np.cumsum([0, *lengths[:-1]])).tolist()

    def split(self, text: str) -> list[str]:
        """Return a text's words: it is split at spaces and punctuation."""
        return [piece for part in text.split() for piece in split_tokens(part) or [part]]

    def _subwords(self, words: Sequence[str]) -> list[np.ndarray]:
        return [self._ids(word, is_first=place == 0) for place, word in enumerate(words)]

    def _ids(self, word: str, *, is_first: bool) -> np.ndarray:
        """Return the ids of a word, no more than there is room for; the first of a piece has no space before it."""
        key = is_first, word
        if key not in self._known:
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            text = self.normalizer(word)
            self._known[key] = self.tokenizer.encode_words([text] if is_first else ["", text])[-1][: self._room]
        return self._known[key]

    def files(self) -> dict[str, bytes]:
        """Return what `load` reads."""
        return self.pretrained.files()

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> "SubwordReader":
        """Read back what `files` gave."""
        return cls(settings.normalizer(), PretrainedFolder.load(folder), settings.max_length)
