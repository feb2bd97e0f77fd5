"""Which operations of a forward pass are sites, by the function that is called or the class of the module."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The names of functions, methods and their in-place forms, by what they are.
_NAMES: Final = {
    "linear": ("linear", "addmm", "conv1d", "conv2d", "conv3d", "bilinear"),
    "norm": ("layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm"),
    "embedding": ("embedding", "embedding_bag"),
    "recurrent": ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    "relu": ("relu", "relu_", "relu6", "threshold", "threshold_"),
    "tanh": ("tanh", "tanh_"),
    "sigmoid": ("sigmoid", "sigmoid_"),
    "gelu": ("gelu",),
    "silu": ("silu",),
    "other activation": (
        *("leaky_relu", "leaky_relu_", "rrelu", "elu", "elu_", "selu", "selu_", "celu", "celu_", "prelu", "mish"),
        *("softplus", "softsign", "logsigmoid", "hardtanh", "hardtanh_", "hardswish", "hardsigmoid", "glu"),
    ),
    "attention": ("scaled_dot_product_attention", "multi_head_attention_forward"),
    "softmax": ("softmax",),
}
_PLACES: Final = (F, torch, torch._VF, Tensor)  # of functions in C, these have the names
# Modules that are one operation, whatever they compute it with; modules with parts of their own are none.
_CLASSES: Final = (
    (re.compile(r"gelu|quickgelu", re.IGNORECASE), "gelu"),
    (re.compile(r"silu|swish", re.IGNORECASE), "silu"),
    (re.compile(r"norm(1d|2d|3d)?$", re.IGNORECASE), "norm"),
)
ATTENTIVE: Final = re.compile(r"atte?n", re.IGNORECASE)  # class of a module whose softmax is over keys


@functools.cache
def kinds() -> Mapping[Callable[..., Any], str]:
    """Return what each function is that PyTorch hands to a function mode."""
    found: dict[Callable[..., Any], str] = {}
    for kind, names in _NAMES.items():
        for name in names:
            for place in _PLACES:
                function = getattr(place, name, None)
                if callable(function):
                    found[function] = kind
    return found


def kind_of_module(module: nn.Module) -> str | None:
    """Return what a module is as a whole, or None where its operations are seen one by one."""
    if next(module.children(), None) is not None:
        return None
    name = type(module).__name__
    return next((kind for pattern, kind in _CLASSES if pattern.search(name)), None)
