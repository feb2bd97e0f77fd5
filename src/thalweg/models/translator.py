"""LSTM encoder and decoder with attention between them."""

from typing import Unpack, final

import torch
from torch import Tensor, nn

from thalweg.models import pool
from thalweg.models.attention import attend, shares_of
from thalweg.models.dropout import Dropout
from thalweg.models.embedding import ScaledEmbedding, token_tables
from thalweg.models.recurrent import RecurrentOptions, RecurrentStack

State = tuple[Tensor, ...]


@final
class Translator(nn.Module):
    r"""An LSTM in both directions reads the source, another writes the target and looks back at the source.

    With decoder states $h_t$ and encoder states $m_s$,

    $$a_{ts} \propto \exp(h_t^\top W_a m_s), \quad c_t = \sum_s a_{ts} m_s, \quad \tilde h_t = \tanh(W_c [c_t; h_t]).$$

    The decoder starts from the encoder's two final states. It is not fed its own $\tilde h$, so that all target tokens
    are trained in one call.

    Args:
        vocabulary_size: number of token ids on the source side.
        target_vocabulary_size: number of token ids on the target side.
        width: size of token vectors and of the hidden states $\tilde h$.
        dropout: dropout probability, in [0, 1).
        shared: whether both sides have one table of token vectors, which takes one vocabulary.
        **options: `hidden` (per direction in the encoder), and if wanted `layers` (of the encoder and of the decoder
            each) and `skip`: see `RecurrentStack`.

    Attributes:
        width: size of the hidden states.
        source_embedding: table of the source's token vectors.
        embedding: table of the target's token vectors, which a softmax head may share.

    Raises:
        ValueError: for a number out of its range, or two vocabularies that are to be shared.

    Source: Luong, Pham and Manning (2015), Effective Approaches to Attention-based Neural Machine Translation (global
    attention with the "general" score).
    """

    def __init__(
        self,
        vocabulary_size: int,
        target_vocabulary_size: int,
        width: int,
        *,
        dropout: float = 0.0,
        shared: bool = False,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__()
        self.source_embedding, self.embedding = token_tables(vocabulary_size, target_vocabulary_size, width, shared)
        self.source_vectors = ScaledEmbedding(self.source_embedding)
        self.vectors = ScaledEmbedding(self.embedding)
        self.encoder = RecurrentStack(width, bidirectional=True, dropout=dropout, **options)
        self.decoder = RecurrentStack(width, dropout=dropout, **options)
        hidden = self.decoder.hidden
        self.bridge = nn.Linear(2 * hidden, 2 * len(self.decoder.skips) * hidden)
        self.key = nn.Linear(2 * hidden, hidden, bias=False)
        self.combine = nn.Linear(3 * hidden, width)
        self.dropout = Dropout(dropout)
        self.width = width

    def forward(self, tokens: Tensor, decoder_tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return hidden states `[batch, time, width]`.

        Args:
            tokens: source ids, int64 `[batch, source]`, padding (0) on the right.
            decoder_tokens: target ids shifted by one (beginning with id 2), int64 `[batch, time]`.
            mask: True at real source tokens `[batch, source]`; None: all are.
        """
        return self._write(decoder_tokens, self.start(tokens, mask))[0]

    def start(self, tokens: Tensor, mask: Tensor | None = None) -> State:
        """Read the source; returns the state before the first target token, the batch as dimension 0 everywhere."""
        mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        memory = self.encoder(self.dropout(self.source_vectors(tokens)), mask)
        begin = torch.tanh(self.bridge(pool.both_ends(memory, mask)))
        h, c = begin.unflatten(-1, (2, len(self.decoder.skips), self.decoder.hidden)).unbind(1)
        return self.key(memory), memory, mask, h, c

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Write one more token of each text: ids `[batch]` to hidden states `[batch, width]` and new state."""
        hidden, state = self._write(tokens.unsqueeze(1), state)
        return hidden.squeeze(1), state

    def attention(self, tokens: Tensor, decoder_tokens: Tensor, mask: Tensor) -> Tensor:
        """Return how much each written token looks at each source token, `[batch, time, source]`; rows sum to 1.

        Arguments as for `forward`.
        """
        keys, _, _, h, c = self.start(tokens, mask)
        states, _ = self.decoder.run(self.dropout(self.vectors(decoder_tokens)), (h, c))
        return shares_of(states.unsqueeze(1), keys.unsqueeze(1), mask, scale=1.0).squeeze(1)

    def _write(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        keys, memory, mask, h, c = state
        states, (h, c) = self.decoder.run(self.dropout(self.vectors(tokens)), (h, c))
        context = attend(states.unsqueeze(1), keys.unsqueeze(1), memory.unsqueeze(1), mask, scale=1.0).squeeze(1)
        hidden = self.dropout(torch.tanh(self.combine(torch.cat([context, states], -1))))
        return hidden, (keys, memory, mask, h, c)
