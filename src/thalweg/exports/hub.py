"""A run of a pretrained model as a folder that the library `transformers` opens, compared with the run."""

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg import noise
from thalweg.errors import InputError
from thalweg.exports import hub_answers, hub_text
from thalweg.exports.hub_answers import HEAD, SETTINGS
from thalweg.exports.hub_text import tokenizer_files
from thalweg.heads.base import AbstractHead
from thalweg.heads.softmax import Softmax
from thalweg.models.pretrained import DECODER, ENCODER, TRANSLATOR, library, quiet
from thalweg.models.pretrained_writers import PretrainedTranslator
from thalweg.models.tuning import merged_weights, pretrained_in
from thalweg.storage.files import make_folder, remove, sync_folder, temporary_name, write_file
from thalweg.tasks.classify.task import Classify
from thalweg.tasks.language.task import Language
from thalweg.tasks.score.task import Score
from thalweg.tasks.spec import PRETRAINED
from thalweg.tasks.tag.task import Tag
from thalweg.tasks.translate.task import Translate
from thalweg.training.folder.run import Run

README: Final = "README.md"
TOLERANCE: Final = 1e-4  # of probabilities and their logarithms; of numbers above 1, as a share of the largest
TAGGER, READER = "AutoModelForTokenClassification", "AutoModelForTextEncoding"
_ABOVE: Final = ("lm_head.", "final_logits_bias")
_SCALED: Final = ("t5", "mt5", "umt5")


