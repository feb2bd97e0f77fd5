"""A vocabulary of another program, with the ids and names of one of our own."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, final

import numpy as np

from thalweg.data.text.codecs import BOS, EOS, PAD, SPECIALS, UNK
from thalweg.data.text.subwords.library import whole

KIND: Final = "file"
_CHUNK: Final = 4096  # texts at a time


class AbstractEngine(ABC):
    """A vocabulary with ids of its own.

    Attributes:
        names: of the entries, by their ids; None where an id has none.
        specials: which of them are special entries of ours -> theirs.
    """

    names: list[str | None]
    specials: dict[int, int]

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of texts, without special ones around them."""

    @abstractmethod
    def decode(self, ids: list[int]) -> str:
        """Return the text of some ids, as the library has it."""

    @abstractmethod
    def unknown_bytes(self, texts: Sequence[str]) -> int:
        """Return how many bytes of the texts the vocabulary has no entry for."""

    @abstractmethod
    def saved(self) -> dict[str, Any]:
        """Return what an engine is made of again, as plain JSON values."""


@final
class GivenTokenizer:
    """A vocabulary of another program behind the ids of this one.

    It has the names of `thalweg.data.text.tokenizer.Tokenizer`. Ids 0 to 3 are `<pad>`, `<unk>`, `<bos>` and `<eos>`,
    whatever theirs are called and numbered there; all other entries follow in their order. Texts are cut and joined as
    that program does it, its own normalization included.

    Args:
        engine: cuts and joins.

    Attributes:
        kind: "file".
        knows_lines: whether a line end is among what comes back.

    Example:
        >>> from tokenizers import Tokenizer, models
        >>> from thalweg.data.text.subwords.engines import LibraryEngine
        >>> inner = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "b": 2}, unk_token="[UNK]"))
        >>> tokenizer = GivenTokenizer(LibraryEngine(json.loads(inner.to_str())))
        >>> tokenizer.encode("a"), tokenizer.encode("c"), tokenizer.entries
        ([4], [1], ['a', 'b'])
    """

    kind: Final = KIND
    has_words: Final = False  # whose text could be put together again piece by piece
    begin, end, unknown, pad = BOS, EOS, UNK, PAD

    def __init__(self, engine: AbstractEngine) -> None:
        self._engine = engine
        special = {theirs: own for own, theirs in engine.specials.items()}
        others = [index for index, name in enumerate(engine.names) if name is not None and index not in special]
        self._theirs = [engine.specials.get(own, -1) for own in range(len(SPECIALS))] + others
        self._ours = np.full(len(engine.names), UNK, dtype=np.int32)
        self._ours[others] = np.arange(len(SPECIALS), len(self._theirs), dtype=np.int32)
        for theirs, own in special.items():
            self._ours[theirs] = own
        self.entries: list[str] = [engine.names[index] or "" for index in others]
        self._ids = {name: index for index, name in enumerate(self.entries, start=len(SPECIALS))}
        self.knows_lines = "\n" in self.decode(self.encode("a\na"))

    @property
    def vocabulary_size(self) -> int:
        """Number of entries, the special ones included."""
        return len(self._theirs)

    def token(self, index: int) -> str:
        """Return the name of an entry, as the file has it."""
        return SPECIALS[index] if index < len(SPECIALS) else self.entries[index - len(SPECIALS)]

    def id_of(self, token: str) -> int | None:
        """Return the id of an entry; None if there is none, or it is a special one."""
        return self._ids.get(token)

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text."""
        return self.encode_many([text])[0].tolist()

    def encode_many(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts one after the other, int32, and how many each text has, int64 `[num_texts]`."""
        rows: list[list[int]] = []
        for start in range(0, len(texts), _CHUNK):
            rows += self._engine.encode([whole(text) for text in texts[start : start + _CHUNK]])
        lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        theirs = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        ids = self._ours[theirs]
        ids[(ids == PAD) | (ids == BOS) | (ids == EOS)] = UNK  # a text holds none of these
        return ids, lengths

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """Return the text of these ids as the file's own program has it; padding, begin and end are left out."""
        theirs = [self._theirs[int(index)] for index in ids if int(index) not in (PAD, BOS, EOS)]
        return self._engine.decode([index for index in theirs if index >= 0])

    def unknown_bytes(self, texts: Sequence[str]) -> int:
        """Return how many bytes of the texts the vocabulary has no entry for."""
        return self._engine.unknown_bytes([whole(text) for text in texts])

    def to_bytes(self) -> bytes:
        """Return the content of one JSON file, which `thalweg.data.text.subwords.vocabularies.load_given` reads."""
        return json.dumps(self._engine.saved(), ensure_ascii=False).encode()
