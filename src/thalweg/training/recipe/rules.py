"""What a complete recipe, a run's own too, must keep to: the range and choices of options, and rules between them."""

import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from thalweg import names
from thalweg.errors import InputError, shown
from thalweg.storage.ledger import Ledger
from thalweg.tasks.spec import PRETRAINED
from thalweg.training.recipe import defaults
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.ranges import AMOUNT, LARGEST, SMALLEST
from thalweg.training.recipe.recipe import Recipe, read_recipe


def read_own_recipe(ledger: Ledger, name: str) -> Recipe:
    """Read the recipe of a run; an InputError tells of a file that is missing, or has changed since."""
    place = ledger.folder / name
    try:
        recipe = read_recipe(ledger.path(name))
    except InputError as error:
        if "checksum differs" not in str(error) and "bytes long" not in str(error):
            raise
        raise InputError(
            f"{place} has changed since the run was made, so its answers would be others; restore the file, or "
            f"train a new run on it (thalweg train {place})."
        ) from None
    try:
        check(recipe)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return recipe


def check(recipe: Recipe) -> None:
    """Raise an InputError where a complete recipe cannot work."""
    for name, value in recipe.values().items():
        option = OPTIONS[name]
        if option.choices is not None:
            for one in _listed(value):
                names.check(option.choices, one, option.what or name.replace("_", " "))
        if option.range is not None and not option.range.holds(value):
            raise InputError(f"{option.flag} {option.range.says}; got {shown(value)}.")
    names.model_spec(recipe.run.task, recipe.model.model, freeze=recipe.model.freeze)
    for wrong in (
        *(_tables, _sizes, _outputs, _solvers, _carried, _selection, _averages, _networks, _pretrained, _taught),
        *(_shards, _compiled),
    ):
        for sentence in wrong(recipe):
            raise InputError(sentence)


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _tables(recipe: Recipe) -> Iterator[str]:
    """What no argument of an optimizer or a schedule may be, whatever it is."""
    for name, table in recipe.values().items():
        for key, value in table.items() if isinstance(table, Mapping) else ():
            if wrong := [one for one in _numbers_in(value) if not AMOUNT.holds(abs(one))]:
                yield (
                    f"{OPTIONS[name].flag}.{key}: a number must be 0, or between {SMALLEST:g} and {LARGEST:g} in size; "
                    f"got {shown(wrong[0])}."
                )


def _numbers_in(value: object) -> Iterator[Any]:
    if isinstance(value, numbers.Real):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers_in(one)


def _sizes(recipe: Recipe) -> Iterator[str]:
    data, model, training = recipe.data, recipe.model, recipe.training
    if not (data.valid or data.valid_share):
        yield from _without_validation(recipe)
    if not (training.steps or training.epochs):
        yield "Give --epochs or --steps (or --time alone)."
    if data.vocabularies == "separate" and data.word_vectors:
        yield "--word-vectors are of one vocabulary; leave them out, or give --vocabularies joint."
    given = names.GIVEN_TOKENIZER
    if data.vocabulary and data.tokenizer != given:
        yield f"--vocabulary has its own tokenizer; leave out --tokenizer {data.tokenizer}."
    if data.vocabulary and data.vocabularies == "separate":
        yield "--vocabulary is one for both sides; give --vocabularies joint."
    if data.tokenizer == given and not (data.vocabulary or recipe.run.start_from):
        yield f"--tokenizer {given} is the one of a vocabulary that is given; name its file with --vocabulary."
    if data.tokenizer == given and "writes" not in names.task_spec(recipe.run.task).traits:
        yield f"--tokenizer {given} is for --task language and translate; got '{recipe.run.task}'."
    if data.bpe_dropout and data.tokenizer != "bpe":
        yield f"--bpe-dropout needs --tokenizer bpe; got '{data.tokenizer}'. Leave it out."
    if data.bpe_dropout and not training.batch_size:
        yield (
            f"--bpe-dropout draws other tokens in each step, and {training.optimizer} with all data in one batch wants "
            "the same in each; give a --batch-size, or leave it out."
        )
    if data.bigrams and data.tokenizer != "word":
        yield f"--bigrams needs --tokenizer word; got '{data.tokenizer}'. Give --bigrams 0."
    if not model.layers and model.model in OPTIONS["layers"].models:
        yield f"--layers must be at least 1 for --model {model.model}; got 0."
    if model.model == "transformer" and model.width % model.heads:
        yield f"--width must be a multiple of --heads; got {model.width} and {model.heads}."


