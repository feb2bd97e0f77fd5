"""The tokenizer that a pretrained model came with: any file of the `tokenizers` library, with its special entries."""

import copy
import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import tokenizers

from thalweg.data.text.subwords.given import GivenTokenizer
from thalweg.data.text.subwords.library import guarded, whole
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.storage.regular import read_regular

KIND: Final = "pretrained"
MOST_BYTES: Final = 2**27  # of a file; vocabularies of 250,000 entries have 2**24
MOST_ENTRIES: Final = 2**24
_CHUNK: Final = 4096  # texts at a time


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Pairs of texts as sequences of ids, one after the other.

    Args:
        values: ids of all sequences, int32 `[total]`.
        lengths: of each, int64 `[sequences]`.
        kinds: which text of a pair each id is of, int32 `[total]`.
        num_cut: how many of the sequences were longer, and were cut.
    """

    values: np.ndarray
    lengths: np.ndarray
    kinds: np.ndarray
    num_cut: int


@final
class PretrainedTokenizer:
    """A vocabulary that belongs to a pretrained model, and what the model expects around a text.

    It has the names of `thalweg.data.text.tokenizer.Tokenizer`; ids and special entries are those of the model.

    Args:
        inner: the tokenizer as the `tokenizers` library has it.
        specials: ids by what they are for, `pad`, `unk`, `bos` and `eos`; those that the model has not are missing.
        size: how many entries the model has vectors for, which may be more than it has names for; None: as many.

    Attributes:
        kind: "pretrained".
        is_framed: whether the special ids around a text are among those of `encode_many`.

    Example:
        >>> from tokenizers import models
        >>> inner = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
        >>> tokenizer = PretrainedTokenizer(inner, {"unk": 0})
        >>> tokenizer.vocabulary_size, tokenizer.token(1)
        (2, 'a')

    Do not use it for a model that is trained from nothing: `Tokenizer` learns the vocabulary of your texts.
    """

    kind: Final = KIND
    has_words: Final = False  # as entries of the vocabulary, by which words can be unknown
    knows_lines: Final = True

    def __init__(self, inner: tokenizers.Tokenizer, specials: dict[str, int], size: int | None = None) -> None:
        self._inner = inner
        self.is_framed = True
        inner.no_truncation()
        inner.no_padding()
        self.specials = dict(specials)
        own = max(inner.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.vocabulary_size: int = own if size is None else max(own, size)
        if self.vocabulary_size > MOST_ENTRIES:
            raise ValueError(f"it has {self.vocabulary_size:,} entries; expected at most {MOST_ENTRIES:,}")
        probe = inner.encode("a")
        plain = [place for place, special in enumerate(probe.special_tokens_mask) if not special]
        self.num_before = plain[0] if plain else 0
        self.num_after = len(probe.ids) - 1 - plain[-1] if plain else 0

    @property
    def pad(self) -> int:
        """The id that sequences are filled up with."""
        return self.specials.get("pad", self.end)

    @property
    def end(self) -> int:
        """The id that ends a text."""
        return self.specials.get("eos", 0)

    @property
    def begin(self) -> int:
        """The id that a written text begins with."""
        return self.specials.get("bos", self.end)

    @property
    def unknown(self) -> int:
        """The id of what the vocabulary has no entry for; that of padding where there is no such thing."""
        return self.specials.get("unk", self.pad)

    def bare(self) -> "PretrainedTokenizer":
        """Return the same tokenizer without special ids around a text, for those who put their own."""
        other = copy.copy(self)
        other.is_framed = False
        return other

    @property
    def entries(self) -> list[str]:
        """The names of all entries in the order of their ids; "" where an id has none."""
        names = [""] * self.vocabulary_size
        for name, index in self._inner.get_vocab(with_added_tokens=True).items():
            names[index] = name
        return names

    def token(self, index: int) -> str:
        """Return the name of an entry, as the model's own files have it."""
        return self._inner.id_to_token(index) or ""

    def id_of(self, token: str) -> int | None:
        """Return the id of an entry; None if there is none."""
        return self._inner.token_to_id(token)

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text, with the special ones that the model expects around it."""
        return self.encode_many([text])[0].tolist()

    def encode_many(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts one after the other, int32, and how many each text has, int64 `[num_texts]`.

        The special ids around a text are among them, if the tokenizer is framed, and a text without any id gets the
        one that ends a text.
        """
        least = [self.end] if self.is_framed else []
        read = self._read(texts, self._inner, specials=self.is_framed)
        rows = [np.asarray(one.ids or least, dtype=np.int32) for one in read]
        return _flat(rows), _lengths(rows)

    def encode_pairs(self, first: Sequence[str], second: Sequence[str], length: int) -> Encoded:
        """Return the ids of pairs as the model reads them, both texts in one sequence of at most `length` ids.

        The longer text of a pair is cut first.
        """
        inner = copy.deepcopy(self._inner)
        inner.enable_truncation(length, strategy="longest_first")
        rows, kinds, num_cut = [], [], 0
        for found in self._read(list(zip(first, second, strict=True)), inner):
            rows.append(np.asarray(found.ids, dtype=np.int32))
            kinds.append(np.asarray(found.type_ids, dtype=np.int32))
            num_cut += bool(found.overflowing)
        return Encoded(_flat(rows), _lengths(rows), _flat(kinds), num_cut)

    def encode_words(self, words: Iterable[str]) -> list[np.ndarray]:
        """Return the ids of each word of a sentence that is split already, at least one for each word.

        Words after the first have a space before them, which some vocabularies tell apart.
        """
        texts = [word if place == 0 else f" {word}" for place, word in enumerate(words)]
        read = self._read(texts, self._inner, specials=False)
        return [np.asarray(one.ids or [self.unknown], dtype=np.int32) for one in read]

    @property
    def frame(self) -> tuple[list[int], list[int]]:
        """The special ids that stand before and after a text."""
        ids = self._inner.encode("a").ids
        return ids[: self.num_before], ids[len(ids) - self.num_after :]

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """Return the text of these ids, the special ones left out."""
        return guarded(lambda: self._inner.decode([int(index) for index in ids], skip_special_tokens=True), "decode")

    def to_bytes(self) -> bytes:
        """Return the content of one JSON file, which the `tokenizers` library reads as well."""
        return self._inner.to_str(pretty=True).encode()

    @classmethod
    def load(cls, path: str | Path, specials: dict[str, int], size: int | None = None) -> "PretrainedTokenizer":
        """Read a file of the `tokenizers` library.

        Raises:
            InputError: if it is missing, larger than any vocabulary, or not such a file.
        """
        return cls.from_text(read_text(path), specials, str(path), size)

    @classmethod
    def from_text(
        cls, text: str, specials: dict[str, int], where: str, size: int | None = None
    ) -> "PretrainedTokenizer":
        """Make one from the content of such a file; `where` names it in messages. Raises as `load`."""

        def make() -> PretrainedTokenizer:
            saved = json.loads(text)
            for part in ("truncation", "padding"):
                saved[part] = None
            return cls(tokenizers.Tokenizer.from_str(json.dumps(saved)), specials, size)

        try:
            made = guarded(make, "load")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"{where} is not a tokenizer of the `tokenizers` library ({error}).") from None
        wrong = [name for name, index in specials.items() if not 0 <= index < made.vocabulary_size]
        if wrong or not made.vocabulary_size:
            raise InputError(f"{where} has no entry for {wrong[0] if wrong else 'anything'}; it is another tokenizer.")
        return made

    def _read(self, texts: Sequence[Any], inner: tokenizers.Tokenizer, *, specials: bool = True) -> Iterator[Any]:
        for start in range(0, len(texts), _CHUNK):
            part = [_whole(text) for text in texts[start : start + _CHUNK]]
            read = functools.partial(inner.encode_batch, part, add_special_tokens=specials)
            yield from guarded(read, "read a text")


AnyTokenizer = Tokenizer | PretrainedTokenizer | GivenTokenizer
"""One that is learned from the texts of a run, came with a pretrained model, or was given as a file."""


def read_text(path: str | Path) -> str:
    """Return the content of a tokenizer's file; an InputError where it is missing, too large or not UTF-8."""
    try:
        return read_regular(path, MOST_BYTES).decode()
    except FileNotFoundError:
        raise InputError(f"{path} is missing; restore it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a tokenizer: {error}.") from None


def _whole(text: Any) -> Any:
    """Return a text, or both of a pair, in which half a surrogate pair is a question mark."""
    if isinstance(text, tuple):
        return tuple(map(_whole, text))
    return whole(text)


def _flat(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)


def _lengths(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([len(row) for row in rows], dtype=np.int64)
