"""LSTM and GRU over tokens or over windows of numbers."""

import functools
from collections.abc import Callable
from typing import Any, NotRequired, TypedDict, Unpack, final

import torch
from torch import Tensor, nn

from thalweg.errors import require
from thalweg.models import pool
from thalweg.models.dropout import Dropout
from thalweg.models.embedding import ScaledEmbedding, token_table
from thalweg.models.pool import Pooling
from thalweg.models.skips import AbstractSkip, NoSkip, SkipFactory

Cell = type[nn.LSTM] | type[nn.GRU]


class RecurrentOptions(TypedDict):
    """What every network of LSTM or GRU layers says about them: see `RecurrentStack`."""

    hidden: int
    layers: NotRequired[int]
    skip: NotRequired[SkipFactory]


@final
class RecurrentStack(nn.Module):
    """Layers of LSTM or GRU over vectors, in one direction or both; padding on the right has no influence.

    The backward direction reads each sequence turned around within its own length. That is exact, and for an LSTM on a
    CPU about twice as fast as packed sequences (its fused kernel takes only padded input).

    Args:
        num_inputs: size of the input vectors.
        hidden: units of each layer and direction.
        cell: `nn.LSTM` or `nn.GRU`.
        layers: number of layers, at least 1.
        bidirectional: whether each layer also reads from right to left.
        dropout: dropout probability of each layer's input, except the first's, in [0, 1).
        skip: makes the way around each layer except the first, given its width.

    Attributes:
        width: size of the output vectors: `hidden`, twice that in both directions.

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self,
        num_inputs: int,
        hidden: int,
        *,
        cell: Cell = nn.LSTM,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        skip: SkipFactory = NoSkip,
    ) -> None:
        super().__init__()
        if min(num_inputs, hidden, layers) < 1:
            raise ValueError(
                "A recurrent network needs inputs, hidden and layers of at least 1; "
                f"got {num_inputs}, {hidden}, {layers}."
            )
        require(0.0 <= dropout < 1.0, "A recurrent network's dropout must lie in [0, 1)", dropout)
        self.width = 2 * hidden if bidirectional else hidden
        self.hidden = hidden
        self.bidirectional = bidirectional
        sizes = [num_inputs] + [self.width] * (layers - 1)
        self.forward_cells = nn.ModuleList(cell(size, hidden, batch_first=True) for size in sizes)
        backward_sizes = sizes if bidirectional else []
        self.backward_cells = nn.ModuleList(cell(size, hidden, batch_first=True) for size in backward_sizes)
        skips: list[AbstractSkip] = [(NoSkip if i == 0 else skip)(self.width) for i in range(layers)]
        self.skips = nn.ModuleList(skips)
        self.norm = nn.LayerNorm(self.width) if any(module.normalizes for module in skips) else nn.Identity()
        self.dropout = Dropout(dropout)
        for module in [*self.forward_cells, *self.backward_cells]:
            assert isinstance(module, nn.LSTM | nn.GRU)
            reset_biases(module)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return states `[batch, time, width]` for vectors `[batch, time, num_inputs]`; zeros at padding."""
        turn = _turned_positions(x, mask) if self.bidirectional else None

        def layer(i: int, inputs: Tensor) -> Tensor:
            outputs = _called(self.forward_cells[i], inputs)[0]
            if turn is None:
                return outputs
            backward = _called(self.backward_cells[i], _take(inputs, turn))[0]
            return torch.cat([outputs, _take(backward, turn)], -1)

        return pool.every(self._through(layer, x), mask)

    def start(self, like: Tensor, batch_size: int) -> tuple[Tensor, ...]:
        """Return the state before the first token, two (LSTM) or one (GRU) tensors `[batch, layers, hidden]`.

        Args:
            like: tensor whose device and dtype the state gets.
            batch_size: number of sequences.
        """
        zeros = like.new_zeros(batch_size, len(self.skips), self.hidden)
        return (zeros, zeros) if isinstance(self.forward_cells[0], nn.LSTM) else (zeros,)

    def run(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read some more vectors from a state on, from left to right.

        Args:
            x: vectors `[batch, time, num_inputs]`, none of them padding that is followed by a real one.
            state: from `start`, from an earlier `run`, or one's own.

        Returns:
            States `[batch, time, width]` and the state after the last vector.
        """
        assert not self.bidirectional
        after: list[tuple[Tensor, ...]] = []

        def layer(i: int, inputs: Tensor) -> Tensor:
            before = tuple(part[:, i].unsqueeze(0).contiguous() for part in state)
            cell = self.forward_cells[i]
            outputs, end = _called(cell, inputs, before if isinstance(cell, nn.LSTM) else before[0])
            after.append(end if isinstance(cell, nn.LSTM) else (end,))
            return outputs

        outputs = self._through(layer, x)
        return outputs, tuple(torch.cat(parts, 0).transpose(0, 1) for parts in zip(*after, strict=True))

    def _through(self, layer: Callable[[int, Tensor], Tensor], x: Tensor) -> Tensor:
        """All layers, each with its skip and dropout on what lies between."""
        for i, skip in enumerate(self.skips):
            x = skip(x if i == 0 else self.dropout(x), functools.partial(layer, i))
        return self.norm(x)


def _called(cell: nn.Module, inputs: Tensor, *before: Any) -> Any:
    """Call a layer; an LSTM in the type of its weights where a processor has no bfloat16, in which it would fail."""
    if (
        isinstance(cell, nn.LSTM)
        and inputs.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    ):
        with torch.autocast("cpu", enabled=False):
            dtype = next(cell.parameters()).dtype
            return cell(inputs.to(dtype), *(tuple(part.to(dtype) for part in one) for one in before))
    return cell(inputs, *before)


@final
class Recurrent(nn.Module):
    """LSTM or GRU over token ids.

    Args:
        vocabulary_size: number of token ids.
        width: size of the token vectors.
        cell: `nn.LSTM` or `nn.GRU`.
        bidirectional: whether layers read in both directions (for labeling and classifying; not for generating).
        dropout: dropout probability, in [0, 1): of token vectors, between layers and of the result.
        pooling: from one state per token to what the task needs; see `thalweg.models.pool`.
        **options: `hidden`, and if wanted `layers` and `skip`: see `RecurrentStack`.

    Attributes:
        width: size of the hidden states.
        embedding: table of token vectors, which a softmax head may share where `width` is the vectors' size.

    Raises:
        ValueError: for a number out of its range.

    Source: Hochreiter and Schmidhuber (1997), Long Short-Term Memory; Cho et al. (2014), Learning Phrase
    Representations using RNN Encoder-Decoder. Forget gates that start open: Jozefowicz, Zaremba and Sutskever (2015).
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        *,
        cell: Cell = nn.LSTM,
        bidirectional: bool = False,
        dropout: float = 0.0,
        pooling: Pooling = pool.every,
        **options: Unpack[RecurrentOptions],
    ) -> None:
        super().__init__()
        self.embedding = token_table(vocabulary_size, width)
        self.vectors = ScaledEmbedding(self.embedding)
        self.stack = RecurrentStack(width, cell=cell, bidirectional=bidirectional, dropout=dropout, **options)
        self.dropout = Dropout(dropout)
        self.pooling = pooling
        self.width = self.stack.width

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        before: Tensor | None = None,
        is_before: Tensor | None = None,
    ) -> Tensor:
        """Return hidden states for ids `[batch, time]`: `[batch, time, width]`, or `[batch, width]` if pooled.

        With `before` the network, from left to right, begins with the state after these tokens, through which no
        gradient goes (truncated back-propagation through time).

        Args:
            tokens: ids, int64 `[batch, time]`, padding (0) on the right.
            mask: True at real tokens `[batch, time]`; None: all are.
            before: chunks of the text before `tokens`, int64 `[batch, chunks, time]`; None: an empty state.
            is_before: which of them there are, bool `[batch, chunks]`; after one that is missing the state is empty.
                None: all.

        Source: Werbos (1990), Backpropagation Through Time: What It Does and How to Do It; Williams and Peng (1990), An
        Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories.
        """
        vectors = self.dropout(self.vectors(tokens))
        if before is None:
            hidden = self.stack(vectors, mask)
        else:
            hidden = pool.every(self.stack.run(vectors, self._state_after(before, is_before))[0], mask)
        return self.dropout(self.pooling(hidden, mask))

    @torch.no_grad()
    def _state_after(self, before: Tensor, is_before: Tensor | None) -> tuple[Tensor, ...]:
        state = self.start(len(before))
        for i in range(before.shape[1]):
            state = self.stack.run(self.dropout(self.vectors(before[:, i])), state)[1]
            if is_before is not None:
                state = tuple(part * is_before[:, i, None, None].to(part.dtype) for part in state)
        return state

    def start(self, batch_size: int) -> tuple[Tensor, ...]:
        """Return the state before the first token of `batch_size` texts; each tensor has the batch as dimension 0.

        Raises:
            ValueError: if the network reads in both directions.
        """
        if self.stack.bidirectional:
            raise ValueError("Recurrent.start() needs a network from left to right; build it with bidirectional=False.")
        return self.stack.start(self.embedding.weight, batch_size)

    def advance(self, tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read one more token of each text.

        Args:
            tokens: ids, int64 `[batch]`.
            state: from `start` or from the step before.

        Returns:
            Hidden states `[batch, width]` and the state after these tokens.
        """
        hidden, state = self.stack.run(self.dropout(self.vectors(tokens)).unsqueeze(1), state)
        return self.dropout(hidden.squeeze(1)), state


@final
class RecurrentWindow(nn.Module):
    """LSTM or GRU over a window of numbers; its hidden state is the last one.

    Args:
        num_columns: numbers at each time.
        cell: `nn.LSTM` or `nn.GRU`.
        dropout: dropout probability, in [0, 1): between layers and of the result.
        **options: `hidden`, and if wanted `layers` and `skip`: see `RecurrentStack`.

    Attributes:
        width: `hidden`.

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self, num_columns: int, *, cell: Cell = nn.LSTM, dropout: float = 0.0, **options: Unpack[RecurrentOptions]
    ) -> None:
        super().__init__()
        self.stack = RecurrentStack(num_columns, cell=cell, dropout=dropout, **options)
        self.dropout = Dropout(dropout)
        self.width = self.stack.width

    def forward(self, features: Tensor) -> Tensor:
        """Return hidden states `[batch, width]` for features `[batch, lags, columns]`."""
        return self.dropout(self.stack(features)[:, -1])


@torch.no_grad()
def reset_biases(module: nn.RNNBase | nn.RNNCellBase) -> None:
    """Set all biases to zero, but 1 for an LSTM's forget gates, so that it starts by remembering."""
    for name, parameter in module.named_parameters():
        if name.startswith("bias"):
            parameter.zero_()
            if isinstance(module, nn.LSTM | nn.LSTMCell) and name.startswith("bias_ih"):
                parameter[module.hidden_size : 2 * module.hidden_size] = 1.0


def _turned_positions(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return for each place the place it has when its sequence is read from its last real token, `[batch, time]`."""
    time = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
    if mask is None:
        return x.shape[1] - 1 - time
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - time, time)


def _take(x: Tensor, positions: Tensor) -> Tensor:
    """Return `x[b, positions[b, t]]`."""
    return x.gather(1, positions.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
