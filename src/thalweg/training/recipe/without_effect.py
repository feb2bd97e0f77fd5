"""Options that were given and that the chosen task or model does not look at, so that nobody waits for their effect."""

from typing import Any

from thalweg import names
from thalweg.training.recipe.recipe import Recipe

# Models that look at an option; the other models do not.
_MODELS: dict[str, frozenset[str]] = {
    "hidden": frozenset({"mlp", "lstm", "gru", "transformer"}),
    "layers": frozenset({"mlp", "lstm", "gru", "transformer"}),
    "heads": frozenset({"transformer"}),
    "activation": frozenset({"mlp", "transformer"}),
    "skip": frozenset({"mlp", "lstm", "gru", "transformer"}),
    "bigrams": frozenset({"bag", "mlp"}),
    "max_length": frozenset({"lstm", "gru", "transformer"}),
}
# What a task must have to do with (see `thalweg.tasks.spec.TaskSpec`) to look at an option.
_TRAITS: dict[str, frozenset[str]] = {
    "other_column": frozenset({"pairs"}),
    "columns": frozenset({"series"}),
    "lags": frozenset({"series"}),
    "scaling": frozenset({"series"}),
    "text_column": frozenset({"text"}),
    "normalize": frozenset({"text"}),
    "tokenizer": frozenset({"tokens"}),
    "vocabulary_size": frozenset({"text"}),
    "bigrams": frozenset({"bigrams"}),
    "max_length": frozenset({"text"}),
    "word_vectors": frozenset({"text"}),
    "normalize_vectors": frozenset({"text"}),
    "tie": frozenset({"writes"}),
    "label_smoothing": frozenset({"classes"}),
}
_NO_WARMUP = {"constant", "reduce_on_plateau"}


def without_effect(given: Recipe, defaults: dict[str, Any]) -> list[str]:
    """Return a sentence for each option that was given and does nothing here.

    Args:
        given: what the user gave, with the task filled in; a value that is the default anyway is passed over, as in a
            recipe file, which holds every option.
        defaults: the value that each option has when it is not given, `task` and `model` among them.
    """
    chosen = {key: value for section in given.to_dict().values() for key, value in section.items()}
    values = defaults | chosen
    task, model = values["task"], values["model"]
    traits = names.task_spec(task).traits
    sentences = []
    for key, value in chosen.items():
        if value == defaults.get(key):
            continue
        option = f"--{key.replace('_', '-')}"
        if not _TRAITS.get(key, frozenset()) <= traits:
            sentences.append(f"{option} has no effect on --task {task}.")
        elif model not in _MODELS.get(key, {model}):
            sentences.append(f"{option} has no effect on --model {model}.")
        elif key == "normalize_vectors" and not values["word_vectors"]:
            sentences.append(f"{option} has no effect without --word-vectors.")
        elif key == "warmup" and value and values["schedule"] in _NO_WARMUP:
            sentences.append(f"{option} has no effect on --schedule {values['schedule']}.")
    return sentences
