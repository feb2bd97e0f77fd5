"""Hugging Face models that write: hidden states of decoders and translators, and how writing goes on from a state."""

import importlib
import inspect
from typing import Any, final

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]


@final
class PretrainedDecoder(nn.Module):
    """Hidden states of a pretrained decoder, each of which has seen the tokens before alone.

    Args:
        model: a decoder of Hugging Face without its output layer (`AutoModelForCausalLM(...).base_model`).

    Attributes:
        width: size of the hidden states.
        embedding: table of token vectors, which a softmax head may share.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        config: Any = model.config
        config.pad_token_id = None  # else it warns of tokens that look like padding, which none of these is
        self.width: int = config.hidden_size
        self.num_layers: int = config.num_hidden_layers

    @property
    def embedding(self) -> nn.Embedding:
        """The table of token vectors."""
        return self.model.get_input_embeddings()  # type: ignore[operator]

    def forward(self, tokens: Tensor) -> Tensor:
        """Return hidden states `[batch, time, width]` for ids `[batch, time]`; padding is on the right."""
        return self.model(input_ids=tokens, use_cache=False).last_hidden_state

    def start(self, batch_size: int) -> State:
        """Return the state before the first token; each tensor has the batch as dimension 0."""
        return _nothing(batch_size, 2 * self.num_layers, self.embedding.weight)

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token of each text: ids `[batch]`; returns hidden states `[batch, width]` and the new state."""
        cache = _cache(state)
        found = self.model(input_ids=tokens.unsqueeze(1), use_cache=True, **{_name_of_cache(self.model): cache})
        return found.last_hidden_state.squeeze(1), _tensors(cache)


@final
class PretrainedTranslator(nn.Module):
    """Hidden states of a pretrained encoder and decoder: of the target's tokens, after the source.

    Args:
        model: of Hugging Face, without its output layer (`AutoModelForSeq2SeqLM(...).base_model`).
        scale: what hidden states are multiplied with before the output layer.

    Attributes:
        width: size of the hidden states.
        embedding: table of token vectors, which a softmax head may share.
    """

    def __init__(self, model: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.scale = scale
        config: Any = model.config
        self.width: int = config.hidden_size
        self.num_layers: int = getattr(config, "num_decoder_layers", None) or config.decoder_layers

    @property
    def embedding(self) -> nn.Embedding:
        """The table of the target's token vectors."""
        return self.model.get_decoder().get_input_embeddings()  # type: ignore[operator]

    def forward(self, tokens: Tensor, decoder_tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return hidden states `[batch, time, width]`.

        Args:
            tokens: source ids, int64 `[batch, source]`.
            decoder_tokens: target ids shifted by one, int64 `[batch, time]`.
            mask: True at real source tokens `[batch, source]`; None: all are.
        """
        attention = None if mask is None else mask.long()
        inputs = {"input_ids": tokens, "attention_mask": attention, "decoder_input_ids": decoder_tokens}
        return self.scale * self.model(**inputs, use_cache=False).last_hidden_state

    def start(self, tokens: Tensor, mask: Tensor | None = None) -> State:
        """Read the source; returns the state before the first target token, the batch as dimension 0 everywhere."""
        mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
        encoder: Any = self.model.get_encoder()  # type: ignore[operator]
        memory = encoder(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return (mask, memory, *_nothing(len(tokens), 4 * self.num_layers, memory))

    def advance(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Write one more token of each text: ids `[batch]` to hidden states `[batch, width]` and new state."""
        mask, memory, *kept = state
        library: Any = importlib.import_module("transformers")
        own, across = _cache(tuple(kept[: 2 * self.num_layers])), _cache(tuple(kept[2 * self.num_layers :]))
        both = library.EncoderDecoderCache(own, across)
        decoder: Any = self.model.get_decoder()  # type: ignore[operator]
        found = decoder(
            input_ids=tokens.unsqueeze(1),
            encoder_hidden_states=memory,
            encoder_attention_mask=mask.long(),
            use_cache=True,
            **{_name_of_cache(decoder): both},
        )
        hidden = self.scale * found.last_hidden_state.squeeze(1)
        return hidden, (mask, memory, *_tensors(own), *_tensors(across))


def _name_of_cache(model: nn.Module) -> str:
    """Return the keyword under which a network takes what it has seen: it changed with version 5.24."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _nothing(batch_size: int, number: int, like: Tensor) -> State:
    """Return tensors without any time."""
    return tuple(like.new_zeros(batch_size, 1, 0, 1) for _ in range(number))


def _cache(state: State) -> Any:
    library: Any = importlib.import_module("transformers")
    cache = library.DynamicCache()
    for layer in range(len(state) // 2):
        keys, values = state[2 * layer], state[2 * layer + 1]
        if keys.shape[2]:
            cache.update(keys, values, layer)
    return cache


def _tensors(cache: Any) -> State:
    return tuple(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))
