"""A run that was interrupted, killed or damaged ends as the undisturbed one would have, or says why it cannot."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from safetensors.torch import load_file

from thalweg.cli.main import run as command
from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.storage.ledger import Ledger
from thalweg.training.folder.run import Run
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.api import train
from thalweg.training.session.finish import finish
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.prepare import Request, prepare

WORDS = ["river", "stone", "light", "water", "field", "cloud", "house", "table", "music", "paper"]


@pytest.fixture
def reviews(tmp_path):
    """A small file that a classifier can learn: the label is in the words."""
    generator = random.Random(0)
    rows = ["text,label"]
    for number in range(120):
        label = ("good", "bad")[number % 2]
        mark = {"good": "fine", "bad": "awful"}[label] if generator.random() < 0.9 else "plain"
        rows.append(f"{' '.join(generator.choices(WORDS, k=6))} {mark} {number},{label}")
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


OPTIONS = {
    "bag": {"model": "bag", "width": 4, "epochs": 4.0},
    "lstm with dropout": {"model": "lstm", "width": 4, "hidden": 4, "epochs": 4.0, "dropout": 0.3},
    "momentum and accumulation": {
        "model": "mlp", "width": 4, "hidden": 4, "epochs": 3.0, "optimizer": "sgd", "accumulate": 2,
        "optimizer_options": {"momentum": 0.9}, "batch_size": 16, "schedule": "warmup_stable_decay",
    },
    "lbfgs full batch": {
        "model": "bag", "width": 4, "steps": 6, "optimizer": "lbfgs", "batch_size": 0, "schedule": "constant",
    },
    "patience": {"model": "bag", "width": 4, "epochs": 9.0, "lr": 0.1, "patience": 1},
    "stuck": {
        "model": "bag", "width": 2, "vocabulary_size": 16, "steps": 60, "optimizer": "newton", "l2": 0.3,
        "batch_size": 0, "evaluate_every": 9,
    },
    "greedy": {
        "model": "bag", "width": 4, "epochs": 4.0, "schedule": "greedy", "schedule_options": {"patience": 0},
    },
}  # fmt: skip


def weights(run):
    return load_file(run.folder / "model.safetensors")


def same_weights(one, other):
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)


def untimed(history):
    """What happened, without times and that the run went on."""
    entries = [entry for entry in history if entry["event"] != "resumed"]
    return [{key: value for key, value in entry.items() if "second" not in key} for entry in entries]


def interrupted(reviews, out, at_step, **options):
    """Train, stop as Ctrl-C does after a step, and leave the run unfinished."""
    with prepare(Request(Options(options, source=reviews), out), lambda sentence: None) as session:
        for entry in train_loop(session):
            if entry["event"] == "step" and entry["step"] == at_step:
                os.kill(os.getpid(), signal.SIGINT)
            if entry["event"] == "finished":
                assert entry["status"] == "INTERRUPTED"
        finish(session, Status.INTERRUPTED)
    return Run(session.run.folder)


LAST = 0  # in the place of a step: the one before the end, which rounding may decide
ENDS = [("lbfgs full batch", 5), ("patience", 5), ("stuck", LAST)]


@pytest.mark.parametrize(
    ("case", "at_step"),
    [("bag", 1), ("lbfgs full batch", 2), *ENDS, *((case, 4) for case in OPTIONS if case != "stuck")],
)
def test_an_interrupted_run_ends_with_the_bits_of_the_undisturbed_one(reviews, tmp_path, case, at_step):
    options = OPTIONS[case]
    whole = train(reviews, out=tmp_path / "whole", **options)
    cut = interrupted(reviews, tmp_path / "cut", at_step or whole.history[-1]["step"] - 1, **options)
    assert cut.status is Status.INTERRUPTED
    again = train(reviews, out=tmp_path / "cut", **options)
    assert again.folder == cut.folder
    assert same_weights(again, whole)
    assert again.metrics == whole.metrics
    assert any(entry["event"] == "resumed" for entry in again.history)
    assert untimed(again.history) == untimed(whole.history)


def test_a_recipe_alone_repeats_the_run(reviews, tmp_path):
    first = train(reviews, out=tmp_path / "one", **OPTIONS["lstm with dropout"])
    again = train(first.folder / "recipe.toml", out=tmp_path / "two")
    assert same_weights(first, again)
    assert (again.folder / "recipe.toml").read_bytes() == (first.folder / "recipe.toml").read_bytes()


def test_resume_by_folder_goes_on(reviews, tmp_path):
    cut = interrupted(reviews, tmp_path / "a", 3, **OPTIONS["bag"])
    again = train(resume=cut.folder, out=tmp_path / "elsewhere")
    assert again.folder == cut.folder
    assert again.status is Status.COMPLETED
    assert same_weights(again, train(reviews, out=tmp_path / "b", **OPTIONS["bag"]))


def test_a_finished_run_is_kept_and_the_next_takes_the_next_name(reviews, tmp_path):
    first, second = (train(reviews, out=tmp_path, fast=True, **OPTIONS["bag"]) for _ in range(2))
    third = train(reviews, out=tmp_path, overwrite=True, fast=True, **OPTIONS["bag"])
    assert [run.folder.name for run in (first, second, third)] == ["reviews", "reviews-2", "reviews"]


def test_an_unfinished_run_of_another_recipe_is_left_alone(reviews, tmp_path):
    cut = interrupted(reviews, tmp_path, 2, **OPTIONS["bag"])
    other = train(reviews, out=tmp_path, fast=True, **OPTIONS["bag"] | {"lr": 0.123})
    assert other.folder != cut.folder
    assert not Run(cut.folder).finished


def damaged_state(folder, name, damage):
    [newest] = sorted(folder.glob("checkpoints/step-*"))[-1:]
    damage(newest / name)


REFUSED = {
    "state cut short": lambda f: damaged_state(f, "state.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-9])),
    "state of another model": lambda f: damaged_state(f, "state.json", lambda p: p.unlink()),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_checkpoint_is_named_and_not_used(reviews, tmp_path, case):
    cut = interrupted(reviews, tmp_path, 1, **OPTIONS["bag"])
    REFUSED[case](cut.folder)
    with pytest.raises(InputError, match=r"state\.(safetensors|json) is .*it is not used"):
        train(reviews, out=tmp_path, **OPTIONS["bag"])


@pytest.mark.parametrize("differing", [{"width": 16}, {"seed": 7}])
def test_a_checkpoint_of_another_run_is_refused(reviews, tmp_path, differing):
    cut = interrupted(reviews, tmp_path / "a", 3, **OPTIONS["bag"])
    other = interrupted(reviews, tmp_path / "b", 3, **OPTIONS["bag"] | differing)
    shutil.rmtree(cut.folder / "checkpoints")
    shutil.copytree(other.folder / "checkpoints", cut.folder / "checkpoints")
    (cut.folder / "history.jsonl").unlink()
    with pytest.raises(
        InputError, match=rf"step-\d+ is of a run with other options than {cut.folder}, and is not used"
    ):
        train(reviews, out=tmp_path / "a", **OPTIONS["bag"])


def test_a_damaged_file_of_a_finished_run_is_named(reviews, tmp_path):
    run = train(reviews, out=tmp_path, fast=True, model="bag", width=4)
    for name in ("model.safetensors", "tokenizer.json", "labels.json", "features.safetensors", "data.json"):
        path = run.folder / name
        content = path.read_bytes()
        for damaged in (content[:-5], content[:-9] + b"!" + content[-8:], None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            with pytest.raises(InputError, match=name.replace(".", r"\.")):
                Run(run.folder).predict(["fine water"])
            path.write_bytes(content)
    assert Run(run.folder).predict(["fine water"])


def test_changed_data_are_noticed(reviews, tmp_path):
    interrupted(reviews, tmp_path, 3, **OPTIONS["bag"])
    reviews.write_text(reviews.read_text().replace("awful", "dreadful"))
    with pytest.raises(InputError, match="The data has changed since"):
        train(reviews, out=tmp_path, **OPTIONS["bag"])


def test_a_finished_run_has_nothing_to_resume(reviews, tmp_path):
    run = train(reviews, out=tmp_path, fast=True, model="bag", width=4)
    with pytest.raises(InputError, match="is finished, so there is nothing to resume"):
        train(resume=run.folder)


@pytest.mark.parametrize("writes", [0, 1, 9])
def test_a_run_made_longer_and_killed_before_it_saves_goes_on_by_the_same_command(
    reviews, tmp_path, monkeypatch, writes
):
    whole, cut = (train(reviews, out=tmp_path / name, **OPTIONS["bag"]) for name in ("whole", "cut"))
    whole = train(resume=whole.folder, epochs=6.0)
    left, write = [None] * writes, Ledger.write

    def killed(*arguments, **options):
        if not left:
            raise SystemExit
        left.pop()
        write(*arguments, **options)

    monkeypatch.setattr(Ledger, "write", killed)
    with contextlib.suppress(SystemExit), prepare(Request(Options(epochs=6.0), resume=cut.folder), print):
        pass  # as if killed before the first step
    monkeypatch.undo()
    assert Run(cut.folder).finished == (writes == 0)
    again = train(resume=cut.folder, epochs=6.0)
    assert (again.status, again.result["steps"]) == (Status.COMPLETED, whole.result["steps"])
    assert same_weights(again, whole)


def test_a_run_killed_after_its_end_stays_ended_where_another_limit_changes(reviews, tmp_path):
    options = OPTIONS["bag"] | {"optimizer": "sgd", "lr": 1e-30, "patience": 1}  # too little to make progress
    with prepare(Request(Options(options, source=reviews), tmp_path), print) as session:
        [step] = [entry["step"] for entry in train_loop(session) if entry["event"] == "finished"]
    again = train(resume=session.run.folder, epochs=9.0)
    assert (again.status, again.result["steps"]) == (Status.STOPPED_EARLY, step)


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_with_the_same_bits(reviews, tmp_path, capsys):
    """A command is asked to end; the same command in another process resumes and is killed; a third run ends it."""
    options = {"model": "lstm", "width": 32, "hidden": 32, "epochs": 20.0, "checkpoint_every": 0.2}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    arguments = ["train", str(reviews), f"--out={tmp_path / 'cut'}", *flags]
    folder, resumed = tmp_path / "cut" / "reviews", "Resuming the unfinished run"

    def after_a_save(before, act, seconds=60.0):
        deadline = time.monotonic() + seconds
        while steps_saved() <= before and time.monotonic() < deadline:
            time.sleep(0.005)
        act()

    def steps_saved():
        return max((int(path.name[5:]) for path in folder.glob("checkpoints/step-*")), default=0)

    ask = threading.Thread(target=after_a_save, args=(0, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    ask.start()
    with pytest.raises(SystemExit) as ended:
        command(arguments)
    ask.join()
    assert ended.value.code == 143
    assert resumed not in capsys.readouterr().err
    process = subprocess.Popen(
        [sys.executable, "-m", "thalweg", *arguments], env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    after_a_save(steps_saved(), process.kill)
    _, told = process.communicate()
    assert process.returncode == -9
    assert resumed in told
    assert not Run(folder).finished
    said = []
    again = train(reviews, out=tmp_path / "cut", say=said.append, **options)
    assert any(resumed in sentence for sentence in said)
    assert same_weights(again, train(reviews, out=tmp_path / "whole", **options))
