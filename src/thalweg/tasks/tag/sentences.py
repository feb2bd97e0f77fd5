"""Which sentences of a file are for training, and which for validation."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from thalweg.data.arrays.ragged import RaggedBuilder
from thalweg.data.arrays.split import text_key, validation_rows
from thalweg.data.files.base import AbstractSource
from thalweg.errors import InputError
from thalweg.tasks.reading.words import Sentence, read_sentences


def chosen_sentences(
    source: AbstractSource, columns: dict[str, Any], chosen: np.ndarray | None = None, *, wanted: bool = True
) -> Iterator[Sentence]:
    """Yield the sentences for which `chosen` is `wanted`; all of them where nothing is chosen."""
    place = 0
    for rows in read_sentences(source, columns):
        for sentence in rows:
            if chosen is None or bool(chosen[place]) == wanted:
                yield sentence
            place += 1


def validation_sentences(source: AbstractSource, columns: dict[str, Any], share: float) -> np.ndarray:
    """Return which sentences are for validation: chosen by their words, and no tag is only among them."""
    keys: list[int] = []
    tag_ids: dict[str, int] = {}
    tags = RaggedBuilder(np.int32)
    for sentence in chosen_sentences(source, columns):
        keys.append(text_key(" ".join(sentence.words)))
        tags.append(sorted({tag_ids.setdefault(tag, len(tag_ids)) for tag in sentence.tags if tag is not None}))
    if not keys:
        raise InputError(f"{source.name}: expected sentences of words with tags, got none.")
    per_sentence = tags.finish()
    has_tag = np.zeros((len(keys), len(tag_ids)), dtype=bool)
    has_tag[np.repeat(np.arange(len(keys)), per_sentence.lengths), per_sentence.values] = True
    return validation_rows(np.array(keys, dtype=np.uint64), share, has_tag, source.name)