def _without_validation(recipe: Recipe) -> Iterator[str]:
    """What cannot be had where nothing is held out."""
    task, training = recipe.run.task, recipe.training
    if "labels" not in names.task_spec(task).traits:
        yield f"--valid-share must be above zero for task '{task}' when there is no --valid file; got 0."
    for flag, wants in (
        ("--patience", bool(training.patience)),
        (f"--schedule {training.schedule}", training.schedule in names.SCORED_SCHEDULES),
        ("--threshold auto", training.threshold == "auto"),
    ):
        if wants:
            yield f"{flag} looks at validation data, and --valid-share 0 holds none out; leave one of them out."


def _outputs(recipe: Recipe) -> Iterator[str]:
    """What is wrong with the output layer and the vectors of its words."""
    task, model, threshold = recipe.run.task, recipe.model, recipe.training.threshold
    if threshold not in ("", "auto") and not _is_probability(threshold):
        yield f'--threshold must be a number between 0 and 1, or auto; got "{threshold}".'
    kind = model.targets.partition(":")[0]
    if model.head in ("softmax", names.CHAIN_HEAD):
        if model.head == names.CHAIN_HEAD and "chain" not in names.task_spec(task).traits:
            yield f"--head {model.head} is for the tags of sentences; task '{task}' has an output layer of its own."
        for name, value in recipe.values().items():
            if OPTIONS[name].continuous and value != OPTIONS[name].default:
                yield (
                    f"{OPTIONS[name].flag} is for continuous outputs, and the output layer is a {model.head}; give "
                    "--head analytic (or another family), or leave it out."
                )
        return  # the rest is about continuous outputs
    writers = [name for name in names.TASKS if "writes" in names.task_spec(name).traits]
    if task not in writers:
        yield (
            f"--head {model.head} writes words by their vectors, so it is for --task {' or '.join(writers)}; task "
            f"'{task}' has an output layer of its own."
        )
    if model.tie and model.targets != "trained":
        yield (
            f"--tie shares the model's embedding with trained targets; with --targets {model.targets} there is nothing "
            "to share. Give --no-tie, or --targets trained (or embedding)."
        )
    if model.target_average and kind != "embedding":
        yield "--target-average requires --targets embedding."
    if model.dispersion != "none" and kind != "trained":
        yield f"--dispersion moves trained vectors; --targets {model.targets} are not trained by the loss."
    learned = kind in ("trained", "embedding")
    if learned and model.dispersion == "none" and model.head not in names.CONTRASTIVE_HEADS:
        yield (
            f"--head {model.head} has no contrastive term, so learned targets would collapse. "
            f"Give --targets random, or a contrastive head: --head {', '.join(names.CONTRASTIVE_HEADS)}"
            + (", or --dispersion sliced." if kind == "trained" else ".")
        )


def _is_probability(text: str) -> bool:
    try:
        return 0.0 < float(text) < 1.0
    except ValueError:
        return False


def _solvers(recipe: Recipe) -> Iterator[str]:
    """What is wrong with training to a proved optimum."""
    training, model = recipe.training, recipe.model.model
    solver = training.optimizer
    every = [model for task in names.TASKS for model in names.task_spec(task).models.items()]
    if solver not in names.SOLVERS:
        if training.certify:
            yield (
                f"--certify needs the duality gap that only --optimizer {' or '.join(names.SOLVERS)} "
                f"({_models(name for name, spec in every if spec.solver)}) computes; got --model {model} with "
                f"{solver}. Leave it out, and run `thalweg certify` on the "
                "finished run."
            )
        return
    if names.model_spec(recipe.run.task, model, freeze=recipe.model.freeze).solver != solver:
        solved = _models(name for name, spec in every if spec.solver == solver)
        yield f"--optimizer {solver} is for {solved}; got --model {model}."
    for name, value in recipe.values().items():
        needed = OPTIONS[name].solver_needs
        if needed is not None and value != needed:
            yield f"--optimizer {solver} needs {OPTIONS[name].flag} {needed or '0'}; got {value!r}."
    if not training.l2 > 0.0 or training.line_search:
        yield f"--optimizer {solver} needs an --l2 above zero, and has its own line search."
    if recipe.run.precision == "bfloat16":
        yield f"--optimizer {solver} needs --precision float64 or float32; got bfloat16."


def _selection(recipe: Recipe) -> Iterator[str]:
    """What written texts cannot pick."""
    select, task = recipe.training.select, recipe.run.task
    if select in names.WRITTEN_METRICS and "translates" not in names.task_spec(task).traits:
        able = [name for name in names.TASKS if "translates" in names.task_spec(name).traits]
        yield f"--select {select} is for --task {' or '.join(able)}, whose answers are texts; got '{task}'."


def _carried(recipe: Recipe) -> Iterator[str]:
    """What a carried state does not go with."""
    if recipe.data.carry and (by := defaults.one_function(recipe.values())):
        yield (
            f"--carry is for optimizers that make one step from one gradient, such as adamw or soap; got {by}. Leave "
            "out one of them."
        )


