"""Pairs of texts as one bag of features each: how much they share, and which words."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from thalweg.data.arrays.ragged import Ragged, RaggedBuilder
from thalweg.data.text.overlap import NAMES, Overlap, Pairs
from thalweg.data.text.pairs import Bags, PairFeatures
from thalweg.tasks.reading.text_reader import TextReader


def overlap_numbers(overlap: Overlap, chunks: Iterable[Pairs]) -> np.ndarray:
    """Return how much the texts of each pair share, float64 `[pairs, NAMES]`."""
    return np.concatenate([np.zeros((0, len(NAMES))), *(overlap.numbers(*chunk) for chunk in chunks)])


def bags_of(reader: TextReader, ids: Sequence[Ragged]) -> Bags:
    """Return both texts as bags of weighted words."""
    assert reader.features is not None
    first, second = (reader.features.transform(part, reader.spill) for part in ids)
    return first, second


def joint_columns(reader: TextReader, pairs: PairFeatures, bags: Bags, numbers: np.ndarray) -> dict[str, Any]:
    """Return the columns of `Examples` for pairs, from both bags and how much their texts share."""
    tokens, weights = RaggedBuilder(np.int32, reader.spill), RaggedBuilder(np.float32, reader.spill)
    for features, values, lengths in pairs.transform(numbers, bags):
        tokens.extend_flat(features, lengths)
        weights.extend_flat(values, lengths)
    return {"tokens": tokens.finish(), "weights": weights.finish()}
