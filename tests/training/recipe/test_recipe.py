import dataclasses
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import names
from thalweg.errors import InputError
from thalweg.training.recipe.defaults import complete
from thalweg.training.recipe.recipe import Recipe, option_names, read_recipe, read_toml

TASK_MODELS = [(task, model) for task in names.TASKS for model in names.task_spec(task).models]


def given_recipe(**options):
    recipe = Recipe()
    for key, value in {"task": "classify", "source": "docstrings", **options}.items():
        recipe.set(key, value)
    return recipe


@pytest.mark.parametrize(("task", "model"), TASK_MODELS)
def test_a_complete_recipe_has_no_gap_and_comes_back_from_its_text(task, model):
    recipe = complete(given_recipe(task=task, model=model))
    assert recipe.missing() == []
    assert read_toml(recipe.to_toml(), "x") == recipe
    assert complete(read_toml(recipe.to_toml(), "x")) == recipe


def test_every_line_has_a_comment():
    text = complete(given_recipe()).to_toml()
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) > 50
    assert all("#" in line for line in lines)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.floats(allow_nan=False),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.booleans() | st.integers(-(2**62), 2**62)
    ),
)
@settings(deadline=None)
def test_any_value_survives_toml(text, number, texts, table):
    recipe = Recipe()
    for key, value in {"source": text, "lr": number, "normalize": texts, "optimizer_options": table}.items():
        recipe.set(key, value)
    assert read_toml(recipe.to_toml(), "x") == recipe


WRONG = {
    "no toml": ("[run", "no valid TOML"),
    "unknown section": ("[model2]\n", r"no section \[model2\]"),
    "value outside a section": ("lr = 1\n", r"no section \[lr\]"),
    "unknown option": ("[training]\nlrr = 1\n", r"no option 'lrr'; did you mean 'lr'\?"),
    "text for a number": ('[training]\nlr = "high"\n', r"lr must be a number; got 'high'"),
    "fraction for a count": ("[training]\nbatch_size = 1.5\n", "batch_size must be a whole number; got 1.5"),
    "true for a count": ("[run]\nseed = true\n", "seed must be a whole number; got True"),
    "number for a switch": ("[model]\ntie = 1\n", "tie must be true or false; got 1"),
    "number in a list of texts": ("[data]\nnormalize = [1]\n", "must be a list of texts"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_is_refused_with_file_section_and_option(case):
    text, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        read_toml(text, "my.toml")
    assert "my.toml" in str(caught.value)


def test_a_missing_recipe_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.toml: there is no such file"):
        read_recipe(tmp_path / "nothing.toml")


REFUSED = {
    "task": ({"task": "clasify"}, "no task 'clasify'.*Did you mean 'classify'"),
    "model of another task": (
        {"task": "tag", "model": "bag"},
        "Task 'tag' has no model 'bag'; expected one of lstm, transformer",
    ),
    "schedule": ({"schedule": "cosin"}, "no schedule 'cosin'.*'cosine'"),
    "activation": ({"activation": "relo"}, "no activation 'relo'"),
    "negative rate": ({"lr": -1.0}, "--lr must be above zero; got -1.0"),
    "rate that is no number": ({"lr": float("nan")}, "--lr must be above zero; got nan"),
    "dropout of all": ({"dropout": 1.0}, r"--dropout is a share and must lie in \[0, 1\)"),
    "nothing to validate on": ({"valid_share": 0.0}, "--valid-share must be above zero"),
    "no bound": ({"epochs": 0.0}, "needs a bound"),
    "pairs of characters": ({"tokenizer": "char", "bigrams": 10}, "--bigrams needs --tokenizer word"),
    "width and heads": ({"model": "transformer", "width": 10, "heads": 4}, "multiple of --heads; got 10 and 4"),
    "tfixup with norms": ({"model": "transformer", "init": "tfixup"}, "--init tfixup is for"),
    "sparse lstm": ({"model": "lstm", "sparsity": 0.5}, "--sparsity are for --model mlp"),
    "warmup below zero": ({"warmup": -0.1}, "--warmup must be zero"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_options_that_cannot_work_are_refused(case):
    options, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        complete(given_recipe(**options))


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="no option 'batchsize'; did you mean 'batch_size'"):
        Recipe().set("batchsize", 3)


def test_option_names_are_unique_over_all_sections():
    assert len(option_names()) == len(set(option_names()))


def test_steps_alone_bound_the_run():
    recipe = complete(given_recipe(steps=500))
    assert (recipe.training.steps, recipe.training.epochs) == (500, 0.0)


def test_defaults_hold_only_options_that_exist():
    for table in (names.task_spec(task).defaults for task in names.TASKS):
        assert set(table) <= set(option_names())


def test_toml_is_read_by_an_independent_parser():
    parsed = tomllib.loads(complete(given_recipe(lr=1e-4)).to_toml())
    assert parsed["training"]["lr"] == 1e-4
    sections = Recipe().sections()
    assert {name: set(values) for name, values in parsed.items()} == {
        name: {field.name for field in dataclasses.fields(section)} for name, section in sections.items()
    }
