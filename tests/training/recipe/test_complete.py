"""Defaults by task, model and method; what is refused; and what is told to have no effect."""

import pytest

from thalweg import names
from thalweg.errors import InputError
from thalweg.training.recipe.complete import complete, defaults_for, without_effect
from thalweg.training.recipe.recipe import Options


def given_options(**options):
    return Options({"task": "classify", "source": "x.csv", **options})


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ({}, "ar"),
        ({"lags": 3, "l2": 0.1}, "ar"),
        ({"model": "lstm"}, "lstm"),
        ({"optimizer": "least-squares"}, "ar"),
        *(({name: value}, "mlp") for name, value in {"optimizer": "bfgs", "hidden": 3, "scaling": "none"}.items()),
        *(({name: value}, "mlp") for name, value in {"epochs": 3.0, "lr": 0.1, "activation": "relu"}.items()),
    ],
)
def test_an_option_about_a_network_means_the_network(options, model):
    found = defaults_for(Options({"task": "forecast", "source": "x.csv", **options}))
    assert found["model"] == model
    assert found["lags"] == (0 if model == "ar" else 10)


@pytest.mark.parametrize("optimizer", names.MINI_BATCH_METHODS)
def test_methods_for_batches_see_all_data_only_with_a_search_that_wants_that(optimizer):
    found = {
        search: defaults_for(given_options(optimizer=optimizer, line_search=search))
        for search in ("", "stochastic", "armijo")
    }
    assert [each["batch_size"] for each in found.values()] == [64, 64, 0]
    assert [each["schedule"] for each in found.values()] == ["cosine", "constant", "constant"]
    assert found[""]["dropout"] > 0.0 == found["armijo"]["dropout"]


