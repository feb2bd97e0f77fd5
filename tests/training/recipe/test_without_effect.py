"""An option that does nothing here is told, so that nobody waits for its effect; one that does something is not."""

import pytest

from thalweg import names
from thalweg.training.recipe.defaults import complete, defaults_for
from thalweg.training.recipe.recipe import Recipe, option_names
from thalweg.training.recipe.without_effect import _MODELS, _TRAITS, without_effect


def sentences(**options):
    recipe = Recipe()
    for key, value in {"task": "classify", "source": "x.csv", **options}.items():
        recipe.set(key, value)
    return without_effect(recipe, defaults_for(recipe))


TOLD = {
    "skip of a bag": ({"skip": "highway"}, "--skip has no effect on --model bag."),
    "activation of an lstm": ({"model": "lstm", "activation": "silu"}, "--activation has no effect on --model lstm."),
    "heads of an mlp": ({"model": "mlp", "heads": 8}, "--heads has no effect on --model mlp."),
    "length of a bag": ({"max_length": 3}, "--max-length has no effect on --model bag."),
    "lags of texts": ({"lags": 3}, "--lags has no effect on --task classify."),
    "words of numbers": ({"task": "forecast", "tokenizer": "bpe"}, "--tokenizer has no effect on --task forecast."),
    "smoothing of numbers": ({"task": "score", "label_smoothing": 0.1}, "--label-smoothing has no effect on --task sc"),
    "vectors that are not there": ({"normalize_vectors": "top"}, "no effect without --word-vectors."),
    "warmup": ({"schedule": "constant", "warmup": 0.1}, "--warmup has no effect on --schedule constant."),
}


@pytest.mark.parametrize("case", TOLD)
def test_an_option_that_does_nothing_is_told(case):
    options, message = TOLD[case]
    (sentence,) = sentences(**options)
    assert message in sentence


SILENT = {
    "skip of an mlp": {"model": "mlp", "skip": "highway", "activation": "silu", "layers": 3, "hidden": 9},
    "lags of numbers": {"task": "forecast", "lags": 3, "scaling": "standard"},
    "vectors": {"model": "lstm", "word_vectors": "v.txt", "normalize_vectors": "top"},
    "warmup": {"schedule": "linear", "warmup": 0.1},
    "the default itself": {"skip": "none", "lags": 0},
}


@pytest.mark.parametrize("case", SILENT)
def test_an_option_that_does_something_is_not_told(case):
    assert sentences(**SILENT[case]) == []


@pytest.mark.parametrize("task", names.TASKS)
def test_a_complete_recipe_is_silent_about_its_defaults(task):
    recipe = Recipe()
    recipe.set("task", task)
    recipe.set("source", "x")
    whole = complete(recipe)
    assert without_effect(whole, defaults_for(whole)) == []


def test_the_tables_hold_names_that_exist():
    specs = [names.task_spec(task) for task in names.TASKS]
    assert set(_MODELS) | set(_TRAITS) <= set(option_names())
    assert set().union(*_TRAITS.values()) <= set().union(*(spec.traits for spec in specs))
    assert set().union(*_MODELS.values()) == {model for spec in specs for model in spec.models}
