"""Vocabularies of other programs, each with its own way from text to ids: of `tokenizers`, and of SentencePiece."""

import base64
import importlib
import json
from collections.abc import Sequence
from typing import Any, Final, final

import tokenizers
from typing_extensions import override

from thalweg.data.text.codecs import BOS, EOS, PAD, UNK
from thalweg.data.text.subwords.given import AbstractEngine
from thalweg.data.text.subwords.library import guarded
from thalweg.errors import InputError

_SPACE: Final = "\u2581"  # what SentencePiece writes for one
_NAMES: Final = {
    PAD: ("<pad>", "[PAD]", "<|pad|>"),
    UNK: ("<unk>", "[UNK]", "<|unk|>"),
    BOS: ("<s>", "<bos>", "[BOS]", "[CLS]", "<|startoftext|>", "<|begin_of_text|>"),
    EOS: ("</s>", "<eos>", "[EOS]", "[SEP]", "<|endoftext|>", "<|end_of_text|>"),
}
"""What other programs call the special entries; a file has one of each at most that is taken."""


@final
class LibraryEngine(AbstractEngine):
    """A file of the `tokenizers` library, as Hugging Face's models come with (`tokenizer.json`).

    Entries that are special there are no longer found in texts: there their names are text.

    Args:
        saved: the content of the file.

    Raises:
        ValueError: if it is not such a file.
    """

    def __init__(self, saved: dict[str, Any]) -> None:
        plain = {**saved, "truncation": None, "padding": None, "post_processor": None}
        added = saved.get("added_tokens")
        plain["added_tokens"] = [one for one in added if not one.get("special")] if isinstance(added, list) else []
        self._inner = guarded(lambda: tokenizers.Tokenizer.from_str(json.dumps(plain)), "be read")
        ids: dict[str, int] = self._inner.get_vocab(with_added_tokens=True)
        if not ids:
            raise ValueError("it has no entries")
        self.names = [None] * (max(ids.values()) + 1)
        for name, index in ids.items():
            self.names[index] = name
        own = {UNK: getattr(self._inner.model, "unk_token", None)}
        self.specials = {}
        for special, usual in _NAMES.items():
            found = next((ids[name] for name in (own.get(special), *usual) if name in ids), None)
            if found is not None and found not in self.specials.values():
                self.specials[special] = found

    @override
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._encodings(texts)]

    def _encodings(self, texts: Sequence[str]) -> list[Any]:
        return guarded(lambda: self._inner.encode_batch(list(texts), add_special_tokens=False), "read a text")

    @override
    def decode(self, ids: list[int]) -> str:
        return guarded(lambda: self._inner.decode(ids, skip_special_tokens=False), "decode")

    @override
    def unknown_bytes(self, texts: Sequence[str]) -> int:
        unknown, found = self.specials.get(UNK), 0
        for text, one in zip(texts, self._encodings(texts), strict=True):
            spans = {span for index, span in zip(one.ids, one.offsets, strict=True) if index == unknown}
            found += sum(len(text[begin:end].encode()) for begin, end in spans)
        return found

    @override
    def saved(self) -> dict[str, Any]:
        return json.loads(self._inner.to_str())


@final
class PieceEngine(AbstractEngine):
    """A model of SentencePiece (`.model`), read by its own library, which the extra `sentencepiece` brings.

    Args:
        model: the content of the file.
        where: names it in messages.

    Raises:
        InputError: where the library is missing.
        ValueError: if it is not such a file.

    Source: Kudo and Richardson (2018), SentencePiece: A Simple and Language Independent Subword Tokenizer.
    """

    def __init__(self, model: bytes, where: str) -> None:
        try:
            library = importlib.import_module("sentencepiece")
        except ImportError:
            raise InputError(
                f"{where} is a model of SentencePiece, which takes a package to be read: pip install "
                "'thalweg[sentencepiece]'."
            ) from None
        self._model = model
        self._inner: Any = guarded(lambda: library.SentencePieceProcessor(model_proto=model), "be read")
        size = self._inner.get_piece_size()
        if not size:
            raise ValueError("it has no entries")
        self.names = [self._inner.id_to_piece(index) for index in range(size)]
        ids = (self._inner.pad_id(), self._inner.unk_id(), self._inner.bos_id(), self._inner.eos_id())
        self.specials = {special: index for special, index in zip((PAD, UNK, BOS, EOS), ids, strict=True) if index >= 0}

    @override
    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._inner.encode(list(texts), out_type=int)

    @override
    def decode(self, ids: list[int]) -> str:
        return self._inner.decode(ids)

    @override
    def unknown_bytes(self, texts: Sequence[str]) -> int:
        unknown, found = self.specials.get(UNK), 0
        for ids, pieces in zip(self.encode(texts), self._inner.encode(list(texts), out_type=str), strict=True):
            lost = (piece for index, piece in zip(ids, pieces, strict=True) if index == unknown)
            found += sum(len(piece.replace(_SPACE, " ").encode()) for piece in lost)
        return found

    @override
    def saved(self) -> dict[str, Any]:
        return {"sentencepiece": base64.b64encode(self._model).decode()}


def engine_of(saved: Any, where: str) -> AbstractEngine:
    """Return the engine of what `AbstractEngine.saved` gave, or of a file of `tokenizers`.

    Raises:
        InputError: where the library is missing.
        ValueError: if it is neither.
    """
    if not isinstance(saved, dict):
        raise ValueError("it is no JSON object")
    if "sentencepiece" in saved:
        return PieceEngine(base64.b64decode(saved["sentencepiece"], validate=True), where)
    return LibraryEngine(saved)
