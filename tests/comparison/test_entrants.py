"""What a person types, as entrants."""

import pytest

from thalweg.comparison.entrants import read_entrants, read_value, read_vary
from thalweg.errors import InputError
from thalweg.training.recipe.recipe import Options


@pytest.mark.parametrize(
    ("text", "names", "fixed"),
    [
        ("adamw, sgd,", ["adamw", "sgd"], {"optimizer": "sgd"}),
        ("adamw,adamw:clip=0.1", ["adamw", "adamw:clip=0.1"], {"optimizer": "adamw", "clip": 0.1}),
        ("adamw:betas=[0.9,0.95]", ["adamw:betas=[0.9,0.95]"], {"optimizer": "adamw", "betas": [0.9, 0.95]}),
        ("pytorch_optimizer.SOAP", ["pytorch_optimizer.SOAP"], {"optimizer": "pytorch_optimizer.SOAP"}),
        ("sgd:batch-size=full", ["sgd:batch-size=full"], {"optimizer": "sgd", "batch_size": 0}),
        ("lbfgs", ["lbfgs"], {"optimizer": "lbfgs", "line_search": "wolfe"}),
        ("lbfgs:line_search=armijo", ["lbfgs:line_search=armijo"], {"optimizer": "lbfgs", "line_search": "armijo"}),
        ('sgd:label="mine, slow":lr=1', ["mine, slow"], {"optimizer": "sgd", "lr": 1.0}),
        (
            'bfgs:initial={name="gauss-newton",damping=1e-3}',
            ['bfgs:initial={name="gauss-newton",damping=1e-3}'],
            {"optimizer": "bfgs", "initial": {"name": "gauss-newton", "damping": 1e-3}},
        ),
    ],
)  # fmt: skip
def test_optimizers_are_read(text, names, fixed):
    entrants = read_entrants("optimizer", text)
    assert [entrant.name for entrant in entrants] == names
    assert entrants[-1].fixed == fixed


def test_a_list_is_read_like_text_with_commas():
    assert read_entrants("optimizer", ["adamw", "sgd,adam"]) == read_entrants("optimizer", "adamw,sgd,adam")


@pytest.mark.parametrize(
    ("text", "option", "last"),
    [
        ("head=softmax,vmf", "head", {"head": "vmf"}),
        ("--clip=0,1", "clip", {"clip": 1.0}),
        ("batch_size=32,full", "batch_size", {"batch_size": 0}),
        ("batch-size=32,64:lr=0.1", "batch_size", {"batch_size": 64, "lr": 0.1}),
        ("targets=random,trained:random", "targets", {"targets": "trained:random"}),
        ("schedule=constant,step:gamma=0.5", "schedule", {"schedule": "step", "gamma": 0.5}),
    ],
)
def test_any_option_can_be_varied(text, option, last):
    entrants = read_vary(text)
    assert {entrant.option for entrant in entrants} == {option}
    assert entrants[-1].fixed == last


def test_settings_become_options_of_the_recipe():
    (entrant,) = read_entrants("optimizer", "sgd:lr=0.5:momentum=0.9")
    expected = {"optimizer": "sgd", "lr": 0.1, "optimizer_options": {"momentum": 0.9, "nesterov": True}}
    assert entrant.options({"lr": 0.1, "nesterov": True}) == expected
    Options(expected)
    (entrant,) = read_entrants("schedule", "step:gamma=0.5")
    assert entrant.options({"momentum": 0.9}) == {
        "schedule": "step",
        "schedule_options": {"gamma": 0.5},
        "optimizer_options": {"momentum": 0.9},
    }


@pytest.mark.parametrize(
    ("option", "text", "match"),
    [
        ("optimizer", "adamw,adamw", "the same entrant; leave one out"),
        ("optimizer", "adamw:lr=0.01,adamw:lr=1e-2", "the same entrant"),
        ("optimizer", "adamw,AdamW", "the same entrant"),
        ("optimizer", "adamw:optimizer=sgd", "optimizer is given twice"),
        ("optimizer", "sgd:lr=1:lr=2", "lr is given twice"),
        ("optimizer", "sgd:lr=1:label=a,sgd:lr=2:label=a", "Two entrants have the label 'a'"),
        ("optimizer", " , ", "nothing to compare"),
        ("optimizer", "adamw:lr=0.01:oops", "expected NAME=VALUE behind the colon"),
        ("optimizer", "adamw:lr=fast", "--lr must be a number"),
        ("optimizer", "adamw:lr=-1", "--lr must lie between 1e-30 and 1e30"),
        ("head", "softmax,vmff", "Did you mean 'vmf'"),
        ("haed", "softmax", "There is no option 'haed'.*Did you mean 'head'"),
        ("batch_size", "many", "expected a number of examples"),
    ],
)
def test_what_cannot_be_read_is_told(option, text, match):
    with pytest.raises(InputError, match=match):
        read_entrants(option, text)


def test_a_number_alone_is_no_name():
    names = [entrant.name for entrant in read_vary("batch_size=4,16:lr=0.1,full:label=whole")]
    assert names == ["batch_size=4", "batch_size=16:lr=0.1", "whole"]
    assert [entrant.name for entrant in read_vary("skip=none,residual")] == ["none", "residual"]


def test_vary_needs_values():
    with pytest.raises(InputError, match="--vary takes an option and its values"):
        read_vary("head")


def test_values_have_the_option_s_type():
    assert [
        read_value(*pair) for pair in (("width", "8"), ("tie", "true"), ("valid", "x.csv"), ("momentum", "0.9"))
    ] == [
        8,
        True,
        "x.csv",
        0.9,
    ]
