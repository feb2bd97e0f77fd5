"""Schemes that initialize a model's weights, each with what it assumes and the layers it touches.

A scheme is called with a model and, where it looks at data, one batch of inputs: `scheme(model, inputs)`. It returns
the names of the layers it set: linear, convolutional and recurrent ones and `nn.MultiheadAttention`. Common to all:
biases become zero, but 1 for an LSTM's forget gates and -2 for highway gates; masked weights stay zero. Matrices that
PyTorch keeps in one tensor are set one by one: those of an LSTM's or GRU's gates, of attention's queries, keys and
values, and of a convolution's groups, where the inputs are the numbers that an output sees. Tables of token vectors,
learned positions, normalizations, ReZero's factors and transposed convolutions stay as they were constructed, where a
scheme does not say otherwise. The activation's gain counts in convolutions, MLPs and feed-forward parts; attention's
maps and gates have gain 1. A weight that is computed by a parametrization is set through it.
"""

import abc
import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from thalweg.errors import require
from thalweg.models.activations import ActivationFactory, gain
from thalweg.models.attention import Attention
from thalweg.models.blocks import Block, Stack
from thalweg.models.embedding import reset_token_table
from thalweg.models.mlp import MaskedLinear
from thalweg.models.recurrent import reset_biases
from thalweg.models.skips import Highway
from thalweg.models.translator import Translator

Inputs = dict[str, Tensor]
_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Layer = nn.Linear | MaskedLinear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.MultiheadAttention
# Draws one matrix [outputs, inputs] in place; the mask (0/1, same shape, or None) says which entries count, the last
# number how many outputs of a row see the same input (of a convolution: the size of its kernel).
_Draw = Callable[[Tensor, Tensor | None, float, int], None]


class AbstractScheme(abc.ABC):
    """A way to draw a model's weights."""

    @abc.abstractmethod
    def __call__(self, model: nn.Module, inputs: Inputs | None = None) -> list[str]:
        """Set the model's weights.

        Args:
            model: what is set, in place.
            inputs: one batch of the model's inputs, for schemes that look at data.

        Returns:
            The names of the layers that were set.

        Raises:
            ValueError: the model is none for this scheme, or inputs are missing.
        """


@final
@dataclasses.dataclass(frozen=True)
class Xavier(AbstractScheme):
    r"""Normal weights with variance $g^2 \cdot 2 / (\text{inputs} + \text{outputs})$: forward and backward in balance.

    Assumes activations that are linear around zero, such as tanh. Inputs and outputs are counted without masked
    connections.

    Args:
        activation: makes the activation whose gain is g; the identity has gain 1.

    Source: Glorot and Bengio (2010), Understanding the Difficulty of Training Deep Feedforward Neural Networks.
    """

    activation: ActivationFactory = nn.Identity

    @override
    def __call__(self, model: nn.Module, inputs: Inputs | None = None) -> list[str]:
        return _draw_all(model, _xavier, gain(self.activation), "Xavier")


@final
@dataclasses.dataclass(frozen=True)
class He(AbstractScheme):
    r"""Normal weights with variance $g^2 / \text{inputs}$: the size of hidden states stays what it is, layer by layer.

    Inputs are counted without masked connections. With GELU and SiLU the size is held only near one, and drifts away
    over many layers: in 20 layers of 512 units the second moment grew 2- to 5-fold (GELU) and 8- to 21-fold (SiLU),
    where a ReLU's stayed within a factor of 2.

    Args:
        activation: makes the activation whose gain is g; a ReLU has $\sqrt 2$.

    Source: He, Zhang, Ren and Sun (2015), Delving Deep into Rectifiers.
    """

    activation: ActivationFactory = nn.ReLU

    @override
    def __call__(self, model: nn.Module, inputs: Inputs | None = None) -> list[str]:
        return _draw_all(model, _he, gain(self.activation), "He")


