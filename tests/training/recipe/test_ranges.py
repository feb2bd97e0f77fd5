"""Every number of a recipe has a range, and what lies beyond it is refused in a short sentence, however it is given."""

import math

import pytest
from numpy import float32, int64

from thalweg.errors import InputError
from thalweg.training.recipe import ranges
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options, read_options

NUMBERS = [option for option in OPTIONS.values() if option.kind in (int, float)]
COUNTS = [2**63, 2**64, 10**20]
BEYOND = [-1, 2**200, 10**400, 10**5000, 1e308, math.inf, -math.inf, math.nan]
NO_NUMBERS = [True, "7", [1], [[1.0]], {"a": 1}, 1j, b"7", object(), "x" * 10_000]


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_a_number_beyond_its_range_or_of_another_type_is_refused(option):
    for value in (*BEYOND, *NO_NUMBERS, *(COUNTS if option.kind is int else ())):
        with pytest.raises(InputError, match=option.name.replace("_", ".")) as refused:
            complete(Options({"task": "classify", "source": "docstrings", option.name: value}))
        assert len(str(refused.value)) < 250
    if option.kind is float and option.range is not ranges.FRACTION:
        assert not option.range.holds(1e-320)


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_a_recipe_refuses_the_same(option, tmp_path):
    path = tmp_path / "recipe.toml"
    spelled = ["-1", "1e308", "1e400", "inf", "nan", "9" * 400, "9" * 5000, "true", '"7"', "[1]"]
    for text in (*spelled, "[" * 3000, "0x" + "f" * 50):
        path.write_text(f"[{option.section}]\n{option.name} = {text}\n", encoding="utf-8")
        with pytest.raises(InputError, match=rf"{option.name.replace('_', '.')}|not valid TOML"):
            complete(Options({"task": "classify", "source": "docstrings", **read_options(path)}))


@pytest.mark.parametrize("table", ["optimizer_options", "schedule_options"])
def test_a_number_for_an_optimizer_or_a_schedule_has_a_range_too(table):
    wrong = [math.inf, -math.inf, math.nan, 1e308, -1e31, 1e-320, 2**200, 10**5000]
    for given in (*wrong, *([0.9, value] for value in wrong), *({"initial": value} for value in wrong)):
        with pytest.raises(InputError, match=rf"^--{table.replace('_', '-')}\.some: a number must be 0, or between"):
            complete(Options({"task": "classify", "source": "docstrings", table: {"other": 0.5, "some": given}}))
    fine = {"some": -1e30, "other": [1e-30, 0, True, "nan"]}
    recipe = complete(Options({"task": "classify", "source": "docstrings", table: fine}))
    assert getattr(recipe.training, table) == fine


@pytest.mark.parametrize("model", ["mlp", "lstm", "gru", "transformer"])
def test_a_network_has_a_layer(model):
    with pytest.raises(InputError, match=rf"--layers must be at least 1 for --model {model}; got 0\."):
        complete(Options(task="classify", source="docstrings", model=model, layers=0))


def test_numbers_of_other_libraries_are_numbers():
    recipe = complete(
        Options(task="classify", source="docstrings", steps=int64(7), lr=float32(0.5), dropout=0, seed=int64(3))
    )
    assert (recipe.training.steps, recipe.training.lr, recipe.model.dropout, recipe.run.seed) == (7, 0.5, 0.0, 3)
