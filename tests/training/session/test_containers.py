"""Training on several files, archives, folders and objects: complete recipes, checksums, and what is asked later."""

import pytest

from thalweg.cli.main import run as command
from thalweg.errors import InputError
from thalweg.training.folder.again import read_again
from thalweg.training.folder.run import load
from thalweg.training.session.api import train

ROWS = "".join(f"a {word} film number {i},{label}\n" for i in range(20) for word, label in (("fine", 1), ("bad", 0)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("text,label\n" + ROWS)
    (tmp_path / "b.csv").write_text("text,label\n" + ROWS.replace("film", "book"))
    return tmp_path


def test_a_run_on_several_files_is_complete_and_repeats(folder, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        command(["train", "a.csv", "b.csv", "--fast", "--seed", "3"])
    assert "2 files are read one after another: a.csv, b.csv." in capsys.readouterr().err
    first = train("runs/a-b/recipe.toml", fast=True)
    assert first.folder.name == "a-b-2"
    assert first.recipe.data.source == "a.csv + b.csv"
    assert list(first.data["files"]) == ["a.csv", "b.csv"]
    assert first.data["num_train"] + first.data["num_valid"] == 80
    assert (folder / "runs/a-b/model.safetensors").read_bytes() == (first.folder / "model.safetensors").read_bytes()
    assert first.has_learned_from("b.csv")
    assert first.has_learned_from("a.csv + c.csv")
    assert not first.has_learned_from("runs/a-b/recipe.toml")
    assert first.evaluate("a.csv + b.csv").metrics
    assert len(read_again(first)[1].train) == first.data["num_train"]
    (folder / "b.csv").write_text("text,label\n" + ROWS)
    with pytest.raises(InputError, match=r"b.csv has changed since"):
        read_again(first)


def test_a_folder_with_parts_is_trained_and_validated_on_them(folder):
    (folder / "d").mkdir()
    for name in ("train", "dev", "test"):
        (folder / f"d/{name}.csv").write_text("text,label\n" + ROWS.replace("film", name))
    said: list[str] = []
    run = train("d", fast=True, say=said.append)
    assert (run.folder.name, run.recipe.data.source, run.recipe.data.valid) == ("d", "d/train.csv", "d/dev.csv")
    assert list(run.data["files"]) == ["d/train.csv", "d/dev.csv"]
    assert "Held-out data is left for later: thalweg evaluate RUN 'd/test.csv'." in said
    assert train("d", fast=True, valid="a.csv").recipe.data.valid == "a.csv"
    assert train("d", fast=True, valid_share=0.2).recipe.data.valid == ""


def test_data_given_in_python_are_known_by_their_contents(folder):
    rows = {"text": [f"a {word} film {i}" for i in range(30) for word in ("fine", "bad")], "label": ["1", "0"] * 30}
    run = train(rows, fast=True)
    assert (run.recipe.data.source, list(run.data["files"])) == ("python:dict", ["python:dict"])
    assert run.evaluate(rows).metrics["accuracy"] > 0.5
    assert len(run.predict(rows)) == 60
    assert len(read_again(run)[1].train) == run.data["num_train"]
    with pytest.raises(InputError, match="was trained on data that were given in Python"):
        read_again(load(run.folder))
    with pytest.raises(InputError, match="python:dict: these data were given in Python"):
        train(run.folder / "recipe.toml", fast=True)
    run.ledger.write({}, removed=["metrics.json"], forgotten=["history.jsonl"])
    assert train(rows, fast=True).folder == run.folder
    run.ledger.write({}, removed=["metrics.json"], forgotten=["history.jsonl"])
    rows["label"][0] = "0"
    with pytest.raises(InputError, match="The data has changed since"):
        train(rows, fast=True)
