"""What the model names of the command line stand for: one builder for each name, all with the same two arguments.

The first half of a name says what the task needs (`pooled`: one hidden state a text; `pair`: one for two texts;
`tokens`: one a token; `window`: one a window of numbers; `causal`: one a token, which sees only the tokens before;
`translate`: one a token of the translation), the second half which network gives it.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn

from thalweg.errors import require
from thalweg.models import activations, pool
from thalweg.models.activations import ActivationFactory
from thalweg.models.bag import Bag, LinearBag
from thalweg.models.blocks import LayerOptions
from thalweg.models.mlp import MLP, random_mask
from thalweg.models.pair import Pair, UnitPair
from thalweg.models.pretrained import DECODER, ENCODER, POOLINGS, TRANSLATOR, Pretrained, network_of
from thalweg.models.pretrained_writers import PretrainedDecoder, PretrainedTranslator
from thalweg.models.recurrent import Cell, Recurrent, RecurrentOptions, RecurrentWindow
from thalweg.models.shape import ModelShape
from thalweg.models.skips import NoSkip, PreNorm, SkipFactory
from thalweg.models.sparse_linear import SparseLinear
from thalweg.models.transformer import Decoder, Encoder, EncoderDecoder
from thalweg.models.translator import Translator
from thalweg.models.tuning import add_low_rank


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What the user may choose about a model; each builder says in its docstring what it uses.

    Args:
        width: size of token vectors, and of the hidden state of bags and transformers.
        hidden: units of a hidden layer: of an MLP, of a transformer's feed-forward part, of an LSTM or GRU (per
            direction).
        layers: number of layers (hidden ones in an MLP; in encoder and decoder each for a translation).
        heads: attention heads of a transformer; must divide `width`.
        dropout: dropout probability, in [0, 1).
        activation: makes the activation of MLPs and transformers; None: the model's usual one (GELU). LSTM and GRU have
            their own.
        skip: makes the way around a layer, given its width; None: the model's usual one (pre-norm for transformers,
            none elsewhere).
        input_skip: whether an MLP's input also reaches its output by a linear map of its own.
        sparsity: fraction of an MLP's connections that are removed for good, drawn at random, in [0, 1).
        lora: rank of the matrices that are trained beside those of a pretrained network; 0: none.
        lora_alpha: what they are scaled with, over the rank; 0: twice the rank.
        tie_source: whether the two sides of a translation have one table of token vectors.
    """

    width: int = 128
    hidden: int = 128
    layers: int = 1
    heads: int = 4
    dropout: float = 0.1
    activation: ActivationFactory | None = None
    skip: SkipFactory | None = None
    input_skip: bool = False
    sparsity: float = 0.0
    lora: int = 0
    lora_alpha: float = 0.0
    tie_source: bool = False


@final
class FlatWindow(nn.Module):
    """A body that reads a whole window of numbers as one row: hidden = body(features flattened)."""

    def __init__(self, body: MLP) -> None:
        super().__init__()
        self.body = body
        self.width = body.width

    def forward(self, features: Tensor) -> Tensor:
        """Return hidden states `[batch, width]` for features `[batch, lags, columns]`."""
        return self.body(features.flatten(1))


