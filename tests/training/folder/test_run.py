"""A run in other programs: pickled, copied, used from threads, in forked and in spawned processes."""

import concurrent.futures
import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from thalweg.cli.main import run as command
from thalweg.data.text.normalize import STEPS, Normalizer
from thalweg.errors import InputError
from thalweg.training.folder.opening import settings_of
from thalweg.training.folder.run import Run
from thalweg.training.integrity.claim import Claim
from thalweg.training.session.api import train

TEXTS = ["the river was fine", "an awful table", "plain music"] * 20


@pytest.fixture(scope="module")
def trained(reviews, tmp_path_factory):
    return train(str(reviews), model="gru", width=8, hidden=8, steps=8, out=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    options = {"task": "language", "model": "lstm", "head": "analytic", "tokenizer": "word", "width": 8, "hidden": 8}
    return train(
        "manual", **options, target_width=8, vocabulary_size=200, fast=True, out=tmp_path_factory.mktemp("runs")
    )


def answers(run):
    return [answer["probability"] for answer in run.predict(TEXTS)]


def sent(run):
    return pickle.loads(pickle.dumps(run))


@pytest.mark.parametrize("send", [sent, copy.copy, copy.deepcopy])
def test_a_run_is_the_same_before_and_after_it_has_answered(trained, send):
    fresh = Run(trained.folder)
    before = send(fresh)
    expected = answers(fresh)
    assert answers(before) == answers(send(fresh)) == expected
    assert before.recipe == fresh.recipe
    assert len(pickle.dumps(fresh)) < 10_000  # the folder and the recipe, and no weights


def test_a_pickled_run_finds_its_folder_from_elsewhere(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained.folder.parent)
    pickled = pickle.dumps(Run(trained.folder.name))
    monkeypatch.chdir(tmp_path)
    assert answers(pickle.loads(pickled)) == answers(trained)


def test_weights_that_were_changed_in_memory_go_along(trained):
    run = Run(trained.folder)
    expected = answers(run)
    with torch.no_grad():
        next(run.head.parameters()).mul_(3.0)
    changed = answers(run)
    assert changed != expected
    assert answers(sent(run)) == answers(sent(sent(run))) == changed
    assert answers(Run(trained.folder)) == expected


def test_words_that_were_added_go_along(writer):
    run = Run(writer.folder)
    ids = run.add_words({"quxly": [1.0, *[0.1] * 7], "zorby": [0.1, 1.0, *[0.1] * 6]})
    copied = sent(run)
    assert copied.task.vocabulary.encode("quxly zorby") == ids
    assert copied.predict(["the value"], length=4, seed=1) == run.predict(["the value"], length=4, seed=1)
    copied.add_words({"wibbly": [0.1, 0.1, 1.0, *[0.1] * 5]})
    assert sent(copied).task.vocabulary.encode("wibbly") == [ids[-1] + 1]


def test_a_folder_that_has_gone_is_told_when_the_copy_answers(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    pickled = pickle.dumps(Run(tmp_path / "run"))
    shutil.rmtree(tmp_path / "run")
    run = pickle.loads(pickled)
    with pytest.raises(InputError, match=r"run/manifest\.json is missing"):
        run.predict(["fine"])


def test_task_network_and_output_layer_can_be_copied_too(trained):
    for part in (trained.task, trained.model, trained.head):
        assert type(copy.deepcopy(part)) is type(sent(part)) is type(part)
    every = Normalizer(STEPS)
    assert sent(every)("Ａ  Café\u200b 1969") == every("Ａ  Café\u200b 1969") == "a cafe 0000"


def test_threads_get_the_same_answers(trained):
    expected = answers(Run(trained.folder))
    run = Run(trained.folder)  # whose first eight answers are asked for at once
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: answers(run), range(16))) == [expected] * 16


SPAWNED = """
import json, multiprocessing, sys
import thalweg
def answers(run):
    return [answer["probability"] for answer in run.predict(json.loads(sys.argv[2]))]
if __name__ == "__main__":
    run = thalweg.load(sys.argv[1])
    expected = answers(run)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map_async(answers, [run]).get(120) == [expected]
    print("answered")
"""


