"""Word vectors in binary files: those of word2vec (`.bin`), and a matrix of safetensors with its words beside it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from safetensors import SafetensorError, safe_open

from thalweg.errors import InputError
from thalweg.storage.regular import open_regular

MOST_WIDE: Final = 100_000  # numbers of a vector
LONGEST_WORD: Final = 10_000  # bytes
MOST_JSON: Final = 2**30  # bytes of a vocabulary
MOST_HEADER: Final = 2**23  # of a safetensors file
LONGEST_HEAD: Final = 64  # bytes of the first line of a `.bin` file
FASTTEXT: Final = (793712314).to_bytes(4, "little")  # with which its own models begin
BLOCK: Final = 2**20
VOCABULARIES: Final = ("vocab.json", "tokenizer.json")

Entry = tuple[int, int, str, np.ndarray]


def is_binary(path: str | Path) -> bool:
    """Return whether a file of this name is read by `binary_entries`, not as text."""
    return str(path).lower().endswith((".bin", ".safetensors"))


def binary_entries(path: str | Path) -> Iterator[Entry]:
    """Yield place (from 1), width, word and numbers (float32 or as stored) of each vector.

    Args:
        path: ending in `.bin`: as word2vec writes it, "words width" and then each word, a space and its numbers.
            Ending in `.safetensors`: one matrix `[words, width]`, with the words in `vocab.json` (word -> row, or a
            list of words), a JSON file of the same name, or `tokenizer.json` beside it.

    Raises:
        InputError: for a file that is missing, cut off, or of another form; it is read to where that is seen.
    """
    try:
        if str(path).lower().endswith(".bin"):
            with open_regular(path) as file:
                yield from _of_word2vec(file, path)
        else:
            yield from _of_safetensors(Path(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path.") from None


def _of_word2vec(file: BinaryIO, path: str | Path) -> Iterator[Entry]:
    head = file.readline(LONGEST_HEAD)
    if head.startswith(FASTTEXT):
        raise InputError(f"{path} is a model of fastText with its subwords; give the vectors that it writes as .vec.")
    parts = head.split()
    if not (head.endswith(b"\n") and len(parts) == 2 and all(part.isdigit() for part in parts)):
        raise InputError(f"{path}: expected a line 'words width' as word2vec writes it, got {head[:40]!r}.")
    count, width = map(int, parts)
    if not (count and 0 < width <= MOST_WIDE):
        raise InputError(
            f"{path}: expected some words and a width of at most {MOST_WIDE:,}, got {count:,} and {width:,}."
        )
    num_bytes, size = 4 * width, os.fstat(file.fileno()).st_size
    if size < len(head) + count * (num_bytes + 1):
        raise InputError(f"{path} is cut off: its {size:,} bytes cannot hold {count:,} vectors of width {width:,}.")
    kept, start = b"", 0
    for number in range(1, count + 1):
        while True:
            end = kept.find(b" ", start)
            if end >= 0 and len(kept) >= end + 1 + num_bytes:
                break
            if (end if end >= 0 else len(kept)) - start > LONGEST_WORD:
                raise InputError(
                    f"{path}: word {number:,} is longer than {LONGEST_WORD:,} bytes; is it a .bin of word2vec?"
                )
            block = file.read(max(BLOCK, num_bytes))
            if not block:
                raise InputError(f"{path} is cut off in word {number:,} of {count:,}.")
            kept, start = kept[start:] + block, 0
        word = kept[start:end].lstrip(b"\n").decode("utf-8", errors="replace")
        yield number, width, word, np.frombuffer(kept, dtype="<f4", count=width, offset=end + 1)
        start = end + 1 + num_bytes
    if (kept[start:] + file.read(2)).strip(b"\n"):
        raise InputError(f"{path} has more behind the {count:,} words that its first line names; is it damaged?")


def _of_safetensors(path: Path) -> Iterator[Entry]:
    with open_regular(path) as file:
        if int.from_bytes(file.read(8), "little") > MOST_HEADER:
            raise InputError(f"{path} is damaged: its table of contents is longer than that of any vectors.")
    try:
        with safe_open(path, framework="np") as file:
            names = [name for name in file.keys() if len(file.get_slice(name).get_shape()) == 2]  # noqa: SIM118
            if len(names) != 1:
                raise InputError(f"{path}: expected one matrix [words, width], got {len(names)}.")
            matrix: np.ndarray = file.get_tensor(names[0])
    except (SafetensorError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged, or of a type that NumPy lacks ({error}).") from None
    if matrix.dtype.kind != "f" or not 0 < matrix.shape[1] <= MOST_WIDE:
        raise InputError(f"{path}: expected real numbers [words, width], got {matrix.dtype} {list(matrix.shape)}.")
    for number, (word, row) in enumerate(_vocabulary(path).items(), start=1):
        if type(row) is not int or not 0 <= row < len(matrix):
            raise InputError(
                f"{path} has {len(matrix):,} rows, and the vocabulary gives {word[:40]!r} the row {row!r}."
            )
        yield number, matrix.shape[1], word, matrix[row]


def _vocabulary(path: Path) -> dict[str, Any]:
    """Return the row of each word, from the first of the files beside a matrix that has them."""
    places = [path.with_suffix(".json"), *(path.parent / name for name in VOCABULARIES)]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise InputError(f"{path} has no words beside it; expected {', '.join(one.name for one in places)}.")
    with open_regular(place) as file:
        content = file.read(MOST_JSON + 1)
    try:
        if len(content) > MOST_JSON:
            raise ValueError("it is too long")
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not the JSON of a vocabulary ({str(error)[:80]}).") from None
    if isinstance(found, dict) and isinstance(found.get("model"), dict):
        found = found["model"].get("vocab")
    if isinstance(found, list):  # words, or (as of a unigram tokenizer) words with their scores
        words = [one[0] if isinstance(one, list) and one else one for one in found]
        numbered = reversed(list(enumerate(words)))  # of a word that comes twice the first vector counts
        return _some({word: row for row, word in numbered} if _are_texts(words) else {}, place)
    return _some(found, place)


def _some(found: Any, place: Path) -> dict[str, Any]:
    if not isinstance(found, dict) or not found:
        raise InputError(f"{place}: expected a list of words, or an object with the row of each word.")
    return found


def _are_texts(words: list[Any]) -> bool:
    return all(type(word) is str for word in words)
