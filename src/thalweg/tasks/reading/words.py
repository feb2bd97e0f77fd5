"""Reading sentences that are split into words already: words and tags to ids, and a text to words."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

from thalweg.data.files.base import AbstractSource
from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.tokenizer import SPECIALS, UNK, Tokenizer
from thalweg.data.text.words import split_tokens
from thalweg.errors import InputError
from thalweg.tasks.base import Settings
from thalweg.tasks.reading.spelling import MAX_CLASSES, spelling_classes, spellings
from thalweg.tasks.reading.text_column import check_columns

TOKENIZER = "tokenizer.json"
TEXT = "text"  # the column with the text of a sentence, from the comments `# text = ...` of CoNLL-U
APOSTROPHES = "'’"
MIN_COUNT = 2  # a word seen once is read by its spelling: that is how the network learns to read unseen words


@final
@dataclasses.dataclass(frozen=True)
class Sentence:
    """One row: its line in the file, words and tags, and the text they were cut from where the file has it."""

    line: int
    words: list[str]
    tags: list[str | None]  # None: not given
    text: str | None = None


def read_sentences(source: AbstractSource, columns: dict[str, Any]) -> Iterator[list[Sentence]]:
    """Yield the rows that have words with tags, in chunks; a value is a list, or a text separated by spaces.

    An InputError says if one of the columns "tokens" and "tags" is missing, a value is of another type, or a row has
    more words than tags or fewer.
    """
    check_columns(source, (columns["tokens"], columns["tags"]))
    for chunk in source.chunks():
        rows: list[Sentence] = []
        both = chunk.column(columns["tokens"]), chunk.column(columns["tags"])
        has_text = source.kind in ("conll", "conllu") and TEXT in source.columns
        texts = chunk.column(TEXT) if has_text else [None] * len(chunk.lines)
        for line, tokens, tags, text in zip(chunk.lines, *both, texts, strict=True):
            words = _texts(tokens, source.name, line, columns["tokens"])
            sentence = Sentence(line, words, _tags(tags, source.name, line, columns["tags"]), text)
            if len(sentence.tags) != len(words):
                raise InputError(
                    f"{source.name}, line {line}: expected a tag for each word, got {len(words)} words and "
                    f"{len(sentence.tags)} tags."
                )
            if any(tag is not None for tag in sentence.tags):
                rows.append(sentence)
        yield rows


def _tags(value: Any, name: str, line: int, column: str) -> list[str | None]:
    if isinstance(value, list) and None in value:
        return [None if tag is None else _texts([tag], name, line, column)[0] for tag in value]
    return [*_texts(value, name, line, column)]


def _texts(value: Any, name: str, line: int, column: str) -> list[str]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(entry, str | int | float) for entry in value):
        return [str(entry) for entry in value]
    raise InputError(f"{name}, line {line}: expected a list of texts in column {column!r}, got {str(value)[:60]!r}.")


@final
class WordReader:
    """From words to ids: common words have their own, rare and unseen ones that of their spelling.

    The vocabulary holds words and classes of spelling (see `thalweg.tasks.reading.spelling`).
    """

    def __init__(self, normalizer: Normalizer, tokenizer: Tokenizer) -> None:
        self.normalizer = normalizer
        self.tokenizer = tokenizer
        self._ids: dict[str, int] = {}

    @classmethod
    def fit(cls, counts: Counter[str], settings: Settings, old: "WordReader | None" = None) -> "WordReader":
        """Make a vocabulary of the most frequent words, as written in the training data, and the others' spellings.

        An `old` one is kept, and the new words come after its own; its classes of spelling stay the only ones.
        """
        normalizer = settings.normalizer()
        normalized: Counter[str] = Counter()
        for word, count in counts.items():
            normalized[normalizer(word)] += count
        # Equal counts in alphabetical order: the same data in another order give the same vocabulary.
        ranked = sorted(normalized, key=lambda word: (-normalized[word], word))
        ranked = [word for word in ranked if word]
        # Where hardly a word is rare, as in made-up data, the rarest ones show how to read by spelling.
        num_rare = max(sum(normalized[word] < MIN_COUNT for word in ranked), len(ranked) // 20)
        common, rare = ranked[: len(ranked) - num_rare], ranked[len(ranked) - num_rare :]
        if old is not None:
            return cls(normalizer, old.tokenizer.with_words(common, settings.vocabulary_size))
        room = max(0, settings.vocabulary_size - len(SPECIALS))
        classes = spelling_classes(rare, limit=min(MAX_CLASSES, room // 2))
        room -= len(classes)
        return cls(normalizer, Tokenizer.from_vocabulary([*common[:room], *classes]))

    def encode(self, words: Sequence[str]) -> list[int]:
        """Return the id of each word."""
        known = self._ids
        return [known[word] if word in known else self._read(word) for word in words]

    def knows(self, word: str) -> bool:
        """Whether the word is in the vocabulary by itself."""
        return self.tokenizer.id_of(self.normalizer(word)) is not None

    def split(self, text: str) -> list[str]:
        """Return a text's words: it is split at spaces, and at punctuation where a part is not a known word.

        An apostrophe inside a part is a place to split where that gives two known words, one of which begins or ends
        with it or is a negation: "do" and "n't", "John" and "'s", "L'" and "Europe".
        """
        words: list[str] = []
        for part in text.split():
            for piece in [part] if self.knows(part) else split_tokens(part) or [part]:
                words += self._clitics(piece)
        return words

    def _clitics(self, piece: str) -> list[str]:
        if self.knows(piece) or not any(mark in piece[1:-1] for mark in APOSTROPHES):
            return [piece]
        for place in range(1, len(piece)):
            left, right = piece[:place], piece[place:]
            joins = left[-1] in APOSTROPHES or right[0] in APOSTROPHES or right[1:2] in tuple(APOSTROPHES)
            clitic = left if left[-1] in APOSTROPHES else right
            if joins and self.knows(clitic):
                return [*self._clitics(left), *self._clitics(right)]
        return [piece]

    def _read(self, word: str) -> int:
        normalized = self.normalizer(word)
        candidates = (self.tokenizer.id_of(name) for name in (normalized, *spellings(normalized)) if name)
        found = next((id_ for id_ in candidates if id_ is not None), UNK)
        if len(self._ids) < 1_000_000:
            self._ids[word] = found
        return found

    def files(self) -> dict[str, bytes]:
        """Return `tokenizer.json`."""
        return {TOKENIZER: self.tokenizer.to_bytes()}

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> "WordReader":
        """Read back what `files` gave."""
        return cls(settings.normalizer(), Tokenizer.load(folder / TOKENIZER))


def pieces(sequence: Sequence[Any], length: int) -> Iterable[Sequence[Any]]:
    """Yield a sequence in pieces of at most `length`."""
    return (sequence[start : start + length] for start in range(0, len(sequence), length))
