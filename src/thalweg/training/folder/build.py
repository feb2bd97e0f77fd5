"""From a complete recipe to objects: settings, networks, optimizer, schedule, clipping."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from thalweg import names, vectors
from thalweg.batch import Batch
from thalweg.data.arrays.ragged import IN_MEMORY, Spill
from thalweg.data.text.word_vectors import read_word_vectors
from thalweg.errors import InputError
from thalweg.heads.base import AbstractHead
from thalweg.models.presets import ModelOptions
from thalweg.optim import clipping, construct
from thalweg.tasks.base import AbstractTask, HeadOptions, Settings
from thalweg.tasks.writing.target_sources import Pretrained, source_of
from thalweg.training.folder.compose import check_optimizer, compose, is_composed
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.steps.device import choose_device, choose_precision

COMBINED_SHARE = 0.5  # of pretrained vectors in combined targets


def settings_of(recipe: Recipe, columns: dict[str, Any], spill: Spill = IN_MEMORY) -> Settings:
    """Return the data part of a complete recipe as the settings of a task."""
    data, model = recipe.data, recipe.model
    return Settings(
        columns=columns,
        valid_share=_given(data.valid_share),
        normalize=tuple(_given(data.normalize)),
        tokenizer=_given(data.tokenizer),
        vocabulary_size=_given(data.vocabulary_size),
        bigrams=_given(data.bigrams),
        max_length=_given(data.max_length),
        lags=_given(data.lags),
        scaling=_given(data.scaling),
        layout=names.task_spec(_given(recipe.run.task)).models[_given(model.model)].layout,
        spill=spill,
    )


def build_networks(
    recipe: Recipe,
    task: AbstractTask,
    *,
    batch: Batch | None = None,
    fresh: bool = True,
    counts: Tensor | None = None,
) -> tuple[nn.Module, AbstractHead]:
    """Return model and head as the recipe says, on the CPU.

    Args:
        recipe: a complete recipe.
        task: gives the sizes and the head.
        batch: a batch of training data, for initializations that look at data.
        fresh: initialize as the recipe says (word vectors, scheme, targets); False when weights will be put in anyway.
        counts: how often each token is a target in the training data, for heads that know of frequencies.
    """
    options = recipe.model
    torch.manual_seed(_given(recipe.run.seed))
    spec = names.task_spec(task.name).models[_given(options.model)]
    builder = names.load(spec.pair_builder if task.reads_pairs else spec.builder)
    try:
        model: nn.Module = builder(task.shape(), model_options(recipe))
    except ValueError as error:
        raise InputError(f"--model {options.model} cannot be built so: {error}") from None
    head = task.head(model, head_options(recipe, fresh=fresh, counts=counts))
    dtype, _ = choose_precision(_given(recipe.run.precision), choose_device("cpu"))
    model.to(dtype)
    head.to(dtype)
    if fresh:
        _initialize(recipe, model, batch)
        if recipe.data.word_vectors:
            _put_word_vectors(recipe, task, model)
    return model, head


def model_options(recipe: Recipe) -> ModelOptions:
    """Return the model part of a complete recipe as objects."""
    options = recipe.model
    return ModelOptions(
        width=_given(options.width),
        hidden=_given(options.hidden),
        layers=_given(options.layers),
        heads=_given(options.heads),
        dropout=_given(options.dropout),
        activation=names.find(names.ACTIVATIONS, _given(options.activation), "activation"),
        skip=names.find(names.SKIPS, _given(options.skip), "skip connection"),
        input_skip=_given(options.input_skip),
        sparsity=_given(options.sparsity),
    )


def head_options(recipe: Recipe, *, fresh: bool = True, counts: Tensor | None = None) -> HeadOptions:
    """Return what a complete recipe says about the output layer; arguments as for `build_networks`."""
    options = recipe.model
    smoothing, tie, name = _given(recipe.training.label_smoothing), _given(options.tie), _given(options.head)
    if name == "softmax":
        return HeadOptions(smoothing, tie)
    dispersion = (
        names.find(names.DISPERSIONS, _given(options.dispersion), "dispersion")()
        if options.dispersion != ("none")
        else None
    )
    kind, _, start = _given(options.targets).partition(":")
    table: Any = names.find(names.TARGETS, "random", "kind of targets")
    if fresh:  # else the weights bring the vectors, and the file or run they came from need not be there
        table = target_table(_given(options.targets))
    return HeadOptions(
        smoothing,
        tie and kind == "trained" and not start,
        family=names.find(names.HEADS, name, "head"),
        table=table,
        trained=kind == "trained",
        follow=_given(options.target_average) if kind == "embedding" else None,
        target_width=_given(options.target_width),
        dispersion=dispersion,
        dispersion_weight=_given(options.dispersion_weight),
        counts=counts,
    )


def target_table(text: str) -> Any:
    """Return what makes the vectors that `--targets` names.

    Raises:
        InputError: if it names nothing.

    Example:
        >>> target_table("hypercube").__name__, target_table("trained").__name__
        ('hypercube_targets', 'random_targets')
    """
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
    name = _given(recipe.model.init)
    if name == "default":
        return
    scheme = names.find(names.INITIALIZATIONS, name, "initialization")
    takes_activation = "activation" in {field.name for field in dataclasses.fields(scheme)}
    activation = names.find(names.ACTIVATIONS, _given(recipe.model.activation), "activation")
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
        raise InputError("--word-vectors needs a model with a word embedding (lstm, gru, transformer).")
    wanted = {tokenizer.token(index): index for index in range(size)}
    found = read_word_vectors(_given(recipe.data.word_vectors), wanted=wanted.keys())
    step = _given(recipe.data.normalize_vectors)
    rows = torch.as_tensor(found.normalized(step))
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


def optimizer_defaults(optimizer: str | None) -> dict[str, float]:
    """Return the usual learning rate and weight decay of an optimizer other than the tasks' own AdamW.

    Raises:
        InputError: if there is no such optimizer.
    """
    if optimizer is not None:
        check_optimizer(optimizer)
    if (
        optimizer is None
        or optimizer in {**names.METHODS, **names.SOLVERS}
        or construct.find_optimizer(optimizer) is torch.optim.AdamW
    ):
        return {}
    return {
        "lr": construct.default_learning_rate(optimizer),
        "weight_decay": construct.default_weight_decay(optimizer),
    }


def build_optimizer(
    recipe: Recipe, model: nn.Module, head: nn.Module, clip: "Clipping | None" = None
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the parameters of model and head.

    A method of `thalweg.names.METHODS`, or any optimizer with a `line_search`, becomes a `Descent`, which clips by
    itself. Everything else is PyTorch's own optimizer or the one behind an import path.
    """
    training = recipe.training
    if training.optimizer in names.SOLVERS:
        parameters = vectors.trainable([*model.parameters(), *head.parameters()])
        return names.find(names.SOLVERS, training.optimizer, "optimizer")(parameters)
    if is_composed(recipe):
        clip = clip or build_clipping(recipe, head)
        return compose(recipe, model, head, clip.gradient, clip.update)
    return construct.make_optimizer(
        construct.find_optimizer(_given(training.optimizer)),
        model,
        head,
        lr=_given(training.lr),
        weight_decay=_given(training.weight_decay),
        options=_given(training.optimizer_options),
    )


