"""Validation chooses model and penalty before a training to a proved optimum; then all rows are trained on."""

import json
import random
import shutil
import signal

import numpy as np
import pytest
import torch
from reviews import WORDS

import thalweg
from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.storage.ledger import Ledger
from thalweg.training.certified.certify import open_run
from thalweg.training.folder.run import Run
from thalweg.training.integrity.run_files import HELD_OUT, SELECTION
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options
from thalweg.training.session import selection


def write(path, num_rows, labels=("bad", "good"), noise=0.15, seed=1):
    """Write texts whose word of judgment gives the label away, but for some."""
    generator = random.Random(seed)
    rows = []
    for _ in range(num_rows):
        label = generator.choice(labels)
        told = label if generator.random() > noise else generator.choice(labels)
        words = [*generator.choices(WORDS, k=6), f"{told}ish"]
        generator.shuffle(words)
        rows.append(f"{' '.join(words)},{label}")
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chosen")
    path = write(folder / "train.csv", 500, ("bad", "fair", "good"))
    valid = write(folder / "valid.csv", 240, ("bad", "fair", "good"), seed=2)
    return thalweg.train(path, valid=str(valid), out=folder / "runs", task="classify"), path, valid


def of_event(run, event):
    return [entry for entry in run.history if entry["event"] == event]


SELECTS = [
    # what was given -> what validation chooses, and whether all rows are trained on then
    ({}, "model", True),
    ({"model": "linear"}, "penalty", True),
    ({"model": "bag"}, "penalty", True),
    ({"width": 8}, "penalty", True),
    ({"l2": 0.01}, "none", False),
    ({"l2": 0.01, "refit": True}, "none", True),
    ({"select": "none"}, "none", False),
    ({"select": "none", "model": "linear"}, "none", False),
    ({"refit": False}, "model", False),
    ({"select": "model", "l2": 0.01, "model": "bag"}, "model", True),
    ({"optimizer": "adamw"}, "none", False),
    ({"model": "lstm"}, "none", False),
]


@pytest.mark.parametrize(("given", "select", "refit"), SELECTS, ids=[str(case[0]) for case in SELECTS])
def test_validation_chooses_what_was_not_given(given, select, refit):
    recipe = complete(Options(task="classify", source="docstrings", **given))
    assert (recipe.training.select, recipe.training.refit) == (select, refit)


def test_the_figures_are_those_of_weights_that_never_saw_the_validation_rows(chosen):
    run, _, valid = chosen
    assert run.status is Status.PROVED
    model, head = run.measured
    found = thalweg.load(run.folder)
    assert not all(
        torch.equal(own, other)
        for own, other in zip(found.model.state_dict().values(), model.state_dict().values(), strict=True)
    )
    examples, _ = found.task.examples(_source(valid), found.data["columns"])
    predictions, targets = found.task.predictions(model, head, examples)
    accuracy = float((predictions.argmax(-1) == targets).double().mean())
    assert run.metrics["accuracy"] == pytest.approx(accuracy)
    assert run.result["num_train"] == 740
    assert "740 training texts" in run.result["certificate"]["sentence"]


def _source(path):
    from thalweg.data.files.sources import open_source

    return open_source(path)


def test_the_choice_is_kept_with_every_trial(chosen):
    run, _, _ = chosen
    record = json.loads((run.folder / SELECTION).read_text())
    trials = of_event(run, "selection")
    assert [(point["model"], point["l2"]) for point in record["points"]] == [(t["model"], t["l2"]) for t in trials]
    assert (run.recipe.model.model, run.recipe.training.l2) == (record["model"], record["l2"])
    assert {trial["model"] for trial in trials} == {"linear", "bag"}
    losses = {(point["model"], point["l2"]): point["loss"] for point in record["points"]}
    assert losses[record["model"], record["l2"]] <= min(losses.values()) * 1.2
    sentences = run.result["selection"]["sentences"]
    assert any("240 validation examples" in sentence for sentence in sentences)
    assert any("--no-refit" in sentence for sentence in sentences)


def test_the_report_draws_the_paths(chosen):
    page = (chosen[0].folder / "report.html").read_text()
    assert "Validation loss by penalty" in page
    assert "Accuracy by penalty" in page


