"""What is read of a pretrained model before its network is built: the folder, its configuration, its tokenizer."""

import dataclasses
import hashlib
import importlib
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any, Final, final

from thalweg.data.text.pretrained_tokenizer import PretrainedTokenizer, read_text
from thalweg.errors import InputError
from thalweg.storage import forms
from thalweg.storage.regular import read_regular

PREFIX: Final = "hf:"  # before a folder, in place of a model's name
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
DESCRIPTION: Final = "pretrained.json"  # in a run's folder
POOLINGS: Final = ("cls", "mean", "last")
_DIGITS: Final = 16  # of the checksum in a recipe: `hf:models/minilm#0123456789abcdef`
_MOST_BYTES: Final = 2**22  # of a file of JSON
_VOCABULARIES: Final = ("vocab.*", "*.model", "*.spm", "sentencepiece*", "bpe.codes", "merges.txt")
_WEIGHTS: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"  # where the weights are in several files
_POOLING: Final = f"1_Pooling/{CONFIG}"  # of a sentence encoder
_NAMED: Final = ("special_tokens_map.json", "tokenizer_config.json")  # what entries of the tokenizer are for
_ADAPTER: Final = "adapter_config.json"
_QUANTIZED: Final = ("quantization_config", "compression_config")
_MOST_LAYERS: Final = 10_000
_PICKLED: Final = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")
_SPECIALS: Final = {"pad": "pad", "unk": "unk", "bos": "bos", "eos": "eos", "cls": "bos", "sep": "eos"}
# What is not of the network: code to run or to download, places, and labels of an output layer that is left out.
_LEFT_OUT: Final = frozenset((
    "auto_map", "custom_pipelines", "custom_generate", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "experts_implementation", "_experts_implementation",
    "_experts_implementation_internal", "use_kernels", "kernel_config", "_name_or_path", "_commit_hash",
    "transformers_version", "num_labels", "id2label", "label2id", *_QUANTIZED,
))  # fmt: skip
_HUB: Final = "A pretrained model needs the package `transformers`; install it with: pip install 'thalweg[hub]'."


@final
@dataclasses.dataclass(frozen=True, eq=False)
class PretrainedFolder:
    """A pretrained model without its weights.

    Args:
        config: of the network, as its `config.json` has it; no code is named in it.
        tokenizer: its own.
        pooling: how its makers, or the usual practice, make one state of a text of those of its tokens.
        encodes_texts: whether its makers trained it so that texts of one meaning have states near each other.
    """

    config: dict[str, Any]
    tokenizer: PretrainedTokenizer
    pooling: str
    encodes_texts: bool = False

    @property
    def is_decoder(self) -> bool:
        """Whether it reads from left to right, and predicts the next token."""
        if self.config.get("is_encoder_decoder") or self.config.get("model_type") in _ENCODERS:
            return False
        names = self.config.get("architectures") or ()
        return (
            bool(self.config.get("is_decoder"))
            or any("CausalLM" in n or "LMHead" in n for n in names)
            or (self.config.get("model_type") in _DECODERS)
        )

    @property
    def is_translator(self) -> bool:
        """Whether it has an encoder and a decoder."""
        return bool(self.config.get("is_encoder_decoder"))

    @property
    def takes_kinds(self) -> bool:
        """Whether it is told which text of a pair a token is of."""
        return int(self.config.get("type_vocab_size") or 0) > 1

    @property
    def num_positions(self) -> int | None:
        """The longest sequence that it can read, in tokens; None: any."""
        config = self.config
        if config.get("position_embedding_type") in ("relative", "rotary") or config.get("model_type") in _RELATIVE:
            return None
        found = next((config[name] for name in _POSITIONS if isinstance(config.get(name), int)), None)
        if found is None or found < 1:
            return None
        return found - (config.get("pad_token_id") or 0) - 1 if config.get("model_type") in _OFFSET else found

    def files(self) -> dict[str, bytes]:
        """Return what `load` reads."""
        saved = {"config": self.config, "specials": self.tokenizer.specials, "pooling": self.pooling}
        text = json.dumps(saved, ensure_ascii=False, indent=1, allow_nan=False)
        return {TOKENIZER: self.tokenizer.to_bytes(), DESCRIPTION: f"{text}\n".encode()}

    @classmethod
    def load(cls, folder: Path) -> "PretrainedFolder":
        """Read it from a run's folder; an InputError names a file that is missing or damaged."""
        saved = forms.read_json(folder / DESCRIPTION, _FORM)
        config = _harmless(saved["config"])
        tokenizer = PretrainedTokenizer.load(folder / TOKENIZER, saved["specials"], _vocabulary_size(config))
        return cls(config, tokenizer, saved["pooling"])

    @classmethod
    def open(cls, name: str) -> "PretrainedFolder":
        """Read it from the folder, or the model of the hub's cache, that `name` names (a checksum may follow).

        Raises:
            InputError: if there is none, or it is no pretrained model, or has weights in pickle format alone, or no
                tokenizer, or one of another vocabulary.
        """
        folder = located(name)
        config = _read(folder / CONFIG)
        if not isinstance(config.get("model_type"), str):
            raise InputError(f"{folder / CONFIG} names no model_type, so it is not known what to build; see `hf:`.")
        weight_files(folder)
        if any(config.get(one) for one in _QUANTIZED):
            raise InputError(
                f"{folder} has quantized weights, which are not read; give the model as it was before that."
            )
        config = _harmless(config)
        tokenizer = _tokenizer(folder, config)
        found = cls(config, tokenizer, "mean")
        made = _pooling(folder)
        usual = "last" if found.is_decoder else "mean"
        return dataclasses.replace(found, pooling=made or usual, encodes_texts=bool(made))


_POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_sequence_length", "n_ctx")
_OFFSET: Final = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text")
_RELATIVE: Final = ("t5", "mt5", "umt5", "xlnet", "transfo-xl")
_ENCODERS: Final = frozenset((
    "bert", "distilbert", "roberta", "xlm-roberta", "camembert", "albert", "electra", "mpnet", "deberta", "deberta-v2",
    "modernbert", "nomic_bert", "longformer", "funnel", "ernie", "luke",
))  # fmt: skip
_DECODERS: Final = frozenset((
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text",
    "opt", "bloom", "phi", "phi3", "olmo", "olmo2", "falcon", "stablelm", "smollm3",
))  # fmt: skip

_KINDS: Final[dict[str, Any]] = {
    "model_type": str, "architectures": list, "type_vocab_size": int, "pad_token_id": int, "vocab_size": int,
}  # fmt: skip
_FORM: Final = forms.record(
    config=forms.anything(), specials=forms.table(forms.whole(0)), pooling=forms.choice(*POOLINGS)
)


def is_pretrained(model: str) -> bool:
    """Whether `--model` names a pretrained model.

    Example:
        >>> is_pretrained("hf:models/minilm"), is_pretrained("bag")
        (True, False)
    """
    return model.startswith(PREFIX)


def split_name(name: str) -> tuple[str, str]:
    """Return the place that a name stands for, and the checksum behind it, "" where there is none.

    Example:
        >>> split_name("hf:models/minilm#0123456789abcdef"), split_name("models/minilm")
        (('models/minilm', '0123456789abcdef'), ('models/minilm', ''))
    """
    name = name.removeprefix(PREFIX)
    match = re.fullmatch(rf"(.*)#([0-9a-f]{{{_DIGITS}}})", name, flags=re.S)
    return (match[1], match[2]) if match else (name, "")


def with_checksum(name: str) -> str:
    """Return a model's name with the checksum of its files behind it, so that a recipe means these weights.

    An InputError tells of a model that is not there, or has another checksum than the one that is there already.
    """
    place, expected = split_name(name)
    found = checksum(located(name))
    if expected not in ("", found):
        raise InputError(
            f"{place} has changed: its files have the checksum {found}, and the recipe was made with {expected}; "
            f"restore them, or give --model {PREFIX}{place} for the weights that are there now."
        )
    return f"{PREFIX}{place}#{found}"