def _averages(recipe: Recipe) -> Iterator[str]:
    """What an average of the weights does not go with."""
    training = recipe.training
    if training.average == "none":
        return
    searched = f"{training.optimizer} with --line-search {training.line_search}" if training.line_search else ""
    own = training.optimizer if training.optimizer in (*names.METHODS, *names.SOLVERS, "lbfgs") else ""
    if searched or own:
        yield (
            f"--average {training.average} is for optimizers that make one step from one gradient, such as adamw, sgd "
            f"or muon; got {searched or own}. Leave out one of them."
        )


def _compiled(recipe: Recipe) -> Iterator[str]:
    """What differentiates twice, or looks into the layers, cannot do so in compiled code."""
    training = recipe.training
    if recipe.run.compile and (training.optimizer in (*names.METHODS, *names.SOLVERS) or training.line_search):
        yield (
            "--compile is for optimizers that make one step from one gradient, such as adamw, soap or muon; got "
            f"{training.optimizer}{training.line_search and f' with --line-search {training.line_search}'}. "
            "Leave --compile out."
        )
    if recipe.run.compile and training.shard:
        yield "--compile does not go with --shard; leave out one of them."


def _models(found: Iterable[str]) -> str:
    return f"--model {' or '.join(sorted(set(found)))}"


def _networks(recipe: Recipe) -> Iterator[str]:
    model = recipe.model
    if model.init == "tfixup" and (model.model, model.skip) != ("transformer", "residual"):
        yield "--init tfixup is for --model transformer with --skip residual (it replaces the layer norms)."
    if model.model != "mlp" and (model.input_skip or model.sparsity):
        yield f"--input-skip and --sparsity are for --model mlp; got --model {model.model}."


def _pretrained(recipe: Recipe) -> Iterator[str]:
    """What a pretrained model does not go with, and what is for such a model alone."""
    model, training, own = recipe.model, recipe.training, names.PRETRAINED_TOKENIZER
    if not model.model.startswith(PRETRAINED):
        if recipe.data.tokenizer == own:
            yield f"--tokenizer {own} is the one of a pretrained model (--model {PRETRAINED}PATH); give another."
        if model.freeze:
            yield f"--freeze is for a pretrained model (--model {PRETRAINED}PATH); got --model {model.model}."
        return
    if recipe.data.tokenizer != own:
        yield f"--tokenizer {recipe.data.tokenizer}: the tokenizer is the pretrained model's own; leave it out."
    if model.init != "default" or recipe.data.word_vectors:
        yield "--init and --word-vectors would replace weights of the pretrained model; leave them out."
    if model.lora and model.last_layers:
        yield "--lora trains low-rank matrices alone, in all layers; leave out --last-layers."
    if training.layer_decay > 1.0:
        yield f"--layer-decay must lie in (0, 1]; got {training.layer_decay:g}."
    if training.optimizer in names.METHODS or training.line_search:
        for flag, given in (
            ("--layer-decay", training.layer_decay != 1.0),
            ("--unfreeze-every", training.unfreeze_every),
        ):
            if given:
                yield (
                    f"{flag} is for optimizers that make one step from one gradient, such as adamw; got "
                    f"{training.optimizer}. Leave out one of them."
                )
    if training.shard:
        yield "--shard is for the models of this package; leave it out with a pretrained one."


def _taught(recipe: Recipe) -> Iterator[str]:
    """What does not go with learning from another run's answers."""
    training = recipe.training
    if not training.distill:
        return
    if not recipe.run.start_from:
        yield "--distill learns from the answers of a finished run; name it with --start-from."
    if "taught" not in names.task_spec(recipe.run.task).traits:
        able = [name for name in names.TASKS if "taught" in names.task_spec(name).traits]
        yield f"--distill is for --task {' and '.join(able)}; got '{recipe.run.task}'."
    if recipe.data.streaming == "yes":
        yield "--distill keeps the answers to all rows, and --streaming yes reads some at a time; give --streaming no."
    if training.class_weights != "none":
        yield "--class-weights are for labels, and --distill learns from probabilities; leave one of them out."


def _shards(recipe: Recipe) -> Iterator[str]:
    """What needs whole matrices, or all numbers at once, where each process has some rows."""
    training = recipe.training
    if not training.shard:
        return
    usable = f"--shard is for --optimizer {', '.join(names.DIVISIBLE)}"
    if training.line_search:
        yield f"{usable}, without a line search; got --line-search {training.line_search}. Leave out one of them."
    if training.optimizer.lower() not in (*names.DIVISIBLE, names.AUTOMATIC):
        yield (
            f"{usable}; got {training.optimizer}, which needs whole matrices, or the loss at more than one point. Give "
            "another --optimizer, or leave out --shard."
        )
    if training.average == names.SCHEDULE_FREE:
        yield f"--shard does not go with --average {training.average}; give --average ema, or leave out one of them."
