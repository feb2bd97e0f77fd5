"""The output layer of tasks that write text: a softmax over the vocabulary, on request tied to the embedding."""

from torch import nn

from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax
from thalweg.tasks.base import HeadOptions


def token_head(model: nn.Module, vocabulary_size: int, options: HeadOptions) -> AbstractHead:
    """Return a softmax over the tokens.

    Args:
        model: with `width`, and where the head is to be tied with `embedding`, the table of token vectors.
        vocabulary_size: number of token ids.
        options: label smoothing, and whether the layer's matrix is the embedding's table.

    Raises:
        InputError: if the head is to be tied, and the model has no such table or one of another width.

    Source of tying: Press and Wolf (2017), Using the Output Embedding to Improve Language Models.
    """
    width = model.width
    assert isinstance(width, int)
    if not options.tie:
        return Softmax(width, vocabulary_size, label_smoothing=options.label_smoothing)
    table = getattr(model, "embedding", None)
    if not isinstance(table, nn.Embedding):
        raise InputError(
            f"--tie needs a model with an embedding of tokens; {type(model).__name__} has none (--no-tie)."
        )
    if tuple(table.weight.shape) != (vocabulary_size, width):
        raise InputError(
            "--tie shares one matrix between embedding and output layer, so hidden states must be as wide as token "
            f"vectors; got {width} and {table.embedding_dim}. Give --hidden {table.embedding_dim}, or --no-tie."
        )
    return Softmax(width, vocabulary_size, label_smoothing=options.label_smoothing, tied=table)
