"""The layers that every transformer stacks: attention and feed-forward parts with a skip around each."""

from typing import NotRequired, TypedDict, final

import torch
from torch import Tensor, nn

from thalweg.models import activations
from thalweg.models.activations import ActivationFactory
from thalweg.models.attention import Attention
from thalweg.models.dropout import Dropout
from thalweg.models.skips import AbstractSkip, PreNorm, SkipFactory, Sublayer

State = tuple[Tensor, ...]


class LayerOptions(TypedDict):
    """What every transformer says about its layers: see `Stack`."""

    hidden: int
    layers: int
    heads: int
    activation: NotRequired[ActivationFactory]
    skip: NotRequired[SkipFactory]


@final
class Block(nn.Module):
    """One layer: attention to itself, attention to a memory where there is one, feed-forward; a skip around each.

    Arguments as for `Stack`.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        heads: int,
        *,
        dropout: float,
        activation: ActivationFactory,
        skip: SkipFactory,
        causal: bool,
        cross: bool,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.attention = Attention(width, heads)
        self.attention_skip = skip(width)
        self.cross = Attention(width, heads) if cross else None
        self.cross_skip = skip(width) if cross else None
        self.feed_in = nn.Linear(width, hidden)
        self.activation = activation()
        self.feed_out = nn.Linear(hidden, width)
        self.feed_skip = skip(width)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, memory: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        """Return `[batch, time, width]` for `x` of that shape; masks are True at real tokens."""
        cross = self.cross
        attend = None if cross is None else lambda h: cross(h, memory, memory_mask)
        return self._parts(x, lambda h: self.attention(h, mask=mask, causal=self.causal), attend)

    def advance(
        self, x: Tensor, cache: tuple[Tensor, Tensor], memory: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Take one more step: `x` `[batch, 1, width]`, with keys and values of the steps before and of the memory."""
        longer, cross = cache, self.cross

        def look_back(h: Tensor) -> Tensor:
            nonlocal longer
            new = self.attention.remember(h)
            longer = (torch.cat([cache[0], new[0]], 2), torch.cat([cache[1], new[1]], 2))
            return self.attention.recall(h, *longer)

        attend = None if cross is None or memory is None else lambda h: cross.recall(h, *memory, mask)
        return self._parts(x, look_back, attend), longer

    def _parts(self, x: Tensor, look: Sublayer, cross: Sublayer | None) -> Tensor:
        x = self.attention_skip(x, lambda h: self.dropout(look(h)))
        if cross is not None and self.cross_skip is not None:
            x = self.cross_skip(x, lambda h: self.dropout(cross(h)))
        return self.feed_skip(x, self._feed)

    def _feed(self, h: Tensor) -> Tensor:
        return self.dropout(self.feed_out(self.dropout(self.activation(self.feed_in(h)))))


@final
class Stack(nn.Module):
    """Layers one after the other, and a last LayerNorm where the skip leaves the sum unnormalized.

    Args:
        width: size of the hidden state.
        hidden: units inside the feed-forward parts, at least 1.
        layers: number of layers, at least 1.
        heads: attention heads; must divide `width`.
        dropout: dropout probability of units.
        activation: makes the activation of the feed-forward parts.
        skip: makes the way around each part; `PreNorm` also gives the last LayerNorm.
        causal: whether a token sees only itself and those before.
        cross: whether there is a memory.

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: int,
        layers: int,
        heads: int,
        dropout: float,
        activation: ActivationFactory = activations.gelu,
        skip: SkipFactory = PreNorm,
        causal: bool = False,
        cross: bool = False,
    ) -> None:
        super().__init__()
        if layers < 1 or hidden < 1:
            raise ValueError(f"A transformer needs layers and hidden of at least 1; got {layers}, {hidden}.")
        blocks = [
            Block(width, hidden, heads, dropout=dropout, activation=activation, skip=skip, causal=causal, cross=cross)
            for _ in range(layers)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.has_memory = cross
        feed_skip = blocks[0].feed_skip
        normalizes = isinstance(feed_skip, AbstractSkip) and feed_skip.normalizes
        self.norm = nn.LayerNorm(width) if normalizes else nn.Identity()

    def forward(
        self, x: Tensor, mask: Tensor | None = None, memory: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        """Return `[batch, time, width]` for `x` of that shape."""
        for block in self.blocks:
            x = block(x, mask, memory, memory_mask)
        return self.norm(x)

    def shares(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Return how much `x` looks at each of the memory, `[batch, time, memory]`, the mean over the layers."""
        total = torch.zeros((), device=x.device)

        def look(cross: nn.Module, args: tuple[Tensor, Tensor, Tensor]) -> None:
            nonlocal total
            assert isinstance(cross, Attention)
            total = total + cross.shares(*args)

        crosses = [block.cross for block in self.blocks if isinstance(block, Block) and block.cross is not None]
        hooks = [cross.register_forward_pre_hook(look) for cross in crosses]
        try:
            self(x, None, memory, mask)
        finally:
            for hook in hooks:
                hook.remove()
        return total / len(hooks)

    def remember(self, memory: Tensor) -> State:
        """Return keys and values of a memory `[batch, memory, width]`, those of each layer that attends to it."""
        crosses = [block.cross for block in self.blocks if isinstance(block, Block) and block.cross is not None]
        return tuple(part for cross in crosses for part in cross.remember(memory))

    def start(self, like: Tensor, batch_size: int) -> State:
        """Return empty caches, keys and values of each layer, on the device and in the dtype of `like`."""
        empty: list[Tensor] = []
        for block in self.blocks:
            assert isinstance(block, Block)
            heads = block.attention.heads
            size = block.attention.query.out_features // heads
            empty += [like.new_zeros(batch_size, heads, 0, size)] * 2
        return tuple(empty)

    def advance(self, x: Tensor, caches: State, memory: State, mask: Tensor | None) -> tuple[Tensor, State]:
        """Take one more step with `x` `[batch, 1, width]`; returns `[batch, 1, width]` and the longer caches."""
        longer: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            remembered = (memory[2 * i], memory[2 * i + 1]) if memory else None
            x, cache = block.advance(x, (caches[2 * i], caches[2 * i + 1]), remembered, mask)
            longer += cache
        return self.norm(x), tuple(longer)
