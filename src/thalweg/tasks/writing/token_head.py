"""The output layer of tasks that write text: a softmax over the vocabulary, or continuous outputs and their targets."""

import numpy as np
import torch
from torch import Tensor, nn

from thalweg.data.arrays.ragged import Ragged
from thalweg.data.text.pretrained_tokenizer import AnyTokenizer
from thalweg.data.text.tokenizer import BOS, EOS, PAD, UNK
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax
from thalweg.heads.target_tables import random_table
from thalweg.heads.targets import Targets
from thalweg.tasks.base import HeadFamily, HeadOptions

SPECIAL = (PAD, UNK, BOS, EOS)  # no words, so their vectors are kept apart from all others
DISPERSED_ROWS = 1024  # of the table that the penalty sees at each step
_COUNTED = 2**22  # ids at a time


def token_head(model: nn.Module, tokenizer: AnyTokenizer, options: HeadOptions) -> AbstractHead:
    """Return a softmax over the tokens, or the head with continuous outputs that the options name.

    The model has a `width`, and `embedding`, a table of token vectors, where something is to be tied: without one, or
    with one of another width, that is an InputError.

    Source of tying: Press and Wolf (2017), Using the Output Embedding to Improve Language Models.
    """
    width = model.width
    assert isinstance(width, int)
    size = tokenizer.vocabulary_size
    if options.family is not None:
        return _continuous(model, width, tokenizer, options, options.family)
    if not options.tie:
        return Softmax(width, size, label_smoothing=options.label_smoothing)
    table = _embedding(model, "--tie needs a model with an embedding of tokens")
    if tuple(table.weight.shape) != (size, width):
        raise InputError(
            "--tie shares one matrix between embedding and output layer, so hidden states must be as wide as token "
            f"vectors; got {width} and {table.embedding_dim}. Give --hidden {table.embedding_dim}, or --no-tie."
        )
    return Softmax(width, size, label_smoothing=options.label_smoothing, tied=table)


def token_counts(column: Ragged | np.ndarray, vocabulary_size: int) -> Tensor:
    """Return how often each id stands in a column of ids, float64 `[vocabulary_size]`."""
    values = column.values if isinstance(column, Ragged) else column
    counts = np.zeros(vocabulary_size, dtype=np.int64)
    for start in range(0, len(values), _COUNTED):
        counts += np.bincount(values[start : start + _COUNTED], minlength=vocabulary_size)
    return torch.from_numpy(counts).double()


def _continuous(
    model: nn.Module, width: int, tokenizer: AnyTokenizer, options: HeadOptions, family: HeadFamily
) -> AbstractHead:
    """Return a head with continuous outputs, and its targets."""
    size, target_width = tokenizer.vocabulary_size, options.target_width
    # Without counts the weights that will be put in bring the prior: here only its place is made.
    counts = torch.zeros(size) if options.counts is None else options.counts
    shared = options.follow is not None or (options.trained and options.tie)
    table: Tensor | nn.Embedding
    if shared:
        what = "--targets embedding" if options.follow is not None else "--tie with trained targets"
        table = _embedding(model, f"{what} needs a model with an embedding of tokens")
        if table.embedding_dim != target_width:
            raise InputError(
                f"{what} shares the model's embedding, whose width is {table.embedding_dim}; got --target-width "
                f"{target_width}. Give --target-width {table.embedding_dim}"
                + (", or --no-tie." if options.follow is None else ".")
            )
    elif options.table is not None:
        table = options.table(size, target_width, tokenizer)
    else:
        table = random_table(size, target_width)
    try:
        targets = Targets(
            table,
            trainable=options.trained,
            special=SPECIAL,
            counts=counts,
            stop_gradient=options.follow is not None,
            average=options.follow or 0.0,
            dispersion=options.dispersion,
            dispersion_weight=options.dispersion_weight,
            dispersion_rows=DISPERSED_ROWS,
        )
        return family(width, targets, label_smoothing=options.label_smoothing)
    except ValueError as error:
        raise InputError(f"These continuous outputs cannot be built: {error}") from None


def _embedding(model: nn.Module, needs: str) -> nn.Embedding:
    table = getattr(model, "embedding", None)
    if not isinstance(table, nn.Embedding):
        raise InputError(f"{needs}; {type(model).__name__} has none (--no-tie).")
    return table
