"""Which weights of a pretrained network are trained: all, the last layers, or low-rank matrices beside them (LoRA)."""

import importlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

from thalweg.errors import InputError, counted
from thalweg.models.pretrained import LOW_RANK, Pretrained, layers_of, plain_name
from thalweg.models.pretrained_writers import PretrainedDecoder, PretrainedTranslator


def add_low_rank(network: nn.Module, rank: int, alpha: float) -> None:
    r"""Put low-rank matrices beside the linear layers of a network, and let nothing else of it be trained.

    A layer with the matrix $W$ computes $(W + \frac{\alpha}{r} B A) x$, and $B$ is zero at the start.

    Args:
        network: of Hugging Face.
        rank: $r$, at least 1.
        alpha: $\alpha$, above 0.

    Raises:
        InputError: if `peft` is not installed, or the network has no layers for it.

    Source: Hu et al. (2022), LoRA: Low-Rank Adaptation of Large Language Models.
    """
    layers = layers_of(network)
    kinds = ("Linear", "Conv1D")
    inside = [] if layers is None else [m for m in layers.modules() if type(m).__name__ in kinds]
    names = [name for name, module in network.named_modules() if any(module is one for one in inside)]
    if not names:
        raise InputError("--lora needs a network with linear layers in a row of layers; this one has none.")
    try:
        peft: Any = importlib.import_module("peft")
    except ImportError:
        raise InputError("--lora needs the package `peft`; install it with: pip install 'thalweg[hub]'.") from None
    is_turned = any(type(module).__name__ == "Conv1D" for module in inside)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, fan_in_fan_out=is_turned)
    peft.inject_adapter_in_model(config, network)


def merged_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network by the names that they have without low-rank matrices, which are added in."""
    found = {name: tensor.detach() for name, tensor in network.state_dict().items() if LOW_RANK not in name}
    for path, module in network.named_modules():
        layer: Any = module
        for adapter in layer.active_adapters if hasattr(layer, "get_delta_weight") else ():
            name = f"{path}.base_layer.weight"
            found[name] = found[name] + layer.get_delta_weight(adapter).detach()
    return {plain_name(name): tensor for name, tensor in found.items()}


def choose_trained(model: nn.Module, last_layers: int) -> None:
    """Let only the last layers of pretrained networks be trained, and what comes after them; 0: leave all as they are.

    An InputError tells of more layers than there are.
    """
    if not last_layers:
        return
    for one in pretrained_in(model):
        layers = layers_of(one.model)
        if layers is None or last_layers > len(layers):
            number = "no layers in a row" if layers is None else counted(len(layers), "layer")
            raise InputError(f"--last-layers {last_layers}: the pretrained model has {number}.")
        first = len(layers) - last_layers + 1
        for name, parameter in one.model.named_parameters():
            parameter.requires_grad_(depth_of(one.model, name) >= first)


PretrainedModel = Pretrained | PretrainedDecoder | PretrainedTranslator


def pretrained_in(model: nn.Module) -> Iterator[PretrainedModel]:
    """Yield the pretrained networks of a model."""
    yield from (module for module in model.modules() if isinstance(module, PretrainedModel))


def depth_of(network: nn.Module, name: str) -> int:
    """Return how far from the input a parameter of a network is: 0 below the layers, then 1 to n, n + 1 above them.

    Vectors of tokens and positions are below, wherever the network keeps them.
    """
    layers = layers_of(network)
    if layers is None:
        return 1
    prefix = next((f"{path}." for path, module in network.named_modules() if module is layers), "")
    if name.startswith(prefix) and prefix:
        return int(name[len(prefix) :].split(".")[0]) + 1
    return 0 if is_below(network, name) else len(layers) + 1


def is_below(network: nn.Module, name: str) -> bool:
    """Whether a parameter that is in no layer belongs to what comes before them."""
    order = [one for one, _ in network.named_parameters()]
    layers = layers_of(network)
    path = next((path for path, module in network.named_modules() if module is layers), "")
    inside = [place for place, one in enumerate(order) if one.startswith(f"{path}.")]
    return bool(inside) and order.index(name) < inside[0]


def deepest(network: nn.Module) -> int:
    """Return the depth of what is above the layers."""
    layers = layers_of(network)
    return 1 if layers is None else len(layers) + 1


def rate_factors(model: nn.Module, decay: float) -> dict[int, float]:
    """Return what the learning rate of each parameter of pretrained networks is multiplied with, by the id of it.

    The factor is `decay` to the power of the layers between a parameter and the head.
    """
    factors = {}
    for one in pretrained_in(model):
        top = deepest(one.model)
        for name, parameter in one.model.named_parameters():
            factors[id(parameter)] = math.pow(decay, top - depth_of(one.model, name))
    return factors


def thawed(network: nn.Module, number: int) -> Iterable[nn.Parameter]:
    """Return the parameters of the last `number` layers and of all above; of more layers than there are, all."""
    top = deepest(network)
    for name, parameter in network.named_parameters():
        if depth_of(network, name) >= top - number or number >= top:
            yield parameter
