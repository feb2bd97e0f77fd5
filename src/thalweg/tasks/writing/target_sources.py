"""Target vectors for a task's vocabulary: drawn at random, read from word vectors, or taken over from a trained run."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from thalweg.data.text.tokenizer import SPECIALS, Tokenizer
from thalweg.data.text.word_vectors import WordVectors, read_word_vectors, width_of_vectors, word_vector_shards
from thalweg.errors import InputError
from thalweg.heads.target_tables import combined_table, completed_table, hypercube_table, random_table
from thalweg.tasks.reading.text_reader import TOKENIZER

MAX_WORDS = 200_000  # of a file of word vectors, for the vectors of subwords; files have the frequent words first
WEIGHTS = "model.safetensors"
# Where a run keeps the vectors of its words, by kind of head; the last one is a softmax tied to the embedding.
PLACES = (
    "head.targets.fixed", "head.targets.embedding.weight", "head.output.weight", "model.embedding.weight",
    "model.source_embedding.weight",  # where both sides have one table, which is stored once
)  # fmt: skip


def random_targets(size: int, width: int, tokenizer: Tokenizer | None) -> Tensor:
    """Return random unit vectors for a vocabulary of this size; the tokenizer doesn't matter."""
    del tokenizer
    return random_table(size, width)


def hypercube_targets(size: int, width: int, tokenizer: Tokenizer | None) -> Tensor:
    """Return random corners of a hypercube, an InputError if it has fewer than words; the tokenizer doesn't matter."""
    del tokenizer
    try:
        return hypercube_table(size, width)
    except ValueError as error:
        raise InputError(f"--targets hypercube: {error} Give a larger --target-width.") from None


@final
@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Targets from a text file of word vectors (word2vec, fastText, GloVe).

    A word is looked up as it is, then in lower case. Of a vocabulary of subwords those that are words have the word's
    vector, and any other the mean of the vectors of words that it is a part of. Whatever is left is drawn from the
    distribution of the others (`completed_table`).
    """

    path: str
    share: float = 1.0  # fraction of the pretrained vectors in the result, the rest being random (`combined_table`)

    def width(self) -> int:
        """Return the width of the file's vectors."""
        return width_of_vectors(self.path)

    def __call__(self, size: int, width: int, tokenizer: Tokenizer | None) -> Tensor:
        """Return unit vectors `[size, width]`; a file of another width or with none of the words is an InputError."""
        if self.width() != width:
            raise InputError(
                f"{self.path} holds vectors of width {self.width()}, and --target-width is {width}; give "
                f"--target-width {self.width()}."
            )
        assert tokenizer is not None
        names = [_name(tokenizer, index) for index in range(size)]
        wanted = {name for each in names if each for name in (each, each.lower())}
        found = read_word_vectors(self.path, wanted)
        rows, known = np.zeros((size, width), dtype=np.float32), np.zeros(size, dtype=bool)
        places = {word: place for place, word in enumerate(found.words)}
        for index, name in enumerate(names):
            place = places.get(name, places.get(name.lower())) if name else None
            if place is not None and found.vectors[place].any():
                rows[index], known[index] = found.vectors[place], True
        if not tokenizer.has_words:
            self._add_parts(tokenizer, rows, known)
        if not known.any():
            raise InputError(
                f"{self.path} has a vector for none of the {size:,} entries of the vocabulary; is it of another "
                "language, or written in another way (--normalize lower)?"
            )
        table = completed_table(torch.from_numpy(rows), torch.from_numpy(known))
        return table if self.share == 1.0 else combined_table(table, random_table(size, width), self.share)

    def _add_parts(self, tokenizer: Tokenizer, rows: np.ndarray, known: np.ndarray) -> None:
        """Give subwords that are not words the mean vector of the words that contain them, in place."""
        sums, counts = np.zeros(rows.shape), np.zeros(len(rows))
        for shard in _limited(word_vector_shards(self.path), MAX_WORDS):
            vectors = shard.normalized("length")
            for mark in ("", " "):  # a word at the beginning of a text, and behind another
                ids, lengths = tokenizer.encode_many([mark + word for word in shard.words])
                np.add.at(sums, ids, np.repeat(vectors, lengths, axis=0))
                np.add.at(counts, ids, 1)
        parts = ~known & (np.abs(sums).sum(1) > 0)
        parts[: len(SPECIALS)] = False
        rows[parts] = sums[parts] / counts[parts, None]
        known |= parts