def test_the_recipe_alone_repeats_choice_and_weights(chosen, tmp_path):
    run = chosen[0]
    again = thalweg.train(run.folder / "recipe.toml", out=tmp_path)
    assert again.recipe.training == run.recipe.training
    for name in ("model.safetensors", HELD_OUT, SELECTION):
        assert (again.folder / name).read_bytes() == (run.folder / name).read_bytes(), name


def test_a_penalty_given_on_top_of_a_recipe_is_not_chosen_again(chosen, tmp_path):
    again = thalweg.train(chosen[0].folder / "recipe.toml", out=tmp_path, l2=0.02)
    assert again.recipe.training.l2 == 0.02
    assert again.recipe.training.select == "none"
    assert not again.is_refitted


def test_without_refit_the_weights_are_those_of_the_figures(chosen, tmp_path):
    _, path, valid = chosen
    run = thalweg.train(path, valid=str(valid), out=tmp_path, task="classify", model="linear", refit=False)
    assert not (run.folder / HELD_OUT).exists()
    assert run.result["num_train"] == 500
    assert run.evaluate(valid).metrics["accuracy"] == pytest.approx(run.metrics["accuracy"])


def test_a_given_penalty_is_measured_before_all_rows_are_trained_on(chosen, tmp_path):
    _, path, valid = chosen
    options = {"valid": str(valid), "task": "classify", "model": "linear", "l2": 0.01}
    run = thalweg.train(path, out=tmp_path, name="all", refit=True, **options)
    apart = thalweg.train(path, out=tmp_path, name="apart", **options)
    assert run.metrics["accuracy"] == pytest.approx(apart.metrics["accuracy"], abs=0.005)
    assert run.result["num_train"] == 740
    assert not any("trial" in sentence for sentence in run.result["selection"]["sentences"])


@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupted_choice_begins_again_and_ends_with_the_same_bits(chosen, tmp_path, at, monkeypatch):
    run, path, valid = chosen
    count = 0

    def interrupt(entry):
        nonlocal count
        count += entry["event"] == "selection"
        if entry["event"] == "selection" and count == at:
            signal.raise_signal(signal.SIGINT)

    stopped = thalweg.train(path, valid=str(valid), out=tmp_path, task="classify", watch=interrupt)
    assert stopped.status is Status.INTERRUPTED
    again = thalweg.train(path, valid=str(valid), out=tmp_path, task="classify")
    assert again.folder == stopped.folder
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()
    assert len(of_event(again, "selection")) == len(of_event(run, "selection"))


def test_an_interrupted_training_on_all_rows_goes_on(chosen, tmp_path):
    _, path, valid = chosen
    options = {"valid": str(valid), "out": tmp_path, "task": "classify", "model": "linear", "certify": 1e-9}
    run = thalweg.train(path, name="whole", **options)
    assert len(of_event(run, "step")) > 2

    def interrupt(entry):
        if entry["event"] == "step" and entry["step"] == 1:
            signal.raise_signal(signal.SIGINT)

    stopped = thalweg.train(path, name="stopped", watch=interrupt, **options)
    assert stopped.status is Status.INTERRUPTED
    again = thalweg.train(path, name="stopped", **options)
    assert again.folder == stopped.folder
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()
    assert again.metrics == run.metrics


def test_few_validation_examples_leave_the_choice_to_folds_of_the_training_examples(tmp_path):
    run = thalweg.train(write(tmp_path / "few.csv", 150), out=tmp_path / "runs", task="classify", model="linear")
    trials = of_event(run, "selection")
    assert {trial["num_folds"] for trial in trials} == {selection.FOLDS}
    record = run.result["selection"]
    assert record["judged_on"] == f"{selection.FOLDS} folds of the training examples"
    assert record["num_judged"] == run.data["num_train"]
    assert "best of" not in " ".join(run.result["interval_notes"])  # the validation examples had no say


def test_folds_are_judged_by_models_that_never_saw_them(tmp_path, monkeypatch):
    seen = []
    answers = selection.Part.answers

    def watched(part):
        seen.append((sum(batch.num_examples for batch in part.batches), len(part.judged)))
        return answers(part)

    monkeypatch.setattr(selection.Part, "answers", watched)
    run = thalweg.train(write(tmp_path / "few.csv", 150), out=tmp_path / "runs", task="classify", model="linear")
    num = run.data["num_train"]
    folds = seen[: selection.FOLDS]
    assert sum(judged for _, judged in folds) == num
    assert all(trained + judged == num for trained, judged in folds)