def build_schedule(recipe: Recipe, optimizer: torch.optim.Optimizer, total_steps: int) -> LRScheduler:
    """Return the recipe's schedule over `total_steps` steps."""
    training = recipe.training
    make = names.find(names.SCHEDULES, _given(training.schedule), "schedule")
    options: dict[str, Any] = dict(_given(training.schedule_options))
    warmup = min(_given(training.warmup), total_steps) if _given(training.warmup) >= 1 else _given(training.warmup)
    takes = [name for name in inspect.signature(make).parameters if name not in {"optimizer", "total_steps", "warmup"}]
    for name in options:
        if name not in takes:
            listed = f"it takes {', '.join(takes)}" if takes else "it takes none"
            raise InputError(f"--schedule {training.schedule} has no option '{name}'; {listed}.")
    try:
        return make(optimizer, total_steps=total_steps, warmup=warmup, **options)
    except (TypeError, ValueError) as error:
        raise InputError(f"--schedule {training.schedule} cannot work so: {error}") from None


@final
@dataclasses.dataclass(frozen=True)
class Clipping:
    """What is clipped: the gradient (in the order value, units, norm) and the update."""

    gradient: clipping.AbstractClip
    update: clipping.ClipUpdate | None


def build_clipping(recipe: Recipe, head: nn.Module) -> Clipping:
    """Return the recipe's clipping; several kinds are applied one after the other. AGC leaves the head out."""
    training = recipe.training
    parts: list[clipping.AbstractClip] = []
    if training.clip_value:
        parts.append(clipping.ClipValue(training.clip_value))
    if training.clip_adaptive:
        parts.append(clipping.ClipAdaptive(training.clip_adaptive, leave_out=tuple(head.parameters())))
    if training.clip:
        parts.append(clipping.ClipNorm(training.clip))
    update = clipping.ClipUpdate(training.clip_update) if training.clip_update else None
    if not parts:
        return Clipping(clipping.NoClip(), update)
    return Clipping(parts[0] if len(parts) == 1 else clipping.ClipSequence(tuple(parts)), update)


def get_weights(model: nn.Module, head: nn.Module) -> dict[str, Tensor]:
    """Return all weights by name; tied ones once (safetensors refuses shared memory)."""
    seen: set[int] = set()
    weights = {}
    for prefix, module in (("model", model), ("head", head)):
        for name, tensor in module.state_dict().items():
            if tensor.data_ptr() not in seen or not tensor.numel():
                seen.add(tensor.data_ptr())
                weights[f"{prefix}.{name}"] = tensor
    return weights


def counts_behind(weights: dict[str, Tensor]) -> Tensor | None:
    """Return counts that give the prior that is in saved weights, None where there is none.

    What else a head makes of the counts (a shortlist, probabilities of being drawn) is not in the weights.
    """
    prior = weights.get("head.targets.log_prior")
    return None if prior is None else prior.double().exp() * 1e12  # so large that no smoothing shows


def put_weights(model: nn.Module, head: nn.Module, weights: dict[str, Tensor], where: Path | str) -> None:
    """Copy weights into model and head in place.

    Raises:
        InputError: if they are from another model; the first difference is named.
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
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])


def count_parameters(model: nn.Module, head: nn.Module) -> int:
    """Return the number of trainable numbers, tied ones counted once."""
    seen = {id(p): p.numel() for p in [*model.parameters(), *head.parameters()] if p.requires_grad}
    return sum(seen.values())


def _given(value: Any) -> Any:
    assert value is not None, "the recipe must be complete here"
    return value
