"""Vocabularies that are given as files: a model of SentencePiece, a file of `tokenizers`, or a list of words."""

import json
from pathlib import Path
from typing import Final

from thalweg.data.text.codecs import SPECIALS
from thalweg.data.text.subwords.engines import PieceEngine, engine_of
from thalweg.data.text.subwords.given import GivenTokenizer
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.errors import InputError
from thalweg.storage import forms
from thalweg.storage.regular import read_regular

PIECES: Final = (".model", ".spm")  # how models of SentencePiece end
MOST_BYTES: Final = 2**27  # of a file


def read_given(path: str | Path) -> Tokenizer | GivenTokenizer:
    """Return the tokenizer of a file that another program has written.

    It is a model of SentencePiece, a `tokenizer.json` of `tokenizers`, or a list of words, one a line, with their
    counts behind them or not. With a list texts are split at white space.

    Raises:
        InputError: if the file is missing, none of these, or needs a package that is missing.
    """
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    try:
        if "\0" in text:
            return GivenTokenizer(PieceEngine(content, str(path)))
        if text.lstrip().startswith("{"):
            return GivenTokenizer(engine_of(json.loads(text), str(path)))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"--vocabulary {path}: expected a model of SentencePiece, a tokenizer.json of the library tokenizers, or a "
            f"text with a word a line ({error})."
        ) from None
    if Path(path).suffix.lower() in PIECES:
        raise InputError(
            f"--vocabulary {path}: expected a model of SentencePiece, as its ending says, got a text; check the file, "
            "and call a list of words .txt."
        )
    return Tokenizer.from_vocabulary(_listed(text, path), "list")


def load_given(path: Path) -> Tokenizer | GivenTokenizer:
    """Read back what a tokenizer of `read_given` wrote; an InputError names a file that is missing or damaged."""
    content = _content(path)
    try:
        saved = json.loads(content)
        if "sentencepiece" not in saved and saved["model"].get("type") == "WordLevel":
            names = sorted(saved["model"]["vocab"].items(), key=lambda pair: pair[1])
            if [name for name, _ in names[: len(SPECIALS)]] == list(SPECIALS):
                return Tokenizer.load(path)
        return GivenTokenizer(engine_of(saved, str(path)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: it is not a tokenizer ({error}); {forms.AGAIN}.") from None


def _content(path: str | Path) -> bytes:
    try:
        return read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        raise InputError(f"The vocabulary {path} is missing; check the name and the folder.") from None
    except OSError as error:
        raise InputError(f"The vocabulary {path} cannot be read: {error}.") from None


def _listed(text: str, path: str | Path) -> list[str]:
    """Return the words of a list; lines of another form are an InputError."""
    lines = [(number, line.split()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    with_counts = all(len(parts) == 2 and parts[1].isdecimal() for _, parts in lines)
    wrong = next((number for number, parts in lines if len(parts) > 1 and not with_counts), None)
    if wrong is not None or not lines:
        what = "it is empty" if wrong is None else f"line {wrong} holds more than a word"
        if wrong is not None and len(line := dict(lines)[wrong]) == 2 and line[1].isdecimal():
            bare = next(number for number, parts in lines if len(parts) != 2 or not parts[1].isdecimal())
            what = f"line {wrong} has a count and line {bare} none; either all lines have one, or none"
        raise InputError(
            f"--vocabulary {path}: expected a model of SentencePiece, a tokenizer.json of the library tokenizers, or a "
            f"text with a word a line, maybe with its count ({what})."
        )
    return [parts[0] for _, parts in lines]
