"""Filling in a recipe: the defaults that depend on the task and the model, and checks of what the user gave."""

from typing import Any

from thalweg import names
from thalweg.errors import InputError
from thalweg.tasks.spec import TaskSpec
from thalweg.training.certified import proved
from thalweg.training.recipe.recipe import Recipe

# Every option has a value here; the tables below change it for a task, or for a task's model.
GENERAL: dict[str, Any] = {
    "seed": 0, "device": "auto", "precision": "auto",
    "valid": "", "valid_share": 0.1, "text_column": "", "other_column": "", "label_column": "", "columns": [],
    "skip_bad_rows": False, "normalize": ["nfc", "lower", "spaces"], "tokenizer": "word", "vocabulary_size": 30_000,
    "bigrams": 0, "max_length": 256, "word_vectors": "", "normalize_vectors": "length", "lags": 0, "scaling": "none",
    "width": 128, "hidden": 128, "layers": 1, "heads": 4, "dropout": 0.1, "activation": "relu", "skip": "none",
    "input_skip": False, "sparsity": 0.0, "init": "default", "tie": False,
    "head": "softmax", "targets": "random", "target_width": 128, "target_average": 0.0, "dispersion": "none",
    "dispersion_weight": 0.1,
    "optimizer": "adamw", "line_search": "", "optimizer_options": {}, "schedule": "cosine", "schedule_options": {},
    "warmup": 0.05, "clip": 1.0, "clip_value": 0.0, "clip_adaptive": 0.0, "clip_update": 0.0, "weight_decay": 0.01,
    "l2": 0.0, "label_smoothing": 0.0, "batch_size": 64, "accumulate": 1, "epochs": 10.0, "steps": 0, "time": 0.0,
    "patience": 0, "certify": 0.0, "evaluate_every": 0, "checkpoint_every": 60.0,
}  # fmt: skip

BY_MODEL: dict[str, dict[str, Any]] = {
    "bag": {"width": 64, "bigrams": 100_000, "vocabulary_size": 50_000, "lr": 0.01, "layers": 0},
    "mlp": {"lr": 3e-3},
    "lstm": {"lr": 3e-3},
    "gru": {"lr": 3e-3},
    "transformer": {
        "layers": 2, "hidden": 256, "lr": 1e-3, "skip": "prenorm", "activation": "gelu", "warmup": 0.1,
    },
}  # fmt: skip

# Methods that look at curvature want the same function at every evaluation: all data, no dropout, no schedule.
FULL_BATCH = {
    "batch_size": 0, "dropout": 0.0, "schedule": "constant", "warmup": 0.0, "clip": 0.0, "weight_decay": 0.0, "lr": 1.0,
    "epochs": 100.0, "l2": 1e-4,
}  # fmt: skip
OWN_LINE_SEARCH = {
    "gradient": "armijo", "bfgs": "wolfe", "self-scaled-bfgs": "wolfe", "self-scaled-broyden": "wolfe",
    "lbfgs": "wolfe",
    "newton": "armijo", "newton-cg": "armijo", "levenberg-marquardt": "armijo",
}  # fmt: skip

# Losses in which other words push where one pulls, so that their targets can be trained.
CONTRASTING = ("contrastive", "sampled", "analytic")
HEAD_OPTIONS = ("targets", "target_width", "target_average", "dispersion", "dispersion_weight")

POSITIVE = ("vocabulary_size", "max_length", "target_width", "width", "hidden", "heads", "lr", "accumulate")
NOT_NEGATIVE = (
    "seed",
    "bigrams", "lags", "layers", "warmup", "clip", "clip_value", "clip_adaptive", "clip_update", "weight_decay",
    "l2", "dispersion_weight", "batch_size", "epochs", "steps", "time", "patience", "certify", "evaluate_every",
    "checkpoint_every",
)  # fmt: skip
SHARES = ("valid_share", "dropout", "sparsity", "label_smoothing", "target_average")


