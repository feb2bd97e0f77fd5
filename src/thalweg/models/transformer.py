"""Transformers: encoder, causal decoder, and both together."""

import math
from typing import Unpack, final

import torch
from torch import Tensor, nn

from thalweg.errors import require
from thalweg.models import pool
from thalweg.models.blocks import LayerOptions, Stack, State
from thalweg.models.dropout import Dropout
from thalweg.models.embedding import ScaledEmbedding, token_table, token_tables
from thalweg.models.pool import Pooling


@final
class SinusoidalPositions(nn.Module):
    r"""Fixed vectors of positions: $\sin(t / 10000^{2i/d})$ in the even places, the cosine in the odd ones.

    Args:
        width: d, size of a vector.
        max_length: number of positions.

    Source: Vaswani et al. (2017), Attention Is All You Need.
    """

    table: Tensor

    def __init__(self, width: int, max_length: int) -> None:
        super().__init__()
        if torch.get_default_device().type == "meta":  # for computing nothing there PyTorch loads its compiler
            table = torch.empty(max_length, width)
        else:
            time = torch.arange(max_length, dtype=torch.float64).unsqueeze(1)
            rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10000.0) / width))
            angles = time * rate
            table = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]
        self.register_buffer("table", table.to(torch.get_default_dtype()), persistent=False)

    def forward(self, begin: int, end: int) -> Tensor:
        """Return vectors `[end - begin, width]`."""
        return self.table[begin:end]


@final
class LearnedPositions(nn.Module):
    """Learned vectors of positions.

    Args:
        width: size of a vector.
        max_length: number of positions.
    """

    def __init__(self, width: int, max_length: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(max_length, width))
        nn.init.normal_(self.table, std=0.02)

    def forward(self, begin: int, end: int) -> Tensor:
        """Return vectors `[end - begin, width]`."""
        return self.table[begin:end]


Positions = type[SinusoidalPositions] | type[LearnedPositions]


@final
class InputLayer(nn.Module):
    """Vectors of tokens plus vectors of their positions, for sequences of at most `max_length` tokens."""

    def __init__(self, table: nn.Embedding, positions: Positions, max_length: int, dropout: float) -> None:
        super().__init__()
        require(max_length >= 1, "A transformer's max_length must be at least 1", max_length)
        require(0.0 <= dropout < 1.0, "A transformer's dropout must lie in [0, 1)", dropout)
        self.vectors = ScaledEmbedding(table)
        self.positions = positions(table.embedding_dim, max_length)
        self.max_length = max_length
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, begin: int = 0) -> Tensor:
        """Return `[batch, time, width]` for ids `[batch, time]` that stand at positions `begin`, `begin + 1`, ..."""
        end = begin + tokens.shape[1]
        if end > self.max_length:
            raise ValueError(
                f"This transformer takes sequences of at most max_length={self.max_length} tokens; got {end}. "
                "Cut the sequence, or build the model with a larger max_length."
            )
        return self.dropout(self.vectors(tokens) + self.positions(begin, end))


@final
class Encoder(nn.Module):
    """Transformer encoder: every token sees every other.

    Args:
        vocabulary_size: number of token ids.
        width: size of token vectors and hidden states.
        dropout: dropout probability of units, in [0, 1).
        positions: class of the vectors of positions.
        max_length: longest sequence.
        pooling: from one state per token to what the task needs; see `thalweg.models.pool`.
        **layers: `hidden`, `layers`, `heads` (they must divide `width`), and if wanted `activation` and `skip`: see
            `Stack`.

    Attributes:
        width: size of the hidden states.
        embedding: table of token vectors.

    Raises:
        ValueError: for a number out of its range; in `forward`, for a sequence longer than `max_length`.

    Source: Vaswani et al. (2017), Attention Is All You Need.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        *,
        dropout: float = 0.0,
        positions: Positions = SinusoidalPositions,
        max_length: int = 512,
        pooling: Pooling = pool.every,
        **layers: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        self.embedding = token_table(vocabulary_size, width)
        self.inputs = InputLayer(self.embedding, positions, max_length, dropout)
        self.stack = Stack(width, dropout=dropout, **layers)
        self.pooling = pooling
        self.width = width

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return hidden states `[batch, time, width]`, or `[batch, width]` if pooled.

        Args:
            tokens: ids, int64 `[batch, time]`, padding (0) on the right.
            mask: True at real tokens `[batch, time]`; None: all are.
        """
        return self.pooling(self.stack(self.inputs(tokens), mask), mask)


