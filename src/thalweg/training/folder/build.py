"""From a recipe to objects: networks and their weights."""

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from thalweg import distributed, names, noise, sharded
from thalweg.batch import Batch
from thalweg.data.arrays.batches import Rows
from thalweg.data.text.pretrained_folder import located, weight_files
from thalweg.data.text.word_vectors import normalized_of, read_word_vectors
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.models.presets import ModelOptions
from thalweg.models.pretrained import stored
from thalweg.models.room import Room
from thalweg.models.tuning import choose_trained
from thalweg.tasks.base import AbstractTask, HeadOptions
from thalweg.tasks.reading.text_reader import BAGS
from thalweg.tasks.spec import PRETRAINED, ModelSpec
from thalweg.tasks.writing.target_sources import Pretrained, source_of
from thalweg.training.folder.memory import require_memory
from thalweg.training.pretrained.weights import put_layer, read_pretrained
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.steps.device import choose_device, choose_precision
from thalweg.training.steps.feed import Feed

COMBINED_SHARE = 0.5  # of pretrained vectors in combined targets


def build_networks(
    recipe: Recipe,
    task: AbstractTask,
    *,
    batch: Batch | None = None,
    fresh: bool = True,
    counts: Tensor | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[nn.Module, AbstractHead]:
    """Return model and head as the recipe says, on the CPU.

    They are initialized as it says (word vectors, scheme, targets) where they are `fresh`; False when weights will be
    put in anyway. `batch`, of training data, is for initializations that look at data; `counts`, how often each token
    is a target in the training data, for heads that know of frequencies. Where the `weights` that will be put in are
    given, a network that is much larger than these is an InputError before it takes memory.
    """
    with noise.borrowed(), nullcontext() if weights is None else Room(weights):
        noise.seed(recipe.run.seed)
        return _networks(recipe, task, batch, counts, fresh=fresh)


def _networks(
    recipe: Recipe, task: AbstractTask, batch: Batch | None, counts: Tensor | None, *, fresh: bool
) -> tuple[nn.Module, AbstractHead]:
    options = recipe.model
    spec = _spec_of(recipe)
    builder = names.load(spec.pair_builder if task.reads_pairs else spec.builder)
    shape, asked = task.shape(), model_options(recipe)
    is_read = fresh and recipe.model.model.startswith(PRETRAINED) and not recipe.model.freeze
    files = stored(weight_files(located(recipe.model.model))) if is_read else None
    try:
        with nullcontext() if files is None else Room(files):
            require_memory(recipe.values(), builder, shape, asked, trained=fresh)
        with nullcontext() if files is None else Room(files):
            model: nn.Module = builder(shape, asked)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"--model {options.model} cannot be built with these options: {error}") from None
    layers = read_pretrained(model, recipe.model.model) if is_read else []
    choose_trained(model, options.last_layers)
    head = task.head(model, head_options(recipe, fresh=fresh, counts=counts))
    for layer in layers:
        put_layer(head, layer, tied=recipe.model.tie)
    dtype, _ = choose_precision(recipe.run.precision, choose_device("cpu"))
    model.to(dtype)
    head.to(dtype)
    if fresh:
        _initialize(recipe, model, batch)
        if recipe.data.word_vectors and spec.layout not in BAGS:  # they are read beside a bag
            _put_word_vectors(recipe, task, model)
    return model, head


def _spec_of(recipe: Recipe) -> ModelSpec:
    return names.model_spec(recipe.run.task, recipe.model.model, freeze=recipe.model.freeze)


def build_feed(recipe: Recipe, task: AbstractTask, examples: Rows, device: torch.device) -> Feed:
    """Return what gives the batches of each step, as the recipe says."""
    training = recipe.training
    spec = _spec_of(recipe)
    return Feed(
        examples,
        task.training_batch,
        batch_size=training.batch_size,
        batch_tokens=training.batch_tokens,
        accumulate=training.accumulate,
        seed=recipe.run.seed,
        device=device,
        dtype=choose_precision(recipe.run.precision, device)[0],
        as_stored=training.optimizer == spec.solver and spec.layout == "bag",
        drawn=task.drawn_batch,
    )


def model_options(recipe: Recipe) -> ModelOptions:
    """Return the model part of a complete recipe as objects."""
    options = recipe.model
    return ModelOptions(
        width=options.width,
        hidden=options.hidden,
        layers=options.layers,
        heads=options.heads,
        dropout=options.dropout,
        activation=names.find(names.ACTIVATIONS, options.activation, "activation"),
        skip=names.find(names.SKIPS, options.skip, "skip connection"),
        input_skip=options.input_skip,
        sparsity=options.sparsity,
        lora=options.lora,
        lora_alpha=options.lora_alpha,
        tie_source=options.tie_source,
    )


def head_options(recipe: Recipe, *, fresh: bool = True, counts: Tensor | None = None) -> HeadOptions:
    """Return what a complete recipe says about the output layer; arguments as for `build_networks`."""
    options = recipe.model
    smoothing, tie, name = recipe.training.label_smoothing, options.tie, options.head
    if name in ("softmax", names.CHAIN_HEAD):
        return HeadOptions(smoothing, tie, chain=name == names.CHAIN_HEAD)
    dispersion = None
    if options.dispersion != "none":
        dispersion = names.find(names.DISPERSIONS, options.dispersion, "dispersion")()
    kind, _, start = options.targets.partition(":")
    table: Any = names.find(names.TARGETS, "random", "kind of targets")
    if fresh:  # else the weights bring the vectors, and the file or run they came from need not be there
        table = target_table(options.targets)
    return HeadOptions(
        smoothing,
        tie and kind == "trained" and not start,
        family=names.find(names.HEADS, name, "head"),
        table=table,
        trained=kind == "trained",
        follow=options.target_average if kind == "embedding" else None,
        target_width=options.target_width,
        dispersion=dispersion,
        dispersion_weight=options.dispersion_weight,
        counts=counts,
    )


