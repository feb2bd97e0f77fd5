"""Word vectors from a file for a vocabulary of words, which takes in words of the file that the training texts lack."""

import numpy as np

from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.data.text.tokenizer import Tokenizer
from thalweg.data.text.word_vectors import normalized_of, read_vectors_of
from thalweg.data.text.words import split_words
from thalweg.errors import InputError


def known_vectors(
    path: str, step: str, normalizer: Normalizer, tokenizer: AnyTokenizer, limit: int
) -> tuple[Tokenizer, np.ndarray]:
    """Return a vocabulary with the words of a file after its own, and a vector for each of its ids.

    Args:
        path: file of word vectors.
        step: how they are normalized; see `thalweg.data.text.word_vectors.WordVectors.normalized`.
        normalizer: of the texts; words of the file are read as texts are.
        tokenizer: of the training texts' words.
        limit: maximum vocabulary size.

    Returns:
        the tokenizer, and float32 `[num_ids, width]`, zeros where the file has no vector.

    Raises:
        InputError: if the tokenizer is not one of words, or the file cannot be read, or has no word of the texts.
    """
    if not isinstance(tokenizer, Tokenizer) or tokenizer.kind != "word":
        raise InputError("--word-vectors beside a bag are of whole words; give --tokenizer word.")

    def read(word: str) -> str:
        name = normalizer.many([word])[0]
        return name if split_words(name) == [name] else ""

    own = tokenizer.entries
    found = read_vectors_of(path, own, limit - tokenizer.vocabulary_size, read)
    if found.num_missing == len(own):
        raise InputError(
            f"{path} has no vector of a word of the training texts; is it a file of this language, of words as "
            "--normalize makes them, and is --vocabulary-size large enough?"
        )
    tokenizer = tokenizer.with_words(found.words, limit)
    vectors = np.zeros((tokenizer.vocabulary_size, found.width), dtype=np.float32)
    for word, vector in zip(found.words, normalized_of(path, found, step), strict=True):
        if (place := tokenizer.id_of(word)) is not None:  # names of special ones are no words
            vectors[place] = vector
    if not vectors.any():
        raise InputError(f"{path} has nothing but zeros for the words of the training texts; give another file.")
    return tokenizer, vectors