@final
class Decoder(nn.Module):
    """Transformer decoder without a memory, for language models: every token sees itself and those before.

    Args:
        vocabulary_size: number of token ids.
        width: size of token vectors and hidden states.
        dropout: dropout probability of units, in [0, 1).
        positions: class of the vectors of positions.
        max_length: longest sequence.
        **layers: `hidden`, `layers`, `heads`, and if wanted `activation` and `skip`: see `Stack`.

    Attributes:
        width: size of the hidden states.
        embedding: table of token vectors, which a softmax head may share.

    Raises:
        ValueError: for a number out of its range; in `forward` and `advance`, beyond `max_length`.

    Source: Radford et al. (2018), Improving Language Understanding by Generative Pre-Training.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        *,
        dropout: float = 0.0,
        positions: Positions = SinusoidalPositions,
        max_length: int = 512,
        **layers: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        self.embedding = token_table(vocabulary_size, width)
        self.inputs = InputLayer(self.embedding, positions, max_length, dropout)
        self.stack = Stack(width, dropout=dropout, causal=True, **layers)
        self.width = width

    def forward(self, tokens: Tensor) -> Tensor:
        """Return hidden states `[batch, time, width]` for ids `[batch, time]`; padding, if any, is on the right."""
        return self.stack(self.inputs(tokens))

    def start(self, batch_size: int) -> State:
        """Return the state before the first token; each tensor has the batch as dimension 0."""
        return self.stack.start(self.embedding.weight, batch_size)

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token of each text: ids `[batch]`; returns hidden states `[batch, width]` and the new state."""
        x = self.inputs(tokens.unsqueeze(1), begin=state[0].shape[2])
        hidden, state = self.stack.advance(x, state, (), None)
        return hidden.squeeze(1), state


@final
class EncoderDecoder(nn.Module):
    """Transformer that reads a source text and writes a target text.

    Args:
        vocabulary_size: number of token ids on the source side.
        target_vocabulary_size: number of token ids on the target side.
        width: size of token vectors and hidden states.
        dropout: dropout probability of units, in [0, 1).
        positions: class of the vectors of positions.
        max_length: longest sequence, on either side.
        shared: whether both sides have one table of token vectors, which takes one vocabulary.
        **layers: `hidden`, `layers` (of the encoder and of the decoder each), `heads`, and if wanted `activation` and
            `skip`: see `Stack`.

    Attributes:
        width: size of the hidden states.
        source_embedding: table of the source's token vectors.
        embedding: table of the target's token vectors, which a softmax head may share.

    Raises:
        ValueError: for a number out of its range, or two vocabularies that are to be shared; in use, beyond
            `max_length`.

    Source: Vaswani et al. (2017), Attention Is All You Need.
    """

    def __init__(
        self,
        vocabulary_size: int,
        target_vocabulary_size: int,
        width: int,
        *,
        dropout: float = 0.0,
        positions: Positions = SinusoidalPositions,
        max_length: int = 512,
        shared: bool = False,
        **layers: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        self.source_embedding, self.embedding = token_tables(vocabulary_size, target_vocabulary_size, width, shared)
        self.source_inputs = InputLayer(self.source_embedding, positions, max_length, dropout)
        self.inputs = InputLayer(self.embedding, positions, max_length, dropout)
        self.encoder = Stack(width, dropout=dropout, **layers)
        self.decoder = Stack(width, dropout=dropout, causal=True, cross=True, **layers)
        self.width = width

    def forward(self, tokens: Tensor, decoder_tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return hidden states `[batch, time, width]`.

        Args:
            tokens: source ids, int64 `[batch, source]`, padding (0) on the right.
            decoder_tokens: target ids shifted by one (beginning with id 2), int64 `[batch, time]`.
            mask: True at real source tokens `[batch, source]`; None: all are.
        """
        memory = self.encoder(self.source_inputs(tokens), mask)
        return self.decoder(self.inputs(decoder_tokens), None, memory, mask)

    def attention(self, tokens: Tensor, decoder_tokens: Tensor, mask: Tensor) -> Tensor:
        """Return how much each written token looks at each source token, `[batch, time, source]`; rows sum to 1.

        It is the mean over layers and heads. Arguments as for `forward`.
        """
        memory = self.encoder(self.source_inputs(tokens), mask)
        return self.decoder.shares(self.inputs(decoder_tokens), memory, mask)

    def start(self, tokens: Tensor, mask: Tensor | None = None) -> State:
        """Read the source; returns the state before the first target token, the batch as dimension 0 everywhere."""
        mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        memory = self.encoder(self.source_inputs(tokens), mask)
        return (mask, *self.decoder.remember(memory), *self.decoder.start(memory, len(tokens)))

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Write one more token of each text: ids `[batch]` to hidden states `[batch, width]` and new state."""
        middle = 1 + 2 * len(self.decoder.blocks)
        mask, memory, caches = state[0], state[1:middle], state[middle:]
        x = self.inputs(tokens.unsqueeze(1), begin=caches[0].shape[2])
        hidden, caches = self.decoder.advance(x, caches, memory, mask)
        return hidden.squeeze(1), (mask, *memory, *caches)