def export_transformers(run: Run, folder: str | Path) -> dict[str, Any]:
    """Write a run of a pretrained model as a folder that `transformers` opens offline, without any code of its own.

    It has `config.json`, `model.safetensors` and `tokenizer.json`. Low-rank matrices (LoRA) are added into the weights.
    Classifiers and scores have their output layer beside them, in `head.safetensors` and `head.json`, with the code
    that puts both together in README.md. The folder is opened again by `transformers` alone, and its answers are
    compared with the run's; it is there as a whole, or not at all.

    Args:
        run: a finished run of a model that `--model hf:PATH` names.
        folder: where to write; it must not be there yet.

    Returns:
        `task`, the class that opens the folder as `opens_with`, the `largest_difference` from the run, and the names of
        the `files`.

    Raises:
        InputError: if the run is of another model, the folder is there, `transformers` is missing or has no class for
            it, or the folder answers otherwise than the run.

    Not for a CRF, continuous outputs, and texts that are normalized before the tokenizer. To go on training with
    thalweg, use `--start-from` with the run itself.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise InputError(f"{folder} is there already; name another folder with --out, or remove it.")
    write = _WRITERS.get(type(run.task)) if run.recipe.model.model.startswith(PRETRAINED) else None
    if write is None:
        raise InputError(
            f"{run.folder} is a run of --model {run.recipe.model.model}; --transformers takes runs of pretrained "
            "models (--model hf:PATH). Give --onnx for others."
        )
    transformers = library()
    reader: Any = getattr(run.task, "reader", run.task)
    steps = reader.normalizer.steps
    if steps:
        raise InputError(
            f"{run.folder} normalizes texts ({', '.join(steps)}) before the tokenizer, which the folder would not; "
            "train without --normalize to export it."
        )
    make_folder(folder.absolute().parent)
    part = temporary_name(folder.absolute())
    try:
        part.mkdir()
        with noise.borrowed(), _quiet(transformers):
            about, notes, code, compare = write(run, part)
            difference = compare()
        if not difference <= TOLERANCE:
            raise InputError(
                f"transformers {transformers.__version__} does not answer with this model as the run does (difference "
                f"{difference:.2g}); the folder is not kept."
            )
        names = sorted(one.relative_to(part).as_posix() for one in part.rglob("*") if one.is_file())
        about = {"task": run.task.name, **about, "largest_difference": difference, "files": [*names, README]}
        write_file(part / README, hub_text.readme(run.folder.name, about, notes, code))
        for path in (one for one in part.rglob("*") if one.is_file()):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(part)
        os.rename(part, folder)
    finally:
        if part.exists():
            remove(part)
    return about


Written = tuple[dict[str, Any], list[str], str, Callable[[], float]]
"""What is known of a folder, sentences about it, code that answers, and what returns the difference from the run."""


def _pooled(run: Run, part: Path) -> Written:
    """Write what reads texts or pairs: the network, and beside it the layer on its pooled states."""
    task: Any = run.task
    is_frozen = task.reader.is_encoded
    one: Any = task.reader.features.network if is_frozen else next(pretrained_in(run.model))
    found = task.reader.pretrained
    auto = READER if found.is_translator else ENCODER
    whole = _built(auto, found.config)
    _put(whole, one.model, reads=found.is_translator)
    _save(whole, part)
    if is_frozen:
        bag: Any = run.model
        weight, bias = bag.table.weight.T, bag.bias
    else:
        weight, bias = _layer(run.head)
    _save_tensors(part, weight=weight, bias=bias)
    about = {
        "task": task.name,
        "opens_with": auto,
        "pooling": found.pooling,
        "pairs": None if isinstance(task, Classify) or not task.is_pair else "cross" if task.is_crossed else "bi",
        "unit_length": is_frozen or (isinstance(task, Score) and task.is_pair and not task.is_crossed),
        **(_decision(task) if isinstance(task, Classify) else _unit(task)),
    }
    write_file(part / SETTINGS, json.dumps(about, indent=1) + "\n")
    more = {} if about["pairs"] == "cross" else hub_text.sentence_files(about, one.width, task.reader.max_length)
    for name, content in more.items():
        (part / name).parent.mkdir(exist_ok=True)
        write_file(part / name, content)
    for name, content in tokenizer_files(found.tokenizer, task.reader.max_length, found).items():
        write_file(part / name, content)
    code = hub_text.pooled_code(about)
    notes = [hub_text.BESIDE, *([hub_text.ENCODES] if more else [])]
    notes.append(hub_text.DECIDES if "labels" in about else hub_text.MEASURES)
    return {"opens_with": auto}, notes, code, lambda: hub_answers.compare_pooled(run, part, about)


def _tagger(run: Run, part: Path) -> Written:
    """Write a tagger, whose output layer is the library's own."""
    task: Any = run.task
    if not isinstance(run.head, Softmax):
        raise InputError(
            "The tags of this run depend on each other (--head crf), and the best of all sequences is found by a "
            "search, which `transformers` has not; train with --head softmax to export it."
        )
    found, names = task.reader.pretrained, dict(enumerate(task.tags))
    whole = _built(TAGGER, found.config, id2label=names, label2id={tag: place for place, tag in names.items()})
    _put(whole, next(pretrained_in(run.model)).model, reads=found.is_translator)
    weight, bias = _layer(run.head)
    inside = {id(module) for module in whole.base_model.modules()}
    layers = [one for one in whole.modules() if isinstance(one, nn.Linear) and id(one) not in inside]
    if len(layers) != 1 or layers[0].weight.shape != weight.shape or layers[0].bias is None:
        raise InputError(
            f"{type(whole).__name__} of transformers has another output layer than this run's, which is one linear "
            "layer; it cannot be exported."
        )
    with torch.no_grad():
        layers[0].weight.copy_(weight)
        layers[0].bias.copy_(bias)
    _save(whole, part)
    for name, content in tokenizer_files(found.tokenizer, task.max_length, found).items():
        write_file(part / name, content)
    about = {"opens_with": TAGGER}
    return about, [hub_text.CUTS], hub_text.TAGGER_CODE, lambda: hub_answers.compare_tagger(run, part)


def _writer(run: Run, part: Path) -> Written:
    """Write what writes text, whose output layer is the library's own, but for a bias that it may lack."""
    task: Any = run.task
    if not isinstance(run.head, Softmax):
        raise InputError(
            "This run's outputs are continuous (--head), and `transformers` has no such layer; train with --head "
            "softmax to export it."
        )
    one = next(pretrained_in(run.model))
    auto = TRANSLATOR if isinstance(one, PretrainedTranslator) else DECODER
    weight, bias = _layer(run.head)
    tied = run.recipe.model.tie
    whole = _built(auto, task.pretrained.config, tie_word_embeddings=tied)
    _put(whole, one.model)
    layer = whole.get_output_embeddings()
    if not tied:
        ours = one.scale if isinstance(one, PretrainedTranslator) else 1.0
        layer.weight = nn.Parameter(weight.clone() * (ours / _scale(whole.config)))
    about: dict[str, Any] = {"opens_with": auto}
    settings = hub_text.writing_settings(task, auto == TRANSLATOR)
    own = getattr(whole, "final_logits_bias", None) if layer.bias is None else layer.bias
    if own is not None:
        with torch.no_grad():
            own.copy_(bias.reshape(own.shape))
    elif bool(bias.any()):
        rows = bias.double().tolist()
        settings["sequence_bias"] = [[[token], value] for token, value in enumerate(rows) if value]
        settings["renormalize_logits"] = True
        _save_tensors(part, bias=bias)
        about["bias"] = "in generation_config.json"
    transformers = library()
    whole.generation_config = transformers.GenerationConfig(**settings)
    _save(whole, part)
    files = tokenizer_files(task.tokenizer, task.max_length, task.pretrained, writes=True)
    for name, content in files.items():
        write_file(part / name, content)
    notes = [*([hub_text.BIASED] if "bias" in about else []), *([hub_text.TRANSLATES] if auto == TRANSLATOR else [])]
    return about, notes, hub_text.writer_code(about), lambda: hub_answers.compare_writer(run, part, auto)