@final
@dataclasses.dataclass(frozen=True)
class Orthogonal(AbstractScheme):
    r"""Random matrices with orthogonal rows or columns (whichever are fewer), $W W^\top = g^2 I$ or $W^\top W = g^2 I$.

    Keeps lengths through many layers and time steps. With masked connections the matrix is cut after it was drawn, and
    no longer orthogonal.

    Args:
        gain: g, positive; the same in all layers.

    Raises:
        ValueError: if `gain` is not positive.

    Source: Saxe, McClelland and Ganguli (2014), Exact Solutions to the Nonlinear Dynamics of Learning in Deep Linear
    Neural Networks.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        require(0.0 < self.gain < math.inf, "Orthogonal(gain=...) must be positive", self.gain)

    @override
    def __call__(self, model: nn.Module, inputs: Inputs | None = None) -> list[str]:
        return _draw_all(model, _orthogonal, self.gain, "Orthogonal", everywhere=True)


@final
@dataclasses.dataclass(frozen=True)
class LSUV(AbstractScheme):
    """Orthogonal weights, then each layer scaled until its outputs on a batch have variance one.

    Layers are taken in the order in which they run, without dropout. Recurrent layers and the maps inside
    `nn.MultiheadAttention` stay orthogonal, and its output map is scaled; a layer whose outputs on the batch are all
    equal stays as it is.

    Args:
        tolerance: largest distance of the variance from one, positive.
        max_iterations: most rescalings of a layer, at least 1.

    Raises:
        ValueError: for a number out of its range.

    Source: Mishkin and Matas (2016), All You Need Is a Good Init.
    """

    tolerance: float = 0.02
    max_iterations: int = 10

    def __post_init__(self) -> None:
        require(self.tolerance > 0.0, "LSUV(tolerance=...) must be positive", self.tolerance)
        require(self.max_iterations >= 1, "LSUV(max_iterations=...) must be at least 1", self.max_iterations)

    @override
    def __call__(self, model: nn.Module, inputs: Inputs | None = None) -> list[str]:
        if inputs is None:
            raise ValueError("LSUV needs a batch of the model's inputs to measure its layers on; got None.")
        touched = _draw_all(model, _orthogonal, 1.0, "LSUV", everywhere=True)
        training = [module for module in model.modules() if module.training]
        model.eval()
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # whose layers are not called one by one
        try:
            with torch.no_grad():
                for layer in _running_order(model, inputs):
                    self._scale(model, layer, inputs)
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for module in training:
                module.training = True
        return touched

    def _scale(self, model: nn.Module, layer: _Layer, inputs: Inputs) -> None:
        scaled = layer.out_proj if isinstance(layer, nn.MultiheadAttention) else layer
        for _ in range(self.max_iterations):
            outputs: list[Tensor] = []

            def note(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
                outputs.append((output if isinstance(output, Tensor) else output[0]).flatten())  # noqa: B023

            with layer.register_forward_hook(note):
                model(**inputs)
            variance = float(torch.cat(outputs).double().var(correction=0))
            if not 0.0 < variance < math.inf or abs(variance - 1.0) <= self.tolerance:
                return
            with _written(scaled) as weight:
                weight.div_(math.sqrt(variance))


@final
@dataclasses.dataclass(frozen=True)
class TFixup(AbstractScheme):
    r"""Weights with which a transformer trains without layer normalization and without warm-up.

    Xavier (gain 1) everywhere. Token vectors: normal with standard deviation $d^{-1/2}$, times $(9N)^{-1/4}$. Value and
    output maps of attention and both feed-forward maps: times $0.67 N^{-1/4}$ in layers without a memory (an encoder, a
    language model), times $(9N)^{-1/4}$ in layers with one (a decoder of an encoder-decoder), where $N$ is the number
    of layers of that stack and, for the token vectors, of the last one.

    Use it with `Residual`.

    Raises:
        ValueError: in use, for a model with a LayerNorm or without transformer layers.

    Source: Huang, Perez, Ba and Volkovs (2020), Improving Transformer Optimization Through Better Initialization.
    The paper derives the constants for an encoder-decoder; taking the encoder's for a stack by itself is ours.
    """

    @override
    def __call__(self, model: nn.Module, inputs: Inputs | None = None) -> list[str]:
        norms = [name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)]
        if norms:
            raise ValueError(
                f"TFixup is for transformers without layer normalization; this model has it ({norms[0]} and "
                f"{len(norms) - 1} more). Build the model with the skip Residual, or take another scheme."
            )
        stacks = [module for module in model.modules() if isinstance(module, Stack)]
        if not stacks:
            raise ValueError(
                f"TFixup is for transformers; got {type(model).__name__}, which has no transformer layers."
            )
        touched = _draw_all(model, _xavier, 1.0, "TFixup")
        for stack in stacks:
            num_layers = len(stack.blocks)
            factor = (9 * num_layers) ** -0.25 if stack.has_memory else 0.67 * num_layers**-0.25
            for block in stack.blocks:
                assert isinstance(block, Block)
                _shrink(block, factor)
        for name, module in model.named_modules(remove_duplicate=True):
            if isinstance(module, nn.Embedding):
                reset_token_table(module, (9 * len(stacks[-1].blocks)) ** -0.25)
                touched.append(name)
        return touched


@torch.no_grad()
def _shrink(block: Block, factor: float) -> None:
    parts = [block.attention] if block.cross is None else [block.attention, block.cross]
    for layer in [block.feed_in, block.feed_out, *(p.value for p in parts), *(p.output for p in parts)]:
        layer.weight.mul_(factor)


@torch.no_grad()
def _draw_all(model: nn.Module, draw: _Draw, factor: float, scheme: str, *, everywhere: bool = False) -> list[str]:
    """Draw all matrices of a model's layers and set their biases; returns the layers' names.

    The factor counts everywhere, or only in layers that an activation follows or precedes.
    """
    owned = Attention | Highway | Translator | nn.MultiheadAttention
    owners = [module for module in model.modules() if isinstance(module, owned)]
    plain = {child for owner in owners for child in owner.children()}
    touched: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | MaskedLinear):
            mask = module.mask if isinstance(module, MaskedLinear) else None
            with _written(module) as matrix:
                draw(matrix, mask, 1.0 if module in plain and not everywhere else factor, 1)
            if isinstance(module, MaskedLinear):
                module.clear_()
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, _Convolution):
            with _written(module) as weight:
                for group in weight.chunk(module.groups):
                    matrix = torch.empty_like(group, memory_format=torch.contiguous_format).flatten(1)
                    draw(matrix, None, factor, group[0, 0].numel())
                    group.copy_(matrix.view(group.shape))
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.MultiheadAttention):
            for part, number in _maps(module):
                with _written(module, part) as weight:
                    for matrix in weight.chunk(number):
                        draw(matrix, None, factor if everywhere else 1.0, 1)
            if module.in_proj_bias is not None:
                module.in_proj_bias.zero_()
        elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
            for part in _gates(module):
                with _written(module, part) as weight:
                    for matrix in weight.split(module.hidden_size, 0):
                        draw(matrix, None, factor if everywhere else 1.0, 1)
            reset_biases(module)
        else:
            continue
        touched.append(name)
    for module in model.modules():
        if isinstance(module, Highway):
            nn.init.constant_(module.gate.bias, Highway.start_bias)
    if not touched:
        raise ValueError(
            f"{scheme} sets linear, convolutional, attention and recurrent layers; {type(model).__name__} has none."
        )
    return touched


@contextlib.contextmanager
def _written(layer: nn.Module, name: str | None = None) -> Iterator[Tensor]:
    """Lend a layer's weight to be written to, in single precision at least; what computes it takes it over."""
    name = name or ("stored" if isinstance(layer, MaskedLinear) else "weight")
    own = getattr(layer, name)
    computed = not isinstance(own, nn.Parameter)
    if computed and not parametrize.is_parametrized(layer, name):
        raise ValueError(
            f"The {name} of a {type(layer).__name__} is computed by a hook, as torch.nn.utils.weight_norm does it, and "
            "cannot be set; take torch.nn.utils.parametrizations."
        )
    wide = torch.promote_types(own.dtype, torch.float32)
    weight = own.to(wide, copy=True) if computed or wide != own.dtype else own
    yield weight
    if computed:
        setattr(layer, name, weight.to(own.dtype))
    elif weight is not own:
        own.copy_(weight)