def complete(given: Recipe, optimizer_defaults: dict[str, float] | None = None) -> Recipe:
    """Return the recipe with every option filled in, and checked.

    Args:
        given: what the user gave; `task` and `source` must be set.
        optimizer_defaults: learning rate and weight decay of the optimizer, where it is not the tasks' own.

    Raises:
        InputError: for a name no table has, a number out of its range, or options that contradict each other.
    """
    values = {key: value for section in given.to_dict().values() for key, value in section.items()}
    recipe = Recipe()
    for key, value in {**defaults_for(given, optimizer_defaults), **values}.items():
        recipe.set(key, value)
    assert not recipe.missing(), recipe.missing()
    check(recipe)
    return recipe


def defaults_for(given: Recipe, optimizer_defaults: dict[str, float] | None = None) -> dict[str, Any]:
    """Return the value that each option has when it is not given; the arguments are those of `complete`."""
    values = {key: value for section in given.to_dict().values() for key, value in section.items()}
    spec = names.task_spec(values["task"])
    model = values.get("model") or spec.defaults["model"]
    _check_model(spec, model)
    defaults = GENERAL | BY_MODEL.get(model, {}) | {**spec.defaults} | {**spec.models[model].defaults}
    defaults["model"] = model
    defaults["name"] = values["task"]
    defaults |= optimizer_defaults or {}
    defaults |= head_defaults({**defaults, **values}, values)
    defaults |= composed_defaults(values.get("optimizer", ""), values.get("line_search", ""))
    if proved.wants_proof({**defaults, **values}, values):
        defaults |= proved.DEFAULTS
    if "steps" in values and values["steps"] and "epochs" not in values:
        defaults["epochs"] = 0.0
    if values.get("tokenizer", "word") != "word":
        defaults["bigrams"] = 0  # pairs of adjacent words need words
    return defaults


