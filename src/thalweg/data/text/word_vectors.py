"""Word vectors from files of GloVe, word2vec and fastText, and their normalization."""

import io
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

import numpy as np

from thalweg.data.text.word_vector_files import binary_entries, is_binary
from thalweg.errors import InputError, shown
from thalweg.storage.regular import open_regular

STEPS: Final = ("none", "length", "center", "top")
NUM_TOP = 3  # directions that "top" takes away where nothing else is said
_MAX_LINE: Final = 10_000_000  # characters
_LARGEST: Final = float(np.finfo(np.float32).max)


@final
@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and a vector for each.

    Args:
        words: the words, no two alike.
        vectors: float32 `[num_words, width]`.
        num_missing: how many of the wanted words have no vector.

    Example:
        >>> vectors = WordVectors(["a", "b"], np.array([[3.0, 4.0], [0.0, 2.0]], dtype=np.float32))
        >>> vectors.width, vectors.normalized("length").astype(float).round(6).tolist()
        (2, [[0.6, 0.8], [0.0, 1.0]])
    """

    words: list[str]
    vectors: np.ndarray
    num_missing: int = 0

    def __len__(self) -> int:
        return len(self.words)

    @property
    def width(self) -> int:
        """Size of a vector."""
        return self.vectors.shape[1]

    def normalized(self, step: str, num_top: int = NUM_TOP) -> np.ndarray:
        """Return the vectors after a step, computed in float64; a new array, float32.

        Args:
            step: "none"; "length": each of length 1; "center": the mean of all is subtracted, then each to length 1;
                "top": the mean and then the `num_top` directions of largest variance are taken away, then each to
                length 1. A vector of zeros stays one.
            num_top: directions for "top", fewer than `width`.

        Raises:
            ValueError: for another step or a `num_top` out of range.
        """
        if step not in STEPS:
            raise ValueError(f"WordVectors.normalized(step=...) must be one of {', '.join(STEPS)}; got {step!r}.")
        if step == "none":
            return self.vectors.copy()
        vectors = self.vectors.astype(np.float64)
        if step == "top":
            vectors = without_top(vectors, num_top)
        elif step == "center":
            vectors = centered(vectors)
        return unit_length(vectors).astype(np.float32)


def normalized_of(path: str, found: WordVectors, step: str) -> np.ndarray:
    """Return the vectors of a file after a step that its user chose; one they are too narrow for is an InputError."""
    if step == "top" and found.width <= NUM_TOP:
        raise InputError(
            f"--normalize-vectors top takes {NUM_TOP} directions away, and the vectors of {path} are of width "
            f"{found.width}; give another step (length, center or none)."
        )
    return found.normalized(step)


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Return each row divided by its Euclidean length; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1.0, lengths)


def centered(vectors: np.ndarray) -> np.ndarray:
    """Return the rows minus their mean."""
    return vectors - vectors.mean(axis=0) if len(vectors) else vectors


def without_top(vectors: np.ndarray, num_directions: int) -> np.ndarray:
    r"""Return the centered rows without their parts along the `num_directions` directions of largest variance.

    $$v' = \tilde v - \sum_{i=1}^{d} (u_i \cdot \tilde v) u_i, \qquad \tilde v = v - \text{mean}$$

    with $u_i$ the first principal components: what all words share, and mostly their frequency. Raises `ValueError`
    unless $d$ lies in [0, width).

    Source: Mu and Viswanath (2018), All-but-the-Top: Simple and Effective Postprocessing for Word Representations; they
    advise about width / 100 directions.
    """
    if not 0 <= num_directions < vectors.shape[1]:
        raise ValueError(
            f"without_top(num_directions=...) must lie in [0, {vectors.shape[1]}), the width; got {num_directions}."
        )
    rest = centered(vectors)
    if not num_directions:
        return rest
    directions = np.linalg.eigh(rest.T @ rest)[1][:, -num_directions:]  # eigenvalues rise, so the last are the largest
    return rest - (rest @ directions) @ directions.T


def read_word_vectors(path: str | Path, wanted: Collection[str] | None = None) -> WordVectors:
    """Read a text file with a word and its numbers on each line, with or without a first line "words width".

    A file that ends in `.bin` is read as one of word2vec, one in `.safetensors` as a matrix with its words beside it
    (see `thalweg.data.text.word_vector_files`).
    The file is read word by word, and only the vectors of wanted words are kept. Of a word that comes twice the first
    vector counts. A word may contain spaces: the last `width` entries of a line are its numbers.

    Args:
        path: the file, UTF-8.
        wanted: words to keep; None: all.

    Raises:
        InputError: if the file cannot be read or holds no vectors, or at a line whose vector has the wrong width or an
            entry that is not a finite number (looked at for wanted words); with file and line.

    Source of the formats: Pennington, Socher and Manning (2014), GloVe: Global Vectors for Word Representation;
    Mikolov, Chen, Corrado and Dean (2013), Efficient Estimation of Word Representations in Vector Space.
    """
    keep = None if wanted is None else frozenset(wanted)
    found: dict[str, np.ndarray] = {}
    width = width_of_vectors(path)
    for number, _, word, numbers in _entries(path):
        if word not in found and (keep is None or word in keep):
            found[word] = _vector(numbers, path, number)
    vectors = np.stack(list(found.values())) if found else np.empty((0, width), dtype=np.float32)
    return WordVectors(list(found), vectors, 0 if keep is None else len(keep) - len(found))


def read_vectors_of(path: str | Path, words: Collection[str], room: int, read: Callable[[str], str]) -> WordVectors:
    r"""Read the vectors of words, and of other words of the file as long as there is room; both as texts have them.

    Args:
        path: the file, as for `read_word_vectors`, which says what is refused, too.
        words: whose vectors are kept.
        room: how many words more; the first of the file, which are the most frequent ones in the usual files.
        read: from a word of the file to the word that a text has for it, such as its lower case; "" for none. Of those
            that become the same word the first counts, but one that stays as it is before all others.

    Returns:
        the words that have vectors; `num_missing` of `words` have none.

    Example:
        >>> _ = Path("vectors.txt").write_text("A 1 1\nb 2 2\na 3 3\nc 4 4\n")
        >>> found = read_vectors_of("vectors.txt", ["a", "z"], 1, str.lower)
        >>> found.words, found.vectors.tolist(), found.num_missing
        (['a', 'b'], [[3.0, 3.0], [2.0, 2.0]], 1)
    """
    wanted = frozenset(words)
    found: dict[str, np.ndarray] = {}
    same: set[str] = set()
    width = 0
    for number, row_width, word, numbers in _entries(path):
        width = row_width
        name = read(word)
        if not name or name in same or (name in found and name != word):
            continue
        if name not in found and name not in wanted:
            if room < 1:
                continue
            room -= 1
        found[name] = _vector(numbers, path, number)
        if name == word:
            same.add(name)
    vectors = np.stack(list(found.values())) if found else np.empty((0, width), dtype=np.float32)
    return WordVectors(list(found), vectors, len(wanted - found.keys()))


def word_vector_shards(path: str | Path, size: int = 20_000) -> Iterator[WordVectors]:
    """Yield the words of a file in their order, at most `size` at a time, so that a file of any length can be read.

    A word that comes in two shards is in both. Arguments and errors otherwise as for `read_word_vectors`.
    """
    shard: dict[str, np.ndarray] = {}
    for number, _, word, numbers in _entries(path):
        if word not in shard:
            shard[word] = _vector(numbers, path, number)
        if len(shard) == size:
            yield WordVectors(list(shard), np.stack(list(shard.values())))
            shard = {}
    if shard:
        yield WordVectors(list(shard), np.stack(list(shard.values())))


def width_of_vectors(path: str | Path) -> int:
    """Return the width of a file's vectors, from its beginning; raises `InputError` as `read_word_vectors` does."""
    for _, width, _, _ in _entries(path):
        return width
    raise InputError(f"{path}: expected lines with a word and its numbers, got only a header.")


