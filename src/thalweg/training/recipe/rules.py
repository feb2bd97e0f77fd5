"""What a complete recipe must keep to: the range and the choices of each option, and rules between options."""

from collections.abc import Callable
from typing import Final

from thalweg import names
from thalweg.errors import InputError
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Recipe


def check(recipe: Recipe) -> None:
    """Raise an InputError where a complete recipe cannot work."""
    for name, value in recipe.values().items():
        option = OPTIONS[name]
        if option.choices is not None:
            names.check(option.choices, value, option.what or name.replace("_", " "))
        if option.range is not None and not option.range.holds(value):
            raise InputError(f"{option.flag} {option.range.says}; got {value!r}.")
    for rule in RULES:
        if sentence := rule(recipe):
            raise InputError(sentence)


def _has_validation(recipe: Recipe) -> str:
    if recipe.data.valid or recipe.data.valid_share:
        return ""
    return "--valid-share must be above zero when there is no --valid file; got 0."


def _has_a_bound(recipe: Recipe) -> str:
    if recipe.training.steps or recipe.training.epochs:
        return ""
    return "A run needs a bound: give --epochs or --steps (or --time alone)."


def _bigrams_need_words(recipe: Recipe) -> str:
    if recipe.data.tokenizer == "word" or not recipe.data.bigrams:
        return ""
    return f"--bigrams needs --tokenizer word; got '{recipe.data.tokenizer}'. Give --bigrams 0."


def _heads_divide_the_width(recipe: Recipe) -> str:
    model = recipe.model
    if model.model != "transformer" or model.width % model.heads == 0:
        return ""
    return f"--width must be a multiple of --heads; got {model.width} and {model.heads}."


def _no_continuous_options_beside_a_softmax(recipe: Recipe) -> str:
    if recipe.model.head != "softmax":
        return ""
    for name, value in recipe.values().items():
        if OPTIONS[name].continuous and value != OPTIONS[name].default:
            return (
                f"{OPTIONS[name].flag} is for continuous outputs, and the output layer is a softmax; give --head "
                "analytic (or another family), or leave it out."
            )
    return ""


def _continuous_outputs_write(recipe: Recipe) -> str:
    task, head = recipe.run.task, recipe.model.head
    if head == "softmax" or "writes" in names.task_spec(task).traits:
        return ""
    writers = [name for name in names.TASKS if "writes" in names.task_spec(name).traits]
    return (
        f"--head {head} writes words by their vectors, so it is for --task {' or '.join(writers)}; task '{task}' has "
        "an output layer of its own."
    )


def _tied_targets_are_trained(recipe: Recipe) -> str:
    model = recipe.model
    if model.head == "softmax" or not model.tie or model.targets == "trained":
        return ""
    return (
        f"--tie shares the model's embedding with trained targets; with --targets {model.targets} there is nothing to "
        "share. Give --no-tie, or --targets trained (or embedding)."
    )


def _only_an_embedding_is_averaged(recipe: Recipe) -> str:
    if not recipe.model.target_average or _kind_of_targets(recipe) == "embedding":
        return ""
    return "--target-average is for --targets embedding; other vectors follow nothing."


def _only_trained_vectors_disperse(recipe: Recipe) -> str:
    model = recipe.model
    if model.dispersion == "none" or _kind_of_targets(recipe) == "trained":
        return ""
    return f"--dispersion moves trained vectors; --targets {model.targets} are not trained by the loss."


def _learned_targets_are_kept_apart(recipe: Recipe) -> str:
    model, kind = recipe.model, _kind_of_targets(recipe)
    if kind not in ("trained", "embedding") or model.dispersion != "none":
        return ""
    if model.head in ("softmax", *names.CONTRASTIVE_HEADS):
        return ""
    return (
        f"--head {model.head} only pulls predictions to their targets, so learned targets would all become alike. Give "
        f"--targets random, or a family with contrast: --head {', '.join(names.CONTRASTIVE_HEADS)}"
        + (", or --dispersion sliced." if kind == "trained" else ".")
    )


def _kind_of_targets(recipe: Recipe) -> str:
    return recipe.model.targets.partition(":")[0]


def _a_gap_needs_a_solver(recipe: Recipe) -> str:
    training = recipe.training
    if not training.certify or training.optimizer in names.SOLVERS:
        return ""
    return (
        f"--certify stops training by a gap that only {_solved()} with --optimizer {' or '.join(names.SOLVERS)} knows "
        f"while it trains; got --model {recipe.model.model} with {training.optimizer}. Leave it out, and ask `thalweg "
        "certify` about the finished run."
    )


def _solved() -> str:
    """Return the models that a solver can train, as an option."""
    found = {name for task in names.TASKS for name, model in names.task_spec(task).models.items() if model.solver}
    return f"--model {' or '.join(sorted(found))}"


def _a_solver_has_its_model(recipe: Recipe) -> str:
    solver, models = recipe.training.optimizer, names.task_spec(recipe.run.task).models
    if solver not in names.SOLVERS or models[recipe.model.model].solver == solver:
        return ""
    return f"--optimizer {solver} is for {_solved()}; got --model {recipe.model.model}."


def _a_solver_takes_all_data(recipe: Recipe) -> str:
    if recipe.training.optimizer not in names.SOLVERS:
        return ""
    for name, value in recipe.values().items():
        needed = OPTIONS[name].solver_needs
        if needed is not None and value != needed:
            return f"--optimizer {recipe.training.optimizer} needs {OPTIONS[name].flag} {needed or '0'}; got {value!r}."
    return ""


def _a_solver_has_its_own_terms(recipe: Recipe) -> str:
    training = recipe.training
    if training.optimizer not in names.SOLVERS:
        return ""
    if not training.l2 > 0.0 or training.line_search:
        return f"--optimizer {training.optimizer} needs an --l2 above zero, and has its own line search."
    if recipe.run.precision == "bfloat16":
        return f"--optimizer {training.optimizer} needs --precision float64 or float32; got bfloat16."
    return ""


def _tfixup_has_its_transformer(recipe: Recipe) -> str:
    model = recipe.model
    if model.init != "tfixup" or (model.model == "transformer" and model.skip == "residual"):
        return ""
    return "--init tfixup is for --model transformer with --skip residual (it replaces the layer norms)."


def _only_an_mlp_skips_its_input(recipe: Recipe) -> str:
    model = recipe.model
    if model.model == "mlp" or not (model.input_skip or model.sparsity):
        return ""
    return f"--input-skip and --sparsity are for --model mlp; got --model {model.model}."


# Each takes a complete recipe and returns what is wrong, or "".
RULES: Final[tuple[Callable[[Recipe], str], ...]] = (
    _has_validation,
    _has_a_bound,
    _bigrams_need_words,
    _heads_divide_the_width,
    _no_continuous_options_beside_a_softmax,
    _continuous_outputs_write,
    _tied_targets_are_trained,
    _only_an_embedding_is_averaged,
    _only_trained_vectors_disperse,
    _learned_targets_are_kept_apart,
    _a_gap_needs_a_solver,
    _a_solver_has_its_model,
    _a_solver_takes_all_data,
    _a_solver_has_its_own_terms,
    _tfixup_has_its_transformer,
    _only_an_mlp_skips_its_input,
)