def test_spawned_processes_get_the_same_answers(trained, tmp_path):
    (tmp_path / "program.py").write_text(SPAWNED, encoding="utf-8")  # a spawned process imports the main module again
    command = [sys.executable, "program.py", str(trained.folder), json.dumps(TEXTS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "answered\n"


FORKED = """
import multiprocessing, sys
import torch, thalweg
from thalweg.training.session import finish
run = thalweg.load(sys.argv[1])
texts = ["the river was fine", "an awful table", "plain music"] * 100
expected = run.predict(texts)  # starts the threads
def work(number):
    answers = run.predict(texts)
    return max(abs(a["probability"] - b["probability"]) for a, b in zip(answers, expected)), torch.get_num_threads()
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, place):
        return run.predict(texts[: 3 + place])[0]["probability"]
assert torch.get_num_threads() == 2
with multiprocessing.get_context("fork").Pool(2) as pool:
    for difference, threads in pool.map_async(work, range(4)).get(60):
        assert difference < 1e-4 and threads == 1
assert torch.get_num_threads() == 2  # here nothing has changed
loader = torch.utils.data.DataLoader(Rows(), num_workers=2, timeout=60, multiprocessing_context="fork")
assert all(abs(float(one) - expected[0]["probability"]) < 1e-4 for one in loader)
finish.render_report = lambda report: "no pictures"
def train(number):
    made = thalweg.train(sys.argv[2], model="gru", width=8, hidden=8, steps=2, out=sys.argv[3], name=f"forked{number}")
    return made.status.name
with multiprocessing.get_context("fork").Pool(1) as pool:
    assert pool.map_async(train, [1]).get(60) == ["COMPLETED"]
print("answered")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_processes_answer_and_train_where_the_parent_has_used_its_threads(trained, reviews, tmp_path):
    """The threads of OpenMP do not survive a fork: without care the children wait for ever."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(trained.folder), str(reviews), str(tmp_path)]
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("answered\n")


def test_a_run_is_found_again_from_another_working_directory(tmp_path, monkeypatch):
    rows = [{"text": f"{'fine' if k % 2 else 'awful'} thing {k}", "label": k % 2} for k in range(40)]
    monkeypatch.chdir(tmp_path)
    train(rows, task="classify", fast=True, name="a")
    run = Run("runs/a")
    assert run.folder == Path("runs/a")
    (tmp_path / "elsewhere" / "runs" / "a").mkdir(parents=True)
    monkeypatch.chdir("elsewhere")
    assert run.predict(["fine thing"])[0]["label"] in ("0", "1")
    assert run.folder == tmp_path / "runs" / "a"


@pytest.fixture(scope="module")
def replaced(tmp_path_factory):
    """A small run, and those that took its place: on other data by the same recipe, and by another recipe."""
    folder = tmp_path_factory.mktemp("replaced")
    data, options = folder / "data.csv", {"model": "bag", "width": 2, "l2": 0.01, "steps": 3, "name": "x"}
    options |= {"optimizer": "adamw", "batch_size": 16}
    found = {}
    for name, labels in {"old": ("good", "poor"), "new": ("poor", "good")}.items():
        rows = [f"{('fine', 'bad')[number % 2]} {number},{labels[number % 2]}\n" for number in range(40)]
        data.write_text("".join(["text,label\n", *rows]))
        found[name] = train(data, **options, out=folder / name).folder
    found["other"] = train(data, **options | {"normalize": ("nfc",)}, out=folder / "other").folder
    return found


def put_in_place(new, folder):
    shutil.rmtree(folder)
    shutil.copytree(new, folder)


def content_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["new", "other"])
def test_a_run_that_another_takes_the_place_of_while_it_is_read_is_never_half_of_each(
    replaced, name, monkeypatch, tmp_path
):
    folder = shutil.copytree(replaced["old"], tmp_path / "x")
    run, real = Run(folder), settings_of

    def changing(*given):
        found = real(*given)
        if run.basis != Run(replaced[name]).basis:
            put_in_place(replaced[name], folder)
        return found

    monkeypatch.setattr("thalweg.training.folder.run.settings_of", changing)
    if name == "other":
        with pytest.raises(InputError, match="has another recipe by now than when it was opened; open it again"):
            run.predict(["fine"])
    else:
        assert run.predict(["fine"]) == Run(replaced[name]).predict(["fine"])


@pytest.mark.parametrize("asked", ["certify --seconds 1", "certify --polish --seconds 1", "diagnose --seconds 1"])
def test_what_was_found_out_about_a_run_is_not_written_into_another(replaced, asked, monkeypatch, tmp_path, capsys):
    folder = shutil.copytree(replaced["new"], tmp_path / "x")

    def claim(*given):
        put_in_place(replaced["other"], folder)
        return Claim(*given)

    monkeypatch.setattr("thalweg.training.integrity.run_files.Claim", claim)
    name, *options = asked.split()
    with pytest.raises(SystemExit, match="2"):
        command([name, str(folder), *options])
    assert "has been changed by another process meanwhile; repeat the command" in capsys.readouterr().err
    assert content_of(folder) == content_of(replaced["other"])
