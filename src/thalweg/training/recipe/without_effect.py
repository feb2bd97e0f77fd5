"""Options that were given and that the chosen task or model does not look at, so that nobody waits for their effect."""

from typing import Any

from thalweg.training.recipe.recipe import Recipe

# Models that look at an option; the other models do not.
_MODELS: dict[str, frozenset[str]] = {
    "hidden": frozenset({"mlp", "lstm", "gru", "transformer"}),
    "layers": frozenset({"mlp", "lstm", "gru", "transformer"}),
    "heads": frozenset({"transformer"}),
    "activation": frozenset({"mlp", "transformer"}),
    "skip": frozenset({"mlp", "lstm", "gru", "transformer"}),
    "word_pairs": frozenset({"bag", "mlp"}),
    "max_length": frozenset({"lstm", "gru", "transformer"}),
}
_TEXT = frozenset({"classify", "tag", "score", "language", "translate"})
# Tasks that look at an option.
_TASKS: dict[str, frozenset[str]] = {
    "other_column": frozenset({"score"}),
    "columns": frozenset({"forecast"}),
    "lags": frozenset({"forecast"}),
    "scaling": frozenset({"forecast"}),
    "text_column": _TEXT,
    "normalize": _TEXT,
    "tokenizer": _TEXT - {"tag"},
    "vocabulary_size": _TEXT,
    "word_pairs": frozenset({"classify", "score"}),
    "max_length": _TEXT,
    "word_vectors": _TEXT,
    "normalize_vectors": _TEXT,
    "tie": frozenset({"language", "translate"}),
    "label_smoothing": _TEXT - {"score"},
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
    sentences = []
    for key, value in chosen.items():
        if value == defaults.get(key):
            continue
        option = f"--{key.replace('_', '-')}"
        if task not in _TASKS.get(key, {task}):
            sentences.append(f"{option} has no effect on --task {task}.")
        elif model not in _MODELS.get(key, {model}):
            sentences.append(f"{option} has no effect on --model {model}.")
        elif key == "normalize_vectors" and not values["word_vectors"]:
            sentences.append(f"{option} has no effect without --word-vectors.")
        elif key == "warmup" and value and values["schedule"] in _NO_WARMUP:
            sentences.append(f"{option} has no effect on --schedule {values['schedule']}.")
    return sentences
