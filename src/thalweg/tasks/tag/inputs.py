"""What each kind of tagger reads of words: their ids, their features, or a pretrained model's subwords."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.batch import Batch
from thalweg.data.arrays.collate import pad
from thalweg.data.arrays.ragged import Ragged
from thalweg.models.sparse_linear import transposed
from thalweg.tasks.reading.subwords import SubwordReader
from thalweg.tasks.reading.words import WordReader
from thalweg.tasks.settings import Settings
from thalweg.tasks.tag.features import WordFeatures


def reader_of(
    counts: Counter[str], settings: Settings, old: WordReader | SubwordReader | None
) -> WordReader | SubwordReader:
    """Return what reads words: a vocabulary of those that were counted, or a pretrained model's tokenizer."""
    if settings.pretrained:
        return SubwordReader.open(settings, old if isinstance(old, SubwordReader) else None)
    return WordReader.fit(counts, settings, old if isinstance(old, WordReader) else None)


def inputs_of(
    columns: Mapping[str, Any], reader: WordReader | SubwordReader, features: WordFeatures | None
) -> dict[str, Tensor]:
    """Return what a model reads of the columns of some sentences: "tokens", and what goes with the kind of model."""
    tokens = columns["tokens"]
    every = np.arange(len(tokens))
    ids, mask = pad(tokens, every, padding=reader.tokenizer.pad)
    if isinstance(reader, SubwordReader):
        return {"tokens": ids, "mask": mask, "places": pad(columns["places"], every, padding=-1)[0]}
    if features is None:
        return {"tokens": ids, "mask": mask}
    counts = columns["counts"].values
    found = torch.from_numpy(columns["features"].values.astype(np.int32))
    offsets = torch.from_numpy((np.cumsum(counts) - counts).astype(np.int32))
    words, starts = transposed(found, offsets, len(features))
    return {"features": found, "offsets": offsets, "words": words, "starts": starts, "mask": mask}


def inputs_of_words(
    sentences: Sequence[Sequence[str]], reader: WordReader | SubwordReader, features: WordFeatures | None
) -> dict[str, Tensor]:
    """Return what a model reads of sentences of words."""
    columns = {"tokens": Ragged.from_lists([reader.encode(words) for words in sentences])}
    if isinstance(reader, SubwordReader):
        columns["places"] = Ragged.from_lists([reader.places(words) for words in sentences])
    if features is not None:
        found, counts = zip(*(features.encode(list(words)) for words in sentences), strict=True)
        columns["features"] = Ragged.from_lists([np.frombuffer(one, dtype=np.int32) for one in found])
        columns["counts"] = Ragged.from_lists(counts)
    return inputs_of(columns, reader, features)


def mask_of_words(inputs: Mapping[str, Tensor]) -> Tensor:
    """Return which places are words, bool `[batch, words]`, of what a model reads."""
    return inputs["places"] >= 0 if "places" in inputs else inputs["mask"]


def words_mask(batch: Batch) -> Tensor:
    """Return which places of a batch are words, those without a tag among them, bool `[batch, words]`."""
    if {"places", "mask"} & batch.inputs.keys():
        return mask_of_words(batch.inputs)
    assert batch.mask is not None
    return batch.mask