def head_defaults(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of a head with continuous outputs; nothing for a softmax.

    Args:
        values: the recipe so far, with the defaults of its task and model.
        given: what the user gave of it.
    """
    head = values["head"]
    if head == "softmax":
        return {}
    names.check(names.HEADS, head, "head")
    found: dict[str, Any] = {"targets": "trained" if head in CONTRASTING else "random"}
    targets = given.get("targets", found["targets"])
    if targets != "trained":
        found["tie"] = False  # only trained vectors can be the embedding's
    if targets in ("trained", "embedding") and (targets == "embedding" or {**values, **found}["tie"]):
        found["target_width"] = values["width"]
    if head not in CONTRASTING:
        found["label_smoothing"] = 0.0  # no other loss has a distribution over words to smooth
    return found


def composed_defaults(optimizer: str, line_search: str) -> dict[str, Any]:
    """Return the defaults of a direction with a step size; nothing for an optimizer that is used as it is."""
    if optimizer in names.METHODS or (optimizer == "lbfgs" and line_search):
        return FULL_BATCH | {"line_search": OWN_LINE_SEARCH[optimizer]}
    if line_search:  # a PyTorch optimizer's step as a direction: the search sets the step, so no schedule does
        return {"schedule": "constant", "warmup": 0.0}
    return {}


def check(recipe: Recipe) -> None:
    """Raise an InputError where a complete recipe cannot work."""
    values = {key: value for section in recipe.to_dict().values() for key, value in section.items()}
    task, model = values["task"], values["model"]
    _check_model(names.task_spec(task), model)
    for table, key, what in (
        (names.ACTIVATIONS, "activation", "activation"),
        (names.SKIPS, "skip", "skip connection"),
        (names.INITIALIZATIONS, "init", "initialization"),
        (names.SCHEDULES, "schedule", "schedule"),
        (names.TOKENIZERS, "tokenizer", "tokenizer"),
        (names.HEADS, "head", "head"),
        (names.DISPERSIONS, "dispersion", "dispersion"),
        (("", *names.LINE_SEARCHES), "line_search", "line search"),
        (names.SCALINGS, "scaling", "scaling"),
        (names.VECTOR_STEPS, "normalize_vectors", "normalization of word vectors"),
        (("auto", *names.PRECISIONS), "precision", "precision"),
    ):
        names.check(table, values[key], what)
    for key in POSITIVE:
        if not 0 < values[key] < float("inf"):
            raise InputError(f"--{key.replace('_', '-')} must be above zero; got {values[key]!r}.")
    for key in NOT_NEGATIVE:
        if not 0 <= values[key] < float("inf"):
            raise InputError(f"--{key.replace('_', '-')} must be zero (off) or above; got {values[key]!r}.")
    for key in SHARES:
        if not 0 <= values[key] < 1:
            raise InputError(f"--{key.replace('_', '-')} is a share and must lie in [0, 1); got {values[key]!r}.")
    if not values["valid"] and values["valid_share"] == 0:
        raise InputError("--valid-share must be above zero when there is no --valid file; got 0.")
    if not values["steps"] and not values["epochs"]:
        raise InputError("A run needs a bound: give --epochs or --steps (or --time alone).")
    if values["tokenizer"] != "word" and values["bigrams"]:
        raise InputError(f"--bigrams needs --tokenizer word; got '{values['tokenizer']}'. Give --bigrams 0.")
    if model == "transformer" and values["width"] % values["heads"]:
        raise InputError(f"--width must be a multiple of --heads; got {values['width']} and {values['heads']}.")
    _check_head(values)
    proved.check(values)
    if values["init"] == "tfixup" and (model != "transformer" or values["skip"] != "residual"):
        raise InputError("--init tfixup is for --model transformer with --skip residual (it replaces the layer norms).")
    if model != "mlp" and (values["input_skip"] or values["sparsity"]):
        raise InputError(f"--input-skip and --sparsity are for --model mlp; got --model {model}.")


def _check_head(values: dict[str, Any]) -> None:
    """Raise an InputError where head and targets don't fit the task or each other."""
    task, head, targets = values["task"], values["head"], values["targets"]
    kind = targets.partition(":")[0]
    if head == "softmax":
        for key in HEAD_OPTIONS:
            if values[key] != GENERAL[key]:
                raise InputError(
                    f"--{key.replace('_', '-')} is for continuous outputs, and the output layer is a softmax; give "
                    "--head analytic (or another family), or leave it out."
                )
        return
    if "writes" not in names.task_spec(task).traits:
        writers = [name for name in names.TASKS if "writes" in names.task_spec(name).traits]
        raise InputError(
            f"--head {head} writes words by their vectors, so it is for --task {' or '.join(writers)}; task "
            f"'{task}' has an output layer of its own."
        )
    if values["tie"] and targets != "trained":
        raise InputError(
            f"--tie shares the model's embedding with trained targets; with --targets {targets} there is nothing to "
            "share. Give --no-tie, or --targets trained (or embedding)."
        )
    if values["target_average"] and kind != "embedding":
        raise InputError("--target-average is for --targets embedding; other vectors follow nothing.")
    if values["dispersion"] != "none" and kind != "trained":
        raise InputError(f"--dispersion moves trained vectors; --targets {targets} are not trained by the loss.")
    if kind in ("trained", "embedding") and head not in CONTRASTING and values["dispersion"] == "none":
        raise InputError(
            f"--head {head} only pulls predictions to their targets, so learned targets would all become alike. Give "
            f"--targets random, or a family with contrast: --head {', '.join(CONTRASTING)}"
            + (", or --dispersion sliced." if kind == "trained" else ".")
        )


def _check_model(spec: TaskSpec, model: str) -> None:
    if model not in spec.models:
        raise InputError(
            f"Task '{spec.name}' has no model '{model}'; expected one of {', '.join(spec.models)} (--model)."
        )