def located(name: str) -> Path:
    """Return the folder of a model: the one that is named, or that of the hub's cache; nothing is downloaded."""
    place, _ = split_name(name)
    if not place:
        raise InputError(f"--model {PREFIX} needs a folder, or the name of a model in the hub's cache: {PREFIX}PATH.")
    if os.path.isdir(place):
        return Path(place)
    if os.path.exists(place):
        raise InputError(f"--model {PREFIX}{place}: expected the folder of a pretrained model, got a file.")
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", place) and importlib.util.find_spec("huggingface_hub") is not None:
        hub: Any = importlib.import_module("huggingface_hub")
        try:
            found = hub.try_to_load_from_cache(place, CONFIG)
        except ValueError:
            found = None
        if isinstance(found, str):
            return Path(found).parent
    raise InputError(
        f"--model {PREFIX}{place}: there is no such folder, and no such model in the hub's cache; nothing is "
        "downloaded. Give the folder with its config.json, tokenizer.json and model.safetensors."
    )


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a model's weights: the one in safetensors, or those that its index names.

    An InputError tells of what has none, of files elsewhere or of another format, and of adapters.
    """
    if (folder / _ADAPTER).exists():
        raise InputError(
            f"{folder} has an adapter ({_ADAPTER}), which is not read; merge it into the model and save that: "
            "merge_and_unload().save_pretrained(FOLDER)."
        )
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    if (folder / _INDEX).is_file():
        return _parts(folder)
    pickled = [path.name for pattern in _PICKLED for path in sorted(folder.glob(pattern))]
    if pickled:
        raise InputError(
            f"{folder} has its weights in {pickled[0]} alone, a format that can run code when it is read; save them as "
            "safetensors first: AutoModel.from_pretrained(...).save_pretrained(FOLDER), where you trust the file."
        )
    raise InputError(f"{folder} has no weights: expected a file {_WEIGHTS}, or {_INDEX} and the files it names.")


def _parts(folder: Path) -> list[Path]:
    """Return the files that an index of weights names, which lie beside it."""
    places = _read(folder / _INDEX).get("weight_map")
    names = list(places.values()) if isinstance(places, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder / _INDEX} names no files of weights; restore it.")
    parts = [folder / name for name in sorted(set(names))]
    for path in parts:
        if path.parent != folder or path.suffix != ".safetensors" or not path.is_file():
            raise InputError(f"{folder / _INDEX} names {path.name}: expected a file in safetensors beside it.")
    return parts


def checksum(folder: Path) -> str:
    """Return the first digits of the SHA-256 of what a model is made of."""
    total = hashlib.sha256()
    tokenizer = [folder / TOKENIZER]
    if not tokenizer[0].is_file():
        tokenizer = sorted({path for pattern in _VOCABULARIES for path in folder.glob(pattern)})
    others = (folder / name for name in (CONFIG, *_NAMED, _POOLING))
    for path in (*weight_files(folder), *tokenizer, *others):
        if path.is_file():
            with path.open("rb") as file:
                name, found = path.relative_to(folder).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()
                total.update(f"{name}:{found}\n".encode())
    return total.hexdigest()[:_DIGITS]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_regular(path, _MOST_BYTES))
    except FileNotFoundError:
        raise InputError(
            f"{path.parent} is not the folder of a pretrained model: it has no {path.name}. Expected config.json, "
            "tokenizer.json and model.safetensors, as save_pretrained writes them."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} is not an object of JSON, so it is no file of a pretrained model.")
    return found


def _perhaps(path: Path) -> dict[str, Any]:
    return _read(path) if path.is_file() else {}


def _harmless(config: Any) -> dict[str, Any]:
    """Return a configuration without what is not of the network; an InputError where that can be no network."""
    if not isinstance(config, dict):
        raise InputError("The configuration of the pretrained model is damaged: it is not an object of JSON.")
    for name, kind in _KINDS.items():
        value = config.get(name)
        if value is not None and not isinstance(value, kind):
            raise InputError(f"The configuration of the pretrained model is damaged: {name} is {str(value)[:80]!r}.")
    if not all(isinstance(name, str) for name in config.get("architectures") or ()):
        raise InputError("The configuration of the pretrained model is damaged: architectures are no names.")
    try:
        return _cleaned("", config)
    except RecursionError:
        raise InputError("The configuration of the pretrained model is damaged: it is nested too deeply.") from None


def _cleaned(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(key, one) for key, one in value.items() if key not in _LEFT_OUT}
    if isinstance(value, list):
        return [_cleaned("", one) for one in value]
    if isinstance(value, int) and name.endswith(("layers", "n_layer")) and not 0 <= value <= _MOST_LAYERS:
        raise InputError(
            f"The configuration of the pretrained model is damaged: {name} is {value}; expected 0 to {_MOST_LAYERS:,}."
        )
    return value


def _vocabulary_size(config: dict[str, Any]) -> int | None:
    size = config.get("vocab_size")
    return size if isinstance(size, int) else None


def _tokenizer(folder: Path, config: dict[str, Any]) -> PretrainedTokenizer:
    """Return the tokenizer of a folder: its tokenizer.json, or what `transformers` makes of older files."""
    path = folder / TOKENIZER
    text = read_text(path) if path.is_file() else _converted(folder)
    bare = PretrainedTokenizer.from_text(text, {}, str(folder / TOKENIZER))
    named = {key: value for name in _NAMED for key, value in _perhaps(folder / name).items()}
    specials: dict[str, int] = {}
    for name, use in _SPECIALS.items():
        token = named.get(f"{name}_token")
        token = token.get("content") if isinstance(token, dict) else token
        index = bare.id_of(token) if isinstance(token, str) else None
        index = config.get(f"{name}_token_id") if index is None else index
        index = index[0] if isinstance(index, list) and index else index
        if use not in specials and isinstance(index, int) and 0 <= index < bare.vocabulary_size:
            specials[use] = index
    start = config.get("decoder_start_token_id")
    if isinstance(start, int) and 0 <= start < bare.vocabulary_size:
        specials["bos"] = start
    size = _vocabulary_size(config)
    if size is not None and not size / 2 <= bare.vocabulary_size <= size:  # some models have room for more
        raise InputError(
            f"The tokenizer of {folder} has {bare.vocabulary_size:,} entries, and the model has vectors for {size:,}: "
            f"they do not belong together. Put the model's own {TOKENIZER} there."
        )
    return PretrainedTokenizer.from_text(text, specials, str(folder / TOKENIZER), size)


def _converted(folder: Path) -> str:
    if not any(True for pattern in _VOCABULARIES for _ in folder.glob(pattern)):
        raise InputError(
            f"{folder} has no {TOKENIZER}, and none can be made of its other files; save the fast tokenizer there: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)."
        )
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError:
        raise InputError(f"{folder} has no {TOKENIZER}. {_HUB}") from None
    try:
        made = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, use_fast=True, trust_remote_code=False
        )
        return made.backend_tokenizer.to_str()
    except Exception as error:
        raise InputError(
            f"{folder} has no {TOKENIZER}, and none can be made of its other files ({str(error)[:120]}); save the fast "
            "tokenizer there: AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)."
        ) from None


def _pooling(folder: Path) -> str:
    """Return the pooling that a sentence encoder was made with; "" where its folder does not say."""
    modes = _perhaps(folder / _POOLING)
    for mode, name in (("mean_tokens", "mean"), ("cls_token", "cls"), ("lasttoken", "last")):
        if modes.get(f"pooling_mode_{mode}"):
            return name
    return ""
