"""How each kind of tokenizer turns texts into ids and ids into text, many texts at a time."""

import abc
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, count
from typing import Final, final

import numpy as np
import tokenizers
from typing_extensions import override

from thalweg.data.text.words import UNKNOWN, join_spaced, split_spaced, split_words

SPECIALS: Final = ("<pad>", UNKNOWN, "<bos>", "<eos>")
PAD, UNK, BOS, EOS = range(4)

BYTE_NAMES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""Entries for single bytes in a vocabulary of characters: the names that `tokenizers` knows for its byte fallback."""

_SILENT = (PAD, BOS, EOS)
_NUM_CODES = 0x110000  # of Unicode


def _byte_letters() -> tuple[str, ...]:
    # Printable Latin-1 characters represent themselves; the others get, in order, the letters from U+0100 on.
    moved = count(0x100)
    return tuple(chr(b if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE else next(moved)) for b in range(256))


BYTE_LETTERS: Final = _byte_letters()
"""The letter that stands for each byte in the entries of a byte-level vocabulary (Radford et al., 2019, GPT-2)."""


def byte_text(text: str) -> bytes:
    """Return a text in UTF-8, with `?` for half a surrogate pair, which is not a character."""
    return text.encode("utf-8", "replace")


def code_points(texts: Iterable[str]) -> np.ndarray:
    """Return the code points of texts one after the other, uint32, with `?` for half a surrogate pair."""
    return np.frombuffer("".join(texts).encode("utf-32-le", "replace"), dtype="<u4")


def joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of several parts one after the other, int32, and how many each text has, int64."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([lengths for _, lengths in parts])


class AbstractCodec(abc.ABC):
    """How one kind of tokenizer cuts texts and joins them."""

    @abc.abstractmethod
    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts one after the other, int32, and how many each text has, int64."""

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Return the text; bytes that are not UTF-8 become the replacement character."""


@final
class WordCodec(AbstractCodec):
    """Looks words up in a dictionary, which is much faster than the library's own encoding and gives the same ids."""

    def __init__(
        self, tokens: Sequence[str], split: Callable[[str], list[str]], join: Callable[[Iterable[str]], str] = " ".join
    ) -> None:
        self._tokens, self._split, self._join = tokens, split, join
        ids = _Lookup({token: index for index, token in enumerate(tokens) if index >= len(SPECIALS)})
        self._lookup = ids.__getitem__

    @override
    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        words = list(map(self._split, texts))
        lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        ids = map(self._lookup, chain.from_iterable(words))
        return np.fromiter(ids, dtype=np.int32, count=int(lengths.sum())), lengths

    @override
    def decode(self, ids: Iterable[int]) -> str:
        return self.decode_with(ids, ())

    def decode_with(self, ids: Iterable[int], unknown: Iterable[str]) -> str:
        """Return the text with these words in place of the first `<unk>`s."""
        words = iter(unknown)
        found = (next(words, UNKNOWN) if index == UNK else self._tokens[index] for index in ids if index not in _SILENT)
        return self._join([word for word in found if word])


def spaced_pieces(text: str) -> list[str]:
    """Return the pieces of a text (see `split_spaced`), with `?` for half a surrogate pair."""
    return split_spaced(text if text.isascii() else byte_text(text).decode())


SPLITS: Final[dict[str, Callable[[str], list[str]]]] = {
    "word": split_words,
    "spaced": spaced_pieces,
    "list": str.split,
}
"""How the kinds whose entries are whole words cut a text."""

_JOINS: Final[dict[str, Callable[[Iterable[str]], str]]] = {"word": " ".join, "spaced": join_spaced, "list": " ".join}


def word_codec(kind: str, tokens: Sequence[str]) -> WordCodec:
    """Return the codec of one of the kinds in `SPLITS`."""
    return WordCodec(tokens, SPLITS[kind], _JOINS[kind])


@final
class _Lookup(dict[str, int]):
    """A dictionary in which everything unknown is `<unk>`."""

    def __missing__(self, word: str) -> int:
        return UNK


@final
class ByteCodec(AbstractCodec):
    """Byte `b` of a text's UTF-8 form is id `4 + b`."""

    @override
    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded = list(map(byte_text, texts))
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.int32) + len(SPECIALS), lengths

    @override
    def decode(self, ids: Iterable[int]) -> str:
        return bytes([index - len(SPECIALS) for index in ids if index >= len(SPECIALS)]).decode("utf-8", "replace")


@final
class CharCodec(AbstractCodec):
    """A character is looked up by its code point; one that is not in the vocabulary becomes its bytes in UTF-8."""

    def __init__(self, tokens: Sequence[str]) -> None:
        first = len(SPECIALS) + len(BYTE_NAMES)  # after which the vocabulary has characters only
        self._pieces = [b""] * len(SPECIALS) + [bytes([byte]) for byte in range(256)]
        self._pieces += [byte_text(token) for token in tokens[first:]]
        self._table = np.full(_NUM_CODES, -1, dtype=np.int32)
        self._table[[ord(token) for token in tokens[first:]]] = np.arange(first, len(tokens), dtype=np.int32)

    @override
    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        codes = code_points(texts)
        ids = self._table[codes]
        unknown = ids < 0
        if not unknown.any():
            return ids, lengths
        # A character takes 1 byte up to U+007F, 2 up to U+07FF, 3 up to U+FFFF, else 4.
        num_ids = np.where(unknown, 1 + (codes > 0x7F) + (codes > 0x7FF) + (codes > 0xFFFF), 1)
        missing = codes[unknown].astype("<u4").tobytes().decode("utf-32-le")
        ends = np.concatenate([[0], np.cumsum(num_ids)])[np.concatenate([[0], np.cumsum(lengths)])]
        ids = np.repeat(ids, num_ids)
        ids[ids < 0] = np.frombuffer(byte_text(missing), dtype=np.uint8).astype(np.int32) + len(SPECIALS)
        return ids, np.diff(ends)

    @override
    def decode(self, ids: Iterable[int]) -> str:
        return b"".join([self._pieces[index] for index in ids]).decode("utf-8", "replace")


@final
class SubwordCodec(AbstractCodec):
    """Runs of bytes, found by the library's tokenizer, whose vocabulary is written in `BYTE_LETTERS`."""

    def __init__(self, inner: tokenizers.Tokenizer, tokens: Sequence[str]) -> None:
        self._inner = inner
        values = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}
        self._pieces = [b""] * len(SPECIALS) + [bytes(map(values.__getitem__, t)) for t in tokens[len(SPECIALS) :]]

    @override
    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        try:
            encodings = self._inner.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:  # half a surrogate pair somewhere
            whole = [byte_text(text).decode() for text in texts]
            encodings = self._inner.encode_batch_fast(whole, add_special_tokens=False)
        ids = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        return np.fromiter(chain.from_iterable(ids), dtype=np.int32, count=int(lengths.sum())), lengths

    @override
    def decode(self, ids: Iterable[int]) -> str:
        return b"".join([self._pieces[index] for index in ids]).decode("utf-8", "replace")
