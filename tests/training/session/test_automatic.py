"""Where nobody names an optimizer one is chosen, the run's recipe holds it, and what was given stays."""

import json

import pytest

from thalweg.cli.main import run as command
from thalweg.errors import InputError
from thalweg.training.recipe.recipe import Options, read_options
from thalweg.training.session.api import train
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.plan import Request, make_plan
from thalweg.training.session.prepare import prepare

SMALL = {"model": "lstm", "width": 8, "hidden": 8, "epochs": 40.0}


def planned(out, **options):
    """The training part of the plan's recipe, and the sentence about it."""
    said: list[str] = []
    plan = make_plan(Request(Options(options), out), said.append)
    return plan.recipe.training, next((line for line in said if line.startswith("Optimizer:")), "")


def test_mini_batches_get_normuon_and_one_line_says_why(reviews, tmp_path):
    training, said = planned(tmp_path, source=str(reviews), **SMALL)
    assert (training.optimizer, training.schedule, training.clip) == ("normuon", "linear", 0.0)
    assert training.clip_running > 0
    assert f"rate {training.lr:.2g}" in said
    assert "tried" in said
    assert "since there are weight matrices inside" in said


def test_few_numbers_get_levenberg_marquardt_as_if_it_were_named(tmp_path):
    chosen, said = planned(tmp_path, source="sunspots", model="mlp")
    named, _ = planned(tmp_path, source="sunspots", model="mlp", optimizer="levenberg-marquardt")
    assert chosen == named
    assert "193 parameters and 268 examples are few" in said
    assert planned(tmp_path, source="sunspots", model="mlp", optimizer="auto")[0] == chosen


@pytest.mark.parametrize(
    "given",
    [
        {"lr": 0.5}, {"schedule": "cosine"}, {"batch_size": 16}, {"clip": 2.0}, {"warmup": 0.3},
        {"weight_decay": 0.25}, {"clip_running": 9.0}, {"accumulate": 2},
    ],
    ids=lambda given: next(iter(given)),
)  # fmt: skip
@pytest.mark.parametrize("source", ["sunspots", "reviews"])
def test_what_was_given_stays(reviews, tmp_path, source, given):
    options = {"source": "sunspots", "model": "mlp"} if source == "sunspots" else {"source": str(reviews), **SMALL}
    training, said = planned(tmp_path, **options, **given)
    (name, value) = next(iter(given.items()))
    assert vars(training)[name] == value
    assert training.optimizer == "normuon"
    assert training.clip_running == (0.0 if name == "clip" else given.get("clip_running", training.clip_running))
    assert ("as given" in said) == (name == "lr")


@pytest.mark.parametrize(
    ("options", "optimizer"),
    [
        ({"model": "bag"}, "factored-newton"),
        ({"optimizer": "auto"}, "linear-newton"),
        ({"model": "lstm", "line_search": "stochastic"}, "adamw"),
        ({"model": "lstm", "optimizer_options": {"betas": [0.8, 0.9]}}, "adamw"),
        ({"model": "lstm", "optimizer": "sgd"}, "sgd"),
        ({"model": "bag", "epochs": 3.0}, "adamw"),
        ({"model": "lstm", "width": 8, "hidden": 8, "steps": 3}, "normuon"),
    ],
)
def test_other_wishes(reviews, tmp_path, options, optimizer):
    assert planned(tmp_path, source=str(reviews), **options)[0].optimizer == optimizer


@pytest.mark.parametrize("named", [{}, {"optimizer": "auto"}], ids=["none", "auto"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"line_search": "stochastic"}, "--line-search applies"),
        ({"optimizer_options": {"betas": [0.8, 0.9]}}, "--optimizer-options applies"),
        (
            {"line_search": "armijo", "optimizer_options": {"betas": [0.8, 0.9]}},
            "--optimizer-options apply;",
        ),
        ({"shard": True}, "--shard applies"),
    ],
    ids=["line search", "options", "both", "shard"],
)
def test_options_of_an_optimizer_that_nobody_named_say_whose_they_are(reviews, tmp_path, named, options, words):
    said = planned(tmp_path, source=str(reviews), **SMALL, **named, **options)[1]
    assert said.startswith("Optimizer: adamw")
    assert words in said
    assert not planned(tmp_path, source=str(reviews), **SMALL, optimizer="adamw", **options)[1]


def test_the_reason_is_true_where_all_data_are_one_batch(reviews, tmp_path):
    assert "mini-batch" not in planned(tmp_path, source=str(reviews), **SMALL, batch_size=0)[1]


def test_the_recipe_alone_repeats_the_run(reviews, tmp_path):
    run = train(reviews, out=tmp_path, model="mlp", width=6, hidden=6, epochs=30.0)
    recipe = run.folder / "recipe.toml"
    assert 'optimizer = "normuon"' in recipe.read_text()
    assert read_options(str(recipe))["clip_running"] > 0
    again = train(recipe, out=tmp_path, name="again")
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("again", ["the same command", "resume"])
def test_an_interrupted_run_goes_on_with_the_bits_of_the_undisturbed_one(reviews, tmp_path, again):
    options = {"model": "mlp", "width": 6, "hidden": 6, "epochs": 20.0, "evaluate_every": 7}
    whole = train(reviews, out=tmp_path / "whole", **options)
    request = Request(Options(options, source=str(reviews)), tmp_path / "parts")
    with prepare(request, [].append) as session:
        assert session.total_steps > 20
        for entry in train_loop(session):
            if entry["event"] == "evaluation" and entry["step"] == 14:
                break
    whole_command = {"source": reviews, "out": tmp_path / "parts", **options}
    parts = train(**whole_command) if again == "the same command" else train(resume=session.run.folder)
    assert parts.folder == session.run.folder
    assert (parts.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_with_a_time_limit_the_steps_are_planned_for_what_was_chosen(reviews, tmp_path):
    said: list[str] = []
    run = train(reviews, out=tmp_path, model="mlp", width=6, hidden=6, time=1.5, say=said.append)
    assert run.recipe.training.optimizer == "normuon"
    assert run.recipe.training.steps > 0
    assert [line.split()[0] for line in said if line.startswith(("Optimizer", "Steps"))] == [
        "Optimizer:",
        "Steps",
    ]


def test_the_command_says_what_it_chose(reviews, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        command(["train", str(reviews), "--model", "mlp", "--width", "6", "--hidden", "6", "--epochs", "4",
                 "--optimizer", "auto", "--out", str(tmp_path), "--json"])  # fmt: skip
    captured = capsys.readouterr()
    assert ended.value.code == 0
    assert json.loads(captured.out)["optimizer"] == "normuon"
    assert "Optimizer: normuon" in captured.err


def test_a_mistyped_wish_is_recognized(reviews, tmp_path):
    with pytest.raises(InputError, match="Did you mean 'auto'"):
        planned(tmp_path, source=str(reviews), optimizer="autto")
