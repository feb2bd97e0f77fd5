"""Options and recipes as values, and as TOML."""

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import names
from thalweg.errors import InputError
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.options import OPTIONS, SECTIONS
from thalweg.training.recipe.recipe import Options, Recipe, read_options, read_recipe, read_toml


def completed(**options):
    return complete(Options({"task": "classify", "source": "docstrings", **options}))


@pytest.mark.parametrize("task", names.TASKS)
def test_a_complete_recipe_comes_back_from_its_text_to_the_byte(task):
    for model in names.task_spec(task).models:
        recipe = completed(task=task, model=model)
        again = read_toml(recipe.to_toml(), "x")
        assert Recipe.of(again) == complete(again) == recipe
        assert Recipe.of(again).to_toml() == recipe.to_toml()


def test_every_line_has_a_comment_and_an_independent_parser_reads_them():
    text = completed(lr=1e-4, normalize=()).to_toml()
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) > 50
    assert all("#" in line for line in lines)
    parsed = tomllib.loads(text)
    assert parsed["training"]["lr"] == 1e-4
    assert parsed["data"]["normalize"] == []
    assert {name: list(values) for name, values in parsed.items()} == {
        name: [field.name for field in dataclasses.fields(section)] for name, section in SECTIONS.items()
    }


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
    recipe = completed().with_(source=text, lr=number, normalize=texts, optimizer_options=table)
    assert Recipe.of(read_toml(recipe.to_toml(), "x")) == recipe


WRONG = {
    "no toml": ("[run", "not valid TOML"),
    "a number of 5,000 digits": ("[run]\nseed = " + "9" * 5000, "not valid TOML"),
    "a key of many parts": ("[run]\n" + "a." * 10**5 + "a = 1\n", "a key has more than 64 parts"),
    "a key of many quoted parts": ("[" + "'a'\t . " * 70 + "a]\n", "a key has more than 64 parts"),
    "unknown section": ("[model2]\n", r"no section \[model2\]"),
    "value outside a section": ("lr = 1\n", r"no section \[lr\]"),
    "unknown option": ("[training]\nlrr = 1\n", r"no option 'lrr'; did you mean 'lr'\?"),
    "option of another section": ("[run]\nlr = 1\n", r"section \[run\] has no option 'lr'"),
    "text for a number": ('[training]\nlr = "high"\n', r"lr must be a number; got 'high'"),
    "fraction for a count": ("[training]\nbatch_size = 1.5\n", "batch_size must be a whole number; got 1.5"),
    "true for a count": ("[run]\nseed = true\n", "seed must be a whole number; got True"),
    "number for a switch": ("[model]\ntie = 1\n", "tie must be true or false; got 1"),
    "number in a list of texts": ("[data]\nnormalize = [1]\n", "must be a list of strings"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_is_refused_with_file_section_and_option(case):
    text, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        read_toml(text, "my.toml")
    assert "my.toml" in str(caught.value)


def test_a_file_that_never_ends_is_refused(tmp_path):
    with pytest.raises(InputError, match="/dev/zero: expected a regular file, got a device"):
        read_options("/dev/zero")
    (path := tmp_path / "large.toml").write_bytes(b"#" * (2**21 + 1))
    with pytest.raises(InputError, match="expected a file of at most 2,097,152 bytes"):
        read_options(path)


def test_a_file_that_is_missing_or_incomplete_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.toml: there is no such file"):
        read_options(tmp_path / "nothing.toml")
    path = tmp_path / "part.toml"
    path.write_text(completed().to_toml().replace("seed = 0", "").replace("valid_share = 0.1", ""))
    assert "seed" not in read_options(path)
    with pytest.raises(
        InputError, match=r"part\.toml lacks options \(seed, valid_share\): it is damaged, or of another version"
    ):
        read_recipe(path)


def test_an_option_that_an_earlier_version_did_not_have_was_off(tmp_path):
    path, recipe = tmp_path / "old.toml", completed()
    new = ("start_from", "time_column", "gaps", "day_first", "kind", "refit", "select", "class_weights", "threshold",
           "bleu_tokenizer")  # fmt: skip
    lines = recipe.to_toml().splitlines()
    path.write_text("\n".join(line for line in lines if line.split(" ")[0] not in new))
    assert not set(new) & set(read_options(path))
    old = read_recipe(path)
    assert (old.data.gaps, old.data.kind, old.run.start_from) == ("auto", "", "")
    assert (old.training.select, old.training.class_weights, old.training.refit) == ("none", "none", False)
    for name in ("tie", "precision", "optimizer", "scaling", "lr", "lags"):  # what says how the weights were made
        path.write_text("\n".join(line for line in lines if line.split(" ")[0] != name))
        with pytest.raises(InputError, match=rf"old\.toml lacks options \({name}\)"):
            read_recipe(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source", "r\udcff.csv"), ("source", Path("r\udcff.csv")), ("normalize", ["nfc", "\ud800"]),
        ("optimizer_options", {"a": "\udcff"}), ("optimizer_options", {"\udcff": 1}),
    ],
)  # fmt: skip
def test_bytes_that_a_recipe_cannot_hold_are_refused(name, value):
    with pytest.raises(InputError, match=rf"{name} must be UTF-8, as a recipe is; got .*\\ud.*: rename the file"):
        Options({name: value})


def test_options_hold_what_was_given_in_its_own_type():
    options = Options({"lr": 1, "seed": None}, normalize=["nfc"], source=Path("a/b.csv"))
    assert dict(options) == {"source": "a/b.csv", "normalize": ("nfc",), "lr": 1.0}
    assert type(options["lr"]) is float
    assert options.with_(lr=None, seed=2) == Options(seed=2, normalize=("nfc",), source="a/b.csv")
    assert "seed" not in options, "the value itself does not change"
    with pytest.raises(InputError, match="no option 'batchsize'; did you mean 'batch_size'"):
        Options(batchsize=3)
    with pytest.raises(InputError, match="lr must be a number; got 'high'"):
        Options(lr="high")


def test_a_recipe_is_frozen_and_a_changed_copy_is_another_value():
    recipe = completed()
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        recipe.training.lr = 1.0
    changed = recipe.with_(lr=0.5, width=3)
    assert (changed.training.lr, changed.model.width) == (0.5, 3)
    assert recipe == completed()
    assert changed.values() == recipe.values() | {"lr": 0.5, "width": 3}
    assert recipe.values().keys() == OPTIONS.keys()