REFUSED = {
    "task": ({"task": "clasify"}, "no task 'clasify'.*Did you mean 'classify'"),
    "model of another task": (
        {"task": "tag", "model": "bag"},
        "Task 'tag' has no model 'bag'; expected one of linear, lstm, transformer",
    ),
    "schedule": ({"schedule": "cosin"}, "no schedule 'cosin'.*'cosine'"),
    "activation": ({"activation": "relo"}, "no activation 'relo'"),
    "skip": ({"skip": "resid"}, "no skip connection 'resid'; expected one of none, residual"),
    "negative rate": ({"lr": -1.0}, "--lr must lie between 1e-30 and 1e30; got -1.0"),
    "rate that is no number": ({"lr": float("nan")}, "--lr must lie between 1e-30 and 1e30; got nan"),
    "dropout of all": ({"dropout": 1.0}, r"--dropout must lie in \[0, 1\)"),
    "nothing to validate on": (
        {"valid_share": 0.0, "task": "score"},
        "--valid-share must be above zero for task 'score'",
    ),
    "patience without validation": ({"valid_share": 0.0, "patience": 2}, "--patience looks at validation data"),
    "a threshold that nothing chooses": ({"valid_share": 0.0, "threshold": "auto"}, "--threshold auto looks at"),
    "a threshold that is no probability": (
        {"threshold": "1.5"},
        "--threshold must be a number between 0 and 1, or auto",
    ),
    "a threshold that is no number": ({"threshold": "high"}, 'auto; got "high"'),
    "class weights": ({"class_weights": "equal"}, "no class weights 'equal'"),
    "no bound": ({"epochs": 0.0}, "Give --epochs or --steps"),
    "dropout of words": (
        {"task": "translate", "tokenizer": "word", "bpe_dropout": 0.1},
        "--bpe-dropout needs --tokenizer bpe; got 'word'",
    ),
    "dropout in one batch of all data": (
        {"task": "translate", "optimizer": "lbfgs", "line_search": "wolfe", "bpe_dropout": 0.1},
        "--bpe-dropout draws other tokens in each step",
    ),
    "vectors for two vocabularies": (
        {"task": "translate", "vocabularies": "separate", "word_vectors": "v.txt"},
        "leave them out, or give --vocabularies",
    ),
    "a vocabulary and a tokenizer": (
        {"task": "translate", "vocabulary": "v.model", "tokenizer": "bpe"},
        "--vocabulary has its own tokenizer; leave out",
    ),
    "one vocabulary for two": (
        {"task": "translate", "vocabulary": "v.model", "vocabularies": "separate"},
        "--vocabulary is one for both sides",
    ),
    "no vocabulary": ({"task": "translate", "tokenizer": "file"}, "name its file with --vocabulary"),
    "a vocabulary for a task that reads": (
        {"tokenizer": "file", "vocabulary": "v.model"},
        "--tokenizer file is for --task language and translate",
    ),
    "bigrams of characters": ({"tokenizer": "char", "bigrams": 10}, "--bigrams needs --tokenizer word"),
    "width and heads": ({"model": "transformer", "width": 10, "heads": 4}, "multiple of --heads; got 10 and 4"),
    "tfixup with norms": ({"model": "transformer", "init": "tfixup"}, "--init tfixup is for"),
    "sparse lstm": ({"model": "lstm", "sparsity": 0.5}, "--sparsity are for --model mlp"),
    "warmup below zero": ({"warmup": -0.1}, "--warmup must be 0 \\(off\\), or lie between 1e-9 and 1,000,000,000"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_cannot_work_are_refused(case):
    options, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        complete(given_options(**options))


def test_a_number_of_steps_alone_bounds_the_run():
    recipe = complete(given_options(steps=500))
    assert (recipe.training.steps, recipe.training.epochs) == (500, 0.0)


def test_completing_is_pure_and_what_was_given_stays():
    options = given_options(lr=0.25, optimizer="newton-cg", batch_size=8)
    before = dict(options)
    recipe = complete(options)
    assert complete(options) == recipe
    assert dict(options) == before
    assert before.items() <= recipe.values().items()


def test_defaults_by_task_model_method_and_what_only_the_surroundings_know():
    assert complete(given_options(task="tag", model="lstm")).training.lr == 5e-3
    tagger = complete(given_options(task="tag"))
    assert (tagger.model.model, tagger.model.head, tagger.training.optimizer) == ("linear", "crf", "lbfgs")
    assert (tagger.training.batch_size, tagger.training.epochs, tagger.training.lr) == (0, 60.0, 1.0)
    assert tagger.training.evaluate_every == 10
    assert complete(given_options(task="tag", optimizer="bfgs")).training.epochs == 100.0
    other = complete(given_options(task="tag", optimizer="adamw")).training
    assert (other.line_search, other.evaluate_every, other.batch_size) == ("", 0, 32)
    assert complete(given_options(task="tag", model="transformer")).training.lr == 1e-3
    full = complete(given_options(model="mlp", optimizer="bfgs"))
    assert (full.training.batch_size, full.training.line_search, full.training.l2) == (0, "wolfe", 1e-4)
    searched = complete(given_options(model="mlp", optimizer="adam", line_search="armijo"))
    assert (searched.training.batch_size, searched.training.schedule, searched.training.warmup) == (64, "constant", 0)
    assert complete(given_options(model="mlp"), {"lr": 0.7}).training.lr == 0.7
    solved = complete(given_options())
    assert (solved.training.optimizer, solved.training.line_search) == ("factored-newton", "")
    assert (solved.run.precision, solved.training.certify) == ("float64", 1e-4)


def sentences(**options):
    return without_effect(given_options(**options))


TOLD = {
    "skip of a bag": ({"skip": "highway"}, "--skip has no effect on --model bag."),
    "activation of an lstm": ({"model": "lstm", "activation": "silu"}, "--activation has no effect on --model lstm."),
    "heads of an mlp": ({"model": "mlp", "heads": 8}, "--heads has no effect on --model mlp."),
    "length of a bag": ({"max_length": 3}, "--max-length has no effect on --model bag."),
    "lags of texts": ({"lags": 3}, "--lags has no effect on --task classify."),
    "words of numbers": ({"task": "forecast", "tokenizer": "bpe"}, "--tokenizer has no effect on --task forecast."),
    "smoothing of numbers": ({"task": "score", "label_smoothing": 0.1}, "--label-smoothing has no effect on --task sc"),
    "vectors that are not there": ({"normalize_vectors": "top"}, "no effect without --word-vectors."),
    "smoothing of a crf": ({"task": "tag", "model": "lstm", "label_smoothing": 0.1}, "no effect on --head crf."),
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


def test_a_complete_recipe_is_silent_about_its_defaults():
    for task in names.TASKS:
        whole = Options(complete(given_options(task=task)).values())
        assert without_effect(whole) == []
        assert complete(whole).values() == dict(whole)
        assert defaults_for(whole).keys() == whole.keys()
