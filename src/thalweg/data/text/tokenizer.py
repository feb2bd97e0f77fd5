"""Text to ids and back: words, subwords (BPE), characters or bytes; saved as one file of the `tokenizers` library."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from thalweg.data.text.codecs import (
    BOS,
    BYTE_LETTERS,
    BYTE_NAMES,
    EOS,
    PAD,
    SPECIALS,
    SPLITS,
    UNK,
    AbstractCodec,
    ByteCodec,
    CharCodec,
    SubwordCodec,
    WordCodec,
    byte_text,
    code_points,
    joined,
    word_codec,
)
from thalweg.data.text.words import PATTERN, SPACED
from thalweg.errors import InputError
from thalweg.storage import forms

__all__ = ["BOS", "EOS", "KINDS", "PAD", "SPECIALS", "UNK", "Tokenizer"]

KINDS: Final = ("word", "spaced", "bpe", "char", "byte")

_PATTERNS: Final = {"word": PATTERN, "spaced": SPACED}
_CHUNK = 4096  # texts at a time, so that what lies between text and ids needs little memory


@final
class Tokenizer:
    """A vocabulary, and how a text is split into its entries.

    | kind | entries | what is not in the vocabulary |
    | --- | --- | --- |
    | word | words and punctuation marks (see `thalweg.data.text.words`) | becomes `<unk>` |
    | spaced | words, and marks with the spaces beside them | becomes `<unk>`; all else is restored exactly |
    | bpe | bytes, and frequent runs of them | cannot occur: every text is restored exactly |
    | char | characters, and the 256 bytes | becomes bytes: every text is restored exactly |
    | byte | the 256 bytes of UTF-8 | cannot occur: every text is restored exactly |
    | list | given entries, for texts that are split already | becomes `<unk>` |

    Ids 0 to 3 are `<pad>`, `<unk>`, `<bos>` and `<eos>`; their names in a text are text like any other. Half a
    surrogate pair, which is not a character, is left out by "word" and read as `?` by the others. Tasks that read
    take "word", tasks that write "spaced", where a user says `--tokenizer word`. Made by `train`, `from_vocabulary` or
    `load`.

    Args:
        inner: the tokenizer as the `tokenizers` library has it: what `to_bytes` gives.
        kind: one of the kinds above.

    Attributes:
        kind: one of the kinds above.

    Example:
        >>> tokenizer = Tokenizer.train(["a b a"], "word")
        >>> tokenizer.vocabulary_size, tokenizer.encode("a b c"), tokenizer.decode([4, 5])
        (6, [4, 5, 1], 'a b')
        >>> tokenizer = Tokenizer.train([], "byte")
        >>> tokenizer.decode(tokenizer.encode("déjà vu"))
        'déjà vu'

    Source: Sennrich, Haddow and Birch (2016), Neural Machine Translation of Rare Words with Subword Units (BPE).
    """

    def __init__(self, inner: tokenizers.Tokenizer, kind: str) -> None:
        self.kind = kind
        self._inner = inner
        ids = inner.get_vocab(with_added_tokens=False)
        self._tokens = sorted(ids, key=ids.__getitem__)
        self._ids = {token: index for token, index in ids.items() if index >= len(SPECIALS)}
        self._codec = _codec(kind, inner, self._tokens)

    @classmethod
    def train(
        cls, texts: Iterable[str], kind: str = "word", vocabulary_size: int = 30_000, *, min_count: int = 1
    ) -> "Tokenizer":
        """Make a vocabulary from training texts.

        Args:
            texts: read once, not kept.
            kind: one of `KINDS`.
            vocabulary_size: maximum vocabulary size, the four special entries included; the most frequent are taken (of
                equally frequent words those that came first, of characters those with the lowest code).
            min_count: words, characters, or merges for "bpe", that are seen less often are left out.

        Raises:
            ValueError: for an unknown kind.
            InputError: if the vocabulary has no room for what the kind always has.
        """
        if kind not in KINDS:
            raise ValueError(f"Tokenizer.train(kind=...) must be one of {', '.join(KINDS)}; got {kind!r}.")
        num_fixed = len(SPECIALS) + (0 if kind in SPLITS else 256)
        if vocabulary_size < num_fixed:
            raise InputError(
                f"Expected a vocabulary of at least {num_fixed} entries for the tokenizer '{kind}', got "
                f"{vocabulary_size}; raise --vocabulary-size."
            )
        if kind == "bpe":
            return cls(_train_bpe(texts, vocabulary_size, min_count), kind)
        if kind == "byte":
            return cls(_byte_level({letter: len(SPECIALS) + byte for byte, letter in enumerate(BYTE_LETTERS)}), kind)
        ranked = _ranked_words(texts, SPLITS[kind]) if kind in SPLITS else _ranked_characters(texts)
        entries = [entry for entry, count in ranked[: vocabulary_size - num_fixed] if count >= min_count]
        return cls.from_vocabulary(entries, kind)

    @classmethod
    def from_vocabulary(cls, entries: Iterable[str], kind: str = "list") -> "Tokenizer":
        """Make a tokenizer of given entries.

        Args:
            entries: in the order of their ids, from 4 on (for "char" from 260 on, after the bytes); one that comes
                again, or has the name of a special one, is left out.
            kind: "list" for texts that are split already (a plain text is split at spaces), "word", "spaced", or
                "char" with single characters as entries.

        Raises:
            ValueError: for another kind.
        """
        if kind not in SPLITS and kind != "char":
            raise ValueError(f"Tokenizer.from_vocabulary(kind=...) must be list, word, spaced or char; got {kind!r}.")
        names = dict.fromkeys([*SPECIALS, *(BYTE_NAMES if kind == "char" else ()), *entries])
        vocabulary = {name: index for index, name in enumerate(names)}
        if kind == "char":
            inner = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token=SPECIALS[UNK], byte_fallback=True))
            inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
            return cls(inner, kind)
        inner = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS[UNK]))
        if kind == "list":
            inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        else:
            inner.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(_PATTERNS[kind]), "removed", invert=True)
        return cls(inner, kind)

    def with_words(self, entries: Iterable[str], vocabulary_size: int) -> "Tokenizer":
        """Return the tokenizer with more entries after its own, which keep their ids, up to a size; for whole words.

        Example:
            >>> grown = Tokenizer.train(["a b"], "word").with_words(["b", "c", "d"], 7)
            >>> grown.encode("a b c d")
            [4, 5, 6, 1]
        """
        new = [entry for entry in dict.fromkeys(entries) if entry not in self._ids and entry not in SPECIALS]
        room = max(0, vocabulary_size - self.vocabulary_size)
        return Tokenizer.from_vocabulary([*self.entries, *new[:room]], self.kind) if new[:room] else self

    @property
    def begin(self) -> int:
        """The id that a written text begins with."""
        return BOS

    @property
    def end(self) -> int:
        """The id that ends a text."""
        return EOS

    @property
    def unknown(self) -> int:
        """The id of what the vocabulary has no entry for."""
        return UNK

    @property
    def pad(self) -> int:
        """The id that sequences are filled up with."""
        return PAD

    @property
    def has_words(self) -> bool:
        """Whether the entries are whole words and marks, so that there are words that it has no entry for."""
        return self.kind in SPLITS

    @property
    def knows_lines(self) -> bool:
        """Whether line ends are among the entries, and come back."""
        return self.kind not in ("word", "list")

    def unknown_bytes(self, texts: Sequence[str]) -> int:
        """Return how many bytes of the texts the vocabulary has no entry for, the spaces in unknown pieces included."""
        if not self.has_words:
            return 0
        pieces = (piece for text in texts for piece in self.pieces(text))
        return sum(len(piece.encode("utf-8", "surrogatepass")) for piece in pieces if piece not in self._ids)

    def pieces(self, text: str) -> list[str]:
        """Return the parts of a text whose ids `encode` gives; for kinds of whole words.

        Raises:
            KeyError: for another kind.
        """
        return SPLITS[self.kind](text)

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs that "bpe" joins, the first first; none for other kinds."""
        pairs = json.loads(self._inner.to_str())["model"].get("merges", ())
        return [(pair[0], pair[1]) for pair in pairs]

    def words(self, ids: Iterable[int] | np.ndarray) -> list[str]:
        """Return the words of a text by its ids, in the library's letters: "bpe" joins nothing over their borders."""
        return [word for word, _ in self._inner.pre_tokenizer.pre_tokenize_str(self.decode(ids))]

    @property
    def entries(self) -> list[str]:
        """The names of all entries but the special ones, in the order of their ids."""
        return self._tokens[len(SPECIALS) :]

    @property
    def vocabulary_size(self) -> int:
        """Number of entries, the special ones included."""
        return len(self._tokens)

    def token(self, index: int) -> str:
        """Return the name of an entry; for "bpe" and "byte" in the library's letters, one for each byte."""
        return self._tokens[index]

    def id_of(self, token: str) -> int | None:
        """Return the id of an entry; None if there is none, or it is a special one."""
        return self._ids.get(token)

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text."""
        return self._codec.encode([text])[0].tolist()

    def encode_many(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts one after the other, int32, and how many each text has, int64 `[num_texts]`."""
        return joined([self._codec.encode(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)])

    def encode_words(self, words: Iterable[str]) -> list[int]:
        """Return the id of each word of a text that is split already; for kinds of whole words."""
        ids = self._ids
        return [ids.get(word, UNK) for word in words]

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """Return the text of these ids; padding, begin and end are left out.

        "word" and "list" join words by spaces, "spaced" puts back the spaces there were; `<unk>` is in the place of an
        unknown word.
        """
        return self._codec.decode(ids.tolist() if isinstance(ids, np.ndarray) else ids)

    def decode_with(self, ids: Iterable[int], unknown: Iterable[str]) -> str:
        """Return the text of these ids with given words in place of `<unk>`; for kinds of whole words.

        Example:
            >>> tokenizer = Tokenizer.train(["he is"], "spaced")
            >>> tokenizer.decode_with(tokenizer.encode("he is Tom"), ["Anna"])
            'he is Anna'
        """
        assert isinstance(self._codec, WordCodec)
        return self._codec.decode_with(ids, unknown)

    def to_bytes(self) -> bytes:
        """Return the content of one JSON file, which the `tokenizers` library reads as well."""
        return self._inner.to_str(pretty=True).encode()

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a file that holds what `to_bytes` gave.

        Raises:
            InputError: if the file is missing, damaged, or from something else.
        """
        saved = forms.read_json(Path(path), _FORM)
        kind = _kind(saved)
        if kind is None:
            raise InputError(f"{path} is not a tokenizer written by this version of thalweg; {forms.AGAIN}.")
        try:
            return cls(_made_again(kind, saved["model"]), kind)
        except Exception as error:  # the library raises plain exceptions
            raise InputError(f"{path} is damaged: it is not a tokenizer ({error}); {forms.AGAIN}.") from None


def _codec(kind: str, inner: tokenizers.Tokenizer, tokens: list[str]) -> AbstractCodec:
    if kind == "bpe":
        return SubwordCodec(inner, tokens)
    if kind == "char":
        return CharCodec(tokens)
    if kind == "byte":
        return ByteCodec()
    return word_codec(kind, tokens)


_PAIR: Final = forms.many(forms.text(), least=2, most=2)
_FORM: Final = forms.record(
    model=forms.record(
        {"byte_fallback": forms.truth(), "merges": forms.many(forms.either("a pair of entries", forms.text(), _PAIR))},
        type=forms.choice("WordLevel", "BPE"),
        vocab=forms.table(forms.whole(0)),
    ),
    pre_tokenizer=forms.perhaps(forms.record(type=forms.text())),
    added_tokens=forms.anything(),
    normalizer=forms.anything(),
)


def _kind(saved: dict[str, Any]) -> str | None:
    """Return the kind of a saved tokenizer, None if it is none of ours."""
    model, splitter = saved["model"], saved["pre_tokenizer"] or {}
    names = _names(model)
    if tuple(names[: len(SPECIALS)]) != SPECIALS or [model["vocab"][name] for name in names] != list(range(len(names))):
        return None
    if saved["added_tokens"] or saved["normalizer"]:
        return None
    if model["type"] == "WordLevel":
        if splitter == {"type": "WhitespaceSplit"}:
            return "list"
        return next((kind for kind in _PATTERNS if splitter.get("pattern") == {"Regex": _PATTERNS[kind]}), None)
    if model.get("byte_fallback"):
        return "char" if not model.get("merges") and tuple(names[4:260]) == BYTE_NAMES else None
    if splitter.get("type") != "ByteLevel" or not set(BYTE_LETTERS) <= model["vocab"].keys():
        return None
    if splitter.get("use_regex"):
        return "bpe"
    return "byte" if tuple(names[4:]) == tuple(BYTE_LETTERS) else None


def _names(model: dict[str, Any]) -> list[str]:
    vocabulary: dict[str, int] = model["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _made_again(kind: str, model: dict[str, Any]) -> tokenizers.Tokenizer:
    """Return the tokenizer with a saved vocabulary; nothing else of a file is given to the library."""
    if kind != "bpe":
        names = _names(model)[len(SPECIALS) + (256 if kind == "char" else 0) :]
        return Tokenizer.train([], kind)._inner if kind == "byte" else Tokenizer.from_vocabulary(names, kind)._inner
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", ())]
    return _byte_level(model["vocab"], [(first, second) for first, second in pairs], split=True)


def _ranked_words(texts: Iterable[str], split: Callable[[str], list[str]]) -> list[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    return counts.most_common()


def _ranked_characters(texts: Iterable[str]) -> list[tuple[str, int]]:
    counts = np.zeros(0x110000, dtype=np.int64)
    for chunk in _chunks(texts):
        codes, numbers = np.unique(code_points(chunk), return_counts=True)
        counts[codes] += numbers
    codes = np.flatnonzero(counts)
    order = np.argsort(-counts[codes], kind="stable")
    return [
        (chr(code), count) for code, count in zip(codes[order].tolist(), counts[codes][order].tolist(), strict=True)
    ]


def _train_bpe(texts: Iterable[str], vocabulary_size: int, min_count: int) -> tokenizers.Tokenizer:
    inner = _byte_level({}, split=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=min_count,
        special_tokens=list(SPECIALS),
        initial_alphabet=list(BYTE_LETTERS),
        show_progress=False,
    )
    inner.train_from_iterator(([byte_text(text).decode() for text in chunk] for chunk in _chunks(texts)), trainer)
    # Training registers the special entries to be found in texts; a text that contains their names must stay a text.
    saved = json.loads(inner.to_str())
    saved["added_tokens"] = []
    return tokenizers.Tokenizer.from_str(json.dumps(saved))


def _byte_level(
    vocabulary: dict[str, int], merges: Sequence[tuple[str, str]] = (), *, split: bool = False
) -> tokenizers.Tokenizer:
    """Return a tokenizer for bytes; `split` cuts texts into words first, over whose borders no entry reaches."""
    specials = {name: index for index, name in enumerate(SPECIALS)}
    inner = tokenizers.Tokenizer(models.BPE(specials | vocabulary, list(merges)))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)
    inner.decoder = decoders.ByteLevel()
    return inner


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk
