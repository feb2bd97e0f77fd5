"""Pairs of texts and a pretrained model: both in one sequence, or what it says of each put together."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from thalweg.data.arrays.ragged import Ragged, RaggedBuilder
from thalweg.data.text.overlap import Pairs
from thalweg.data.text.pretrained_tokenizer import PretrainedTokenizer
from thalweg.errors import InputError
from thalweg.tasks.reading.text_reader import IDS, TextReader
from thalweg.tasks.settings import Settings

KINDS: Final = "kinds"
NUM_PARTS: Final = 4  # both states, the sizes of their difference, and their product


def is_crossed(settings: Settings, reader: TextReader, *, is_pair: bool) -> bool:
    """Whether a pretrained model is to read both texts of a pair in one sequence.

    Unless that was said, it is, but for a model that was trained to read texts each by itself.
    """
    if not is_pair or reader.pretrained is None:
        return False
    if settings.layout == "encoded" and settings.pairs == "cross":
        raise InputError("--pairs cross needs a model that is trained; with --freeze each text is read by itself.")
    wanted = settings.pairs == "cross" or (settings.pairs == "auto" and not reader.pretrained.encodes_texts)
    return settings.layout == "subwords" and wanted


def crossed_columns(reader: TextReader, pairs: Iterable[Pairs]) -> tuple[dict[str, Any], list[str]]:
    """Return the columns of pairs as a pretrained model reads them in one sequence, and notes about what was cut."""
    assert isinstance(reader.tokenizer, PretrainedTokenizer)
    assert reader.pretrained is not None
    tokens, kinds = RaggedBuilder(np.int32, reader.spill), RaggedBuilder(np.int32, reader.spill)
    num_cut = num = 0
    for first, second in pairs:
        found = reader.tokenizer.encode_pairs(first, second, reader.max_length)
        tokens.extend_flat(found.values, found.lengths)
        kinds.extend_flat(found.kinds, found.lengths)
        num_cut, num = num_cut + found.num_cut, num + len(found.lengths)
    columns: dict[str, Any] = {"tokens": tokens.finish()}
    if reader.pretrained.takes_kinds:
        columns[KINDS] = kinds.finish()
    share = num_cut / max(1, num)
    note = f"{num_cut:,} pairs ({share:.1%}) exceed {reader.max_length} tokens and were truncated (--max-length)."
    return columns, [note] if num_cut else []


def encoded_columns(reader: TextReader, ids: Sequence[Ragged]) -> tuple[dict[str, Any], list[str]]:
    """Return the columns of pairs whose texts a frozen model reads each by itself: one bag of features a pair.

    For the states u and v they are u, v, |u - v| and sqrt(width) u * v, entry by entry.
    """
    assert reader.is_encoded
    parts = [reader.columns(one) for one in ids]
    first, second = (
        columns["weights"].values.reshape(len(one), -1) for (columns, _), one in zip(parts, ids, strict=True)
    )
    joined = np.concatenate([first, second, np.abs(first - second), math.sqrt(first.shape[1]) * first * second], axis=1)
    lengths = np.full(len(joined), joined.shape[1], dtype=np.int64)
    tokens = np.tile(np.arange(joined.shape[1], dtype=np.int32), len(joined))
    read = [columns[IDS] for columns, _ in parts]
    both = Ragged.from_lists([np.concatenate([a, [-1], b]) for a, b in zip(*read, strict=True)])
    columns = {
        "tokens": Ragged.from_lengths(tokens, lengths),
        "weights": Ragged.from_lengths(joined.reshape(-1), lengths),
        IDS: both,
    }
    return columns, [note for _, notes in parts for note in notes]
