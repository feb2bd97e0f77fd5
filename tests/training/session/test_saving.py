"""Which checkpoints a run leaves: how many, and the one after an error in a step, from which it goes on."""

import errno

import pytest
import torch
from reviews import write_reviews
from safetensors.torch import load_file

from thalweg import distributed
from thalweg.cli.main import run as command
from thalweg.errors import InputError, RankError
from thalweg.objective import Objective
from thalweg.training.folder.run import Run
from thalweg.training.integrity import checkpoint_names
from thalweg.training.session.api import train
from thalweg.training.session.session import Session

SMALL = {"model": "mlp", "width": 4, "hidden": 4, "steps": 12, "batch_size": 32, "evaluate_every": 5, "dropout": 0.2}
ADAMW, LBFGS = {**SMALL, "optimizer": "adamw"}, {**SMALL, "optimizer": "lbfgs", "line_search": "wolfe", "dropout": 0.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv", rows=80)


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    """The weights and the curve of each method where nothing happens."""
    runs = [train(source, out=tmp_path_factory.mktemp("whole"), **options) for options in (ADAMW, LBFGS)]
    return {run.recipe.training.optimizer: ended(run) for run in runs}


def ended(run):
    losses = [(entry["event"], entry["step"], entry["loss"]) for entry in run.history if "loss" in entry]
    return load_file(run.folder / "model.safetensors"), losses


def steps_saved(folder):
    return [int(path.name[5:]) for path in checkpoint_names.steps(folder / "checkpoints")]


def failing(method, at, error):
    """Return the method, which raises an error when it is called for the `at`th time, after half of its work."""
    calls = []

    def call(self, *arguments, **options):
        calls.append(1)
        result = method(self, *arguments, **options)
        if len(calls) == at:
            raise error
        return result

    return call


ERRORS = {  # what raises what, when; and the step of the newest checkpoint then
    "no memory": (ADAMW, Objective, "__call__", 8, MemoryError(), 7),
    "no memory in the first step": (ADAMW, Objective, "__call__", 1, MemoryError(), 0),
    "no memory on the GPU": (ADAMW, Objective, "__call__", 8, torch.OutOfMemoryError("tried to allocate 2.00 GiB"), 7),
    "a bug": (ADAMW, Objective, "__call__", 9, ZeroDivisionError("division by zero"), 8),
    "data that have gone": (ADAMW, Objective, "__call__", 7, FileNotFoundError(errno.ENOENT, "gone", "a.csv"), 6),
    "another process": (ADAMW, Objective, "__call__", 7, RankError("Process 1 of 2 has ended."), 6),
    "just after an evaluation": (ADAMW, Objective, "__call__", 6, MemoryError(), 5),
    "while weights change": (ADAMW, torch.optim.AdamW, "step", 8, MemoryError(), 5),
    "in an evaluation": (ADAMW, Session, "measure", 2, MemoryError(), 5),
    "in a line search": (LBFGS, Objective, "__call__", 16, MemoryError(), 5),
}


@pytest.mark.parametrize("case", ERRORS)
def test_after_an_error_the_same_command_goes_on_and_ends_with_the_same_bits(
    source, undisturbed, tmp_path, monkeypatch, case
):
    options, owner, name, at, error, saved = ERRORS[case]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name), at, error))
        with pytest.raises(type(error)) as caught:
            train(source, out=tmp_path, **options)
    said = f"The newest checkpoint is of step {saved}, and the same command goes on from there."
    assert getattr(caught.value, "__notes__", []) == ([said] if saved else [])
    del caught
    assert steps_saved(tmp_path / "reviews")[-1] == saved
    told = []
    weights, losses = ended(train(source, out=tmp_path, say=told.append, **options))
    assert any("Resuming the unfinished run" in sentence for sentence in told)
    expected, curve = undisturbed[options["optimizer"]]
    assert losses == curve
    assert all(weights[name].equal(expected[name]) for name in expected)
    error.__dict__.clear()  # of its notes, which another test must not see


def test_the_command_says_what_was_saved(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Objective, "__call__", failing(Objective.__call__, 4, MemoryError()))
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in ADAMW.items()]
    with pytest.raises(SystemExit) as exit_:
        command(["train", str(source), f"--out={tmp_path}", "--quiet", *flags])
    assert exit_.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: There is not enough memory.")
    assert said.endswith("The newest checkpoint is of step 3, and the same command goes on from there.\n")


def test_the_others_leave_saving_to_the_first_process(source, tmp_path, monkeypatch):
    monkeypatch.setattr(Objective, "__call__", failing(Objective.__call__, 4, MemoryError()))
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    with pytest.raises(MemoryError) as caught:
        train(source, out=tmp_path, **ADAMW)
    assert not hasattr(caught.value, "__notes__")
    assert 3 not in steps_saved(tmp_path / "reviews")


def test_so_many_checkpoints_are_kept_as_one_wants(source, tmp_path):
    often = {**ADAMW, "checkpoint_every": 1e-9}
    for keep, expected in ((1, [12]), (3, [10, 11, 12])):
        run = train(source, out=tmp_path, name=f"keep-{keep}", keep=keep, **often)
        assert steps_saved(run.folder) == expected
    train(resume=run.folder, steps=14, keep=2)
    assert steps_saved(run.folder) == [13, 14]
    with pytest.raises(InputError, match="--keep must lie between 1 and 1,000,000,000; got 0"):
        train(source, out=tmp_path, keep=0, **ADAMW)


def test_a_recipe_of_before_that_could_be_said_keeps_two(source, tmp_path):
    recipe = train(source, out=tmp_path, **ADAMW).folder / "recipe.toml"
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith("keep = ")]
    (tmp_path / "old.toml").write_text("\n".join(lines))
    assert train(tmp_path / "old.toml", out=tmp_path / "again", fast=True).recipe.training.keep == 2


def test_the_time_between_checkpoints_is_a_duration(source, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        command(["train", str(source), f"--out={tmp_path}", "--fast", "--quiet", "--checkpoint-every=10m"])
    assert exit_.value.code == 0
    assert Run(tmp_path / "reviews").recipe.training.checkpoint_every == 600.0
