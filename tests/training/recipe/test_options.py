"""The table of options holds together, and no option is named in a table beside it."""

import ast
import collections
import dataclasses
from pathlib import Path

import pytest

from thalweg import names
from thalweg.errors import InputError
from thalweg.models.presets import ModelOptions
from thalweg.tasks.spec import FINE_TUNED, FROZEN
from thalweg.training.recipe.option import Option
from thalweg.training.recipe.options import OPTIONS, SECTIONS
from thalweg.training.recipe.recipe import typed

ROOT = Path(__file__).parents[3] / "src" / "thalweg"
TABLES = {
    "training/recipe/options.py", "comparison/studies.py", "tasks/spec.py",
    *(f"tasks/{task}/spec.py" for task in names.TASKS),
}  # fmt: skip
MAX_TABLES = 2  # the table of options, and the defaults of the tasks and of the ready studies
# The keys of a summary, some of which are called like options; and a table of optimizers, with what is tuned of each.
OTHER_NAMES = {"JSON_KEYS", "SPACES"}
SMALLEST_TABLE = 3  # fewer names are an argument, not a table
SPECS = [names.task_spec(task) for task in names.TASKS]


def defaults_of(option: Option):
    """Every default that the tables give an option."""
    yield from filter(lambda value: value is not None, (option.default, option.full_batch, option.proved))
    yield from option.by_model.values()
    for spec in SPECS:
        for table in (spec.defaults, *(model.defaults for model in spec.models.values())):
            if option.name in table:
                yield table[option.name]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_default_is_of_its_type_in_its_range_and_among_its_choices(section):
    for option in (option for option in OPTIONS.values() if option.section == section):
        for value in defaults_of(option):
            assert typed(option.name, value, option.name) == value
            assert option.range is None or option.range.holds(value), option.name
            listed = value if isinstance(value, tuple) else (value,)
            assert option.choices is None or set(listed) <= set(option.choices), option.name


def test_a_number_has_a_range_and_a_default_is_left_out_for_a_reason():
    for option in OPTIONS.values():
        assert (option.range is not None) == (option.kind in (int, float)), option.name
    without = {option.name for option in OPTIONS.values() if option.default is None}
    assert without == {"task", "name", "source", "model"}, "every run or task has its own"


def test_a_help_sentence_reads_as_one():
    for option in OPTIONS.values():
        assert option.help[0].isupper(), option.name
        assert not option.help.endswith((".", " ", ":")), option.name
        assert "  " not in option.help, option.name
        assert "share" not in option.help.lower(), option.name
    assert OPTIONS["dropout"].help == "Dropout probability"
    assert OPTIONS["vocabulary_size"].help == "Maximum vocabulary size"
    assert "sigmoid, tanh, relu, leaky_relu, gelu or silu" in OPTIONS["activation"].help


def test_names_are_unique_and_readers_exist():
    fields = [field.name for section in SECTIONS.values() for field in dataclasses.fields(section)]
    assert fields == list(OPTIONS)
    assert len(fields) == len(set(fields))
    traits = set().union(*(spec.traits for spec in SPECS))
    for option in OPTIONS.values():
        assert option.trait in {"", *traits}, option.name
        assert {*option.models, *option.by_model} <= {*names.models(), FINE_TUNED, FROZEN}, option.name
    for spec in SPECS:
        for table in (spec.defaults, *(model.defaults for model in spec.models.values())):
            assert table.keys() <= OPTIONS.keys(), spec.name


def names_in(node):
    """The texts and keywords that a literal table or a call holds."""
    entries = []
    predicting = {
        id(one)
        for call in ast.walk(node)
        if isinstance(call, ast.keyword) and call.arg == "answers"
        for one in ast.walk(call.value)
    }  # options of `thalweg predict`, whose seed is another one
    for inner in ast.walk(node):
        if id(inner) in predicting:
            continue
        if isinstance(inner, ast.Dict):
            entries += [key.value for key in inner.keys if isinstance(key, ast.Constant)]
        elif isinstance(inner, ast.Tuple | ast.List | ast.Set):
            entries += [entry.value for entry in inner.elts if isinstance(entry, ast.Constant)]
    return [entry for entry in entries if isinstance(entry, str) and entry in OPTIONS]


def test_no_option_is_named_in_more_than_two_tables():
    """A table is a constant of a module with several options in it; task specs and studies count as one."""
    tables = collections.defaultdict(set)
    for option in OPTIONS:
        tables[option].add("training/recipe/options.py")
    for path in ROOT.rglob("*.py"):
        place = path.relative_to(ROOT).as_posix()
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                names_bound = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
                found = [] if names_bound & OTHER_NAMES else names_in(statement.value)
                if place in TABLES or len(found) >= SMALLEST_TABLE:
                    for name in found:
                        tables[name].add("tasks" if place in TABLES else place)
    worst = max(tables, key=lambda name: len(tables[name]))
    assert len(tables[worst]) <= MAX_TABLES, (worst, tables[worst])


def test_every_option_is_read_somewhere():
    """Outside the recipe's own folder, as an attribute of a section: an option that nobody reads promises too much."""
    read = {
        node.attr
        for path in ROOT.rglob("*.py")
        if "recipe" not in path.relative_to(ROOT).parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    by_role = {name for name in OPTIONS if name.endswith("_column")}  # `thalweg.tasks.*.columns` name the roles
    assert not OPTIONS.keys() - read - by_role


def test_no_recipe_is_read_with_a_fallback():
    """A complete recipe has a value for every option, so `recipe.x or 0` and `_given(recipe.x)` hide a mistake."""
    for path in (ROOT / "training").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.FunctionDef) and node.name == "_given"), path.name
            match node:
                case ast.BoolOp(op=ast.Or(), values=[ast.Attribute(attr=name), *_, ast.Constant()]):
                    assert name not in OPTIONS, f"{path.name}, line {node.lineno}: {ast.unparse(node)}"


def test_models_built_in_python_have_the_same_defaults():
    for field in dataclasses.fields(ModelOptions):
        if field.name not in {"activation", "skip"}:  # objects there, names here
            assert field.default == OPTIONS[field.name].default, field.name


def test_a_text_that_says_a_number_may_be_given_as_one():
    assert typed("threshold", 0.25, "threshold") == "0.25"
    for name, value in (("threshold", True), ("model", 0.25)):
        with pytest.raises(InputError, match="must be a string"):
            typed(name, value, name)
