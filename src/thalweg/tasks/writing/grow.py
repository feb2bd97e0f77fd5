"""New words for a trained model with continuous outputs: each needs a vector, and can be written at once."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from thalweg.data.text.tokenizer import SPECIALS, Tokenizer
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.continuous import AbstractContinuous
from thalweg.heads.targets import check_table, grow_embedding

NUM_NEIGHBORS = 8  # words from whose input vectors that of a new word is made


class Writer(Protocol):
    """What is needed of the task."""

    tokenizer: Tokenizer


@torch.no_grad()
def add_words(task: Writer, model: nn.Module, head: AbstractHead, words: Sequence[str], vectors: Tensor) -> list[int]:
    """Put words into a model's vocabulary, and return their ids.

    The head can write a word as soon as it has its vector. So that the model can read what it has written (and find the
    word in a source), its embeddings get a row as well: the mean of the rows of the words whose targets are nearest,
    weighted by their likeness. The task's tokenizer is replaced by a longer one; the model's embeddings of tokens grow
    in place.

    The vectors `[words, width]` say where the words lie among the targets: from the same file of word vectors, the mean
    of the vectors of similar words, or a random direction that training will fill with meaning. It is an InputError if
    the head is a softmax, the tokenizer has no words, or a word is known or no single word; a ValueError if vectors
    differ in width or number, have rows of zeros or numbers that are not finite.
    """
    tokenizer = task.tokenizer
    if not isinstance(head, AbstractContinuous):
        raise InputError(
            "Only continuous outputs can take new words after training; train with --head analytic, for example."
        )
    if not tokenizer.has_words:
        raise InputError(
            f"New words are for --tokenizer word; a vocabulary of '{tokenizer.kind}' can write any word in parts."
        )
    if len(words) != len(vectors):
        raise ValueError(f"add_words needs one vector for each word; got {len(words)} and {len(vectors)}.")
    check_table(vectors, "add_words(vectors=...)", head.targets.width)
    for word in words:
        if tokenizer.id_of(word) is not None:
            raise InputError(f"The word {word!r} is in the vocabulary already.")
    entries = [tokenizer.token(index) for index in range(len(SPECIALS), tokenizer.vocabulary_size)]
    longer = Tokenizer.from_vocabulary([*entries, *words], tokenizer.kind)
    for number, word in enumerate(words):
        if longer.encode(word) != [tokenizer.vocabulary_size + number]:
            raise InputError(
                f"Expected single words that differ, got {word!r}, which is read as {longer.encode(word)}."
            )
    targets, first = head.targets, tokenizer.vocabulary_size
    new = F.normalize(vectors.to(targets.table()), dim=-1)
    cosines = new @ targets.table()[len(SPECIALS) :].T
    likeness, nearest = cosines.topk(min(NUM_NEIGHBORS, cosines.shape[1]), dim=-1)
    weights = torch.softmax(likeness / likeness.std(-1, keepdim=True, correction=0).clamp_min(1e-3), -1).unsqueeze(-1)
    tables = {id(module): module for module in model.modules() if isinstance(module, nn.Embedding)}
    if getattr(task, "source_tokenizer", None) is not None:  # the source has a vocabulary of its own
        tables.pop(id(getattr(model, "source_embedding", None)), None)
    ids = targets.add(vectors)
    for table in tables.values():
        if table.num_embeddings == first:  # one that is shared with the targets has grown already
            grow_embedding(table, (table.weight[nearest + len(SPECIALS)] * weights).sum(1))
    task.tokenizer = longer
    return ids.tolist()


def vectors_of(words: dict[str, Any]) -> Tensor:
    """Return the vectors of a dictionary as a matrix; none, or several widths, are an InputError."""
    rows = [torch.as_tensor(vector, dtype=torch.float32).flatten() for vector in words.values()]
    if not rows or len({len(row) for row in rows}) > 1:
        raise InputError(
            f"Expected at least one word, each with a vector of one width; got widths {sorted({len(r) for r in rows})}."
        )
    return torch.stack(rows)
