"""What the model names of the command line stand for: one function a name, all with the same two arguments.

The first half of a name says what the task needs (`pooled`: one hidden state a text; `pair`: one for two texts;
`tokens`: one a token; `window`: one a window of numbers; `causal`: one a token, which sees only the tokens before;
`translate`: one a token of the translation), the second half which network gives it.
"""

import dataclasses
import itertools
import math
from typing import final

from torch import Tensor, nn

from thalweg.models import activations, pool
from thalweg.models.activations import ActivationFactory
from thalweg.models.bag import Bag
from thalweg.models.mlp import MLP, random_mask
from thalweg.models.pair import Pair
from thalweg.models.recurrent import Recurrent, RecurrentWindow
from thalweg.models.skips import NoSkip, PreNorm, SkipFactory
from thalweg.models.transformer import Decoder, Encoder, EncoderDecoder
from thalweg.models.translator import Translator


@final
@dataclasses.dataclass(frozen=True)
class Shape:
    """What the data asks of a model.

    Args:
        vocabulary_size: number of token ids (for bags: of features), special ones included; of a translation, the
            source side's.
        num_columns: numeric columns at each time.
        lags: times in a window.
        target_vocabulary_size: number of token ids on the target side of a translation.
        max_length: longest sequence in tokens, for models with positions.
    """

    vocabulary_size: int = 0
    num_columns: int = 0
    lags: int = 0
    target_vocabulary_size: int = 0
    max_length: int = 512


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the user may choose about a model; each builder says in its docstring what it uses.

    Args:
        width: size of token vectors, and of the hidden state of bags and transformers.
        hidden: units of a hidden layer: of an MLP, of a transformer's feed-forward part, of an LSTM or GRU (per
            direction).
        layers: number of layers (hidden ones in an MLP; in encoder and decoder each for a translation).
        heads: attention heads of a transformer; must divide `width`.
        dropout: share of activations set to zero in training, in [0, 1).
        activation: makes the activation of MLPs and transformers; None: the model's usual one (GELU). LSTM and GRU have
            their own.
        skip: makes the way around a layer, given its width; None: the model's usual one (pre-norm for transformers,
            none elsewhere).
        input_skip: whether an MLP's input also reaches its output by a linear map of its own.
        sparsity: share of an MLP's connections that are left out for good, drawn at random, in [0, 1).
    """

    width: int = 128
    hidden: int = 256
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    activation: ActivationFactory | None = None
    skip: SkipFactory | None = None
    input_skip: bool = False
    sparsity: float = 0.0


@final
class FlatWindow(nn.Module):
    """A body that reads a whole window of numbers as one row: hidden = body(features flattened).

    Args:
        body: module on `[batch, lags * num_columns]` with an attribute `width`.
    """

    def __init__(self, body: MLP) -> None:
        super().__init__()
        self.body = body
        self.width = body.width

    def forward(self, features: Tensor) -> Tensor:
        """Return hidden states `[batch, width]` for features `[batch, lags, columns]`."""
        return self.body(features.flatten(1))


def pooled_bag(shape: Shape, options: Options) -> nn.Module:
    """Return a bag of features (uses `width`, `dropout`)."""
    return Bag(_positive(shape, "vocabulary_size"), options.width, dropout=options.dropout)


def pooled_mlp(shape: Shape, options: Options) -> nn.Module:
    """Return an MLP on a bag of features (uses all options but `heads`)."""
    features = _positive(shape, "vocabulary_size")
    return Bag(features, options.width, dropout=options.dropout, body=_mlp(options.width, options))


def pooled_lstm(shape: Shape, options: Options) -> nn.Module:
    """Return an LSTM in both directions, its states averaged (uses `width`, `hidden`, `layers`, `dropout`, `skip`)."""
    return _recurrent(nn.LSTM, shape, options, pooling=pool.mean)


def pooled_gru(shape: Shape, options: Options) -> nn.Module:
    """Return a GRU in both directions, its states averaged (uses `width`, `hidden`, `layers`, `dropout`, `skip`)."""
    return _recurrent(nn.GRU, shape, options, pooling=pool.mean)


def pooled_transformer(shape: Shape, options: Options) -> nn.Module:
    """Return a transformer encoder, its states averaged (uses all options but the MLP's)."""
    return _encoder(shape, options, pooling=pool.mean)


def _pair(encoder: nn.Module) -> Pair:
    """Return a pair whose products are about as large as the states themselves."""
    return Pair(encoder, product_scale=math.sqrt(encoder.width))  # type: ignore[arg-type]


def pair_bag(shape: Shape, options: Options) -> nn.Module:
    """Return two texts through one bag of features (uses `width`, `dropout`)."""
    return _pair(pooled_bag(shape, options))


def pair_lstm(shape: Shape, options: Options) -> nn.Module:
    """Return two texts through one LSTM (uses `width`, `hidden`, `layers`, `dropout`, `skip`)."""
    return _pair(pooled_lstm(shape, options))


def pair_transformer(shape: Shape, options: Options) -> nn.Module:
    """Return two texts through one transformer encoder (uses all options but the MLP's)."""
    return _pair(pooled_transformer(shape, options))


def tokens_lstm(shape: Shape, options: Options) -> nn.Module:
    """Return an LSTM in both directions, a state a token (uses `width`, `hidden`, `layers`, `dropout`, `skip`)."""
    return _recurrent(nn.LSTM, shape, options, pooling=pool.every)


def tokens_transformer(shape: Shape, options: Options) -> nn.Module:
    """Return a transformer encoder, a state a token (uses all options but the MLP's)."""
    return _encoder(shape, options, pooling=pool.every)


def window_mlp(shape: Shape, options: Options) -> nn.Module:
    """Return an MLP on a window of numbers (uses all options but `width`, `heads`)."""
    return FlatWindow(_mlp(_positive(shape, "lags") * _positive(shape, "num_columns"), options))


def window_lstm(shape: Shape, options: Options) -> nn.Module:
    """Return an LSTM over a window of numbers, its last state (uses `hidden`, `layers`, `dropout`, `skip`)."""
    return RecurrentWindow(
        _positive(shape, "num_columns"),
        cell=nn.LSTM,
        hidden=options.hidden,
        layers=options.layers,
        dropout=options.dropout,
        skip=options.skip or NoSkip,
    )


def causal_lstm(shape: Shape, options: Options) -> nn.Module:
    """Return an LSTM from left to right (uses `width`, `hidden`, `layers`, `dropout`, `skip`)."""
    return _recurrent(nn.LSTM, shape, options, pooling=pool.every, bidirectional=False)


def causal_transformer(shape: Shape, options: Options) -> nn.Module:
    """Return a transformer decoder (uses all options but the MLP's)."""
    return Decoder(
        _positive(shape, "vocabulary_size"),
        options.width,
        hidden=options.hidden,
        layers=options.layers,
        heads=options.heads,
        dropout=options.dropout,
        activation=options.activation or activations.gelu,
        skip=options.skip or PreNorm,
        max_length=shape.max_length,
    )


def translate_lstm(shape: Shape, options: Options) -> nn.Module:
    """Return LSTM encoder and decoder with attention (uses `width`, `hidden`, `layers`, `dropout`, `skip`)."""
    return Translator(
        _positive(shape, "vocabulary_size"),
        _positive(shape, "target_vocabulary_size"),
        options.width,
        hidden=options.hidden,
        layers=options.layers,
        dropout=options.dropout,
        skip=options.skip or NoSkip,
    )


def translate_transformer(shape: Shape, options: Options) -> nn.Module:
    """Return a transformer encoder and decoder (uses all options but the MLP's)."""
    return EncoderDecoder(
        _positive(shape, "vocabulary_size"),
        _positive(shape, "target_vocabulary_size"),
        options.width,
        hidden=options.hidden,
        layers=options.layers,
        heads=options.heads,
        dropout=options.dropout,
        activation=options.activation or activations.gelu,
        skip=options.skip or PreNorm,
        max_length=shape.max_length,
    )


def _positive(shape: Shape, field: str) -> int:
    value = {
        "vocabulary_size": shape.vocabulary_size,
        "num_columns": shape.num_columns,
        "lags": shape.lags,
        "target_vocabulary_size": shape.target_vocabulary_size,
    }[field]
    if value < 1:
        raise ValueError(f"This model needs Shape({field}=...) of at least 1; got {value!r}.")
    return value


def _mlp(num_inputs: int, options: Options) -> MLP:
    activation = options.activation or activations.gelu
    sizes = [num_inputs] + [options.hidden] * options.layers
    shapes = [(outputs, inputs) for inputs, outputs in itertools.pairwise(sizes)]
    if options.input_skip:
        shapes.append((sizes[-1], sizes[0]))
    return MLP(
        sizes,
        activation=activation,
        output_activation=activation,
        skip=options.skip or NoSkip,
        dropout=options.dropout,
        input_skip=options.input_skip,
        masks=[random_mask(*shape, options.sparsity) for shape in shapes] if options.sparsity else None,
    )


def _recurrent(
    cell: type[nn.LSTM] | type[nn.GRU],
    shape: Shape,
    options: Options,
    *,
    pooling: pool.Pooling,
    bidirectional: bool = True,
) -> Recurrent:
    return Recurrent(
        _positive(shape, "vocabulary_size"),
        options.width,
        cell=cell,
        hidden=options.hidden,
        layers=options.layers,
        bidirectional=bidirectional,
        dropout=options.dropout,
        pooling=pooling,
        skip=options.skip or NoSkip,
    )


def _encoder(shape: Shape, options: Options, *, pooling: pool.Pooling) -> Encoder:
    return Encoder(
        _positive(shape, "vocabulary_size"),
        options.width,
        hidden=options.hidden,
        layers=options.layers,
        heads=options.heads,
        dropout=options.dropout,
        activation=options.activation or activations.gelu,
        skip=options.skip or PreNorm,
        max_length=shape.max_length,
        pooling=pooling,
    )