def _entries(path: str | Path) -> Iterator[tuple[int, int, str, str | np.ndarray]]:
    """Yield number, width, word and numbers (as text; of a binary file as an array) of each line or word."""
    return binary_entries(path) if is_binary(path) else _lines(path)


def _lines(path: str | Path) -> Iterator[tuple[int, int, str, str]]:
    width = number = count = 0
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8", newline="\n", errors="replace") as file:
            for number, line in enumerate(iter(partial(file.readline, _MAX_LINE + 1), ""), start=1):
                if len(line) > _MAX_LINE:
                    raise InputError(
                        f"{path}, line {number}: expected a word and its numbers, got a line of more than "
                        f"{_MAX_LINE:,} characters; is it a text file of GloVe or word2vec?"
                    )
                line = line.rstrip().replace("\t", " ")
                if number == 1:
                    width, count = _first_line(line, path)
                    if count:
                        continue
                if line.count(" ") == width:
                    word, numbers = line.split(" ", 1)
                else:
                    word, numbers = _word_with_spaces(line, width, path, number)
                yield number, width, word, numbers
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path.") from None
    if not width:
        raise InputError(f"{path}: expected lines with a word and its numbers, got an empty file.")
    if count > number - 1:
        raise InputError(
            f"{path}: expected {shown(count)} words, as its first line says, got {number - 1:,}; was the file "
            "truncated? Otherwise correct that line."
        )


def _first_line(line: str, path: str | Path) -> tuple[int, int]:
    """Return the width, and how many words there are, 0 where the line is no header."""
    parts = line.split(" ")
    if re.fullmatch(r"0*[1-9]\d{0,14} 0*[1-9]\d{0,5}", line, flags=re.ASCII):
        return int(parts[1]), int(parts[0])
    if len(parts) < 2 or not all(map(_is_number, parts[1:])):
        raise InputError(
            f"{path}, line 1: expected a word and its numbers, separated by spaces, got {line[:60]!r}; "
            "is it a text file of GloVe or word2vec?"
        )
    return len(parts) - 1, 0


def _word_with_spaces(line: str, width: int, path: str | Path, number: int) -> tuple[str, str]:
    """Return word and numbers of a line with more entries than usual, refuse it if it is not a word that has them."""
    parts = line.split(" ")
    if len(parts) <= width or all(map(_is_number, parts[1:])):
        raise InputError(
            f"{path}, line {number}: expected a word and {width} numbers, got {len(parts) - 1} entries after the word; "
            "was the file truncated or changed?"
        )
    return " ".join(parts[:-width]), " ".join(parts[-width:])


def _vector(numbers: str | np.ndarray, path: str | Path, number: int) -> np.ndarray:
    if isinstance(numbers, np.ndarray):
        if not (np.abs(numbers.astype(np.float64)) <= _LARGEST).all():
            raise InputError(f"{path}, word {number:,}: expected finite numbers of float32; remove the word.")
        return numbers.astype(np.float32)
    try:
        vector = np.array([float(part) for part in numbers.split(" ")])
    except ValueError:
        vector = np.array([np.nan])
    if not (np.abs(vector) <= _LARGEST).all():
        bad = next(part for part in numbers.split(" ") if not (_is_number(part) and abs(float(part)) <= _LARGEST))
        raise InputError(
            f"{path}, line {number}: expected finite numbers, got {bad[:40]!r}; correct or remove the line."
        )
    return vector.astype(np.float32)


def _is_number(part: str) -> bool:
    try:
        float(part)
    except ValueError:
        return False
    return True