@final
@dataclasses.dataclass(frozen=True)
class Transferred:
    """Targets from a trained run: the rows of its softmax, or its own targets; tokens are matched by their text.

    A softmax stays the same when one vector is added to all its rows, so their mean is taken away before they are
    scaled to unit length.

    Source: Tokarchuk and Niculae (2022), On Target Representation in Continuous-output Neural Machine Translation.
    """

    folder: str

    def width(self) -> int:
        """Return the width of the run's vectors."""
        return self._rows().shape[1]

    def __call__(self, size: int, width: int, tokenizer: Tokenizer | None) -> Tensor:
        """Return unit vectors `[size, width]`; a run without vectors of words or of another width is an InputError."""
        assert tokenizer is not None
        rows = self._rows()
        if rows.shape[1] != width:
            raise InputError(
                f"The run {self.folder} has vectors of width {rows.shape[1]}, and --target-width is {width}; give "
                f"--target-width {rows.shape[1]}."
            )
        other = Tokenizer.load(Path(self.folder) / TOKENIZER)
        if len(rows) != other.vocabulary_size:
            raise InputError(f"{self.folder} is damaged: {len(rows)} vectors for {other.vocabulary_size} tokens.")
        table, known = torch.zeros(size, width), torch.zeros(size, dtype=torch.bool)
        for index in range(len(SPECIALS), size):
            place = other.id_of(tokenizer.token(index))
            if place is not None and bool(rows[place].any()):
                table[index], known[index] = rows[place], True
        if not bool(known.any()):
            raise InputError(
                f"The run {self.folder} has no token in common with this vocabulary; choose other targets."
            )
        return completed_table(table, known)

    def _rows(self) -> Tensor:
        path = Path(self.folder) / WEIGHTS
        try:
            with safe_open(path, framework="pt") as file:
                place = next((name for name in PLACES if name in file.keys()), None)  # noqa: SIM118  (no mapping)
                if place is None:
                    raise InputError(
                        f"The run {self.folder} has no vectors of words; train a language or translate run."
                    )
                rows = file.get_tensor(place).float()
        except FileNotFoundError:
            raise InputError(f"{path} is missing; --targets needs the folder of a trained run.") from None
        except SafetensorError as error:
            raise InputError(f"{path} is damaged ({error}); restore it or train that run again.") from None
        return F.normalize(rows - rows[len(SPECIALS) :].mean(0), dim=-1) if "targets" not in place else rows


def source_of(text: str) -> Any:
    """Return where targets come from: a run's folder or a file of word vectors; an InputError for anything else."""
    path = Path(text)
    if path.is_dir():
        return Transferred(text)
    if path.is_file():
        return Pretrained(text)
    raise InputError(f"--targets {text}: not a kind of targets, a file of word vectors or the folder of a run.")


def _name(tokenizer: Tokenizer, index: int) -> str:
    """Return an entry as a word, empty where it is none."""
    if index < len(SPECIALS):
        return ""
    name = tokenizer.token(index) if tokenizer.has_words else tokenizer.decode([index])
    return "" if "\ufffd" in name else name.strip()


def _limited(shards: Iterator[WordVectors], limit: int) -> Iterator[WordVectors]:
    seen = 0
    for shard in shards:
        yield shard
        seen += len(shard)
        if seen >= limit:
            return