_WRITERS: Final[Mapping[type, Callable[[Run, Path], Written]]] = {
    Classify: _pooled, Score: _pooled, Tag: _tagger, Language: _writer, Translate: _writer,
}  # fmt: skip


def _built(auto: str, config: Mapping[str, Any], **more: Any) -> Any:
    """Return a network of a class of the library, with initial weights and without a pooler."""
    transformers = library()
    values = {**config, **more}
    model_type = values.pop("model_type")
    try:
        made = transformers.AutoConfig.for_model(model_type, **values)
        whole = getattr(transformers, auto).from_config(made, trust_remote_code=False, dtype=torch.float32)
    except Exception as error:  # of whatever the library makes of a configuration
        raise InputError(
            f"transformers {transformers.__version__} has no {auto} for a {model_type} model ({str(error)[:120]}); "
            "this run cannot be exported."
        ) from None
    if getattr(whole.base_model, "pooler", None) is not None:
        whole.base_model.pooler = None  # no state of a token depends on it, and the run has not trained it
    return whole.eval()


def _put(whole: Any, network: nn.Module, *, reads: bool = False) -> None:
    """Copy the weights of a run's network into a whole one, or into the part of a translator that `reads`."""
    body = whole.base_model.get_encoder() if reads else whole.base_model
    own, weights = body.state_dict(), merged_weights(network)
    above = {name for name in own if body is whole and name.startswith(_ABOVE)}
    differing = (own.keys() - above) ^ weights.keys()
    if differing:
        name = min(differing)
        raise InputError(f"{type(whole).__name__} of transformers has other weights than this run ({name!r}).")
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)


def _layer(head: AbstractHead) -> tuple[Tensor, Tensor]:
    """Return the weight and the bias of an output layer, in float32 on the CPU; no bias is zeros."""
    layer: Any = getattr(head, "output", None)
    weight = layer.weight.detach().float().cpu()
    return weight, torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().float().cpu()


def _scale(config: Any) -> float:
    """Return what the library multiplies the states of a translator with before the output layer."""
    if config.model_type not in _SCALED:
        return 1.0
    return config.d_model**-0.5 if getattr(config, "scale_decoder_outputs", config.tie_word_embeddings) else 1.0


def _decision(task: Classify) -> dict[str, Any]:
    decision, labels = task.decision, list(task.labels)
    said: dict[str, Any] = {"labels": labels, "several": task.multilabel, "thresholds": None}
    if decision.limits is not None or task.multilabel:
        limits = [0.0] * len(labels) if decision.limits is None else decision.limits
        known = labels if task.multilabel else [labels[decision.rarer]]
        chances = (1.0 / (1.0 + np.exp(-np.array(limits, dtype=np.float64)))).tolist()
        said["thresholds"] = dict(zip(known, chances, strict=True))
    return said


def _unit(task: Score) -> dict[str, Any]:
    span = None if task.span is None or not np.isfinite(task.span).all() else list(task.span)
    return {"scale": float(task.scaling.scale[0]), "shift": float(task.scaling.shift[0]), "span": span}


def _save(whole: Any, part: Path) -> None:
    whole.save_pretrained(part, max_shard_size="1000GB")


def _save_tensors(part: Path, **tensors: Tensor) -> None:
    import safetensors.torch

    kept = {name: tensor.detach().float().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_file(part / HEAD, safetensors.torch.save(kept))


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Keep the library's remarks, on the terminal and as warnings, from the user."""
    logger = logging.getLogger("transformers")
    level = logger.level
    with quiet(transformers), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