def test_the_level_about_new_data_is_of_the_model_that_was_measured(chosen):
    run = chosen[0]
    interval = thalweg.certify(run, seconds=10)
    level = next(level for level in interval.levels if level.name == "held_out")
    wrong = round((1.0 - run.metrics["accuracy"]) * 240)
    assert level.evidence["wrong"] <= wrong
    assert HELD_OUT in level.scope
    assert level.evidence["compared"] == len(of_event(run, "selection"))


def test_rows_that_contradict_each_other_are_found_among_all_rows_with_their_lines(tmp_path):
    path = write(tmp_path / "train.csv", 300)
    text, label = path.read_text().splitlines()[1].rsplit(",", 1)
    with path.open("a") as file:
        file.write(f"{text},{'good' if label == 'bad' else 'bad'}\n")
    run = thalweg.train(path, out=tmp_path / "runs", task="classify", model="linear")
    opened = open_run(run)
    lines = opened.trained.lines
    assert lines is not None
    assert sorted(lines.tolist()) == list(range(2, 303))


@pytest.mark.parametrize("options", [{"time": 0.001}, {"fast": True}])
def test_it_ends_early_where_it_has_to(chosen, tmp_path, options):
    unhurried, path, valid = chosen
    assert len(of_event(unhurried, "selection")) > 4
    run = thalweg.train(path, valid=str(valid), out=tmp_path, task="classify", **options)
    assert run.finished
    assert len(of_event(run, "selection")) <= 2
    assert np.isfinite(run.metrics["accuracy"])


def test_a_killed_choice_leaves_a_run_that_begins_again(chosen, tmp_path, monkeypatch):
    _, path, valid = chosen

    class Killed(BaseException):
        pass

    def die(*_args):
        raise Killed

    monkeypatch.setattr(selection.Session, "adopt", die)
    with pytest.raises(Killed):
        thalweg.train(path, valid=str(valid), out=tmp_path, task="classify", model="linear")
    monkeypatch.undo()
    again = thalweg.train(path, valid=str(valid), out=tmp_path, task="classify", model="linear")
    assert again.finished
    assert [folder.name for folder in tmp_path.iterdir() if folder.is_dir()] == ["train"]
    assert Run(again.folder).metrics


class Killed(BaseException):
    """What ends a run at once, as a signal that cannot be caught."""


@pytest.mark.parametrize("refit", [True, False])
def test_killed_between_choice_and_first_checkpoint_it_ends_with_the_same_bits(chosen, tmp_path, refit, monkeypatch):
    _, path, valid = chosen
    options = {"valid": str(valid), "out": tmp_path, "task": "classify", "model": "linear", "refit": refit}
    run = thalweg.train(path, name="whole", **options)

    def die(*_args):
        raise Killed

    monkeypatch.setattr(selection.Session, "save", die)
    with pytest.raises(Killed, match=r"^$"):
        thalweg.train(path, name="stopped", **options)
    monkeypatch.undo()
    again = thalweg.train(path, name="stopped", **options)
    assert again.folder == tmp_path / "stopped"
    assert (again.folder / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()
    assert again.metrics == run.metrics
    assert [entry["event"] for entry in again.history] == [entry["event"] for entry in run.history]


@pytest.mark.parametrize("name", [SELECTION, HELD_OUT])
@pytest.mark.parametrize("damage", ["damaged", "missing"])
def test_what_a_selection_left_is_never_used_where_it_is_not_what_was_written(chosen, tmp_path, name, damage):
    stopped = shutil.copytree(chosen[0].folder, tmp_path / "stopped")
    Ledger(stopped).write({}, removed=["metrics.json"])  # so the run is not finished
    file = stopped / name
    if damage == "damaged":
        file.write_bytes(file.read_bytes().replace(b"0", b"1", 1))
    else:
        file.unlink()
    with pytest.raises(InputError, match=f"{name} is {damage}"):
        thalweg.train(chosen[1], resume=stopped)
