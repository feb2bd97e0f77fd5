"""Hugging Face models as ours (extra `hub`): hidden states of an encoder or a decoder, built from a configuration."""

import contextlib
import importlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

import safetensors
import torch
from torch import Tensor, nn

from thalweg.errors import InputError, require
from thalweg.models import pool
from thalweg.models.pool import Pooling

POOLINGS: Final[Mapping[str, Pooling]] = {"mean": pool.mean, "cls": pool.first, "last": pool.last, "none": pool.every}
LOW_RANK: Final = "lora_"  # in the names of matrices that are trained beside others
_QUANTIZED: Final = ("I", "U", "F8", "F6", "F4")  # types of numbers, as safetensors names them
_DROPOUTS: Final = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "activation_dropout",
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout_rate", "hidden_dropout", "embedding_dropout", "mlp_dropout",
)  # fmt: skip


@final
class Pretrained(nn.Module):
    """Hidden states of a pretrained model.

    Args:
        model: a module called with `input_ids` and `attention_mask` whose result has `last_hidden_state`, and whose
            `config` has `hidden_size` (what `transformers.AutoModel` gives), or the folder to load one from; nothing is
            downloaded, no code of a model is run, and weights are read from safetensors alone.
        pooling: from one state per token to what the task needs; see `thalweg.models.pool`.
        dropout: probability of dropout behind the pooling, in [0, 1).

    Attributes:
        width: size of the hidden states.

    Raises:
        InputError: if a folder is given and it is none, or `transformers` is not installed.

    Do not mix tokenizers: the ids must come from the pretrained model's own.
    """

    def __init__(
        self, model: nn.Module | str | os.PathLike[str], *, pooling: Pooling = pool.every, dropout: float = 0.0
    ) -> None:
        super().__init__()
        require(0.0 <= dropout < 1.0, "Pretrained(dropout=...) must lie in [0, 1)", dropout)
        self.model: nn.Module = model if isinstance(model, nn.Module) else _load(model)
        config: Any = self.model.config
        self.width: int = config.hidden_size
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Tensor, mask: Tensor | None = None, kinds: Tensor | None = None, places: Tensor | None = None
    ) -> Tensor:
        """Return hidden states `[batch, time, width]`, or `[batch, width]` if pooled.

        Args:
            tokens: ids of the model's own tokenizer, int64 `[batch, time]`.
            mask: True at real tokens `[batch, time]`; None: all are.
            kinds: which text of a pair a token is of, int64 `[batch, time]`; None: all are of the first.
            places: of the tokens whose states are wanted, int64 `[batch, words]`, in place of all of them; -1 at
                padding.
        """
        more = {} if kinds is None else {"token_type_ids": kinds}
        attention_mask = None if mask is None else mask.long()
        hidden = self.model(input_ids=tokens, attention_mask=attention_mask, **more).last_hidden_state
        if places is not None:
            hidden = hidden.gather(1, places.clamp(min=0).unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
            return self.dropout(hidden)
        return self.dropout(self.pooling(hidden, mask))


ENCODER, DECODER, TRANSLATOR = "AutoModel", "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"  # kinds of networks


def network_of(config: Mapping[str, Any], *, dropout: float | None = None, kind: str = ENCODER) -> nn.Module:
    """Return the network of a configuration, with initial weights.

    Args:
        config: as `config.json` has it, `model_type` among it; names of code in it are not followed.
        dropout: in place of every dropout probability above zero in it; None: as it is.
        kind: what is wanted of it: `ENCODER` (of a translator, the part that reads), `DECODER` or `TRANSLATOR`.

    Raises:
        InputError: if `transformers` is not installed, or knows no such model, or cannot build it.
    """
    transformers = library()
    values = {**config, **dropouts(config, dropout)}
    model_type = values.pop("model_type", None)
    try:
        with quiet(transformers):
            made = transformers.AutoConfig.for_model(model_type, **values)
            network: nn.Module = transformers.AutoModel.from_config(made, trust_remote_code=False, dtype=torch.float32)
    except InputError:  # of `thalweg.models.room`
        raise
    except Exception as error:  # of the configuration's values, whatever the library makes of them
        raise InputError(
            f"transformers {transformers.__version__} cannot build a {model_type!r} model ({str(error)[:160]}); give a "
            "model that it knows without code of its own."
        ) from None
    if getattr(network, "pooler", None) is not None:
        setattr(network, "pooler", None)  # noqa: B010  (it has weights that no hidden state depends on)
    return _encoder_of(network)[0] if kind == ENCODER else network


def dropouts(config: Mapping[str, Any], dropout: float | None) -> dict[str, float]:
    """Return the dropout probabilities of a configuration that another one is put in place of.

    Example:
        >>> dropouts({"hidden_dropout_prob": 0.1, "attention_dropout": 0.0, "hidden_size": 8}, 0.2)
        {'hidden_dropout_prob': 0.2}
    """
    if dropout is None:
        return {}
    return {name: dropout for name in _DROPOUTS if isinstance(config.get(name), float) and config[name] > 0.0}


def read_weights(network: nn.Module, folder: str | os.PathLike[str], *, kind: str = ENCODER) -> nn.Module:
    """Put the weights of a folder into a network that was built from its configuration; return them as a network.

    Of a decoder or a translator (`kind`) the network is what is below the output layer, and the result has that, too.

    Raises:
        InputError: if weights of the network are not in the folder, or have other sizes, or are not finite.
    """
    transformers = library()
    config: Any = network.config
    try:
        with quiet(transformers):
            found, loading = getattr(transformers, kind).from_pretrained(
                os.fspath(folder), config=config, local_files_only=True, use_safetensors=True, trust_remote_code=False,
                dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except Exception as error:  # of the file, of the configuration, of the library
        raise InputError(f"The weights in {folder} cannot be read: {str(error)[:200]}.") from None
    body, prefix = _part(found, kind)
    own = {plain_name(name): tensor for name, tensor in network.state_dict().items() if LOW_RANK not in name}
    lacking = {name.removeprefix(prefix) for name in loading["missing_keys"]} & own.keys()
    # Positions that are computed are stored nowhere; a network that was made anew has the same.
    missing = sorted(
        name for name in lacking if "position" not in name or not torch.equal(own[name], body.state_dict()[name])
    )
    if missing or loading["mismatched_keys"]:
        lack = f"lack {missing[0]!r}" if missing else "have other sizes than config.json says"
        raise InputError(f"{folder} is damaged, or of another model: its weights {lack}.")
    more = _of_more_layers(found, loading["unexpected_keys"])
    if more:
        raise InputError(f"{folder} is damaged, or of another model: config.json has no layer for {more!r}.")
    weights = {name: tensor for name, tensor in body.state_dict().items() if name in own}
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{folder} cannot be used: numbers in {name!r} are NaN or infinite.")
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)
    return found


def _of_more_layers(network: nn.Module, names: Iterable[str]) -> str:
    """Return the first of some names that belongs to a layer that the network does not have; "" where none does."""
    layers = layers_of(network)
    path = next((path for path, module in network.named_modules() if module is layers), "")
    for name in sorted(names) if path else ():
        _, found, rest = f".{name}".partition(f".{path}.")
        number = rest.split(".")[0]
        if found and number.isdecimal() and int(number) >= len(layers or ()):
            return name
    return ""


def stored(files: Iterable[Path]) -> dict[str, Tensor]:
    """Return the weights in files of safetensors without their numbers, on the device "meta": only headers are read.

    An InputError tells of files that are missing or damaged, and of weights in a type that needs scales beside it.
    """
    found: dict[str, Tensor] = {}
    for path in files:
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (it is no dict)
                    part = file.get_slice(name)
                    if name.endswith(".weight") and part.get_dtype().startswith(_QUANTIZED):
                        raise InputError(
                            f"{path} has quantized weights ({name!r} in {part.get_dtype()}), which are not read; "
                            "give the model as it was before that."
                        )
                    found[name] = torch.empty(part.get_shape(), device="meta")
        except InputError:
            raise
        except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
            raise InputError(f"The weights in {path} cannot be read: {error}.") from None
    return found


def _encoder_of(network: Any) -> tuple[nn.Module, str]:
    """Return the part of a network that reads, and what stands before the names of its weights."""
    if not network.config.is_encoder_decoder:
        return network, ""
    part = network.get_encoder()
    return part, next(f"{name}." for name, module in network.named_modules() if module is part)


def _part(network: Any, kind: str) -> tuple[nn.Module, str]:
    """Return the part of a network whose hidden states are wanted, and what stands before the names of its weights."""
    if kind == ENCODER:
        return _encoder_of(network)
    body = network.base_model
    return body, "" if body is network else f"{network.base_model_prefix}."


def plain_name(name: str) -> str:
    """Return the name that a weight has where no low-rank matrices are beside it."""
    return name.replace(".base_layer.", ".")


def layers_of(network: nn.Module) -> nn.ModuleList | None:
    """Return the layers of a network, from the first to the last; None where it has none in a row."""
    config: Any = network.config
    names = ("num_decoder_layers", "decoder_layers", "num_hidden_layers", "num_layers")
    number = next((found for name in names if isinstance(found := getattr(config, name, None), int)), None)
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    return next((layers for layers in reversed(lists) if len(layers) == number), None)


def _load(folder: str | os.PathLike[str]) -> nn.Module:
    if not os.path.isdir(folder):
        raise InputError(f"{os.fspath(folder)}: expected a folder with a pretrained model; there is none.")
    transformers = library()
    with quiet(transformers):
        return transformers.AutoModel.from_pretrained(
            Path(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False
        )


def library() -> Any:
    """Return the module `transformers`; an InputError says how to install it where it is missing."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            "A pretrained model needs the package `transformers`; install it with: pip install 'thalweg[hub]'."
        ) from error


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep the library from writing on the terminal for a block."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