def target_table(text: str) -> Any:
    """Return what makes the vectors that `--targets` names; raise an InputError if it names nothing."""
    kind, _, start = text.partition(":")
    if kind == "embedding" or text == "trained":
        return names.find(names.TARGETS, "random", "kind of targets")
    if kind == "trained":
        return target_table(start)
    if kind == "combined":
        if not start:
            raise InputError("--targets combined needs a file of word vectors: --targets combined:PATH.")
        source = source_of(start)
        return dataclasses.replace(source, share=COMBINED_SHARE) if isinstance(source, Pretrained) else source
    return names.find(names.TARGETS, text, "kind of targets") if text in names.TARGETS else source_of(text)


def _initialize(recipe: Recipe, model: nn.Module, batch: Batch | None) -> None:
    name = recipe.model.init
    if name == "default":
        return
    scheme = names.find(names.INITIALIZATIONS, name, "initialization")
    takes_activation = "activation" in {field.name for field in dataclasses.fields(scheme)}
    activation = names.find(names.ACTIVATIONS, recipe.model.activation, "activation")
    try:
        (scheme(activation=activation) if takes_activation else scheme())(model, batch.inputs if batch else None)
    except ValueError as error:
        raise InputError(f"--init {name} does not fit this model: {error}") from None


def _put_word_vectors(recipe: Recipe, task: AbstractTask, model: nn.Module) -> None:
    """Overwrite the embedding's rows of the words that the file has vectors for."""
    tokenizer = task.vocabulary
    size = 0 if tokenizer is None else tokenizer.vocabulary_size
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == size]
    if tokenizer is None or not tables:
        raise InputError(
            "--word-vectors needs a model with a word embedding (lstm, gru, transformer), or one that reads bags of "
            "words (bag, linear, mlp)."
        )
    wanted = {tokenizer.token(index): index for index in range(size)}
    found = read_word_vectors(recipe.data.word_vectors, wanted=wanted.keys())
    step = recipe.data.normalize_vectors
    rows = torch.as_tensor(normalized_of(recipe.data.word_vectors, found, step))
    ids = torch.tensor([wanted[word] for word in found.words], dtype=torch.long)
    for table in tables:
        if found.width != table.embedding_dim:
            raise InputError(
                f"{recipe.data.word_vectors} holds vectors of width {found.width}, and the model's embedding has "
                f"width {table.embedding_dim}; give --width {found.width}."
            )
        with torch.no_grad():
            # Vectors of unit length are scaled to the length that the embedding's own start has.
            scale = table.weight.norm(dim=1).mean() if step != "none" else 1.0
            table.weight[ids] = rows.to(table.weight.dtype) * scale


def get_weights(model: nn.Module, head: nn.Module) -> dict[str, Tensor]:
    """Return all weights by name; tied ones once (safetensors refuses shared memory)."""
    seen: set[object] = set()
    weights = {}
    for prefix, module in (("model", model), ("head", head)):
        for name, tensor in module.state_dict(keep_vars=True).items():
            # Of what is divided among processes, nothing may be on this one.
            memory = ("divided", id(tensor)) if sharded.is_divided(tensor) else tensor.data_ptr()
            if memory not in seen or not tensor.numel():
                seen.add(memory)
                weights[f"{prefix}.{name}"] = tensor.detach()
    return weights


def copied_weights(model: nn.Module, head: nn.Module) -> dict[str, Tensor]:
    """Return copies of all weights by name, in the CPU's memory; of several processes the first one has them.

    Where parameters are divided, all processes must call it.
    """
    copies = {}
    for name, tensor in get_weights(model, head).items():
        whole = sharded.joined(tensor)
        if distributed.is_first():
            copies[name] = whole.to("cpu", copy=True).contiguous()
    return copies


def counts_behind(weights: dict[str, Tensor]) -> Tensor | None:
    """Return counts that give the prior that is in saved weights, None where there is none.

    What else a head makes of the counts (a shortlist, probabilities of being drawn) is not in the weights.
    """
    prior = weights.get("head.targets.log_prior")
    return None if prior is None else prior.double().exp() * 1e12  # so large that no smoothing shows


def put_weights(model: nn.Module, head: nn.Module, weights: dict[str, Tensor], where: Path | str) -> None:
    """Copy weights into model and head in place.

    An InputError names the first difference from another model, or the first of them that is not finite.
    """
    own = get_weights(model, head)
    for name in sorted(own.keys() | weights.keys()):
        if name not in own or name not in weights:
            side = "has no place in this model" if name not in own else "is missing"
            raise InputError(
                f"{where} is from another model: '{name}' {side}; check that recipe and weights belong together."
            )
        if own[name].shape != weights[name].shape:
            raise InputError(
                f"{where} is from another model: '{name}' has shape {list(weights[name].shape)}, and the recipe's "
                f"model needs {list(own[name].shape)}; check that recipe and weights belong together."
            )
        if not is_sound(weights[name]):
            raise InputError(
                f"{where} cannot be used: numbers in '{name}' are NaN or infinite; restore it, or train the run again "
                "with a smaller --lr."
            )
    for name, tensor in own.items():
        sharded.put(tensor, weights[name])


def is_sound(tensor: Tensor) -> bool:
    """Whether no number of a tensor is NaN or infinite, so that it may be saved or used as weights."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def count_parameters(model: nn.Module, head: nn.Module) -> int:
    """Return the number of trainable numbers, tied ones counted once."""
    seen = {id(p): p.numel() for p in [*model.parameters(), *head.parameters()] if p.requires_grad}
    return sum(seen.values())
