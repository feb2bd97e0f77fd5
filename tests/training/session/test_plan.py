"""A plan is decided from what was given, step by step, and nothing is written; also `reading` and `sizing`."""

import dataclasses

import pytest

from thalweg.certificates.linear import packed
from thalweg.data.containers.opening import open_any
from thalweg.errors import InputError
from thalweg.training.recipe.recipe import Options
from thalweg.training.session import pilot, sizing
from thalweg.training.session.plan import Request, known_defaults, make_plan
from thalweg.training.session.reading import open_data


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    rows = [f"{'fine' if k % 2 else 'awful'} thing {k % 37} {k},{'good' if k % 2 else 'bad'}" for k in range(100)]
    path.write_text("review,stars\n" + "\n".join(rows) + "\n")
    return path


def test_a_plan_leaves_what_was_given_alone_and_writes_nothing(reviews, tmp_path):
    options = Options(source=reviews, model="gru", width=8)
    before, said = dict(options), []
    plan = make_plan(Request(options, tmp_path / "runs"), said.append)
    assert dict(options) == before
    assert not (tmp_path / "runs").exists()
    assert (plan.folder, plan.is_resumed, plan.is_timed) == (tmp_path / "runs" / "reviews", False, False)
    assert (plan.recipe.data.text_column, plan.recipe.data.label_column) == ("review", "stars")
    assert plan.description["num_train"] == len(plan.prepared.train)
    assert any("--task chooses another" in sentence for sentence in said)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        plan.fast = True


def test_few_examples_get_more_epochs_and_a_given_number_stays(reviews, tmp_path):
    plan = make_plan(Request(Options(source=reviews, model="gru"), tmp_path), lambda sentence: None)
    assert plan.recipe.training.epochs == 100.0
    one = make_plan(Request(Options(source=reviews, model="gru", epochs=1), tmp_path), lambda sentence: None)
    assert one.recipe.training.epochs == 1.0
    assert sizing.with_enough_epochs(one.recipe, 64 * 1000).training.epochs == 1.0
    assert sizing.with_enough_epochs(one.recipe, 64 * 100).training.epochs == 3.0


def test_a_time_limit_plans_the_steps_only_where_nothing_else_bounds_the_run(reviews, tmp_path):
    for more, timed in (({}, True), ({"steps": 3}, False), ({"optimizer": "factored-newton"}, False)):
        options = Options({"source": reviews, "optimizer": "adamw", "time": 5.0, **more})
        assert make_plan(Request(options, tmp_path), lambda sentence: None).is_timed == timed


def test_a_solver_gets_width_and_penalty_from_the_data_unless_they_are_given(reviews, tmp_path):
    plan = make_plan(Request(Options(source=reviews, model="bag"), tmp_path), lambda sentence: None)
    recipe = plan.recipe
    assert (recipe.training.optimizer, recipe.model.width) == ("factored-newton", 2)
    assert recipe.training.l2 == sizing.default_l2(len(plan.prepared.train), 2, several=False)
    own = make_plan(Request(Options(source=reviews, l2=0.5, width=7), tmp_path), lambda sentence: None).recipe
    assert (own.training.l2, own.model.width) == (0.5, 7)


def test_a_choice_of_models_begins_with_the_cheapest(reviews, tmp_path):
    recipe = make_plan(Request(Options(source=reviews), tmp_path), lambda sentence: None).recipe
    assert (recipe.model.model, recipe.training.optimizer) == ("linear", "linear-newton")
    assert (recipe.training.select, recipe.training.refit) == ("model", True)