def _maps(module: nn.MultiheadAttention) -> list[tuple[str, int]]:
    """Return the tensors with the matrices for queries, keys and values, and how many each holds."""
    if module.in_proj_weight is not None:
        return [("in_proj_weight", 3)]
    return [("q_proj_weight", 1), ("k_proj_weight", 1), ("v_proj_weight", 1)]


def _gates(module: nn.RNNBase | nn.RNNCellBase) -> list[str]:
    """Return the names of the tensors with the gates' matrices."""
    names = [name for name, _ in module.named_parameters(recurse=False)]
    return [name for name in [*names, *getattr(module, "parametrizations", {})] if name.startswith("weight")]


def _xavier(weight: Tensor, mask: Tensor | None, factor: float, times: int) -> None:
    connected = torch.ones_like(weight) if mask is None else mask
    fans = connected.sum(1, keepdim=True) + times * connected.sum(0, keepdim=True)
    weight.normal_().mul_(factor * (2.0 / fans.clamp(min=1.0)).sqrt())


def _he(weight: Tensor, mask: Tensor | None, factor: float, times: int) -> None:  # noqa: ARG001 - seen from the outputs
    connected = torch.ones_like(weight) if mask is None else mask
    weight.normal_().mul_(factor * connected.sum(1, keepdim=True).clamp(min=1.0).rsqrt())


def _orthogonal(weight: Tensor, mask: Tensor | None, factor: float, times: int) -> None:  # noqa: ARG001 - cut later
    nn.init.orthogonal_(weight, gain=factor)


def _running_order(model: nn.Module, inputs: Inputs) -> list[_Layer]:
    """Return the layers that are scaled in the order in which a forward pass first reaches them."""
    order: list[_Layer] = []

    def note(layer: nn.Module, _inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        if isinstance(layer, _Layer) and layer not in order:
            order.append(layer)

    with contextlib.ExitStack() as hooks:
        for module in model.modules():
            hooks.enter_context(module.register_forward_hook(note))
        model(**inputs)
    return order
