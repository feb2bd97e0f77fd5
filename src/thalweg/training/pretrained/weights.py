"""The weights of a pretrained model in the networks of a run, its output layer in the run's head where that fits."""

from typing import Any

import torch
from torch import nn

from thalweg.data.text.pretrained_folder import located, with_checksum
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax
from thalweg.models.pretrained import DECODER, ENCODER, TRANSLATOR, Pretrained, read_weights
from thalweg.models.pretrained_writers import PretrainedDecoder
from thalweg.models.tuning import PretrainedModel, pretrained_in


def read_pretrained(model: nn.Module, name: str) -> list[nn.Module]:
    """Put the weights of the model that `name` names into the pretrained networks of a model.

    Returns the whole networks of those that have an output layer.

    Raises:
        InputError: if the files are missing or damaged, or have another checksum than the one in the name.
    """
    folder, found = located(with_checksum(name)), []
    for one in pretrained_in(model):
        whole = read_weights(one.model, folder, kind=_kind(one))
        if not isinstance(one, Pretrained):
            found.append(whole)
    return found


def put_layer(head: AbstractHead, whole: nn.Module, *, tied: bool) -> None:
    """Make the output layer of a pretrained network the start of a softmax over the same tokens.

    Other heads begin as they are.

    Raises:
        InputError: if the network computes its scores otherwise than by such a layer.
    """
    if not isinstance(head, Softmax) or not isinstance(head.output, nn.Linear):
        return
    network: Any = whole
    layer: nn.Linear = network.get_output_embeddings()
    bias = layer.bias if layer.bias is not None else getattr(network, "final_logits_bias", None)
    with torch.no_grad():
        if not tied:
            head.output.weight.copy_(layer.weight)
        if bias is not None and head.output.bias is not None:
            head.output.bias.copy_(bias.reshape(-1))
        elif head.output.bias is not None:
            head.output.bias.zero_()
    config = network.config
    if getattr(config, "final_logit_softcapping", None) or getattr(config, "logit_scale", 1.0) not in (None, 1.0):
        raise InputError(
            f"A {config.model_type} model changes its scores behind the output layer, which this head does not; give "
            "another model."
        )


def _kind(one: PretrainedModel) -> str:
    if isinstance(one, Pretrained):
        return ENCODER
    return DECODER if isinstance(one, PretrainedDecoder) else TRANSLATOR