def test_validation_texts_that_are_trained_on_are_counted(reviews, tmp_path):
    lines = reviews.read_text().splitlines()
    (tmp_path / "valid.csv").write_text("\n".join([*lines[:31], "another text,good"]) + "\n")
    said = []
    plan = make_plan(Request(Options(source=reviews, valid=str(tmp_path / "valid.csv")), tmp_path), said.append)
    told = [sentence for sentence in said if "repeat texts that are trained on" in sentence]
    assert told == [
        "30 of 31 validation examples repeat texts that are trained on, so the validation figures are not about new "
        "texts alone."
    ]
    assert told[0] in plan.prepared.notes
    split = []
    make_plan(Request(Options(source=reviews), tmp_path), split.append)
    assert not any("repeat" in sentence for sentence in split)


def test_large_data_get_the_linear_model_unless_one_is_named(reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "LEAST", 100)
    said = []
    recipe = make_plan(Request(Options(source=reviews), tmp_path), said.append).recipe
    assert (recipe.model.model, recipe.training.optimizer) == ("linear", "linear-newton")
    assert any("the data are large" in sentence.lower() for sentence in said)
    named = make_plan(Request(Options(source=reviews, model="bag"), tmp_path), said.append).recipe
    assert (named.model.model, named.training.optimizer) == ("bag", "factored-newton")


def test_what_may_take_long_is_measured_and_too_long_is_trained_on_mini_batches(reviews, tmp_path, monkeypatch):
    said, options = [], Options(source=reviews, model="linear")
    assert make_plan(Request(options, tmp_path), said.append).seconds is None
    monkeypatch.setattr(packed, "LEAST", 100)
    monkeypatch.setattr(sizing, "MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(pilot, "seconds_to_solve", lambda recipe, task, prepared: 500.0)
    plan = make_plan(Request(options, tmp_path), said.append)
    assert (plan.seconds, plan.recipe.training.optimizer) == (500.0, "linear-newton")
    assert any("about 500 s" in sentence for sentence in said)
    monkeypatch.setattr(sizing, "MAX_SECONDS", 400.0)
    plan = make_plan(Request(options, tmp_path), said.append)
    assert (plan.seconds, plan.recipe.training.optimizer) == (None, "adamw")
    assert any("8 minutes to train on all at once" in sentence for sentence in said)


def test_an_optimizers_own_rate_and_the_width_of_a_file_are_known(tmp_path):
    assert known_defaults(Options(optimizer="adamw")) == known_defaults(Options(optimizer="bfgs")) == {}
    assert known_defaults(Options(optimizer="sgd")).keys() == {"lr", "weight_decay"}
    assert known_defaults(Options(optimizer="kfac")) == {"lr": 1.0, "weight_decay": 0.0}
    path = tmp_path / "vectors.txt"
    path.write_text("river 1 2 3\nstone 4 5 6\n")
    assert known_defaults(Options(targets=path)) == {"target_width": 3}
    assert known_defaults(Options(targets=f"trained:{path}")) == {"target_width": 3}
    assert known_defaults(Options(targets="hypercube")) == {}
    with pytest.raises(InputError, match=r"no optimizer 'L-BFGS'.*Did you mean 'lbfgs'"):
        known_defaults(Options(optimizer="L-BFGS"))


def test_a_recipe_file_is_read_first_and_what_is_given_wins(reviews, tmp_path):
    path = tmp_path / "part.toml"
    path.write_text(f'[data]\nsource = "{reviews}"\n[training]\nlr = 0.5\n[model]\nmodel = "gru"\n')
    opened = open_data(Options(source=path, lr=0.25), lambda sentence: None)
    assert {"lr": 0.25, "model": "gru", "task": "classify"}.items() <= dict(opened.options).items()
    assert opened.decided == opened.options.with_(text_column="review", label_column="stars", columns=())


def test_what_is_neither_file_nor_sample_is_refused_with_the_samples():
    assert open_data(Options(), lambda sentence: None).options["task"] == "classify"
    assert open_data(Options(source="sunspots"), lambda sentence: None).options["task"] == "forecast"
    with pytest.raises(InputError, match="The built-in sets are docstrings"):
        open_any("docstring")
    with pytest.raises(InputError, match="no task 'clasify'"):
        open_data(Options(task="clasify"), lambda sentence: None)