@final
class LinearWindow(nn.Module):
    """Numbers as they are, for a linear layer on top of them: hidden = features.

    Args:
        width: how many there are in a row.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Tensor) -> Tensor:
        """Return the features `[batch, ..., width]`."""
        return features


def linear_window(shape: ModelShape, options: ModelOptions) -> LinearWindow:
    """Return what is below a linear forecast (uses none of the options)."""
    del options
    return LinearWindow(_at_least_1(shape, "lags") * _at_least_1(shape, "num_columns"))


def sparse_linear(shape: ModelShape, options: ModelOptions) -> SparseLinear:
    """Return a linear model over sparse features of words (uses no option)."""
    del options
    return SparseLinear(_at_least_1(shape, "vocabulary_size"), _at_least_1(shape, "num_outputs"))


def pooled_bag(shape: ModelShape, options: ModelOptions) -> Bag:
    """Return a bag of features (uses `width`, `dropout`)."""
    return Bag(_at_least_1(shape, "vocabulary_size"), options.width, dropout=options.dropout)


def pooled_linear(shape: ModelShape, options: ModelOptions) -> LinearBag:
    """Return a linear model of features (uses none of the options)."""
    del options
    return LinearBag(_at_least_1(shape, "vocabulary_size"), _at_least_1(shape, "num_outputs"))


def pooled_mlp(shape: ModelShape, options: ModelOptions) -> Bag:
    """Return an MLP on a bag of features (uses all options but `heads`)."""
    features = _at_least_1(shape, "vocabulary_size")
    return Bag(features, options.width, dropout=options.dropout, body=_mlp(options.width, options))


def pooled_pretrained(shape: ModelShape, options: ModelOptions) -> Pretrained:
    """Return a pretrained network, with initial weights, and one state a text (uses `dropout`, `lora`)."""
    return _pretrained(shape, options, POOLINGS[shape.pooling])


def tokens_pretrained(shape: ModelShape, options: ModelOptions) -> Pretrained:
    """Return a pretrained network, with initial weights, and one state a token (uses `dropout`, `lora`)."""
    return _pretrained(shape, options, pool.every)


def _pretrained(shape: ModelShape, options: ModelOptions, pooling: pool.Pooling) -> Pretrained:
    network = _network(shape, options, ENCODER)
    return Pretrained(network, pooling=pooling, dropout=options.dropout)


def causal_pretrained(shape: ModelShape, options: ModelOptions) -> PretrainedDecoder:
    """Return a pretrained decoder, with initial weights (uses `dropout`, `lora`)."""
    return PretrainedDecoder(_network(shape, options, DECODER))


def translate_pretrained(shape: ModelShape, options: ModelOptions) -> PretrainedTranslator:
    """Return a pretrained encoder and decoder, with initial weights (uses `dropout`, `lora`)."""
    network = _network(shape, options, TRANSLATOR)
    config: Any = network.config
    # Versions before 5 of the library have no such setting, and scale where the layer is tied.
    scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
    scaled = scaled and config.model_type in ("t5", "mt5", "umt5")
    return PretrainedTranslator(network, config.d_model**-0.5 if scaled else 1.0)


def _network(shape: ModelShape, options: ModelOptions, kind: str) -> nn.Module:
    assert shape.config is not None
    network = network_of(shape.config, dropout=options.dropout, kind=kind)
    if options.lora:
        add_low_rank(network, options.lora, options.lora_alpha or 2.0 * options.lora)
    return network


def pair_pretrained(shape: ModelShape, options: ModelOptions) -> nn.Module:
    """Return a pretrained network for pairs: both texts in one sequence, or each by itself."""
    encoder = pooled_pretrained(shape, options)
    return encoder if shape.is_crossed else UnitPair(encoder)


def window_mlp(shape: ModelShape, options: ModelOptions) -> FlatWindow:
    """Return an MLP on a window of numbers (uses all options but `width`, `heads`)."""
    return FlatWindow(_mlp(_at_least_1(shape, "lags") * _at_least_1(shape, "num_columns"), options))


def window_lstm(shape: ModelShape, options: ModelOptions) -> RecurrentWindow:
    """Return an LSTM over a window of numbers, its last state (uses `hidden`, `layers`, `dropout`, `skip`)."""
    return RecurrentWindow(_at_least_1(shape, "num_columns"), dropout=options.dropout, **_recurrent_layers(options))


def recurrent(
    shape: ModelShape,
    options: ModelOptions,
    *,
    cell: Cell = nn.LSTM,
    pooling: pool.Pooling = pool.every,
    bidirectional: bool = True,
) -> Recurrent:
    """Return an LSTM or GRU over tokens (uses `width`, `hidden`, `layers`, `dropout`, `skip`)."""
    size, dropout, layers = _at_least_1(shape, "vocabulary_size"), options.dropout, _recurrent_layers(options)
    return Recurrent(
        size, options.width, cell=cell, bidirectional=bidirectional, dropout=dropout, pooling=pooling, **layers
    )


def encoder(shape: ModelShape, options: ModelOptions, *, pooling: pool.Pooling = pool.every) -> Encoder:
    """Return a transformer encoder over tokens (uses all options but the MLP's)."""
    size = _at_least_1(shape, "vocabulary_size")
    length, dropout = shape.max_length, options.dropout
    return Encoder(size, options.width, dropout=dropout, max_length=length, pooling=pooling, **_layers(options))


def causal_transformer(shape: ModelShape, options: ModelOptions) -> Decoder:
    """Return a transformer decoder (uses all options but the MLP's)."""
    size = _at_least_1(shape, "vocabulary_size")
    return Decoder(size, options.width, dropout=options.dropout, max_length=shape.max_length, **_layers(options))


def translate_lstm(shape: ModelShape, options: ModelOptions) -> Translator:
    """Return LSTM encoder and decoder with attention (`width`, `hidden`, `layers`, `dropout`, `skip`, `tie_source`)."""
    sizes = _at_least_1(shape, "vocabulary_size"), _at_least_1(shape, "target_vocabulary_size")
    shared, dropout = options.tie_source, options.dropout
    return Translator(*sizes, options.width, dropout=dropout, shared=shared, **_recurrent_layers(options))


def translate_transformer(shape: ModelShape, options: ModelOptions) -> EncoderDecoder:
    """Return a transformer encoder and decoder (uses all options but the MLP's)."""
    sizes = _at_least_1(shape, "vocabulary_size"), _at_least_1(shape, "target_vocabulary_size")
    about = {"dropout": options.dropout, "max_length": shape.max_length, "shared": options.tie_source}
    return EncoderDecoder(*sizes, options.width, **about, **_layers(options))


def _pair(
    encode: Callable[..., Bag | Recurrent | Encoder | Pretrained], shape: ModelShape, options: ModelOptions
) -> Pair:
    model = encode(shape, options)
    return Pair(model, product_scale=math.sqrt(model.width))  # products are then about as large as the states


pooled_lstm = functools.partial(recurrent, pooling=pool.mean)
pooled_gru = functools.partial(recurrent, cell=nn.GRU, pooling=pool.mean)
pooled_transformer = functools.partial(encoder, pooling=pool.mean)
pair_bag = functools.partial(_pair, pooled_bag)
pair_lstm = functools.partial(_pair, pooled_lstm)
pair_transformer = functools.partial(_pair, pooled_transformer)
tokens_lstm = recurrent
tokens_transformer = encoder
causal_lstm = functools.partial(recurrent, bidirectional=False)


def _at_least_1(shape: ModelShape, field: str) -> int:
    value = getattr(shape, field)
    require(value >= 1, f"This model needs ModelShape({field}=...) of at least 1", value)
    return value


def _layers(options: ModelOptions) -> LayerOptions:
    activation, skip = options.activation or activations.gelu, options.skip or PreNorm
    hidden, layers, heads = options.hidden, options.layers, options.heads
    return LayerOptions(hidden=hidden, layers=layers, heads=heads, activation=activation, skip=skip)


def _recurrent_layers(options: ModelOptions) -> RecurrentOptions:
    return RecurrentOptions(hidden=options.hidden, layers=options.layers, skip=options.skip or NoSkip)


def _mlp(num_inputs: int, options: ModelOptions) -> MLP:
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
