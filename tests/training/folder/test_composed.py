"""Directions with step sizes from a recipe: they train, resume, and say what they cannot do."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from thalweg import names
from thalweg.errors import InputError
from thalweg.optim.descent import Descent
from thalweg.training.folder.run import Run
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.api import train
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.prepare import Request, prepare

COMPOSED = [
    ("gradient", ""), ("bfgs", ""), ("bfgs", "armijo"), ("self-scaled-bfgs", ""), ("self-scaled-broyden", ""),
    ("lbfgs", "armijo"), ("lbfgs", "wolfe"), ("newton", ""), ("newton", "trust-region"), ("newton-cg", ""),
    ("newton-cg", "trust-region"), ("levenberg-marquardt", ""), ("adamw", "armijo"), ("sgd", "stochastic"),
    ("adam", "none"),
]  # fmt: skip


def session_for(out, optimizer, line_search, **options):
    given = {"source": "sunspots", "optimizer": optimizer, "width": 6, "hidden": 6, "epochs": 8.0, **options}
    if line_search:
        given["line_search"] = line_search
    return prepare(Request(Options(given), out), lambda sentence: None)


@pytest.mark.parametrize(("optimizer", "line_search"), COMPOSED)
def test_it_trains_and_an_interrupted_run_ends_with_the_same_bits(tmp_path, optimizer, line_search):
    options = {"precision": "float64", "batch_size": 0}
    whole = session_for(tmp_path / "whole", optimizer, line_search, **options)
    assert isinstance(whole.optimizer, Descent)
    entries = [entry for entry in train_loop(whole) if entry["event"] == "step"]
    assert entries[-1]["loss"] < 0.8 * entries[0]["loss"]
    cut = session_for(tmp_path / "cut", optimizer, line_search, **options)
    for entry in train_loop(cut):
        if entry["event"] == "step" and entry["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)
    again = session_for(tmp_path / "cut", optimizer, line_search, **options)
    assert [entry["event"] for entry in train_loop(again)].index("resumed") == 0
    left, right = (load_file(s.run.folder / "model.safetensors") for s in (whole, again))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_second_order_methods_get_what_they_need_by_default(tmp_path):
    recipe = session_for(tmp_path, "newton-cg", "").run.recipe
    assert (recipe.training.batch_size, recipe.model.dropout, recipe.training.schedule) == (0, 0.0, "constant")
    assert recipe.training.line_search == "armijo"
    again = train(tmp_path / "sunspots" / "recipe.toml", out=tmp_path / "again")
    assert again.recipe.training.line_search == "armijo"


def test_a_plain_name_of_torch_stays_torchs_own(tmp_path):
    assert type(session_for(tmp_path, "lbfgs", "").optimizer) is torch.optim.LBFGS


REFUSED = {
    "dense matrix too large": ("docstrings", {"optimizer": "newton"}, r"dense matrix of .* takes .*TB.*NewtonCG"),
    "jacobian too large": ("docstrings", {"optimizer": "levenberg-marquardt"}, r"dense matrix .* takes .*NewtonCG"),
    "no model for a trust region": (
        "sunspots", {"optimizer": "adamw", "line_search": "trust-region"}, "quadratic model"
    ),
    "dropout": ("sunspots", {"optimizer": "newton-cg", "dropout": 0.5, "layers": 2}, "dropout"),
    "weight decay": ("sunspots", {"optimizer": "bfgs", "weight_decay": 0.1}, "give --l2"),
    "unknown option": ("sunspots", {"optimizer": "bfgs", "optimizer_options": {"memory": 3}}, "memory"),
    "unknown line search": ("sunspots", {"optimizer": "bfgs", "line_search": "wolf"}, "Did you mean 'wolfe'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_and_leaves_nothing(tmp_path, case):
    source, options, message = REFUSED[case]
    out = tmp_path / "runs"
    with pytest.raises(InputError, match=message):
        train(source, out=out, **options)
    assert not out.exists()


def test_a_refused_run_does_not_destroy_the_one_it_was_to_replace(tmp_path):
    first = train("sunspots", out=tmp_path, steps=5)
    weights = (first.folder / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="give --l2"):
        train("sunspots", out=tmp_path, overwrite=True, optimizer="bfgs", weight_decay=0.1)
    with pytest.raises(InputError, match="dropout"):
        train("sunspots", out=tmp_path, overwrite=True, optimizer="newton-cg", dropout=0.5, layers=2)
    assert Run(first.folder).finished
    assert (first.folder / "model.safetensors").read_bytes() == weights
    assert [path.name for path in tmp_path.iterdir()] == ["sunspots"]


def test_a_run_with_nothing_left_to_descend_ends_by_itself(tmp_path):
    session = session_for(tmp_path, "gradient", "armijo", batch_size=0, epochs=50.0)
    events = []
    for entry in train_loop(session):
        events.append(entry)
        if entry["event"] == "step" and entry["step"] == 4:  # from here on the loss is flat
            session.head.requires_grad_(False)
            session.model.requires_grad_(False)
            for parameter in session.optimizer.param_groups[0]["params"]:
                parameter.requires_grad_(True)
                parameter.register_hook(torch.zeros_like)
    assert [entry.get("status") for entry in events if entry["event"] == "step"][4:] == ["NO_STEP"] * 3
    assert events[-1]["status"] == "NO_STEP"
    assert events[-2]["event"] == "evaluation"


def test_every_method_and_line_search_is_a_name_that_leads_somewhere():
    for table in (names.METHODS, names.LINE_SEARCHES):
        for name in table:
            assert callable(names.find(table, name, "method"))
